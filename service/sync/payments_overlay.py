"""Pure: an order that is shown no more, brought up to date by what the Payments API tells of its payments.

`GET /v1/orders/{id}` is documented for orders of the last three months; money moves for longer. A payment of an order
is the same payment in the Payments API, under its `reference_id` (fact sheet of the Orders API, §3; legacy fact sheet,
§5). What is told there is laid over the last document of the order. Nothing is guessed: what it does not tell stays.

The document that comes of it is an order's document like any other, with two members more:

    "payments_api": {"<reference_id>": {the payment as answered, without its payer}}
    "order_document_date": the `last_updated_date` of the last document that the order itself was shown with

Both are written only where a status, an amount or a refund differs: a look that finds nothing new changes nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from service.mercadopago.documents import Fields, ReadOrder, amount_of, id_of, object_of, parse_time, parts_of, text_of
from service.mercadopago.json_text import JsonDocument, dumps, parse_json
from service.mercadopago.legacy import is_number
from service.mercadopago.legacy_status import REFUND_STATUSES
from service.mercadopago.payer import without_payer
from service.mercadopago.reader import read_any
from service.orders.history import History
from service.orders.lifecycle import (
    CLOSED_STATUSES,
    PAID_STATUSES,
    REFUND_FAILED,
    REFUND_PROCESSED,
    canonical_status,
    is_paid,
)
from service.orders.money import ZERO, plain
from service.orders.snapshot import OrderSnapshot, Refund

PAYMENTS_MEMBER: Final = "payments_api"
DATE_MEMBER: Final = "order_document_date"

# What else the Payments API says (pending, in_process, authorized, …) tells nothing of money that the order knows of.
PAYMENT_STATUSES: Final = {
    "approved": "processed",
    "in_mediation": "processed",
    "refunded": "refunded",
    "charged_back": "charged_back",
    "cancelled": "canceled",
    "canceled": "canceled",
    "rejected": "failed",
}


def references_of(snapshot: OrderSnapshot) -> dict[str, bool]:
    """The numbers to ask the Payments API for, each with whether its payment is paid.

    Empty where that would not tell all: there is none, or a paid payment has none. A reference that two payments share
    says nothing of either.
    """
    shared = Counter(payment.reference_id for payment in snapshot.payments)
    references: dict[str, bool] = {}
    for payment in snapshot.payments:
        reference = payment.reference_id
        if reference is not None and is_number(reference) and shared[reference] == 1:
            references[reference] = is_paid(payment)
        elif is_paid(payment):
            return {}
    return references


def laid_over(last: ReadOrder, payments: Mapping[str, Fields]) -> ReadOrder:
    """The order as its payments tell it; the very same `last` where they tell nothing new.

    `payments` are answers of `GET /v1/payments/{id}` by reference id. Raises `UnreadableOrder` for an amount that is
    none, and for a refund without an id.
    """
    order = object_of(parse_json(last.text.encode()).value)
    transactions = object_of(order.get("transactions"))
    before, refunds_before = _entries(transactions.get("payments")), _entries(transactions.get("refunds"))
    entries, refunds = [], refunds_before
    for entry in before:
        told = payments.get(text_of(entry.get("reference_id")) or "")
        if told is not None:
            refunds = _with_refunds(refunds, entry, told)
            entry = entry | _payment_changes(entry, told)  # noqa: PLW2901 - the same payment, changed
        entries.append(entry)
    if entries == before and refunds == refunds_before:
        return last
    transactions = transactions | {"payments": entries} | ({"refunds": refunds} if refunds else {})
    changed = order | {"transactions": transactions} | _order_changes(order, entries)
    changed |= _dates(order, last.snapshot.updated_at, payments)
    shown = {reference: _without_payer(payment) for reference, payment in payments.items()}
    changed[PAYMENTS_MEMBER] = object_of(order.get(PAYMENTS_MEMBER)) | shown
    read = read_any(dumps(changed).encode(), last.snapshot.order_id)
    return replace(read, altered=last.altered)


def under_their_own_names(history: History, snapshot: OrderSnapshot) -> History:
    """`history` without refunds that were known by the Payments API's id, and that the order now shows with its own.

    Such a refund has not vanished. It is the one that names that id as its reference; else one that names no such id,
    is new, and is of the same amount.
    """
    shown = {refund.refund_id for refund in snapshot.refunds}
    borrowed = {
        name: record.amount
        for name, record in history.records.items()
        if record.kind == "refund" and is_number(name) and name not in shown
    }
    if not borrowed:
        return history
    own = [refund for refund in snapshot.refunds if not is_number(refund.refund_id)]
    named = {refund.reference_id for refund in own} & borrowed.keys()
    amounts = [
        refund.amount for refund in own if refund.reference_id not in named and refund.refund_id not in history.records
    ]
    for name, amount in borrowed.items():
        if name not in named and amount in amounts:
            amounts.remove(amount)
            named.add(name)
    return replace(history, records={name: one for name, one in history.records.items() if name not in named})


def _entries(listed: object) -> list[Fields]:
    entries = listed if isinstance(listed, list) else [listed]
    return [entry for entry in entries if isinstance(entry, dict) and entry]


def _payment_changes(entry: Fields, told: Fields) -> dict[str, object]:
    where = "payment of the Payments API"
    before, word = canonical_status(text_of(entry.get("status"))), text_of(told.get("status")) or ""
    was_paid, status = before in PAID_STATUSES, PAYMENT_STATUSES.get(word)
    if status is None or (status in CLOSED_STATUSES and before in PAID_STATUSES | CLOSED_STATUSES):
        status = before
    changes: dict[str, object] = {} if status == before else {"status": status}
    if status in PAID_STATUSES:
        refunded = amount_of(told, "transaction_amount_refunded", where)
        if refunded is not None and refunded != (amount_of(entry, "refunded_amount", "payment") or ZERO):
            changes["refunded_amount"] = _spelled(refunded, entry)
        paid = amount_of(told, "transaction_amount", where)
        if not was_paid and paid is not None:
            # An unpaid payment's own `paid_amount` is no evidence.
            changes["paid_amount"] = _spelled(paid, entry)
    detail = text_of(told.get("status_detail"))
    speaks_of_it = PAYMENT_STATUSES.get(word) == status and word != "in_mediation"
    if detail and speaks_of_it and (changes or status == "charged_back") and detail != entry.get("status_detail"):
        changes["status_detail"] = detail
    return changes


def _with_refunds(refunds: list[Fields], payment: Fields, told: Fields) -> list[Fields]:
    """The order's refunds with those of one payment as the Payments API lists them; the others as they are."""
    payment_id = id_of(payment, "payment")
    listed = _listed_refunds(told, payment_id)
    own = [place for place, refund in enumerate(refunds) if text_of(refund.get("transaction_id")) == payment_id]
    pairs = _paired([refunds[place] for place in own], listed)
    result = list(refunds)
    for place, told_refund in zip(own, pairs, strict=True):
        if told_refund is not None and told_refund.status in REFUND_STATUSES.values():
            status = text_of(result[place].get("status"))
            if status != told_refund.status:
                result[place] = result[place] | {"status": told_refund.status}
    for refund in listed:
        if refund not in pairs:
            amount = None if refund.amount is None else _spelled(refund.amount, payment)
            named: Fields = {"id": refund.refund_id, "transaction_id": payment_id, "reference_id": refund.refund_id}
            result.append(named | {"amount": amount, "status": refund.status})
    return result


