"""A short randomised run with every fault; `make chaos` runs long ones. See tests/chaos/run.py.

The seed is printed by a failing run, and `CHAOS_SEED` chooses another one.
"""

import os

import pytest

from tests.chaos.faults import ALL, POOLER
from tests.chaos.run import read_options, run_and_tell
from tests.support.chaos_pgbouncer import find_pgbouncer

pytestmark = pytest.mark.slow
ORDERS = 120


def names() -> list[str]:
    """All faults; without PgBouncer where it is not installed, which CI has to have."""
    if find_pgbouncer() is not None:
        return list(ALL)
    if os.environ.get("CI") == "true":
        pytest.fail("PgBouncer is missing: run `make optional-tools`")
    return [name for name in ALL if name != POOLER]


@pytest.mark.timeout(240)
def test_a_short_run_with_every_fault() -> None:
    seed = os.environ.get("CHAOS_SEED", "1")
    said: list[str] = []
    options = read_options(["--seed", seed, "--orders", str(ORDERS), "--seconds", "200", "--only", *names()])
    assert run_and_tell(options, say=said.append), "\n".join(said)


def test_the_same_seed_gives_the_same_plan_and_events() -> None:
    from random import Random

    from tests.chaos.plan import plan
    from tests.chaos.world import schedule

    plans = [plan("run", 7, 500, unannounced=True) for _ in range(2)]
    assert plans[0] == plans[1]
    assert sum(map(len, plans[0])) == 500
    assert plan("run", 8, 500, unannounced=True) != plans[0]
    kinds = ["killed", "frozen", "restarted", "crashed", "failover"]
    schedules = [schedule(Random(7), kinds, 120, 3) for _ in range(2)]
    assert schedules[0] == schedules[1]
    happening = [event.kind for event in schedules[0]]
    assert set(happening) == set(kinds)
    assert happening.count("failover") == 1, "there is one standby"
