"""The pace of one account: buckets, rate limits, the breaker, refusals, and that no state shuts the gate for good."""

import copy
import math
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.mercadopago.errors import ProviderTrouble, RateLimited, ServerTrouble, Timeout
from service.mercadopago.pacing import PROBE_LOST_SECONDS, AccountGate, Room, backoff_seconds

DOWN = ServerTrouble("503")


def gate(rate: float = 50.0, share: float = 0.5) -> AccountGate:
    return AccountGate(rate, unknown_share=share, random=lambda: 0.0)


def fail(paced: AccountGate, now: float, times: int = 10, error: ProviderTrouble = DOWN) -> None:
    paced.take(now, known=times)
    for _ in range(times):
        paced.trouble(now, error)


def drain(paced: AccountGate, now: float) -> int:
    taken = paced.room(now).known
    paced.take(now, known=taken)
    return taken


# Buckets ------------------------------------------------------------------------------------------------------------


def test_a_burst_then_the_rate() -> None:
    paced = gate(50)
    assert paced.room(0.0) == Room(10, 5)
    paced.take(0.0, known=10)
    assert paced.room(0.0) == Room(0, 0)
    assert paced.next_change(0.0) == pytest.approx(1 / 50)
    assert paced.room(0.1) == Room(5, 5)
    assert paced.room(100.0) == Room(10, 5)
    assert paced.next_change(100.0) is None


def test_unknown_orders_use_their_share_only() -> None:
    paced = gate(50)
    paced.take(0.0, unknown=5)
    assert paced.room(0.0) == Room(5, 0)
    assert paced.next_change(0.0) == pytest.approx(1 / 25)
    assert paced.room(0.04) == Room(7, 1)


def test_unknown_orders_draw_on_the_whole_as_well() -> None:
    paced = gate(50)
    paced.take(0.0, known=8)
    assert paced.room(0.0) == Room(2, 2)
    assert paced.room(0.0).unknown_beside(1) == 1
    assert paced.room(0.0).unknown_beside(5) == 0


def test_what_is_taken_beyond_the_room_is_owed() -> None:
    paced = gate(50)
    paced.take(0.0, known=20)
    assert paced.next_change(0.0) == pytest.approx(11 / 50)
    assert paced.room(0.19).known == 0
    assert paced.room(0.22).known == 1


@pytest.mark.parametrize("rate", [0.01, 0.5, 1, 3])
def test_slow_rates_come_one_at_a_time(rate: float) -> None:
    paced = gate(rate)
    assert paced.room(0.0) == Room(1, 1)
    paced.take(0.0, known=1)
    assert paced.next_change(0.0) == pytest.approx(1 / rate)
    assert paced.room(1 / rate).known == 1


def test_time_that_runs_backwards_gives_nothing() -> None:
    paced = gate(50)
    assert drain(paced, 100.0) == 10
    assert paced.room(50.0).known == 0
    assert paced.room(100.1).known == 5


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
def test_odd_settings_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate_per_second"):
        gate(rate)
    with pytest.raises(ValueError, match="rate_per_second"):
        gate().configure(rate, credentials_changed=False)
    for share in (0, 1.5, -1, math.nan):
        with pytest.raises(ValueError, match="unknown_share"):
            gate(share=share)


# 429 ----------------------------------------------------------------------------------------------------------------


def test_a_429_halves_the_rate_once_for_all_answers_under_way() -> None:
    paced = gate(40)
    paced.take(0.0, known=3)
    for _ in range(3):
        paced.trouble(0.0, RateLimited("429"))
    assert paced.rate_per_second == 20
    paced.trouble(1.0, RateLimited("429"))
    assert paced.rate_per_second == 10
    for second in range(2, 20):
        paced.trouble(float(second), RateLimited("429"))
    assert paced.rate_per_second == 0.5
    assert gate(0.1).rate_per_second == 0.1


def test_a_lowered_rate_rises_slowly_after_a_quiet_while() -> None:
    paced = gate(40)
    paced.trouble(0.0, RateLimited("429"))
    for now, rate in ((5.0, 20), (10.0, 20), (11.0, 22), (13.0, 26), (20.0, 40), (99.0, 40)):
        paced.room(now)
        assert paced.rate_per_second == pytest.approx(rate)


