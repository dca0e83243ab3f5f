"""What adversaries and crashes did to the worker once, and must not do again."""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from service.database.pool import Database
from service.intake.record import NotificationRecorder
from service.mercadopago.account import Account
from service.sync.apply import Look, apply_looks
from service.sync.claims import QUERIES, Lane, claim_due, claim_one, mark_order_due, release
from service.sync.judging import judge_stored
from service.sync.settle import Failure
from tests.support.deliveries import delivery
from tests.support.looking import claim, look, open_discrepancies, see
from tests.support.orders import moment, order, order_id, paid_order, payment, payment_id, refunded_order
from tests.support.provider import not_found, stub_provider
from tests.support.waiting import until
from tests.support.workers import Running


async def row(database: Database, number: int) -> Any:
    return await database.fetchrow("select * from cuadre.sync where order_id = $1", order_id(number))


async def stored(database: Database) -> set[int]:
    return {int(one["order_id"][3:]) for one in await database.fetch("select order_id from cuadre.orders")}


@pytest.mark.parametrize(("rate", "orders"), [(50.0, 120), (4.0, 8)])
async def test_a_backlog_is_worked_off_without_waiting_for_polls(database: Database, rate: float, orders: int) -> None:
    async with stub_provider() as provider:
        provider.put(*(order(number) for number in range(1, orders + 1)))
        for number in range(1, orders + 1):
            await mark_order_due(database, order_id(number), "default")
        async with Running(database, provider, Account("default", access_token="APP_USR-t", rate_per_second=rate)):

            async def all_stored() -> bool:
                return len(await stored(database)) == orders

            await until(all_stored, what="the backlog is gone", seconds=30)


async def test_room_that_opens_while_the_worker_lies_down_is_used(database: Database) -> None:
    """Whenever it finds nothing to claim from, a good part of a token comes before it asks how long to wait."""
    orders, late = range(1, 31), 0.0
    async with stub_provider() as provider:
        provider.put(*(order(number) for number in orders))
        shop = Account("default", access_token="APP_USR-t", rate_per_second=20.0)
        async with Running(database, provider, shop, clock=lambda: time.monotonic() + late) as worker:
            lanes = worker.gates.lanes

            def lanes_of_a_slow_machine(*args: Any, **kwargs: Any) -> list[Lane]:
                nonlocal late
                found = lanes(*args, **kwargs)
                late += 0 if found else 0.03
                return found

            worker.gates.lanes = lanes_of_a_slow_machine  # type: ignore[method-assign]  # the same, and time passes
            for number in orders:
                await mark_order_due(database, order_id(number), "default")
            worker.wake()
            await until(lambda: _has_all(database, orders), what="the backlog is gone")


async def test_a_backlog_does_not_wait_for_polls_because_another_account_is_idle(database: Database) -> None:
    orders = range(1, 41)
    async with stub_provider() as provider:
        provider.put(*(order(number) for number in orders))
        for number in orders:
            await mark_order_due(database, order_id(number), "busy")
        accounts = [Account(name, access_token="APP_USR-t", rate_per_second=20.0) for name in ("busy", "idle")]
        async with Running(database, provider, *accounts):
            await until(lambda: _has_all(database, orders), what="the backlog is gone", seconds=30)


async def test_an_account_at_its_share_of_the_slots_does_not_wait_for_polls(database: Database) -> None:
    orders = range(1, 21)
    async with stub_provider() as provider:
        provider.put(*(order(number) for number in orders))
        for number in orders:
            await mark_order_due(database, order_id(number), "busy")
        accounts = [Account(name, access_token="APP_USR-t", rate_per_second=500.0) for name in ("busy", "idle")]
        async with Running(database, provider, *accounts, concurrency=4):
            await until(lambda: _has_all(database, orders), what="the backlog is gone")


async def test_strangers_at_their_share_of_the_slots_do_not_wait_for_polls(database: Database) -> None:
    orders = range(1, 21)
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    await asyncio.gather(*(recorder.record(delivery(order_id(number), verified=False)) for number in orders))
    async with stub_provider() as provider:
        provider.put(*(order(number) for number in orders))
        shop = Account("default", access_token="APP_USR-t", rate_per_second=500.0)
        async with Running(database, provider, shop, concurrency=4):
            await until(lambda: _has_all(database, orders), what="the backlog is gone")
    await recorder.close()


