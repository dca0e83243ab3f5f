"""The printed QR on bad days: lost answers, two sales on one place, crashes; nothing is up twice, nothing is unseen."""

import asyncio
from datetime import datetime

import pytest

from service.database.pool import Database
from tests.support.legacy import calls, lost, till, unknown

both = pytest.mark.parametrize("generation", ["v1", "v2"])


@both
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_answer_is_put_up_again_or_found_there(database: Database, generation: str, when: str) -> None:
    async with till(database, generation) as here:
        await here.shop.provider.faults(legacy_create=lost(when))
        command = await here.shop.settled(await here.ask(ttl_seconds=180))
        assert command.status == "done"
        assert await here.shows() == "venta-1"
        # V2 can be read back: what took effect is not put up again. V1 cannot: the same sale replaces itself.
        took_effect = generation == "v2" and when == "after"
        assert await calls(here, "legacy_create") == (1 if took_effect else 2)
        told = await here.act("pay")
        await here.stored(told, status="processed")
        assert await here.open_rules() == set()


@both
async def test_a_repeat_ends_when_the_first_would_have(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        await here.shop.provider.faults(legacy_create=lost("before"))
        command = await unknown(here, await here.ask(ttl_seconds=600))
        await database.execute("update cuadre.commands set maybe_sent_at = now() - interval '400 s'")
        command = await here.shop.settled(command)
        assert command.status == "done"
        assert command.expires_at is not None
        assert command.maybe_sent_at is not None
        assert (command.expires_at - command.maybe_sent_at).total_seconds() == 600
        (truth,) = await here.truth()
        # A second is the unit of a lifetime; the rest is what the call took.
        ends = datetime.fromisoformat(truth["expires_at"])
        assert abs((ends - command.expires_at).total_seconds()) < 30


async def test_a_sale_that_was_paid_meanwhile_is_not_put_up_again(database: Database) -> None:
    """V1 tells nothing about what is up: but the buyer's scan does, stored or searched for."""
    async with till(database) as here:
        here.hears = False
        await here.shop.provider.faults(legacy_create=lost("after"))
        command = await unknown(here, await here.ask())
        # The buyer pays while nobody is at it; a repeat before that is no fault.
        await here.shop.runner.stop(within_seconds=10)
        puts = await calls(here, "legacy_create")
        told = await here.act("pay")
        assert await here.shows() is None
        other = here.shop.another_runner()
        task = asyncio.create_task(other.run())
        command = await here.shop.settled(command)
        await other.stop(within_seconds=5)
        await task
        assert command.status == "done"
        assert await here.shows() is None, "a paid sale is never offered again"
        assert await calls(here, "legacy_create") == puts
        await here.stored(told, status="processed")


@both
async def test_an_unknown_sale_gives_way_to_what_was_asked_later(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        await here.shop.provider.faults(legacy_create=lost("before"))
        first = await unknown(here, await here.ask("venta-1"))
        second = await here.ask("venta-2")
        assert (await here.shop.settled(second)).status == "done"
        first = await here.shop.settled(first)
        assert (first.status, first.provider_code) == ("refused", "superseded")
        assert first.message is not None
        assert "not sent again" in first.message
        assert await here.shows() == "venta-2"
        # It may be up all the same, so it is watched.
        assert first.due_at is not None


async def test_an_unknown_sale_whose_time_is_over_is_not_sent_again(database: Database) -> None:
    async with till(database) as here:
        await here.shop.provider.faults(legacy_create=lost("before"))
        command = await unknown(here, await here.ask(ttl_seconds=60))
        await database.execute("update cuadre.commands set maybe_sent_at = now() - interval '61 s'")
        command = await here.shop.settled(command)
        assert (command.status, command.provider_code) == ("refused", "expired")
        assert await here.truth() == []
        assert await calls(here, "legacy_create") == 1
        assert command.due_at is not None


@both
async def test_sales_of_one_place_go_out_in_the_order_in_which_they_were_asked(
    database: Database, generation: str
) -> None:
    async with till(database, generation) as here:
        # Every call takes its time, and the first one longest: whoever overtakes would be replaced by it.
        slow = [{"latency_ms": 400, "count": 1}, {"latency_ms": 20}]
        await here.shop.provider.faults(legacy_create=slow)
        asked = [await here.ask(f"venta-{number}") for number in range(1, 6)]
        other = await here.ask("otra-1", pos="CAJA02")
        settled = await asyncio.gather(*(here.shop.settled(command) for command in [*asked, other]))
        assert {command.status for command in settled} == {"done"}
        assert [one["external_reference"] for one in await here.truth() if one["external_pos_id"] == "CAJA01"] == [
            f"venta-{number}" for number in range(1, 6)
        ]
        assert await here.shows() == "venta-5"
        assert await here.shows(pos="CAJA02") == "otra-1"


@both
async def test_a_deletion_never_takes_off_what_was_put_later(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        await here.put("venta-1")
        await here.shop.provider.faults(legacy_delete=lost("after"))
        deletion = await unknown(here, await here.ask_delete())
        # What is asked later waits until the deletion is answered.
        later = await here.shop.settled(await here.ask("venta-2"))
        assert later.status == "done"
        deletion = await here.shop.settled(deletion)
        assert deletion.status == "done"
        assert await here.shows() == "venta-2"
        assert await calls(here, "legacy_delete") == 2


@both
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_deletion_whose_answer_is_lost_is_repeated(database: Database, generation: str, when: str) -> None:
    async with till(database, generation) as here:
        await here.put("venta-1")
        await here.shop.provider.faults(legacy_delete=lost(when))
        deletion = await here.shop.settled(await here.ask_delete())
        assert deletion.status == "done"
        assert await here.shows() is None
        assert await calls(here, "legacy_delete") == 2


@both
async def test_a_runner_that_dies_after_the_call_puts_nothing_up_twice(database: Database, generation: str) -> None:
    """As `kill -9` between the call and its outcome leaves it: sent, leased, and nothing known."""
    async with till(database, generation) as here:
        command = await here.put("venta-1")
        told = await here.act("pay", notify=False)
        await database.execute(
            "update cuadre.commands set status = 'sending', settled_at = null, answer = null, order_id = null, "
            "leased_until = now() - interval '1 s', lease_token = gen_random_uuid(), due_at = now()"
        )
        command = await here.shop.settled(command)
        assert command.status == "done"
        assert await here.shows() is None
        assert await calls(here, "legacy_create") == 1
        await here.stored(told, status="processed")


async def test_what_is_unsent_can_be_withdrawn_and_holds_up_nothing(database: Database) -> None:
    async with till(database, runner=False) as here:
        first, second = await here.ask("venta-1"), await here.ask("venta-2")
        assert (await here.shop.desk.withdraw(first.command_id, asked_by="till-1")).status == "withdrawn"
        here.shop.tasks["desk"] = asyncio.create_task(here.shop.runner.run())
        assert (await here.shop.settled(second)).status == "done"
        assert [one["external_reference"] for one in await here.truth()] == ["venta-2"]


async def test_it_is_compared_and_not_sent_after_its_repeats_are_over(database: Database) -> None:
    """20 hours after the first attempt nothing goes out any more: looked for, and given up when its time is over."""
    async with till(database) as here:
        await here.shop.provider.faults(legacy_create=lost("after"))
        command = await unknown(here, await here.ask(ttl_seconds=86_400))
        told = await here.act("pay", notify=False)
        await database.execute("update cuadre.commands set maybe_sent_at = now() - interval '21 h'")
        command = await here.shop.settled(command)
        assert command.status == "done"
        await here.stored(told, status="processed")
        await here.shop.provider.faults(legacy_delete=lost("before"))
        deletion = await unknown(here, await here.ask_delete())
        await database.execute(
            "update cuadre.commands set maybe_sent_at = now() - interval '21 h' where kind = 'legacy_delete'"
        )
        deletion = await here.shop.settled(deletion)
        assert (deletion.status, deletion.provider_code) == ("refused", "unknown_outcome")
        assert await calls(here, "legacy_delete") == 1
