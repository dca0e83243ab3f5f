"""The provider's list of one account, asked below everything else: only where the account's gate has room to spare."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

from service.audit.windows import PAGE_SIZE, Window
from service.database.pool import Database
from service.mercadopago.account import Account
from service.mercadopago.client import Seller
from service.mercadopago.errors import AccountRefused, MercadoPagoError
from service.mercadopago.listing import OrdersPage
from service.mercadopago.pacing import BURST_SECONDS, AccountGate
from service.sync.claims import QUERIES as SYNC_QUERIES
from service.sync.gates import Gates

# Of what an account may start at once, this part stays for the looks.
SPARE_SHARE: Final = 0.25
ROOM_SECONDS: Final = (0.25, 5.0)
"""How long to wait before looking for room again: at least and at most."""
YIELD_SECONDS: Final = 60.0
"""So long a search stands back for the looks of a slow account; then it goes, or a flood would end all searching."""
SHUT_SECONDS: Final = 60.0
"""So long a search waits for a gate that is shut before it says so."""

_Answer = TypeVar("_Answer")


class Searches(Protocol):
    """What is asked of the provider: `MercadoPagoClient`, or a stand-in."""

    async def search_orders(
        self, account: Account, *, begin: datetime, end: datetime, page: int = 1, page_size: int = PAGE_SIZE
    ) -> OrdersPage:
        """One page of the list, in ascending order of creation. Raises `MercadoPagoError`."""
        ...

    async def who_am_i(self, account: Account) -> Seller:
        """The token's seller, and the provider's clock. Raises `MercadoPagoError`."""
        ...


class AccountGoneError(Exception):
    """The account is not configured any more."""


class AccountShutError(Exception):
    """Nothing has gone out for the account for a while; `str()` is one line that says why."""


@dataclass(frozen=True, slots=True)
class Now:
    """Two answers to what time it is: up to when orders may exist, and up to when time has passed for certain.

    `reach` is the provider's clock, where it tells it; `certain` the earliest of the provider's, the database's and
    this machine's. A clock that is wrong can make the certificate late, never early. `is_refused`: the provider was
    asked for its clock and gave no answer.
    """

    reach: datetime
    certain: datetime
    is_refused: bool = False


class ProviderList:
    """Asks for one account within its gate's rate; how a call went is not told to the gate, which is the looks'.

    So whoever asks waits by himself after a failure. `look_is_due` says whether a look of the account waits to start;
    where an account's rate leaves no call to spare, a search waits for it.
    """

    def __init__(
        self,
        client: Searches,
        gates: Gates,
        account: str,
        *,
        look_is_due: Callable[[], Awaitable[bool]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._gates = gates
        self._account = account
        self._look_is_due = look_is_due
        self._clock = clock

    async def now(self, database: Database, *, this_machine: datetime | None = None, asks_provider: bool = True) -> Now:
        """What time it is. The provider is asked with `GET /users/me`, if at all.

        Raises `AccountRefused` for a token that is not good, `AccountShutError`, `AccountGoneError`, and what the
        database raises.
        """
        theirs: datetime | None = None
        is_refused = False
        if asks_provider:
            try:
                theirs = (await self._call(self._client.who_am_i)).provider_date
            except MercadoPagoError as error:
                # A token may be good for orders and not for this, and not every provider serves it. The search will
                # tell whether the list can be read; the clock is not known then.
                if isinstance(error, AccountRefused) and error.status != 403:
                    raise
                is_refused = True
        ours: datetime = await database.fetchval(SYNC_QUERIES.database_now)
        ours = min(ours, this_machine or datetime.now(UTC))
        reach = theirs or ours
        return Now(reach, min(reach, ours), is_refused)

    async def search(self, window: Window, *, page_size: int = PAGE_SIZE) -> OrdersPage:
        """The answer for one window. Raises `MercadoPagoError`, `AccountGoneError`, `AccountShutError`."""

        def ask(account: Account) -> Awaitable[OrdersPage]:
            return self._client.search_orders(
                account, begin=window.begin, end=window.end, page=window.page, page_size=page_size
            )

        return await self._call(ask)

    async def _call(self, call: Callable[[Account], Awaitable[_Answer]]) -> _Answer:
        account, gate = await self._room()
        try:
            return await call(account)
        finally:
            # However it went: what a search meets is the search's own affair, and moves nothing that the looks rely on.
            gate.abandoned(self._clock())

    async def _room(self) -> tuple[Account, AccountGate]:
        """Waits until the looks leave something over. A gate that is shut is for the looks alone to try."""
        begun, yielding = self._clock(), ROOM_SECONDS[0]
        while True:
            account, gate = self._gates.account(self._account), self._gates.gate(self._account)
            if account is None or gate is None:
                raise AccountGoneError(self._account)
            if await self._yields(gate, begun):
                await asyncio.sleep(yielding)
                yielding = min(ROOM_SECONDS[1], yielding * 2)
                continue
            now = self._clock()
            paused = gate.paused(now)
            if paused is None and gate.room(now).known >= max(1, math.ceil(_spare(gate))):
                gate.take(now, known=1)
                return account, gate
            if paused is not None and now - begun >= SHUT_SECONDS:
                raise AccountShutError(
                    f"nothing goes out for account {account.name} ({paused}); the list is read when looks succeed again"
                )
            shortest, longest = ROOM_SECONDS
            await asyncio.sleep(min(longest, max(shortest, gate.next_change(now) or 0.0)))

    async def _yields(self, gate: AccountGate, begun: float) -> bool:
        """Whether a look waits for the call that is all such a slow account may start; not for ever."""
        if self._look_is_due is None or _spare(gate) >= 1 or self._clock() - begun >= YIELD_SECONDS:
            return False
        return await self._look_is_due()


def _spare(gate: AccountGate) -> float:
    return gate.rate_per_second * BURST_SECONDS * SPARE_SHARE
