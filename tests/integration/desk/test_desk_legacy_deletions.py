"""Taking a sale off the printed QR: done only where it is gone, whatever is asked later and whoever answers."""

import pytest

from service.database.pool import Database
from service.desk.intents import CommandRow
from service.desk.legacy import STILL_THERE, UNKNOWN_DELETE
from tests.support.legacy import Till, calls, lost, running, till, unknown
from tests.support.waiting import until

both = pytest.mark.parametrize("generation", ["v1", "v2"])
A_PAGE = {"status": 404, "body": "html"}


async def tried(here: Till, command: CommandRow) -> CommandRow:
    """The command after an attempt that said nothing of the place."""

    async def once() -> CommandRow | None:
        found = await here.shop.desk.find(command.command_id)
        return found if found is not None and (found.last_error is not None or found.is_settled) else None

    result = await until(once, what="it was tried")
    assert result is not None
    return result


async def a_minute_later(here: Till, command: CommandRow) -> CommandRow:
    """The command once it is settled, over a minute after its first attempt."""
    await here.shop.database.execute(
        "update cuadre.commands set maybe_sent_at = now() - interval '61 s' where command_id = $1", command.command_id
    )
    return await here.shop.settled(command)


@pytest.mark.parametrize("code", ["in_store_order_delete_error", "point_of_sale_in_store_order_not_found"])
async def test_nothing_there_is_not_believed_of_a_place_that_shows_a_sale(database: Database, code: str) -> None:
    async with till(database, "v2") as here:
        await here.put("venta-1")
        await here.shop.provider.faults(legacy_delete={"status": 400, "code": code})
        deletion = await unknown(here, await here.ask_delete())
        deletion = await a_minute_later(here, deletion)
        assert (deletion.status, deletion.provider_code, deletion.message) == ("refused", code, STILL_THERE)
        assert await here.shows() == "venta-1"
        await here.shop.provider.faults(legacy_delete={"status": 400, "code": code, "count": 1})
        deletion = await here.shop.settled(await here.ask_delete())
        assert (deletion.status, deletion.provider_status) == ("done", 204)
        assert await here.shows() is None


@both
@pytest.mark.parametrize("answer", [A_PAGE, {"status": 404, "code": "not_found"}])
async def test_a_404_of_whoever_is_not_believed(database: Database, generation: str, answer: dict[str, object]) -> None:
    async with till(database, generation) as here:
        await here.put("venta-1")
        await here.shop.provider.faults(legacy_delete=answer)
        deletion = await unknown(here, await here.ask_delete())
        deletion = await a_minute_later(here, deletion)
        assert (deletion.status, deletion.provider_status) == ("refused", 404)
        assert deletion.message in (STILL_THERE, UNKNOWN_DELETE)
        assert await here.shows() == "venta-1"
        await here.shop.provider.faults(legacy_delete=answer | {"count": 1})
        deletion = await here.shop.settled(await here.ask_delete())
        assert (deletion.status, deletion.provider_status) == ("done", 204)
        assert await here.shows() is None


async def test_a_404_without_known_words_is_done_where_the_place_is_empty(database: Database) -> None:
    async with till(database, "v2") as here:
        await here.shop.provider.faults(legacy_delete={"status": 404, "code": "not_found"})
        deletion = await here.shop.settled(await here.ask_delete())
        assert (deletion.status, deletion.provider_status) == ("done", 404)