async def _has_all(database: Database, orders: Iterable[int]) -> bool:
    return await stored(database) == set(orders)


async def test_one_notification_is_served_at_once_however_many_accounts_are_idle(database: Database) -> None:
    accounts = [Account(f"tienda-{n}", access_token="APP_USR-t") for n in range(40)]
    async with stub_provider() as provider, Running(database, provider, *accounts) as worker:
        for number, account in enumerate(accounts[::5], start=1):
            provider.put(order(number))
            await mark_order_due(database, order_id(number), account.name)
            worker.wake()

            async def is_stored(number: int = number) -> bool:
                return number in await stored(database)

            await until(is_stored, what=f"the order of {account.name} is stored", seconds=10)


async def test_strangers_are_served_where_there_is_room_for_one_only(database: Database) -> None:
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    await asyncio.gather(*(recorder.record(delivery(order_id(n), verified=n == 1)) for n in (1, 2, 3)))
    async with stub_provider() as provider:
        provider.put(*(order(number) for number in (1, 2, 3)))
        async with Running(database, provider, Account("default", access_token="APP_USR-t"), concurrency=1):

            async def all_stored() -> bool:
                return await stored(database) == {1, 2, 3}

            await until(all_stored, what="known and strangers are stored", seconds=20)
    await recorder.close()


async def test_a_forged_id_of_another_seller_does_not_pause_the_account(database: Database) -> None:
    # Invariant I8: the provider answers 403 to somebody else's order; the token itself is good.
    async with stub_provider() as provider:
        provider.put(order(1))
        provider.mishap = lambda name, nth: web.json_response({}, status=403) if name == order_id(66) else None
        recorder = NotificationRecorder(database, on_committed=lambda: None)
        async with Running(database, provider, Account("default", access_token="APP_USR-t")) as worker:
            await recorder.record(delivery(order_id(66), verified=False))
            worker.wake()

            async def refused() -> bool:
                current = await row(database, 66)
                return bool(current["last_error"])

            await until(refused, what="the forged id was asked for")
            gate = worker.gates.gate("default")
            assert gate is not None
            assert gate.paused(asyncio.get_running_loop().time()) is None
            await recorder.record(delivery(order_id(1), verified=True))
            worker.wake()

            async def honest_is_stored() -> bool:
                return 1 in await stored(database)

            await until(honest_is_stored, what="the honest order is stored", seconds=10)
        await recorder.close()
    assert (await row(database, 66))["last_error"].startswith("not_found: 403")


async def test_a_known_order_that_is_refused_pauses_its_account(database: Database) -> None:
    async with stub_provider() as provider:
        provider.mishap = lambda name, nth: web.json_response({}, status=403)
        await mark_order_due(database, order_id(1), "default")
        async with Running(database, provider, Account("default", access_token="APP_USR-t")) as worker:

            async def paused() -> bool:
                gate = worker.gates.gate("default")
                return gate is not None and gate.paused(asyncio.get_running_loop().time()) == "refused"

            await until(paused, what="the account is paused")
    assert (await row(database, 1))["attempts"] == 0


async def test_new_strangers_are_heard_before_the_repeats_of_a_flood(database: Database) -> None:
    await database.execute(
        "insert into cuadre.sync (order_id, account, trust, requested, due_at, attempts) "
        "select 'ORDOLD' || lpad(n::text, 20, '0'), 'default', 0, 1, now() - make_interval(secs => 1000 + n), 3 "
        "from generate_series(1, 50) as n"
    )
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    await recorder.record(delivery(order_id(1), verified=False))
    await recorder.close()
    claims = await claim_due(database, [Lane("default", known=False, room=1)], lease_seconds=30)
    assert [one.order_id for one in claims] == [order_id(1)]


async def test_a_claim_waits_for_nobody_and_is_bounded_in_all(database: Database) -> None:
    for number in range(1, 9):
        await mark_order_due(database, order_id(number), "default")
    async with database.transaction() as connection:
        await connection.execute("select from cuadre.sync where order_id = $1 for update", order_id(1))
        async with asyncio.timeout(5):
            lanes = [Lane("default", known=True, room=6), Lane("default", known=False, room=6)]
            claims = await claim_due(database, lanes, lease_seconds=30, at_most=4)
    assert len(claims) == 4
    assert order_id(1) not in {one.order_id for one in claims}


