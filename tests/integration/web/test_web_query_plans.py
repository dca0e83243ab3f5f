"""The lists stay cheap as the tables grow: a page is read along an index, and touches few rows besides its own."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from service.database.pool import Database
from service.web.points_of_sale import LONGEST_LEGACY_SECONDS
from service.web.statements import QUERIES, compose
from tests.integration.web.web_rows import at, order_id

ROWS = 20_000
_READ_NO_TABLE = {"Subquery Scan", "CTE Scan", "WorkTable Scan"}

_FILL = f"""
insert into cuadre.orders (
    order_id, account, type, external_reference, status, updated_at, created_at, payload, payload_hash, version,
    claimed_at, fetched_at, first_seen_at, changed_at
)
select 'ORD' || lpad(n::text, 26, '0'), case when n % 10 = 0 then 'second' else 'default' end,
    (array['qr', 'point', 'online'])[n % 3 + 1], 'ref-' || n, case when n % 5 = 0 then 'created' else 'processed' end,
    now() - make_interval(secs => n), now(), '{{}}', '', 1, now(), now(), now(), now()
from generate_series(1, {ROWS}) as n;
insert into cuadre.discrepancies (
    order_id, account, rule, subject_id, severity, expected, actual, explanation, opened_at, refreshed_at, resolved_at
)
select 'ORD' || lpad(n::text, 26, '0'), 'default', 'rule_' || n % 14, n::text, 'high', '', '', '', now(), now(),
    case when n % 200 <> 0 then now() end
from generate_series(1, {ROWS}) as n;
insert into cuadre.notifications (
    period, account, topic, action, resource_id, order_id, verified, verification, received_at, last_received_at,
    copy_key, path, query, headers
)
select cuadre.period_of(now() + make_interval(months => n % 3)), 'default', 'order', 'order.processed',
    'ORD' || lpad((n % 4000)::text, 26, '0'), 'ORD' || lpad((n % 4000)::text, 26, '0'), n % 3 = 0, 'valid', now(),
    now(), n::text::bytea, '', '[]', '[]'
from generate_series(1, {ROWS}) as n;
insert into cuadre.sync (order_id, account, quarantined_at, quarantine_reason)
select 'ORD' || lpad(n::text, 26, '0'), 'default', case when n % 20 = 0 then now() - make_interval(secs => n) end, 'x'
from generate_series(1, {ROWS}) as n;
insert into cuadre.fetches (order_id, claimed_at, period, account, cause, outcome, settled_at)
select 'ORD' || lpad((n % 2000)::text, 26, '0'), now() + make_interval(secs => n), cuadre.period_of(now()),
    'default', '', '', now()
from generate_series(1, {ROWS}) as n;
insert into cuadre.order_versions (
    order_id, version, period, account, paid_amount, refunded_amount, claimed_at, observed_at, cause, payload
)
select 'ORD' || lpad((n % 2000)::text, 26, '0'), n, cuadre.period_of(now()), 'default', 0, 0, now(), now(), '', '{{}}'
from generate_series(1, {ROWS}) as n;
update cuadre.orders set payload = jsonb_build_object('config', jsonb_build_object(
    case when order_id > 'ORD' || lpad('10000', 26, '0') then 'qr' else 'point' end,
    jsonb_build_object(
        case when order_id > 'ORD' || lpad('10000', 26, '0') then 'external_pos_id' else 'terminal_id' end,
        'POS' || right(order_id, 2))))
where order_id like '%00';
insert into cuadre.commands (
    command_id, account, idempotency_key, request_hash, asked_by, asked_at, kind, order_id, external_reference,
    point_of_sale, provider_key, status, settled_at, expires_at
)
select 'CMD' || lpad(n::text, 26, '0'), case when n % 10 = 0 then 'second' else 'default' end, n::text, '', '',
    now() - make_interval(mins => n), (array['create', 'cancel', 'refund', 'legacy_put', 'legacy_delete'])[n % 5 + 1],
    'ORD' || lpad((n % 4000)::text, 26, '0'), 'ref-' || n, 'POS' || n % 100, '',
    case when n % 1000 = 0 then 'unknown' else 'done' end,
    case when n % 1000 <> 0 then now() - make_interval(mins => n) end, now() + make_interval(mins => 600 - n)
