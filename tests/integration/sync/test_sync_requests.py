"""What was asked here of an order, as the rules see it inside the applying transaction."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from service.database.pool import Database
from service.mercadopago.account import Account
from service.mercadopago.reader import read_any
from service.sync.apply import Look, apply_looks
from service.sync.claims import QUERIES, mark_order_due
from service.sync.judging import judge_stored
from service.sync.locks import lock_orders
from service.sync.policies import account_policies
from service.sync.rows import asked_commands
from tests.support.asked import ask
from tests.support.looking import claim, look, open_discrepancies, see
from tests.support.orders import order, order_id, paid_order, payment_id, refund, refunded_order
from tests.support.provider import stub_provider
from tests.support.waiting import until
from tests.support.workers import Running

HOURS_AGO = timedelta(hours=2)
REFUND = refund(100, 1, "30.00")["id"]
HERE = Account("default", refunds_only_here_since=datetime(2020, 1, 1, tzinfo=UTC))
POLICIES = account_policies({"default": HERE}.get)


async def rules_open(database: Database) -> set[tuple[str, str]]:
    return {(rule, subject) for _, rule, subject in await open_discrepancies(database)}


async def test_what_was_asked_counts_before_the_order_is_stored(database: Database) -> None:
    await ask(database, "CMD1", "create", "done", order_id=order_id(1), amount="90.00")
    await ask(database, "CMD2", "create", "done", order_id=order_id(2), amount="100")
    outcomes = await see(database, order(1), order(2), order(3))
    assert await rules_open(database) == {("amount_differs_from_request", "CMD1")}
    assert [[change.order_id for change in one.discrepancies] for one in outcomes] == [[order_id(1)], [], []]
    row = await database.fetchrow("select data from cuadre.events where type = 'discrepancy.opened'")
    assert row is not None
    assert json.loads(row["data"])["amount_at_stake"] == "10.00"


async def test_a_refused_creation_that_left_an_order_is_compared_too(database: Database) -> None:
    await ask(database, "CMD1", "create", "refused", order_id=order_id(1), amount="90.00")
    await see(database, order(1, status="failed"))
    assert await rules_open(database) == {("amount_differs_from_request", "CMD1")}


async def test_money_after_a_cancellation_resolves_when_it_is_given_back(database: Database) -> None:
    await see(database, order(1))
    await ask(database, "CMD1", "cancel", "unknown", order_id=order_id(1))
    await see(database, paid_order(1))
    assert await rules_open(database) == {("paid_after_cancel_asked", "CMD1")}
    await see(database, refunded_order(1, "40.00"))
    assert await rules_open(database) == {("paid_after_cancel_asked", "CMD1")}
    at_stake = await database.fetchval("select amount_at_stake from cuadre.discrepancies")
    assert str(at_stake) == "60.00", "what is left of it"
    await see(database, refunded_order(1, "40.00", "60.00", seconds=300))
    assert await rules_open(database) == set()


async def test_an_unchanged_answer_is_judged_by_what_was_asked_meanwhile(database: Database) -> None:
    await see(database, paid_order(1))
    await ask(database, "CMD1", "cancel", "sending", order_id=order_id(1))
    (outcome,) = await see(database, paid_order(1))
    assert outcome.applied is not None
    assert outcome.applied.outcome == "unchanged"
    assert await rules_open(database) == {("paid_after_cancel_asked", "CMD1")}
    await ask(database, "CMD1", "cancel", "refused", order_id=order_id(1))
    await see(database, paid_order(1))
    assert await rules_open(database) == set()


async def test_a_panel_refund_under_the_policy(database: Database) -> None:
    looks = [look(await claim(database, order_id(1)), refunded_order(1, "30.00"))]
    await apply_looks(database, looks, **POLICIES)
    assert await rules_open(database) == {("refund_unexplained", REFUND)}
    await ask(
        database, "CMD1", "refund", "done",
        order_id=order_id(1), reserved={payment_id(1): "30.00"}, refund_ids=[REFUND],
    )  # fmt: skip
    looks = [look(await claim(database, order_id(1)), refunded_order(1, "30.00"))]
    await apply_looks(database, looks, **POLICIES)
    assert await rules_open(database) == set()


async def test_refunds_first_seen_before_the_policy_are_left_alone(database: Database) -> None:
    await see(database, refunded_order(1, "30.00"))
    since = await database.fetchval("select first_seen_at + interval '1 microsecond' from cuadre.refunds")
    policies = account_policies({"default": replace(HERE, refunds_only_here_since=since)}.get)
    looks = [look(await claim(database, order_id(1)), refunded_order(1, "30.00", "10.00", seconds=300))]
    await apply_looks(database, looks, **policies)
    assert await rules_open(database) == {("refund_unexplained", refund(101, 1, "10.00")["id"])}


async def test_the_policy_is_that_of_the_stored_orders_account(database: Database) -> None:
    await see(database, paid_order(1), account="tienda")
    strict = account_policies({"tienda": HERE}.get)
    looks = [look(await claim(database, order_id(1), account="otra"), refunded_order(1, "30.00"))]
    await apply_looks(database, looks, **strict)
    assert await rules_open(database) == {("refund_unexplained", REFUND)}


async def test_a_missing_refund_opens_by_time_alone(database: Database) -> None:
    await ask(
        database, "CMD1", "refund", "accepted",
        order_id=order_id(1), reserved={payment_id(1): "30.00"}, refund_ids=[REFUND],
    )  # fmt: skip
    await see(database, paid_order(1))
    assert await rules_open(database) == set()
    due = await database.fetchval(
        "select o.rules_due_at - c.accepted_at from cuadre.orders as o join cuadre.commands as c using (order_id)"
    )
    assert due == timedelta(hours=1, microseconds=1)
    await database.execute("update cuadre.commands set accepted_at = accepted_at - interval '2 h'")
    changes = await judge_stored(database, [order_id(1)])
    assert [(change.change, change.finding.rule) for change in changes] == [("opened", "refund_missing")]
    assert await database.fetchval("select rules_due_at from cuadre.orders") is None
    await see(database, refunded_order(1, "30.00"))
    assert await rules_open(database) == set()


async def test_judging_stored_orders_knows_the_policy_too(database: Database) -> None:
    await see(database, refunded_order(1, "30.00"))
    changes = await judge_stored(
        database, [order_id(1), order_id(9)], refunds_only_here_since=POLICIES["refunds_only_here_since"]
    )
    assert [(change.change, change.finding.subject_id) for change in changes] == [("opened", REFUND)]
    changes = await judge_stored(database, [order_id(1)])
    assert [(change.change, change.finding.subject_id) for change in changes] == [("resolved", REFUND)]


async def test_unknown_outcomes_are_left_to_whoever_executes_commands(database: Database) -> None:
    await see(database, order(1))
    await database.execute(
        "insert into cuadre.discrepancies (order_id, account, rule, subject_id, severity, expected, actual, "
        "explanation, opened_at, refreshed_at) "
        "values ($1, 'default', 'unknown_outcome', 'CMD1', 'warning', '', '', '', now(), now())",
        order_id(1),
    )
    await see(database, paid_order(1))
    await judge_stored(database, [order_id(1)])
    assert await rules_open(database) == {("unknown_outcome", "CMD1")}


async def test_an_outcome_committed_while_a_look_is_in_flight_is_judged(database_dsn: str, database: Database) -> None:
    """Under the order's lock, then marked due: either the look sees it, or one that follows does."""
    await see(database, order(1))
    await ask(database, "CMD1", "cancel", "waiting", order_id=order_id(1))
    flying = look(await claim(database, order_id(1)), paid_order(1))
    other = await Database.connect(database_dsn)

    async def is_waiting() -> bool:
        return bool(
            await database.fetchval(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted "
                "and database = (select oid from pg_database where datname = current_database())"
            )
        )

    async with other.transaction() as connection:
        locked_at = await lock_orders(connection, [order_id(1)])
        applying = asyncio.create_task(apply_looks(database, [flying]))
        await until(is_waiting, what="the apply waits for the order's lock")
        await connection.execute("update cuadre.commands set status = 'done', settled_at = $1", locked_at)
    await applying
    await other.close()
    assert await rules_open(database) == {("paid_after_cancel_asked", "CMD1")}