async def test_an_unverified_mark_during_a_look_is_owed_another_one_within_a_second(database: Database) -> None:
    await see(database, order(1))
    held = await claim(database, order_id(1))
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    await recorder.record(delivery(order_id(1), verified=False))
    await recorder.close()
    await apply_looks(database, [look(held, order(1))])
    current = await row(database, 1)
    assert current["fetched"] < current["requested"]
    assert current["due_at"] <= current["claimed_at"] + timedelta(seconds=1.5)


async def test_a_stale_claim_releases_nothing(database: Database) -> None:
    stale = await claim(database, order_id(1), lease_seconds=0)
    held = await claim(database, order_id(1))
    await release(database, [stale])
    current = await row(database, 1)
    assert (current["lease_token"], current["leased_until"] is not None) == (held.lease_token, True)
    await release(database, [held])
    current = await row(database, 1)
    assert (current["lease_token"], current["attempts"]) == (None, 1)


async def test_an_older_answer_is_looked_at_again_in_a_minute_and_says_so(database: Database) -> None:
    await see(database, paid_order(1, seconds=100))
    await see(database, order(1, seconds=50))
    current = await row(database, 1)
    wait = current["due_at"] - datetime.now(UTC)
    assert timedelta(seconds=40) < wait <= timedelta(seconds=60)
    assert current["last_error"].startswith("older:")


async def test_an_unchanged_answer_moves_the_fence(database: Database) -> None:
    early = await claim(database, order_id(1), lease_seconds=0)
    middle = await claim(database, order_id(1), lease_seconds=0)
    late = await claim(database, order_id(1))
    await apply_looks(database, [look(early, order(1))])
    await apply_looks(database, [look(late, order(1))])
    (outcome,) = await apply_looks(database, [look(middle, order(1, description="other content, same time"))])
    assert outcome.applied is not None
    assert outcome.applied.outcome == "older"


async def test_every_kind_of_record_that_vanishes_is_marked(database: Database) -> None:
    body = paid_order(1)
    body["transactions"]["payments"].append(payment(2, amount="1.00"))
    body["transactions"]["chargebacks"] = [
        {"id": "CBK1", "transaction_id": payment_id(1), "amount": "5", "status": "reimbursed"}
    ]
    body["transactions"]["cash_outs"] = [{"id": "CAS1", "amount": "5", "status": "processed"}]
    await see(database, body)
    await see(database, paid_order(1, seconds=100))
    for table, key in (("payments", payment_id(2)), ("chargebacks", "CBK1"), ("cash_outs", "CAS1")):
        column = {"payments": "payment_id", "chargebacks": "chargeback_id", "cash_outs": "cash_out_id"}[table]
        gone = await database.fetch(f"select {column} as id from cuadre.{table} where vanished_at is not null")
        assert [one["id"] for one in gone] == [key], table


@pytest.mark.parametrize(
    ("first", "then", "account"),
    [("unverified", "unverified", "uno"), ("verified", "unverified", "uno"), ("unverified", "verified", "dos")],
)
async def test_only_who_is_trusted_more_moves_an_order_to_another_account(
    database: Database, first: str, then: str, account: str
) -> None:
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    await recorder.record(delivery(order_id(1), verified=first == "verified", account="uno"))
    await recorder.record(delivery(order_id(1), verified=then == "verified", account="dos", version=2))
    assert (await row(database, 1))["account"] == account
    await see(database, order(1), account=account)
    await recorder.record(delivery(order_id(1), verified=True, account="tres", version=3))
    assert (await row(database, 1))["account"] == account
    await recorder.close()


async def test_the_worker_is_woken_after_the_commit(database: Database) -> None:
    seen: list[int] = []

    def committed() -> None:
        seen.append(asyncio.get_running_loop().create_task(count()) is not None)

    async def count() -> None:
        visible.append(await database.fetchval("select count(*) from cuadre.sync"))

    visible: list[int] = []
    recorder = NotificationRecorder(database, on_committed=committed)
    await recorder.record(delivery(order_id(1), verified=True))

    async def counted() -> bool:
        return bool(visible)

    await until(counted, what="the wake-up came")
    assert visible == [1]
    await recorder.close()


