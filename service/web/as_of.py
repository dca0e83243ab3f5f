"""An order's parts: as the tables show them now, or as one version's payload shows them.

A version keeps the whole answer of the provider, so its parts are read from there again; the tables add only what an
answer does not say: when a part was first seen, and which parts had vanished by then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from service.mercadopago.errors import MercadoPagoError
from service.mercadopago.reader import read_any
from service.orders.snapshot import OrderSnapshot
from service.web.errors import ApiError
from service.web.models import CashOut, Chargeback, Part, Payment, Refund, documents
from service.web.statements import QUERIES

if TYPE_CHECKING:
    from service.database.pool import Connection

P = TypeVar("P", bound=Part)


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that hangs on one order."""

    payments: list[Payment]
    refunds: list[Refund]
    chargebacks: list[Chargeback]
    cash_outs: list[CashOut]

    def fields(self) -> dict[str, Any]:
        """The parts by their names in an answer."""
        return {name: getattr(self, name) for name in self.__slots__}


async def read_parts(connection: "Connection", order_id: str) -> Parts:
    """The parts as they are stored now, in the provider's order."""
    return Parts(
        documents(Payment, await connection.fetch(QUERIES.read_payments, order_id)),
        documents(Refund, await connection.fetch(QUERIES.read_refunds, order_id)),
        documents(Chargeback, await connection.fetch(QUERIES.read_chargebacks, order_id)),
        documents(CashOut, await connection.fetch(QUERIES.read_cash_outs, order_id)),
    )


def snapshot_of(order_id: str, payload: str) -> OrderSnapshot:
    """The order that a stored payload shows. Raises `ApiError` where today's reader refuses it."""
    try:
        return read_any(payload.encode(), order_id).snapshot
    except MercadoPagoError as error:
        raise ApiError(500, "unreadable_version", f"the payload of that version cannot be read: {error}") from None


def parts_at(snapshot: OrderSnapshot, now: Parts, moment: datetime) -> Parts:
    """The parts at `moment`, when `snapshot` was stored; `now` is what the tables hold today."""
    common = {"order_id": snapshot.order_id, "currency": snapshot.currency}
    payments = [common | _fields(one) for one in snapshot.payments]
    refunds = [common | _fields(one) for one in snapshot.refunds]
    chargebacks = [common | _fields(one) for one in snapshot.chargebacks]
    cash_outs = [common | _fields(one) for one in snapshot.cash_outs]
    return Parts(
        _then(Payment, "payment_id", payments, now.payments, moment),
        _then(Refund, "refund_id", refunds, now.refunds, moment),
        _then(Chargeback, "chargeback_id", chargebacks, now.chargebacks, moment),
        _then(CashOut, "cash_out_id", cash_outs, now.cash_outs, moment),
    )


def _fields(part: Any) -> dict[str, Any]:
    """A part of the snapshot by the tables' column names."""
    fields = {name: getattr(part, name) for name in part.__slots__}
    if "transaction_id" in fields:
        fields["payment_id"] = fields.pop("transaction_id")
    return fields


def _then(model: type[P], key: str, shown: list[dict[str, Any]], stored: Sequence[P], moment: datetime) -> list[P]:
    first_seen = {getattr(row, key): row.first_seen_at for row in stored}
    found = [model(**fields, first_seen_at=first_seen.get(fields[key]), vanished_at=None) for fields in shown]
    ids = {fields[key] for fields in shown}
    gone = [row for row in stored if getattr(row, key) not in ids and row.vanished_at and row.vanished_at <= moment]
    return found + gone
