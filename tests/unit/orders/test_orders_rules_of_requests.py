"""Rules that compare an order with what was asked of it here: each violated, each resolved, each in words."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from service.orders.asked import AskedCommand, explained_refunds
from service.orders.rules import Finding, evaluate, rules_due_at
from service.orders.rules.asked import UNKNOWN_AFTER, next_unknown_outcome, unknown_outcome
from service.orders.snapshot import OrderSnapshot, Refund
from tests.unit.orders.orders_samples import NOW, folded, order, paid, refund, unpaid

HOUR, TICK = timedelta(hours=1), timedelta.resolution


def command(kind: str = "refund", status: str = "accepted", number: int = 1, **fields: Any) -> AskedCommand:
    """A command asked for at NOW; `reserved` may be given as text."""
    values: dict[str, Any] = {"asked_at": NOW, "currency": "ARS"} | fields
    values["reserved"] = {key: Decimal(text) for key, text in values.get("reserved", {}).items()}
    return AskedCommand(f"CMD{number}", kind, status, **values)


def told(
    snapshot: OrderSnapshot, *commands: AskedCommand, since: datetime | None = None, after: timedelta = timedelta(0)
) -> set[tuple[str, str]]:
    """What the rules say of a snapshot first seen at NOW."""
    return {(one.rule, one.subject_id) for one in found(snapshot, *commands, since=since, after=after)}


def found(
    snapshot: OrderSnapshot, *commands: AskedCommand, since: datetime | None = None, after: timedelta = timedelta(0)
) -> tuple[Finding, ...]:
    return evaluate(snapshot, folded([snapshot]), NOW + after, commands, since)


def half_back(*refunds: Refund) -> OrderSnapshot:
    """50.00 paid, and these refunds; `refunded_amount` follows the processed ones."""
    back = sum((one.amount or Decimal(0) for one in refunds if one.status == "processed"), Decimal(0))
    return order("processed", paid(refunded_amount=back), refunds=refunds)


# Refunds that nobody here asked for


def test_without_the_policy_a_panel_refund_is_nobodys_business() -> None:
    assert told(half_back(refund(of="20.00"))) == set()


def test_a_refund_that_no_command_explains_is_told_since_the_policy_holds() -> None:
    snapshot = half_back(refund(of="20.00"))
    assert told(snapshot, since=NOW) == {("refund_unexplained", "REF1")}
    assert told(snapshot, since=NOW + TICK) == set(), "it was seen before"
    (finding,) = found(snapshot, since=NOW)
    assert (finding.severity, finding.amount_at_stake, finding.currency) == ("critical", Decimal("20.00"), "ARS")
    assert finding.explanation == (
        "Refund REF1 of 20.00 ARS was not asked for here, although all refunds of this account are to be: "
        "somebody gave money back in another way."
    )


def test_failed_refunds_need_no_explanation() -> None:
    snapshot = half_back(refund(of="20.00", status="failed"), refund("REF2", of="20.00", status="processing"))
    assert told(snapshot, since=NOW) == {("refund_unexplained", "REF2")}


def test_a_command_that_knows_the_refund_explains_it_whatever_its_amount() -> None:
    snapshot = half_back(refund(of="20.00"))
    known = command(status="done", refund_ids=("REF1",), reserved={"PAY1": "20.00"})
    assert told(snapshot, known, since=NOW) == set()
    other = replace(known, reserved={"PAY1": Decimal(9)})
    assert told(snapshot, other, since=NOW) == {("amount_differs_from_request", "CMD1")}


@pytest.mark.parametrize("status", ["sending", "unknown", "accepted", "done"])
def test_a_command_that_may_have_been_sent_has_the_benefit_of_the_doubt(status: str) -> None:
    snapshot = half_back(refund(of="20.00"))
    assert told(snapshot, command(status=status, reserved={"PAY1": "20.0"}), since=NOW) == set()


@pytest.mark.parametrize("status", ["waiting", "refused", "withdrawn"])
def test_a_command_that_cannot_have_done_it_explains_nothing(status: str) -> None:
    snapshot = half_back(refund(of="20.00"))
    told_of = told(snapshot, command(status=status, reserved={"PAY1": "20.00"}), since=NOW)
    assert told_of == {("refund_unexplained", "REF1")}


def test_another_amount_or_another_payment_is_no_match() -> None:
    snapshot = half_back(refund(of="20.00"))
    for reserved in ({"PAY1": "20.01"}, {"PAY2": "20.00"}):
        assert told(snapshot, command(reserved=reserved), since=NOW) == {("refund_unexplained", "REF1")}


def test_a_command_explains_as_many_refunds_as_it_reserved_payments() -> None:
    snapshot = half_back(refund(of="10.00"), refund("REF2", of="10.00"))
    one, other = command(reserved={"PAY1": "10"}), command(number=2, reserved={"PAY1": "10"})
    assert len(told(snapshot, one, since=NOW)) == 1
    assert told(snapshot, one, other, since=NOW) == set()
    assert explained_refunds(snapshot.refunds, [one, other], {}) == {"REF1": "CMD1", "REF2": "CMD2"}
    # The first knows its refund: it explains no second one.
    assert told(snapshot, replace(one, refund_ids=("REF1",)), since=NOW) == {("refund_unexplained", "REF2")}


def test_a_refund_of_everything_explains_one_refund_of_each_payment() -> None:
    both = order(
        "refunded",
        paid("PAY1", "30.00", status="refunded", refunded_amount=Decimal(30)),
        paid("PAY2", "20.00", status="refunded", refunded_amount=Decimal(20)),
        refunds=(refund("REF1", "30.00"), refund("REF2", "20.00", payment="PAY2")),
    )
    whole = command(reserved={"PAY1": "30.00", "PAY2": "20.00"})
    assert told(both, whole, since=NOW) == set()
    assert told(both, replace(whole, refund_ids=("REF2",)), since=NOW) == set(), "one id is still to be learned"
    assert told(both, replace(whole, refund_ids=("REF2", "REF7")), since=NOW) == {("refund_unexplained", "REF1")}


def test_a_command_explains_one_refund_of_each_payment_and_not_two_of_one() -> None:
    twice = half_back(refund("REF1", "10.00"), refund("REF2", "10.00"))
    whole = command(reserved={"PAY1": "10.00", "PAY2": "10.00"})
    assert told(twice, whole, since=NOW) == {("refund_unexplained", "REF2")}


def test_the_refund_seen_last_is_the_commands() -> None:
    old, new = refund("REF1", "10.00"), refund("REF2", "10.00")
    seen = {"REF1": NOW - HOUR, "REF2": NOW}
    assert explained_refunds([old, new], [command(reserved={"PAY1": "10"})], seen) == {"REF2": "CMD1"}


# Refunds that were asked for and do not show


def test_an_accepted_refund_that_does_not_show_is_told_beyond_its_hour() -> None:
    snapshot = order("processed", paid())
    asked = command(accepted_at=NOW, refund_ids=("REF1",), reserved={"PAY1": "20.00"})
    assert told(snapshot, asked, after=HOUR) == set()
    assert told(snapshot, asked, after=HOUR + TICK) == {("refund_missing", "CMD1")}
    assert rules_due_at(snapshot, folded([snapshot]), NOW, [asked]) == NOW + HOUR + TICK
    (finding,) = found(snapshot, asked, after=2 * HOUR)
    assert (finding.severity, finding.amount_at_stake, finding.expected) == ("critical", Decimal(20), "refund REF1")
    assert told(half_back(refund(of="20.00")), asked, after=2 * HOUR) == set()
    assert rules_due_at(half_back(refund(of="20.00")), folded([snapshot]), NOW, [asked]) is None


def test_an_accepted_refund_without_an_id_is_shown_by_one_like_it() -> None:
    asked = command(accepted_at=NOW, reserved={"PAY1": "20.00"})
    assert told(order("processed", paid()), asked, after=2 * HOUR) == {("refund_missing", "CMD1")}
    assert told(half_back(refund(of="20.00")), asked, after=2 * HOUR) == set()
    assert told(half_back(refund(of="19.00")), asked, after=2 * HOUR) == {("refund_missing", "CMD1")}


def test_what_is_not_accepted_is_not_missed() -> None:
    for status in ("waiting", "sending", "unknown", "refused", "withdrawn"):
        asked = command(status=status, accepted_at=NOW, reserved={"PAY1": "20.00"})
        assert told(order("processed", paid()), asked, after=9 * HOUR) == set()
    done = command(status="done", accepted_at=NOW, refund_ids=("REF1",), reserved={"PAY1": "20.00"})
    assert told(order("processed", paid()), done, after=2 * HOUR) == {("refund_missing", "CMD1")}


def test_only_what_is_absent_is_at_stake() -> None:
    whole = command(accepted_at=NOW, refund_ids=("REF1", "REF2"), reserved={"PAY1": "20.00", "PAY2": "5.00"})
    findings = found(half_back(refund(of="20.00")), whole, after=2 * HOUR)
    assert [(one.rule, one.amount_at_stake, one.expected) for one in findings] == [
        ("refund_missing", Decimal("5.00"), "refund REF2")
    ]


# Amounts


@pytest.mark.parametrize(("status", "told_of"), [("done", 1), ("refused", 1), ("unknown", 0), ("withdrawn", 0)])
def test_an_order_for_another_amount_than_asked(status: str, told_of: int) -> None:
    snapshot = order("created", unpaid())
    assert told(snapshot, command("create", status, amount=Decimal("50.0"))) == set()
    findings = found(snapshot, command("create", status, amount=Decimal("45.00")))
    assert [(one.rule, one.amount_at_stake) for one in findings] == [
        ("amount_differs_from_request", Decimal("5.00"))
    ] * told_of
    for one in findings:
        assert one.explanation == (
            "What was asked for here is an order of 45.00 ARS, but Mercado Pago made an order of 50.00 ARS."
        )


def test_an_order_without_a_total_is_for_what_its_payments_are_for() -> None:
    point = order("created", unpaid("PAY1", "30.00"), unpaid("PAY2", "20.00"), total_amount=None)
    assert told(point, command("create", "done", amount=Decimal(50))) == set()
    assert told(point, command("create", "done", amount=Decimal(30))) == {("amount_differs_from_request", "CMD1")}
    for silent in (order("created", total_amount=None), order("created", unpaid(amount=None), total_amount=None)):
        assert told(silent, command("create", "done", amount=Decimal(30))) == set()


def test_a_refund_of_another_amount_than_reserved() -> None:
    asked = command(status="done", refund_ids=("REF1",), reserved={"PAY1": "20.00"})
    assert told(half_back(refund(of="20")), asked) == set()
    (finding,) = found(half_back(refund(of="25.00")), asked)
    assert (finding.rule, finding.subject_id, finding.amount_at_stake) == (
        "amount_differs_from_request", "CMD1", Decimal("5.00")
    )  # fmt: skip
    assert finding.expected == "a refund (payment PAY1) of 20.00 ARS"
    assert finding.actual == "a refund (payment PAY1) of 25.00 ARS"


def test_refunds_that_differ_in_opposite_ways_do_not_cancel_out() -> None:
    snapshot = order(
        "processed", paid("PAY1", "25.00", refunded_amount=Decimal(10)), paid("PAY2", "25.00", refunded_amount=20),
        refunds=(refund("REF1", "10.00"), refund("REF2", "20.00", payment="PAY2")),
    )  # fmt: skip
    asked = command(status="done", refund_ids=("REF1", "REF2"), reserved={"PAY1": "20.00", "PAY2": "10.00"})
    (finding,) = found(snapshot, asked)
    assert (finding.rule, finding.amount_at_stake) == ("amount_differs_from_request", Decimal(20))


# Money after a cancellation


@pytest.mark.parametrize("status", ["sending", "unknown", "accepted", "done"])
def test_money_on_an_order_that_was_to_be_canceled(status: str) -> None:
    cancel = command("cancel", status)
    assert told(order("canceled", unpaid(status="canceled")), cancel) == set()
    (finding,) = found(half_back(refund(of="20.00")), cancel)
    assert (finding.rule, finding.subject_id, finding.severity, finding.amount_at_stake) == (
        "paid_after_cancel_asked", "CMD1", "critical", Decimal("30.00")
    )  # fmt: skip
    back = order("refunded", paid(status="refunded", refunded_amount=Decimal(50)), refunds=(refund(),))
    assert told(back, cancel) == set()


@pytest.mark.parametrize("status", ["waiting", "refused", "withdrawn"])
def test_a_cancellation_that_was_not_made_says_nothing(status: str) -> None:
    assert told(order("processed", paid()), command("cancel", status)) == set()


# Unknown outcomes


@pytest.mark.parametrize("status", ["unknown", "sending"])
def test_an_outcome_is_unknown_for_too_long_after_a_quarter_of_an_hour(status: str) -> None:
    asked = command("create", status, maybe_sent_at=NOW, amount=Decimal("45.00"))
    due = NOW + UNKNOWN_AFTER + TICK
    assert next_unknown_outcome(asked, NOW) == due
    assert unknown_outcome(asked, due - TICK) is None
    finding = unknown_outcome(asked, due)
    assert finding is not None
    assert next_unknown_outcome(asked, due) is None
    assert (finding.rule, finding.subject_id, finding.amount_at_stake) == ("unknown_outcome", "CMD1", Decimal("45.00"))
    assert finding.explanation.startswith("Nobody knows yet whether Mercado Pago did what was asked (create of 45.00")


def test_a_known_outcome_is_never_unknown() -> None:
    for status in ("waiting", "accepted", "done", "refused", "withdrawn"):
        asked = command("cancel", status, maybe_sent_at=NOW)
        assert unknown_outcome(asked, NOW + 9 * HOUR) is None
        assert next_unknown_outcome(asked, NOW) is None
    assert unknown_outcome(command("cancel", "unknown"), NOW) is None
