"""The certificate of completeness: up to which hour all that the provider lists is stored at least as new.

An hour is settled by one pass over it that was begun a while (`LAG`) after its end and read every page. The pass is
evidence by itself: it is kept in memory, an interrupted one is worth nothing, and the certificate moves in one
statement, from the hour's begin to its end or not at all.

The list is the provider's index, which is late at times. Stored orders are a measure of it: while orders of the hour
are stored that the list does not show, it is asked again later. What it still leaves out after `PATIENCE` blocks the
certificate where the list shows others of that type: it may leave out orders that nobody told of, too. A type of which
it never showed any is named as blind: the certificate says nothing about that type, until an hour shows all that is
stored of it. From that hour on it speaks of that type, too (`types_since`), and after a backfill over the hours before,
from its begin on.

An hour is read once, so a list that is later than that shows orders of hours that are certified already. Once a day the
last three days are listed again, slowly: where that shows an order of a certified hour that is not stored, the
certificate goes back to that hour until it is.

What blocks it for good (an order that nobody can read, one that the list leaves out for ever) somebody may look into
and excuse, with a note; the certificate goes without that order from then on, and says how many it goes without.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from service.audit.windows import ListBrokenError, Walk, Window, to_the_hour
from service.database.pool import Database, Querying
from service.database.queries import load
from service.mercadopago.listing import ListedOrder, OrdersPage
from service.telemetry import metrics

QUERIES = load(Path(__file__).with_name("sweep.sql"))

HOUR: Final = timedelta(hours=1)
LAG: Final = timedelta(minutes=30)
EDGE: Final = timedelta(minutes=1)
"""Asked for around the hour: whether the provider's ends are included is not documented."""
PATIENCE: Final = timedelta(hours=3)
EVIDENCE: Final = timedelta(days=7)
"""So far back from an hour it is looked which types the list has shown."""
NAMED: Final = 20
WAITING: Final = "waiting: "
"""Begins the reasons that pass by themselves: they are no alarm."""
NEVER_LISTED: Final = frozenset({"legacy_qr"})
"""Sales that are no orders at the provider, so its list of orders cannot show them."""

_ORDER_ID = re.compile(r"(ORD|PPORD)[0-9A-Za-z]{10,60}")

log = structlog.get_logger(__name__)

Ask = Callable[[Window], Awaitable[OrdersPage]]


