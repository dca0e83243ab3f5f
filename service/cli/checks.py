"""Pure: what the doctor makes of what it found. Each function turns facts into rows; nothing here reads anything."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from service.mercadopago.account import Account
from service.mercadopago.client import Seller
from service.mercadopago.errors import MercadoPagoError

Status = Literal["ok", "warn", "fail"]
Row = Any
"""A row of a query, by column name."""

OLDEST_POSTGRES, NEWEST_POSTGRES = 14, 18
CLOCK_WARN_SECONDS, CLOCK_FAIL_SECONDS = 2.0, 30.0
DUE_WARN_SECONDS, DUE_FAIL_SECONDS = 300.0, 3600.0
# A few deliveries may be test orders, signed with another secret; more than this share deserves a look.
UNVERIFIED_WARN_SHARE = 0.01
# What our own sessions ask for (`session_settings`); a shorter answer than that is the operator's choice.
IDLE_IN_TRANSACTION_SECONDS = 3.0
SILENCE_WARN = timedelta(hours=1)
SILENCE_FAIL = timedelta(hours=24)
SILENCE_FAIL_ORDERS = 10


@dataclass(frozen=True, slots=True)
class Check:
    """One row: what was looked at (for which account), how it is, what was found, what to do."""

    name: str
    status: Status
    found: str
    advice: str | None = None
    account: str | None = None


def server(row: Row) -> list[Check]:
    """The server's version, and whether it takes writes."""
    major = row["version_number"] // 10_000
    version = f"PostgreSQL {row['version']}"
    if major < OLDEST_POSTGRES:
        return [Check("database", "fail", f"{version} is too old", f"use PostgreSQL {OLDEST_POSTGRES} or newer")]
    if not row["writable"]:
        return [
            Check(
                "database",
                "fail",
                f"{version} takes no writes (a standby?)",
                "name the primary in CUADRE_DATABASE_URL, or all hosts with target_session_attrs=read-write",
            )
        ]
    if major > NEWEST_POSTGRES:
        return [
            Check(
                "database", "warn", f"{version}, newer than was tried", f"PostgreSQL up to {NEWEST_POSTGRES} is known"
            )
        ]
    return [Check("database", "ok", f"{version}, writable")]


def sessions(idle_in_transaction_seconds: float, ack_timeout_seconds: float) -> list[Check]:
    """A warning where a process that stands still in a transaction keeps its locks longer than an answer may take."""
    if 0 < idle_in_transaction_seconds <= max(ack_timeout_seconds, IDLE_IN_TRANSACTION_SECONDS):
        return []
    lasts = f"for {idle_in_transaction_seconds:g} s" if idle_in_transaction_seconds else "for ever"
    return [
        Check(
            "sessions",
            "warn",
            "a process that stands still in a transaction holds its orders and commands, and their notifications, "
            f"{lasts}",
            "alter role ROLE set idle_in_transaction_session_timeout = '3s' (a pooler leaves it to the role)",
        )
    ]


def clocks(database_ahead: float | None, provider_ahead: float | None) -> Check:
    """The three clocks against each other: how many seconds the others are ahead of this machine (None: unknown)."""
    ahead = {"this machine": 0.0, "the database": database_ahead, "Mercado Pago": provider_ahead}
    known = {name: seconds for name, seconds in ahead.items() if seconds is not None}
    unknown = "".join(f"; {name} gave no time" for name, seconds in ahead.items() if seconds is None)
    if len(known) == 1:
        return Check("clock", "warn", "no other clock to compare this machine's with", "see the failures beside this")
    spread = max(known.values()) - min(known.values())
    if spread <= CLOCK_WARN_SECONDS:
        return Check("clock", "ok", f"{_list(known)} agree within {max(spread, 0.1):.1f} s{unknown}")
    off = [name for name in known if _stands_alone(name, known)]
    status: Status = "fail" if spread > CLOCK_FAIL_SECONDS else "warn"
    if len(known) < 3 or len(off) != 1:
        return Check("clock", status, f"{_list(known)} differ by {spread:.1f} s{unknown}", "set all clocks by NTP")
    others = [name for name in known if name != off[0]]
    by = known[off[0]] - sum(known[name] for name in others) / len(others)
    found = f"{off[0]} is {abs(by):.1f} s {'ahead of' if by > 0 else 'behind'} {_list(others)}"
    advice = f"set the clock of {off[0]} by NTP"
    if off[0] == "Mercado Pago":
        advice = "set the clocks of this machine and of the database by NTP: theirs is seldom the wrong one"
    return Check("clock", status, found, advice)


