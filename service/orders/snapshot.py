"""An order as one answer of `GET /v1/orders/{id}` shows it: the typed part of it that the rules decide from.

Amounts are `Decimal` in the order's `currency`, never negative. Times are timezone-aware UTC. Whatever the
provider left out is `None` (or an empty tuple): absent is the provider's usual way to say "none". Statuses are
free text, because the provider's own lists of them contradict each other (fact sheet of the Orders API, §4).
The whole answer, fields unknown to us included, is kept beside the snapshot as the stored `payload`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from typing import TypeVar

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class Payment:
    """One of `transactions.payments[]`. `reference_id` is the same payment's id in the Payments API and reports."""

    payment_id: str
    status: str | None = None
    status_detail: str | None = None
    amount: Decimal | None = None
    paid_amount: Decimal | None = None
    refunded_amount: Decimal | None = None
    tip_amount: Decimal | None = None
    method_id: str | None = None
    method_type: str | None = None
    installments: int | None = None
    provider: str | None = None
    reference_id: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Refund:
    """One of `transactions.refunds[]`; `transaction_id` names the payment (or cash-out) that it gives back.

    The provider dates no refund: its time is when we first saw it.
    """

    refund_id: str
    transaction_id: str | None = None
    amount: Decimal | None = None
    status: str | None = None
    status_detail: str | None = None
    reference_id: str | None = None


@dataclass(frozen=True, slots=True)
class Chargeback:
    """One of `transactions.chargebacks[]`."""

    chargeback_id: str
    transaction_id: str | None = None
    amount: Decimal | None = None
    status: str | None = None
    case_id: str | None = None


@dataclass(frozen=True, slots=True)
class CashOut:
    """One of `transactions.cash_outs[]`: cash handed to a buyer together with a QR purchase."""

    cash_out_id: str
    amount: Decimal | None = None
    status: str | None = None
    status_detail: str | None = None
    reference_id: str | None = None


@dataclass(frozen=True, slots=True)
class OrderSnapshot:
    """One order at one moment.

    `created_at` and `updated_at` are the provider's `created_date` and `last_updated_date`; `expires_at` is
    `created_date` + `expiration_time` (else the latest payment's own expiry); `currency` is ISO 4217, from the
    payload, else from `country_code`. Lists keep the provider's order, which matters: a failed refund is covered
    by refunds *further down*.

    An id names one record: where an answer lists an id twice in a list, the snapshot holds what was listed last,
    in the place of the first. So sums count no record twice, and tables keyed by the ids show what the rules saw.
    """

    order_id: str
    type: str | None = None
    status: str | None = None
    status_detail: str | None = None
    user_id: str | None = None
    external_reference: str | None = None
    description: str | None = None
    total_amount: Decimal | None = None
    currency: str | None = None
    country_code: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    expires_at: datetime | None = None
    payments: tuple[Payment, ...] = ()
    refunds: tuple[Refund, ...] = ()
    chargebacks: tuple[Chargeback, ...] = ()
    cash_outs: tuple[CashOut, ...] = ()

    @property
    def record_ids(self) -> set[str]:
        """The ids of all payments, refunds, chargebacks and cash-outs."""
        ids = {payment.payment_id for payment in self.payments}
        if self.refunds:
            ids.update([refund.refund_id for refund in self.refunds])
        if self.chargebacks:
            ids.update([chargeback.chargeback_id for chargeback in self.chargebacks])
        if self.cash_outs:
            ids.update([cash_out.cash_out_id for cash_out in self.cash_outs])
        return ids

    def __post_init__(self) -> None:
        """Leaves one record of each id."""
        for name, id_of in _ID_OF.items():
            records = getattr(self, name)
            if len(records) > 1:
                object.__setattr__(self, name, _one_of_each(records, id_of))


_ID_OF: dict[str, Callable[[object], str]] = {
    "payments": attrgetter("payment_id"),
    "refunds": attrgetter("refund_id"),
    "chargebacks": attrgetter("chargeback_id"),
    "cash_outs": attrgetter("cash_out_id"),
}


def _one_of_each(records: tuple[_Record, ...], id_of: Callable[[_Record], str]) -> tuple[_Record, ...]:
    by_id = {id_of(record): record for record in records}
    return records if len(by_id) == len(records) else tuple(by_id.values())
