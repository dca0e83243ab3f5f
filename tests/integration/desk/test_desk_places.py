"""Sales on one printed QR or terminal: what was asked earlier never goes over what was asked later."""

import asyncio
import contextlib
from typing import Any

import pytest

from service.database.pool import UNAVAILABLE, Database
from service.desk.intents import QUERIES, CommandRow
from service.desk.legacy import QUERIES as LEGACY_QUERIES
from service.desk.settle import withdraw_stale
from tests.support.desk import ACCOUNT, Shop, point, qr, shop
from tests.support.waiting import until

NOBODY = "http://127.0.0.1:9"  # nobody listens there
LOST_BEFORE = {"body": "disconnect", "when": "before"}
LOST_AFTER = {"body": "disconnect", "when": "after"}
STATIC = qr("cliente-1")
LATER = qr("cliente-2", "7.00")


def dynamic(reference: str, amount: str = "100.00") -> dict[str, Any]:
    return qr(reference, amount, config={"qr": {"external_pos_id": "CAJA1", "mode": "dynamic"}})


async def ask(here: Shop, body: dict[str, Any], key: str) -> CommandRow:
    return await here.desk.create(ACCOUNT, body, key=key, asked_by="caja-1")


async def hold(here: Shop, command: CommandRow) -> None:
    """Its wait for the next attempt is long."""
    later = "update cuadre.commands set due_at = now() + interval '1 hour' where command_id = $1"
    await here.database.execute(later, command.command_id)


async def references(here: Shop) -> list[str]:
    """Of the orders at the provider, in the order in which they were made."""
    made = sorted((await here.provider.orders()).values(), key=lambda order: str(order["created_date"]))
    return [order["external_reference"] for order in made]


async def looked_for(here: Shop, command: CommandRow) -> CommandRow | None:
    await here.hurry()
    found = await here.desk.find(command.command_id)
    assert found is not None
    return found if found.is_settled or "lists no order" in (found.message or "") else None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (STATIC, LATER),
        (point("cliente-1"), point("cliente-2", "7.00")),
    ],
    ids=["qr", "point"],
)
async def test_a_lost_creation_is_not_repeated_over_the_next_customers_sale(
    database: Database, first: dict[str, Any], second: dict[str, Any]
) -> None:
    async with shop(database) as here:
        await here.provider.faults(create=LOST_BEFORE)
        older = await here.becomes(await ask(here, first, "k-1"), status="unknown")
        await hold(here, older)
        await here.provider.faults()
        newer = await here.becomes(await ask(here, second, "k-2"), status="done")
        found = await until(lambda: looked_for(here, older), what="the older one is looked for")
        assert found is not None
        assert found.status == "unknown"
        assert list(await here.provider.orders()) == [newer.order_id]


async def test_a_creation_that_was_made_before_a_newer_one_is_found(database: Database) -> None:
    async with shop(database) as here:
        await here.provider.faults(create=LOST_AFTER | {"count": 1})
        older = await here.becomes(await ask(here, STATIC, "k-1"), status="unknown")
        await hold(here, older)
        newer = await here.becomes(await ask(here, LATER, "k-2"), status="done")
        found = await here.settled(older)
        assert found.status == "done"
        assert set(await here.provider.orders()) == {found.order_id, newer.order_id}
        assert (await here.provider.calls())["create", 201] == 1, "it was found by looking, and not sent again"


async def test_what_never_left_is_withdrawn_once_something_newer_is_on_the_point_of_sale(database: Database) -> None:
    async with shop(database) as here:
        here.client._transport._base_url = NOBODY
        asked = await ask(here, STATIC, "k-1")

        async def tried() -> CommandRow | None:
            row = await here.desk.find(asked.command_id)
            return row if row is not None and row.status == "waiting" and row.attempts else None

        older = await until(tried, what="it was tried")
        assert older is not None
        await hold(here, older)
        here.client._transport._base_url = here.provider.url
        await here.becomes(await ask(here, LATER, "k-2"), status="done")
        withdrawn = await here.settled(older)
        assert (withdrawn.status, withdrawn.maybe_sent_at) == ("withdrawn", None)
        assert "something newer was put on the same point of sale" in (withdrawn.message or "")
        assert await references(here) == ["cliente-2"]


