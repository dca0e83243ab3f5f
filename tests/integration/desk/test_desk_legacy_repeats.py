"""Repeating a sale of the printed QR: never over its payment or a newer sale, and never in the way of one for long."""

import asyncio
import time

import pytest

from service.database.pool import Database
from service.desk.intents import CommandRow
from tests.support.legacy import Till, calls, held_up, lost, running, till, unknown

both = pytest.mark.parametrize("generation", ["v1", "v2"])
SECONDS = 20.0


async def lost_sale(here: Till, when: str) -> CommandRow:
    """A sale whose answer was lost and that nobody is at; no runner runs any more."""
    here.hears = False
    await here.shop.provider.faults(legacy_create=lost(when))
    command = await unknown(here, await here.ask())
    await here.shop.runner.stop(within_seconds=10)
    return command


async def older(here: Till, command: CommandRow, seconds: int, ttl_seconds: int = 60) -> None:
    """Its first attempt was so long ago."""
    await here.shop.database.execute(
        "update cuadre.commands set maybe_sent_at = now() - make_interval(secs => $2), "
        "attempted_at = now() - make_interval(secs => $2), "
        "expires_at = now() - make_interval(secs => $2) + make_interval(secs => $3) where command_id = $1",
        command.command_id,
        float(seconds),
        float(ttl_seconds),
    )


@both
async def test_a_sale_that_is_stored_during_the_search_is_not_put_up_again(database: Database, generation: str) -> None:
    """The payment's own notification has it stored between the search's answer and what is made of it."""
    async with till(database, generation) as here:
        command = await lost_sale(here, "after")
        told = await here.act("pay", notify=False)
        slow = held_up(here, "search_merchant_orders")
        async with running(slow.runner):
            await here.shop.hurry()
            await asyncio.wait_for(slow.begun.wait(), SECONDS)
            await here.shop.know(f"MO{told['merchant_order']['id']}")
            slow.go.set()
            command = await here.shop.settled(command)
        assert command.status == "done"
        assert await here.shows() is None, "a paid sale is never offered again"
        assert await calls(here, "legacy_create") == 1


async def test_a_sale_that_is_paid_while_its_place_is_looked_at_is_not_put_up_again(database: Database) -> None:
    async with till(database, "v2") as here:
        command = await lost_sale(here, "after")
        slow = held_up(here, "get_legacy_current", answered=False)
        async with running(slow.runner):
            await here.shop.hurry()
            await asyncio.wait_for(slow.begun.wait(), SECONDS)
            await here.act("pay", notify=False)
            slow.go.set()
            command = await here.shop.settled(command)
        assert command.status == "done"
        assert await here.shows() is None
        assert await calls(here, "legacy_create") == 1


async def test_a_scan_that_may_be_the_sales_own_holds_up_its_repeat(database: Database) -> None:
    """Two sales under one reference within the minute by which clocks may differ: whose scan was it?"""
    async with till(database) as here:
        here.hears = False
        first = await here.put("caja-1")
        told = await here.act("scan", notify=False)
        await here.shop.know(f"MO{told['merchant_order']['id']}")
        await here.shop.provider.faults(legacy_create=lost("before"))
        second = await unknown(here, await here.ask("caja-1"))
        puts = await calls(here, "legacy_create")
        await here.shop.hurry()
        second = await here.shop.becomes(second, last_error="found_unclear")
        assert (second.status, await calls(here, "legacy_create")) == ("unknown", puts)
        # The first one's watch finds it to be that one's.
        await database.execute("update cuadre.commands set due_at = now() where command_id = $1", first.command_id)
        await here.watches.look()
        second = await here.shop.settled(second)
        assert (second.status, await here.shows()) == ("done", "caja-1")
        assert await calls(here, "legacy_create") == puts + 1


async def test_a_put_does_not_take_the_scan_of_a_later_one(database: Database) -> None:
    async with till(database) as here:
        here.hears = False
        first = await here.put("caja-1")
        second = await here.put("caja-1")
        told = await here.act("pay", notify=False)
        order = await here.shop.know(f"MO{told['merchant_order']['id']}")
        owners = {}
        for command in (first, second):
            await database.execute("update cuadre.commands set due_at = now() where kind = 'legacy_put'")
            await here.watches.look()
            found = await here.shop.desk.find(command.command_id)
            assert found is not None
            owners[command.command_id] = found.order_id
        assert owners == {first.command_id: None, second.command_id: order["order_id"]}


