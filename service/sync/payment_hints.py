"""Notices of payments: the legacy attended QR announces a payment's number, and the payment tells whose it is.

A number that was told of is looked up under the sync id `PY` and the number. No order is ever stored under it: the
hint is settled, and what it leads to is marked due in the same transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.database.queries import load
from service.mercadopago.account import Account
from service.mercadopago.legacy import MERCHANT_ORDER_PREFIX, PAYMENT_PREFIX, is_merchant_order_id
from service.sync.claims import Claim
from service.sync.settle import Settlement, settle_hint

if TYPE_CHECKING:
    from service.sync.apply import Look

QUERIES = load(Path(__file__).with_name("payment_hints.sql"))
# What the Payments API calls the order that a legacy QR's scan made (legacy fact sheet, §5).
_MERCHANT_ORDER = "mercadopago"


@dataclass(frozen=True, slots=True)
class PaymentTold:
    """A payment that was read because of a hint. `order_id` is its merchant order's (`MO…`), None where it has none.

    `is_ours`: the payment names the account's seller as its collector, or names nobody. The provider shows a payment
    to its own seller's token, so what it leads to is the account's, and deserves full speed, however the hint came.
    A payment that names another collector (its buyer may read it, too) lends no trust.
    """

    payment_id: str
    order_id: str | None
    is_ours: bool


def payment_told(payment: Mapping[str, object], payment_id: str, account: Account) -> PaymentTold:
    """Reads what the answer of `GET /v1/payments/{id}` says about whose payment it is."""
    order = payment.get("order")
    fields: Mapping[str, object] = order if isinstance(order, dict) else {}
    order_id = None
    if fields.get("type") == _MERCHANT_ORDER:
        named = f"{MERCHANT_ORDER_PREFIX}{fields.get('id')}"
        order_id = named if is_merchant_order_id(named) else None
    collector = payment.get("collector_id")
    is_ours = collector is None or account.user_id is None or str(collector) == account.user_id
    return PaymentTold(payment_id, order_id, is_ours)


def payment_number(hint_id: str) -> str:
    """The payment's number in a hint's sync id."""
    return hint_id.removeprefix(PAYMENT_PREFIX)


async def settle_hints(connection: Any, looks: "Sequence[Look]") -> dict[str, Settlement]:
    """Marks due what the hints of this batch led to, and tells how each hint is settled, by its id.

    A stored order of `/v1/orders` that shows the payment comes first: whatever else the payment names, its money is
    reckoned there. Else it is the merchant order that the payment names. To be called right before the batch's claims
    are settled: their `sync` rows are locked here.
    """
    told = [(look.claim, look.told) for look in looks if look.told is not None]
    if not told:
        return {}
    led_to = await _known_orders(connection, told)
    for claim, payment in told:
        if not led_to[claim.order_id] and payment.order_id is not None:
            led_to[claim.order_id] = (payment.order_id,)
    marks = [
        (order_id, claim.account, claim.cause, claim.notification_id, payment.is_ours or claim.trust > 0)
        for claim, payment in told
        for order_id in led_to[claim.order_id]
    ]
    if marks:
        columns = [list(column) for column in zip(*marks, strict=True)]
        await connection.execute(QUERIES.mark_told_orders, *columns, [look.claim.order_id for look in looks])
    return {hint_id: settle_hint(orders) for hint_id, orders in led_to.items()}


async def _known_orders(connection: Any, told: Sequence[tuple[Claim, PaymentTold]]) -> dict[str, tuple[str, ...]]:
    rows = await connection.fetch(
        QUERIES.find_orders_of_payments,
        [claim.account for claim, _ in told],
        [payment.payment_id for _, payment in told],
    )
    known: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        known.setdefault((row["account"], row["reference_id"]), []).append(row["order_id"])
    return {claim.order_id: tuple(sorted(known.get((claim.account, one.payment_id), ()))) for claim, one in told}
