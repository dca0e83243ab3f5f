"""What can happen to an order, as pure changes of its body (orders fact sheet, §4 and §7).

Each change alters the body in place, leaves its dates alone, and returns the notification it deserves
(`order.<event>`, or `None`). One that the order's state forbids raises `Forbidden`; the ledger then keeps the old body.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from .draws import Draws
from .ids import ulid
from .money import ZERO, Json, decimal_of, total, written_like
from .payloads import payments_of, records_of, reference_id

OPEN = frozenset({"created", "at_terminal", "processing", "action_required"})
UNPAID_END = frozenset({"expired", "canceled", "failed"})
PAID = frozenset({"processed", "refunded", "charged_back"})

ALLOWED: Mapping[str, frozenset[str]] = {
    "pay": OPEN | UNPAID_END,
    "expire": OPEN,
    "cancel": OPEN,
    "fail": OPEN,
    "terminal": frozenset({"created"}),
    "processing": frozenset({"created", "action_required"}),
    "action_required": frozenset({"created", "at_terminal", "processing"}),
    "refund": frozenset({"processed"}),
    "chargeback": PAID,
}
"""From which order statuses each change may start."""

METHODS: tuple[Json, ...] = (
    {"id": "account_money", "type": "account_money", "installments": 1},
    {"id": "visa", "type": "credit_card", "installments": 1},
    {"id": "master", "type": "credit_card", "installments": 3},
    {"id": "master", "type": "debit_card", "installments": 1},
)
EVENT_OF_STATUS = {
    "processed": "order.processed",
    "canceled": "order.canceled",
    "expired": "order.expired",
    "refunded": "order.refunded",
    "failed": "order.failed",
    "action_required": "order.action_required",
    "charged_back": "order.charged_back",
}


class Forbidden(Exception):  # noqa: N818 - names the refusal, as the provider does
    """The order's state does not allow this change. `code` is the provider's word for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Chance:
    """Where a change takes its time and its draws from; `key` names the order, `version` the change."""

    at: datetime
    draws: Draws
    key: str
    version: int

    def new_id(self, prefix: str) -> str:
        """A fresh id of this moment."""
        return prefix + ulid(self.at, self.draws.number(prefix, self.key, self.version))

    def reference(self, *about: object) -> str:
        """A fresh id of the Payments API."""
        return reference_id(self.draws, self.key, self.version, *about)


def event_of(body: Json) -> str | None:
    """The event that announces the state a body shows; none for created, at_terminal, processing and unknown ones."""
    if body.get("status") == "processed" and body.get("status_detail") == "partially_refunded":
        return "order.refunded"
    return EVENT_OF_STATUS.get(str(body.get("status")))


def require(body: Json, change: str, code: str) -> None:
    """Raise `Forbidden` unless the order's status allows the change."""
    status = body.get("status")
    if status not in ALLOWED[change]:
        raise Forbidden(code, f"current status '{status}' does not allow {change}")


def pay(
    body: Json,
    chance: Chance,
    *,
    paid_amount: str | None = None,
    tip_amount: str | None = None,
    payment_method: Json | None = None,
    provider: str | None = None,
) -> str | None:
    """Money lands on every unpaid payment. `paid_amount` and `tip_amount` belong to the first of them."""
    require(body, "pay", "cannot_pay_order")
    for index, payment in enumerate(payments_of(body)):
        if payment.get("status") in PAID:
            continue
        method = payment_method or payment.get("payment_method") or chance.draws.pick(METHODS, "method", chance.key)
        due = _discounted(body, payment, method) if paid_amount is None else decimal_of(paid_amount)
        if tip_amount is not None:
            payment["tip_amount"] = tip_amount
            due += decimal_of(tip_amount) if paid_amount is None else ZERO
        payment["paid_amount"] = written_like(due, payment.get("amount"))
        payment.setdefault("reference_id", chance.reference(index))
        payment["payment_method"] = dict(method)
        if provider is not None:
            payment["provider"] = provider
        if body.get("type") == "point" and "card" in str(method.get("type")):
            payment["card"] = {"first_digits": "503175", "last_digits": f"{chance.draws.below(10**4, chance.key):04d}"}
        payment |= {"status": "processed", "status_detail": "accredited"}
        paid_amount = tip_amount = None
    paid = total(payment.get("paid_amount") for payment in payments_of(body))
    body["total_paid_amount"] = written_like(paid, body.get("total_amount", "0.00"))
    body |= {"status": "processed", "status_detail": "accredited"}
    return event_of(body)


