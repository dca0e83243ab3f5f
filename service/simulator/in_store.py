"""The books of the legacy attended QR: what a point of sale shows, merchant orders, payments, refunds.

Pure state: it is told the time and does no I/O. Source: legacy fact sheet, §1, §2, §4, §5.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from .config import SimulatorConfig
from .draws import Draws
from .ids import uuid_text
from .money import ZERO, Json

DEFAULT_LIFE = timedelta(seconds=600)
PENDING = frozenset({"pending", "in_process", "authorized", "in_mediation"})
LANDED = frozenset({"approved", "refunded", "charged_back"})
METHODS: tuple[Json, ...] = (
    {"id": "account_money", "type": "account_money"},
    {"id": "visa", "type": "credit_card"},
    {"id": "master", "type": "debit_card"},
)


class NotPossible(Exception):  # noqa: N818 - names the refusal
    """The state of an order or payment does not allow this. `number` is the Payments API's cause, if it has one."""

    def __init__(self, code: str, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.number = number


@dataclass(slots=True)
class Refund:
    """Money given back of one payment; `status` approved, in_process or rejected."""

    refund_id: int
    payment_id: int
    amount: Decimal
    status: str
    created_at: datetime


@dataclass(slots=True)
class Payment:
    """One attempt of the buyer."""

    payment_id: int
    key: str
    amount: Decimal
    status: str
    status_detail: str
    method: Json
    created_at: datetime
    updated_at: datetime
    approved_at: datetime | None = None
    refunds: list[Refund] = field(default_factory=list)

    @property
    def refunded(self) -> Decimal:
        """What was given back for good."""
        return sum((one.amount for one in self.refunds if one.status == "approved"), ZERO)

    @property
    def left(self) -> Decimal:
        """What may still be given back: refunds in process count as given."""
        return self.amount - sum((one.amount for one in self.refunds if one.status != "rejected"), ZERO)

    def show_refunds(self, at: datetime) -> None:
        """Set what the payment says about its refunds that are approved; one charged back stays so."""
        self.updated_at = at
        if self.status != "approved":
            return
        if self.refunded >= self.amount:
            self.status, self.status_detail = "refunded", "refunded"
        elif self.refunded > ZERO:
            self.status_detail = "partially_refunded"


@dataclass(slots=True)
class MerchantOrder:
    """What the buyer's scan creates. `version` counts its changes."""

    merchant_order_id: int
    order: "StoreOrder"
    created_at: datetime
    updated_at: datetime
    payments: list[Payment] = field(default_factory=list)
    version: int = 1

    @property
    def paid_amount(self) -> Decimal:
        """All money that ever landed, given back or not."""
        return sum((one.amount for one in self.payments if one.status in LANDED), ZERO)

    @property
    def refunded_amount(self) -> Decimal:
        """All money that was given or taken back."""
        return sum((one.amount if one.status == "charged_back" else one.refunded for one in self.payments), ZERO)

    @property
    def status(self) -> str:
        """`closed` once the money that landed reaches the total; rejected attempts leave it `opened`."""
        if self.payments and self.paid_amount >= self.order.total:
            return "closed"
        return "expired" if self.order_status == "expired" else "opened"

    @property
    def order_status(self) -> str:
        """The finer word for it (legacy fact sheet, §4)."""
        paid, returned = self.paid_amount, self.refunded_amount
        if paid > ZERO:
            if returned > ZERO:
                return "reverted" if returned >= paid else "partially_reverted"
            return "paid" if paid >= self.order.total else "partially_paid"
        if any(one.status in PENDING for one in self.payments):
            return "payment_in_process"
        return "expired" if self.order.state in {"expired", "deleted"} else "payment_required"

    def touch(self, at: datetime) -> None:
        """Date a change."""
        self.updated_at = max(at, self.updated_at)
        self.version += 1


@dataclass(slots=True)
class StoreOrder:
    """One order at a point of sale.

    `state`: `live` (what the QR shows), `replaced` by a newer one, `deleted`, `expired`, or `paid`. `generation` is
    `v1` (`mpmobile`) or `v2` (`instore`); `total` what the buyer has to pay, `application_id` who made it.
    """

    key: str
    user_id: str
    external_pos_id: str
    generation: str
    request: Json
    preference_id: str
    total: Decimal
    created_at: datetime
    expires_at: datetime
    state: str = "live"
    merchant_order: MerchantOrder | None = None

    @property
    def external_reference(self) -> str | None:
        """The merchant's own id of the sale."""
        value = self.request.get("external_reference")
        return None if value is None else str(value)

    @property
    def notification_url(self) -> str | None:
        """Where word of it goes."""
        value = self.request.get("notification_url")
        return value if isinstance(value, str) and value else None


class InStoreBook:
    """All legacy orders of one simulator."""

    def __init__(self, config: SimulatorConfig, draws: Draws) -> None:
        self.config = config
        self.draws = draws
        self.orders: list[StoreOrder] = []
        self.merchant_orders: dict[int, MerchantOrder] = {}
        self.payments: dict[int, MerchantOrder] = {}
        self._shown: dict[tuple[str, str], StoreOrder] = {}
        self._times: Counter[tuple[object, ...]] = Counter()

    def reset(self) -> None:
        """Forget all."""
        for book in (self.orders, self.merchant_orders, self.payments, self._shown, self._times):
            book.clear()

    def put(
        self,
        user_id: str,
        external_pos_id: str,
        generation: str,
        request: Json,
        total: Decimal,
        now: datetime,
        expires_at: datetime,
    ) -> StoreOrder:
        """A new order on a point of sale; it replaces the one that was shown there."""
        about = (user_id, external_pos_id, request.get("external_reference"))
        self._times[about] += 1
        key = "/".join(map(str, about)) + f"#{self._times[about]}"
        preference_id = f"{user_id}-{uuid_text(self.draws.number('preference', key))}"
        order = StoreOrder(key, user_id, external_pos_id, generation, request, preference_id, total, now, expires_at)
        self.replace(user_id, external_pos_id)
        self.orders.append(order)
        self._shown[user_id, external_pos_id] = order
        return order

    def shown(self, user_id: str, external_pos_id: str) -> StoreOrder | None:
        """The order a buyer sees who scans the printed QR now."""
        order = self._shown.get((user_id, external_pos_id))
        return order if order is not None and order.state == "live" else None

    def replace(self, user_id: str, external_pos_id: str) -> None:
        """Something else is shown at a point of sale from now on."""
        order = self.shown(user_id, external_pos_id)
        if order is not None:
            order.state = "replaced"

    def shown_everywhere(self) -> Iterator[StoreOrder]:
        """What every point of sale shows."""
        return (order for order in self._shown.values() if order.state == "live")

    def at(self, external_pos_id: str, user_id: str | None) -> list[StoreOrder]:
        """Every order a point of sale ever had, oldest first."""
        return [
            order
            for order in self.orders
            if order.external_pos_id == external_pos_id and user_id in {None, order.user_id}
        ]

    def end(self, order: StoreOrder, state: str, at: datetime) -> bool:
        """An unpaid order is `expired` or `deleted`. Returns whether its merchant order changed by that."""
        if order.state not in {"live", "replaced"}:
            return False
        order.state = state
        if order.merchant_order is None:
            return False
        order.merchant_order.touch(at)
        return True

    def scan(self, order: StoreOrder, at: datetime) -> tuple[MerchantOrder, bool]:
        """The buyer scans: the merchant order, and whether it is new."""
        if order.merchant_order is not None:
            return order.merchant_order, False
        number = self._free(36 * 10**9, 10**9, self.merchant_orders, "merchant-order", order.key)
        merchant_order = MerchantOrder(number, order, at, at)
        order.merchant_order = self.merchant_orders[number] = merchant_order
        return merchant_order, True

    def pay(
        self,
        merchant_order: MerchantOrder,
        at: datetime,
        *,
        amount: Decimal | None = None,
        status: str = "approved",
        status_detail: str = "accredited",
        method: Json | None = None,
    ) -> Payment:
        """The buyer tries to pay; what is missing of the total unless an amount is given."""
        if merchant_order.status == "closed":
            raise NotPossible("order_already_paid", "the merchant order is closed")
        due = merchant_order.order.total - merchant_order.paid_amount if amount is None else amount
        key = f"{merchant_order.order.key}/{len(merchant_order.payments) + 1}"
        payment = Payment(
            payment_id=self._free(118 * 10**9, 10**9, self.payments, "payment", key),
            key=key,
            amount=due,
            status=status,
            status_detail=status_detail,
            method=method or self.draws.pick(METHODS, "legacy-method", key),
            created_at=at,
            updated_at=at,
            approved_at=at if status == "approved" else None,
        )
        merchant_order.payments.append(payment)
        self.payments[payment.payment_id] = merchant_order
        self._changed(merchant_order, at)
        return payment

    def settle(self, payment: Payment, status: str, status_detail: str, at: datetime) -> None:
        """A payment that was pending is decided, or an approved one charged back."""
        wanted = frozenset({"approved"}) if status == "charged_back" else PENDING
        if payment.status not in wanted:
            raise NotPossible("payment_not_pending", f"the payment is {payment.status}")
        payment.status, payment.status_detail, payment.updated_at = status, status_detail, at
        if status == "approved":
            payment.approved_at = at
        self._changed(self.payments[payment.payment_id], at)

    def refund(self, payment: Payment, amount: Decimal | None, status: str, at: datetime) -> Refund:
        """Give money back, all that is left unless an amount is given. Raises `NotPossible`."""
        if payment.status != "approved" or payment.left <= ZERO:
            message = "The action requested is not valid for the current payment state"
            raise NotPossible("bad_request", message, 2063)
        value = payment.left if amount is None else amount
        if not ZERO < value <= payment.left:
            raise NotPossible("bad_request", f"only {payment.left} of the payment is left to refund", 2063)
        number = 2 * 10**9 + self.draws.below(10**9, "legacy-refund", payment.key, len(payment.refunds))
        refund = Refund(number, payment.payment_id, value, status, at)
        payment.refunds.append(refund)
        payment.show_refunds(at)
        self._changed(self.payments[payment.payment_id], at)
        return refund

    def end_refund(self, payment: Payment, refund: Refund, status: str, at: datetime) -> None:
        """A refund in process ends `approved` or `rejected`."""
        refund.status = status
        payment.show_refunds(at)
        self._changed(self.payments[payment.payment_id], at)

    def payment(self, payment_id: int) -> Payment | None:
        """A payment by its id."""
        merchant_order = self.payments.get(payment_id)
        if merchant_order is None:
            return None
        return next(one for one in merchant_order.payments if one.payment_id == payment_id)

    def _changed(self, merchant_order: MerchantOrder, at: datetime) -> None:
        merchant_order.touch(at)
        if merchant_order.status == "closed":
            merchant_order.order.state = "paid"

    def _free(self, base: int, span: int, taken: dict[int, MerchantOrder], *about: object) -> int:
        number, nth = base + self.draws.below(span, *about), 0
        while number in taken:
            nth += 1
            number = base + self.draws.below(span, *about, nth)
        return number
