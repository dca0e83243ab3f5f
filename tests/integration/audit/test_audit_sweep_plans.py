"""What the sweep asks the database again and again reads a few rows, however many orders are stored."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.audit.completeness import QUERIES
from service.database.pool import Database
from tests.support.orders import order_id

ROWS = 20_000
FILL = f"""
insert into cuadre.sync (order_id, account, trust, requested, fetched, due_at)
select 'ORD' || lpad(n::text, 26, '0'), 'default', 2, 1, 1, now() + make_interval(secs => n - 5000)
from generate_series(1, {ROWS}) as n;
insert into cuadre.orders (order_id, account, status, type, created_at, updated_at, payload, payload_hash, version,
    claimed_at, fetched_at, first_seen_at, changed_at)
select 'ORD' || lpad(n::text, 26, '0'), 'default', 'processed', 'qr', now() - make_interval(mins => n),
    now() - make_interval(mins => n), '{{}}', '\\x00', 1, now(), now(), now(), now()
from generate_series(1, {ROWS}) as n;
"""
IDS = [order_id(n) for n in range(100, 190)] + [order_id(n) for n in range(ROWS + 1, ROWS + 11)]
NOW = datetime.now(UTC)
TIMES = [NOW] * 30 + [None] * 70
CASES: dict[str, tuple[Any, ...]] = {
    "compare_listed": (IDS, TIMES),
    "mark_listed": ("default", IDS, TIMES),
    "count_due": ("default", 200),
    "look_is_due": ("default",),
    "read_types_certified": ("default", ["qr", "point"], NOW - timedelta(hours=3), NOW - timedelta(hours=2)),
    "read_stored_of_hour": ("default", NOW - timedelta(hours=3), NOW - timedelta(hours=2)),
}


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


@pytest.mark.parametrize("name", CASES)
async def test_few_rows_are_read_by_an_index(large: Database, name: str) -> None:
    text = await large.fetchval(f"explain (analyze, format json) {QUERIES[name]}", *CASES[name])
    found = list(nodes(json.loads(text)[0]["Plan"]))
    kinds = {(node["Node Type"], node.get("Relation Name")) for node in found}
    assert not {kind for kind in kinds if kind[0] == "Seq Scan"}, kinds
    assert {relation for _, relation in kinds if relation} <= {"orders", "sync"}
    read = [node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0) for node in found]
    assert max(read) <= 250
