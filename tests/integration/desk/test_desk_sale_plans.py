"""The plans of the question what is newer on a point of sale: indexed, and part of the statement that asks it."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from service.database.pool import Database
from service.desk.intents import QUERIES
from service.desk.legacy import QUERIES as LEGACY
from service.desk.search import RESEND_FOR

ROWS = 20_000
LEASED = ROWS - 1
# A year at ten points of sale, by both APIs; what is open is old, so all of it is newer.
FILL = f"""
insert into cuadre.commands (command_id, account, idempotency_key, request_hash, asked_by, asked_at, kind, type,
    provider_key, status, settled_at, due_at, maybe_sent_at, attempted_at, point_of_sale, leased_until, lease_token)
select 'CMD' || n, 'default', 'key-' || n, '\\x00', 'till', now() - make_interval(secs => n),
    case when n % 2 = 0 then 'create' else 'legacy_put' end, case when n % 2 = 0 then 'qr' else 'legacy_qr' end,
    'p' || n,
    case when n > {ROWS} - 40 then 'unknown' else 'done' end,
    case when n > {ROWS} - 40 then null else now() end,
    case when n > {ROWS} - 40 then now() end,
    now() - interval '1 hour', now() - interval '1 hour', 'CAJA' || n % 10,
    case when n = {LEASED} then now() - interval '1 second' end,
    case when n = {LEASED} then '00000000-0000-0000-0000-000000000001'::uuid end
from generate_series(1, {ROWS}) as n
"""
LEASE = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
async def large(database_dsn: str, database: Database) -> AsyncIterator[Database]:
    """Many sales, behind the service's own kind of session."""
    await database.execute(FILL)
    await database.execute("analyze")
    pinned = await Database.connect(database_dsn, max_size=1, pin_plans=True)
    yield pinned
    await pinned.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        (QUERIES.read_due_commands, []),
        (QUERIES.claim_due_commands, [["default"], [8], 8, 30.0, RESEND_FOR.total_seconds()]),
        (QUERIES.lock_stale_commands, []),
        (LEGACY.date_expiry, [f"CMD{LEASED}", LEASE, 600.0]),
    ],
    ids=["read_due_commands", "claim_due_commands", "lock_stale_commands", "date_expiry"],
)
async def test_what_is_newer_is_found_by_the_point_of_sale(large: Database, query: str, arguments: list[Any]) -> None:
    async with large.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        # One that never left is asked about, too.
        await connection.execute(
            "update cuadre.commands set status = 'waiting', maybe_sent_at = null where due_at = now()"
        )
        rows = await connection.fetch("explain (analyze, format json, timing off) " + query, *arguments)
        await transaction.rollback()
    found = list(nodes(json.loads(rows[0][0])[0]["Plan"]))
    assert "commands_by_point_of_sale" in {node.get("Index Name") for node in found}
    assert "newer_sales" not in {node.get("Function Name") for node in found}, "it was not taken into the statement"
    assert "Seq Scan" not in {node["Node Type"] for node in found if node.get("Relation Name") == "commands"}
    seen = [
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in found
        if "Index Name" in node
    ]
    # Forty are open, of twenty thousand; the first that is newer answers.
    assert max(seen) <= 400, found


async def test_what_is_newer_is_what_is_shown_on_the_same_surface(database: Database) -> None:
    """The function that finds what is newer says in its own words what `shown_on` says."""
    await database.execute(
        "insert into cuadre.commands (command_id, account, idempotency_key, request_hash, asked_by, asked_at, kind, "
        "type, provider_key, status, maybe_sent_at, point_of_sale, options) "
        "select 'CMD' || row_number() over (), 'default', 'key-' || row_number() over (), '\\x00', 'till', now(), "
        "kind, type, 'p', 'done', now(), row_number() over ()::text, options::jsonb "
        "from unnest(array['create', 'cancel', 'refund', 'legacy_put', 'legacy_delete']) as kind, "
        "unnest(array['qr', 'point', 'online', 'legacy_qr', null]) as type, "
        "unnest(array['{}', '{\"dynamic\": true}']) as options"
    )
    rows = await database.fetch(
        "select cuadre.shown_on(c.kind, c.type, c.options) as shown, array(select surface "
        "from unnest(array['qr', 'point']) as surface where exists (select from "
        "cuadre.newer_sales(c.account, c.point_of_sale, surface, c.asked_at - interval '1 s', 'CMD'))) as found "
        "from cuadre.commands as c"
    )
    assert [row["found"] for row in rows] == [[] if row["shown"] is None else [row["shown"]] for row in rows]
    assert {row["shown"] for row in rows} == {"qr", "point", None}
    assert len(rows) == 50
