"""Pure: the words of merchant orders and the Payments API in those of the Orders API (legacy fact sheet, §4, §5, §7).

The provider's word is kept where money does not contradict it. Where it does, money wins: a merchant order that is
`closed` or `reverted` is shown as its payments say. So is one that stays `opened` (in the test environment `closed`
may never come) once its `order_status` says that it is paid and the payments reach the total. What says nothing of
money received stays `created`, whatever has landed.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from service.orders.lifecycle import is_open, is_paid
from service.orders.money import ZERO, total_of
from service.orders.snapshot import Payment

PAYMENT_STATUSES: Final = {
    "approved": "processed",
    "authorized": "action_required",
    "pending": "processing",
    "in_process": "processing",
    "in_mediation": "processed",
    "rejected": "failed",
    "cancelled": "canceled",
    "canceled": "canceled",
    "refunded": "refunded",
    "charged_back": "charged_back",
}
REFUND_STATUSES: Final = {
    "approved": "processed",
    "in_process": "processing",
    "authorized": "processing",
    "pending": "processing",
    "rejected": "failed",
    "cancelled": "failed",
    "canceled": "failed",
}

# `order_status` in the words of the documentation and of OpenAPI.
_RETURNED = frozenset({"reverted", "refunded"})
_PAID = frozenset({"paid", "partially_reverted", "partially_refunded"})
_CANCELED = frozenset({"cancelled", "canceled"})


def payment_status(status: str | None) -> str | None:
    """A payment's status; a word that is not in the table is kept as it came."""
    return None if status is None else PAYMENT_STATUSES.get(status, status)


def refund_status(status: str | None) -> str | None:
    """A refund's status; a word that is not in the table is kept as it came."""
    return None if status is None else REFUND_STATUSES.get(status, status)


def order_status(
    status: str | None,
    finer: str | None,
    *,
    cancelled: bool,
    total_amount: Decimal | None,
    payments: Sequence[Payment],
) -> tuple[str | None, str | None]:
    """Status and detail of the order; `status` and `finer` are the merchant order's `status` and `order_status`.

    `closed` with no paid payment is `processed` all the same: the provider says so, and a rule says what is wrong.
    """
    landed = [payment for payment in payments if is_paid(payment)]
    reached = total_amount is not None and total_of(payment.amount for payment in landed) >= total_amount
    if landed and (status == "closed" or finer in _RETURNED or (finer in _PAID and reached)):
        return _status_of_money(landed)
    if status == "closed":
        return "processed", finer
    if cancelled or finer in _CANCELED:
        return "canceled", "canceled"
    if status == "expired" or finer == "expired":
        return "expired", "expired"
    if status == "opened":
        return ("processing", "in_process") if finer == "payment_in_process" else ("created", "created")
    return status, finer


def waits_for_first_money(status: str | None, payments: Sequence[Payment]) -> bool:
    """Whether nobody has paid and nobody's payment is under way: what an expiry ends."""
    return status == "created" and not any(is_paid(payment) or is_open(payment.status) for payment in payments)


def _status_of_money(landed: Sequence[Payment]) -> tuple[str, str | None]:
    if all(payment.status == "refunded" for payment in landed):
        return "refunded", "refunded"
    charged_back = [payment for payment in landed if payment.status == "charged_back"]
    if charged_back and all(payment.status in ("refunded", "charged_back") for payment in landed):
        return "charged_back", charged_back[0].status_detail
    if any(payment.status == "refunded" or (payment.refunded_amount or ZERO) > ZERO for payment in landed):
        return "processed", "partially_refunded"
    return "processed", "accredited"
