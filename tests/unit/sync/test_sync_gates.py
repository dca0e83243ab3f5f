"""How a worker divides its free slots: within the rates, fairly, and never more than there are."""

from hypothesis import given
from hypothesis import strategies as st

from service.mercadopago.account import Account
from service.mercadopago.errors import ConnectionTrouble
from service.sync.gates import Gates


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def gates(*accounts: Account) -> tuple[Gates, Clock]:
    clock = Clock()
    made = Gates(clock)
    made.follow(accounts)
    return made, clock


RATES = st.sampled_from([0.5, 1.0, 5.0, 50.0, 500.0])


@given(
    rates=st.lists(RATES, min_size=1, max_size=4),
    concurrency=st.integers(1, 64),
    busy=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=4, max_size=4),
    rounds=st.integers(1, 4),
)
def test_lanes_never_exceed_the_slots_nor_the_rates(
    rates: list[float], concurrency: int, busy: list[tuple[int, int]], rounds: int
) -> None:
    made, clock = gates(*(Account(f"a{n}", rate_per_second=rate) for n, rate in enumerate(rates)))
    in_flight = {(f"a{n}", known): busy[n][0 if known else 1] for n in range(len(rates)) for known in (True, False)}
    free = max(0, concurrency - sum(in_flight.values()))
    for _ in range(rounds):
        clock.now += 1.0
        lanes = made.lanes(clock.now, free, in_flight, concurrency)
        assert all(lane.room <= free for lane in lanes)
        assert all(lane.room > 0 for lane in lanes)
        for n in range(len(rates)):
            gate = made.gate(f"a{n}")
            assert gate is not None
            room = gate.room(clock.now)
            mine = [lane for lane in lanes if lane.account == f"a{n}"]
            assert sum(lane.room for lane in mine) <= room.known
            assert sum(lane.room for lane in mine if not lane.known) <= room.unknown


@given(rate=RATES, concurrency=st.integers(1, 8))
def test_both_queues_and_all_accounts_get_their_turn(rate: float, concurrency: int) -> None:
    names = ("a", "b", "c")
    made, clock = gates(*(Account(name, rate_per_second=rate) for name in names))
    served = set()
    for _ in range(12):
        clock.now += 10.0
        for strangers_turn in (False, True):
            lanes = made.lanes(clock.now, concurrency, {}, concurrency, strangers_turn=strangers_turn)
            served |= {(lane.account, lane.known) for lane in lanes}
    assert served == {(name, known) for name in names for known in (True, False)}


def test_an_account_with_a_slow_provider_leaves_slots_to_the_others() -> None:
    made, clock = gates(Account("slow", rate_per_second=500), Account("fast", rate_per_second=500))
    lanes = made.lanes(clock.now, 22, {("slow", True): 10}, 32)
    assert sum(lane.room for lane in lanes if lane.account == "slow") <= 6
    assert any(lane.account == "fast" for lane in lanes)


def test_a_paused_account_has_no_lane_and_says_when_it_may_be_probed() -> None:
    made, clock = gates(Account("shop"))
    gate = made.gate("shop")
    assert gate is not None
    gate.take(clock.now, known=10)
    for _ in range(10):
        gate.trouble(clock.now, ConnectionTrouble("refused"))
    assert made.lanes(clock.now, 8, {}, 8) == []
    until_room = made.seconds_until_room(clock.now)
    assert until_room is not None
    assert 5.0 <= until_room <= 5.5
    clock.now += until_room
    assert sum(lane.room for lane in made.lanes(clock.now, 8, {}, 8)) == 1


def test_accounts_that_go_are_forgotten_and_new_tokens_are_probed_at_once() -> None:
    made, clock = gates(Account("shop", access_token="old"))
    gate = made.gate("shop")
    assert gate is not None
    gate.take(clock.now, known=1)
    gate.refused(clock.now)
    assert made.lanes(clock.now, 8, {}, 8) == []
    made.follow([Account("shop", access_token="new")])
    assert sum(lane.room for lane in made.lanes(clock.now, 8, {}, 8)) == 1
    made.show()
    made.follow([])
    assert made.lanes(clock.now, 8, {}, 8) == []
    assert list(made) == []
