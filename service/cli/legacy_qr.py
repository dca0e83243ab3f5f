"""`cuadre legacy-qr`: puts a sale on a printed QR by the legacy attended model, and takes it off again."""

from typing import Annotated

import typer

from service.cli.commands import new_app
from service.cli.context import configuration
from service.cli.desk_now import (
    AccountOption,
    KeyOption,
    WaitOption,
    account_to_use,
    command_line_user,
    key_to_use,
    read_order_file,
)
from service.cli.orders_desk import WAIT_SECONDS, run_command
from service.cli.output import FormatOption
from service.desk.legacy_rules import LONGEST_TTL_SECONDS

app = new_app(no_args_is_help=True, help="Sell on a printed QR, the legacy attended way.")

PosArgument = Annotated[str, typer.Argument(metavar="POS", help="The point of sale's external id.")]


@app.command("put")
def put(
    pos: PosArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The legacy V1 body as JSON; - reads standard input.")],
    account: AccountOption = None,
    ttl: Annotated[
        int | None,
        typer.Option(min=1, max=LONGEST_TTL_SECONDS, metavar="SECONDS", help="How long it can be paid; else 600."),
    ] = None,
    key: KeyOption = None,
    wait: WaitOption = WAIT_SECONDS,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Put a sale on a printed QR, in place of what was there."""
    order = read_order_file(file)
    settings, accounts = configuration()
    whose, used, who = account_to_use(accounts, account), key_to_use(key), command_line_user()

    return run_command(
        settings,
        accounts,
        lambda desk: desk.put_legacy(
            whose, pos, order, ttl_seconds=ttl, key=used, asked_by=who, is_named=account is not None
        ),
        wait,
        format,
    )


@app.command("delete")
def delete(
    pos: PosArgument,
    account: AccountOption = None,
    key: KeyOption = None,
    wait: WaitOption = WAIT_SECONDS,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Take the sale off a printed QR; who is paying already may still pay."""
    settings, accounts = configuration()
    whose, used, who = account_to_use(accounts, account), key_to_use(key), command_line_user()

    return run_command(
        settings,
        accounts,
        lambda desk: desk.delete_legacy(whose, pos, key=used, asked_by=who, is_named=account is not None),
        wait,
        format,
    )