from generate_series(1, {ROWS}) as n;
"""


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes, outermost first."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.fixture
async def filled(database: Database) -> Database:
    await database.execute(_FILL)
    await database.execute("analyze")
    return database


async def explain(database: Database, query: str, arguments: list[object]) -> list[dict[str, Any]]:
    text = await database.fetchval(f"explain (analyze, format json) {query}", *arguments)
    return list(nodes(json.loads(text)[0]["Plan"]))


def touched(plan: list[dict[str, Any]]) -> float:
    """Rows that the scans read, those that a filter threw away included."""
    scans = [node for node in plan if "Scan" in node["Node Type"] and node["Node Type"] not in _READ_NO_TABLE]
    read = (node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) for node in scans)
    return float(sum(read))


# Name of the query, what is given, the index that must serve it, and how many rows it may touch for a page of 50.
PAGES: list[tuple[str, dict[str, object], str, int]] = [
    ("list_orders", {}, "orders_by_update", 60),
    ("list_orders", {"after_time": at(-(10**8)), "after_id": order_id(9)}, "orders_by_update", 60),
    ("list_orders", {"account": "second"}, "orders_by_account_update", 60),
    ("list_orders", {"account": "second", "after_time": at(10**9), "after_id": "x"}, "orders_by_account_update", 60),
    ("list_orders", {"status": "created"}, "orders_by_update", 400),
    ("list_orders", {"updated_since": at(-(10**9))}, "orders_by_update", 60),
    ("list_orders", {"account": "default", "external_reference": "ref-77"}, "orders_by_reference", 10),
    ("list_orders", {"in_any_account": True, "external_reference": "ref-77"}, "orders_by_reference", 20),
    ("list_discrepancies", {}, "discrepancies_by_id", 60),
    ("list_discrepancies", {"after_id": ROWS // 2}, "discrepancies_by_id", 60),
    ("list_discrepancies", {"only_open": True}, "discrepancies_open", 150),
    ("list_discrepancies", {"only_open": True, "rule": "rule_0"}, "discrepancies_open", 150),
    ("list_discrepancies", {"order_id": order_id(77)}, "discrepancies_pkey", 10),
    ("list_notifications", {}, "pkey", 250),
    ("list_notifications", {"after_id": ROWS // 2}, "pkey", 250),
    ("list_notifications", {"id": 77}, "pkey", 10),
    ("list_notifications", {"order_id": order_id(77)}, "order_id", 60),
    ("list_notifications", {"resource_id": order_id(77)}, "resource_id", 60),
    ("list_quarantine", {}, "sync_quarantined", 60),
    ("list_commands", {}, "commands_by_time", 60),
    ("list_commands", {"after_time": at(10**9), "after_id": "x"}, "commands_by_time", 60),
    ("list_commands", {"order_id": order_id(77)}, "commands_by_order", 10),
    ("list_commands", {"status": "unknown", "only_open": True}, "commands_unsettled", 30),
    ("list_commands", {"kind": "refund"}, "commands_by_time", 300),
]
# The same for what is live on points of sale: of 20,000 orders 4,000 are open, and 200 of these have a place; of 20,000
# commands 2,880 are of the last two days, and 20 are not settled.
LONGEST: dict[str, object] = {"longest_seconds": LONGEST_LEGACY_SECONDS}
LIVE: list[tuple[str, dict[str, object], str, int]] = [
    ("list_open_orders_by_point_of_sale", {}, "orders_open_by_point_of_sale", 450),
    ("list_open_orders_by_point_of_sale", {"account": "second"}, "orders_open_by_point_of_sale", 450),
    (
        "list_open_orders_by_point_of_sale",
        {"account": "second", "point_of_sale": "POS00"},
        "orders_open_by_point_of_sale",
        450,
    ),
    ("list_live_legacy_sales", LONGEST, "commands_by_time", 6000),
    ("list_live_legacy_sales", LONGEST | {"account": "default", "point_of_sale": "POS3"}, "by_point_of_sale", 80),
    ("list_commands_under_way_by_point_of_sale", {}, "commands_unsettled", 30),
    ("list_commands_under_way_by_point_of_sale", {"account": "default"}, "commands_unsettled", 30),
]


async def test_a_page_is_read_along_an_index(filled: Database) -> None:
    for name, given, index, most in PAGES:
        query, arguments = compose(QUERIES[name], given | {"row_limit": 51})
        plan = await explain(filled, query, arguments)
        case = (name, given, [(node["Node Type"], node.get("Index Name")) for node in plan])
        assert any(index in node.get("Index Name", "") for node in plan), case
        assert not any(node["Node Type"] == "Seq Scan" and node["Actual Rows"] for node in plan), case
        assert touched(plan) <= most, (touched(plan), case)


async def test_what_is_live_is_read_along_an_index_of_what_is_live(filled: Database) -> None:
    for name, given, index, most in LIVE:
        query, arguments = compose(QUERIES[name], given | {"row_limit": 2001})
        plan = await explain(filled, query, arguments)
        case = (name, given, [(node["Node Type"], node.get("Index Name")) for node in plan])
        assert any(index in node.get("Index Name", "") for node in plan), case
        assert not any(node["Node Type"] == "Seq Scan" and node["Actual Rows"] for node in plan), case
        assert touched(plan) <= most, (touched(plan), case)


async def test_a_timeline_reads_its_own_order_only(filled: Database) -> None:
    for name in ("timeline_notifications", "timeline_fetches", "timeline_versions", "timeline_discrepancies"):
        plan = await explain(filled, QUERIES[name], [order_id(77), 501])
        assert touched(plan) <= 40, (name, plan)


async def test_reading_one_order_touches_its_own_rows(filled: Database) -> None:
    for name in ("read_order", "read_payments", "read_refunds", "read_chargebacks", "read_cash_outs", "read_sync"):
        assert touched(await explain(filled, QUERIES[name], [order_id(77)])) <= 2, name
    assert touched(await explain(filled, QUERIES.read_open_discrepancies, [order_id(77)])) <= 2
    for name in ("read_version_at", "read_discrepancies_at"):
        assert touched(await explain(filled, QUERIES[name], [order_id(77), at(10**9)])) <= 40, name
