"""The reservation of refunds: per payment, never beyond what was paid, whatever is on its way."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.orders.asked import AskedCommand
from service.orders.lifecycle import paid_sum
from service.orders.refunding import RefundRefused, reserve, what_is_left
from service.orders.snapshot import Payment, Refund
from tests.unit.orders.orders_samples import NOW, paid, refund, unpaid
from tests.unit.orders.orders_strategies import PAYMENTS, REFUNDS, REQUESTS


def asked(status: str = "accepted", reserved: str = "10.00", payment: str = "PAY1", **fields: Any) -> AskedCommand:
    values: dict[str, Any] = {"asked_at": NOW, "reserved": {payment: Decimal(reserved)}} | fields
    return AskedCommand("CMD1", "refund", status, **values)


def ask(
    payments: Sequence[Payment],
    refunds: Sequence[Refund] = (),
    commands: Sequence[AskedCommand] = (),
    payment_id: str | None = None,
    amount: str | None = None,
) -> dict[str, str]:
    taken = reserve(
        payments, refunds, commands, payment_id=payment_id, amount=None if amount is None else Decimal(amount)
    )
    return {key: str(value) for key, value in taken.items()}


def refusal(*arguments: Any, **named: Any) -> RefundRefused:
    with pytest.raises(RefundRefused) as caught:
        ask(*arguments, **named)
    return caught.value


TWO = [paid("PAY1", "30.00"), paid("PAY2", "20.00")]


def test_everything_that_is_left() -> None:
    assert ask([paid()]) == {"PAY1": "50.00"}
    assert ask(TWO) == {"PAY1": "30.00", "PAY2": "20.00"}
    assert ask(TWO, payment_id="PAY2") == {"PAY2": "20.00"}
    assert ask(TWO, [refund("REF1", "20.00", payment="PAY2")]) == {"PAY1": "30.00"}
    assert ask([*TWO, unpaid("PAY3")]) == {"PAY1": "30.00", "PAY2": "20.00"}
    assert ask([paid(amount=Decimal("60.00"))]) == {"PAY1": "50.00"}, "what the buyer paid, after the discount"


def test_an_amount_of_the_only_paid_payment() -> None:
    assert ask([unpaid("PAY0"), paid()], amount="50") == {"PAY1": "50"}
    assert ask(TWO, amount="20.00", payment_id="PAY2") == {"PAY2": "20.00"}


def test_processed_processing_and_reserved_are_taken_off() -> None:
    on_their_way = [refund("REF1", "10.00"), refund("REF2", "5.00", "processing"), refund("REF3", "9.00", "failed")]
    assert ask([paid()], on_their_way, [asked(reserved="7.00")]) == {"PAY1": "28.00"}
    assert refusal([paid()], on_their_way, [asked(reserved="7.00")], amount="28.01").message == (
        "A refund of 28.01 is more than is left of payment PAY1: 50.00 paid, 10.00 refunded, 5.00 being refunded, "
        "7.00 reserved for refunds on their way, 28.00 left."
    )


@pytest.mark.parametrize("status", ["waiting", "sending", "unknown", "accepted"])
def test_open_commands_keep_their_reservation_until_their_refund_shows(status: str) -> None:
    waiting = asked(status, refund_ids=("REF1",))
    assert ask([paid()], [], [waiting]) == {"PAY1": "40.00"}
    for shown in ("processing", "processed"):
        assert ask([paid()], [refund("REF1", "10.00", shown)], [waiting]) == {"PAY1": "40.00"}
    assert ask([paid()], [refund("REF1", "10.00", "failed")], [waiting]) == {"PAY1": "50.00"}


@pytest.mark.parametrize("status", ["done", "refused", "withdrawn"])
def test_settled_commands_keep_none(status: str) -> None:
    assert ask([paid()], [], [asked(status)]) == {"PAY1": "50.00"}


def test_a_panel_refund_is_counted_once_and_takes_no_reservation_away() -> None:
    panel = refund("REF9", "10.00")
    assert ask([paid()], [panel]) == {"PAY1": "40.00"}
    # Its like was asked for here, and may still take effect.
    assert ask([paid()], [panel], [asked("unknown")]) == {"PAY1": "30.00"}
    assert ask([paid()], [panel], [asked(refund_ids=("REF9",))]) == {"PAY1": "40.00"}


def test_whatever_is_uncertain_counts_against_the_refund() -> None:
    assert refusal([paid()], [refund(of=None)]).code == "nothing_left"
    assert ask(TWO, [refund("REF1", "5.00", payment=None)]) == {"PAY1": "25.00", "PAY2": "15.00"}
    assert ask(TWO, [refund("REF1", "5.00", payment="CAS1")]) == {"PAY1": "30.00", "PAY2": "20.00"}


def test_refusals_say_which_and_why() -> None:
    assert refusal([paid()], payment_id="PAY7").code == "unknown_payment"
    assert refusal([unpaid()]).code == "nothing_paid"
    assert refusal([]).code == "nothing_paid"
    assert refusal([*TWO, unpaid("PAY3")], payment_id="PAY3").code == "nothing_paid"
    assert refusal(TWO, amount="1.00").code == "amount_needs_payment"
    assert refusal([paid()], [refund()]).code == "nothing_left"
    assert refusal([paid()], [], [asked(reserved="50")], amount="1").code == "nothing_left"
    assert refusal([paid()], amount="50.01").code == "exceeds_left"
    for amount in ("0", "-1", "NaN"):
        assert refusal([paid()], amount=amount).code == "not_positive"
    for error in (refusal([paid()], [refund()]), refusal(TWO, amount="1.00")):
        assert error.message == str(error)
        assert error.message.endswith(".")


@settings(max_examples=200, deadline=None)
@given(
    payments=st.lists(PAYMENTS, max_size=2, unique_by=lambda payment: payment.payment_id),
    refunds=st.lists(REFUNDS, max_size=4, unique_by=lambda refund: refund.refund_id),
    commands=REQUESTS,
    payment_id=st.sampled_from([None, "PAY1", "PAY2", "PAY9"]),
    amount=st.sampled_from([None, *map(Decimal, ("0", "0.01", "5", "10.00", "20", "100"))]),
)
def test_what_is_reserved_is_positive_and_within_what_is_left(
    payments: list[Payment],
    refunds: list[Refund],
    commands: tuple[AskedCommand, ...],
    payment_id: str | None,
    amount: Decimal | None,
) -> None:
    left = what_is_left(payments, refunds, commands)
    try:
        taken = reserve(payments, refunds, commands, payment_id=payment_id, amount=amount)
    except RefundRefused:
        return
    assert taken
    assert payment_id is None or set(taken) == {payment_id}
    assert amount is None or list(taken.values()) == [amount]
    for key, value in taken.items():
        assert 0 < value <= left[key].left <= left[key].paid


@dataclass
class Asking:
    """A command and the refunds that the provider has made of it, by payment."""

    command: AskedCommand
    to_make: dict[str, Decimal] = field(default_factory=dict)


class Refunding(RuleBasedStateMachine):
    """Two tills ask, answers get lost, the panel refunds within what is left at the provider, refunds fail.

    The provider here is careless: it makes whatever a command asks for. So the sums stay within what was paid only if
    no reservation was ever too large.
    """

    @initialize(amounts=st.lists(st.integers(1, 60), min_size=1, max_size=3))
    def begin(self, amounts: list[int]) -> None:
        self.payments = [paid(f"PAY{number}", f"{amount}.00") for number, amount in enumerate(amounts)]
        self.refunds: list[Refund] = []
        self.askings: list[Asking] = []

    def commands(self) -> list[AskedCommand]:
        return [one.command for one in self.askings]

    @rule(
        payment=st.one_of(st.none(), st.integers(0, 2)),
        amount=st.one_of(st.none(), st.integers(1, 70)),
        status=st.sampled_from(["waiting", "sending", "unknown", "accepted"]),
    )
    def ask(self, payment: int | None, amount: int | None, status: str) -> None:
        try:
            reserved = reserve(
                self.payments,
                self.refunds,
                self.commands(),
                payment_id=None if payment is None else f"PAY{payment}",
                amount=None if amount is None else Decimal(amount),
            )
        except RefundRefused:
            return
        number = len(self.askings)
        command = AskedCommand(f"CMD{number}", "refund", status, asked_at=NOW, reserved=reserved)
        self.askings.append(Asking(command, dict(reserved)))

    @precondition(lambda self: any(one.to_make for one in self.askings))
    @rule(data=st.data(), status=st.sampled_from(["processing", "processed"]), known=st.booleans())
    def the_provider_makes_one(self, data: st.DataObject, status: str, known: bool) -> None:
        """Shown under its command's ids in the same moment, or not known to be its own until later."""
        asking = data.draw(st.sampled_from([one for one in self.askings if one.to_make]))
        payment_id = data.draw(st.sampled_from(sorted(asking.to_make)))
        refund_id = f"REF{len(self.refunds)}"
        amount = asking.to_make.pop(payment_id)
        self.refunds.append(Refund(refund_id, payment_id, amount, status))
        if known:
            ids = (*asking.command.refund_ids, refund_id)
            status_now = "accepted" if asking.to_make else "done"
            asking.command = replace(asking.command, status=status_now, refund_ids=ids)

    @precondition(lambda self: any(one.command.is_open for one in self.askings))
    @rule(data=st.data())
    def refuse_what_was_not_made(self, data: st.DataObject) -> None:
        asking = data.draw(st.sampled_from([one for one in self.askings if one.command.is_open]))
        if asking.to_make == dict(asking.command.reserved):
            asking.to_make = {}
            asking.command = replace(asking.command, status="refused")

    @rule(amount=st.integers(1, 60), payment=st.integers(0, 2))
    def the_panel_refunds(self, amount: int, payment: int) -> None:
        """While nothing is on its way: what the provider would refuse for the panel's sake is not played here."""
        if payment >= len(self.payments) or any(one.to_make for one in self.askings):
            return
        made = self.made(f"PAY{payment}")
        if made + amount <= paid_sum(self.payments[payment]):
            self.refunds.append(Refund(f"REF{len(self.refunds)}", f"PAY{payment}", Decimal(amount), "processed"))

    @precondition(lambda self: any(one.status == "processing" for one in self.refunds))
    @rule(data=st.data(), status=st.sampled_from(["processed", "failed"]))
    def a_refund_ends(self, data: st.DataObject, status: str) -> None:
        place = data.draw(
            st.sampled_from([place for place, one in enumerate(self.refunds) if one.status == "processing"])
        )
        self.refunds[place] = replace(self.refunds[place], status=status)

    def made(self, payment_id: str) -> Decimal:
        return sum(
            (one.amount or Decimal(0) for one in self.refunds
             if one.transaction_id == payment_id and one.status != "failed"),
            Decimal(0),
        )  # fmt: skip

    @invariant()
    def never_beyond_paid(self) -> None:
        for payment in getattr(self, "payments", []):
            coming = sum((one.to_make.get(payment.payment_id, Decimal(0)) for one in self.askings), Decimal(0))
            assert self.made(payment.payment_id) + coming <= paid_sum(payment)


TestRefunding = Refunding.TestCase
TestRefunding.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