@pytest.mark.parametrize(("asked", "seconds"), [(7.0, 7.0), (900.0, 900.0), (5000.0, 900.0)])
def test_retry_after_pauses_the_account(asked: float, seconds: float) -> None:
    paced = gate(40)
    paced.trouble(0.0, RateLimited("429", retry_after_seconds=asked))
    assert paced.paused(0.0) == "rate_limited"
    assert paced.next_change(0.0) == pytest.approx(seconds)
    assert paced.room(seconds - 0.1) == Room(0, 0)
    assert paced.paused(seconds) is None
    assert paced.room(seconds).known >= 1


def test_429_is_no_outage() -> None:
    paced = gate(40)
    for second in range(50):
        fail(paced, float(second), 1, RateLimited("429"))
    assert paced.paused(50.0) is None


# The breaker --------------------------------------------------------------------------------------------------------


def test_the_breaker_opens_after_ten_failures_in_a_row() -> None:
    paced = gate()
    fail(paced, 0.0, 9)
    assert paced.paused(0.0) is None
    paced.take(0.0, known=1)
    paced.succeeded(0.0)
    fail(paced, 0.0, 9, Timeout("no answer"))
    assert paced.paused(0.0) is None
    fail(paced, 0.0, 1)
    assert paced.paused(0.0) == "outage"
    assert paced.room(4.9) == Room(0, 0)
    assert paced.next_change(0.0) == pytest.approx(5)


@pytest.mark.parametrize("lane", ["known", "unknown"])
def test_one_probe_at_a_time_at_doubling_distances(lane: str) -> None:
    paced = gate()
    fail(paced, 0.0)
    now = 0.0
    for distance in (5, 10, 20, 40, 60, 60):
        assert paced.room(now + distance - 0.01) == Room(0, 0)
        now += distance
        assert paced.room(now) == Room(1, 1)
        assert paced.room(now) == Room(1, 1)  # asking takes nothing
        paced.take(now, **{lane: 1})
        assert paced.room(now) == Room(0, 0)
        now += 1
        assert paced.room(now) == Room(0, 0)
        paced.trouble(now, DOWN)
        assert paced.paused(now) == "outage"


@pytest.mark.parametrize("report", ["succeeded", "order_fault"])
def test_an_answer_opens_the_gate_and_begins_anew(report: str) -> None:
    paced = gate()
    fail(paced, 0.0)
    paced.take(5.0, known=1)
    getattr(paced, report)(6.0)
    assert paced.paused(6.0) is None
    assert paced.room(6.0).known > 1
    assert paced.last_success == (6.0 if report == "succeeded" else None)
    fail(paced, 10.0, 9)
    assert paced.paused(10.0) is None
    fail(paced, 10.0, 1)
    assert paced.next_change(10.0) == pytest.approx(5)


def test_failures_still_under_way_when_it_opened_are_not_the_probes() -> None:
    paced = gate(200)
    paced.take(0.0, known=30)
    for _ in range(10):
        paced.trouble(1.0, DOWN)
    for _ in range(5):
        paced.trouble(3.0, DOWN)
    assert paced.next_change(3.0) == pytest.approx(3)
    paced.take(6.0, known=1)
    for _ in range(15):
        paced.trouble(8.0, DOWN)
        assert paced.room(8.0) == Room(0, 0)
    paced.trouble(9.0, DOWN)
    assert paced.next_change(9.0) == pytest.approx(10)


def test_a_probe_that_is_never_reported_does_not_shut_the_gate_for_good() -> None:
    paced = gate()
    fail(paced, 0.0)
    paced.take(5.0, known=1)
    assert paced.next_change(5.0) == pytest.approx(PROBE_LOST_SECONDS)
    assert paced.room(5.0 + PROBE_LOST_SECONDS) == Room(1, 1)


def test_an_abandoned_probe_is_made_again_at_once() -> None:
    paced = gate()
    fail(paced, 0.0)
    paced.take(5.0, known=1)
    paced.abandoned(6.0)
    assert paced.paused(6.0) == "outage"
    assert paced.room(6.0) == Room(1, 1)


def test_a_probe_answered_429_waits_without_doubling() -> None:
    paced = gate()
    fail(paced, 0.0)
    paced.take(5.0, known=1)
    paced.trouble(6.0, RateLimited("429", retry_after_seconds=7))
    assert paced.next_change(6.0) == pytest.approx(7)
    paced.take(13.0, known=1)
    paced.trouble(13.0, RateLimited("429"))
    assert paced.next_change(13.0) == pytest.approx(5)


def test_probes_come_up_to_a_tenth_later() -> None:
    paced = AccountGate(50, random=lambda: 0.999)
    fail(paced, 0.0)
    assert paced.next_change(0.0) == pytest.approx(5 * 1.0999)