@dataclass(frozen=True, slots=True)
class Certificate:
    """One account's: `[complete_since, complete_until)` in hours of creation, and what holds it up.

    Of a type in `types_since` it speaks from that hour on. `excused_orders` counts the account's orders that it goes
    without.
    """

    account: str
    complete_since: datetime
    complete_until: datetime
    checked_at: datetime
    blocked_by: tuple[str, ...]
    last_error: str | None
    blind_types: tuple[str, ...]
    types_since: Mapping[str, datetime]
    excused_orders: int

    def unspoken_of(self, hour: datetime) -> frozenset[str]:
        """The types that it says nothing about in the hour that begins then."""
        return frozenset(self.blind_types).union(kind for kind, since in self.types_since.items() if hour < since)

    @property
    def is_blocked(self) -> bool:
        """Whether something has to be done, or has gone wrong: not while it merely waits for the list."""
        return bool(self.blocked_by) or (self.last_error is not None and not self.last_error.startswith(WAITING))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one complete pass says of its hour: it may be certified where nothing blocks and nothing is waited for.

    `shown_again`: types named as blind of which the list shows orders, and leaves out none that is stored.
    """

    blocked_by: tuple[str, ...] = ()
    reason: str | None = None
    newly_blind: tuple[str, ...] = ()
    shown_again: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        return not self.blocked_by and self.reason is None


@dataclass(frozen=True, slots=True)
class HourPass:
    """All that the list shows of an hour (and a little around it), by id, and entries that bear no usable id."""

    begin: datetime
    listed: Mapping[str, ListedOrder]
    skipped: int


async def read_hour(ask: Ask, begin: datetime, *, count: Ask) -> HourPass:
    """Reads the hour from `begin` whole. `count` asks for as little as possible of a window, for its total.

    Raises `ListBrokenError` where the list contradicts itself or changed while it was read, and what `ask` raises.
    """
    seen, walk = await _read_once(ask, begin)
    shown = len(seen.listed) + seen.skipped
    if walk.counted_off:
        again, _ = await _read_once(ask, begin)
        if again.listed.keys() != seen.listed.keys():
            raise ListBrokenError("two readings of an hour show different orders: the list is changing")
    elif walk.answers > 1 and shown:
        # Orders that appear behind the reader's back would not have been read; the count tells.
        total = (await count(Window(begin - EDGE, begin + HOUR + EDGE, 1))).total
        if total is not None and total != shown:
            raise ListBrokenError(f"the list showed {shown} orders of an hour and counts {total}: it is changing")
    return seen


async def _read_once(ask: Ask, begin: datetime) -> tuple[HourPass, Walk]:
    walk = Walk(begin - EDGE, begin + HOUR + EDGE)
    listed: dict[str, ListedOrder] = {}
    while (window := walk.window) is not None:
        listed |= {order.order_id: order for order in walk.read(await ask(window))}
    if walk.broken is not None:
        raise ListBrokenError(walk.broken)
    return HourPass(begin, listed, walk.skipped), walk


def judge_hour(
    seen: HourPass,
    missing: Sequence[str],
    stored: Iterable[tuple[str, str | None]],
    blind: Collection[str],
    now: datetime,
    shown: Collection[str] = (),
) -> Verdict:
    """Pure. `missing`: listed ids that are not stored as new; `stored`: (id, type) of the hour's stored orders;
    `blind`: types that are known not to be listed; `shown`: types that the list showed at other times.
    """
    if missing:
        return Verdict(blocked_by=tuple(sorted(missing)[:NAMED]))
    if seen.skipped:
        return Verdict(reason=f"the list shows entries without a usable id ({seen.skipped})")
    shown_here = {order.type for order in seen.listed.values()}
    shown_types = shown_here.union(shown) - NEVER_LISTED
    unlisted = [(order_id, kind) for order_id, kind in stored if kind is not None and order_id not in seen.listed]
    left_out = [(order_id, kind) for order_id, kind in unlisted if kind not in blind]
    doubtful = [order_id for order_id, kind in left_out if kind not in NEVER_LISTED]
    if doubtful and now - (seen.begin + HOUR) < PATIENCE:
        some = f"{len(doubtful)}, such as {doubtful[0]}"
        return Verdict(reason=f"{WAITING}stored orders of the hour are not in the list ({some}); it is asked again")
    unexplained = sorted((order_id, kind) for order_id, kind in left_out if kind in shown_types)
    if unexplained:
        numbers = sorted(Counter(kind for _, kind in unexplained).items())
        some = ", ".join(f"{number} stored orders of type {kind}" for kind, number in numbers)
        return Verdict(tuple(order_id for order_id, _ in unexplained[:NAMED]), f"the list leaves out {some}")
    newly_blind = tuple(sorted({kind for _, kind in left_out}))
    shown_again = shown_here.intersection(blind).difference(kind for _, kind in unlisted)
    return Verdict(newly_blind=newly_blind, shown_again=tuple(sorted(kind for kind in shown_again if kind is not None)))


async def compare(connection: Querying, listed: Iterable[ListedOrder], *, mark_for: str | None) -> dict[str, str]:
    """What each listed order is here: `known`, `unknown`, `stale` (stored as of an earlier change), or `foreign` (no
    order id). With an account's name, the unknown and stale ones are marked due in its `sync` rows.
    """
    found: dict[str, str] = {}
    ours: list[ListedOrder] = []
    for order in listed:
        if _ORDER_ID.fullmatch(order.order_id):
            ours.append(order)
        else:
            found[order.order_id] = "foreign"
    if ours:
        arrays = [order.order_id for order in ours], [order.updated_at for order in ours]
        if mark_for is None:
            rows = await connection.fetch(QUERIES.compare_listed, *arrays)
        else:
            rows = await connection.fetch(QUERIES.mark_listed, mark_for, *arrays)
        found |= {row["order_id"]: row["found"] for row in rows}
    return found


async def take_back(connection: Querying, account: str, missing: Iterable[ListedOrder], earliest: datetime) -> None:
    """`missing`: orders that the list shows and that are not stored; one without a time of creation counts as of
    `earliest`. A certificate that speaks of such an hour and type goes back to it, excused orders aside, and says so in
    the log.
    """
    certificate = await read_certificate(connection, account) if (missing := list(missing)) else None
    if certificate is None:
        return
    hours = {one.order_id: to_the_hour(one.created_at or earliest) for one in missing}
    spoken_of = [one.order_id for one in missing if one.type not in certificate.unspoken_of(hours[one.order_id])]
    rows = await connection.fetch(
        QUERIES.take_certificate_back, account, spoken_of, [hours[order_id] for order_id in spoken_of], NAMED
    )
    for row in rows:
        log.warning(
            "completeness_taken_back",
            account=account,
            hour=row["complete_until"].isoformat(),
            orders=tuple(row["blocked_by"]),
            advice="the list showed them more than an hour late; they are looked at now, and the hours settled again",
        )


async def certify(
    database: Database,
    account: str,
    ask: Ask,
    now: datetime,
    *,
    count: Ask,
    lag: timedelta = LAG,
    shown: Collection[str] = (),
    most_hours: int | None = None,
    most_marked: int | None = None,
) -> bool:
    """Settles the account's hours, one after the other, until one is not over for long enough or does not pass.

    `now` is the time that has passed for certain; `shown`: types that the list showed lately; `most_hours`: so many
    are settled, and the others left for the next time (None: all); `most_marked`: so many orders are marked due at
    most (None: all that are missing). Returns whether orders may have been marked due.

    Raises what `ask` raises, `ListBrokenError`, and what the database raises; nothing has moved then.
    """
    settled = 0
    while settled != most_hours and (certificate := await read_certificate(database, account)) is not None:
        begin = certificate.complete_until
        if begin + HOUR + lag > now:
            await database.execute(QUERIES.forget_failure, account)
            return False
        seen = await read_hour(ask, begin, count=count)
        verdict = await settle_hour(database, certificate, seen, now, shown, most_marked=most_marked)
        if not verdict.is_complete:
            return bool(verdict.blocked_by)
        settled += 1
    return False


async def settle_hour(
    database: Database,
    certificate: Certificate,
    seen: HourPass,
    now: datetime,
    shown: Collection[str] = (),
    *,
    most_marked: int | None = None,
) -> Verdict:
    """Compares, marks what is missing (`most_marked` orders at most), and moves the certificate if nothing is; all in
    one commit.
    """
    account, end = certificate.account, seen.begin + HOUR
    async with database.transaction() as connection:
        found = await compare(connection, seen.listed.values(), mark_for=None)
        behind = sorted(order_id for order_id, what in found.items() if what in {"unknown", "stale"})
        if most_marked is not None and len(behind) > most_marked:
            # By chance: what stays in quarantine must not keep the others from their turn.
            behind = sorted(random.sample(behind, most_marked))
        await compare(connection, [seen.listed[order_id] for order_id in behind], mark_for=account)
        rows = await connection.fetch(QUERIES.read_stored_of_hour, account, seen.begin, end)
        of_the_hour = sorted({*found, *(row["order_id"] for row in rows)})
        excused = {row["order_id"] for row in await connection.fetch(QUERIES.read_excused, of_the_hour)}
        missing = [order_id for order_id, what in found.items() if what != "known" and order_id not in excused]
        stored = [(row["order_id"], row["type"]) for row in rows if row["order_id"] not in excused]
        unlisted = {kind for order_id, kind in stored if kind is not None and order_id not in seen.listed}
        unspoken_of = certificate.unspoken_of(seen.begin)
        if doubtful := sorted(unlisted - NEVER_LISTED.union(unspoken_of, shown)):
            # What was listed before this process began counts, too.
            since = max(certificate.complete_since, seen.begin - EVIDENCE)
            rows = await connection.fetch(QUERIES.read_types_certified, account, doubtful, since, seen.begin)
            shown = {*shown, *(row["type"] for row in rows)}
        verdict = judge_hour(seen, missing, stored, unspoken_of, now, shown)
        moved = await connection.fetchval(
            QUERIES.settle_hour, account, seen.begin, end, verdict.is_complete, verdict.blocked_by, verdict.reason,
            verdict.newly_blind, verdict.shown_again,
        )  # fmt: skip
    if moved is not None:
        _tell(certificate, verdict)
    return verdict


def _tell(certificate: Certificate, verdict: Verdict) -> None:
    if verdict.newly_blind:
        log.warning(
            "list_is_blind",
            account=certificate.account,
            types=verdict.newly_blind,
            advice="orders of these types that no notification announces are not found, and not certified",
        )
    if shown_again := sorted(set(verdict.shown_again).intersection(certificate.blind_types)):
        log.warning(
            "list_shows_type_again",
            account=certificate.account,
            types=shown_again,
            hour=certificate.complete_until.isoformat(),
            advice="the certificate speaks of these types from this hour on; for the hours before: "
            f"cuadre backfill --from {certificate.complete_since:%Y-%m-%dT%H:%M:%SZ} "
            f"--to {certificate.complete_until:%Y-%m-%dT%H:%M:%SZ} --account {certificate.account}",
        )
    if verdict.blocked_by and verdict.blocked_by != certificate.blocked_by:
        log.warning(
            "completeness_blocked",
            account=certificate.account,
            hour=certificate.complete_until.isoformat(),
            orders=verdict.blocked_by,
            reason=verdict.reason,
            advice="they are looked at now; if this lasts, see: cuadre completeness"
            if verdict.reason is None
            else "orders that nobody told of may be left out, too; if this lasts, see: cuadre completeness",
        )


async def read_certificate(database: Querying, account: str) -> Certificate | None:
    """One account's, None where there is none yet."""
    rows = await database.fetch(QUERIES.read_certificate, account)
    return _certificate(rows[0]) if rows else None