async def test_what_never_left_is_not_withdrawn_for_a_newer_one_that_is_only_on_its_way(database: Database) -> None:
    async with shop(database, runner=False) as here:
        older = await ask(here, STATIC, "k-1")
        await hold(here, older)
        newer = await ask(here, LATER, "k-2")
        claim = (QUERIES.claim_due_commands, [ACCOUNT.name], [8], 8, 60.0, 72_000.0)
        assert [row["command_id"] for row in await database.fetch(*claim)] == [newer.command_id]
        await database.execute("update cuadre.commands set due_at = now() where command_id = $1", older.command_id)
        # It may yet be refused, and then nothing newer is there.
        assert await withdraw_stale(database) == []
        assert await database.fetch(*claim) == []
        await database.execute("update cuadre.commands set status = 'done' where command_id = $1", newer.command_id)
        assert [one.command_id for one in await withdraw_stale(database)] == [older.command_id]


async def test_what_was_not_taken_is_over_once_something_newer_is_on_the_point_of_sale(database: Database) -> None:
    async with shop(database) as here:
        await here.provider.faults(create={"status": 403, "body": "html"})
        older = await here.becomes(await ask(here, STATIC, "k-1"), status="waiting", provider_status=403)
        await hold(here, older)
        await here.provider.faults()
        await here.becomes(await ask(here, LATER, "k-2"), status="done")
        refused = await here.settled(older)
        assert (refused.status, refused.provider_code) == ("refused", "not_taken")
        assert await references(here) == ["cliente-2"]


async def test_what_falls_due_together_goes_out_in_the_order_in_which_it_was_asked(database: Database) -> None:
    async with shop(database, runner=False) as here:
        for number in range(6):
            await ask(here, qr(f"cliente-{number}"), f"k-{number}")
        # As after an outage: due at once, and the oldest last.
        await database.execute(
            "update cuadre.commands set due_at = now() - (idempotency_key < 'k-3')::int * '1 s'::interval"
        )
        await database.execute("update cuadre.commands set due_at = now() where idempotency_key = 'k-0'")
        other = here.another_runner()
        here.tasks["other"] = asyncio.create_task(other.run())
        here.tasks["desk"] = asyncio.create_task(here.runner.run())

        async def all_done() -> bool:
            return bool(await database.fetchval("select bool_and(status = 'done') from cuadre.commands"))

        await until(all_done, what="all of them are made")
        await other.stop(within_seconds=5)
        sent = await database.fetch("select idempotency_key from cuadre.commands order by maybe_sent_at")
        assert [row["idempotency_key"] for row in sent] == [f"k-{number}" for number in range(6)]
        assert await database.fetchval("select sum(attempts) from cuadre.commands") == 6


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (dynamic("cliente-1"), LATER),
        (STATIC, dynamic("cliente-2", "7.00")),
        (STATIC, qr("cliente-2", "7.00", config={"qr": {"external_pos_id": "CAJA2", "mode": "static"}})),
        (STATIC, point("cliente-2", "7.00", terminal="CAJA1")),
    ],
    ids=["dynamic", "dynamic after it", "another till", "a terminal"],
)
async def test_what_does_not_share_a_qr_is_repeated(
    database: Database, first: dict[str, Any], second: dict[str, Any]
) -> None:
    async with shop(database) as here:
        await here.provider.faults(create=LOST_BEFORE)
        older = await here.becomes(await ask(here, first, "k-1"), status="unknown")
        await hold(here, older)
        await here.provider.faults()
        await here.becomes(await ask(here, second, "k-2"), status="done")
        assert (await here.settled(older)).status == "done"
        assert await references(here) == ["cliente-2", "cliente-1"]


async def test_a_newer_sale_that_was_refused_stands_in_nobodys_way(database: Database) -> None:
    async with shop(database) as here:
        await here.provider.faults(create=LOST_BEFORE)
        older = await here.becomes(await ask(here, STATIC, "k-1"), status="unknown")
        await hold(here, older)
        await here.provider.faults(create={"status": 400, "code": "bad_request", "when": "before"})
        await here.becomes(await ask(here, LATER, "k-2"), status="refused")
        await here.provider.faults()
        assert (await here.settled(older)).status == "done"
        assert await references(here) == ["cliente-1"]