async def test_the_worker_takes_the_policy_from_the_accounts_it_follows(database: Database) -> None:
    async with stub_provider() as provider:
        provider.put(refunded_order(1, "30.00"))
        await mark_order_due(database, order_id(1), "default")

        async def opened() -> bool:
            return await rules_open(database) == {("refund_unexplained", REFUND)}

        async with Running(database, provider, replace(HERE, access_token="APP_USR-t")):
            await until(opened, what="the panel's refund is told")


async def test_commands_are_found_by_their_index_also_of_orders_not_stored(
    database_dsn: str, database: Database
) -> None:
    await database.execute(
        "insert into cuadre.commands (command_id, account, idempotency_key, request_hash, asked_by, asked_at, kind, "
        "order_id, provider_key, status) select 'C' || n, 'default', n, '\\x00', '', now(), 'cancel', "
        "'ORD' || lpad((n / 2)::text, 26, '0'), n, 'done' from generate_series(1, 20000) as n"
    )
    await database.execute("analyze cuadre.commands")
    ids = [order_id(number) for number in range(100, 116)]
    pinned = await Database.connect(database_dsn, max_size=1, pin_plans=True)
    rows = await pinned.fetch(f"explain (analyze, costs off, timing off) {QUERIES.read_stored_orders}", ids, [])
    stored = await pinned.fetch(QUERIES.read_stored_orders, ids, [])
    await pinned.close()
    plan = "\n".join(row[0] for row in rows)
    assert "Index Scan using commands_by_order" in plan
    assert "Seq Scan on commands" not in plan
    assert [(row["version"], len(asked_commands(row))) for row in stored] == [(None, 2)] * 16


