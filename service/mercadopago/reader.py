"""From the provider's documents to an `OrderSnapshot`, tolerant of everything but unclear money. Pure.

`read_order` reads the answer of `GET /v1/orders/{id}`, `read_any` whatever is stored as an order's payload. The
provider's documents contradict each other about types, so a string may be a number, a list may be a lone object,
and all but the order's id may be absent (fact sheet of the Orders API, §3). What is not money and cannot be read is
left out of the snapshot and stays in the payload. Money is never guessed: an amount that is no number, a payment
without an id, two entries that tell different things under one id make the order unreadable.
"""

from collections.abc import Callable
from datetime import datetime

from service.mercadopago.documents import (
    MAX_BODY_TEXT,
    Fields,
    Part,
    ReadOrder,
    amount_of,
    body_text,
    count_of,
    id_of,
    object_of,
    parse_duration,
    parse_time,
    parts_of,
    stated_currency,
    text_of,
)
from service.mercadopago.errors import NonsenseAnswer, UnreadableOrder
from service.mercadopago.json_text import NotJson, canonical_hash, parse_json
from service.mercadopago.legacy import is_merchant_order_id, read_merchant_order
from service.orders.money import currency_for_country
from service.orders.snapshot import CashOut, Chargeback, OrderSnapshot, Payment, Refund

__all__ = [
    "MAX_BODY_TEXT",
    "ReadOrder",
    "body_text",
    "parse_duration",
    "parse_time",
    "read_any",
    "read_order",
]


def read_any(raw: bytes, order_id: str) -> ReadOrder:
    """Reads a stored payload, or a fresh one, with the reader that the id asks for.

    Raises as `read_order` does.
    """
    if is_merchant_order_id(order_id):
        return read_merchant_order(raw, order_id)
    return read_order(raw, order_id)


def read_order(raw: bytes, expected_order_id: str) -> ReadOrder:
    """Reads the body of a 200.

    Raises `NonsenseAnswer` where it is no JSON object or bears another order's id, which says nothing about the order
    that was asked for; `UnreadableOrder` where it is an object that cannot be read as an order.
    """
    try:
        document = parse_json(raw)
    except NotJson as error:
        raise NonsenseAnswer(f"the answer is not JSON: {error}", status=200) from None
    if not isinstance(document.value, dict):
        raise NonsenseAnswer("the answer is JSON, but no object", status=200)
    try:
        order_id = id_of(document.value, "order")
        if order_id != expected_order_id:
            raise NonsenseAnswer("the answer bears another order's id", outcome="foreign_order", status=200)
        snapshot = _snapshot(order_id, document.value)
    except UnreadableOrder as error:
        error.body = body_text(raw)
        raise
    return ReadOrder(snapshot, document.text, canonical_hash(document.value), document.altered)


def _snapshot(order_id: str, order: Fields) -> OrderSnapshot:
    transactions = _money_object(order.get("transactions"), "transactions")
    payments = _listed(transactions, "payments", _payment, lambda payment: payment.payment_id)
    created_at = parse_time(order.get("created_date"))
    country_code = text_of(order.get("country_code"))
    return OrderSnapshot(
        order_id=order_id,
        type=text_of(order.get("type")),
        status=_status(order),
        status_detail=text_of(order.get("status_detail")),
        user_id=text_of(order.get("user_id")),
        external_reference=text_of(order.get("external_reference")),
        description=text_of(order.get("description")),
        total_amount=amount_of(order, "total_amount", "order"),
        currency=_currency(order, country_code),
        country_code=country_code,
        created_at=created_at,
        updated_at=parse_time(order.get("last_updated_date")),
        expires_at=_expires_at(created_at, order.get("expiration_time"), payments),
        payments=payments,
        refunds=_listed(transactions, "refunds", _refund, lambda refund: refund.refund_id),
        chargebacks=_listed(transactions, "chargebacks", _chargeback, lambda chargeback: chargeback.chargeback_id),
        cash_outs=_listed(transactions, "cash_outs", _cash_out, lambda cash_out: cash_out.cash_out_id),
    )


def _status(order: Fields) -> str | None:
    status = order.get("status")
    if not isinstance(status, str) or not status.strip():
        raise UnreadableOrder("order has no status")
    return text_of(status)


def _payment(fields: Fields, where: str) -> Payment:
    method = object_of(fields.get("payment_method"))
    return Payment(
        payment_id=id_of(fields, where),
        status=text_of(fields.get("status")),
        status_detail=text_of(fields.get("status_detail")),
        amount=amount_of(fields, "amount", where),
        paid_amount=amount_of(fields, "paid_amount", where),
        refunded_amount=amount_of(fields, "refunded_amount", where),
        tip_amount=amount_of(fields, "tip_amount", where),
        method_id=text_of(method.get("id")),
        method_type=text_of(method.get("type")),
        installments=count_of(method.get("installments")),
        provider=text_of(fields.get("provider")),
        reference_id=text_of(fields.get("reference_id")),
        expires_at=parse_time(fields.get("date_of_expiration")),
    )


def _refund(fields: Fields, where: str) -> Refund:
    return Refund(
        refund_id=id_of(fields, where),
        transaction_id=text_of(fields.get("transaction_id")),
        amount=amount_of(fields, "amount", where),
        status=text_of(fields.get("status")),
        status_detail=text_of(fields.get("status_detail")),
        reference_id=text_of(fields.get("reference_id")),
    )


def _chargeback(fields: Fields, where: str) -> Chargeback:
    return Chargeback(
        chargeback_id=id_of(fields, where),
        transaction_id=text_of(fields.get("transaction_id")),
        amount=amount_of(fields, "amount", where),
        status=text_of(fields.get("status")),
        case_id=text_of(fields.get("case_id")),
    )


def _cash_out(fields: Fields, where: str) -> CashOut:
    return CashOut(
        cash_out_id=id_of(fields, where),
        amount=amount_of(fields, "amount", where),
        status=text_of(fields.get("status")),
        status_detail=text_of(fields.get("status_detail")),
        reference_id=text_of(fields.get("reference_id")),
    )


def _listed(
    transactions: Fields, name: str, read: Callable[[Fields, str], Part], name_of: Callable[[Part], str]
) -> tuple[Part, ...]:
    return parts_of(transactions.get(name), f"transactions.{name}", read, name_of)


def _money_object(value: object, where: str) -> Fields:
    """An object that holds money: absent, null and the empty list are "none"; a list of one object is that object."""
    if value is None or value == []:
        return {}
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        raise UnreadableOrder(f"{where} is no object")
    return value


def _currency(order: Fields, country_code: str | None) -> str | None:
    """The payload's own currency, else its country's, else its site's. A webhook's name for it is accepted, too."""
    stated = stated_currency(order.get("currency")) or stated_currency(order.get("currency_id"))
    return stated or currency_for_country(country_code) or currency_for_country(text_of(order.get("site_id")))


def _expires_at(created_at: datetime | None, expiration_time: object, payments: tuple[Payment, ...]) -> datetime | None:
    lifetime = parse_duration(expiration_time)
    if created_at is not None and lifetime is not None:
        try:
            return created_at + lifetime
        except OverflowError:
            return None
    return max((payment.expires_at for payment in payments if payment.expires_at is not None), default=None)
