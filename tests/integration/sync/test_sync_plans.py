"""The hot statements' plans, with a million rows' worth of statistics: the index is used, the rows read are bounded.

Sessions are the service's own (`pin_plans`), prepared and run often enough for Postgres to consider a generic plan.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from service.database.pool import Database
from service.intake.record import QUERIES as INTAKE
from service.sync.claims import QUERIES
from tests.shared_postgres import TEMPLATE, Maintenance, with_database
from tests.support.looking import see
from tests.support.orders import order, order_id

ROWS = 20_000
FILL = f"""
insert into cuadre.sync (order_id, account, trust, requested, fetched, due_at)
select 'ORD' || lpad(n::text, 26, '0'), 'default', case when n % 10 = 0 then 0 else 2 end, 1, 1,
    now() + interval '1 h' + make_interval(secs => n) from generate_series(1, {ROWS}) as n;
insert into cuadre.orders (order_id, account, status, type, external_reference, is_sale, created_at, payload,
    payload_hash, version, claimed_at, fetched_at, first_seen_at, changed_at)
select 'ORD' || lpad(n::text, 26, '0'), 'default', 'processed', 'qr', 'caja-1', true, now(), '{{}}', '\\x00', 1, now(),
    now(), now(), now() from generate_series(1, {ROWS}) as n;
insert into cuadre.refunds (order_id, refund_id, position, first_seen_at)
select 'ORD' || lpad(n::text, 26, '0'), 'REF' || n, 0, now() from generate_series(1, {ROWS}) as n;
insert into cuadre.discrepancies (order_id, account, rule, subject_id, severity, expected, actual, explanation,
    opened_at, refreshed_at)
select 'ORD' || lpad(n::text, 26, '0'), 'default', 'duplicate_sale', 'ORD1', 'warning', '', '', '', now(), now()
from generate_series(2, {ROWS}) as n;
"""
# As if each table held fifty times as much: what the planner decides from.
PRETEND = """
update pg_class set reltuples = reltuples * 50, relpages = relpages * 50
where oid in (select oid from pg_class where relnamespace = 'cuadre'::regnamespace and reltuples > 0)
"""
NOW = datetime.now(UTC)
IDS = [order_id(n) for n in range(100, 116)]


@pytest.fixture(scope="module")
def filled(shared_server: str, maintenance: Maintenance) -> Iterator[str]:
    """The name of a large database, to make copies of."""
    name = f"filled_{uuid.uuid4().hex[:16]}"
    maintenance.execute(f"create database {name} template {TEMPLATE}")
    asyncio.run(_fill(with_database(shared_server, name)))
    yield name
    maintenance.execute(f"drop database {name} with (force)")


async def _fill(dsn: str) -> None:
    database = await Database.connect(dsn)
    await database.execute(FILL)
    await database.execute("analyze")
    await database.execute(PRETEND)
    await database.close()


@pytest.fixture
async def large(filled: str, shared_server: str, maintenance: Maintenance) -> AsyncIterator[Database]:
    """A large database behind the service's own kind of session."""
    name = f"large_{uuid.uuid4().hex[:16]}"
    maintenance.execute(f"create database {name} template {filled}")
    pinned = await Database.connect(with_database(shared_server, name), max_size=1, pin_plans=True)
    yield pinned
    await pinned.close()
    maintenance.execute(f"drop database {name} with (force)")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


async def plan_of(database: Database, query: str, *arguments: Any) -> list[dict[str, Any]]:
    """The nodes of the plan that is really run, after the plan cache has settled; nothing of it is kept."""
    async with database.acquire() as connection:
        for _ in range(6):
            transaction = connection.transaction()
            await transaction.start()
            await connection.fetch(query, *arguments)
            await transaction.rollback()
        transaction = connection.transaction()
        await transaction.start()
        rows = await connection.fetch("explain (analyze, format json, timing off) " + query, *arguments)
        await transaction.rollback()
    return list(nodes(json.loads(rows[0][0])[0]["Plan"]))


def assert_indexed(plan: list[dict[str, Any]], *indexes: str, most_rows: int) -> None:
    """No table is read from end to end, these indexes are used, and no step sees more rows than that."""
    tables = [
        node
        for node in plan
        if node["Node Type"] == "Seq Scan" and node["Actual Rows"] + node.get("Rows Removed by Filter", 0) > 100
    ]
    assert tables == [], "a table is scanned"
    used = {node["Index Name"] for node in plan if "Index Name" in node}
    assert set(indexes) <= used, f"used: {sorted(used)}"
    read = [
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in plan
        if "Index Name" in node or "Scan" in node["Node Type"]
    ]
    assert max(read) <= most_rows


async def test_claiming(large: Database) -> None:
    await large.execute("update cuadre.sync set due_at = now() - interval '1 h' where order_id = any($1)", IDS)
    plan = await plan_of(large, QUERIES.claim_due_orders, ["default", "default"], [True, False], [10, 5], 30.0, 12)
    assert_indexed(plan, "sync_due", "sync_pkey", most_rows=60)


async def test_claiming_nothing_is_cheap(large: Database) -> None:
    plan = await plan_of(large, QUERIES.claim_due_orders, ["default", "default"], [True, False], [10, 5], 30.0, 12)
    assert_indexed(plan, "sync_due", most_rows=10)


