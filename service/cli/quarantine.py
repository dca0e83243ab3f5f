"""`cuadre quarantine`: orders that are not looked at until somebody decides; list them, show one, try again."""

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
from service.sync.claims import mark_order_due
from service.web.models import SyncState
from service.web.statements import QUERIES as API_QUERIES

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
    """List orders in quarantine, show one, try them again."""
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


@app.command("retry")
def retry_quarantined(
    orders: Annotated[list[str], typer.Argument(metavar="ORDER", help="Orders in quarantine.")],
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Mark orders due for a running service (sync looks at once)."""
    ids = [checked_order_id(order) for order in dict.fromkeys(orders)]
    return run(lambda: _retry(settings_for_command(), ids, format))


async def _retry(settings: Settings, order_ids: list[str], form: Format) -> int:
    marked, left = [], []
    async with open_database(settings) as database:
        for order_id in order_ids:
            standing = await database.fetchrow(QUERIES.read_standing, order_id)
            if standing is None or not standing["quarantined"]:
                left.append(order_id)
                continue
            await mark_order_due(database, order_id, standing["account"])
            marked.append(order_id)
    if form == "json":
        print_json({"marked": marked, "not_in_quarantine": left})
    else:
        for order_id in marked:
            print_line(f"{order_id}  marked due")
    for order_id in left:
        note(f"cuadre: order {order_id} is not in quarantine; nothing was changed")
    return EXIT_ERROR if left else 0
