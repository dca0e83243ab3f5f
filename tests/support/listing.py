"""A provider's list in memory, to bend: what it shows, when, in which order, and what goes wrong on the way."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from service.mercadopago.account import Account
from service.mercadopago.client import Seller
from service.mercadopago.errors import MercadoPagoError
from service.mercadopago.listing import ListedOrder, OrdersPage


def entry(order_id: str, created: datetime | None, updated: datetime | None = None, kind: str = "qr") -> ListedOrder:
    """One order of the list; where nothing else is said, it was last updated when it was created."""
    return ListedOrder(
        order_id=order_id,
        type=kind,
        status="created",
        external_reference=None,
        created_at=created,
        updated_at=updated or created,
        total_amount=None,
        document={},
    )


@dataclass(frozen=True)
class Asked:
    """One search as it came."""

    account: str
    begin: datetime
    end: datetime
    page: int
    page_size: int


@dataclass
class BentList:
    """Answers searches over `orders`, both ends included, in ascending order of creation unless told otherwise.

    `before(nth, asked)` is called before the nth search (from 1) is answered: it may change the list, raise, or return
    an answer to give instead. `counts=False` leaves the total out.
    """

    orders: list[ListedOrder] = field(default_factory=list)
    before: Callable[[int, Asked], OrdersPage | None] = lambda nth, asked: None
    descending: bool = False
    counts: bool = True
    clock: Callable[[], datetime | None] = lambda: datetime.now(UTC)
    refuses: MercadoPagoError | None = None
    asked: list[Asked] = field(default_factory=list)

    def show(self, *orders: ListedOrder) -> None:
        """Adds orders, or replaces them by id."""
        ids = {order.order_id for order in orders}
        self.orders = [order for order in self.orders if order.order_id not in ids] + list(orders)

    def touch(self, order_id: str, updated: datetime) -> None:
        """The order was updated at the provider."""
        self.show(*(replace(order, updated_at=updated) for order in self.orders if order.order_id == order_id))

    def page(self, begin: datetime, end: datetime, page: int, page_size: int) -> OrdersPage:
        """The plain answer."""
        found = [order for order in self.orders if order.created_at is None or begin <= order.created_at <= end]
        found.sort(
            key=lambda order: (order.created_at or begin, order.order_id),
            reverse=self.descending,
        )
        shown = found[(page - 1) * page_size : page * page_size]
        if not self.counts:
            return OrdersPage(tuple(shown), None, is_last=not shown)
        full = len(shown) == page_size
        return OrdersPage(
            tuple(shown), len(found), is_last=not full and (page - 1) * page_size + len(shown) >= len(found)
        )

    async def search_orders(
        self, account: Account, *, begin: datetime, end: datetime, page: int = 1, page_size: int = 100
    ) -> OrdersPage:
        """As the client's."""
        await asyncio.sleep(0)
        asked = Asked(account.name, begin, end, page, page_size)
        self.asked.append(asked)
        instead = self.before(len(self.asked), asked)
        return instead if instead is not None else self.page(begin, end, page, page_size)

    async def who_am_i(self, account: Account) -> Seller:
        """As the client's, with the provider's clock."""
        await asyncio.sleep(0)
        if self.refuses is not None:
            raise self.refuses
        return Seller(account.user_id or "1", "MLA", None, False, self.clock())


def ids(orders: Sequence[ListedOrder]) -> set[str]:
    return {order.order_id for order in orders}
