"""The two comparisons: any difference is found and named, and nothing else is."""

from decimal import Decimal
from typing import Any

import pytest

from service.cli.demo.compare import (
    Verdict,
    canonical,
    compare_discrepancies,
    compare_orders,
    differences,
)
from service.cli.demo.stored import Discrepancy
from tests.unit.demo.demo_samples import ORDER_ID, at_provider, body, stored

KEY = (ORDER_ID, "refunds_exceed_paid", "PAY01")


def discrepancy(*, resolved: bool = False, rule: str = KEY[1]) -> Discrepancy:
    return Discrepancy(ORDER_ID, rule, KEY[2], "Too much.", resolved)


def test_an_order_stored_as_it_is_has_no_differences() -> None:
    assert differences(body(), stored()) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"status": "refunded"}, "status"),
        ({"status_detail": "accredited"}, "status_detail"),
        ({"type": "point"}, "type"),
        ({"external_reference": None}, "external_reference"),
        ({"total_amount": Decimal("50.01")}, "total_amount"),
        ({"paid_amount": Decimal("50.00")}, "paid_amount"),
        ({"refunded_amount": Decimal("15.00")}, "refunded_amount"),
        ({"payments": frozenset()}, "payments"),
        ({"refunds": frozenset()}, "refunds"),
        ({"payload": body(taxes=[])}, "payload"),
        ({"payload": body(total_amount=Decimal("50.00"))}, "payload"),
    ],
)
def test_a_tampered_order_is_found_and_the_field_is_named(change: dict[str, Any], named: str) -> None:
    comparison = compare_orders({ORDER_ID: at_provider()}, {ORDER_ID: stored(**change)})
    assert comparison.differing == {ORDER_ID: [named]}
    assert not comparison.holds


def test_an_order_that_is_equal_holds() -> None:
    comparison = compare_orders({ORDER_ID: at_provider()}, {ORDER_ID: stored()})
    assert comparison.holds
    assert comparison.lines["qr", "processed"].verdicts == {Verdict.EQUAL: 1}


def test_an_order_nobody_was_told_of_is_unannounced() -> None:
    other = "ORD01K371WBFDS4MD9JG0K8ZMECBF"
    ledger = {ORDER_ID: at_provider(), other: at_provider(delivered=False, id=other)}
    comparison = compare_orders(ledger, {ORDER_ID: stored()})
    assert comparison.unannounced == {other}
    assert comparison.holds


def test_an_announced_order_that_is_not_stored_differs() -> None:
    comparison = compare_orders({ORDER_ID: at_provider()}, {})
    assert comparison.differing == {ORDER_ID: ["not stored"]}


def test_a_stored_order_unknown_to_the_provider_does_not_hold() -> None:
    invented = stored(order_id="ORD01K371WBFDS4MD9JG0K8ZMECBG")
    comparison = compare_orders({ORDER_ID: at_provider()}, {ORDER_ID: stored(), invented.order_id: invented})
    assert comparison.invented == {invented.order_id}
    assert not comparison.holds


def test_nothing_compared_does_not_hold() -> None:
    assert not compare_orders({}, {}).holds


def test_numbers_are_equal_by_value_and_no_text_is_a_number() -> None:
    assert canonical({"a": Decimal("47.280"), "b": 1}) == canonical({"b": Decimal("1.0"), "a": Decimal("47.28")})
    assert canonical("47.28") != canonical(Decimal("47.28"))
    assert canonical(True) != canonical(1)


def test_a_payment_that_moved_no_money_counts_for_nothing() -> None:
    unpaid = body(
        status="failed",
        status_detail="failed",
        transactions={"payments": [{"id": "PAY01", "amount": "50.00", "paid_amount": "50.00", "status": "failed"}]},
    )
    row = stored(
        status="failed",
        status_detail="failed",
        payload=unpaid,
        paid_amount=Decimal(0),
        refunded_amount=Decimal(0),
        payments=frozenset({("PAY01", "failed", Decimal("50.00"), Decimal("50.00"), None)}),
        refunds=frozenset(),
    )
    assert differences(unpaid, row) == []


def test_exactly_what_was_planted_holds() -> None:
    comparison = compare_discrepancies({KEY}, set(), [discrepancy()])
    assert comparison.holds
    assert comparison.by_rule() == {KEY[1]: (1, 1, 0, 0)}


def test_a_missing_discrepancy_does_not_hold() -> None:
    comparison = compare_discrepancies({KEY}, set(), [])
    assert comparison.missing == {KEY}
    assert not comparison.holds


def test_an_unexpected_discrepancy_does_not_hold() -> None:
    comparison = compare_discrepancies(set(), set(), [discrepancy()])
    assert comparison.unexpected == {KEY}
    assert not comparison.holds


def test_another_subject_is_both_missing_and_unexpected() -> None:
    other = (ORDER_ID, KEY[1], "PAY02")
    comparison = compare_discrepancies({other}, set(), [discrepancy()])
    assert comparison.by_rule() == {KEY[1]: (1, 0, 1, 1)}
    assert not comparison.holds


def test_a_resolved_discrepancy_is_not_open() -> None:
    assert compare_discrepancies({KEY}, set(), [discrepancy(resolved=True)]).missing == {KEY}


@pytest.mark.parametrize(
    ("rows", "holds"),
    [
        ([discrepancy(resolved=True)], True),
        ([], False),
        ([discrepancy(resolved=True), discrepancy()], False),
    ],
)
def test_what_had_to_resolve_was_open_and_is_not(rows: list[Discrepancy], holds: bool) -> None:
    assert compare_discrepancies(set(), {KEY}, rows).holds is holds
