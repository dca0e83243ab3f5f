"""Pure: a sale of the legacy attended QR, read as an order like any other.

Such a sale has no order to ask for: the buyer's scan makes a merchant order, its attempts are payments, its refunds
belong to a payment (legacy fact sheet, §4, §5, §7). One payload holds all three:

    {"merchant_order": {…}, "payments": [{…}], "refunds": {"<payment number>": [{…}]}, "expiry"?: {"at", "passed"}}

`order_id` is `MO` and the merchant order's number, `type` is `legacy_qr`, statuses are those of the Orders API
(`legacy_status`). Amounts are JSON numbers there and are kept by their digits. `paid_amount` is `transaction_amount`,
not what the buyer's card was charged (`total_paid_amount`): the latter includes the buyer's interest and shipping and
leaves out what a coupon paid, while refunds, `transaction_amount_refunded` and the status `refunded` all reckon in
`transaction_amount`, and the merchant order's `total_amount` does, too.

`expiry` is ours: the provider does not say when a point of sale's order runs out, and may not say that it did.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from service.mercadopago.documents import (
    Fields,
    ReadOrder,
    amount_of,
    body_text,
    count_of,
    id_of,
    object_of,
    parse_time,
    parts_of,
    stated_currency,
    text_of,
)
from service.mercadopago.errors import NonsenseAnswer, UnreadableOrder
from service.mercadopago.json_text import JsonDocument, NotJson, canonical_hash, dumps, parse_json
from service.mercadopago.legacy_request import DEFAULT_TTL_SECONDS, order_body_v2
from service.mercadopago.legacy_status import order_status, payment_status, refund_status, waits_for_first_money
from service.orders.lifecycle import is_paid
from service.orders.money import ZERO, currency_for_country
from service.orders.snapshot import Chargeback, OrderSnapshot, Payment, Refund

__all__ = [
    "DEFAULT_TTL_SECONDS",
    "MERCHANT_ORDER_PREFIX",
    "ORDER_TYPE",
    "PAYMENT_PREFIX",
    "is_merchant_order_id",
    "is_number",
    "is_payment_hint_id",
    "listed_payments",
    "merchant_order_of",
    "needs_refunds",
    "order_body_v2",
    "payload_of",
    "read_merchant_order",
    "with_expiry",
]

ORDER_TYPE: Final = "legacy_qr"
MERCHANT_ORDER_PREFIX: Final = "MO"
PAYMENT_PREFIX: Final = "PY"

_NUMBER = re.compile(r"[0-9]{1,20}")


def is_merchant_order_id(order_id: str) -> bool:
    """Whether this is our id of a legacy sale: `MO` and the merchant order's number."""
    return order_id.startswith(MERCHANT_ORDER_PREFIX) and is_number(order_id[len(MERCHANT_ORDER_PREFIX) :])


def is_payment_hint_id(order_id: str) -> bool:
    """Whether this is a payment told of, `PY` and its number. It leads to a merchant order and is never an order."""
    return order_id.startswith(PAYMENT_PREFIX) and is_number(order_id[len(PAYMENT_PREFIX) :])


def is_number(text: str) -> bool:
    """Whether `text` can be the number of a merchant order or payment: 1 to 20 digits."""
    return _NUMBER.fullmatch(text) is not None


def merchant_order_of(payment: Mapping[str, object]) -> str | None:
    """The number of the merchant order that a payment (`GET /v1/payments/{id}`) belongs to; None for none."""
    number = text_of(object_of(payment.get("order")).get("id"))
    return number if number is not None and is_number(number) else None


def listed_payments(merchant_order: Fields) -> tuple[str, ...]:
    """The numbers of a merchant order's payments, each once. Raises `UnreadableOrder` for an entry without one."""
    listed = merchant_order.get("payments")
    numbers: dict[str, None] = {}
    for index, entry in enumerate(listed if isinstance(listed, list) else (listed,)):
        if entry is None or entry == {}:
            continue
        where = f"merchant_order.payments[{index}]"
        number = id_of(entry, where) if isinstance(entry, dict) else ""
        if not is_number(number):
            raise UnreadableOrder(f"{where} has no number")
        numbers[number] = None
    return tuple(numbers)


