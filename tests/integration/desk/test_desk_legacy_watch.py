"""Watching sales on the printed QR: found with no notice at all, given to their command, looked for to the end."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.database.pool import Database
from service.desk.intents import CommandRow
from service.desk.legacy_watch import WATCHED_FOR
from tests.support.legacy import Till, till
from tests.support.waiting import until

both = pytest.mark.parametrize("generation", ["v1", "v2"])


async def given(here: Till, command: CommandRow, told: dict[str, Any], status: str) -> CommandRow:
    """The command once it has this sale's order, stored with this status; watched as often as need be."""
    order_id = f"MO{told['merchant_order']['id']}"

    async def once() -> CommandRow | None:
        await here.shop.hurry()
        found = await here.shop.desk.find(command.command_id)
        row = await here.shop.database.fetchrow("select status from cuadre.orders where order_id = $1", order_id)
        is_so = found is not None and found.order_id == order_id and row is not None and row["status"] == status
        return found if is_so else None

    result = await until(once, what=f"{order_id} is found and {status}")
    assert result is not None
    return result


async def watched(here: Till, command: CommandRow) -> CommandRow:
    """The command after one look for its sale."""
    await here.shop.database.execute("update cuadre.commands set due_at = now() where kind = 'legacy_put'")
    await here.watches.look()
    found = await here.shop.desk.find(command.command_id)
    assert found is not None
    return found


@both
async def test_with_no_notice_at_all_the_watch_finds_the_sale(database: Database, generation: str) -> None:
    async with till(database, generation, watches=True) as here:
        here.hears = False
        command = await here.put()
        told = await here.act("scan")
        await given(here, command, told, "created")
        await here.act("reject")
        told = await here.act("pay")
        await given(here, command, told, "processed")
        assert await database.fetchval("select count(*) from cuadre.notifications") == 0
        assert await here.open_rules() == set()


async def test_the_first_look_is_owed_with_the_commit_that_settles_it(database: Database) -> None:
    async with till(database) as here:
        command = await here.shop.desk.wait((await here.ask()).command_id, seconds=20)
        assert command.status == "done"
        assert command.due_at is not None
        assert command.settled_at is not None
        assert command.due_at - command.settled_at == timedelta(seconds=5)


async def test_an_empty_answer_proves_nothing(database: Database) -> None:
    """The provider's search lags: a sale that it does not show yet is looked for again."""
    async with till(database) as here:
        here.hears = False
        await here.shop.provider.faults(indexing_lag_seconds=3600)
        command = await here.put()
        told = await here.act("pay")
        command = await watched(here, command)
        assert (command.order_id, command.last_error) == (None, None)
        assert command.due_at is not None
        await here.shop.provider.faults()
        await watched(here, command)
        await here.stored(told, status="processed")


async def test_the_paid_one_of_several_is_the_sales_own(database: Database) -> None:
    """Two buyers scanned in a row, of whom the first pays: each scan after a new put of the same reference."""
    async with till(database) as here:
        here.hears = False
        first = await here.put("venta-1")
        one = await here.act("scan")
        second = await here.put("venta-1")
        other = await here.act("scan")
        paid = await here.act("pay", merchant_order_id=one["merchant_order"]["id"])
        assert paid["merchant_order"]["id"] != other["merchant_order"]["id"]
        for command, told in ((first, one), (second, other)):
            await watched(here, command)
            await here.stored(told)
            found = await watched(here, command)
            assert found.order_id == f"MO{told['merchant_order']['id']}"
        await here.stored(one, status="processed")


async def test_old_sales_of_a_reference_are_read_once_and_left(database: Database) -> None:
    """Shops that give every sale the same reference must not have all of them read at every look."""
    async with till(database) as here:
        here.hears = False
        for _ in range(3):
            command = await here.put("caja-1")
            told = await here.act("pay")
            command = await watched(here, command)
            await here.stored(told, status="processed")
        requested = await database.fetchval("select sum(requested) from cuadre.sync")
        for _ in range(3):
            await watched(here, command)
        assert await database.fetchval("select sum(requested) from cuadre.sync") == requested


async def test_trouble_is_told_and_the_watch_goes_on(database: Database) -> None:
    async with till(database) as here:
        here.hears = False
        await here.shop.provider.faults(merchant_order_search={"status": 503})
        command = await here.put()
        told = await here.act("pay")
        command = await watched(here, command)
        assert command.last_error is not None
        assert command.last_error.startswith("server_error")
        assert command.status == "done"
        assert command.due_at is not None
        # Even where the trouble lasts over what would have been the last look.
        await database.execute("update cuadre.commands set expires_at = now() - interval '25 h'")
        command = await watched(here, command)
        assert command.due_at is not None
        assert command.due_at - datetime.now(UTC) < timedelta(minutes=2)
        await here.shop.provider.faults()
        command = await watched(here, command)
        assert (command.due_at, command.last_error) == (None, None)
        await here.stored(told, status="processed")


async def test_it_ends_a_day_after_the_expiry(database: Database) -> None:
    async with till(database) as here:
        here.hears = False
        command = await here.put()
        await database.execute("update cuadre.commands set expires_at = now() - interval '23 h'")
        command = await watched(here, command)
        assert command.due_at is not None
        assert command.expires_at is not None
        assert command.due_at >= command.expires_at + WATCHED_FOR
        await database.execute("update cuadre.commands set expires_at = now() - interval '24 h'")
        command = await watched(here, command)
        assert command.due_at is None
        assert await here.watches.look() == 0


async def test_a_refused_sale_is_not_watched(database: Database) -> None:
    async with till(database, known_pos=("OTRA",)) as here:
        command = await here.shop.settled(await here.ask())
        assert (command.status, command.due_at) == ("refused", None)


async def test_a_watch_that_was_cut_off_is_taken_up_again(database: Database) -> None:
    async with till(database) as here:
        here.hears = False
        command = await here.put()
        told = await here.act("pay")
        await database.execute(
            "update cuadre.commands set due_at = now(), lease_token = gen_random_uuid(), "
            "leased_until = now() + interval '1 h'"
        )
        assert await here.watches.look() == 0
        await database.execute("update cuadre.commands set leased_until = now() - interval '1 s'")
        assert await here.watches.look() == 1
        await here.stored(told, status="processed")
        del command
