"""The runner as a member of the house: metrics and log, a database that goes away, and plans that stay small."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.database.embedded import EmbeddedPostgres
from service.database.migrations import migrate
from service.database.pool import UNAVAILABLE, Database
from service.desk.intents import QUERIES
from service.desk.report import refresh_gauges
from service.desk.search import RESEND_FOR
from service.telemetry import metrics
from tests.support.desk import ACCOUNT, qr, shop
from tests.support.waiting import until

SECRET_CARD = "s3cr3t-card-token"


@pytest.fixture(autouse=True)
def _gauges_leave_nothing_behind() -> Iterator[None]:
    yield
    metrics.commands_open.clear()
    metrics.oldest_command_seconds.set(0)


def counted(kind: str, outcome: str) -> float:
    value = metrics.REGISTRY.get_sample_value("cuadre_commands_total", {"kind": kind, "outcome": outcome})
    return value or 0.0


async def test_commands_are_counted_once_each_and_unknown_ones_each_time(database: Database) -> None:
    before = {outcome: counted("create", outcome) for outcome in ("done", "unknown", "withdrawn", "refused")}
    async with shop(database) as here:
        await here.provider.faults(create={"status": 503, "count": 3})
        await here.settled(await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1"))
        await here.provider.faults(create={"status": 400, "code": "bad_request", "count": 1})
        await here.settled(await here.desk.create(ACCOUNT, qr("venta-2"), key="k-2", asked_by="till-1"))
        await here.runner.stop(within_seconds=5)
        asked = await here.desk.create(ACCOUNT, qr("venta-3"), key="k-3", asked_by="till-1")
        await here.desk.withdraw(asked.command_id, asked_by="till-1")
        await here.desk.withdraw(asked.command_id, asked_by="till-1")
    after = {outcome: counted("create", outcome) - number for outcome, number in before.items()}
    assert after == {"done": 1, "unknown": 1, "withdrawn": 1, "refused": 1}


async def test_open_commands_are_shown_with_their_age(database: Database) -> None:
    async with shop(database, runner=False) as here:
        for number in range(3):
            await here.desk.create(ACCOUNT, qr(f"venta-{number}"), key=f"k-{number}", asked_by="till-1")
        await database.execute("update cuadre.commands set asked_at = now() - interval '90 seconds'")
        await refresh_gauges(database)
        assert metrics.commands_open.labels("create", "waiting")._value.get() == 3
        assert 90 <= metrics.oldest_command_seconds._value.get() < 120
        await database.execute("update cuadre.commands set settled_at = now(), status = 'withdrawn'")
        await refresh_gauges(database)
        assert next(iter(metrics.commands_open.collect())).samples == []
        assert metrics.oldest_command_seconds._value.get() == 0


async def test_log_lines_name_the_command_and_hold_nothing_of_its_body(database: Database) -> None:
    body = {
        "type": "online",
        "total_amount": "50.00",
        "external_reference": "venta-9",
        "payer": {"email": "buyer@example.com", "first_name": "FUND"},
        "transactions": {
            "payments": [
                {"amount": "50.00", "payment_method": {"id": "visa", "type": "credit_card", "token": SECRET_CARD}}
            ]
        },
    }
    with capture_logs() as logs:
        async with shop(database) as here:
            await here.provider.faults(create={"status": 500, "count": 1, "when": "after"})
            settled = await here.settled(await here.desk.create(ACCOUNT, body, key="k-1", asked_by="till-1"))
    told = [line for line in logs if line.get("command_id") == settled.command_id]
    assert {line["event"] for line in told} >= {"command_unknown", "command_refused"}
    assert {line.get("asked_by", "till-1") for line in told} == {"till-1"}
    text = json.dumps(logs, default=str)
    assert SECRET_CARD not in text
    assert "buyer@example.com" not in text


async def test_a_database_that_goes_away_is_waited_for_and_nothing_is_lost(own_postgres: EmbeddedPostgres) -> None:
    await migrate(own_postgres.dsn)
    database = await Database.connect(own_postgres.dsn)
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1

    async with shop(database, runner=False) as here:
        runner = here.another_runner(beat=beat)
        task = asyncio.create_task(runner.run())
        first = await here.desk.create(ACCOUNT, qr(), key="k-1", asked_by="till-1")
        assert (await here.desk.wait(first.command_id, seconds=20)).status == "done"
        await asyncio.to_thread(own_postgres.stop, "immediate")
        with pytest.raises(UNAVAILABLE):
            await here.desk.create(ACCOUNT, qr("venta-2"), key="k-2", asked_by="till-1")
        seen = beats
        for _ in range(200):
            runner.wake()
            await asyncio.sleep(0)

        async def goes_on() -> bool:
            return beats > seen + 2

        await until(goes_on, what="it goes on trying")
        assert not task.done()
        # Woken 200 times, and not spinning.
        assert beats < seen + 50
        await asyncio.to_thread(own_postgres.start)

        async def taken() -> bool:
            try:
                await here.desk.create(ACCOUNT, qr("venta-2"), key="k-2", asked_by="till-1")
            except UNAVAILABLE:
                return False
            return True

        await until(taken, what="the same question is taken")
        row = await database.fetchrow("select command_id from cuadre.commands where idempotency_key = 'k-2'")
        assert row is not None
        assert (await here.desk.wait(row["command_id"], seconds=20)).status == "done"
        await runner.stop(within_seconds=5)
        await task
        assert len(await here.provider.orders()) == 2
    await database.close()


ROWS = 20_000
FILL = f"""
insert into cuadre.commands (command_id, account, idempotency_key, request_hash, asked_by, asked_at, kind, order_id,
    provider_key, status, settled_at, due_at, maybe_sent_at, point_of_sale)