def needs_refunds(payment: Fields) -> bool:
    """Whether a payment's refunds have to be asked for, because the payment does not carry what it must have.

    It says that money went back and lists nothing; or it lists nothing at all, and its money has landed. Raises
    `UnreadableOrder`.
    """
    carried = payment.get("refunds")
    if isinstance(carried, list):
        return not carried and (amount_of(payment, "transaction_amount_refunded", "payment") or ZERO) > ZERO
    return is_paid(_payment(payment, "payment"))


def payload_of(
    merchant_order: JsonDocument, payments: Sequence[JsonDocument], refunds: Mapping[str, JsonDocument]
) -> str:
    """The payload as one JSON text, every digit as it came. `refunds` are those that were asked for, by payment."""
    shown = {number: document.text for number, document in refunds.items()}
    for payment in payments:
        fields = object_of(payment.value)
        number, carried = text_of(fields.get("id")), fields.get("refunds")
        if number and number not in shown and isinstance(carried, list) and carried:
            shown[number] = dumps(carried)
    listed = ",".join(f"{dumps(number)}:{text}" for number, text in shown.items())
    return (
        f'{{"merchant_order":{merchant_order.text},"payments":[{",".join(payment.text for payment in payments)}],'
        f'"refunds":{{{listed}}}}}'
    )


def read_merchant_order(raw: bytes, expected_order_id: str) -> ReadOrder:
    """Reads a payload of the form above.

    Raises `NonsenseAnswer` where it is none or another sale's, `UnreadableOrder` where it cannot be read as an order.
    """
    try:
        document = parse_json(raw)
    except NotJson as error:
        raise NonsenseAnswer(f"the payload is not JSON: {error}", status=200) from None
    payload = document.value
    if not isinstance(payload, dict) or not isinstance(payload.get("merchant_order"), dict):
        raise NonsenseAnswer("the payload holds no merchant order", status=200)
    try:
        snapshot = _snapshot(payload)
    except UnreadableOrder as error:
        error.body = body_text(raw)
        raise
    if snapshot.order_id != expected_order_id:
        raise NonsenseAnswer("the answer bears another merchant order's id", outcome="foreign_order", status=200)
    return ReadOrder(snapshot, document.text, canonical_hash(payload), document.altered)


def with_expiry(read: ReadOrder, expires_at: datetime, seen_at: datetime) -> ReadOrder:
    """The same sale, known to run out at `expires_at` and seen at `seen_at`.

    A sale that still waits for its first money after that reads as `expired`; one with a paid or pending payment never
    does. The expiry becomes part of the payload: reading that again gives the same order. Orders of other types are
    returned as they are. Source: legacy fact sheet, §1 and §4 (a buyer may still pay late, and money wins).
    """
    if read.snapshot.type != ORDER_TYPE:
        return read
    payload = object_of(parse_json(read.text.encode()).value)
    told = _snapshot({key: value for key, value in payload.items() if key != "expiry"})
    passed = seen_at > expires_at and waits_for_first_money(told.status, told.payments)
    at = expires_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    text = dumps(payload | {"expiry": {"at": at, "passed": passed}})
    return replace(read_merchant_order(text.encode(), told.order_id), altered=read.altered)


def _snapshot(payload: Fields) -> OrderSnapshot:
    order = object_of(payload.get("merchant_order"))
    order_id = MERCHANT_ORDER_PREFIX + id_of(order, "merchant_order")
    documents = payload.get("payments")
    payments = parts_of(documents, "payments", _payment, lambda payment: payment.payment_id)
    total_amount = amount_of(order, "total_amount", "merchant_order")
    status, status_detail = order_status(
        text_of(order.get("status")),
        text_of(order.get("order_status")),
        cancelled=order.get("cancelled") is True or order.get("canceled") is True,
        total_amount=total_amount,
        payments=payments,
    )
    expiry = object_of(payload.get("expiry"))
    if expiry.get("passed") is True and waits_for_first_money(status, payments):
        status, status_detail = "expired", "expired"
    site_id = text_of(order.get("site_id"))
    entries = [object_of(entry) for entry in documents] if isinstance(documents, list) else []
    return OrderSnapshot(
        order_id=order_id,
        type=ORDER_TYPE,
        status=status,
        status_detail=status_detail,
        user_id=text_of(object_of(order.get("collector")).get("id")),
        external_reference=text_of(order.get("external_reference")) or None,
        description=text_of(order.get("additional_info")) or None,
        total_amount=total_amount,
        currency=_currency(entries, site_id),
        country_code=site_id,
        created_at=parse_time(order.get("date_created")),
        updated_at=_latest(order, entries),
        expires_at=parse_time(expiry.get("at")),
        payments=payments,
        refunds=_refunds(payload.get("refunds"), payments),
        chargebacks=_chargebacks(entries, payments),
    )