def _discounted(body: Json, payment: Json, method: Json) -> Decimal:
    discounts = body.get("discounts")
    offers = discounts.get("payment_methods") if isinstance(discounts, dict) else None
    for offer in offers or ():
        if offer.get("type") == method.get("type") and len(payments_of(body)) == 1:
            return decimal_of(offer.get("new_total_amount"))
    return decimal_of(payment.get("amount"))


def refund(
    body: Json, chance: Chance, *, amount: str | None = None, payment_id: str | None = None, status: str = "processed"
) -> list[Json]:
    """Give money back: `amount` of one payment, else all that is left of every paid one. Returns the new refunds.

    Refunds that are `processing` count as given back; the order shows it once they are `processed`.
    """
    require(body, "refund", "cannot_refund_order")
    targets = _refund_targets(body, payment_id)
    wanted = [(payment, refundable(body, payment)) for payment in targets]
    wanted = [(payment, left) for payment, left in wanted if left > ZERO]
    if not wanted:
        raise Forbidden("order_already_refunded", "nothing is left to refund")
    if amount is not None:
        payment, left = wanted[0]
        if not ZERO < decimal_of(amount) <= left:
            raise Forbidden("refund_amount_exceeds", f"only {left} of the payment is left to refund")
        wanted = [(payment, decimal_of(amount))]
    new = []
    for index, (payment, value) in enumerate(wanted, start=len(records_of(body, "refunds"))):
        new.append(
            {
                "id": "REF" + ulid(chance.at, chance.draws.number("REF", chance.key, chance.version, index)),
                "transaction_id": payment["id"],
                "reference_id": chance.reference("refund", index),
                "amount": written_like(value, payment.get("amount")),
                "status": status,
            }
        )
    body["transactions"].setdefault("refunds", []).extend(new)
    _show_refunds(body)
    return new


def end_refund(body: Json, refund_id: str, status: str) -> None:
    """A refund that was `processing` ends `processed` or `failed`."""
    for record in records_of(body, "refunds"):
        if record.get("id") == refund_id:
            if record.get("status") != "processing":
                raise Forbidden("action_not_allowed_for_current_state", f"refund {refund_id} is {record.get('status')}")
            record["status"] = status
            _show_refunds(body)
            return
    raise Forbidden("transaction_not_found", f"the order has no refund {refund_id}")


def is_processing(body: Json, refund_id: str) -> bool:
    """Whether the order has such a refund, and it has not ended."""
    return any(one.get("id") == refund_id and one.get("status") == "processing" for one in records_of(body, "refunds"))


def ending(refund_id: str, status: str) -> Callable[[Json, Chance], str | None]:
    """The change that ends a refund which was `processing`."""

    def change(body: Json, _chance: Chance) -> str | None:
        end_refund(body, refund_id, status)
        return event_of(body) if status == "processed" else None

    return change


def _refund_targets(body: Json, payment_id: str | None) -> list[Json]:
    paid = [payment for payment in payments_of(body) if payment.get("status") == "processed"]
    if payment_id is None:
        return paid
    chosen = [payment for payment in paid if payment.get("id") == payment_id]
    if not chosen:
        raise Forbidden("transaction_not_found", f"the order has no paid payment {payment_id}")
    return chosen


def refundable(body: Json, payment: Json) -> Decimal:
    """What is left of a payment: its paid amount less the refunds that are processed or processing."""
    taken = total(
        record.get("amount")
        for record in records_of(body, "refunds")
        if record.get("transaction_id") == payment.get("id") and record.get("status") in {"processed", "processing"}
    )
    return decimal_of(payment.get("paid_amount")) - taken


def _show_refunds(body: Json) -> None:
    """Set what payments and order say about the refunds that are processed. Chargebacks keep their status."""
    all_back = True
    any_back = False
    for payment in payments_of(body):
        if payment.get("status") not in {"processed", "refunded"}:
            continue
        given_back = total(
            record.get("amount")
            for record in records_of(body, "refunds")
            if record.get("transaction_id") == payment.get("id") and record.get("status") == "processed"
        )
        if given_back > ZERO:
            any_back = True
            payment["refunded_amount"] = written_like(given_back, payment.get("amount"))
            whole = given_back >= decimal_of(payment.get("paid_amount"))
            detail = ("refunded", "refunded") if whole else ("processed", "partially_refunded")
            payment["status"], payment["status_detail"] = detail
        all_back = all_back and payment.get("status") == "refunded"
    if any_back and body.get("status") == "processed":
        detail = ("refunded", "refunded") if all_back else ("processed", "partially_refunded")
        body["status"], body["status_detail"] = detail


