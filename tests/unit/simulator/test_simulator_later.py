"""What happens later, what is refused too soon, and which rules a provider follows."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.simulator import not_yet
from service.simulator.agenda import Agenda
from service.simulator.config import SimulatorConfig
from service.simulator.draws import Draws
from service.simulator.idempotency import RETENTION, IdempotencyStore
from service.simulator.ledger import Ledger
from service.simulator.lifecycle import pay
from service.simulator.refund_rules import check_refund, read_refunds
from service.simulator.rules import usual_rules
from service.simulator.schema import Invalid
from service.simulator.spec import read_spec

NOW = datetime(2026, 9, 14, 12, 0, tzinfo=UTC)


def switch(settings: dict[str, Any]) -> not_yet.NotYet:
    made = not_yet.NotYet(Draws(1))
    made.set(not_yet.read(settings))
    return made


def test_the_agenda_goes_by_time_then_by_order() -> None:
    agenda, done = Agenda(), []
    for name, seconds in (("b", 2), ("a", 1), ("c", 2)):
        agenda.put(NOW + timedelta(seconds=seconds), lambda at, name=name: done.append((name, at)))  # type: ignore[misc]  # the default binds the name
    assert agenda.pop_due(NOW) is None
    while (entry := agenda.pop_due(NOW + timedelta(seconds=2))) is not None:
        entry[1](entry[0])
    assert [name for name, _ in done] == ["a", "b", "c"]
    assert done[0][1] == NOW + timedelta(seconds=1)


def test_too_soon_ends_by_time_or_by_number() -> None:
    timed = switch({"refund": {"seconds": 4}})
    assert timed.refusal("refund", "o", NOW, NOW + timedelta(seconds=3)) == (422, "unprocessable_entity")
    assert timed.refusal("refund", "o", NOW, NOW + timedelta(seconds=4)) is None
    assert timed.refusal("cancel", "o", NOW, NOW) is None
    counted = switch({"cancel": {"times": 2}})
    assert [counted.refusal("cancel", "o", None, NOW) is None for _ in range(3)] == [False, False, True]
    assert counted.refusal("cancel", "other", None, NOW) is not None


def test_too_soon_hits_a_share_with_drawn_codes() -> None:
    codes = ["unprocessable_entity", "post_processing_operation_pending"]
    made = switch({"refund": {"code": codes, "rate": 0.5, "times": 1}})
    refusals = [made.refusal("refund", f"order-{n}", NOW, NOW) for n in range(200)]
    assert 60 < sum(one is not None for one in refusals) < 140
    assert {one[1] for one in refusals if one} == set(codes)


@pytest.mark.parametrize(
    "settings", [{"create": {}}, {"refund": {"code": "other"}}, {"refund": {"rate": "1"}}, {"refund": {"ways": 1}}, []]
)
def test_wrong_switches_are_refused(settings: Any) -> None:
    with pytest.raises(ValueError, match="not_yet"):
        not_yet.read(settings)


def test_rules_start_as_configured() -> None:
    rules = usual_rules(SimulatorConfig(known_pos=("B", "A"), known_terminals=()))
    assert rules.described()["known_pos"] == ["A", "B"]
    assert rules.changed({"refund_window_days": None}).refund_window_days is None
    with pytest.raises(ValueError, match="queued_code: expected one of"):
        rules.changed({"queued_code": "busy"})


def test_old_keys_are_let_go() -> None:
    store = IdempotencyStore()
    for n in range(100):
        store.begin("seller", f"k{n}", b"", NOW)
        store.end("seller", f"k{n}", 402 if n % 2 else 201, b"")
    later = NOW + RETENTION
    for n in range(100):
        assert store.begin("seller", f"k{n}", b"", later) is None
        store.end("seller", f"k{n}", 201, b"")
    assert store.begin("seller", "k1", b"", later) == (201, b"")
    assert len(store._kept) == 100


def test_refunds_are_read_strictly() -> None:
    assert read_refunds({}) == [(None, None)]
    assert read_refunds({"transactions": [{"id": "PAY1"}]}) == [("PAY1", None)]
    wrong: list[dict[str, Any]] = [{"transactions": []}, {"transactions": [{"amount": "1.00"}]}, {"amount": "1.00"}]
    for body in wrong:
        with pytest.raises(Invalid):
            read_refunds(body)


def test_the_window_is_counted_from_the_payment(ledger: Ledger, now: datetime) -> None:
    order, _ = ledger.create(read_spec({}), now)
    assert order.paid_at is None
    ledger.change(order, pay, now + timedelta(minutes=5))
    paid_at = now + timedelta(minutes=5)
    assert order.paid_at == paid_at
    check_refund(order.body, [(None, None)], paid_at, paid_at + timedelta(days=180), 180)
    with pytest.raises(Invalid, match="older than 180 days"):
        check_refund(order.body, [(None, None)], paid_at, paid_at + timedelta(days=181), 180)


def test_open_orders_stand_at_their_places(ledger: Ledger, now: datetime) -> None:
    first, second = (ledger.create(read_spec({"external_pos_id": "C"}), now)[0] for _ in range(2))
    place = ("pos", ledger.config.user_id, "C")
    assert (ledger.open_at(place), ledger.shown_at(place)) == ([first, second], second)
    ledger.patch(second, {"config": {"qr": {"external_pos_id": "D"}}}, now)
    assert (ledger.open_at(place), ledger.shown_at(place)) == ([first], None)
    ledger.change(first, pay, now)
    assert ledger.open_at(place) == []
    assert ledger.places() == {("pos", ledger.config.user_id, "D"): [second]}
