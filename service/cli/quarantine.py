"""`cuadre quarantine`: orders that are not looked at until somebody decides; list them, explain one, try again."""

import json
from typing import Annotated

import typer

from service.cli.commands import new_app
from service.cli.context import QUERIES, open_database, run, settings_for_command
from service.cli.failures import EXIT_ERROR, CommandError
from service.cli.orders import sync_fields
from service.cli.output import (
    Column,
    Format,
    FormatOption,
    note,
    print_fields,
    print_json,
    print_json_text,
    print_line,
    print_table,
    print_title,
    printable,
    shown,
    time_text,
)
from service.cli.reading import DEFAULT_LIMIT, checked_order_id, list_json, read_list
from service.cli.story import print_timeline, read_timeline
from service.settings import Settings
from service.web.models import SyncState
from service.web.statements import QUERIES as API_QUERIES

LOOKS = 20
# Of an answer that could not be read, as much as shows what it is.
BEGINNING = 600
RETRY_BATCH = 1000

app = new_app(invoke_without_command=True)

AccountOption = Annotated[str | None, typer.Option(help="Orders of this account.")]
ReasonOption = Annotated[str | None, typer.Option(help="Like not_found, unreadable or bad_request.")]
LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")]


@app.callback()
def quarantine(
    context: typer.Context,
    account: AccountOption = None,
    reason: ReasonOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """List orders in quarantine, explain one, try them again."""
    return 0 if context.invoked_subcommand else list_quarantine(account, reason, limit, format)


@app.command("list")
def list_quarantine(
    account: AccountOption = None,
    reason: ReasonOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """List the orders in quarantine, latest first."""
    return run(lambda: _list(settings_for_command(), {"account": account, "reason": reason}, limit, format))


async def _list(settings: Settings, filters: dict[str, object], limit: int, form: Format) -> int:
    async with open_database(settings) as database:
        found, more = await read_list(database, "list_quarantine", SyncState, filters, limit)
    if form == "json":
        print_json_text(list_json(found, more))
        return 0
    print_table(
        [Column("ORDER", "id"), Column("ACCOUNT"), Column("REASON"), Column("SINCE"), Column("LAST ERROR")],
        [(one.order_id, one.account, one.quarantine_reason, one.quarantined_at, one.last_error) for one in found],
        empty="quarantine is empty",
    )
    if more:
        note(f"only the latest {limit}; --limit shows more")
    return 0


@app.command("show")
def show_quarantined(
    order: Annotated[str, typer.Argument(metavar="ORDER", help="The order's id.")],
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Show why an order is there, and the answer nobody could read."""
    order_id = checked_order_id(order)
    return run(lambda: _show(settings_for_command(), order_id, format))


async def _show(settings: Settings, order_id: str, form: Format) -> int:
    async with open_database(settings) as database, database.acquire() as connection:
        row = await connection.fetchrow(API_QUERIES.read_sync, order_id)
        unreadable = await connection.fetchrow(QUERIES.read_unreadable_payload, order_id)
        story = await read_timeline(connection, order_id)
    if row is None or row["quarantined_at"] is None:
        raise CommandError(
            f"order {order_id} is not in quarantine; look with: cuadre orders show {order_id} --timeline"
        )
    state = SyncState(**row)
    if form == "json":
        kept = None
        if unreadable is not None:
            kept = {**unreadable, "seen_at": time_text(unreadable["seen_at"])}
        print_json_text(f'{state.to_json()[:-1]},"unreadable":{json.dumps(kept)},"timeline":{story.to_json()}}}')
        return 0
    print_fields([("order", state.order_id), ("account", state.account), *sync_fields(state)])
    if unreadable is not None:
        print_title(f"the answer that could not be read, of {shown(unreadable['seen_at'])}")
        print_line(printable(unreadable["body"]))
    print_timeline(story)
    return 0


@app.command("explain")
def explain_quarantined(
    order: Annotated[str, typer.Argument(metavar="ORDER", help="The order's id.")],
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Say why an order is there, what each look brought, and what to do."""
    order_id = checked_order_id(order)
    return run(lambda: _explain(settings_for_command(), order_id, format))


async def _explain(settings: Settings, order_id: str, form: Format) -> int:
    async with open_database(settings) as database:
        row = await database.fetchrow(API_QUERIES.read_sync, order_id)
        standing = await database.fetchrow(QUERIES.read_standing, order_id)
        unreadable = await database.fetchrow(QUERIES.read_unreadable_payload, order_id)
        looks = [dict(look) for look in await database.fetch(QUERIES.read_looks, order_id, LOOKS)]
    if row is None or row["quarantined_at"] is None:
        raise CommandError(
            f"order {order_id} is not in quarantine; look with: cuadre orders show {order_id} --timeline"
        )
    state = SyncState(**row)
    stored = bool(standing and standing["stored"])
    what_to_do = [*_what_to_do(state, stored=stored), f"then: cuadre quarantine retry {order_id}"]
    beginning = None if unreadable is None else unreadable["body"][:BEGINNING]
    if form == "json":
        document: dict[str, object] = {
            "order_id": state.order_id,
            "account": state.account,
            "stored": stored,
            "reason": state.quarantine_reason,
            "quarantined_at": state.quarantined_at,
            "last_error": state.last_error,
            "what_to_do": what_to_do,
            "unreadable": None if unreadable is None else {"reason": unreadable["reason"], "begins": beginning},
            "looks": looks,
        }
        print_json(document)
        return 0
    print_fields(
        [
            ("order", state.order_id),
            ("account", state.account),
            ("stored", "yes, as it was last read" if stored else "no"),
            ("in quarantine", f"since {shown(state.quarantined_at)}, {shown(state.quarantine_reason)}"),
            ("last error", state.last_error),
            ("next look", state.due_at if state.due_at is not None else "none before somebody asks for one"),
        ]
    )
    print_title("what to do")
    for sentence in what_to_do:
        print_line(f"- {printable(sentence)}")
    if beginning is not None and unreadable is not None:
        print_title(f"the answer that could not be read begins ({shown(unreadable['reason'])})")
        print_line(printable(beginning))
    print_title("looks, latest first")
    print_table(
        [Column("CLAIMED"), Column("CAUSE"), Column("OUTCOME"), Column("DETAIL")],
        [(look["claimed_at"], look["cause"], look["outcome"], look["detail"]) for look in looks],
        empty="none is on record",
    )
    return 0


_ADVICE = {
    "not_found": (
        "the provider has no such order for this account: it may be another account's, made with other credentials "
        "(test, live), older than three months, or invented by whoever sent the notification"
    ),
    "bad_request": "the provider does not take this id: look at where it came from with: cuadre notifications list",
    "unreadable": "the answer cannot be read as an order; look at its text, and update Cuadre if there is a newer one",
    "unstorable": "the database refuses what was read; run: cuadre doctor, and update Cuadre if there is a newer one",
    "worker_lost": "workers were lost while they held this order: look at the log of that time and at their memory",
}


def _what_to_do(state: SyncState, *, stored: bool) -> list[str]:
    reason = state.quarantine_reason or ""
    known = _ADVICE.get(reason, "the provider answered for other orders and not for this one; its last error says how")
    sentences = [known]
    if stored:
        sentences.append("what is stored of it stands, and it is looked at again once a day")
    if state.notification_id is not None:
        sentences.append(f"who spoke of it: cuadre notifications show {state.notification_id}")
    return sentences


@app.command("retry")
def retry_quarantined(
    orders: Annotated[list[str] | None, typer.Argument(metavar="[ORDER]...", help="Orders in quarantine.")] = None,
    all_orders: Annotated[bool, typer.Option("--all", help="All that are there.")] = False,
    account: Annotated[str | None, typer.Option(help="With --all: those of this account.")] = None,
    reason: Annotated[str | None, typer.Option(help="With --all: those with this reason.")] = None,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Mark orders due for a running service, with all their chances again (sync looks at once)."""
    if bool(orders) == all_orders:
        raise typer.BadParameter("name orders, or say --all", param_hint="ORDER")
    if (account is not None or reason is not None) and not all_orders:
        raise typer.BadParameter("--account and --reason go with --all", param_hint="--all")
    ids = None if all_orders else [checked_order_id(order) for order in dict.fromkeys(orders or [])]
    return run(lambda: _retry(settings_for_command(), ids, account, reason, format))


async def _retry(
    settings: Settings, order_ids: list[str] | None, account: str | None, reason: str | None, form: Format
) -> int:
    marked: list[str] = []
    async with open_database(settings) as database:
        after = ""
        while rows := await database.fetch(QUERIES.retry_quarantined, order_ids, account, reason, after, RETRY_BATCH):
            batch = sorted(row["order_id"] for row in rows)
            marked += batch
            after = batch[-1]
    left = [order_id for order_id in order_ids or () if order_id not in set(marked)]
    if form == "json":
        print_json({"marked": marked, "not_in_quarantine": left})
    else:
        for order_id in marked:
            print_line(f"{order_id}  marked due")
        if order_ids is None and not marked:
            print_line(
                "quarantine is empty" if account is None and reason is None else "nothing of that is in quarantine"
            )
    for order_id in left:
        note(f"cuadre: order {order_id} is not in quarantine; nothing was changed")
    return EXIT_ERROR if left else 0
