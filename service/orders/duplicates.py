"""Sales of one account that share an `external_reference`: the same goods sold, and paid, twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from service.orders.rules import DUPLICATE_SALE, Finding
from service.orders.rules.finding import spoken

_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sale:
    """An order that is paid and not fully refunded (`lifecycle.is_sale`); `amount` is what was paid, in `currency`."""

    order_id: str
    created_at: datetime | None
    amount: Decimal
    currency: str | None


def find_duplicates(external_reference: str, sales: Sequence[Sale]) -> dict[str, Finding]:
    """`duplicate_sale` findings by order id: of every sale but the earliest created, whose id is their subject.

    `sales` are all the sales of one account that bear `external_reference`, in any order. Sales of one time are taken
    by order id; those without a time come last. An empty reference has no duplicates.
    """
    if not external_reference:
        return {}
    by_id = {sale.order_id: sale for sale in sales}
    ranked = sorted(by_id.values(), key=lambda sale: (sale.created_at or _LAST, sale.created_at is None, sale.order_id))
    return {sale.order_id: _finding(external_reference, ranked[0], sale) for sale in ranked[1:]}


def _finding(external_reference: str, earliest: Sale, sale: Sale) -> Finding:
    return Finding(
        rule=DUPLICATE_SALE,
        subject_id=earliest.order_id,
        severity="critical",
        amount_at_stake=sale.amount,
        currency=sale.currency,
        expected=f"one paid order with reference {external_reference}",
        actual=f"{earliest.order_id} is paid too",
        explanation=f"Reference {external_reference} was paid more than once: {spoken(sale.amount, sale.currency)} on "
        f"this order, after {spoken(earliest.amount, earliest.currency)} on order {earliest.order_id}.",
    )