select 'CMD' || n, 'default', 'key-' || n, '\\x00', 'till', now() - make_interval(secs => n), 'refund',
    'ORD' || lpad(n::text, 26, '0'), 'p' || n,
    case when n % 1000 = 0 then 'unknown' when n % 1000 = 1 then 'accepted' else 'done' end,
    case when n % 1000 < 2 then null else now() end, case when n % 1000 < 2 then now() end,
    case when n % 1000 < 2 then now() - interval '1 hour' end, 'CAJA' || n % 10
from generate_series(1, {ROWS}) as n
"""


@pytest.fixture
async def large(database_dsn: str, database: Database) -> AsyncIterator[Database]:
    """Many settled commands and a few open ones, behind the service's own kind of session."""
    await database.execute(FILL)
    await database.execute("analyze")
    pinned = await Database.connect(database_dsn, max_size=1, pin_plans=True)
    yield pinned
    await pinned.close()


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("read_due_commands", []),
        ("claim_due_commands", [["default"], [8], 8, 30.0, RESEND_FOR.total_seconds()]),
        ("postpone_commands", [["default"], [1.0], ["outage"]]),
        ("read_commands_to_see", []),
        ("read_unknown_without_discrepancy", [900.0]),
        ("read_command_by_key", ["default", "key-7"]),
        ("read_repeats_elsewhere", ["key-7", b"\x00", "till"]),
        ("read_commands_of_order", ["ORD" + "7".rjust(26, "0")]),
        ("read_command_gauges", []),
    ],
)
async def test_plans_see_open_commands_only(large: Database, query: str, arguments: list[Any]) -> None:
    async with large.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        rows = await connection.fetch(
            "explain (analyze, format json, timing off) " + getattr(QUERIES, query), *arguments
        )
        await transaction.rollback()
    found = list(nodes(json.loads(rows[0][0])[0]["Plan"]))
    on_commands = [node for node in found if node.get("Relation Name") == "commands" or "Index Name" in node]
    assert on_commands
    assert "Seq Scan" not in {node["Node Type"] for node in on_commands}
    # Twenty are unknown and twenty accepted, of twenty thousand.
    seen = [node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0) for node in on_commands]
    assert max(seen) <= 200, found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def test_every_query_of_the_desk_is_used() -> None:
    used = "".join(path.read_text() for path in (Path(__file__).parents[3] / "service" / "desk").glob("*.py"))
    assert [name for name in QUERIES if f"QUERIES.{name}" not in used] == []
