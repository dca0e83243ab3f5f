"""The plans of the legacy QR's statements that run all the time: indexed, and bounded by what is due."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.database.pool import Database
from service.desk.legacy import QUERIES
from service.sync.payment_hints import QUERIES as HINTS

ROWS = 20_000
FILL = f"""
insert into cuadre.commands (command_id, account, idempotency_key, request_hash, asked_by, asked_at, kind, type,
    external_reference, point_of_sale, provider_key, status, maybe_sent_at, settled_at, expires_at, due_at)
select 'CMD' || n, 'default', 'key-' || n, '\\x00', 'till', now() - make_interval(secs => n), 'legacy_put', 'legacy_qr',
    'venta-' || n, 'CAJA' || n % 50, 'p-' || n, 'done', now() - make_interval(secs => n), now(), now(),
    case when n % 10 = 0 then now() + make_interval(secs => n) end
from generate_series(1, {ROWS}) as n;
insert into cuadre.orders (order_id, account, status, type, external_reference, created_at, payload, payload_hash,
    version, claimed_at, fetched_at, first_seen_at, changed_at)
select 'MO' || n, 'default', 'processed', 'legacy_qr', 'venta-' || n, now(), '{{}}', '\\x00', 1, now(), now(), now(),
    now() from generate_series(1, {ROWS}) as n;
insert into cuadre.payments (order_id, payment_id, position, reference_id, first_seen_at)
select 'MO' || n, n::text, 0, n::text, now() from generate_series(1, {ROWS}) as n;
insert into cuadre.sync (order_id, account, trust, requested, fetched)
select 'MO' || n, 'default', 2, 1, 1 from generate_series(1, {ROWS}) as n;
"""


@pytest.fixture
async def large(database_dsn: str, database: Database) -> AsyncIterator[Database]:
    """A large database behind the service's own kind of session."""
    await database.execute(FILL)
    await database.execute("analyze")
    pinned = await Database.connect(database_dsn, max_size=1, pin_plans=True)
    yield pinned
    await pinned.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


async def assert_indexed(database: Database, index: str, most_rows: int, query: str, *arguments: Any) -> None:
    """The index is used, no table is read from end to end, and no step sees more rows than that."""
    async with database.acquire() as connection, connection.transaction():
        rows = await connection.fetch("explain (analyze, format json, timing off) " + query, *arguments)
    plan = list(nodes(json.loads(rows[0][0])[0]["Plan"]))
    assert index in {node.get("Index Name") for node in plan}
    seen = [(node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in plan]
    assert max(seen) <= most_rows


async def test_claiming_watches(large: Database) -> None:
    await large.execute("update cuadre.commands set due_at = now() where command_id in ('CMD10', 'CMD20')")
    await assert_indexed(large, "commands_due", 10, QUERIES.claim_watches, ["default"], 8, 60.0)


async def test_finding_the_order_of_a_sale(large: Database) -> None:
    now = datetime.now(UTC)
    arguments = ("default", "venta-7", now - timedelta(days=1), now - timedelta(days=1), None)
    await assert_indexed(large, "orders_by_reference", 10, QUERIES.find_sale_order, *arguments)


async def test_marking_what_a_search_found(large: Database) -> None:
    ids = [f"MO{number}" for number in range(100, 116)]
    since = datetime.now(UTC) - timedelta(days=1)
    await assert_indexed(large, "orders_pkey", 100, QUERIES.mark_found_orders, "default", ids, since)


async def test_following_payments(large: Database) -> None:
    numbers = [str(number) for number in range(100, 116)]
    accounts = ["default"] * len(numbers)
    await assert_indexed(large, "payments_by_reference", 100, HINTS.find_orders_of_payments, accounts, numbers)
    marks = ([f"MO{number}" for number in numbers], accounts, ["notification"] * 16, [1] * 16, [True] * 16)
    await assert_indexed(large, "sync_pkey", 300, HINTS.mark_told_orders, *marks, [f"MO{n}" for n in range(200, 216)])