def _listed_refunds(told: Fields, payment_id: str) -> tuple[Refund, ...]:
    """The payment's refunds in the words of orders, oldest first where all are dated."""

    def read(fields: Fields, where: str) -> Refund:
        word = text_of(fields.get("status"))
        return Refund(
            refund_id=id_of(fields, where),
            transaction_id=payment_id,
            amount=amount_of(fields, "amount", where),
            status=None if word is None else REFUND_STATUSES.get(word, word),
        )

    entries = _entries(told.get("refunds"))
    dates = [(parse_time(entry.get("date_created")), place) for place, entry in enumerate(entries)]
    dated = sorted((date, place) for date, place in dates if date is not None)
    if len(dated) == len(entries):
        entries = [entries[place] for _, place in dated]
    return parts_of(entries, "payment.refunds", read, lambda refund: refund.refund_id)


def _paired(own: Sequence[Fields], listed: Sequence[Refund]) -> list[Refund | None]:
    """For each of the order's refunds the listed one that it is: by its reference, else by its amount.

    Both lists are of one payment and whole, so what is left over on both sides and is of one amount is one refund under
    two names: it must not count twice.
    """
    left = {refund.refund_id: refund for refund in listed}
    pairs: list[Refund | None] = []
    for refund in own:
        names = (text_of(refund.get("reference_id")) or "", text_of(refund.get("id")) or "")
        pairs.append(next((left.pop(name) for name in names if name in left), None))
    for place, refund in enumerate(own):
        if pairs[place] is None:
            amount, status = amount_of(refund, "amount", "refund"), text_of(refund.get("status"))
            same = (
                name
                for name, one in left.items()
                if one.amount is not None and one.amount == amount and _may_become(status, one.status)
            )
            name = next(same, None)
            pairs[place] = None if name is None else left.pop(name)
    return pairs


def _may_become(status: str | None, told: str | None) -> bool:
    """Whether a refund of this status can be told of with that one: what has ended stays ended."""
    return status not in (REFUND_FAILED, REFUND_PROCESSED) or (status == REFUND_FAILED) == (told == REFUND_FAILED)


def _order_changes(order: Fields, payments: Sequence[Fields]) -> dict[str, object]:
    """The order follows its payments where all that was paid is given back, or a payment is charged back."""
    paid = [payment for payment in payments if text_of(payment.get("status")) in PAID_STATUSES]
    charged_back = [payment for payment in paid if payment.get("status") == "charged_back"]
    if paid and all(payment.get("status") == "refunded" for payment in paid):
        status, detail = "refunded", "refunded"
    elif charged_back:
        status, detail = "charged_back", text_of(charged_back[0].get("status_detail")) or "charged_back"
    else:
        return {}
    if (text_of(order.get("status")), text_of(order.get("status_detail"))) == (status, detail):
        return {}
    return {"status": status, "status_detail": detail}


def _dates(order: Fields, updated_at: datetime | None, payments: Mapping[str, Fields]) -> dict[str, object]:
    """The order's date moves on to its payments' latest; the date of its own last document is kept beside it."""
    dates = [parse_time(payment.get("date_last_updated")) for payment in payments.values()]
    latest = max((date for date in dates if date is not None), default=None)
    changes: dict[str, object] = {DATE_MEMBER: order.get(DATE_MEMBER, order.get("last_updated_date"))}
    if latest is not None and (updated_at is None or latest > updated_at):
        changes["last_updated_date"] = latest.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return changes


def _spelled(amount: Decimal, payment: Fields) -> str:
    """The amount as text, every digit as told, with at least the decimals that the payment's own amount has."""
    told, own = plain(amount), plain(amount_of(payment, "amount", "payment") or ZERO)
    missing = len(own.partition(".")[2]) - len(told.partition(".")[2])
    return told if missing <= 0 else told + ("" if "." in told else ".") + "0" * missing


def _without_payer(payment: Fields) -> object:
    return without_payer(JsonDocument(payment, dumps(payment), altered=False)).value
