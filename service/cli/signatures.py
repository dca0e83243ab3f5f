"""`cuadre notifications explain`, `signatures` and `unverified`: why signatures match or not, and how often."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from service.accounts import AccountBook
from service.audit.signature_advice import advice
from service.audit.signatures import Explanation, Match, explain, stored_of
from service.cli.context import QUERIES, configuration, open_database, run, settings_for_command
from service.cli.failures import CommandError
from service.cli.output import (
    Column,
    Format,
    FormatOption,
    note,
    print_fields,
    print_json,
    print_line,
    print_table,
    printable,
    shown,
)
from service.cli.reading import DEFAULT_LIMIT, checked_time, read_list
from service.settings import Settings
from service.web.models import Notification

STATISTICS_SPAN = timedelta(days=7)
_MAX_BIGINT = 2**63 - 1


def explain_notification(
    number: Annotated[int, typer.Argument(metavar="N", min=1, max=_MAX_BIGINT, help="The notification's number.")],
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Say why a notification's signature matched or not, by trying all that is known to vary."""
    settings, accounts = configuration()
    return run(lambda: _explain(settings, accounts, number, format))


async def _explain(settings: Settings, accounts: AccountBook, number: int, form: Format) -> int:
    async with open_database(settings) as database:
        found, _ = await read_list(database, "list_notifications", Notification, {"id": number}, 1)
    if not found:
        raise CommandError(f"no notification {number} is stored here; the latest: cuadre notifications list")
    one = found[0]
    stored = stored_of(dict(one))
    explanation = explain(stored, accounts)
    sentences = advice(stored, explanation, accounts.accounts)
    if form == "json":
        print_json(_explanation_document(one, explanation, sentences))
        return 0
    header, age = explanation.header, explanation.age_seconds
    signed = None if age is None else f"{header.ts} ({header.unit}), {age:.0f} s before it was received"
    print_fields(
        [
            ("notification", one.id),
            ("account", one.account),
            ("recorded as", _result_text(one.verification, one.manifest or "", refused=one.refused)),
            ("signature", header.fault or f"v1={header.shown_digest}"),
            ("ts", signed),
            ("tried", f"{explanation.tried} manifests with {explanation.secrets} secrets"),
            ("outcome", explanation.verdict.replace("_", " ")),
        ]
    )
    for match in explanation.matches:
        print_line(f"matched  {_match_text(match)}")
    for sentence in sentences:
        print_line(f"- {printable(sentence)}")
    return 0


def _match_text(match: Match) -> str:
    request_id = "with" if match.with_request_id else "without"
    return (
        f"secret {match.secret_index + 1} of account {match.account}: {match.id_from}, {match.casing}; "
        f"ts {match.ts.replace('_', ' ')}; {request_id} request id"
    )


def _explanation_document(one: Notification, explanation: Explanation, sentences: list[str]) -> dict[str, object]:
    header = explanation.header
    return {
        "notification_id": one.id,
        "account": one.account,
        "verification": one.verification,
        "manifest": one.manifest,
        "verdict": explanation.verdict,
        "signature": {
            "given": header.given,
            "fault": header.fault,
            "ts": header.ts,
            "unit": header.unit,
            "age_seconds": explanation.age_seconds,
            "digest_begins": header.shown_digest,
        },
        "secrets": explanation.secrets,
        "tried": explanation.tried,
        "matches": [{name: getattr(match, name) for name in Match.__slots__} for match in explanation.matches],
        "follows": sentences,
    }


def count_signatures(
    account: Annotated[str | None, typer.Option(help="Those of this account.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Received at that RFC 3339 time or later; else in 7 days.")
    ] = None,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Count how signatures came out, by account and application."""
    moment = checked_time(since, "--since") or datetime.now(UTC) - STATISTICS_SPAN
    return run(lambda: _signatures(settings_for_command(), account, moment, format))


async def _signatures(settings: Settings, account: str | None, since: datetime, form: Format) -> int:
    async with open_database(settings) as database:
        rows = [dict(row) for row in await database.fetch(QUERIES.read_signature_statistics, since, account)]
    totals: dict[tuple[str, str], int] = {}
    for row in rows:
        if not row["refused"]:
            key = row["account"], row["application_id"]
            totals[key] = totals.get(key, 0) + row["deliveries"]
    for row in rows:
        whole = totals.get((row["account"], row["application_id"]), 0)
        row["share"] = None if row["refused"] else round(row["deliveries"] / whole, 4)
    if form == "json":
        print_json({"since": since, "data": rows})
        return 0
    columns = [Column("ACCOUNT"), Column("APPLICATION", "id"), Column("SIGNATURE"), Column("DELIVERIES", "amount")]
    print_table(
        [*columns, Column("SHARE", "amount"), Column("LATEST"), Column("N", "amount")],
        [
            (
                row["account"],
                row["application_id"],
                _result_text(row["verification"], row["manifest"], refused=row["refused"]),
                row["deliveries"],
                None if row["share"] is None else f"{row['share']:.1%}",
                row["last_at"],
                row["latest"],
            )
            for row in rows
        ],
        empty=f"no notifications since {shown(since)}",
    )
    return 0


def _result_text(verification: str, manifest: str, *, refused: bool) -> str:
    text = f"{verification} ({manifest})" if manifest else verification
    return f"{text}, refused (a sample)" if refused else text


def list_unverified(
    account: Annotated[str | None, typer.Option(help="Those of this account.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Received at that RFC 3339 time or later; else in 7 days.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many groups at most.")] = DEFAULT_LIMIT,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """List what came unverified, by application and reason."""
    moment = checked_time(since, "--since") or datetime.now(UTC) - STATISTICS_SPAN
    return run(lambda: _unverified(settings_for_command(), account, moment, limit, format))


async def _unverified(settings: Settings, account: str | None, since: datetime, limit: int, form: Format) -> int:
    async with open_database(settings) as database:
        rows = [dict(row) for row in await database.fetch(QUERIES.read_unverified, since, account, limit + 1)]
    rows, more = rows[:limit], len(rows) > limit
    if form == "json":
        print_json({"since": since, "data": rows, "more": more})
        return 0
    columns = [Column("ACCOUNT"), Column("APPLICATION", "id"), Column("TOPIC"), Column("WHY")]
    print_table(
        [*columns, Column("DELIVERIES", "amount"), Column("ORDERS", "amount"), Column("LATEST"), Column("N", "amount")],
        [
            (
                row["account"],
                row["application_id"],
                row["topic"],
                _result_text(row["verification"], "", refused=row["refused"]),
                row["deliveries"],
                row["orders"],
                row["last_at"],
                row["latest"],
            )
            for row in rows
        ],
        empty=f"nothing came unverified since {shown(since)}",
    )
    if rows:
        note(f"why, for one of them: cuadre notifications explain {rows[0]['latest']}")
    if more:
        note(f"only the {limit} largest groups; --limit shows more")
    return 0
