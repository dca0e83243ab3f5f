"""The rules as a whole: the provider's samples are clean, one finding a subject, exact sums, words for people."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from service.orders.history import EMPTY, remember
from service.orders.rules import RULES, evaluate, rules_due_at
from service.orders.snapshot import OrderSnapshot
from tests.unit.orders.orders_samples import (
    NOW,
    ORDER_ID,
    ORDER_SAMPLES,
    findings,
    folded,
    order,
    paid,
    read_sample,
    refund,
    unpaid,
    violations,
)


def test_rules_are_those_of_the_contract() -> None:
    assert set(RULES) == {
        "refund_without_payment",
        "refunds_exceed_paid",
        "refunded_amount_mismatch",
        "payment_status_mismatch",
        "order_status_mismatch",
        "paid_total_mismatch",
        "paid_after_close",
        "refund_stuck",
        "refund_failed",
        "refund_and_chargeback",
        "record_vanished",
        "went_backwards",
        "currency_changed",
        "duplicate_sale",
        "refund_unexplained",
        "refund_missing",
        "amount_differs_from_request",
        "paid_after_cancel_asked",
        "unknown_outcome",
    }
    assert len(RULES) == 19


@pytest.mark.parametrize("path", ORDER_SAMPLES, ids=lambda path: path.stem)
def test_the_providers_samples_are_clean(path: Path) -> None:
    snapshot = read_sample(path)
    history = remember(EMPTY, snapshot, NOW)
    assert evaluate(snapshot, history, NOW + timedelta(days=400)) == ()
    assert rules_due_at(snapshot, history, NOW) is None


def test_all_samples_were_read() -> None:
    assert len(ORDER_SAMPLES) == 14
    official = next(path for path in ORDER_SAMPLES if "official" in path.name)
    assert read_sample(official).currency == "CLP"


# All of them


def test_an_id_listed_twice_is_one_record_with_its_last_content() -> None:
    twice = order("processed", unpaid(), paid(), refunds=(refund(of="60.00"), refund(of="60.00")))
    assert [payment.status for payment in twice.payments] == ["processed"]
    assert violations(twice) == {
        ("refunds_exceed_paid", "PAY1"),
        ("refunded_amount_mismatch", "PAY1"),
        ("payment_status_mismatch", "PAY1"),
    }
    assert {finding.amount_at_stake for finding in findings(twice) if finding.rule == "refunds_exceed_paid"} == {10}


def test_sums_keep_every_digit() -> None:
    huge, tiny = "9" * 60 + ".00", "0." + "0" * 59 + "1"
    payment = paid(of=huge, refunded_amount=Decimal(huge))
    above = order("processed", payment, refunds=(refund(of=huge), refund("REF2", of=tiny, status="processing")))
    (finding,) = (finding for finding in findings(above) if finding.rule == "refunds_exceed_paid")
    assert finding.amount_at_stake == Decimal(tiny)


def test_explanations_speak_of_money_with_its_currency() -> None:
    snapshot = order("processed", paid(), refunds=(refund(of="60.00"),))
    finding = findings(snapshot)[0]
    assert finding.explanation == (
        "Refunds of payment PAY1 come to 60.00 ARS, but only 50.00 ARS were paid: 10.00 ARS too much."
    )
    assert (finding.expected, finding.actual) == ("refunds of at most 50.00 ARS", "refunds of 60.00 ARS")
    without = findings(replace(snapshot, currency=None))[0]
    assert without.currency is None
    assert "come to 60.00, but" in without.explanation


def test_order_of_findings_is_that_of_the_rules() -> None:
    broken = OrderSnapshot(
        ORDER_ID,
        status="refunded",
        total_amount=Decimal(1),
        payments=(paid("PAY1"), paid("PAY2", status="refunded")),
        refunds=(refund("REF2", payment="PAY9"), refund("REF1", of="51.00"), refund("REF3", status="failed")),
    )
    found = evaluate(broken, folded([broken]), NOW)
    places = [RULES.index(finding.rule) for finding in found]
    assert places == sorted(places)
    assert len(set(places)) > 5