def _payment(fields: Fields, where: str) -> Payment:
    number = id_of(fields, where)
    amount = amount_of(fields, "transaction_amount", where)
    return Payment(
        payment_id=number,
        status=payment_status(text_of(fields.get("status"))),
        status_detail=text_of(fields.get("status_detail")),
        amount=amount,
        paid_amount=amount,
        refunded_amount=amount_of(fields, "transaction_amount_refunded", where),
        method_id=text_of(fields.get("payment_method_id")),
        method_type=text_of(fields.get("payment_type_id")),
        installments=count_of(fields.get("installments")),
        reference_id=number,
        expires_at=parse_time(fields.get("date_of_expiration")),
    )


def _refunds(by_payment: object, payments: Sequence[Payment]) -> tuple[Refund, ...]:
    """All refunds, payment by payment."""
    listed = object_of(by_payment)
    refunds: list[Refund] = []
    for payment in payments:
        number = payment.payment_id
        refunds += parts_of(
            _oldest_first(listed.get(number)),
            f"refunds.{number}",
            partial(_refund, payment_id=number),
            lambda refund: refund.refund_id,
        )
    return tuple(refunds)


def _oldest_first(entries: object) -> object:
    """Refunds in the order of their dates: a failed one is made up for by those further down. As told without dates."""
    if not isinstance(entries, list):
        return entries
    dated = [(parse_time(object_of(entry).get("date_created")), place) for place, entry in enumerate(entries)]
    places = sorted((date, place) for date, place in dated if date is not None)
    return [entries[place] for _, place in places] if len(places) == len(entries) else entries


def _refund(fields: Fields, where: str, payment_id: str) -> Refund:
    number = id_of(fields, where)
    return Refund(
        refund_id=number,
        transaction_id=payment_id,
        amount=amount_of(fields, "amount", where),
        status=refund_status(text_of(fields.get("status"))),
        reference_id=number,
    )


def _chargebacks(entries: Sequence[Fields], payments: Sequence[Payment]) -> tuple[Chargeback, ...]:
    """Those that a payment carries with an id of their own; a payment that only says `charged_back` lists none."""
    details = {payment.payment_id: payment.status_detail for payment in payments if payment.status == "charged_back"}
    chargebacks: list[Chargeback] = []
    for entry in entries:
        number = text_of(entry.get("id")) or ""

        def read(fields: Fields, where: str, number: str = number) -> Chargeback:
            return Chargeback(
                chargeback_id=id_of(fields, where),
                transaction_id=number,
                amount=amount_of(fields, "amount", where),
                status=text_of(fields.get("status")) or details.get(number),
                case_id=text_of(fields.get("case_id")),
            )

        listed = entry.get("chargebacks")
        if isinstance(listed, list):
            with_id = [one for one in listed if isinstance(one, dict) and text_of(one.get("id"))]
            chargebacks += parts_of(with_id, f"chargebacks.{number}", read, lambda one: one.chargeback_id)
    return tuple(chargebacks)


def _currency(entries: Sequence[Fields], site_id: str | None) -> str | None:
    """What the first payment that names one was made in, else the site's."""
    stated = (stated_currency(entry.get("currency_id")) for entry in entries)
    return next((currency for currency in stated if currency), None) or currency_for_country(site_id)


def _latest(order: Fields, entries: Sequence[Fields]) -> datetime | None:
    """The latest of what the merchant order and its payments were changed at: a refund dates the payment alone."""
    dates = [parse_time(order.get("last_updated")), *(parse_time(entry.get("date_last_updated")) for entry in entries)]
    return max((date for date in dates if date is not None), default=None)
