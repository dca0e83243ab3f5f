"""The books: expiry by the clock, planted bodies, patches, creation order, and what a seed decides."""

import json
from datetime import datetime, timedelta

import pytest

from service.simulator import lifecycle
from service.simulator.clock import format_time, parse_time
from service.simulator.config import SimulatorConfig
from service.simulator.draws import Draws
from service.simulator.ledger import Ledger
from service.simulator.merge import deep_merge
from service.simulator.spec import read_spec


def books(seed: int) -> Ledger:
    return Ledger(SimulatorConfig(), Draws(seed))


def test_orders_expire_at_their_time_in_their_order(ledger: Ledger, now: datetime) -> None:
    late, _ = ledger.create(read_spec({"expiration_time": "PT20M"}), now)
    early, _ = ledger.create(read_spec({"expiration_time": "PT10M"}), now)
    paid, _ = ledger.create(read_spec({"expiration_time": "PT10M", "status": "processed"}), now)
    assert ledger.expire_due(now + timedelta(minutes=10)) == []
    done = ledger.expire_due(now + timedelta(hours=1))
    assert [(order.order_id, event) for order, event in done] == [
        (early.order_id, "order.expired"),
        (late.order_id, "order.expired"),
    ]
    assert paid.status == "processed"
    lag = early.updated_at - (now + timedelta(minutes=10))
    assert timedelta(0) < lag <= timedelta(milliseconds=250)
    assert ledger.expire_due(now + timedelta(days=365)) == []


def test_an_online_transfer_expires_by_its_own_date(ledger: Ledger, now: datetime) -> None:
    spec = read_spec({"type": "online", "status": "action_required", "expiration_time": "PT60S"})
    order, _ = ledger.create(spec, now)
    (payment,) = order.body["transactions"]["payments"]
    assert payment["date_of_expiration"].endswith("+00:00")
    assert parse_time(payment["date_of_expiration"]) == now + timedelta(seconds=60)
    ledger.expire_due(now + timedelta(seconds=61))
    assert (order.status, order.body["status_detail"]) == ("canceled", "expired")


def test_a_patched_expiry_counts(ledger: Ledger, now: datetime) -> None:
    order, _ = ledger.create(read_spec({}), now)
    ledger.patch(order, {"expiration_time": "PT1H"}, now)
    ledger.expire_due(now + timedelta(minutes=30))
    assert order.status == "created"
    ledger.expire_due(now + timedelta(minutes=61))
    assert order.status == "expired"


def test_a_planted_body_is_kept_verbatim(ledger: Ledger, now: datetime) -> None:
    raw = {"id": "ORD00001111222233334444555566", "status": "refunded", "total_amount": 50.0, "nothing": None}
    order = ledger.plant(raw, now)
    assert json.loads(order.rendered) == raw
    with pytest.raises(ValueError, match="already"):
        ledger.plant(raw, now)
    with pytest.raises(ValueError, match="id"):
        ledger.plant({"status": "created"}, now)


def test_a_planted_order_can_live_on(ledger: Ledger, now: datetime) -> None:
    payment = {"id": "PAY1", "amount": "5.00", "status": "created"}
    raw = {"id": "ORD00001111222233334444555566", "status": "created", "transactions": {"payments": [payment]}}
    order = ledger.plant(raw, now)
    assert ledger.change(order, lifecycle.pay, now) == "order.processed"
    assert order.body["total_paid_amount"] == "5.00"


def test_a_patch_dates_the_change_unless_it_brings_a_date(ledger: Ledger, now: datetime) -> None:
    order, _ = ledger.create(read_spec({"status": "processed", "total_amount": "10.00"}), now)
    later = now + timedelta(seconds=5)
    ledger.patch(order, {"transactions": {"payments": [{"refunded_amount": "3.00"}]}}, later)
    assert order.body["transactions"]["payments"][0]["refunded_amount"] == "3.00"
    assert order.body["transactions"]["payments"][0]["paid_amount"] == "10.00"
    assert (order.updated_at, order.version) == (later, 3)
    ledger.patch(order, {"description": "x"}, later, touch=False)
    assert (order.updated_at, order.version) == (later, 4)
    ledger.patch(order, {"last_updated_date": format_time(now)}, later)
    assert order.updated_at == now


def test_overrides_plant_inconsistent_money(ledger: Ledger, now: datetime) -> None:
    spec = {"status": "processed", "total_amount": "10.00", "overrides": {"total_amount": "12.00"}}
    order, _ = ledger.create(read_spec(spec), now)
    assert json.loads(order.rendered)["total_amount"] == "12.00"
    assert order.body["transactions"]["payments"][0]["amount"] == "10.00"


def test_orders_stay_sorted_by_creation_also_when_patched(ledger: Ledger, now: datetime) -> None:
    made = [
        ledger.create(read_spec({"created_date": format_time(now + timedelta(hours=step))}), now)[0]
        for step in (2, 0, 1)
    ]
    found = ledger.created_between(now, now + timedelta(hours=2))
    assert [order.order_id for order in found] == [made[1].order_id, made[2].order_id, made[0].order_id]
    ledger.patch(made[1], {"created_date": format_time(now + timedelta(hours=9))}, now)
    assert [order.order_id for order in ledger.in_order()] == [order.order_id for order in (made[2], made[0], made[1])]
    assert len(list(ledger.created_between(now, now + timedelta(hours=2)))) == 2


def test_a_seed_decides_everything_whatever_the_order_of_arrival(now: datetime) -> None:
    specs = [{"external_reference": f"sale-{n}", "status": "partially_refunded"} for n in range(20)]
    first, second, other = books(5), books(5), books(6)
    for spec in specs:
        first.create(read_spec(spec), now)
        other.create(read_spec(spec), now)
    for spec in reversed(specs):
        second.create(read_spec(spec), now)
    assert {o.order_id: o.rendered for o in first.in_order()} == {o.order_id: o.rendered for o in second.in_order()}
    assert first.orders.keys().isdisjoint(other.orders)


def test_two_orders_of_one_reference_are_two_orders(ledger: Ledger, now: datetime) -> None:
    for _ in range(2):
        ledger.create(read_spec({"external_reference": "twice"}), now)
    assert len(ledger.orders) == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "cash"}, "type: expected one of qr, point, online"),
        ({"total_amount": "1.234"}, "total_amount"),
        ({"total_amount": -1}, "total_amount"),
        ({"stat": "created"}, "unknown members: stat"),
        ({"expiration_time": "15 minutes"}, "expiration_time"),
        ({"created_date": "2026-09-14T13:05:22"}, "offset"),
        ({"quirks": ["strange"]}, "quirks"),
        ({"test": "yes"}, "test"),
    ],
)
def test_a_wrong_spec_names_the_member(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_spec(spec)


def test_deep_merge() -> None:
    base = {"a": {"b": 1, "c": [1, {"d": 2}, 3]}, "e": 5}
    assert deep_merge(base, {"a": {"c": [None, {"x": 1}]}, "e": None, "f": [None, 1]}) == {
        "a": {"b": 1, "c": [{"d": 2, "x": 1}, 3]},
        "f": [None, 1],
    }
    assert deep_merge([1], [1, 2, None, 3]) == [1, 2, 3]
    assert base == {"a": {"b": 1, "c": [1, {"d": 2}, 3]}, "e": 5}
