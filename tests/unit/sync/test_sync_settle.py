"""What a finished look means for the `sync` row: the contract's "Pace", number by number."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mercadopago.errors import (
    AccountRefused,
    BadRequest,
    ConnectionTrouble,
    MercadoPagoError,
    NonsenseAnswer,
    OrderNotFound,
    RateLimited,
    ServerTrouble,
    Timeout,
    UnreadableOrder,
)
from service.sync.claims import Claim
from service.sync.settle import Failure, failure_of, second_look, settle_failure, settle_hint, settle_success

NOW = datetime(2026, 9, 14, 12, tzinfo=UTC)


def claim(**fields: Any) -> Claim:
    usual: dict[str, Any] = {
        "order_id": "ORD1", "account": "default", "trust": 1, "generation": 3, "lease_token": uuid.uuid4(),
        "claimed_at": NOW, "attempts": 1, "troubles": 0, "lost_leases": 0, "failing_since": None, "last_error": None,
        "quarantined": False, "cause": "notification", "notification_id": 7, "waited_seconds": 0.1,
    }  # fmt: skip
    return Claim(**(usual | fields))


def settle(claimed: Claim, failure: Failure, *, random: float = 0.999999, others_succeed: bool = False) -> Any:
    return settle_failure(claimed, failure, now=NOW, random=random, others_succeed=others_succeed)


@pytest.mark.parametrize(
    ("error", "kind", "counts"),
    [
        (ConnectionTrouble("x"), "connection", False),
        (Timeout("x"), "timeout", False),
        (ServerTrouble("x"), "server_error", False),
        (RateLimited("x"), "rate_limited", False),
        (NonsenseAnswer("x"), "nonsense", False),
        (AccountRefused("x"), "unauthorized", False),
        (OrderNotFound("x"), "not_found", True),
        (BadRequest("x"), "bad_request", True),
    ],
)
def test_whose_fault_it_is(error: MercadoPagoError, kind: str, counts: bool) -> None:
    failure = failure_of(error)
    assert failure.counts is counts
    if kind != "unauthorized":
        assert failure.kind == kind


def test_an_unreadable_order_is_its_own_fault() -> None:
    assert failure_of(UnreadableOrder("an amount is no number")).counts


TROUBLE = Failure("server_error", "503", counts=False)


@given(attempts=st.integers(1, 50), troubles=st.integers(0, 100), random=st.floats(0, 1, exclude_max=True))
def test_provider_trouble_gives_the_attempt_back_and_waits_between_one_second_and_fifteen_minutes(
    attempts: int, troubles: int, random: float
) -> None:
    settled = settle(claim(attempts=attempts, troubles=troubles), TROUBLE, random=random)
    assert settled.attempts == attempts - 1
    assert settled.troubles == troubles + 1
    step = min(900.0, 2.0**troubles)
    assert timedelta(seconds=step * 0.1) <= settled.due_at - NOW <= timedelta(seconds=step)
    assert settled.quarantine_reason is None
    assert settled.caught_up is False


@pytest.mark.parametrize(("asked", "waits"), [(120.0, 120.0), (5000.0, 900.0)])
def test_retry_after_is_honoured_up_to_fifteen_minutes(asked: float, waits: float) -> None:
    settled = settle(claim(), Failure("rate_limited", "429", counts=False, retry_after_seconds=asked))
    assert settled.due_at == NOW + timedelta(seconds=waits)


@pytest.mark.parametrize(
    ("hours", "others_succeed", "quarantined"), [(23.9, True, False), (24, True, True), (48, False, False)]
)
def test_the_same_trouble_for_a_day_is_quarantined_only_while_others_succeed(
    hours: float, others_succeed: bool, quarantined: bool
) -> None:
    failing = claim(last_error="server_error: 503", failing_since=NOW - timedelta(hours=hours), troubles=30)
    settled = settle(failing, TROUBLE, others_succeed=others_succeed)
    assert (settled.quarantine_reason == "server_error") is quarantined


def test_another_kind_of_trouble_begins_anew() -> None:
    failing = claim(last_error="timeout: none", failing_since=NOW - timedelta(hours=30))
    settled = settle(failing, TROUBLE, others_succeed=True)
    assert (settled.quarantine_reason, settled.failing_since) == (None, NOW)


NOT_FOUND = Failure("not_found", "404", counts=True)


@pytest.mark.parametrize(("attempts", "nominal"), [(1, 2), (2, 4), (8, 256), (9, 300), (40, 300)])
@pytest.mark.parametrize(("random", "share"), [(0.0, 0.9), (0.5, 1.0), (0.99999, 1.1)])
def test_not_found_backs_off_from_two_seconds_to_five_minutes(
    attempts: int, nominal: float, random: float, share: float
) -> None:
    failing = claim(attempts=attempts, last_error="not_found: 404", failing_since=NOW - timedelta(minutes=59))
    settled = settle_failure(failing, NOT_FOUND, now=NOW, random=random, others_succeed=False)
    assert (settled.attempts, settled.quarantine_reason) == (attempts, None)
    assert settled.due_at is not None
    assert (settled.due_at - NOW).total_seconds() == pytest.approx(nominal * share, rel=1e-3)


def test_not_found_for_an_hour_is_quarantined() -> None:
    failing = claim(attempts=9, last_error="not_found: 404", failing_since=NOW - timedelta(hours=1))
    settled = settle(failing, NOT_FOUND)
    assert (settled.quarantine_reason, settled.due_at, settled.caught_up) == ("not_found", None, True)


def test_a_stored_order_in_quarantine_is_looked_at_daily() -> None:
    failing = claim(trust=2, last_error="not_found: 404", failing_since=NOW - timedelta(hours=1))
    assert settle(failing, NOT_FOUND).due_at == NOW + timedelta(hours=24)


@pytest.mark.parametrize(("kind", "attempts"), [("bad_request", 2), ("unreadable", 5), ("unstorable", 5)])
def test_an_orders_fault_has_so_many_chances(kind: str, attempts: int) -> None:
    failure = Failure(kind, "why", counts=True)
    for count in range(1, attempts + 1):
        settled = settle(claim(attempts=count, last_error=f"{kind}: why", failing_since=NOW), failure)
        assert (settled.quarantine_reason == kind) is (count == attempts)


def test_another_fault_starts_counting_anew() -> None:
    settled = settle(claim(attempts=9, last_error="not_found: 404"), Failure("bad_request", "400", counts=True))
    assert (settled.attempts, settled.quarantine_reason) == (1, None)


def test_provider_trouble_leaves_a_quarantine_alone_and_success_ends_it() -> None:
    assert settle(claim(quarantined=True), TROUBLE).keeps_quarantine
    success = settle_success("unchanged", NOW)
    assert (success.keeps_quarantine, success.quarantine_reason, success.caught_up) == (False, None, True)
    assert (success.attempts, success.troubles, success.failing_since, success.last_error) == (0, 0, None, None)


@pytest.mark.parametrize(
    ("cause", "outcome", "seconds_since_the_mark", "wait"),
    [
        ("notification", "unchanged", 0, 60), ("sweep", "older", 59, 1), ("desk", "unchanged", 60, 540),
        ("look", "unchanged", 61, 539), ("look", "unchanged", 600, None), ("notification", "unchanged", 3600, None),
        ("notification", "applied", 0, None), ("look", "applied", 60, None), ("operator", "unchanged", 0, None),
        ("replay", "unchanged", 0, None), ("repair", "unchanged", 0, None),
    ],
)  # fmt: skip
def test_second_looks_are_counted_from_the_mark(
    cause: str, outcome: str, seconds_since_the_mark: int, wait: int | None
) -> None:
    marked_at = NOW - timedelta(seconds=seconds_since_the_mark)
    at = second_look(claim(cause=cause, marked_at=marked_at), outcome, NOW)
    assert at == (None if wait is None else NOW + timedelta(seconds=wait))
    assert settle_success(outcome, None, second_look=at).answers_mark is (wait is None)


def test_no_mark_no_second_look_and_the_earlier_of_two_looks_is_the_next() -> None:
    assert second_look(claim(cause="look"), "unchanged", NOW) is None
    soon, late = NOW + timedelta(seconds=5), NOW + timedelta(days=7)
    assert settle_success("unchanged", soon, second_look=late).due_at == soon
    assert settle_success("unchanged", late, second_look=soon).due_at == soon
    assert settle_success("unchanged", None).due_at is None


@pytest.mark.parametrize(
    ("orders", "outcome", "told"),
    [(("MO44",), "redirected", "MO44"), (("ORD1", "ORD2"), "redirected", "ORD1, ORD2"), ((), "not_applicable", "no")],
)
def test_a_payment_hint_is_served_for_good(orders: tuple[str, ...], outcome: str, told: str) -> None:
    settlement = settle_hint(orders)
    assert (settlement.outcome, settlement.caught_up, settlement.due_at) == (outcome, True, None)
    assert told in (settlement.detail or "")
    assert (settlement.attempts, settlement.troubles, settlement.failing_since) == (0, 0, None)
    assert (settlement.last_error, settlement.quarantine_reason) == (None, None)
