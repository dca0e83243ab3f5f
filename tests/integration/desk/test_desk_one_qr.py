"""One printed QR, two APIs: neither a legacy sale nor an order of the Orders API goes over what came after it."""

import asyncio
from typing import Any

import pytest

from service.database.pool import Database
from service.desk.intents import QUERIES, CommandRow
from service.desk.legacy import send_put
from service.desk.outcomes import Outcome
from service.desk.settle import commit_outcome
from service.desk.work import CREATE_LATE_SECONDS, Tools, work_of
from service.mercadopago.answers import ProviderAnswer
from tests.support.desk import point, qr
from tests.support.legacy import POS, Till, calls, held_up, lost, running, till, unknown
from tests.support.waiting import until

SECONDS = 20.0
NOBODY = "http://127.0.0.1:9"  # nobody listens there
CLAIM = (QUERIES.claim_due_commands, ["default"], [8], 8, 60.0, 72_000.0)
both = pytest.mark.parametrize("generation", ["v1", "v2"])


def order(reference: str = "cliente-2", mode: str = "static", pos: str = POS) -> dict[str, Any]:
    return qr(reference, "7.00", config={"qr": {"external_pos_id": pos, "mode": mode}})


async def create(here: Till, body: dict[str, Any] | None = None) -> CommandRow:
    here.keys += 1
    return await here.shop.desk.create(here.account, body or order(), key=f"create-{here.keys}", asked_by="till")


async def references(here: Till) -> list[str]:
    """Of what the provider made, by whichever API."""
    orders: list[dict[str, Any]] = [*(await here.shop.provider.orders()).values(), *await here.truth()]
    return sorted(one["external_reference"] for one in orders)


async def put_off(here: Till, command: CommandRow) -> CommandRow:
    """Its next attempt is far away."""
    later = "update cuadre.commands set due_at = now() + interval '1 h' where command_id = $1"
    await here.shop.database.execute(later, command.command_id)
    return command


async def looked_for(here: Till, command: CommandRow) -> CommandRow:
    """The creation once it was searched for, and not found."""

    async def once() -> CommandRow | None:
        await here.shop.hurry()
        found = await here.shop.desk.find(command.command_id)
        assert found is not None
        return found if found.is_settled or "lists no order" in (found.message or "") else None

    found = await until(once, what="the creation is looked for")
    assert found is not None
    return found


@both
@pytest.mark.parametrize("mode", ["static", "hybrid"])
async def test_a_lost_sale_is_not_put_over_a_newer_order(database: Database, generation: str, mode: str) -> None:
    async with till(database, generation) as here:
        here.hears = False
        await here.shop.provider.faults(legacy_create=lost("before"))
        older = await unknown(here, await here.ask())
        await here.shop.becomes(await create(here, order(mode=mode)), status="done")
        older = await here.shop.settled(older)
        assert (older.status, older.provider_code) == ("refused", "superseded")
        assert older.due_at is not None, "it is watched"
        assert await references(here) == ["cliente-2"]
        assert await calls(here, "legacy_create") == 1


async def test_a_lost_sale_that_was_paid_is_done_although_a_newer_order_is_up(database: Database) -> None:
    async with till(database) as here:
        here.hears = False
        await here.shop.provider.faults(legacy_create=lost("after"))
        older = await unknown(here, await here.ask())
        told = await here.act("pay", notify=False)
        await here.shop.know(f"MO{told['merchant_order']['id']}")
        await here.shop.becomes(await create(here), status="done")
        assert (await here.shop.settled(older)).status == "done"
        assert await calls(here, "legacy_create") == 1


async def test_a_lost_order_is_not_made_over_a_newer_sale(database: Database) -> None:
    async with till(database) as here:
        await here.shop.provider.faults(create=lost("before"))
        older = await put_off(here, await here.shop.becomes(await create(here), status="unknown"))
        await here.shop.becomes(await here.ask(), status="done")
        assert (await looked_for(here, older)).status == "unknown"
        assert await references(here) == ["venta-1"]
        assert await here.shows() == "venta-1"