async def test_a_newer_sale_waits_for_an_older_one_that_is_being_sent(database: Database) -> None:
    async with shop(database, runner=False) as here:
        older = await ask(here, STATIC, "k-1")
        claim = (QUERIES.claim_due_commands, [ACCOUNT.name], [8], 8, 60.0, 72_000.0)
        assert [row["command_id"] for row in await database.fetch(*claim)] == [older.command_id]
        newer = await ask(here, LATER, "k-2")
        assert await database.fetch(*claim) == []
        # A call lasts no longer than that: whoever had it is gone, and the next customer waits.
        await database.execute("update cuadre.commands set attempted_at = now() - interval '17 seconds'")
        assert [row["command_id"] for row in await database.fetch(*claim)] == [newer.command_id]
        await database.execute(
            "update cuadre.commands set leased_until = now() where command_id = $1", older.command_id
        )
        (looked_for,) = await database.fetch(*claim)
        assert (looked_for["command_id"], looked_for["is_past"]) == (older.command_id, True)


HOLDS_UP_CLAIMS = """
create function public.hold_up() returns trigger language plpgsql as $$
    begin perform pg_advisory_xact_lock(42); return new; end $$;
create trigger hold_up before update on cuadre.commands for each row
    when (old.idempotency_key = 'k-2' and old.lease_token is null and new.lease_token is not null)
    execute function public.hold_up()
"""


WAITERS = """
select count(*) from pg_locks where locktype = 'advisory' and not granted
    and database = (select oid from pg_database where datname = current_database())
"""


async def test_two_processes_do_not_claim_an_older_and_a_newer_sale_side_by_side(database: Database) -> None:
    async with shop(database, runner=False) as here:
        older = await ask(here, STATIC, "k-1")
        await hold(here, older)
        await ask(here, LATER, "k-2")
        await database.execute(HOLDS_UP_CLAIMS)

        async def is_held_up() -> bool:
            return bool(await database.fetchval(WAITERS))

        other = here.another_runner()
        async with database.transaction() as connection:
            await connection.execute("set local idle_in_transaction_session_timeout = 0")
            await connection.execute("select pg_advisory_xact_lock(42)")
            claiming = asyncio.create_task(other._round())
            await until(is_held_up, what="the other process is in the middle of its claim of the newer one")
            await database.execute("update cuadre.commands set due_at = now() where command_id = $1", older.command_id)
            await here.runner._round()
            assert not here.runner._held, "the older one may be overtaken: whoever claims is to know first"
        await claiming
        await asyncio.gather(*other._held)
        await here.runner._round()
        assert await references(here) == ["cliente-2"]
        assert (await here.desk.wait(older.command_id, seconds=0)).status == "withdrawn"


async def test_a_process_comes_again_soon_where_another_was_claiming(database: Database) -> None:
    async with shop(database, runner=False) as here:
        asked = await ask(here, STATIC, "k-1")
        rounds: list[None] = []
        patient = here.another_runner(poll_seconds=3600.0, beat=lambda: rounds.append(None))
        async with database.transaction() as connection:
            assert await connection.fetch(QUERIES.lock_claims, [ACCOUNT.name])
            await connection.execute("set local idle_in_transaction_session_timeout = 0")
            task = asyncio.create_task(patient.run())
            await until(lambda: asyncio.sleep(0, len(rounds) > 2), what="it comes again, and again")
            assert not patient._held
        assert (await here.desk.wait(asked.command_id, seconds=20)).status == "done"
        await patient.stop(within_seconds=5)
        await task


@pytest.mark.parametrize(
    ("lock", "accounts"), [(QUERIES.lock_claims, [ACCOUNT.name]), (LEGACY_QUERIES.wait_for_claims, ACCOUNT.name)]
)
async def test_who_stands_still_in_a_claim_does_not_hold_up_the_account_for_ever(
    database: Database, lock: str, accounts: str | list[str]
) -> None:
    """Also where its session knows no end, as behind a pooler."""
    async with shop(database, runner=False) as here:
        asked = await ask(here, STATIC, "k-1")
        # Its end is an error of its connection, which is gone.
        with contextlib.suppress(*UNAVAILABLE):
            async with database.transaction() as connection:
                await connection.execute("set local idle_in_transaction_session_timeout = 0")
                await connection.execute(lock, accounts)
                here.tasks["desk"] = asyncio.create_task(here.runner.run())
                assert (await here.desk.wait(asked.command_id, seconds=20)).status == "done"