def chargeback(body: Json, chance: Chance, *, status: str = "in_process", amount: str | None = None) -> str | None:
    """The buyer's bank takes the money back (`in_process`), for good (`settled`), or returns it (`reimbursed`)."""
    require(body, "chargeback", "action_not_allowed_for_current_state")
    open_cases = [case for case in records_of(body, "chargebacks") if case.get("status") == "in_process"]
    if open_cases:
        case = open_cases[-1]
        case["status"] = status
        if amount is not None:
            case["amount"] = amount
    else:
        case = _new_chargeback(body, chance, status, amount)
        body["transactions"].setdefault("chargebacks", []).append(case)
    for payment in payments_of(body):
        if payment.get("id") == case.get("transaction_id"):
            payment |= {"status": "charged_back", "status_detail": status}
    body |= {"status": "charged_back", "status_detail": status}
    return event_of(body)


def _new_chargeback(body: Json, chance: Chance, status: str, amount: str | None) -> Json:
    paid = [payment for payment in payments_of(body) if payment.get("status") in PAID]
    if not paid:
        raise Forbidden("transaction_not_found", "the order has no paid payment")
    payment = paid[0]
    left = refundable(body, payment)
    value = decimal_of(amount) if amount is not None else left if left > ZERO else decimal_of(payment["paid_amount"])
    return {
        "id": chance.new_id("CBK"),
        "transaction_id": payment.get("id"),
        "case_id": str(217 * 10**9 + chance.draws.below(10**9, "case", chance.key, chance.version)),
        "status": status,
        "amount": written_like(value, payment.get("amount")),
        "references": [payment.get("reference_id")],
    }


def expire(body: Json, *, status: str | None = None) -> str | None:
    """Time ran out. An online order shows up as `canceled/expired`, as observed, unless a `status` is given."""
    require(body, "expire", "cannot_expire_order")
    _end_payments(body, "expired", "expired")
    usual = "canceled" if body.get("type") == "online" else "expired"
    body |= {"status": status or usual, "status_detail": "expired"}
    return event_of(body)


def cancel(body: Json, *, status_detail: str | None = None) -> str | None:
    """Canceled by the API, or on the terminal when the order had reached it."""
    require(body, "cancel", "cannot_cancel_order")
    detail = "canceled_by_api"
    if body.get("type") == "online":
        detail = "canceled_transaction"
    elif body.get("status") in {"at_terminal", "action_required"}:
        detail = "canceled_on_terminal"
    _end_payments(body, "canceled", status_detail or detail)
    body |= {"status": "canceled", "status_detail": "canceled"}
    return event_of(body)


def fail(body: Json, chance: Chance, *, status_detail: str | None = None) -> str | None:
    """Declined for good; the reason stands in the payment."""
    require(body, "fail", "action_not_allowed_for_current_state")
    for index, payment in enumerate(payments_of(body)):
        payment.setdefault("reference_id", chance.reference(index))
        payment.setdefault("payment_method", dict(METHODS[1]))
        if body.get("type") == "online":
            payment["paid_amount"] = payment.get("amount")  # misleading, as measured
    _end_payments(body, "failed", status_detail or "insufficient_amount")
    body |= {"status": "failed", "status_detail": "failed"}
    return event_of(body)


def terminal(body: Json) -> str | None:
    """The device picked the order up."""
    require(body, "terminal", "action_not_allowed_for_current_state")
    _end_payments(body, "at_terminal", "at_terminal")
    body |= {"status": "at_terminal", "status_detail": "at_terminal"}
    return event_of(body)


def processing(body: Json, *, status_detail: str | None = None) -> str | None:
    """An online payment is under review."""
    require(body, "processing", "action_not_allowed_for_current_state")
    detail = status_detail or "in_process"
    _end_payments(body, "processing", detail)
    body |= {"status": "processing", "status_detail": detail}
    return event_of(body)


def action_required(body: Json, *, status_detail: str | None = None) -> str | None:
    """Someone has to act: look at the terminal, transfer the money, pass the challenge."""
    require(body, "action_required", "action_not_allowed_for_current_state")
    online = body.get("type") == "online"
    detail = status_detail or ("waiting_transfer" if online else "check_on_terminal")
    _end_payments(body, "action_required", detail)
    body |= {"status": "action_required", "status_detail": detail if online else "action_required"}
    return event_of(body)


def _end_payments(body: Json, status: str, status_detail: str) -> None:
    for payment in payments_of(body):
        if payment.get("status") not in PAID:
            payment |= {"status": status, "status_detail": status_detail}
