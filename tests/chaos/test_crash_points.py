"""A crash at every statement of intake, apply, sweep and backfill: the next life ends where no crash would have.

Each trial is a forked process that dies (`os._exit`) at its k-th boundary, for k = 1, 2, ... until the
scenario comes to its end. Then the same scenario runs once more, undisturbed, for all trials. Every trial's state must
be the one of a trial that never died: nothing that was acknowledged is missing, nothing was applied twice.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.database.pool import Database
from service.sync.claims import mark_order_due
from tests.chaos.crash_scenarios import account_of, bodies_after, bodies_before, number, told
from tests.support.looking import see
from tests.support.orders import order_id
from tests.support.provider import StubProvider, stub_provider

pytestmark = pytest.mark.slow
CRASHED = 137
MOST_BOUNDARIES = 250
ROOT = Path(__file__).resolve().parents[2]


class Forks:
    """The process that forks a child per trial."""

    def __init__(self, process: asyncio.subprocess.Process, task: dict[str, Any]) -> None:
        self._process = process
        self._task = task

    async def play(self, *trials: int, crash_at: int | None = None) -> int:
        """The child's exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._task | {"trials": trials, "crash_at": crash_at}).encode() + b"\n")
        answer = await asyncio.wait_for(self._process.stdout.readline(), 60)
        return int(json.loads(answer)["code"])


@asynccontextmanager
async def forks(scenario: str, **task: Any) -> AsyncIterator[Forks]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.crash_child",
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Forks(process, {"scenario": scenario, **task})
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 60)


async def begin(database: Database, provider: StubProvider, trial: int, *, due: bool) -> None:
    """What is there before a trial, and the provider's truth."""
    provider.put(*bodies_after(trial))
    await see(database, *bodies_before(trial), account=account_of(trial).name)
    if due:
        for body in bodies_after(trial):
            await mark_order_due(database, body["id"], account_of(trial).name)


async def crash_everywhere(
    database: Database, provider: StubProvider, forks: Forks, *, due: bool = False
) -> tuple[int, range]:
    """Trial 0 never dies; trial k dies at boundary k. The trials that died, and how many; all ended in a next life."""
    await begin(database, provider, 0, due=due)
    assert await forks.play(0) == 0, "without a crash"
    trial = 0
    while True:
        trial += 1
        assert trial < MOST_BOUNDARIES, "the scenario never comes to its end"
        await begin(database, provider, trial, due=due)
        code = await forks.play(trial, crash_at=trial)
        assert code in {0, CRASHED}, f"boundary {trial}: exit code {code}"
        if code == 0:
            break
    died = range(1, trial)
    return trial - 1, died


async def live_again(forks: Forks, died: range, at_once: int = 8) -> None:
    """The next life of every trial."""
    for first in range(died.start, died.stop, at_once):
        trials = range(first, min(died.stop, first + at_once))
        assert await forks.play(*trials) == 0, f"the next life after the boundaries {trials}"


async def state(database: Database, trial: int) -> dict[str, Any]:
    """All that a trial left behind, in a form that is the same for trials that ended alike."""
    first, last = order_id(number(trial, 0)), order_id(number(trial, 9))
    queries = {
        "orders": "select order_id, account, status, version, payload::text, refunded_amount from cuadre.orders",
        "versions": "select order_id, version, status, payload::text from cuadre.order_versions",
        "events": "select order_id, type, version, position is null as unnumbered from cuadre.events",
        "discrepancies": "select order_id, rule, subject_id, resolved_at is null as open from cuadre.discrepancies",
        "sync": """select order_id, account, trust, requested - fetched as owed, leased_until, lease_token, attempts,
                   troubles, lost_leases, last_error, quarantined_at, due_at is null as rests from cuadre.sync""",
    }
    found = {}
    for name, query in queries.items():
        rows = await database.fetch(f"{query} where order_id between $1 and $2", first, last)
        found[name] = sorted(_generic(str(list(row.values())), trial) for row in rows)
    return found


def _generic(text: str, trial: int) -> str:
    """Without the numbers that belong to the trial."""
    for place in range(10):
        text = text.replace(f"{number(trial, place):026d}", f"<{place}>")
        text = text.replace(f"{number(trial, place) * 100:026d}", f"<refund {place}>")
    return text.replace(f"trial-{trial}-", "trial-").replace(f"'t{trial}'", "'t'")


async def assert_all_alike(database: Database, died: range) -> dict[str, Any]:
    """Every trial that died once ended as the one that never did."""
    expected = await state(database, 0)
    assert expected["versions"], "the scenario did something"
    for trial in died:
        assert await state(database, trial) == expected, f"a crash at boundary {trial} ended otherwise"
    return expected