@both
async def test_a_404_that_may_be_the_gateways_holds_up_no_newer_sale(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        await here.put("venta-1")
        await here.shop.provider.faults(legacy_delete=A_PAGE)
        deletion = await unknown(here, await here.ask_delete())
        second = await here.shop.desk.wait((await here.ask("venta-2")).command_id, seconds=20)
        assert (second.status, await here.shows()) == ("done", "venta-2")
        found = await here.shop.desk.find(deletion.command_id)
        assert found is not None
        assert (found.status, found.message) == ("refused", UNKNOWN_DELETE)


@both
@pytest.mark.parametrize("fault", [{"status": 429}, {"status": 503}])
async def test_a_deletion_is_not_done_because_something_newer_was_asked(
    database: Database, generation: str, fault: dict[str, int]
) -> None:
    """What is newer may be withdrawn: then the sale that was to go would still be payable."""
    async with till(database, generation) as here:
        await here.put("venta-1")
        await here.shop.runner.stop(within_seconds=10)
        await here.shop.provider.faults(legacy_delete=fault)
        deletion = await here.ask_delete()
        second = await here.ask("venta-2")
        async with running(here.shop.another_runner()):
            deletion = await tried(here, deletion)
            assert (await here.shop.desk.withdraw(second.command_id, asked_by="till")).status == "withdrawn"
            assert await here.shows() == "venta-1"
            await here.shop.provider.faults()
            deletion = await here.shop.settled(deletion)
        assert (deletion.status, deletion.provider_status, deletion.provider_code) == ("done", 204, None)
        assert await here.shows() is None


@both
async def test_a_deletion_is_done_though_what_is_newer_is_refused(database: Database, generation: str) -> None:
    async with till(database, generation) as here:
        await here.put("venta-1")
        refused = {"status": 400, "code": "invalid_items"}
        await here.shop.provider.faults(legacy_delete={"status": 503, "count": 1}, legacy_create=refused)
        deletion, second = await here.ask_delete(), await here.ask("venta-2")
        assert (await here.shop.settled(second)).status == "refused"
        deletion = await here.shop.settled(deletion)
        assert (deletion.status, deletion.provider_status) == ("done", 204)
        assert await here.shows() is None


async def test_a_deletion_that_cannot_be_looked_up_ends(database: Database) -> None:
    async with till(database, "v2") as here:
        await here.put("venta-1")
        await here.shop.provider.faults(legacy_delete=lost("before"), legacy_get={"status": 400, "code": "new"})
        deletion = await unknown(here, await here.ask_delete())
        await database.execute(
            "update cuadre.commands set maybe_sent_at = now() - interval '21 h' where command_id = $1",
            deletion.command_id,
        )
        deletion = await here.shop.settled(deletion)
        assert (deletion.status, deletion.message) == ("refused", UNKNOWN_DELETE)
        assert await calls(here, "legacy_delete") == 1


async def test_a_gateways_404_does_not_say_that_the_sale_is_gone(database: Database) -> None:
    async with till(database, "v2") as here:
        await here.put("venta-1")
        nothing = {"status": 400, "code": "point_of_sale_in_store_order_not_found"}
        await here.shop.provider.faults(legacy_delete=nothing | {"count": 1}, legacy_get=A_PAGE)
        deletion = await unknown(here, await here.ask_delete())
        assert await here.shows() == "venta-1"
        await here.shop.provider.faults()
        deletion = await here.shop.settled(deletion)
        assert (deletion.status, deletion.provider_status) == ("done", 204)
        assert await here.shows() is None


@pytest.mark.parametrize("looked_up", [A_PAGE, {"status": 400, "code": "new"}])
async def test_an_answered_deletion_whose_place_cannot_be_looked_up_ends_within_a_minute(
    database: Database, looked_up: dict[str, object]
) -> None:
    async with till(database, "v2") as here:
        await here.put("venta-1")
        await here.shop.provider.faults(legacy_delete={"status": 404, "code": "not_found"}, legacy_get=looked_up)
        deletion = await unknown(here, await here.ask_delete())
        assert (deletion.provider_status, deletion.provider_code) == (404, "not_found")
        deletion = await a_minute_later(here, deletion)
        assert (deletion.status, deletion.message) == ("refused", UNKNOWN_DELETE)
        assert await here.shows() == "venta-1"


async def test_a_sale_is_not_put_up_again_because_a_gateway_does_not_find_it(database: Database) -> None:
    async with till(database, "v2") as here:
        here.hears = False
        await here.shop.provider.faults(legacy_create=lost("after"), legacy_get=A_PAGE)
        command = await unknown(here, await here.ask())
        await here.shop.hurry()
        command = await here.shop.becomes(command, status="unknown", provider_status=404)
        assert await calls(here, "legacy_create") == 1
        await here.shop.provider.faults()
        assert (await here.shop.settled(command)).status == "done"
        assert await calls(here, "legacy_create") == 1, "it showed, and was put up once"