def _stands_alone(name: str, known: Mapping[str, float]) -> bool:
    """The others agree with each other, and not with this one."""
    others = [seconds for other, seconds in known.items() if other != name]
    agree = max(others) - min(others) <= CLOCK_WARN_SECONDS
    return agree and all(abs(known[name] - seconds) > CLOCK_WARN_SECONDS for seconds in others)


def token(account: Account, answer: Seller | MercadoPagoError, *, alone: bool) -> Check:
    """Whom the account's token speaks for. `alone`: there is no other account to confuse it with."""
    name = account.name
    if isinstance(answer, MercadoPagoError):
        return Check("token", "fail", f"{answer.outcome}: {answer}", answer.hint, name)
    who = f"user {answer.user_id}" + (f" of {answer.site_id}" if answer.site_id else "")
    who += ", a test user" if answer.is_test else ""
    if account.user_id is None:
        status: Status = "ok" if alone else "warn"
        return Check("token", status, who, f"set user_id to {answer.user_id}: notifications name it", name)
    if account.user_id != answer.user_id:
        return Check(
            "token",
            "fail",
            f"{who}, but the account is configured for user {account.user_id}",
            "correct user_id, or take the token of the right seller",
            name,
        )
    return Check("token", "ok", who, None, name)


def search(account: str, answer: Mapping[str, bool] | MercadoPagoError) -> Check:
    """Whether the sweep can find what nobody announced. By type of order: whether the list shows stored ones."""
    if isinstance(answer, MercadoPagoError):
        advice = f"until it answers, orders that no notification announced are not found by the sweep. {answer.hint}"
        return Check("search", "warn", f"{answer.outcome}: {answer}", advice, account)
    shown = sorted(kind for kind, is_shown in answer.items() if is_shown)
    hidden = sorted(kind for kind, is_shown in answer.items() if not is_shown)
    found = f"lists orders of type {_list(shown)}" if shown else "answers"
    if hidden:
        types = _list(hidden)
        advice = (
            f"orders of type {types} that no notification announced are not found by the sweep; "
            "the certificate does not cover them"
        )
        return Check("search", "warn", f"{found}, none of type {types}, of which some are stored", advice, account)
    if "qr" not in answer:
        found += "; whether it lists orders of type qr is unknown, none of the last week is stored"
    return Check("search", "ok", found, None, account)


def signatures(rows: Iterable[Row], accounts: Mapping[str, Account]) -> list[Check]:
    """Last week's signatures of order notifications, per account and application."""
    counted: dict[tuple[str, str], Counter[tuple[str, str]]] = {}
    for row in rows:
        of_application = counted.setdefault((row["account"], row["application_id"]), Counter())
        of_application[row["verification"], row["manifest"]] += row["deliveries"]
    found = [
        _signatures_of(account, application, results, accounts.get(account))
        for (account, application), results in sorted(counted.items())
    ]
    quiet = [name for name in accounts if all(name != account for account, _ in counted)]
    found += [Check("signatures", "ok", "no order notification in 7 days", None, name) for name in quiet]
    return found


def _signatures_of(
    name: str, application: str, results: Mapping[tuple[str, str], int], account: Account | None
) -> Check:
    total = sum(results.values())
    shares: Counter[str] = Counter()
    manifests: Counter[str] = Counter()
    for (verification, manifest), deliveries in results.items():
        shares[verification] += deliveries
        if verification == "valid" and manifest:
            manifests[manifest] += deliveries
    told = ", ".join(f"{_percent(number, total)} {kind}" for kind, number in shares.most_common())
    if manifests:
        kinds = (f"{kind} {_percent(number, manifests.total())}" for kind, number in manifests.most_common())
        told += f" (manifest {', '.join(kinds)})"
    of = f"application {application}" if application else "no application named"
    found = f"{of}: {told} of {total} in 7 days"
    if account is None:
        return Check("signatures", "warn", found, "this account is not configured", name)
    checked = total - shares["not_checked"]
    unverified = checked - shares["valid"]
    if checked == 0 or unverified / checked <= UNVERIFIED_WARN_SHARE:
        return Check("signatures", "ok", found, None, name)
    refused = account.signature_policy == "required" and shares["valid"] == 0
    return Check("signatures", "fail" if refused else "warn", found, _signature_advice(shares, account), name)


