"""Health: stamps of loops, draining, and checks that fail, hang or come twice."""

import asyncio

import pytest

from service.web import health as health_module
from service.web.health import HealthState
from tests.support.waiting import until


class Clock:
    """Seconds, moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_loop_that_stops_beating_is_stuck_and_one_that_ended_is_not() -> None:
    clock = Clock()
    health = HealthState({}, clock=clock)
    assert health.alive() == (True, {"status": "alive", "loops": {}})
    health.expect("sync", max_age_seconds=10)
    clock.now += 10
    assert health.alive()[0] is True
    clock.now += 0.5
    alive, facts = health.alive()
    assert alive is False
    assert facts == {
        "status": "stuck",
        "loops": {"sync": {"age_seconds": 10.5, "max_age_seconds": 10, "ok": False}},
    }
    health.beat("sync")
    assert health.alive()[0] is True
    clock.now += 11
    health.forget("sync")
    assert health.alive()[0] is True


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


async def breaks() -> bool:
    raise ConnectionError


async def hangs() -> bool:
    await asyncio.Event().wait()
    return True


async def test_ready_is_every_check_and_not_draining(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "READY_TIMEOUT_SECONDS", 0.01)
    assert await HealthState({}).ready() == (True, {"status": "ready", "checks": {}})
    health = HealthState({"a": yes, "b": no, "c": breaks, "d": hangs})
    assert await health.ready() == (
        False,
        {"status": "not_ready", "checks": {"a": True, "b": False, "c": False, "d": False}},
    )
    healthy = HealthState({"a": yes})
    assert (await healthy.ready())[0] is True
    healthy.drain()
    assert healthy.draining
    assert await healthy.ready() == (False, {"status": "draining", "checks": {}})
    assert healthy.alive()[0] is True


async def test_probes_at_the_same_time_ask_once_and_draining_counts_at_once() -> None:
    asked, reached, answer = 0, asyncio.Event(), asyncio.Event()

    async def check() -> bool:
        nonlocal asked
        asked += 1
        reached.set()
        await answer.wait()
        return True

    health = HealthState({"database": check})
    probes = [asyncio.create_task(health.ready()) for _ in range(5)]
    await reached.wait()
    probes[0].cancel()
    health.drain()
    answer.set()
    results = await asyncio.gather(*probes[1:])
    assert asked == 1
    assert {ready for ready, _ in results} == {False}
    assert {facts["status"] for _, facts in results} == {"draining"}


async def test_a_check_that_is_slow_to_end_holds_up_no_probe_and_is_not_asked_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health_module, "READY_TIMEOUT_SECONDS", 0.01)
    asked, frozen, let_go = 0, True, asyncio.Event()

    async def check() -> bool:
        nonlocal asked
        asked += 1
        try:
            if frozen:
                await asyncio.Event().wait()
        finally:
            # As a pool does that waits for the server to confirm the end of a statement.
            if frozen:
                await let_go.wait()
        return True

    health = HealthState({"database": check, "schema": yes})
    async with asyncio.timeout(10):
        for _ in range(3):
            assert await health.ready() == (
                False,
                {"status": "not_ready", "checks": {"database": False, "schema": True}},
            )
    assert asked == 1, "no second one while the first has not ended"
    frozen = False
    assert not (await health.ready())[0]
    let_go.set()

    async def is_ready() -> bool:
        return (await health.ready())[0]

    await until(is_ready, what="asked anew, and ready")
    assert asked == 2


async def test_a_check_that_is_cancelled_from_within_counts_as_no() -> None:
    async def cancelled() -> bool:
        raise asyncio.CancelledError

    assert not (await HealthState({"database": cancelled}).ready())[0]