# Legacy sales: the expiry is what was asked for here


def merchant_order(reference: str = "mesa-1") -> bytes:
    return json.dumps(
        {
            "merchant_order": {
                "id": 77, "status": "opened", "external_reference": reference, "total_amount": 100, "payments": [],
                "date_created": "2026-09-14T12:00:00.000Z", "last_updated": "2026-09-14T12:00:00.000Z",
                "site_id": "MLA", "collector": {"id": 1},
            },
            "payments": [],
            "refunds": {},
        }
    ).encode()  # fmt: skip


async def test_a_legacy_sale_runs_out_as_it_was_asked_to(database: Database) -> None:
    for number, (status, minutes) in enumerate([("done", 5), ("done", 9), ("refused", 30), ("waiting", 40)]):
        await ask(
            database, f"CMD{number}", "legacy_put", status, external_reference="mesa-1",
            age=timedelta(minutes=60 - number), expires_in=timedelta(minutes=minutes),
        )  # fmt: skip
    await ask(database, "OTHER", "legacy_put", "done", external_reference="mesa-2", expires_in=timedelta(minutes=50))
    held = await claim(database, "MO77")
    (outcome,) = await apply_looks(database, [Look(held, read=read_any(merchant_order(), "MO77"))])
    assert outcome.applied is not None
    row = await database.fetchrow(
        "select o.expires_at, c.expires_at as asked_for, o.external_reference "
        "from cuadre.orders as o, cuadre.commands as c where c.command_id = 'CMD1'"
    )
    assert row is not None
    assert row["external_reference"] == "mesa-1"
    assert abs(row["expires_at"] - row["asked_for"]) < timedelta(milliseconds=1)
