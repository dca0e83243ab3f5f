"""The fence: whatever the order of deliveries, the newest snapshot is the one that stays."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from service.orders.fence import AHEAD_AT_MOST, Stamp, supersedes
from tests.unit.orders.orders_samples import NOW


def at(updated: int | None, claimed: int) -> Stamp:
    return Stamp(None if updated is None else _second(updated), _second(claimed))


def _second(number: int) -> datetime:
    return NOW + timedelta(seconds=number)


def stays(deliveries: Iterable[Stamp]) -> Stamp:
    first, *rest = deliveries
    stored = first
    for candidate in rest:
        if supersedes(candidate, stored):
            stored = candidate
    return stored


def test_the_later_provider_time_wins_however_late_it_was_claimed() -> None:
    assert supersedes(at(2, claimed=1), at(1, claimed=9))
    assert not supersedes(at(1, claimed=9), at(2, claimed=1))


def test_the_later_claim_of_one_provider_time_wins() -> None:
    assert supersedes(at(1, claimed=2), at(1, claimed=1))
    assert not supersedes(at(1, claimed=1), at(1, claimed=2))


def test_without_a_provider_time_on_either_side_the_claim_decides() -> None:
    for old, new in [(None, None), (5, None), (None, 5)]:
        assert supersedes(at(new, claimed=2), at(old, claimed=1))
        assert not supersedes(at(new, claimed=1), at(old, claimed=2))
        assert not supersedes(at(new, claimed=1), at(old, claimed=1))


def test_every_order_of_deliveries_ends_with_the_newest_provider_time() -> None:
    stamps = [at(1, claimed=5), at(2, claimed=3), at(2, claimed=4), at(3, claimed=1), at(3, claimed=2)]
    assert {stays(deliveries) for deliveries in permutations(stamps)} == {at(3, claimed=2)}


def test_every_order_of_deliveries_without_provider_times_ends_with_the_last_claim() -> None:
    stamps = [at(None, claimed=number) for number in range(5)]
    assert {stays(deliveries) for deliveries in permutations(stamps)} == {at(None, claimed=4)}


def test_mixed_stamps_are_decided_pair_by_pair_and_settled_by_a_fresh_fetch() -> None:
    circle = [at(3, claimed=1), at(None, claimed=2), at(2, claimed=3)]
    assert [supersedes(circle[(place + 1) % 3], circle[place]) for place in range(3)] == [True, True, True]
    assert {stays(deliveries) for deliveries in permutations(circle)} == set(circle)
    fresh = at(3, claimed=4)
    assert {stays([*deliveries, fresh]) for deliveries in permutations(circle)} == {fresh}


AHEAD = int(AHEAD_AT_MOST.total_seconds())


def test_a_provider_time_too_far_ahead_of_its_own_claim_counts_as_none() -> None:
    believed, absurd = at(5 + AHEAD, claimed=5), at(5 + AHEAD + 1, claimed=5)
    assert (believed.provider_time, absurd.provider_time) == (believed.updated_at, None)
    assert not supersedes(at(7, claimed=7), believed)
    assert supersedes(at(7, claimed=7), absurd), "the way out"
    assert not supersedes(at(3, claimed=3), absurd)
    assert not supersedes(absurd, at(7, claimed=7)), "nor does it come back by a slow worker"


def test_wrong_dates_end_with_the_last_claim() -> None:
    stamps = [at(10**6 - number, claimed=number) for number in range(5)]
    assert {stays(deliveries) for deliveries in permutations(stamps)} == {stamps[-1]}


STAMPS = st.builds(at, st.sampled_from([None, 0, 1, 2, 3, AHEAD + 2, 10**6]), claimed=st.integers(0, 3))
TIMED = st.builds(at, st.integers(0, 3), claimed=st.integers(0, 3))


@given(STAMPS, STAMPS)
def test_two_stamps_never_beat_each_other_and_none_beats_itself(one: Stamp, other: Stamp) -> None:
    assert not (supersedes(one, other) and supersedes(other, one))
    assert not supersedes(one, one)
    if one.claimed_at != other.claimed_at:
        assert supersedes(one, other) or supersedes(other, one)


@given(st.lists(STAMPS, max_size=3))
def test_a_fresh_answer_that_can_be_believed_always_has_a_way_in(stamps: list[Stamp]) -> None:
    """Claimed last, and dated no earlier than anything that could be true: whatever was stored before, it stays."""
    fresh = at(AHEAD + 4, claimed=4)
    assert stays([*stamps, fresh]) == fresh


@given(st.lists(TIMED, min_size=1, max_size=4))
def test_all_orders_of_timed_deliveries_converge(stamps: list[Stamp]) -> None:
    newest = max(stamps, key=lambda stamp: (stamp.updated_at or NOW, stamp.claimed_at))
    assert {stays(deliveries) for deliveries in permutations(stamps)} == {newest}


@given(TIMED, TIMED, TIMED)
def test_timed_stamps_are_transitive(one: Stamp, two: Stamp, three: Stamp) -> None:
    if supersedes(two, one) and supersedes(three, two):
        assert supersedes(three, one)
