"""`cuadre erase-payer PAYER`: takes one payer's data out of everything stored, and leaves the money."""

from typing import Annotated

import typer

from service.audit.erase import erase_payers, find_payer_orders
from service.cli.context import open_database, run, settings_for_command
from service.cli.output import note, print_line
from service.settings import Settings


def command(
    payer: Annotated[
        str, typer.Argument(metavar="PAYER", help="The payer's id, e-mail or identification number, as it is stored.")
    ],
    apply: Annotated[bool, typer.Option("--apply", help="Erase; without it only count.")] = False,
) -> int:
    """Take one payer's data out of all that is stored.

    Orders, their versions, notifications and commands keep their amounts, statuses and ids.
    """
    if not payer.strip() or len(payer) > 255:
        raise typer.BadParameter("must be a text of 1 to 255 characters", param_hint="PAYER")
    return run(lambda: _erase(settings_for_command(), payer.strip(), apply=apply))


async def _erase(settings: Settings, payer: str, *, apply: bool) -> int:
    async with open_database(settings) as database:
        orders = await find_payer_orders(database, payer)
        if not orders:
            print_line("nothing is stored about this payer")
            return 0
        if not apply:
            print_line(f"{len(orders)} orders (or texts without one) name this payer")
            note("nothing was changed; --apply erases")
            return 0
        erased = await erase_payers(database, orders)
    told = ", ".join(f"{number} in {place}" for place, number in sorted(erased.texts.items()))
    print_line(f"erased from {erased.orders} orders: {told}")
    note("commands that are not settled keep what is still to be sent; call this again when they are")
    note("backups and replicas of this database keep what they hold; old notifications go with their month")
    return 0
