"""The `sync` protocol as a state machine small enough to walk through whole; see service/sync/PROTOCOL.md.

One order, two workers, a provider that changes at most `CHANGES` times. Every statement of the protocol is one step,
because each is one transaction on one row. Between two steps anything else may happen: that is what is explored.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

CHANGES = 2
MARKS = 2
CLAIMS = 3
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Held:
    """A worker's claim: its lease token, the generation it serves, its stamp, and what it read, once it did."""

    token: int
    generation: int
    stamp: int
    read: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class State:
    """`provider` and `stored` are (provider's time, content). `owed` says that a mark waits for a fetch to start."""

    provider: tuple[int, int] = (0, 0)
    changes: int = 0
    requested: int = 1
    fetched: int = 0
    due: str = "now"
    lease: int | None = None
    claims: int = 0
    stored: tuple[int, int] | None = None
    stored_stamp: int = 0
    workers: tuple[Held | None, ...] = (None,) * WORKERS
    owed: bool = True
    newest_stored: int = -1


def steps(state: State) -> Iterator[tuple[str, State]]:
    """Everything that can happen next, by name."""
    if state.changes < CHANGES:
        time, content = state.provider
        yield "provider changes", replace(state, provider=(time + 1, content + 1), changes=state.changes + 1)
        # Two changes within the provider's clock tick bear the same time.
        yield "provider changes, same time", replace(state, provider=(time, content + 1), changes=state.changes + 1)
    if state.requested < MARKS:
        # record_notifications, mark_order_due
        yield "mark", replace(state, requested=state.requested + 1, due="now", owed=True)
    if state.due != "now":
        yield "time passes", replace(state, due="now")
    if state.lease is not None:
        # The worker may be dead, or only slow: it keeps what it holds.
        yield "lease ends", replace(state, lease=None)
    for number in range(WORKERS):
        yield from _worker_steps(state, number)


def _worker_steps(state: State, number: int) -> Iterator[tuple[str, State]]:
    held = state.workers[number]
    if held is None:
        if state.due == "now" and state.lease is None and state.claims < CLAIMS:
            stamp = state.claims + 1
            claim = Held(token=stamp, generation=state.requested, stamp=stamp)
            yield f"worker {number} claims", _with(replace(state, claims=stamp, lease=stamp), number, claim)
        return
    yield f"worker {number} dies", _with(state, number, None)
    if held.read is None:
        begun = replace(state, owed=state.owed and held.generation < state.requested)
        yield f"worker {number} reads", _with(begun, number, replace(held, read=state.provider))
        yield f"worker {number} fails", _settle(_with(state, number, None), held, served=False)
    else:
        yield f"worker {number} applies", _apply(_with(state, number, None), held)


def _apply(state: State, held: Held) -> State:
    """write_orders under the fence, then settle_claims, in one commit."""
    assert held.read is not None
    older = state.stored is not None and (held.read[0], held.stamp) <= (state.stored[0], state.stored_stamp)
    if not older:
        state = replace(
            state,
            stored=held.read,
            stored_stamp=held.stamp,
            newest_stored=max(state.newest_stored, held.read[0]),
        )
    return _settle(state, held, served=True)


def _settle(state: State, held: Held, *, served: bool) -> State:
    """settle_claims: a lease that was lost settles nothing."""
    if state.lease != held.token:
        return state
    state = replace(state, lease=None)
    again = state.requested > held.generation
    if not served:
        return replace(state, due="now" if again else "retry")
    return replace(state, fetched=max(state.fetched, held.generation), due="now" if again else "later")


def _with(state: State, number: int, held: Held | None) -> State:
    workers = list(state.workers)
    workers[number] = held
    return replace(state, workers=tuple(workers))


def explore() -> dict[State, list[tuple[str, State]]]:
    """Every state that can be reached, with what can happen next in it."""
    start = State()
    seen: dict[State, list[tuple[str, State]]] = {}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        if state in seen:
            continue
        seen[state] = list(steps(state))
        waiting.extend(after for _, after in seen[state])
    return seen