async def read_certificates(database: Querying) -> list[Certificate]:
    """All, by account."""
    return [_certificate(row) for row in await database.fetch(QUERIES.read_certificates)]


@dataclass(frozen=True, slots=True)
class ExcusedOrder:
    """An order that its account's certificate goes without, and why."""

    order_id: str
    account: str
    note: str
    excused_at: datetime


async def read_excused(database: Querying) -> list[ExcusedOrder]:
    """All, by account."""
    return [ExcusedOrder(**row) for row in await database.fetch(QUERIES.list_excused)]


async def excuse(database: Querying, order_ids: Iterable[str], note: str) -> set[str]:
    """The certificates go without these orders from their next pass on; those that are known here at all."""
    rows = await database.fetch(QUERIES.excuse_orders, sorted(set(order_ids)), note)
    return {row["order_id"] for row in rows}


async def take_excuse_back(database: Querying, order_ids: Iterable[str]) -> set[str]:
    """Hours that are not certified yet need these orders again; those that were excused."""
    rows = await database.fetch(QUERIES.take_excuse_back, sorted(set(order_ids)))
    return {row["order_id"] for row in rows}


async def refresh_gauges(database: Querying, accounts: Collection[str] | None = None) -> None:
    """Sets the gauges from what is stored, of these accounts (None: of all). Raises what the database raises."""
    found = [one for one in await read_certificates(database) if accounts is None or one.account in accounts]
    metrics.complete_until_timestamp_seconds.clear()
    metrics.completeness_blocked.clear()
    metrics.completeness_blind_types.clear()
    for one in found:
        metrics.complete_until_timestamp_seconds.labels(one.account).set(one.complete_until.timestamp())
        metrics.completeness_blocked.labels(one.account).set(int(one.is_blocked))
        metrics.completeness_blind_types.labels(one.account).set(len(one.blind_types))


def _certificate(row: Any) -> Certificate:
    return Certificate(
        account=row["account"],
        complete_since=row["complete_since"],
        complete_until=row["complete_until"],
        checked_at=row["checked_at"],
        blocked_by=tuple(row["blocked_by"]),
        last_error=row["last_error"],
        blind_types=tuple(row["blind_types"]),
        types_since={kind: datetime.fromisoformat(since) for kind, since in json.loads(row["types_since"]).items()},
        excused_orders=row["excused_orders"],
    )