@pytest.mark.parametrize("first", ["sale", "order"])
async def test_what_never_left_is_withdrawn_once_a_newer_one_is_up(database: Database, first: str) -> None:
    async with till(database) as here:
        here.shop.client._transport._base_url = NOBODY
        older = await (here.ask("venta-1") if first == "sale" else create(here, order("cliente-1")))
        await put_off(here, await here.shop.becomes(older, status="waiting", last_error="connection"))
        here.shop.client._transport._base_url = here.shop.provider.url
        newer = await (here.ask("venta-2") if first == "order" else create(here, order("cliente-2")))
        await here.shop.becomes(newer, status="done")
        withdrawn = await here.shop.settled(older)
        assert (withdrawn.status, withdrawn.maybe_sent_at) == ("withdrawn", None)
        assert "something newer was put on the same point of sale" in (withdrawn.message or "")
        assert await references(here) == [newer.external_reference]


@pytest.mark.parametrize(
    "body",
    [order(mode="dynamic"), order(pos="CAJA02"), point("cliente-2", "7.00", terminal=POS)],
    ids=["dynamic", "another point of sale", "a terminal"],
)
async def test_what_does_not_share_the_printed_qr_stands_in_nobodys_way(
    database: Database, body: dict[str, Any]
) -> None:
    async with till(database) as here:
        here.hears = False
        await here.shop.provider.faults(legacy_create=lost("before"))
        older = await unknown(here, await here.ask())
        await here.shop.becomes(await create(here, body), status="done")
        assert (await here.shop.settled(older)).status == "done"
        assert await references(here) == ["cliente-2", "venta-1"]


async def test_a_newer_order_that_was_refused_stands_in_nobodys_way(database: Database) -> None:
    async with till(database) as here:
        here.hears = False
        refused = {"status": 400, "code": "bad_request", "when": "before"}
        await here.shop.provider.faults(legacy_create=lost("before"), create=refused)
        older = await unknown(here, await here.ask())
        await here.shop.becomes(await create(here), status="refused")
        assert (await here.shop.settled(older)).status == "done"
        assert await references(here) == ["venta-1"]


@pytest.mark.parametrize("first", ["sale", "order"])
async def test_what_is_newer_waits_for_what_is_being_sent(database: Database, first: str) -> None:
    async with till(database, runner=False) as here:
        older = await (here.ask() if first == "sale" else create(here))
        assert [row["command_id"] for row in await database.fetch(*CLAIM)] == [older.command_id]
        newer = await (here.ask() if first == "order" else create(here))
        assert await database.fetch(*CLAIM) == []
        # A call lasts no longer than that: whoever had it is gone, and the next customer waits.
        await database.execute("update cuadre.commands set attempted_at = now() - interval '17 seconds'")
        assert [row["command_id"] for row in await database.fetch(*CLAIM)] == [newer.command_id]
        await database.execute(
            "update cuadre.commands set leased_until = now() where command_id = $1", older.command_id
        )
        (again,) = await database.fetch(*CLAIM)
        assert (again["command_id"], again["is_past"]) == (older.command_id, True)


async def test_a_sale_that_is_about_to_be_put_up_is_waited_for_however_long_its_search_took(database: Database) -> None:
    async with till(database) as here:
        here.hears = False
        await here.shop.provider.faults(legacy_create=lost("before"))
        older = await unknown(here, await here.ask())
        await here.shop.runner.stop(within_seconds=10)
        slow = held_up(here, "put_legacy_order", answered=False)
        async with running(slow.runner):
            # Long since its claim, its search is over, and now it is being sent.
            await database.execute(
                "create function public.claimed_long_ago() returns trigger language plpgsql as $$ begin "
                "new.attempted_at := new.attempted_at - interval '17 seconds'; return new; end $$; "
                "create trigger claimed_long_ago before update on cuadre.commands for each row "
                "when (old.status <> 'sending' and new.status = 'sending') execute function public.claimed_long_ago()"
            )
            await here.shop.hurry()
            await asyncio.wait_for(slow.begun.wait(), SECONDS)
            await database.execute("drop trigger claimed_long_ago on cuadre.commands")
            await create(here)
            assert await database.fetch(*CLAIM) == []
            slow.go.set()
            assert (await here.shop.settled(older)).status == "done"


