"""What may happen to an order: every status against every change, and the arithmetic of money given back."""

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.simulator import lifecycle
from service.simulator.clock import format_time, parse_time
from service.simulator.config import SimulatorConfig
from service.simulator.draws import Draws
from service.simulator.ledger import Change, Ledger, SimulatedOrder
from service.simulator.lifecycle import Forbidden
from service.simulator.money import total
from service.simulator.payloads import payments_of, records_of
from service.simulator.spec import ORDER_TYPES, STATUSES, read_spec


def give_back(amount: str | None = None, status: str = "processed") -> Change:
    def change(body: dict[str, Any], chance: lifecycle.Chance) -> str | None:
        lifecycle.refund(body, chance, amount=amount, status=status)
        return lifecycle.event_of(body)

    return change


def end_processing(status: str) -> Change:
    def change(body: dict[str, Any], _chance: lifecycle.Chance) -> str | None:
        running = [one for one in records_of(body, "refunds") if one["status"] == "processing"]
        lifecycle.end_refund(body, running[0]["id"] if running else "REF0", status)
        return lifecycle.event_of(body)

    return change


CHANGES: dict[str, Change] = {
    "pay": lifecycle.pay,
    "expire": lambda body, _: lifecycle.expire(body),
    "cancel": lambda body, _: lifecycle.cancel(body),
    "fail": lifecycle.fail,
    "terminal": lambda body, _: lifecycle.terminal(body),
    "processing": lambda body, _: lifecycle.processing(body),
    "action_required": lambda body, _: lifecycle.action_required(body),
    "refund": give_back(),
    "chargeback": lifecycle.chargeback,
}
ENDS = {
    "pay": ("processed", "order.processed"),
    "expire": ("expired", "order.expired"),
    "cancel": ("canceled", "order.canceled"),
    "fail": ("failed", "order.failed"),
    "terminal": ("at_terminal", None),
    "processing": ("processing", None),
    "action_required": ("action_required", "order.action_required"),
    "refund": ("refunded", "order.refunded"),
    "chargeback": ("charged_back", "order.charged_back"),
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("change", CHANGES)
def test_every_status_meets_every_change(ledger: Ledger, now: datetime, status: str, change: str) -> None:
    order, _ = ledger.create(read_spec({"type": "point", "status": status, "total_amount": "100.00"}), now)
    before, version = deepcopy(order.body), order.version
    if order.status in lifecycle.ALLOWED[change]:
        event = ledger.change(order, CHANGES[change], now)
        assert (order.status, event) == ENDS[change]
        assert order.version == version + 1
    else:
        with pytest.raises(Forbidden):
            ledger.change(order, CHANGES[change], now)
        assert (order.body, order.version) == (before, version)


def test_an_expired_online_order_shows_up_as_canceled(ledger: Ledger, now: datetime) -> None:
    order, _ = ledger.create(read_spec({"type": "online", "total_amount": "19.90"}), now)
    event = ledger.change(order, CHANGES["expire"], now)
    assert (order.status, order.body["status_detail"], event) == ("canceled", "expired", "order.canceled")
    assert order.body["total_paid_amount"] == "19.90"
    assert payments_of(order.body)[0]["status"] == "expired"


@pytest.mark.parametrize("kind", ORDER_TYPES)
@pytest.mark.parametrize("status", sorted(set(STATUSES) - {"partially_refunded"}))
def test_an_order_is_made_in_the_state_that_is_asked_for(ledger: Ledger, now: datetime, kind: str, status: str) -> None:
    order, event = ledger.create(read_spec({"type": kind, "status": status}), now)
    assert (order.status, event) == (status, lifecycle.EVENT_OF_STATUS.get(status))


@pytest.mark.parametrize(
    ("spec", "detail"),
    [
        ({"type": "qr"}, "canceled_by_api"),
        ({"type": "point", "status": "at_terminal"}, "canceled_on_terminal"),
        ({"type": "online"}, "canceled_transaction"),
    ],
)
def test_cancellation_details_by_type(ledger: Ledger, now: datetime, spec: dict[str, Any], detail: str) -> None:
    order, _ = ledger.create(read_spec(spec), now)
    ledger.change(order, CHANGES["cancel"], now)
    assert payments_of(order.body)[0]["status_detail"] == detail


def test_partial_refunds_until_all_is_back(ledger: Ledger, now: datetime) -> None:
    order, _ = ledger.create(read_spec({"status": "processed", "total_amount": "100.00"}), now)
    assert ledger.change(order, give_back("30.00"), now) == "order.refunded"
    (payment,) = payments_of(order.body)
    assert (order.status, order.body["status_detail"]) == ("processed", "partially_refunded")
    assert payment["refunded_amount"] == "30.00"
    with pytest.raises(Forbidden, match=r"only 70\.00"):
        ledger.change(order, give_back("70.01"), now)
    ledger.change(order, give_back(), now)
    assert [one["amount"] for one in records_of(order.body, "refunds")] == ["30.00", "70.00"]
    assert len({one["id"] for one in records_of(order.body, "refunds")}) == 2
    assert (order.status, order.body["status_detail"]) == ("refunded", "refunded")


def test_a_refund_in_processing_shows_only_once_it_is_processed(ledger: Ledger, now: datetime) -> None:
    order, _ = ledger.create(read_spec({"status": "processed", "total_amount": "100.00"}), now)
    ledger.change(order, give_back(status="processing"), now)
    assert (order.status, order.body["status_detail"]) == ("processed", "accredited")
    assert "refunded_amount" not in payments_of(order.body)[0]
    with pytest.raises(Forbidden, match="nothing is left"):
        ledger.change(order, give_back(), now)
    ledger.change(order, end_processing("processed"), now)
    assert order.status == "refunded"


def test_a_failed_refund_gives_its_amount_free_again(ledger: Ledger, now: datetime) -> None:
    order, _ = ledger.create(read_spec({"status": "processed", "total_amount": "100.00"}), now)
    ledger.change(order, give_back(status="processing"), now)
    ledger.change(order, end_processing("failed"), now)
    assert order.status == "processed"
    ledger.change(order, give_back(), now)
    assert [one["status"] for one in records_of(order.body, "refunds")] == ["failed", "processed"]
    assert order.status == "refunded"


def test_a_chargeback_is_one_case_that_moves(ledger: Ledger, now: datetime) -> None:
    order, _ = ledger.create(read_spec({"status": "processed", "total_amount": "100.00"}), now)
    for status in ("in_process", "reimbursed"):
        ledger.change(order, partial(lifecycle.chargeback, status=status), now)
        assert (order.status, order.body["status_detail"]) == ("charged_back", status)
    (case,) = records_of(order.body, "chargebacks")
    assert (case["amount"], case["status"]) == ("100.00", "reimbursed")
    assert case["references"] == [payments_of(order.body)[0]["reference_id"]]


def test_money_may_land_after_expiry(ledger: Ledger, now: datetime) -> None:
    order, _ = ledger.create(read_spec({"status": "expired"}), now)
    assert ledger.change(order, lifecycle.pay, now) == "order.processed"
    assert payments_of(order.body)[0]["status"] == "processed"


AMOUNTS = st.decimals(min_value=Decimal("0.01"), max_value=Decimal(120), places=2).map(str)
STEPS: st.SearchStrategy[Change] = st.one_of(
    st.sampled_from([CHANGES[name] for name in ("pay", "expire", "cancel", "terminal", "fail", "action_required")]),
    st.builds(give_back, st.none() | AMOUNTS, st.sampled_from(["processed", "processing", "failed"])),
    st.builds(end_processing, st.sampled_from(["processed", "failed"])),
)
START = datetime(2026, 9, 14, 12, 0, tzinfo=UTC)
KINDS = st.sampled_from(["qr", "point", "online"])


@given(kind=KINDS, steps=st.lists(STEPS, max_size=25), quirky=st.booleans(), backwards=st.booleans())
def test_no_story_breaks_the_books(kind: str, steps: list[Change], quirky: bool, backwards: bool) -> None:
    books = Ledger(SimulatorConfig(), Draws(3))
    quirks = ["two_digit_fractions"] if quirky else []
    order, _ = books.create(read_spec({"type": kind, "total_amount": "100.00", "quirks": quirks}), START)
    clock = START
    for step in steps:
        clock += timedelta(milliseconds=-3 if backwards else 3)
        happens_if_allowed(books, order, step, clock)
        for payment in payments_of(order.body):
            mine = [one for one in records_of(order.body, "refunds") if one["transaction_id"] == payment["id"]]
            counted = total(one["amount"] for one in mine if one["status"] in {"processed", "processing"})
            processed = total(one["amount"] for one in mine if one["status"] == "processed")
            paid = Decimal(payment.get("paid_amount", "0"))
            assert counted <= paid
            assert Decimal(payment.get("refunded_amount", "0")) == processed
            assert (payment["status"] == "refunded") is (processed == paid and processed > 0)


def happens_if_allowed(books: Ledger, order: SimulatedOrder, step: Change, clock: datetime) -> None:
    """One step of a story: it changes everything it must, or nothing."""
    body, version, shown = deepcopy(order.body), order.version, parse_time(order.view["last_updated_date"])
    rendered = order.rendered
    try:
        books.change(order, step, clock)
    except Forbidden:
        assert (order.body, order.version, order.rendered) == (body, version, rendered)
        return
    assert order.version == version + 1
    assert parse_time(order.view["last_updated_date"]) > shown
    assert parse_time(books.orders[order.order_id].view["last_updated_date"]) > shown
    assert order.previous == rendered


def test_last_updated_never_stands_still(ledger: Ledger, now: datetime) -> None:
    order, _ = ledger.create(read_spec({"type": "point"}), now)
    dates = [order.body["last_updated_date"]]
    story: list[Callable[..., Any]] = [CHANGES["terminal"], CHANGES["pay"], CHANGES["refund"]]
    for change in story:
        ledger.change(order, change, now)
        dates.append(order.body["last_updated_date"])
    assert dates == [format_time(now + timedelta(milliseconds=step)) for step in range(4)]
