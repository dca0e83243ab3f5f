"""Waiting until what is stored has caught up with the provider."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from service.cli.demo.compare import OrderComparison, compare_orders
from service.cli.demo.provider import LedgerOrder, Provider
from service.cli.demo.stored import Books

DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.3


@dataclass
class Settled:
    """The last comparison. `late` are orders whose latest notification was lost: how far ahead their next look was."""

    comparison: OrderComparison
    ledger: Mapping[str, LedgerOrder]
    late: dict[str, timedelta] = field(default_factory=dict)


async def settle(
    provider: Provider,
    books: Books,
    progress: Callable[[], Awaitable[None]],
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Settled:
    """Until every announced order is stored as the provider has it, or the deadline.

    An order whose latest notification was lost is found by its next scheduled look, which may be ten minutes ahead.
    Instead of waiting, the look is brought forward: once, and only where one is owed at all. Nobody helps an order
    whose latest notification arrived.
    """
    deadline = time.monotonic() + deadline_seconds
    late: dict[str, timedelta] = {}
    while True:
        idle = await provider.is_idle()
        caught_up = await books.caught_up()
        ledger = await provider.ledger()
        comparison = compare_orders(ledger, await books.orders())
        await progress()
        behind = comparison.differing.keys()
        if (idle and not behind and not comparison.invented) or time.monotonic() > deadline:
            return Settled(comparison, ledger, late)
        if idle:
            lost = {order_id for order_id in behind if order_id in caught_up and ledger[order_id].last_word_lost}
            late |= await books.bring_forward(lost - late.keys())
        await asyncio.sleep(POLL_SECONDS)
