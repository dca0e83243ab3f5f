"""`cuadre commands`: what was asked of Mercado Pago; list it, show one, take one back, settle one by hand."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from service.accounts import AccountBook
from service.cli.commands import new_app
from service.cli.context import open_database, run, settings_for_command
from service.cli.desk_now import command_line_user, said
from service.cli.desk_told import document, fields
from service.cli.failures import CommandError
from service.cli.output import (
    Column,
    Format,
    FormatOption,
    amount,
    note,
    print_fields,
    print_json_text,
    print_table,
    shown,
)
from service.cli.reading import DEFAULT_LIMIT, list_json, read_list
from service.database.pool import Database
from service.desk.desk import Desk
from service.desk.errors import DeskError
from service.desk.intents import CommandRow
from service.settings import Settings
from service.web.command_models import Command
from service.web.commands import command_filters
from service.web.parameters import COMMAND_ID, COMMAND_STATUSES

app = new_app(invoke_without_command=True)

AccountOption = Annotated[str | None, typer.Option(help="Commands of this account.")]
StatusOption = Annotated[
    str | None, typer.Option(help="waiting, sending, unknown, accepted; done, refused, withdrawn.")
]
KindOption = Annotated[str | None, typer.Option(help="create, cancel, refund, legacy_put, legacy_delete.")]
OrderOption = Annotated[str | None, typer.Option(metavar="ORDER", help="Commands about this order.")]
LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")]
CommandArgument = Annotated[str, typer.Argument(metavar="COMMAND", help="The command's id, like CMD01JSA8….")]


@app.callback()
def commands(
    context: typer.Context,
    account: AccountOption = None,
    status: StatusOption = None,
    kind: KindOption = None,
    order: OrderOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """List, show, take back and settle commands."""
    return 0 if context.invoked_subcommand else list_commands(account, status, kind, order, limit, format)


@app.command("list")
def list_commands(
    account: AccountOption = None,
    status: StatusOption = None,
    kind: KindOption = None,
    order: OrderOption = None,
    limit: LimitOption = DEFAULT_LIMIT,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """List commands, latest first."""
    if status is not None and status not in COMMAND_STATUSES:
        raise typer.BadParameter(f"no such status; there are {', '.join(COMMAND_STATUSES)}", param_hint="--status")
    filters = command_filters(account, status, kind, order)
    return run(lambda: _list(settings_for_command(), filters, limit, format))


async def _list(settings: Settings, filters: dict[str, object], limit: int, form: Format) -> int:
    async with open_database(settings) as database:
        found, more = await read_list(database, "list_commands", Command, filters, limit)
    if form == "json":
        print_json_text(list_json(found, more))
        return 0
    columns = ["KIND", "STATUS", "AMOUNT", "FOR", "AGE", "ASKED BY", "WHY"]
    print_table(
        [Column("COMMAND", "id"), *(Column(title) for title in columns)],
        [
            (
                one.command_id,
                one.kind,
                one.status,
                amount(one.amount, one.currency),
                one.order_id or one.point_of_sale or one.external_reference,
                _age(one.asked_at),
                one.asked_by,
                one.message or one.last_error,
            )
            for one in found
        ],
        empty="no commands",
    )
    if more:
        note(f"only the latest {limit}; --limit shows more")
    return 0


def _age(moment: datetime) -> str:
    """How long ago, in its largest whole unit: `45 s`, `12 min`, `3 h`, `5 d`."""
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


@app.command("show")
def show_command(
    command: CommandArgument,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Show one command and what became of it."""
    command_id = checked_command_id(command)
    return run(lambda: _show(settings_for_command(), command_id, format))


async def _show(settings: Settings, command_id: str, form: Format) -> int:
    async with open_database(settings) as database:
        found = await _desk(database).find(command_id)
    if found is None:
        raise CommandError(f"there is no command {command_id}; look with: cuadre commands")
    _print(found, form)
    return 0


@app.command("withdraw")
def withdraw_command(
    command: CommandArgument,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Take back a command that provably was not sent yet."""
    command_id = checked_command_id(command)

    async def work() -> int:
        async with open_database(settings_for_command()) as database:
            try:
                _print(await _desk(database).withdraw(command_id, asked_by=command_line_user()), format)
            except DeskError as error:
                raise said(error) from None
        return 0

    return run(work)


@app.command("settle")
def settle_command(
    command: CommandArgument,
    outcome: Annotated[Literal["done", "refused"], typer.Option("--as", help="What became of it, as you found out.")],
    note_of: Annotated[str, typer.Option("--note", metavar="TEXT", help="How you found out; kept with it.")],
    order: Annotated[
        str | None, typer.Option(metavar="ORDER", help="The order that a creation made, with --as done.")
    ] = None,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Settle by hand a command whose outcome stays unknown."""
    command_id = checked_command_id(command)

    async def work() -> int:
        async with open_database(settings_for_command()) as database:
            try:
                settled = await _desk(database).settle_by_hand(
                    command_id, status=outcome, note=note_of, asked_by=command_line_user(), order_id=order
                )
            except DeskError as error:
                raise said(error) from None
        _print(settled, format)
        return 0

    return run(work)


def checked_command_id(command_id: str) -> str:
    """An id that can be a command's. Raises `typer.BadParameter`."""
    if "\n" in command_id or not re.match(COMMAND_ID, command_id, re.ASCII):
        raise typer.BadParameter("must be a command id: CMD and 26 letters and digits", param_hint="COMMAND")
    return command_id


def _desk(database: Database) -> Desk:
    """For what needs no account: reading, taking back, settling."""
    return Desk(database, AccountBook([]).by_name, wake=lambda: None)


def _print(command: CommandRow, form: Format) -> None:
    if form == "json":
        print_json_text(document(command).to_json())
        return
    more: list[tuple[str, object]] = [
        ("account", command.account),
        ("kind", command.kind),
        ("key", command.idempotency_key),
        ("asked", f"{shown(command.asked_at)} by {shown(command.asked_by)}"),
        ("first sent", command.maybe_sent_at),
        ("attempts", command.attempts),
        ("accepted", command.accepted_at),
        ("settled", command.settled_at),
        ("answer", None if command.provider_status is None else _answered(command)),
        ("last error", command.last_error),
        ("next", command.due_at),
    ]
    print_fields([(name, value) for name, value in [*fields(command), *more] if value not in (None, "")])


def _answered(command: CommandRow) -> str:
    return f"{command.provider_status} {command.provider_code or ''}".strip()
