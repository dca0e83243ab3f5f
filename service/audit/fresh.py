"""Fresh answers of the provider for a comparison: paced per account, tried again, bounded in patience.

A comparison is nobody's emergency: it takes a share of the account's rate and leaves the rest to a service that runs
beside it.
"""

import asyncio
import math
import time
from collections import Counter, defaultdict
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


class Refused(NotAsked):
    """The account's token was refused, and nothing was answered since: nobody knows of its orders yet."""


class NoAnswer(Exception):  # noqa: N818 - as above
    """The provider did not answer for this order; `str()` is one line, `status` the HTTP status or 0."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class ProviderAway(Exception):  # noqa: N818 - as above
    """Nothing of an account was answered for a long time; `str()` is one line that says what to do."""


class FreshReader:
    """Reads orders and payments within `share` of each account's rate.

    A call that fails by nobody's fault is tried `ATTEMPTS` times, and so is one that is refused: one refusal among
    answers is no reason to ask for nothing more. While an account's gate is shut its probes are waited for. Where it
    stays shut for `patience_seconds`, the whole work is given up: it can be gone on with later. Where the token is
    refused that long, or has never been accepted, the account alone is given up (`Refused`).
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
        self._heard: set[str] = set()
        # Since when an account's calls fail with no answer in between.
        self._silent_since: dict[str, float] = {}
        self._refusals: dict[str, str] = {}
        self._under_way: Counter[str] = Counter()

    def account(self, name: str) -> Account:
        """The account of that name. Raises `NotAsked` where none is configured."""
        account = self._accounts.get(name)
        if account is None:
            raise NotAsked(f"account {name} is not configured")
        return account

    async def order(self, account_name: str, order_id: str) -> ReadOrder:
        """The order as the provider has it now. Raises `NotAsked` (`Refused`), `NoAnswer`, `ProviderAway`."""
        account = self.account(account_name)
        fetched = await self._ask(account, lambda: self.client.get_any(account, order_id))
        return fetched.read

    async def payment(self, account_name: str, payment_id: str) -> dict[str, object]:
        """A payment as the Payments API has it. Raises as `order`."""
        account = self.account(account_name)
        return await self._ask(account, lambda: self.client.get_payment(account, payment_id))

    async def turn(self, account: Account) -> AccountGate:
        """Waits until one call may start, and counts it as started: its outcome must be told to the gate.

        Raises where patience ends: `Refused` where the token is refused, else `ProviderAway`.
        """
        gate = self._gates[account.name]
        async with self._turns[account.name]:
            while True:
                now = self.clock()
                if gate.room(now).known > 0:
                    gate.take(now, known=1)
                    return gate
                self._be_patient(account, gate, now)
                rest = gate.next_change(now) or 0.0
                await asyncio.sleep(min(max(rest, 0.001), _LONGEST_REST_SECONDS))

    def _be_patient(self, account: Account, gate: AccountGate, now: float) -> None:
        """Raises where nothing was answered for too long."""
        paused = gate.paused(now)
        if paused is None:
            return
        since = self._silent_since.setdefault(account.name, now)
        if gate.last_success is not None and gate.last_success > since:
            since = self._silent_since[account.name] = now
        at_an_end = now - since > self._patience_seconds
        if paused == "refused":
            # A token that was never accepted is as good as wrong, unless an answer may still come.
            never = account.name not in self._heard and not self._under_way[account.name]
            if at_an_end or never:
                raise self._refused(account)
        elif at_an_end:
            raise ProviderAway(
                f"Mercado Pago did not answer for account {account.name} for "
                f"{self._patience_seconds:.0f} s; the same command goes on from here when it does"
            )

    async def _ask(self, account: Account, call: Callable[[], Awaitable[_Answer]]) -> _Answer:
        trouble: MercadoPagoError | None = None
        first_refused_at = math.inf
        for attempt in range(ATTEMPTS):
            if isinstance(trouble, ProviderTrouble):
                jitter = random()  # noqa: S311 - jitter is no cryptography
                await asyncio.sleep(backoff_seconds(attempt, BACKOFF_BASE_SECONDS, BACKOFF_CAP_SECONDS, jitter))
            gate = await self.turn(account)
            self._under_way[account.name] += 1
            try:
                answer = await call()
            except ProviderTrouble as error:
                gate.trouble(self.clock(), error)
                trouble = error
            except AccountRefused as error:
                now = self.clock()
                gate.refused(now)
                self._silent_since.setdefault(account.name, now)
                self._refusals[account.name] = str(error)
                first_refused_at = min(first_refused_at, now)
                trouble = error
            except OrderFault as error:
                self._hear(account, gate.order_fault)
                raise NoAnswer(f"{error.outcome}: {error}", error.status) from None
            except BaseException:
                gate.abandoned(self.clock())
                raise
            else:
                self._hear(account, gate.succeeded)
                return answer
            finally:
                self._under_way[account.name] -= 1
        assert trouble is not None
        if isinstance(trouble, AccountRefused):
            nothing_since = self._silent_since.get(account.name, math.inf) <= first_refused_at
            if nothing_since and not await self._is_welcome(account, trouble, gate):
                raise self._refused(account)
        raise NoAnswer(f"{trouble.outcome}: {trouble}", trouble.status)

    async def _is_welcome(self, account: Account, refusal: AccountRefused, gate: AccountGate) -> bool:
        """Whether a token that was accepted before still is, so that the refusal is about one order alone."""
        if refusal.status != 403 or account.name not in self._heard:
            return False
        gate.take(self.clock(), known=1)
        try:
            await self.client.who_am_i(account)
        except MercadoPagoError:
            gate.abandoned(self.clock())
            return False
        except BaseException:
            gate.abandoned(self.clock())
            raise
        # Patience is not renewed: should the next order be refused, too, it is the account.
        gate.order_fault(self.clock())
        return True

    def _refused(self, account: Account) -> Refused:
        said = self._refusals.get(account.name)
        return Refused(f"the access_token of account {account.name} was refused" + (f": {said}" if said else ""))

    def _hear(self, account: Account, tell: Callable[[float], None]) -> None:
        tell(self.clock())
        self._heard.add(account.name)
        self._silent_since.pop(account.name, None)


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
