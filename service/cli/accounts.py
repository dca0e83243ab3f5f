"""`cuadre accounts`: whose orders are stored, and giving those of an account's old name to the new one."""

from dataclasses import asdict
from typing import Annotated

import typer

from service.accounts import AccountBook
from service.audit.moving import Holding, Moved, count_to_move, forget_searches, move_account, read_holdings
from service.audit.reconcile import Reconciliation, Report
from service.cli.commands import new_app
from service.cli.context import configuration, open_database, run
from service.cli.failures import EXIT_ERROR, CommandError
from service.cli.output import Column, Format, FormatOption, note, print_json, print_line, print_table
from service.cli.progress import progress
from service.database.pool import Database
from service.settings import Settings
from service.sync.policies import account_policies

app = new_app(invoke_without_command=True)

_NOTHING = (0, 0, 0, 0)


@app.callback()
def accounts(
    context: typer.Context,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """List accounts, move the orders of an old name."""
    return 0 if context.invoked_subcommand else list_accounts(format)


@app.command("list")
def list_accounts(format: FormatOption = "table") -> int:  # noqa: A002 - the option's name is the contract's
    """List configured accounts, and names that only stored orders bear."""
    settings, book = configuration()
    return run(lambda: _list(settings, book, format))


async def _list(settings: Settings, book: AccountBook, form: Format) -> int:
    async with open_database(settings) as database:
        stored = {one.account: one for one in await read_holdings(database)}
    names = [account.name for account in book]
    of_nobody = [name for name in stored if name not in names]
    holdings = [stored.get(name, Holding(name, *_NOTHING)) for name in [*names, *of_nobody]]
    if form == "json":
        print_json({"data": [{**asdict(one), "configured": one.account in names} for one in holdings]})
        return 0
    print_table(
        [Column("ACCOUNT", "id"), Column("CONFIGURED"), Column("ORDERS", "amount"), Column("LOOKS AHEAD", "amount"),
         Column("DUE NOW", "amount"), Column("COMMANDS", "amount")],
        [(one.account, one.account in names, one.orders, one.scheduled, one.due, one.commands) for one in holdings],
    )  # fmt: skip
    if of_nobody:
        note(
            f"nothing reads the orders of {', '.join(of_nobody)}: configure the account, or where it has another name "
            "now: cuadre accounts move OLD NEW"
        )
    return 0


@app.command("move")
def move(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The name that is configured no more.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The name that is configured now.")],
    apply: Annotated[bool, typer.Option("--apply", help="Do it; else only say what would be moved.")] = False,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Give what is stored under an account's old name to the new one."""
    settings, book = configuration()
    known = ", ".join(account.name for account in book)
    if book.by_name(new) is None:
        raise typer.BadParameter(f"no account of that name is configured; there are {known}", param_hint="NEW")
    if book.by_name(old) is not None:
        raise typer.BadParameter(
            "this account is configured, and its orders are read; take it out of the configuration first",
            param_hint="OLD",
        )
    return run(lambda: _move(settings, book, old, new, apply, format))


async def _move(settings: Settings, book: AccountBook, old: str, new: str, apply: bool, form: Format) -> int:
    judged: Report | None = None
    left = Moved()
    async with open_database(settings) as database:
        moved = await count_to_move(database, old, new)
        if not moved.anything and not apply:
            raise CommandError(f"nothing is stored under the account {old}; see the names with: cuadre accounts")
        if apply:
            with progress(max(moved.orders, moved.sync_rows), "orders moved") as steps:
                moved = await move_account(database, old, new, on_moved=steps.advance)
            # Also where nothing was left to move: a run that was interrupted here is finished by the next one.
            judged = await _judge(database, book, new)
            left = await count_to_move(database, old, new)
            if not left.orders and not left.sync_rows:
                await forget_searches(database, old)
    if form == "json":
        print_json(_document(old, new, moved, judged))
    else:
        _tell(old, new, moved, judged)
    if judged is not None and moved.kept_commands:
        note(f"cuadre: commands stay under {old}, because {new} has used their keys; settle them by hand")
        return EXIT_ERROR
    if left.orders or left.sync_rows:
        note(f"cuadre: some process still works under {old}: restart it, or correct its accounts, and move again")
        return EXIT_ERROR
    return 0


async def _judge(database: Database, book: AccountBook, account: str) -> Report:
    """The rules over all orders of the account: what was sold twice shows only now that they are together."""
    reconciliation = Reconciliation(
        database,
        account_policies(book.by_name)["refunds_only_here_since"],
        frozenset(one.name for one in book),
        account=account,
    )
    return await reconciliation.carry_out()


def _tell(old: str, new: str, moved: Moved, judged: Report | None) -> None:
    did = "would be moved" if judged is None else "moved"
    print_line(
        f"{moved.orders} orders, {moved.sync_rows} rows about looks and {moved.commands} commands {did} "
        f"from {old} to {new}"
    )
    for kept in moved.kept_commands:
        print_line(f"{kept.command_id}  stays: {new} has used its key {kept.idempotency_key}")
    if judged is None:
        print_line("nothing was changed; --apply does it")
        return
    print_line(f"{judged.orders} orders judged, {judged.opened_or_resolved} discrepancies opened or closed")


def _document(old: str, new: str, moved: Moved, judged: Report | None) -> dict[str, object]:
    return {
        "old": old,
        "new": new,
        "applied": judged is not None,
        "orders": moved.orders,
        "sync_rows": moved.sync_rows,
        "commands": moved.commands,
        "kept_commands": [asdict(one) for one in moved.kept_commands],
        "discrepancies_changed": 0 if judged is None else judged.opened_or_resolved,
    }
