"""What Mercado Pago's answer to a command tells of the order and its refunds, read tolerantly. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from service.desk.fields import entries, member
from service.mercadopago.legacy_status import refund_status
from service.orders.lifecycle import CLOSED_STATUSES, PAID_STATUSES
from service.orders.money import parse_amount

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# `ORD…`, `PPORD…`, and the bare 26 characters of older mocks: what is shorter names no order.
_ORDER_ID = re.compile(r"[A-Za-z0-9]{10,64}")


@dataclass(frozen=True, slots=True)
class MadeRefund:
    """A refund that the answer tells of. `transaction_id` is its payment's id; `status` is a word of the Orders API."""

    refund_id: str
    transaction_id: str | None
    amount: Decimal | None
    status: str | None


def order_of(document: Mapping[str, object] | None) -> tuple[str | None, str | None]:
    """Id and status of the order in an answer: the answer itself, or what an error envelope bears in `data` (402).

    A refund of the Payments API bears its own id, and tells of no order.
    """
    if member(document, "payment_id") is not None:
        return None, None
    for order in (document, member(document, "data")):
        order_id = _id(member(order, "id"))
        if order_id is not None and _ORDER_ID.fullmatch(order_id):
            return order_id, _text(member(order, "status"))
    return None, None


def has_failed(document: Mapping[str, object] | None) -> bool:
    """Whether the order in an answer, or every payment of it, says that it is over and unpaid. False without a word."""
    for order in (document, member(document, "data")):
        status = _text(member(order, "status"))
        payments = [_text(member(payment, "status")) for payment in entries(member(order, "transactions", "payments"))]
        none_left = bool(payments) and all(one in CLOSED_STATUSES for one in payments)
        if status in CLOSED_STATUSES or (none_left and status not in PAID_STATUSES):
            return True
    return False


def decline_of(document: Mapping[str, object] | None) -> str | None:
    """Why the first payment failed, in the provider's word (`rejected_by_issuer`), where the answer bears the order."""
    for order in (document, member(document, "data")):
        for payment in entries(member(order, "transactions", "payments")):
            detail = _id(member(payment, "status_detail"))
            if detail is not None:
                return detail
    return None


def refunds_of(document: Mapping[str, object] | None) -> tuple[MadeRefund, ...]:
    """The refunds in the answer to a refund: `transactions.refunds[]` of the Orders API, or the Payments API's own
    object, whose ids and amount are numbers. What has no id is left out.
    """
    if member(document, "payment_id") is not None:
        made = [_refund(document, member(document, "payment_id"))]
    else:
        listed = entries(member(document, "transactions", "refunds"))
        made = [_refund(refund, member(refund, "transaction_id")) for refund in listed]
    return tuple(refund for refund in made if refund is not None)


def _refund(refund: object, transaction_id: object) -> MadeRefund | None:
    refund_id = _id(member(refund, "id"))
    if refund_id is None:
        return None
    try:
        amount = parse_amount(member(refund, "amount"))
    except ValueError:
        amount = None
    return MadeRefund(refund_id, _id(transaction_id), amount, refund_status(_text(member(refund, "status"))))


def _id(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**20:
        return str(value)
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable() else None
