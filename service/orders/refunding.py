"""What is left to refund of each payment, and the share of it that a new refund takes.

    processed + processing + charged back + reserved + asked <= paid        for every payment

`reserved` is what commands that are still open have asked for and no refund shows yet. A refund made in the provider's
panel is a refund like any other here: it is counted once, when it shows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from service.orders.asked import AskedCommand
from service.orders.lifecycle import CHARGEBACK_TAKES, REFUND_FAILED, REFUND_PROCESSED, is_paid, paid_sum
from service.orders.money import ZERO, less, plain, total_of
from service.orders.snapshot import Chargeback, Payment, Refund


class RefundRefused(Exception):  # noqa: N818 - a refusal, named as it is said; it is no fault
    """A refund that must not be asked for. `message` is one sentence for the person at the till.

    `code`: unknown_payment, nothing_paid, nothing_left, exceeds_left, amount_needs_payment, not_positive.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Left:
    """Where one payment's money stands; all amounts in the order's currency. `left` is never negative."""

    payment_id: str
    paid: Decimal
    refunded: Decimal
    processing: Decimal
    reserved: Decimal
    charged_back: Decimal = ZERO

    @property
    def left(self) -> Decimal:
        """What a new refund of this payment may come to."""
        return max(ZERO, less(self.paid, total_of((self.refunded, self.processing, self.reserved, self.charged_back))))

    def __str__(self) -> str:
        taken = f"{plain(self.charged_back)} charged back, " if self.charged_back else ""
        return (
            f"{plain(self.paid)} paid, {plain(self.refunded)} refunded, {plain(self.processing)} being refunded, "
            f"{plain(self.reserved)} reserved for refunds on their way, {taken}{plain(self.left)} left"
        )


def what_is_left(
    payments: Iterable[Payment],
    refunds: Sequence[Refund],
    commands: Sequence[AskedCommand],
    chargebacks: Sequence[Chargeback] = (),
) -> dict[str, Left]:
    """Every payment's standing, by payment id, in the provider's order; 0 paid where it is not paid.

    Whatever is uncertain counts against the refund. A refund or chargeback without an amount counts as all that was
    paid; one that names no payment counts against each of them; a refund of any status but failed is on its way; what
    the payment itself says was refunded counts although no refund is listed. A command whose outcome is unknown keeps
    its reservation although a refund like its own shows: that one may have been made in the panel, and the command may
    still take effect.
    """
    return {payment.payment_id: _left(payment, refunds, commands, chargebacks) for payment in payments}


def reserve(
    snapshot_payments: Sequence[Payment],
    snapshot_refunds: Sequence[Refund],
    commands: Sequence[AskedCommand],
    *,
    payment_id: str | None,
    amount: Decimal | None,
    chargebacks: Sequence[Chargeback] = (),
) -> Mapping[str, Decimal]:
    """What a new refund takes of each payment: positive amounts by payment id, never beyond what is left.

    `commands` are all commands of the order. Without an amount it is everything that is left, of `payment_id`, or of
    every payment of the order. Raises `RefundRefused`.
    """
    if amount is not None and not (amount.is_finite() and amount > 0):
        raise RefundRefused("not_positive", f"A refund must be of more than 0, not {plain(amount)}.")
    standing = what_is_left(snapshot_payments, snapshot_refunds, commands, chargebacks)
    if payment_id is not None and payment_id not in standing:
        raise RefundRefused("unknown_payment", f"The order has no payment {payment_id}.")
    paid = {payment.payment_id for payment in snapshot_payments if is_paid(payment) and paid_sum(payment) > 0}
    if not paid or (payment_id is not None and payment_id not in paid):
        of_what = f"Payment {payment_id}" if payment_id is not None else "The order"
        raise RefundRefused("nothing_paid", f"{of_what} is not paid, so there is nothing to refund.")
    if amount is not None and payment_id is None and len(paid) > 1:
        names = ", ".join(one for one in standing if one in paid)
        raise RefundRefused(
            "amount_needs_payment", f"The order has several payments ({names}): say which one the amount is of."
        )
    asked_of = [one for key, one in standing.items() if key in paid and payment_id in (None, key)]
    if not any(one.left for one in asked_of):
        told = "; ".join(f"payment {one.payment_id}: {one}" for one in asked_of)
        raise RefundRefused("nothing_left", f"Nothing is left to refund: {told}.")
    if amount is None:
        return {one.payment_id: one.left for one in asked_of if one.left > 0}
    (one,) = asked_of
    if amount > one.left:
        raise RefundRefused(
            "exceeds_left", f"A refund of {plain(amount)} is more than is left of payment {one.payment_id}: {one}."
        )
    return {one.payment_id: amount}


def is_all_that_is_left(
    payments: Iterable[Payment], refunds: Sequence[Refund], reserved: Mapping[str, Decimal]
) -> bool:
    """Whether the provider, told to give back everything, would give back just this.

    It knows of refunds only: what a chargeback takes, or is reserved here, it would give back as well. So `reserved`
    has to be the whole rest, paid - processed refunds, of every paid payment.
    """
    return all(
        reserved.get(payment.payment_id, ZERO) == less(paid_sum(payment), _processed(refunds, payment))
        for payment in payments
        if is_paid(payment)
    )


def _processed(refunds: Sequence[Refund], payment: Payment) -> Decimal:
    return total_of(
        one.amount for one in refunds if one.transaction_id == payment.payment_id and one.status == REFUND_PROCESSED
    )


def _left(
    payment: Payment,
    refunds: Sequence[Refund],
    commands: Sequence[AskedCommand],
    chargebacks: Sequence[Chargeback],
) -> Left:
    paid = paid_sum(payment)
    here = [refund for refund in refunds if refund.transaction_id in (payment.payment_id, None)]
    processing = _sum((one for one in here if one.status not in (REFUND_PROCESSED, REFUND_FAILED)), paid)
    processed = _sum((one for one in here if one.status == REFUND_PROCESSED), paid)
    return Left(
        payment_id=payment.payment_id,
        paid=paid,
        refunded=max(processed, less(payment.refunded_amount or ZERO, processing)),
        processing=processing,
        reserved=total_of(_still_reserved(payment, here, command, paid) for command in commands),
        charged_back=_charged_back(payment, chargebacks, paid),
    )


def _still_reserved(payment: Payment, refunds: Sequence[Refund], command: AskedCommand, paid: Decimal) -> Decimal:
    """What an open command has asked for and its refunds do not show yet."""
    reserved = command.reserved.get(payment.payment_id)
    if reserved is None or command.kind != "refund" or not command.is_open:
        return ZERO
    return max(ZERO, less(reserved, _sum((one for one in refunds if one.refund_id in command.refund_ids), paid)))


def _charged_back(payment: Payment, chargebacks: Sequence[Chargeback], paid: Decimal) -> Decimal:
    """What a buyer's bank has taken, or is about to; all of it where a payment is charged back and no record says."""
    here = [one for one in chargebacks if one.transaction_id in (payment.payment_id, None)]
    if payment.status == "charged_back" and not here:
        return paid
    taking = (one for one in here if one.status in CHARGEBACK_TAKES)
    return total_of(paid if one.amount is None else one.amount for one in taking)


def _sum(refunds: Iterable[Refund], paid: Decimal) -> Decimal:
    return total_of(paid if refund.amount is None else refund.amount for refund in refunds)