@both
async def test_an_order_that_came_during_the_search_is_not_covered(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        here.hears = False
        await here.shop.provider.faults(legacy_create=lost("before"))
        older = await unknown(here, await here.ask())
        await here.shop.runner.stop(within_seconds=10)
        slow = held_up(here, "search_merchant_orders")
        async with running(slow.runner):
            await here.shop.hurry()
            await asyncio.wait_for(slow.begun.wait(), SECONDS)
            await database.execute("update cuadre.commands set attempted_at = now() - interval '17 s'")
            async with running(here.shop.another_runner()):
                newer = await create(here)
                await here.shop.becomes(newer, status="done")
            slow.go.set()
            older = await here.shop.settled(older)
        assert (older.status, older.provider_code) == ("refused", "superseded")
        assert await references(here) == ["cliente-2"]
        assert await calls(here, "legacy_create") == 1


async def test_a_first_attempt_that_was_held_up_covers_no_order(database: Database) -> None:
    """Claimed, and long afterwards not yet sent: the next customer's order has not waited for it."""
    async with till(database, runner=False) as here:
        older = await here.ask()
        (row,) = await database.fetch(*CLAIM)
        await database.execute("update cuadre.commands set attempted_at = now() - interval '17 s'")
        async with running(here.shop.another_runner()):
            newer = await create(here)
            await here.shop.becomes(newer, status="done")
            late = await send_put(Tools(database, here.shop.client), here.account, work_of(row))
            assert isinstance(late, Outcome)
            settled = await commit_outcome(database, work_of(row), late, None)
            assert settled is not None
            assert (settled.status, settled.maybe_sent_at) == ("waiting", None)
            assert (await here.shop.settled(older)).status == "withdrawn"
        assert await references(here) == ["cliente-2"]


async def end_lease(here: Till, command: CommandRow) -> None:
    over = "update cuadre.commands set leased_until = now() - interval '1 s' where command_id = $1"
    await here.shop.database.execute(over, command.command_id)


@both
@pytest.mark.parametrize(("attempt", "left"), [(1, ("waiting", True)), (2, ("unknown", False))])
async def test_a_put_that_begins_long_after_it_was_dated_is_not_sent(
    database: Database, generation: str, attempt: int, left: tuple[str, bool]
) -> None:
    """The commit hung, or the process stood still: what is newer has waited for it as long as it waits."""
    async with till(database, generation, runner=False) as here:
        here.hears = False
        older = await here.ask()
        (row,) = await database.fetch(*CLAIM)
        if attempt == 2:
            await end_lease(here, older)
            (row,) = await database.fetch(*CLAIM)
        # Dated at each attempt's hold, a repeat's for its search as well; then the put is about to begin.
        clock = iter([*[0.0] * attempt, CREATE_LATE_SECONDS])
        late = await send_put(Tools(database, here.shop.client, lambda: next(clock)), here.account, work_of(row))
        assert isinstance(late, Outcome)
        assert await references(here) == []
        settled = await commit_outcome(database, work_of(row), late, None)
        assert settled is not None
        assert (settled.status, settled.maybe_sent_at is None) == left
        async with running(here.shop.another_runner()):
            await here.shop.becomes(await create(here), status="done")
            await here.shop.settled(older)
        assert "cliente-2" in await references(here)


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_put_that_begins_in_time_is_sent(database: Database, attempt: int) -> None:
    async with till(database, runner=False) as here:
        here.hears = False
        older = await here.ask()
        (row,) = await database.fetch(*CLAIM)
        if attempt == 2:
            await end_lease(here, older)
            (row,) = await database.fetch(*CLAIM)
        clock = iter([*[0.0] * attempt, CREATE_LATE_SECONDS - 1])
        sent = await send_put(Tools(database, here.shop.client, lambda: next(clock)), here.account, work_of(row))
        assert isinstance(sent, ProviderAnswer)
        assert await references(here) == ["venta-1"]


async def test_a_sale_is_not_put_up_while_an_order_is_being_claimed(database: Database) -> None:
    """Both long after the sale's own claim, so that the order does not wait for it."""
    async with till(database, runner=False) as here:
        await here.ask()
        (row,) = await database.fetch(*CLAIM)
        await database.execute("update cuadre.commands set attempted_at = now() - interval '17 s'")
        newer = await create(here)
        async with database.transaction() as connection:
            await connection.fetch(QUERIES.lock_claims, [here.account.name])
            await connection.execute("set local idle_in_transaction_session_timeout = 0")
            (claimed,) = await connection.fetch(*CLAIM)
            assert claimed["command_id"] == newer.command_id
            putting = asyncio.create_task(send_put(Tools(database, here.shop.client), here.account, work_of(row)))

            async def waits() -> bool:
                waiting = (
                    "select count(*) from pg_locks where locktype = 'advisory' and not granted "
                    "and database = (select oid from pg_database where datname = current_database())"
                )
                return putting.done() or bool(await database.fetchval(waiting))

            await until(waits, what="the sale waits for the claim")
        assert isinstance(await putting, Outcome)
        assert await references(here) == []