async def test_a_crash_anywhere_in_intake(tmp_path: Path, database: Database, database_dsn: str) -> None:
    # Invariants I1 and I7. Redelivered copies may be counted once more, and each one that is counted was marked.
    log = tmp_path / "told"
    async with stub_provider() as provider, forks("intake", dsn=database_dsn, told=str(log)) as forked:
        count, died = await crash_everywhere(database, provider, forked)
        assert count >= 3
        answered = told(log.read_text().splitlines())
        assert any(trial in answered for trial in died), "some died after an answer"
        for trial in died:
            for about in set(answered.get(trial, [])):
                copies = await recorded(database, trial, about)
                assert copies >= answered[trial].count(about), f"boundary {trial}: acknowledged and not recorded"
        await live_again(forked, died)
    expected = await notifications(database, 0)
    for trial in died:
        found = await notifications(database, trial)
        assert found.keys() == expected.keys()
        assert all(found[key] >= expected[key] for key in found)
        for about in (order_id(number(trial, 1)), order_id(number(trial, 5))):
            requested = await database.fetchval("select requested from cuadre.sync where order_id = $1", about)
            marks_before = 1 if about == order_id(number(trial, 1)) else 0
            assert requested == marks_before + await recorded(database, trial, about), "one mark for each copy"


async def recorded(database: Database, trial: int, about: str) -> int:
    """Deliveries that were committed."""
    return int(
        await database.fetchval(
            "select coalesce(sum(copies), 0) from cuadre.notifications where account = $1 and resource_id = $2",
            f"t{trial}", about,
        )
    )  # fmt: skip


async def notifications(database: Database, trial: int) -> dict[str, int]:
    """Row -> copies."""
    rows = await database.fetch(
        "select resource_id, topic, action, verified, verification, copies from cuadre.notifications "
        "where account = $1",
        f"t{trial}",
    )
    return {_generic(str(list(row.values())[:-1]), trial): row["copies"] for row in rows}


async def test_a_crash_anywhere_in_apply(database: Database, database_dsn: str) -> None:
    async with stub_provider() as provider, forks("apply", dsn=database_dsn, url=provider.url) as forked:
        count, died = await crash_everywhere(database, provider, forked, due=True)
        assert count >= 12
        await live_again(forked, died)
    expected = await assert_all_alike(database, died)
    assert len(expected["versions"]) == 3 + 3, "three were stored, two of them changed, one came"
    opened = {text.split("'")[3] for text in expected["discrepancies"] if text.endswith("True]")}
    assert opened == {"refund_without_payment", "refunded_amount_mismatch", "duplicate_sale", "went_backwards"}
    assert any(text.endswith("False]") for text in expected["discrepancies"]), "one was resolved"


async def test_a_crash_anywhere_in_a_sweep(database: Database, database_dsn: str) -> None:
    async with stub_provider() as provider, forks("sweep", dsn=database_dsn) as forked:
        count, died = await crash_everywhere(database, provider, forked)
        assert count >= 12
        await live_again(forked, died)
    expected = await assert_all_alike(database, died)
    assert len([text for text in expected["sync"] if "<" in text]) == 4
    rows = await database.fetch("select account, position_at, last_error from cuadre.sweeps")
    assert len(rows) >= len(died)
    assert all(row["last_error"] is None for row in rows)
    assert all(row["position_at"] > datetime.now(UTC) - timedelta(minutes=5) for row in rows)
    settled = await database.fetch(
        "select complete_until, blocked_by from cuadre.completeness where last_error is null"
    )
    assert len(settled) == len(died) + 2, "one for each trial, and all say the same"
    assert {len(row["blocked_by"]) for row in settled} == {3}, "what it marked has not been looked at yet"


async def test_a_crash_anywhere_in_a_backfill(database: Database, database_dsn: str) -> None:
    day = (datetime.now(UTC) - timedelta(minutes=90)).replace(hour=0, minute=0, second=0, microsecond=0)
    task = {"dsn": database_dsn, "begin": day.isoformat()}
    async with stub_provider() as provider, forks("backfill", url=provider.url, **task) as forked:
        count, died = await crash_everywhere(database, provider, forked)
        assert count >= 20
        await live_again(forked, died)
    expected = await assert_all_alike(database, died)
    assert len(expected["orders"]) == 4
    unfinished = await database.fetchval(
        "select count(*) from cuadre.sweeps where kind = 'backfill' and finished_at is null"
    )
    assert unfinished == 0
