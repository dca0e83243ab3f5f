"""Fresh answers of the provider for a comparison: paced per account, tried again, bounded in patience.

A comparison is nobody's emergency: it takes a share of the account's rate and leaves the rest to a service that runs
beside it.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from random import random
from typing import Final, TypeVar

from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.errors import AccountRefused, MercadoPagoError, OrderFault, ProviderTrouble
from service.mercadopago.pacing import AccountGate, backoff_seconds
from service.mercadopago.reader import ReadOrder

ATTEMPTS: Final = 4
BACKOFF_BASE_SECONDS, BACKOFF_CAP_SECONDS = 0.25, 4.0
PATIENCE_SECONDS: Final = 300.0
_LONGEST_REST_SECONDS = 1.0

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")


class NotAsked(Exception):  # noqa: N818 - says what became of a question, not that something broke
    """The account as a whole cannot be asked; `str()` is one line that says why."""


class NoAnswer(Exception):  # noqa: N818 - as above
    """The provider did not answer for this order; `str()` is one line, `status` the HTTP status or 0."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class ProviderAway(Exception):  # noqa: N818 - as above
    """Nothing of an account was answered for a long time; `str()` is one line that says what to do."""


class FreshReader:
    """Reads orders and payments within `share` of each account's rate.

    A call that fails by nobody's fault is tried `ATTEMPTS` times. Where an account's breaker stays open for
    `patience_seconds`, the whole work is given up: it can be gone on with later.
    """

    def __init__(
        self,
        client: MercadoPagoClient,
        accounts: Iterable[Account],
        *,
        share: float,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self.clock = clock
        self._patience_seconds = patience_seconds
        self._accounts = {account.name: account for account in accounts}
        self._gates = {
            name: AccountGate(account.rate_per_second * share, random=random)
            for name, account in self._accounts.items()
        }
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._heard_at = dict.fromkeys(self._accounts, clock())

    def account(self, name: str) -> Account:
        """The account of that name. Raises `NotAsked` where none is configured."""
        account = self._accounts.get(name)
        if account is None:
            raise NotAsked(f"account {name} is not configured")
        return account

    async def order(self, account_name: str, order_id: str) -> ReadOrder:
        """The order as the provider has it now. Raises `NotAsked`, `NoAnswer`, `ProviderAway`."""
        account = self.account(account_name)
        fetched = await self._ask(account, lambda: self.client.get_any(account, order_id))
        return fetched.read

    async def payment(self, account_name: str, payment_id: str) -> dict[str, object]:
        """A payment as the Payments API has it. Raises as `order`."""
        account = self.account(account_name)
        return await self._ask(account, lambda: self.client.get_payment(account, payment_id))

    async def turn(self, account: Account) -> AccountGate:
        """Waits until one call may start, and counts it as started: its outcome must be told to the gate.

        Raises `NotAsked` where the token was refused, `ProviderAway` where patience ends.
        """
        gate = self._gates[account.name]
        async with self._turns[account.name]:
            while True:
                now = self.clock()
                paused = gate.paused(now)
                if paused == "refused":
                    raise NotAsked(f"the access_token of account {account.name} was refused")
                if gate.room(now).known > 0:
                    gate.take(now, known=1)
                    return gate
                if paused is not None and now - self._heard_at[account.name] > self._patience_seconds:
                    raise ProviderAway(
                        f"Mercado Pago did not answer for account {account.name} for "
                        f"{self._patience_seconds:.0f} s; the same command goes on from here when it does"
                    )
                rest = gate.next_change(now) or 0.0
                await asyncio.sleep(min(max(rest, 0.001), _LONGEST_REST_SECONDS))

    async def _ask(self, account: Account, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        trouble: MercadoPagoError | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                jitter = random()  # noqa: S311 - jitter is no cryptography
                await asyncio.sleep(backoff_seconds(attempt, BACKOFF_BASE_SECONDS, BACKOFF_CAP_SECONDS, jitter))
            gate = await self.turn(account)
            try:
                answer = await call()
            except ProviderTrouble as error:
                gate.trouble(self.clock(), error)
                trouble = error
            except AccountRefused as error:
                gate.refused(self.clock())
                raise NotAsked(f"account {account.name} is refused, {error}") from None
            except OrderFault as error:
                self._heard(account, gate.order_fault)
                raise NoAnswer(f"{error.outcome}: {error}", error.status) from None
            except BaseException:
                gate.abandoned(self.clock())
                raise
            else:
                self._heard(account, gate.succeeded)
                return answer
        assert trouble is not None
        raise NoAnswer(f"{trouble.outcome}: {trouble}", trouble.status)

    def _heard(self, account: Account, tell: Callable[[float], None]) -> None:
        now = self.clock()
        tell(now)
        self._heard_at[account.name] = now


async def map_bounded(
    function: Callable[[_Item], Awaitable[_Answer]], items: Iterable[_Item], at_once: int
) -> list[_Answer]:
    """The results in order, `at_once` under way at a time. The first failure cancels the others and is raised."""
    slots = asyncio.Semaphore(at_once)

    async def one(item: _Item) -> _Answer:
        async with slots:
            return await function(item)

    tasks = [asyncio.create_task(one(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
