"""Natural batching: who travels together, who is released when, and what one bad item or a leaving caller may cost."""

import asyncio
import contextlib
import gc
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.database.batching import NaturalBatcher, Overloaded
from service.telemetry import metrics


class Poisonous(Exception):  # noqa: N818 - it describes the item
    """One item's values are wrong."""


class DatabaseDown(Exception):  # noqa: N818 - it describes the state
    """Nobody's values are wrong."""


def is_item_fault(error: BaseException) -> bool:
    return isinstance(error, Poisonous)


@dataclass
class Flushes:
    """A flush that waits to be let go, and remembers what it was given."""

    batches: list[list[int]] = field(default_factory=list)
    gates: list["asyncio.Future[None]"] = field(default_factory=list)
    open: bool = False
    now: int = 0
    most_at_once: int = 0
    outcome: Callable[[Sequence[int]], None] = lambda items: None

    async def __call__(self, items: Sequence[int]) -> list[str]:
        self.batches.append(list(items))
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        try:
            if not self.open:
                gate = asyncio.get_running_loop().create_future()
                self.gates.append(gate)
                await gate
            self.outcome(items)
            return [f"stored {item}" for item in items]
        finally:
            self.now -= 1

    def let_go(self, number: int) -> None:
        self.gates[number].set_result(None)

    def let_all_go(self) -> None:
        self.open = True
        for gate in self.gates:
            if not gate.done():
                gate.set_result(None)


def batcher(flushes: Flushes, **options: Any) -> NaturalBatcher[int, str]:
    return NaturalBatcher(flushes, **{"name": "test", "is_item_fault": is_item_fault, **options})