async def test_two_new_sales_in_one_batch_rename_the_one_that_was_earliest(database: Database) -> None:
    def sale(number: int, seconds: float = 60, reference: str = "x") -> dict[str, Any]:
        return paid_order(number, seconds=seconds, external_reference=reference, created_date=moment(number))

    await see(database, sale(5))
    outcomes = await see(database, sale(1), sale(2))
    expected = {(order_id(n), "duplicate_sale", order_id(1)) for n in (2, 5)}
    assert await open_discrepancies(database) == expected
    told = {(c.order_id, c.change) for one in outcomes for c in one.discrepancies if c.finding.rule == "duplicate_sale"}
    assert told == {(order_id(2), "opened"), (order_id(5), "opened")}, "what opens elsewhere is told, too"
    await see(database, sale(1, 90, "y"), sale(2, 90, "y"))
    assert await open_discrepancies(database) == {(order_id(2), "duplicate_sale", order_id(1))}


async def test_a_reference_that_moves_while_a_namesake_is_applied(database_dsn: str, database: Database) -> None:
    other = await Database.connect(database_dsn)
    for number in range(1, 31, 3):
        a, b = f"a-{number}", f"b-{number}"
        await see(database, paid_order(number, external_reference=a, created_date=moment(number)))
        await see(database, paid_order(number + 1, external_reference=a, created_date=moment(number + 1)))
        moving = paid_order(number, seconds=90, external_reference=b, created_date=moment(number))
        joining = paid_order(number + 2, external_reference=a, created_date=moment(number + 2))
        first = look(await claim(database, moving["id"]), moving)
        second = look(await claim(database, joining["id"]), joining)
        await asyncio.gather(apply_looks(database, [first]), apply_looks(other, [second]))
        here = {one for one in await open_discrepancies(database) if one[0] in {order_id(number + n) for n in range(3)}}
        assert here == {(order_id(number + 2), "duplicate_sale", order_id(number + 1))}
    await other.close()


async def test_batches_with_crossed_orders_do_not_deadlock(database_dsn: str, database: Database) -> None:
    other = await Database.connect(database_dsn)
    for round_number in range(1, 16):
        seconds = 60.0 * round_number
        bodies = [paid_order(n, seconds=seconds, external_reference=f"r{n % 3}") for n in range(1, 13)]
        first = [look(await claim(database, body["id"], lease_seconds=0), body) for body in bodies]
        second = [look(await claim(other, body["id"]), body) for body in reversed(bodies)]
        async with asyncio.timeout(20):
            await asyncio.gather(apply_looks(database, first), apply_looks(other, second))
    await other.close()


async def test_positions_are_given_once_by_overlapping_statements(database_dsn: str, database: Database) -> None:
    await see(database, *(order(number) for number in range(1, 6)))
    slow_statement = QUERIES.assign_positions.replace(
        "waiting as (", "pause as (select pg_sleep(0.5)),\nwaiting as (", 1
    )
    slow_statement = slow_statement.replace("(select mine from turn)", "(select mine from turn, pause)", 1)
    other = await Database.connect(database_dsn)
    slow = asyncio.create_task(other.fetchrow(slow_statement))

    async def holds_the_turn() -> bool:
        return bool(await database.fetchval("select count(*) from pg_locks where locktype = 'advisory'"))

    await until(holds_the_turn, what="the first has its turn")
    second = await database.fetchrow(QUERIES.assign_positions)
    assert second is not None
    assert (second["mine"], second["given"]) == (False, 0)
    done = await slow
    assert done is not None
    assert done["given"] == 5
    await other.close()


async def test_revived_from_quarantine_an_order_gets_its_grace_again(database: Database) -> None:
    async with stub_provider() as provider:
        provider.mishap = lambda name, nth: not_found()
        await mark_order_due(database, order_id(1), "default")
        await database.execute(
            "update cuadre.sync set quarantined_at = now() - interval '60 d', quarantine_reason = 'not_found', "
            "last_error = 'not_found: 404', failing_since = now() - interval '60 d', attempts = 30"
        )
        async with Running(database, provider, Account("default", access_token="APP_USR-t")):

            async def failed_again() -> bool:
                return bool((await row(database, 1))["attempts"] == 1)

            await until(failed_again, what="it was looked at")
    current = await row(database, 1)
    assert (current["quarantined_at"], current["due_at"] is not None) == (None, True)


async def test_suspects_of_lost_workers_are_put_aside_and_not_forgotten(database: Database) -> None:
    held = await claim(database, order_id(1))
    await apply_looks(database, [Look(held, failure=Failure("worker_lost", "ten in a row", counts=True))])
    current = await row(database, 1)
    assert (current["quarantine_reason"], current["lost_leases"]) == ("worker_lost", 0)
    assert current["due_at"] is not None