# Refusals -----------------------------------------------------------------------------------------------------------


def test_a_refused_account_is_probed_after_30_seconds_doubling_to_5_minutes() -> None:
    paced = gate()
    paced.take(0.0, known=1)
    paced.refused(0.0)
    now = 0.0
    for distance in (30, 60, 120, 240, 300, 300):
        assert paced.paused(now) == "refused"
        assert paced.next_change(now) == pytest.approx(distance)
        now += distance
        assert paced.room(now) == Room(1, 1)
        paced.take(now, known=1)
        paced.refused(now)
    paced.take(now + 300, known=1)
    paced.succeeded(now + 300)
    assert paced.paused(now + 300) is None


@pytest.mark.parametrize(("rate", "credentials"), [(50.0, True), (40.0, False)])
@pytest.mark.parametrize("reason", ["refused", "outage"])
def test_changed_settings_are_tried_at_once(rate: float, credentials: bool, reason: str) -> None:
    paced = gate(50)
    if reason == "refused":
        paced.take(0.0, known=1)
        paced.refused(0.0)
    else:
        fail(paced, 0.0)
    paced.configure(50, credentials_changed=False)
    assert paced.room(1.0) == Room(0, 0)
    paced.configure(rate, credentials_changed=credentials)
    assert paced.room(1.0) == Room(1, 1)
    assert paced.paused(1.0) == reason


def test_a_probe_with_the_old_settings_says_nothing_about_the_new() -> None:
    paced = gate()
    paced.take(0.0, known=1)
    paced.refused(0.0)
    paced.take(30.0, known=1)
    paced.configure(50, credentials_changed=True)
    assert paced.room(30.5) == Room(0, 0)
    paced.refused(31.0)
    assert paced.room(31.0) == Room(1, 1)
    paced.take(31.0, known=1)
    paced.refused(32.0)
    assert paced.next_change(32.0) == pytest.approx(60)


def test_new_credentials_end_a_rate_limit_that_was_the_old_ones() -> None:
    paced = gate()
    paced.trouble(0.0, RateLimited("429", retry_after_seconds=900))
    paced.configure(50, credentials_changed=True)
    assert paced.room(1.0).known >= 1


def test_an_outage_that_ends_in_a_refusal_is_a_refusal() -> None:
    paced = gate()
    fail(paced, 0.0)
    paced.take(5.0, known=1)
    paced.refused(6.0)
    assert paced.paused(6.0) == "refused"
    assert paced.next_change(6.0) == pytest.approx(30)


def test_trouble_says_nothing_about_a_refused_token() -> None:
    paced = gate()
    paced.take(0.0, known=1)
    paced.refused(0.0)
    paced.take(30.0, known=1)
    paced.trouble(31.0, DOWN)
    assert paced.paused(31.0) == "refused"
    assert paced.next_change(31.0) == pytest.approx(30)


def test_a_new_rate() -> None:
    paced = gate(50)
    paced.configure(5, credentials_changed=False)
    assert paced.rate_per_second == 5
    assert paced.room(1.0).known == 10 or paced.room(1.0).known == 1
    assert paced.room(2.0).known == 1
    paced.trouble(3.0, RateLimited("429"))
    paced.configure(50, credentials_changed=False)
    assert paced.rate_per_second == 2.5
    paced.room(60.0)
    assert paced.rate_per_second == 50


# Back-off -----------------------------------------------------------------------------------------------------------


@given(st.integers(-5, 100_000), st.floats(0, 1, exclude_max=True))
def test_backoff_stays_within_a_tenth_and_the_whole_of_its_step(count: int, random: float) -> None:
    step = min(900.0, 2.0 ** min(max(count, 1) - 1, 20))
    assert 0.1 * step <= backoff_seconds(count, 1.0, 900.0, random) <= step


def test_backoff_doubles() -> None:
    assert [backoff_seconds(count, 2.0, 300.0, 1.0) for count in (1, 2, 3, 8, 9)] == [2, 4, 8, 256, 300]
    assert backoff_seconds(3, 2.0, 300.0, 0.0) == pytest.approx(0.8)


# Everything at once -------------------------------------------------------------------------------------------------

SECONDS = st.one_of(st.floats(0, 3), st.floats(0, 400), st.just(0.0))
ANSWERS = st.sampled_from(
    ["success", "fault", "trouble", "trouble", "trouble", "refused", "limited", "limited_for", "abandoned"]
)


