"""`cuadre orders create`, `cancel` and `refund`: the order desk on the command line."""

from typing import Annotated

import typer

from service.accounts import AccountBook
from service.cli.context import configuration, run
from service.cli.desk_now import (
    AccountOption,
    Ask,
    KeyOption,
    WaitOption,
    account_to_use,
    carry_out,
    command_line_user,
    key_to_use,
    read_order_file,
)
from service.cli.desk_told import tell
from service.cli.output import Format, FormatOption
from service.cli.reading import checked_order_id
from service.settings import Settings

OrderArgument = Annotated[str, typer.Argument(metavar="ORDER", help="The order's id.")]
WAIT_SECONDS = 30.0


def create_order(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Mercado Pago's own create body as JSON; - reads standard input.")
    ],
    account: AccountOption = None,
    key: KeyOption = None,
    wait: WaitOption = WAIT_SECONDS,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Create an order at Mercado Pago and store it."""
    order = read_order_file(file)
    settings, accounts = configuration()
    whose, used, who = account_to_use(accounts, account), key_to_use(key), command_line_user()
    return run_command(
        settings,
        accounts,
        lambda desk: desk.create(whose, order, key=used, asked_by=who, is_named=account is not None),
        wait,
        format,
    )


def cancel_order(
    order: OrderArgument,
    key: KeyOption = None,
    wait: WaitOption = WAIT_SECONDS,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Cancel an order that is not paid."""
    order_id = checked_order_id(order)
    settings, accounts = configuration()
    used = key_to_use(key)
    return run_command(
        settings, accounts, lambda desk: desk.cancel(order_id, key=used, asked_by=command_line_user()), wait, format
    )


def refund_order(
    order: OrderArgument,
    payment: Annotated[
        str | None, typer.Option(metavar="PAYMENT", help="Of this payment; needed where several are paid.")
    ] = None,
    amount: Annotated[str | None, typer.Option(metavar="AMOUNT", help="So much; else all that is left.")] = None,
    key: KeyOption = None,
    wait: WaitOption = WAIT_SECONDS,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Give back what was paid, all or part of it."""
    order_id = checked_order_id(order)
    settings, accounts = configuration()
    used = key_to_use(key)
    return run_command(
        settings,
        accounts,
        lambda desk: desk.refund(order_id, payment_id=payment, amount=amount, key=used, asked_by=command_line_user()),
        wait,
        format,
    )


def run_command(settings: Settings, accounts: AccountBook, ask: Ask, wait_seconds: float, form: Format) -> int:
    """Carries the command out, tells what it came to, and returns the exit code."""

    async def work() -> int:
        return tell(await carry_out(settings, accounts, ask, wait_seconds=wait_seconds), form)

    return run(work)