@both
async def test_who_lost_the_lease_while_searching_puts_nothing_up(database: Database, generation: str) -> None:
    """Another runner has put the sale up meanwhile, and its buyer has paid."""
    async with till(database, generation) as here:
        command = await lost_sale(here, "before")
        slow = held_up(here, "search_merchant_orders")
        async with running(slow.runner):
            await here.shop.hurry()
            await asyncio.wait_for(slow.begun.wait(), SECONDS)
            await database.execute("update cuadre.commands set leased_until = now() - interval '1 s'")
            async with running(here.shop.another_runner()):
                assert (await here.shop.settled(command)).status == "done"
            await here.act("pay", notify=False)
            slow.go.set()
        assert await here.shows() is None
        assert await calls(here, "legacy_create") == 2


@both
async def test_who_lost_the_lease_while_searching_covers_no_newer_sale(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        command = await lost_sale(here, "before")
        slow = held_up(here, "search_merchant_orders")
        async with running(slow.runner):
            await here.shop.hurry()
            await asyncio.wait_for(slow.begun.wait(), SECONDS)
            await database.execute("update cuadre.commands set leased_until = now() - interval '1 s'")
            async with running(here.shop.another_runner()):
                await here.shop.settled(command)
                await here.put("venta-2")
            slow.go.set()
        assert await here.shows() == "venta-2"


@both
async def test_what_is_asked_during_the_search_comes_first(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        command = await lost_sale(here, "before")
        slow = held_up(here, "search_merchant_orders")
        async with running(slow.runner):
            await here.shop.hurry()
            await asyncio.wait_for(slow.begun.wait(), SECONDS)
            later = await here.ask("venta-2")
            slow.go.set()
            command = await here.shop.settled(command)
            assert (await here.shop.settled(later)).status == "done"
        assert (command.status, command.provider_code) == ("refused", "superseded")
        assert [one["external_reference"] for one in await here.truth()] == ["venta-2"]


@pytest.mark.parametrize("fault", [{"status": 400, "code": "ds_search_query"}, {"status": 503}])
@pytest.mark.parametrize("age_seconds", [0, 22 * 3600])
async def test_a_search_that_fails_does_not_hold_up_a_newer_sale(
    database: Database, fault: dict[str, object], age_seconds: int
) -> None:
    async with till(database) as here:
        await here.shop.provider.faults(legacy_create=lost("before"), merchant_order_search=fault)
        first = await unknown(here, await here.ask("venta-1", ttl_seconds=86_400))
        if age_seconds:
            # It would be compared only by now.
            await older(here, first, age_seconds, 86_400)
        second = await here.ask("venta-2")
        first = await here.shop.settled(first)
        assert (first.status, first.provider_code) == ("refused", "superseded")
        assert first.message is not None
        assert "Nobody knows" in first.message
        assert first.due_at is not None, "it is watched"
        assert (await here.shop.settled(second)).status == "done"
        assert await here.shows() == "venta-2"


@pytest.mark.parametrize("age_seconds", [61, 50 * 3600])
async def test_a_search_that_fails_does_not_outlast_the_sale(database: Database, age_seconds: int) -> None:
    async with till(database) as here:
        refused = {"status": 400, "code": "ds_search_query"}
        await here.shop.provider.faults(legacy_create=lost("before"), merchant_order_search=refused)
        command = await unknown(here, await here.ask(ttl_seconds=60))
        await older(here, command, age_seconds)
        command = await here.shop.settled(command)
        assert (command.status, command.provider_code) == ("refused", "expired")
        assert command.due_at is not None, "it is watched"
        assert await calls(here, "legacy_create") == 1


@pytest.mark.parametrize("later", [True, False])
async def test_a_found_sale_that_cannot_be_read_holds_up_nothing(database: Database, later: bool) -> None:
    async with till(database) as here:
        here.hears = False
        await here.shop.provider.faults(
            legacy_create=lost("after"), merchant_order={"status": 404, "code": "not_found"}
        )
        first = await unknown(here, await here.ask(ttl_seconds=60))
        await here.act("pay", notify=False)
        if later:
            second = await here.ask("venta-2")
            assert (await here.shop.settled(second)).status == "done"
        else:
            await older(here, first, 61)
        first = await here.shop.settled(first)
        assert (first.status, first.provider_code) == ("refused", "superseded" if later else "expired")
        assert await here.shows() == ("venta-2" if later else None)


async def test_a_refused_search_is_repeated_and_pauses_nobody_else(database: Database) -> None:
    """Neither for the repeats of a put nor for the watches of many sales: the provider is well."""
    async with till(database) as here:
        here.hears = False
        watched = await here.put("venta-0", pos="CAJA02")
        refused = {"status": 400, "code": "ds_search_query"}
        await here.shop.provider.faults(legacy_create=lost("before"), merchant_order_search=refused)
        command = await unknown(here, await here.ask(ttl_seconds=3600))
        gate = here.shop.worker.gates.gate("default")
        assert gate is not None
        for attempts in range(2, 14):
            await database.execute(
                "update cuadre.commands set due_at = now() where command_id = $1", command.command_id
            )
            command = await here.shop.becomes(command, attempts=attempts, status="unknown")
            assert gate.paused(time.monotonic()) is None
        for _ in range(12):
            await database.execute(
                "update cuadre.commands set due_at = now() where command_id = $1", watched.command_id
            )
            assert await here.watches.look() == 1
            assert gate.paused(time.monotonic()) is None
        assert await calls(here, "legacy_create") == 2
        await here.shop.provider.faults()
        assert (await here.shop.settled(command)).status == "done"


async def test_a_newer_sale_does_not_wait_for_a_later_attempt(database: Database) -> None:
    """Asked while the older one waits for its next attempt, which is hours away."""
    async with till(database) as here:
        await here.shop.provider.faults(legacy_create=lost("before"))
        first = await unknown(here, await here.ask("venta-1"))
        second = await here.shop.desk.wait((await here.ask("venta-2")).command_id, seconds=SECONDS)
        assert second.status == "done"
        assert await here.shows() == "venta-2"
        found = await here.shop.desk.find(first.command_id)
        assert found is not None
        assert (found.status, found.provider_code) == ("refused", "superseded")


async def test_a_newer_sale_does_not_wait_for_the_pause_of_what_was_under_way(database: Database) -> None:
    """Asked while the older one is being sent, in vain for the ninth time: its next attempt would be minutes away."""
    async with till(database, runner=False) as here:
        await here.shop.provider.faults(legacy_create={"status": 503, "count": 1})
        first = await here.ask("venta-1", ttl_seconds=3600)
        await database.execute("update cuadre.commands set attempts = 8")
        slow = held_up(here, "put_legacy_order")
        async with running(slow.runner):
            await asyncio.wait_for(slow.begun.wait(), SECONDS)
            second = await here.ask("venta-2", ttl_seconds=180)
            slow.go.set()
            second = await here.shop.desk.wait(second.command_id, seconds=SECONDS)
        assert second.status == "done"
        found = await here.shop.desk.find(first.command_id)
        assert found is not None
        assert (found.status, found.provider_code) == ("refused", "superseded")


@pytest.mark.parametrize("status", ["withdrawn", "refused"])
async def test_what_is_off_the_table_supersedes_nothing(database: Database, status: str) -> None:
    """A newer sale that was withdrawn or refused is not put there: the older one still is."""
    async with till(database) as here:
        await here.shop.provider.faults(legacy_create=lost("before"))
        first = await unknown(here, await here.ask("venta-1"))
        await here.shop.runner.stop(within_seconds=10)
        second = await here.ask("venta-2")
        await database.execute(
            "update cuadre.commands set status = $2, settled_at = now(), due_at = null where command_id = $1",
            second.command_id,
            status,
        )
        async with running(here.shop.another_runner()):
            assert (await here.shop.settled(first)).status == "done"
        assert await here.shows() == "venta-1"
