"""Natural batching: while a flush is in flight, everything that arrives joins the next one.

No timer: an idle batcher flushes what arrives at once, a busy one flushes as much as came meanwhile. The busier, the
larger the batches, up to `max_size`; see "Speed by shape" in the architecture document.
"""

import asyncio
import contextvars
import functools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from service.database.errors import Overloaded
from service.telemetry import metrics

__all__ = ["NaturalBatcher", "Overloaded"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class NaturalBatcher(Generic[Item, Result]):
    """Gathers items of many callers into few flushes.

    `flush` gets 1 to `max_size` items in the order of their arrival and returns one result for each, in that order.
    At most `in_flight` flushes run at a time. A caller is released when the flush with its item has ended, not before
    (for a flush that commits: after *that* commit).

    If a flush of several items raises and `is_item_fault` says that one item's values were the reason, each is tried
    alone, so that one poisonous item cannot fail its neighbours; any other error goes to every caller of the batch.
    A caller who is cancelled before its item is taken withdraws the item; later, the flush goes on undisturbed.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        name: str,
        max_size: int = 16,
        in_flight: int = 2,
        max_waiting: int = 10_000,
        is_item_fault: Callable[[BaseException], bool],
    ) -> None:
        if min(max_size, in_flight, max_waiting) < 1:
            raise ValueError("max_size, in_flight and max_waiting are at least 1")
        self._flush = flush
        self._name = name
        self._max_size = max_size
        self._in_flight = in_flight
        self._max_waiting = max_waiting
        self._is_item_fault = is_item_fault
        self._flush_size = metrics.flush_size.labels(name)
        # Keyed by the caller's future: withdrawn in O(1), taken from the front in O(1).
        self._queue: OrderedDict[asyncio.Future[Result], Item] = OrderedDict()
        # Flushers by token: created but not yet run, created and not yet at their end, and their tasks.
        self._starting: set[object] = set()
        self._flushing: set[object] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Items that no flush has taken yet."""
        return len(self._queue)

    async def submit(self, item: Item) -> Result:
        """Hand in one item and wait for its flush. Raises `Overloaded`, or what the flush raised."""
        if self._closed:
            raise Overloaded(f"batch {self._name} is closed: the process is shutting down")
        if len(self._queue) >= self._max_waiting:
            raise Overloaded(f"batch {self._name} is full: {self._max_waiting} items wait for the database")
        released: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue[released] = item
        self._start_flushers()
        try:
            return await released
        finally:
            self._queue.pop(released, None)
            if released.done() and not released.cancelled():
                # A caller cancelled in the very moment of release never looks at the error; it counts as seen.
                released.exception()

    async def close(self) -> None:
        """Take no more items, and return when all that was handed in is flushed or has failed."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start_flushers(self) -> None:
        # A flusher takes its batch when it first runs, not here: all that is handed in during one turn of the event
        # loop travels together. So more flushers are started only for what those about to start cannot take.
        while len(self._flushing) < self._in_flight and len(self._starting) * self._max_size < len(self._queue):
            flusher = object()
            self._starting.add(flusher)
            self._flushing.add(flusher)
            # An empty context: a flush serves many callers and must not log with the fields of the first.
            task = asyncio.get_running_loop().create_task(
                self._flush_until_idle(flusher), name=f"flush {self._name}", context=contextvars.Context()
            )
            self._tasks.add(task)
            task.add_done_callback(functools.partial(self._flusher_ended, flusher))

    async def _flush_until_idle(self, flusher: object) -> None:
        self._starting.discard(flusher)
        try:
            while batch := self._take():
                await self._release(batch)
        finally:
            # Here and not when the task is reported as done, which is a turn later: what is handed in meanwhile would
            # wait for a flusher that takes nothing any more.
            self._flushing.discard(flusher)

    def _flusher_ended(self, flusher: object, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._starting.discard(flusher)  # if it was cancelled before it ran
        self._flushing.discard(flusher)
        if task.cancelled() or task.exception() is not None:
            # Only an event loop that is going down cancels a flusher, and only KeyboardInterrupt and its like get out
            # of one. Nobody would flush what waits.
            for released in list(self._queue):
                released.cancel()
            self._queue.clear()

    def _take(self) -> list[tuple[asyncio.Future[Result], Item]]:
        batch: list[tuple[asyncio.Future[Result], Item]] = []
        while self._queue and len(batch) < self._max_size:
            released, item = self._queue.popitem(last=False)
            if not released.done():
                batch.append((released, item))
        return batch

    async def _release(self, batch: list[tuple[asyncio.Future[Result], Item]]) -> None:
        try:
            error = await self._try(batch)
            if error is not None:
                await self._retry_alone(batch, error)
        except Exception as error:
            _fail(batch, error)  # `is_item_fault` itself failed
        except BaseException:
            for released, _ in batch:
                released.cancel()
            raise

    async def _retry_alone(self, batch: list[tuple[asyncio.Future[Result], Item]], error: Exception) -> None:
        if len(batch) == 1 or not self._is_item_fault(error):
            _fail(batch, error)
            return
        for position, (released, item) in enumerate(batch):
            if released.done():
                continue  # the caller has gone; alone, its item has nobody to be stored for
            alone = await self._try([(released, item)])
            if alone is not None and not self._is_item_fault(alone):
                # The database went away meanwhile: it would only go away again for each of the rest.
                _fail(batch[position:], alone)
                return
            if alone is not None:
                _fail([(released, item)], alone)

    async def _try(self, batch: list[tuple[asyncio.Future[Result], Item]]) -> Exception | None:
        """Flush and release; or say why not, with nobody released."""
        try:
            results = await self._flush([item for _, item in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"flush of {self._name} returned {len(results)} results for {len(batch)} items")
        except Exception as error:
            return error  # whatever it is, the callers get it
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The flush cancelled itself. Passed on as it is, it would look to the callers as if they were cancelled.
            return RuntimeError(f"flush of {self._name} was cancelled from within")
        self._flush_size.observe(len(batch))
        for (released, _), result in zip(batch, results, strict=True):
            if not released.done():
                released.set_result(result)
        return None


def _fail(batch: Sequence[tuple[asyncio.Future[Result], Item]], error: Exception) -> None:
    for released, _ in batch:
        if not released.done():
            released.set_exception(error)
