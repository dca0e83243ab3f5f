"""Every interleaving of the `sync` protocol, in small: no older state replaces a newer one, no mark is forgotten."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

import service.intake
import service.sync
from service.database.queries import load
from tests.unit.model import sync_model
from tests.unit.model.sync_model import State, explore

States = dict[State, list[tuple[str, State]]]


@pytest.fixture(scope="module")
def states() -> States:
    return explore()


def test_the_walk_is_worth_its_name(states: States) -> None:
    names = {re.sub(r"\d", "", name) for following in states.values() for name, _ in following}

    assert len(states) > 10_000
    assert names == {
        "provider changes", "provider changes, same time", "mark", "time passes", "lease ends", "worker  claims",
        "worker  dies", "worker  reads", "worker  fails", "worker  applies",
    }  # fmt: skip


def test_an_older_state_never_replaces_a_newer_one(states: States) -> None:
    """I3, by the provider's time; what bears the same time is decided by the later claim."""
    for state, following in states.items():
        for name, after in following:
            if state.stored is not None:
                assert after.stored is not None, name
                assert after.stored[0] >= state.stored[0], name
                assert after.stored == state.stored or after.stored_stamp != state.stored_stamp, name


def test_a_mark_is_followed_by_a_read_that_starts_after_it(states: States) -> None:
    """I2: where only the schedule asks for a look, every mark has had its read."""
    for state in states:
        if state.due == "later" and state.lease is None:
            assert not state.owed, state


def test_a_worker_that_lost_its_lease_settles_nothing(states: States) -> None:
    for state, following in states.items():
        for name, after in following:
            if name.endswith(("applies", "fails")):
                held = state.workers[int(name.split()[1])]
                assert held is not None
                if held.token != state.lease:
                    assert (after.lease, after.due, after.fetched) == (state.lease, state.due, state.fetched)


def test_no_mark_waits_because_a_look_that_began_before_it_failed(states: States) -> None:
    for state, following in states.items():
        for name, after in following:
            if name.endswith("fails"):
                held = state.workers[int(name.split()[1])]
                assert held is not None
                if held.token == state.lease and held.generation < state.requested:
                    assert after.due == "now", state


def test_a_row_is_never_forgotten(states: States) -> None:
    """I4: a look is owed in every state, so there is always a way on."""
    for state in states:
        assert state.due in {"now", "retry", "later"}


def test_the_stored_state_can_always_catch_up(states: States) -> None:
    """I4: from every state, once the provider rests and workers are well, the stored state becomes the provider's."""
    for state in states:
        assert _comes_to_rest(state, states).stored == state.provider


def _comes_to_rest(state: State, walked: States) -> State:
    """The workers do their steps, leases end, time passes, and one more look is had: nothing else happens."""
    for number, held in enumerate(state.workers):
        if held is not None:
            wanted = f"worker {number} "
            while state.workers[number] is not None:
                options = dict(walked[state])
                state = options.get(wanted + "applies") or options[wanted + "reads"]
    # One more look, by a worker that claims after all of that.
    state = replace(state, lease=None, due="now", claims=0)
    fresh = sync_model.Held(token=99, generation=state.requested, stamp=99)
    state = replace(state, lease=99, workers=(fresh, None))
    for step in ("worker 0 reads", "worker 0 applies"):
        state = dict(sync_model.steps(state))[step]
    return state


PINNED = {
    "claim_due_orders": "55b85c81c8fb08bd",
    "mark_order_due": "90c553716ab12a70",
    "settle_claims": "4951543bda28d49c",
    "record_notifications": "3d8ac3edaf8dd54a",
}


def test_the_statements_are_the_ones_that_were_modelled() -> None:
    """Whoever changes one of these statements reads the model again, changes it where needed, and pins it anew."""
    found = {}
    for package in (service.sync, service.intake):
        queries = load(Path(package.__file__ or "").with_name("queries.sql"))
        for name in PINNED:
            text = getattr(queries, name, None)
            if text is not None:
                found[name] = hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]

    assert found == PINNED