async def test_lost_leases_are_forgotten_by_whatever_is_settled(database: Database) -> None:
    await mark_order_due(database, order_id(1), "default")
    for _ in range(3):
        await claim_due(database, [Lane("default", known=True, room=1)], lease_seconds=0)
    held = (await claim_due(database, [Lane("default", known=True, room=1)], lease_seconds=30))[0]
    assert held.lost_leases == 3
    await apply_looks(database, [Look(held, failure=Failure("timeout", "none", counts=False))])
    assert (await row(database, 1))["lost_leases"] == 0


async def test_an_order_stored_by_a_worker_that_lost_its_lease_is_known(database: Database) -> None:
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    await recorder.record(delivery(order_id(1), verified=False))
    await recorder.close()
    frozen = await claim_one(database, order_id(1), lease_seconds=0)
    assert frozen is not None
    holder = await claim_one(database, order_id(1), lease_seconds=30)
    assert holder is not None
    await apply_looks(database, [look(frozen, paid_order(1))])
    assert (await row(database, 1))["trust"] == 2
    assert (await row(database, 1))["lease_token"] == holder.lease_token


async def test_one_stored_order_that_cannot_be_read_does_not_hold_up_the_others(database: Database) -> None:
    await see(database, order(1), order(2))
    await database.execute(
        "update cuadre.orders set rules_due_at = now(), "
        'payload = case when order_id = $1 then payload || \'{"total_amount": "-1"}\' else payload end',
        order_id(1),
    )
    await judge_stored(database, [order_id(1), order_id(2)])
    rows = await database.fetch("select rules_due_at > now() as later from cuadre.orders order by order_id")
    assert [one["later"] for one in rows] == [True, None]


async def test_stopping_in_the_middle_of_a_claim_leaves_no_lease_behind(database: Database) -> None:
    async def a_claim_waits() -> bool:
        return bool(
            await database.fetchval(
                "select count(*) from pg_stat_activity where datname = current_database() "
                "and wait_event_type = 'Lock' and query like 'with lanes as %'"
            )
        )

    async with stub_provider() as provider:
        provider.put(order(1))
        async with database.transaction() as connection:
            # The claim cannot be answered while the table is locked.
            await connection.execute("lock table cuadre.sync in access exclusive mode")
            await connection.execute(
                "insert into cuadre.sync (order_id, account, trust, requested, due_at) "
                "values ($1, 'default', 1, 1, now())",
                order_id(1),
            )
            running = Running(database, provider, Account("default", access_token="APP_USR-t"))
            worker = await running.__aenter__()
            await until(a_claim_waits, what="the claim waits for the table")
            stopping = asyncio.create_task(worker.stop(within_seconds=10))
            await asyncio.sleep(0)
        await stopping
        await asyncio.wait_for(running.task, 5)
        await running.client.__aexit__(None, None, None)
    current = await row(database, 1)
    assert (current["leased_until"], current["attempts"]) == (None, 0)


async def test_a_repeatable_default_isolation_changes_nothing(database_dsn: str, database: Database) -> None:
    name = await database.fetchval("select current_database()")
    await database.execute(f"alter database {name} set default_transaction_isolation = 'repeatable read'")
    one, two = await Database.connect(database_dsn), await Database.connect(database_dsn)
    for number in range(1, 21, 2):
        bodies = [paid_order(n, external_reference=f"r{number}", created_date=moment(n)) for n in (number, number + 1)]
        looks = [look(await claim(one, body["id"]), body) for body in bodies]
        await asyncio.gather(apply_looks(one, looks[:1]), apply_looks(two, looks[1:]))
    assert len(await open_discrepancies(one)) == 10
    await one.close()
    await two.close()


async def test_refunds_elsewhere_are_judged_while_time_rules_are(database_dsn: str, database: Database) -> None:
    # judge_stored and an apply of the same order at once: the discrepancy neither doubles nor stays.
    other = await Database.connect(database_dsn)
    for number in range(1, 13):
        wrong = refunded_order(number, "30.00")
        wrong["transactions"]["payments"][0]["refunded_amount"] = "10.00"
        await see(database, wrong)
        right = look(await claim(database, order_id(number)), refunded_order(number, "30.00", seconds=300))
        await asyncio.gather(apply_looks(database, [right]), judge_stored(other, [order_id(number)]))
    assert await open_discrepancies(database) == set()
    await other.close()