async def until(condition: Callable[[], bool]) -> None:
    """Turns of the event loop until it holds; everything here is in one process, so few are needed."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")


def submit(natural: NaturalBatcher[int, str], *items: int) -> list["asyncio.Task[str]"]:
    return [asyncio.ensure_future(natural.submit(item)) for item in items]


async def test_what_is_handed_in_at_once_travels_together() -> None:
    flushes = Flushes(open=True)
    natural = batcher(flushes)
    assert await asyncio.gather(*submit(natural, 1, 2, 3)) == ["stored 1", "stored 2", "stored 3"]
    assert flushes.batches == [[1, 2, 3]]


async def test_while_flushes_run_arrivals_join_the_next_in_order() -> None:
    flushes = Flushes()
    natural = batcher(flushes, in_flight=2, max_size=4)
    first = submit(natural, 1)
    await until(lambda: flushes.batches == [[1]])
    second = submit(natural, 2)
    await until(lambda: flushes.batches == [[1], [2]])
    later = submit(natural, 3, 4, 5, 6, 7)
    await until(lambda: natural.waiting == 5)
    flushes.let_go(1)
    await until(lambda: len(flushes.batches) == 3)
    assert flushes.batches[2] == [3, 4, 5, 6]
    await until(second[0].done)
    assert not first[0].done()
    assert not later[0].done(), "released by another flush than its own"
    flushes.let_all_go()
    await asyncio.gather(*first, *second, *later)
    assert flushes.batches[3] == [7]
    assert flushes.most_at_once == 2


async def test_one_poisonous_item_does_not_fail_its_neighbours() -> None:
    def refuse_three(items: Sequence[int]) -> None:
        if 3 in items:
            raise Poisonous("3")

    flushes = Flushes(open=True, outcome=refuse_three)
    results = await asyncio.gather(*submit(batcher(flushes), 1, 2, 3, 4), return_exceptions=True)
    assert [results[0], results[1], results[3]] == ["stored 1", "stored 2", "stored 4"]
    assert isinstance(results[2], Poisonous)
    assert flushes.batches == [[1, 2, 3, 4], [1], [2], [3], [4]]


async def test_any_other_error_goes_to_the_whole_batch_once() -> None:
    def down(items: Sequence[int]) -> None:
        raise DatabaseDown

    flushes = Flushes(open=True, outcome=down)
    results = await asyncio.gather(*submit(batcher(flushes), 1, 2), return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseDown, DatabaseDown]
    assert flushes.batches == [[1, 2]]


async def test_a_database_that_goes_away_during_the_single_tries_is_not_asked_for_each() -> None:
    def outcome(items: Sequence[int]) -> None:
        if len(items) > 1:
            raise Poisonous
        if items[0] >= 2:
            raise DatabaseDown

    flushes = Flushes(open=True, outcome=outcome)
    results = await asyncio.gather(*submit(batcher(flushes), 1, 2, 3, 4), return_exceptions=True)
    assert results[0] == "stored 1"
    assert [type(result) for result in results[1:]] == [DatabaseDown] * 3
    assert flushes.batches == [[1, 2, 3, 4], [1], [2]]


async def test_a_caller_who_leaves_before_its_flush_withdraws_its_item() -> None:
    flushes = Flushes()
    natural = batcher(flushes, in_flight=1)
    first = submit(natural, 1)
    await until(lambda: len(flushes.batches) == 1)
    leaving, staying = submit(natural, 2, 3)
    await until(lambda: natural.waiting == 2)
    leaving.cancel()
    await until(lambda: natural.waiting == 1)
    flushes.let_all_go()
    await asyncio.gather(*first, staying)
    assert flushes.batches == [[1], [3]]


async def test_an_item_that_comes_when_a_flusher_found_nothing_is_flushed() -> None:
    natural = batcher(Flushes(open=True), in_flight=1)
    (leaving,) = submit(natural, 1)
    await asyncio.sleep(0)  # it is handed in, and a flusher about to start
    leaving.cancel()
    (coming,) = submit(natural, 2)  # handed in between the flusher's end and the report of it
    await until(coming.done)
    assert coming.result() == "stored 2"


async def test_a_caller_who_leaves_during_its_flush_disturbs_nobody() -> None:
    flushes = Flushes()
    leaving, staying = submit(batcher(flushes), 1, 2)
    await until(lambda: len(flushes.batches) == 1)
    leaving.cancel()
    flushes.let_all_go()
    assert await staying == "stored 2"
    assert leaving.cancelled()


async def test_too_many_waiting() -> None:
    flushes = Flushes()
    natural = batcher(flushes, in_flight=1, max_waiting=2)
    running = submit(natural, 1)
    await until(lambda: len(flushes.batches) == 1)
    waiting = submit(natural, 2, 3)
    await until(lambda: natural.waiting == 2)
    with pytest.raises(Overloaded, match="test is full"):
        await natural.submit(4)
    waiting[0].cancel()
    await until(lambda: natural.waiting == 1)
    room = submit(natural, 5)
    flushes.let_all_go()
    await asyncio.gather(*running, waiting[1], *room)
    assert sorted(item for batch in flushes.batches for item in batch) == [1, 3, 5]


async def test_closing_finishes_what_was_handed_in_and_takes_no_more() -> None:
    flushes = Flushes()
    natural = batcher(flushes, in_flight=1, max_size=1)
    tasks = submit(natural, 1, 2, 3)
    await until(lambda: len(flushes.batches) == 1)
    closing = asyncio.ensure_future(natural.close())
    await until(lambda: natural._closed)
    with pytest.raises(Overloaded, match="closed"):
        await natural.submit(4)
    assert not closing.done()
    flushes.let_all_go()
    await closing
    assert [task.result() for task in tasks] == ["stored 1", "stored 2", "stored 3"]
    assert natural.waiting == 0


async def test_a_flush_with_the_wrong_number_of_results_fails_all() -> None:
    async def forgetful(items: Sequence[int]) -> list[str]:
        return []

    natural = NaturalBatcher(forgetful, name="test", is_item_fault=is_item_fault)
    with pytest.raises(RuntimeError, match="0 results for 1 items"):
        await natural.submit(1)


async def test_a_flush_that_cancels_itself_is_an_error_and_no_cancellation_of_the_callers() -> None:
    def cancel(items: Sequence[int]) -> None:
        raise asyncio.CancelledError

    flushes = Flushes(open=True, outcome=cancel)
    with pytest.raises(RuntimeError, match="cancelled from within"):
        await batcher(flushes).submit(1)


async def test_a_judge_of_faults_that_fails_itself_hangs_nobody() -> None:
    def down(items: Sequence[int]) -> None:
        raise DatabaseDown

    def bewildered(error: BaseException) -> bool:
        raise LookupError

    natural = batcher(Flushes(open=True, outcome=down), is_item_fault=bewildered)
    results = await asyncio.gather(*submit(natural, 1, 2), return_exceptions=True)
    assert [type(result) for result in results] == [LookupError, LookupError]


async def test_committed_batches_are_counted() -> None:
    def value(sample: str) -> float:
        return metrics.REGISTRY.get_sample_value(sample, {"batch": "counted"}) or 0.0

    natural = batcher(Flushes(open=True), name="counted")
    await asyncio.gather(*submit(natural, 1, 2, 3))
    assert value("cuadre_flush_size_count") == 1
    assert value("cuadre_flush_size_sum") == 3


def test_an_event_loop_that_ends_leaves_nothing_behind() -> None:
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        flushes = Flushes()
        natural = batcher(flushes, in_flight=1)
        main.tasks = submit(natural, 1, 2)  # type: ignore[attr-defined]  # a place that outlives the loop
        await until(lambda: len(flushes.batches) == 1)
        main.tasks += submit(natural, 3)  # type: ignore[attr-defined]  # as above

    asyncio.run(main())
    gc.collect()
    assert complaints == []
    assert all(task.cancelled() for task in main.tasks)  # type: ignore[attr-defined]  # as above


async def test_an_error_that_meets_a_leaving_caller_is_not_reported_as_forgotten() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def down(items: Sequence[int]) -> None:
        tasks[0].cancel()  # in the very turn in which the error is handed over
        raise DatabaseDown

    tasks = submit(batcher(Flushes(open=True, outcome=down)), 1)
    with contextlib.suppress(asyncio.CancelledError, DatabaseDown):
        await tasks[0]
    tasks.clear()
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


class Storm:
    """Random arrivals, cancellations, poison and outages; the flush holds what every flush may rely on."""

    def __init__(self, seed: int, max_size: int, in_flight: int) -> None:
        self.chance = random.Random(seed)
        self.stored: list[int] = []
        self.max_size = max_size
        self.in_flight = in_flight
        self.at_once = 0
        self.natural: NaturalBatcher[int, int] = NaturalBatcher(
            self.flush, name="test", max_size=max_size, in_flight=in_flight, is_item_fault=is_item_fault
        )

    async def pause(self) -> None:
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)

    async def flush(self, items: Sequence[int]) -> list[int]:
        self.at_once += 1
        assert self.at_once <= self.in_flight
        assert 1 <= len(items) <= self.max_size
        try:
            await self.pause()
            if self.chance.random() < 0.1:
                raise DatabaseDown
            if any(item % 7 == 0 for item in items):
                raise Poisonous
            self.stored.extend(items)
            return [-item for item in items]
        finally:
            self.at_once -= 1

    async def caller(self, item: int) -> int:
        await self.pause()
        return await self.natural.submit(item)

    async def run(self, callers: int) -> list[int | BaseException]:
        tasks = [asyncio.ensure_future(self.caller(item)) for item in range(callers)]
        for task in self.chance.sample(tasks, len(tasks) // 4):
            await self.pause()
            task.cancel()
        for _ in range(10_000):  # turns of the loop, far more than this takes: a lost wake-up shows here
            if all(task.done() for task in tasks):
                break
            await asyncio.sleep(0)
        assert all(task.done() for task in tasks), "a caller waits for nobody"
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await self.natural.close()
        assert len(asyncio.all_tasks()) == 1, "an orphaned task"
        return results


@given(seed=st.integers(), max_size=st.integers(1, 5), in_flight=st.integers(1, 3), callers=st.integers(1, 60))
def test_any_interleaving_keeps_the_promises(seed: int, max_size: int, in_flight: int, callers: int) -> None:
    """Each caller gets its own answer, nobody suffers from a neighbour's poison, no item is stored twice."""
    complaints: list[dict[str, Any]] = []
    storm = Storm(seed, max_size, in_flight)

    async def main() -> list[int | BaseException]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        return await storm.run(callers)

    for item, result in enumerate(asyncio.run(main())):
        if isinstance(result, int):
            assert result == -item
            assert item in storm.stored
        elif isinstance(result, Poisonous):
            assert item % 7 == 0, "a neighbour's poison"
        else:
            assert isinstance(result, DatabaseDown | asyncio.CancelledError)
    gc.collect()
    assert complaints == []
    assert storm.natural.waiting == 0
    assert len(storm.stored) == len(set(storm.stored)), "stored twice"


@given(arrivals=st.lists(st.integers(0, 3), min_size=1, max_size=40), max_size=st.integers(1, 6))
def test_items_are_taken_in_the_order_of_their_arrival(arrivals: list[int], max_size: int) -> None:
    taken: list[int] = []

    async def flush(items: Sequence[int]) -> list[int]:
        taken.extend(items)
        await asyncio.sleep(0)
        return list(items)

    async def main() -> None:
        natural: NaturalBatcher[int, int] = NaturalBatcher(
            flush, name="test", max_size=max_size, in_flight=2, is_item_fault=is_item_fault
        )
        tasks = []
        for number, turns in enumerate(arrivals):
            tasks.append(asyncio.ensure_future(natural.submit(number)))
            for _ in range(turns):
                await asyncio.sleep(0)
        assert await asyncio.gather(*tasks) == list(range(len(arrivals)))

    asyncio.run(main())
    assert taken == list(range(len(arrivals)))
