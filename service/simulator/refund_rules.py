"""What `POST /v1/orders/{id}/refund` accepts, and what it answers to the rest (orders fact sheet, §7.2). Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from .lifecycle import refundable
from .money import ZERO, Json, amount_text, decimal_of
from .payloads import payments_of, records_of
from .schema import Invalid, Many, Members, Text, check

Wanted = tuple[str | None, str | None]
"""Payment id and amount; nothing at all for the whole rest of the order, no amount for the rest of the payment."""


def _positive(text: str) -> None:
    if decimal_of(amount_text(text)) <= ZERO:
        raise ValueError("must be above 0")


REFUND = Members(
    {"transactions": Many(Members({"id": Text(), "amount": Text(check=_positive)}, ("id",)), fewest=1)},
)


def read_refunds(body: Json) -> list[Wanted]:
    """Every refund a request wants. Raises `Invalid`."""
    check(REFUND, body)
    return [(item["id"], item.get("amount")) for item in body.get("transactions", ())] or [(None, None)]


def check_refund(
    body: Json, wanted: Sequence[Wanted], paid_at: datetime | None, now: datetime, window_days: float | None
) -> None:
    """Raise `Invalid` where the state of an order or its payments forbids those refunds, whatever their amounts."""
    if body.get("status") == "refunded":
        raise Invalid(409, "order_already_refunded", "The order is already refunded.")
    if body.get("status") != "processed":
        message = f"current status '{body.get('status')}' does not allow refunds; the order must be 'processed'"
        raise Invalid(409, "cannot_refund_order", message)
    if window_days is not None and paid_at is not None and now - paid_at > timedelta(days=window_days):
        raise Invalid(409, "refund_period_exceeded", f"The payment is older than {window_days:g} days.")
    paid = {str(payment.get("id")): payment for payment in payments_of(body) if payment.get("status") == "processed"}
    running = any(record.get("status") == "processing" for record in records_of(body, "refunds"))
    if running and not any(refundable(body, payment) > ZERO for payment in paid.values()):
        raise Invalid(409, "order_refund_already_in_process", "A refund of all that is left is in process.")
    for payment_id, amount in wanted:
        payment = paid.get(payment_id or "")
        if payment is None or amount is None or decimal_of(payment.get("tip_amount")) <= ZERO:
            continue
        if decimal_of(amount) < decimal_of(payment.get("paid_amount")):
            message = "A payment with a tip can be refunded in full only."
            raise Invalid(403, "partial_refund_forbidden_with_tips", message)