@dataclass(eq=False)
class Fetch:
    started: float
    is_probe: bool


class GateMachine(RuleBasedStateMachine):
    """A caller that takes at most the room it is given, and a provider that answers anything, in any order."""

    @initialize(
        rate=st.one_of(st.floats(0.2, 500), st.just(100.0)), share=st.floats(0.1, 1), jitter=st.floats(0, 0.999)
    )
    def start(self, rate: float, share: float, jitter: float) -> None:
        self.gate = AccountGate(rate, unknown_share=share, random=lambda: jitter)
        self.now = 1000.0
        self.rate, self.share = rate, share
        self.takes: list[tuple[float, int, int]] = []
        self.in_flight: list[Fetch] = []

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def wait_for_room(self) -> None:
        self.now += self.gate.next_change(self.now) or 0.0

    @rule(known=st.floats(0, 1), unknown=st.floats(0, 1))
    def fetch(self, known: float, unknown: float) -> None:
        room = self.gate.room(self.now)
        of_known = round(room.known * known)
        of_unknown = round(room.unknown_beside(of_known) * unknown)
        count = of_known + of_unknown
        if not count:
            return
        is_probe = self.gate.paused(self.now) is not None
        if is_probe:
            assert count == 1
            probes = [fetch for fetch in self.in_flight if fetch.is_probe]
            # One that was given up may still come back; from then on whose report is whose cannot be told.
            assert not probes or any(self.now - fetch.started >= PROBE_LOST_SECONDS - 1e-3 for fetch in probes)
        self.gate.take(self.now, known=of_known, unknown=of_unknown)
        self.takes.append((self.now, count, of_unknown))
        self.in_flight += [Fetch(self.now, is_probe) for _ in range(count)]

    @precondition(lambda self: self.in_flight)
    @rule(answer=ANSWERS, data=st.data())
    def report(self, answer: str, data: st.DataObject) -> None:
        self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        match answer:
            case "success":
                self.gate.succeeded(self.now)
                assert self.gate.last_success == self.now
            case "fault":
                self.gate.order_fault(self.now)
            case "trouble":
                self.gate.trouble(self.now, DOWN)
            case "refused":
                self.gate.refused(self.now)
                assert self.gate.paused(self.now) == "refused"
            case "abandoned":
                self.gate.abandoned(self.now)
            case _:
                wait = 120.0 if answer == "limited_for" else None
                self.gate.trouble(self.now, RateLimited("429", retry_after_seconds=wait))
        if answer in {"success", "fault"}:
            assert self.gate.paused(self.now) in {None, "rate_limited"}
            for fetch in self.in_flight:
                fetch.is_probe = False

    @rule(reported=st.integers(0, 15))
    def outage(self, reported: int) -> None:
        """As much as may start, and of all that is under way the oldest fail."""
        self.fetch(1.0, 0.0)
        for _ in self.in_flight[:reported]:
            self.gate.trouble(self.now, DOWN)
        del self.in_flight[:reported]

    @rule(credentials_changed=st.booleans())
    def reconfigure(self, credentials_changed: bool) -> None:
        self.gate.configure(self.rate, credentials_changed)

    @invariant()
    def the_rate_holds(self) -> None:
        burst = max(1.0, self.rate / 5)
        for start, (began, _, _) in enumerate(self.takes):
            total = unknown = 0
            for at, count, of_unknown in self.takes[start:]:
                total += count
                unknown += of_unknown
                assert total <= self.rate * (at - began) + burst + 0.01
                assert unknown <= self.rate * self.share * (at - began) + max(1.0, burst * self.share) + 0.01

    @invariant()
    def room_is_consistent(self) -> None:
        room = self.gate.room(self.now)
        assert 0 <= room.unknown <= room.known
        assert self.gate.room(self.now) == room
        assert 0.1 < self.gate.rate_per_second <= self.rate
        if self.gate.paused(self.now):
            assert room.known <= 1
        assert (self.gate.next_change(self.now) is None) == (room.unknown > 0)

    @invariant()
    def no_state_lasts_for_good(self) -> None:
        """Waiting as long as the gate says gives room, though nothing is ever reported again."""
        ahead, now = copy.deepcopy(self.gate), self.now
        for _ in range(5):
            if ahead.room(now).known:
                return
            wait = ahead.next_change(now)
            assert wait is not None
            assert 0 < wait <= 905
            now += wait
        pytest.fail("no room although the gate's own waits passed")


GateMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestGate = GateMachine.TestCase