def _signature_advice(shares: Mapping[str, int], account: Account) -> str:
    if not any(account.webhook_secrets):
        return "set webhook_secrets: the secret stands beside the webhook in the developer panel"
    if shares["mismatch"] >= shares["missing"]:
        return (
            "add this application's secret to webhook_secrets (test credentials have another one); see one with: "
            "cuadre notifications list --unverified"
        )
    return "unsigned deliveries: legacy notifications or forgeries; they cost a few paced looks each"


def silence(rows: Iterable[Row], now: datetime) -> list[Check]:
    """Whether orders change and nobody tells us."""
    found = []
    for row in rows:
        name, last_at, changed = row["account"], row["last_at"], row["changed_since"]
        told = "no order notification in 30 days" if last_at is None else f"last told {_ago(now - last_at)} ago"
        quiet = timedelta.max if last_at is None else now - last_at
        told += f", {changed} orders changed since" if changed else ", no order changed since"
        if not changed or quiet <= SILENCE_WARN:
            found.append(Check("webhooks", "ok", told, None, name))
            continue
        bad = quiet > SILENCE_FAIL and changed >= SILENCE_FAIL_ORDERS
        advice = "check URL, mode (test or production) and the event for orders in the developer panel, and that the "
        advice += "public port is reached from outside; orders of the silent time: cuadre sync ORDER"
        found.append(Check("webhooks", "fail" if bad else "warn", told, advice, name))
    return found


def backlog(rows: Sequence[Row], configured: Iterable[str]) -> list[Check]:
    """What is due, for how long; what sits in quarantine; what nobody is configured to look at."""
    known = set(configured)
    ours = [row for row in rows if row["account"] in known]
    due, oldest = sum(row["due"] for row in ours), max((row["oldest_seconds"] for row in ours), default=0.0)
    status: Status = "fail" if oldest > DUE_FAIL_SECONDS else "warn" if oldest > DUE_WARN_SECONDS else "ok"
    advice = None if status == "ok" else "is cuadre serve running, is its account paused, do calls fail? See its log"
    waits = f", the oldest for {_ago(timedelta(seconds=oldest))}" if due else ""
    # They wait behind everything else and anybody can send them, so however long they wait is no trouble.
    strangers = sum(row["strangers_due"] for row in ours)
    waits += f"; besides, {strangers} that only unverified notifications name" if strangers else ""
    found = [Check("backlog", status, f"{due} orders due{waits}", advice)]
    quarantined = sum(row["quarantined"] for row in rows)
    found.append(
        Check(
            "quarantine",
            "warn" if quarantined else "ok",
            f"{quarantined} orders in quarantine",
            "see them with: cuadre quarantine" if quarantined else None,
        )
    )
    found += [
        Check(
            "unconfigured",
            "warn",
            f"{row['scheduled']} orders wait for looks and the account is not configured",
            f"nothing reads them: configure it again, or where it has another name now: cuadre accounts move "
            f"{shlex.quote(row['account'])} NEW",
            row["account"],
        )
        for row in rows
        if row["account"] not in known and row["scheduled"]
    ]
    return found


def partitions(rows: Iterable[Row]) -> Check:
    """Whether rows landed where no month was made for them."""
    filled = [row["table_name"] for row in rows if row["has_rows"]]
    if not filled:
        return Check("partitions", "ok", "default partitions are empty")
    advice = "run deploy/postgres/empty-default-partitions.sql in a quiet minute; nothing is lost"
    return Check("partitions", "warn", f"rows in the default partition of {', '.join(filled)}", advice)


def discrepancies(rows: Sequence[Row]) -> Check:
    """What does not add up now."""
    total = sum(row["open"] for row in rows)
    if not total:
        return Check("discrepancies", "ok", "everything adds up")
    rules = ", ".join(f"{row['open']} {row['rule']}" for row in sorted(rows, key=lambda row: -row["open"]))
    return Check("discrepancies", "warn", f"{total} open: {rules}", "see them with: cuadre discrepancies")


def _percent(number: int, total: int) -> str:
    if number == total:
        return "100%"
    # Never rounded up to all: one that failed shows.
    return f"{min(99.9, number / total * 100):.1f}%"


def _ago(span: timedelta) -> str:
    seconds = max(0.0, span.total_seconds())
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _list(names: Iterable[str]) -> str:
    words = list(names)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
