"""`cuadre sync`: looks now, alone and beside a running service, and settles as the worker would."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from service.database.pool import Database
from service.mercadopago.reader import read_order
from service.sync.apply import Look, Outcome, apply_looks
from service.sync.claims import claim_one, mark_order_due
from tests.integration.cli.cli_support import Cuadre, Provider, order_fixture, until

ORDER = "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"
OTHER = "ORD01M2GAB43R6JS4MJ49W1EX16NG"
UNKNOWN = "ORD01M2G0000000000000000000XX"


@pytest.fixture(autouse=True)
def orders(provider: Provider) -> None:
    provider.orders = {ORDER: order_fixture("order-processed-qr"), OTHER: order_fixture("order-canceled-qr")}


async def test_sync_stores_an_order_and_says_what_changed(cuadre: Cuadre, database: Database) -> None:
    first = await cuadre("sync", ORDER)
    assert first.code == 0, first.err
    assert first.out == f"{ORDER}  processed/accredited  version 1  changed\n"
    assert first.err == ""
    again = await cuadre("sync", ORDER)
    assert (again.code, again.out) == (0, f"{ORDER}  processed/accredited  version 1  unchanged\n")
    row = await database.fetchrow("select * from cuadre.sync where order_id = $1", ORDER)
    assert row is not None
    assert row["fetched"] == row["requested"] == 2
    assert row["leased_until"] is None
    assert row["due_at"] is not None
    positions = await database.fetch("select position from cuadre.events")
    assert [row["position"] for row in positions] == [1]


async def test_sync_as_json_has_one_entry_per_order_in_the_order_asked(cuadre: Cuadre) -> None:
    result = await cuadre("sync", OTHER, ORDER, OTHER, "--format", "json")
    assert result.code == 0
    assert result.json() == {
        "data": [
            {
                "order_id": OTHER,
                "account": "default",
                "status": "canceled",
                "status_detail": "canceled",
                "version": 1,
                "changed": True,
                "error": None,
                "hint": None,
            },
            {
                "order_id": ORDER,
                "account": "default",
                "status": "processed",
                "status_detail": "accredited",
                "version": 1,
                "changed": True,
                "error": None,
                "hint": None,
            },
        ]
    }


async def test_an_order_that_is_not_found_is_said_with_its_hint_and_settled_as_the_worker_would(
    cuadre: Cuadre, database: Database
) -> None:
    result = await cuadre("sync", UNKNOWN, ORDER)
    assert result.code == 1
    assert result.out.startswith(ORDER)
    assert f"{UNKNOWN}  failed: not_found: 404" in result.err
    assert "belongs to other credentials" in result.err
    row = await database.fetchrow("select * from cuadre.sync where order_id = $1", UNKNOWN)
    assert row is not None
    assert (row["attempts"], row["leased_until"], row["fetched"]) == (1, None, 0)
    assert row["last_error"].startswith("not_found: 404")
    assert row["due_at"] is not None
    assert await database.fetchval("select count(*) from cuadre.orders where order_id = $1", UNKNOWN) == 0


async def test_a_provider_that_is_down_is_not_the_orders_fault(
    cuadre: Cuadre, database: Database, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("CUADRE_MERCADOPAGO_URL", "http://127.0.0.1:1")
    result = await cuadre("sync", ORDER)
    assert result.code == 1
    assert f"{ORDER}  failed: connection:" in result.err
    assert "CUADRE_MERCADOPAGO_URL" in result.err
    row = await database.fetchrow("select attempts, troubles, leased_until from cuadre.sync")
    assert row is not None
    assert dict(row) == {"attempts": 0, "troubles": 1, "leased_until": None}


async def test_trouble_that_is_gone_a_moment_later_is_not_told(cuadre: Cuadre, provider: Provider) -> None:
    provider.orders[ORDER] = order_fixture("order-processed-qr", id=ORDER)
    provider.failing = 2
    result = await cuadre("sync", ORDER)
    assert (result.code, result.err) == (0, "")


async def test_a_refused_token_is_asked_with_once_and_the_other_orders_say_why(
    cuadre: Cuadre, provider: Provider, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr("service.cli.sync.CONCURRENCY", 1)
    provider.statuses = {ORDER: 401, OTHER: 401}
    result = await cuadre("sync", ORDER, OTHER)
    assert result.code == 1
    assert "unauthorized: 401" in result.err
    assert f"{OTHER}  failed: not looked at, the account's token was refused" in result.err
    assert "access_token" in result.err
    assert provider.asked == [ORDER]


async def test_an_unreadable_answer_ends_in_quarantine_at_the_fifth(
    cuadre: Cuadre, provider: Provider, database: Database
) -> None:
    provider.orders[ORDER] = order_fixture("order-processed-qr", total_amount="-5.00")
    for _ in range(4):
        result = await cuadre("sync", ORDER)
        assert "in quarantine" not in result.err
    result = await cuadre("sync", ORDER)
    assert result.code == 1
    assert "(the order is in quarantine)" in result.err
    assert await database.fetchval("select quarantine_reason from cuadre.sync") == "unreadable"


async def test_an_order_held_by_another_process_is_awaited_until_the_deadline_and_stays_due(
    cuadre: Cuadre, provider: Provider, database: Database
) -> None:
    await mark_order_due(database, ORDER, "default")
    assert await claim_one(database, ORDER, lease_seconds=60) is not None
    result = await cuadre("sync", ORDER, "--timeout", "0.3")
    assert result.code == 1
    assert "another process holds it" in result.err
    assert "it stays due" in result.err
    assert provider.asked == []
    row = await database.fetchrow("select requested, fetched, due_at is not null as due from cuadre.sync")
    assert row is not None
    assert dict(row) == {"requested": 2, "fetched": 0, "due": True}


async def test_a_look_of_another_process_that_serves_our_mark_is_ours(
    cuadre: Cuadre, provider: Provider, database: Database
) -> None:
    await mark_order_due(database, ORDER, "default")
    claim = await claim_one(database, ORDER, lease_seconds=60)
    assert claim is not None
    running = asyncio.create_task(cuadre("sync", ORDER))

    async def is_marked() -> bool:
        return bool(await database.fetchval("select requested = 2 from cuadre.sync"))

    await until(is_marked)
    read = read_order(json.dumps(provider.orders[ORDER]).encode(), ORDER)
    await apply_looks(database, [Look(replace(claim, generation=2), read=read)])
    result = await running
    assert (result.code, result.out) == (0, f"{ORDER}  processed/accredited  version 1  changed\n")


async def test_a_lease_given_up_meanwhile_is_taken(cuadre: Cuadre, provider: Provider, database: Database) -> None:
    await mark_order_due(database, ORDER, "default")
    assert await claim_one(database, ORDER, lease_seconds=0.5) is not None
    result = await cuadre("sync", ORDER)
    assert result.code == 0
    assert provider.asked == [ORDER]


async def test_what_was_read_and_cannot_be_stored_is_the_orders_fault(
    cuadre: Cuadre, database: Database, environment: pytest.MonkeyPatch
) -> None:
    async def refusing(database: Database, looks: Sequence[Look], **policies: Any) -> list[Outcome]:
        if looks[0].read is not None:
            raise asyncpg.NumericValueOutOfRangeError("as told")
        return await apply_looks(database, looks, **policies)

    environment.setattr("service.cli.look_now.apply_looks", refusing)
    result = await cuadre("sync", ORDER)
    assert result.code == 1
    assert "unstorable: NumericValueOutOfRangeError" in result.err
    assert await database.fetchval("select attempts from cuadre.sync") == 1


async def test_what_is_no_order_id_is_refused_before_anything_is_stored(cuadre: Cuadre, database: Database) -> None:
    result = await cuadre("sync", "118000000101", ORDER)
    assert result.code == 2
    assert "begins with ORD, PPORD or MO" in result.err
    assert await database.fetchval("select count(*) from cuadre.sync") == 0


async def test_an_account_that_is_not_configured_is_refused(cuadre: Cuadre) -> None:
    result = await cuadre("sync", ORDER, "--account", "nobody")
    assert result.code == 2
    assert "there are default" in result.err


async def test_a_stored_order_keeps_its_account(
    cuadre: Cuadre, database: Database, environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await cuadre("sync", ORDER)
    accounts = tmp_path_factory.mktemp("accounts") / "accounts.json"
    accounts.write_text('[{"name": "north", "access_token": "a"}, {"name": "south", "access_token": "b"}]')
    environment.setenv("CUADRE_ACCOUNTS_FILE", str(accounts))
    stored = await cuadre("sync", ORDER)
    assert stored.code == 1
    assert "belongs to account default, which is not configured; there are north, south" in stored.err
    asked = await cuadre("sync", ORDER, "--account", "north")
    assert asked.code == 1
    assert "belongs to account default, not to north" in asked.err
    unnamed = await cuadre("sync", OTHER)
    assert unnamed.code == 1
    assert "name its account with --account; there are north, south" in unnamed.err
    named = await cuadre("sync", OTHER, "--account", "south")
    assert named.code == 0
    assert await database.fetchval("select account from cuadre.orders where order_id = $1", OTHER) == "south"
