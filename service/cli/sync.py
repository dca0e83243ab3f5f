"""`cuadre sync ORDER…`: looks at orders now, with the worker's own claim, fetch and apply.

Works with no service running and beside running ones: where another process holds an order, its look is awaited.
"""

import asyncio
import re
import time
from typing import Annotated

import typer

from service.accounts import AccountBook
from service.cli.context import configuration, open_database, run
from service.cli.failures import EXIT_ERROR
from service.cli.look_now import LookNow, Seen
from service.cli.output import Format, FormatOption, note, print_json, print_line, shown
from service.mercadopago.errors import NonsenseAnswer, ServerTrouble, Timeout
from service.settings import Settings
from service.web.parameters import SYNCABLE_ORDER_ID

# Orders looked at at once: a person waits, and the service has its own work to do.
CONCURRENCY = 8
# Trouble of the provider's that may be gone a moment later is tried again before a person is told.
TRIES = 4
PAUSE_SECONDS = 0.5
TROUBLE = frozenset(kind.default_outcome for kind in (Timeout, ServerTrouble, NonsenseAnswer))


def command(
    orders: Annotated[list[str], typer.Argument(metavar="ORDER", help="Order ids, like ORD01JSA8….")],
    account: Annotated[str | None, typer.Option(help="Whose order it is, where it is not stored yet.")] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="How long each order may take.")
    ] = 30.0,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Fetch orders now, store them and say what changed."""
    wrong = [order for order in orders if not re.fullmatch(SYNCABLE_ORDER_ID, order) or "\n" in order]
    if wrong:
        raise typer.BadParameter(
            f"{', '.join(map(repr, wrong))}: an order id begins with ORD, PPORD or MO; a payment's number is none",
            param_hint="ORDER",
        )
    settings, accounts = configuration()
    if account is not None and accounts.by_name(account) is None:
        known = ", ".join(one.name for one in accounts)
        raise typer.BadParameter(f"no account of that name is configured; there are {known}", param_hint="--account")
    return run(lambda: _sync(settings, accounts, list(dict.fromkeys(orders)), account, timeout, format))


async def _sync(
    settings: Settings,
    accounts: AccountBook,
    order_ids: list[str],
    account: str | None,
    within_seconds: float,
    form: Format,
) -> int:
    seen: dict[str, Seen] = {}
    slots = asyncio.Semaphore(CONCURRENCY)
    async with open_database(settings) as database, LookNow(settings, accounts, database) as looks:

        async def look(order_id: str) -> None:
            async with slots:
                seen[order_id] = await _look(looks, order_id, account, within_seconds)
            if form == "table":
                _print(seen[order_id])

        try:
            async with asyncio.TaskGroup() as tasks:
                for order_id in order_ids:
                    tasks.create_task(look(order_id))
        except ExceptionGroup as group:
            # What stops one look (the database went away) stops all: told once.
            raise group.exceptions[0] from None
    if form == "json":
        print_json({"data": [_document(seen[order_id]) for order_id in order_ids]})
    return EXIT_ERROR if any(one.error is not None for one in seen.values()) else 0


async def _look(looks: LookNow, order_id: str, account: str | None, within_seconds: float) -> Seen:
    deadline = time.monotonic() + within_seconds
    for attempt in range(1, TRIES):
        seen = await looks.look(order_id, account, timeout_seconds=max(0.1, deadline - time.monotonic()))
        pause = PAUSE_SECONDS * 2 ** (attempt - 1)
        is_trouble = seen.error is not None and seen.error.partition(":")[0] in TROUBLE
        if not is_trouble or time.monotonic() + pause >= deadline:
            return seen
        await asyncio.sleep(pause)
    return await looks.look(order_id, account, timeout_seconds=max(0.1, deadline - time.monotonic()))


def _print(one: Seen) -> None:
    if one.error is not None:
        note(f"{one.order_id}  failed: {one.error}" + (f". {one.hint}" if one.hint else ""))
        return
    status = shown(one.status)
    if one.status_detail not in {None, "", one.status}:
        status += f"/{shown(one.status_detail)}"
    change = "changed" if one.changed else "unchanged"
    print_line(f"{one.order_id}  {status}  version {one.version}  {change}" + (f"  ({one.hint})" if one.hint else ""))


def _document(one: Seen) -> dict[str, object]:
    return {
        "order_id": one.order_id,
        "account": one.account,
        "status": one.status,
        "status_detail": one.status_detail,
        "version": one.version,
        "changed": one.changed,
        "error": one.error,
        "hint": one.hint,
    }
