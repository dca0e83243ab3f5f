"""The rules against an independent, naive implementation of the contract, over random histories of one order."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from service.orders.asked import AskedCommand
from service.orders.history import EMPTY, from_json, remember, to_json
from service.orders.rules import JUDGED_ELSEWHERE, RULES, Finding, evaluate, rules_due_at
from tests.unit.orders.orders_oracle import Observation, expected_violations
from tests.unit.orders.orders_samples import NOW
from tests.unit.orders.orders_strategies import MAYBE_MOMENTS, REQUESTS, SNAPSHOTS

# Moments around the 24 hours of `refund_stuck` and the hour of `refund_missing`, the boundaries themselves included.
WAITS = st.sampled_from(
    [
        timedelta(0),
        timedelta(minutes=1),
        timedelta(hours=1),
        timedelta(hours=1, microseconds=1),
        timedelta(hours=12),
        timedelta(hours=24),
        timedelta(hours=24, microseconds=1),
    ]
)


@st.composite
def histories(draw: Any) -> list[Observation]:
    moment = NOW
    seen: list[Observation] = []
    for snapshot in draw(st.lists(SNAPSHOTS, min_size=1, max_size=4)):
        seen.append((snapshot, moment))
        moment += draw(WAITS)
    return seen


@settings(max_examples=300, deadline=None)
@given(seen=histories(), wait=WAITS, commands=REQUESTS, since=MAYBE_MOMENTS)
def test_rules_agree_with_the_oracle_after_every_snapshot(
    seen: list[Observation], wait: timedelta, commands: tuple[AskedCommand, ...], since: datetime | None
) -> None:
    history = EMPTY
    for place, (snapshot, moment) in enumerate(seen, start=1):
        history = remember(history, snapshot, moment)
        history = from_json(to_json(history), history.refund_first_seen)  # as it comes back from the database
        now = moment + wait
        found = evaluate(snapshot, history, now, commands, since)
        subjects = Counter((finding.rule, finding.subject_id) for finding in found)
        assert set(subjects) == expected_violations(seen[:place], now, commands, since)
        assert all(count == 1 for count in subjects.values())
        assert found == evaluate(snapshot, history, now, commands[::-1], since)
        for finding in found:
            assert finding.rule in RULES
            assert finding.rule not in JUDGED_ELSEWHERE
            assert finding.amount_at_stake is None or finding.amount_at_stake >= 0
            assert finding.explanation.endswith(".")
            assert "\n" not in finding.explanation
            assert finding.expected
            assert finding.actual
            assert finding.expected != finding.actual


@settings(max_examples=200, deadline=None)
@given(seen=histories(), wait=WAITS, commands=REQUESTS, since=MAYBE_MOMENTS)
def test_findings_change_with_time_at_exactly_the_moment_foretold(
    seen: list[Observation], wait: timedelta, commands: tuple[AskedCommand, ...], since: datetime | None
) -> None:
    history = EMPTY
    for snapshot, moment in seen:
        history = remember(history, snapshot, moment)
    snapshot, now = seen[-1][0], seen[-1][1] + wait

    def at(moment: datetime) -> tuple[Finding, ...]:
        return evaluate(snapshot, history, moment, commands, since)

    due = rules_due_at(snapshot, history, now, commands)
    if due is None:
        assert at(now + timedelta(days=4000)) == at(now)
    else:
        assert due > now
        assert at(due - timedelta.resolution) == at(now)
        assert len(at(due)) > len(at(now))