async def test_finding_an_order_that_was_read_well(large: Database) -> None:
    plan = await plan_of(large, QUERIES.read_witness, "default", IDS[0], True)
    assert_indexed(plan, "sync_due", most_rows=100)


async def test_counting_what_is_due(large: Database) -> None:
    plan = await plan_of(large, QUERIES.read_due_gauges, ["default"])
    assert_indexed(plan, "sync_due", most_rows=10)


async def test_finding_accounts_that_nobody_has_configured(large: Database) -> None:
    plan = await plan_of(large, QUERIES.read_orders_of_nobody, ["default"])
    assert_indexed(plan, "sync_due", most_rows=10)


async def test_reading_what_is_stored(large: Database) -> None:
    plan = await plan_of(large, QUERIES.read_stored_orders, IDS, [])
    assert_indexed(plan, "orders_pkey", "refunds_pkey", most_rows=32)


async def test_what_is_stored_of_new_orders_is_not_sought_in_every_month(large: Database) -> None:
    plan = await plan_of(large, QUERIES.read_stored_orders, [order_id(n) for n in range(900_000, 900_016)], [])
    assert [node["Relation Name"] for node in plan if "order_versions" in node.get("Relation Name", "")] == []
    assert_indexed(plan, "orders_pkey", "payments_pkey", most_rows=32)


async def test_the_versions_of_lost_orders(large: Database) -> None:
    await see(large, order(900_000), order(900_001))
    for query in (QUERIES.read_last_versions, QUERIES.read_lost_versions):
        assert_indexed(await plan_of(large, query, IDS), most_rows=32)


async def test_the_heads_of_a_reference_that_every_order_bears(large: Database) -> None:
    plan = await plan_of(large, QUERIES.read_sale_heads, ["default"], ["caja-1"], [*IDS, order_id(1)])
    assert_indexed(plan, "orders_sales_by_reference", most_rows=64)


async def test_open_duplicates_of_a_few_orders(large: Database) -> None:
    plan = await plan_of(large, QUERIES.read_duplicates_open, IDS)
    assert_indexed(plan, most_rows=64)


async def test_refreshing_orders(large: Database) -> None:
    nothing = [None] * len(IDS)
    plan = await plan_of(large, QUERIES.refresh_orders, IDS, nothing, nothing, nothing, NOW)
    assert_indexed(plan, "orders_pkey", most_rows=64)


async def test_writing_orders(large: Database) -> None:
    rows = json.dumps([
        {"order_id": one, "account": "default", "paid_amount": "1", "refunded_amount": "0", "is_sale": True,
         "payload_hash": "00", "payload_altered": False, "history": {}, "version": 2,
         "claimed_at": "2026-09-14T12:00:00+00:00", "cause": "look", "event": {}} for one in IDS
    ])  # fmt: skip
    refunds = json.dumps([{"order_id": one, "refund_id": f"NEW{n}", "position": 1} for n, one in enumerate(IDS)])
    plan = await plan_of(large, QUERIES.write_orders, rows, "[]", refunds, "[]", "[]", IDS, ["{}"] * len(IDS), NOW)
    assert_indexed(plan, "refunds_pkey", most_rows=300)


async def test_settling(large: Database) -> None:
    await large.execute("update cuadre.sync set due_at = now() - interval '1 h' where order_id = any($1)", IDS)
    claims = await large.fetch(QUERIES.claim_due_orders, ["default"], [True], [16], 30.0, 16)
    count = len(claims)
    plan = await plan_of(
        large, QUERIES.settle_claims,
        [one["order_id"] for one in claims], [one["lease_token"] for one in claims], [1] * count,
        [one["claimed_at"] for one in claims], [None] * count, [0] * count, [0] * count, [None] * count,
        [None] * count, [None] * count, [True] * count, [True] * count, ["applied"] * count, [None] * count,
        [1] * count, ["default"] * count, ["look"] * count, [None] * count, [False] * count,
        [True] * count,
    )  # fmt: skip
    # Sixteen claims beside sixteen outcomes.
    assert_indexed(plan, "sync_pkey", most_rows=300)


async def test_recording_notifications(large: Database) -> None:
    count = len(IDS)
    plan = await plan_of(
        large, INTAKE.record_notifications,
        ["default"] * count, ["order"] * count, [None] * count, IDS, IDS, [True] * count, ["valid"] * count,
        ["lower"] * count, [0] * count, [1.0] * count, [False] * count, [False] * count, [False] * count,
        [1] * count, [bytes([n]) * 32 for n in range(count)], ["/"] * count, ["{}"] * count, ["{}"] * count,
        [None] * count, [False] * count,
    )  # fmt: skip
    arbiters = {name for node in plan for name in node.get("Conflict Arbiter Indexes", [])}
    assert "sync_pkey" in arbiters
    assert_indexed(plan, most_rows=300)


async def test_numbering_events_reads_only_those_without_a_position(large: Database) -> None:
    await see(large, order(900_000), order(900_001))
    plan = await plan_of(large, QUERIES.assign_positions)
    assert any(name.endswith("event_id_idx") for node in plan if (name := node.get("Index Name")))
    assert_indexed(plan, most_rows=100)
