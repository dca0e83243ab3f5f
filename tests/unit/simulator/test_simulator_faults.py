"""Who is hit by a fault, and what the settings accept."""

from typing import Any

import pytest

from service.simulator.clock import parse_time
from service.simulator.draws import Draws
from service.simulator.faults import FaultPlan
from service.simulator.idempotency import RETENTION, IdempotencyStore, KeyInUse, KeyReused


def plan(settings: dict[str, Any], seed: int = 1) -> FaultPlan:
    made = FaultPlan(Draws(seed))
    made.configure(settings)
    return made


def hits(faults: FaultPlan, subjects: list[str], times: int = 10) -> set[tuple[str, int]]:
    return {(s, n) for n in range(times) for s in subjects if faults.decide("get_order", s).fault is not None}


def test_draws_are_alike_whatever_the_order_of_calls() -> None:
    subjects = [f"order-{n}" for n in range(50)]
    settings = {"get_order": {"status": 500, "rate": 0.2}}
    forward, backward = hits(plan(settings), subjects), hits(plan(settings), subjects[::-1])
    assert forward == backward
    assert forward != hits(plan(settings, seed=2), subjects)
    assert 50 < len(forward) < 150


def test_count_hits_the_next_n_only() -> None:
    faults = plan({"search": {"status": 429, "count": 2}})
    assert [faults.decide("search", "").fault is not None for _ in range(4)] == [True, True, False, False]
    assert faults.describe()["search"][0]["count"] == 0


def test_an_entry_may_name_one_order() -> None:
    faults = plan({"get_order": {"status": 404, "order_id": "ORD1"}})
    assert faults.decide("get_order", "a", "ORD1").fault is not None
    assert faults.decide("get_order", "b", "ORD2").fault is None


def test_latencies_add_up_and_the_first_answer_wins() -> None:
    faults = plan(
        {"get_order": [{"latency_ms": 10}, {"status": 500, "latency_ms": 5}, {"status": 404}], "*": {"latency_ms": 1}}
    )
    effect = faults.decide("get_order", "a")
    assert effect.fault is not None
    assert effect.fault.status == 500
    assert effect.latency_seconds == pytest.approx(0.016)
    assert faults.decide("me", "a").latency_seconds == pytest.approx(0.001)


def test_latency_is_drawn_from_its_range() -> None:
    faults = plan({"me": {"latency_ms": [20, 40]}})
    seen = {round(faults.decide("me", "").latency_seconds * 1000) for _ in range(200)}
    assert min(seen) >= 20
    assert max(seen) <= 40
    assert len(seen) > 10


def test_settings_replace_what_they_name_and_an_empty_body_resets() -> None:
    faults = plan({"get_order": {"status": 500}, "notification": {"drop": 0.5}})
    faults.configure({"search": {"status": 429}})
    assert faults.describe().keys() >= {"get_order", "search"}
    faults.configure({"get_order": {}})
    assert "get_order" not in faults.describe()
    assert faults.notification.drop == 0.5
    faults.configure({"me": {"status": 500}, "replace": True})
    assert "search" not in faults.describe()
    faults.configure({})
    assert faults.describe() == FaultPlan(Draws(1)).describe()


def test_other_words_mean_the_same() -> None:
    main = plan({"me": {"latency_ms": [20, 40]}, "search": [{"latency_ms": 5}], "notification": {"delay_ms": 7}})
    other = plan({"me": {"latency": [20, 40]}, "search": [{"latency": 5}], "notifications": {"delay": 7}})
    assert other.describe() == main.describe()
    assert other.decide("search", "").latency_seconds == pytest.approx(0.005)
    rates = plan({"notification": {"drop": True, "duplicate": False, "reorder": True}}).notification
    assert (rates.drop, rates.duplicate, rates.reorder) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"get_order": {"latency_ms": 1, "latency": 1}},
        {"get_order": {"latency": "soon"}},
        {"notification": {"delay_ms": 1, "delay": 1}},
        {"notification": {"delay": True}},
    ],
)
def test_other_words_are_read_as_strictly(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be|are the same"):
        plan(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"get_orders": {"status": 500}},
        {"get_order": {"state": 500}},
        {"get_order": {"rate": 1.5}},
        {"get_order": {"body": "nonsense"}},
        {"get_order": {"latency_ms": [5, 1]}},
        {"get_order": {"status": "500"}},
        {"notification": {"drop": -0.1}},
        {"notification": {"sign": "uppercase"}},
        {"notification": {"sign": {"wrong": 2}}},
        {"notification": {"lose": 1}},
    ],
)
def test_wrong_settings_change_nothing(settings: dict[str, Any]) -> None:
    faults = plan({"get_order": {"status": 503}})
    before = faults.describe()
    with pytest.raises(ValueError, match=r"must be|expected"):
        faults.configure({"me": {"status": 500}} | settings)
    assert faults.describe() == before


def test_a_key_answers_again_refuses_another_request_and_is_let_go_by_a_failure() -> None:
    now = parse_time("2026-09-14T12:00:00Z")
    store = IdempotencyStore()
    assert store.begin("seller", "key", b"one", now) is None
    with pytest.raises(KeyInUse):
        store.begin("seller", "key", b"one", now)
    store.end("seller", "key", 422, b"not yet")
    assert store.begin("seller", "key", b"one", now) is None
    store.end("seller", "key", 201, b"done")
    assert store.begin("seller", "key", b"one", now) == (201, b"done")
    with pytest.raises(KeyReused):
        store.begin("seller", "key", b"two", now)
    assert store.begin("other seller", "key", b"two", now) is None
    assert store.begin("seller", "key", b"two", now + RETENTION) is None
