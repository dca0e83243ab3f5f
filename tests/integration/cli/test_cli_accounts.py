"""`cuadre accounts`: an account that has another name now takes its orders along, once somebody says so."""

import asyncio
import json
from pathlib import Path

import pytest

from service.audit.moving import count_to_move, move_account
from service.database.pool import Database
from service.intake.record import NotificationRecorder
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.sync.apply import apply_looks
from service.sync.locks import lock_orders
from service.sync.worker import Worker
from tests.integration.cli.cli_support import TOKEN, Cuadre
from tests.support.asked import ask
from tests.support.deliveries import delivery
from tests.support.looking import claim, look, open_discrepancies, see
from tests.support.orders import order, order_id, paid_order, refunded_order
from tests.support.provider import stub_provider
from tests.support.waiting import until

SHOP = Account("shop", access_token="t", rate_per_second=200.0)


@pytest.fixture
def renamed(cuadre: Cuadre, environment: pytest.MonkeyPatch, tmp_path: Path) -> Cuadre:
    """Commands where the account is configured in a file, under the name `shop`."""
    path = tmp_path / "accounts.json"
    path.write_text(json.dumps([{"name": "shop", "access_token": TOKEN}]))
    environment.setenv("CUADRE_ACCOUNTS_FILE", str(path))
    for name in ("CUADRE_ACCESS_TOKEN", "CUADRE_USER_ID", "CUADRE_WEBHOOK_SECRETS"):
        environment.delenv(name)
    return cuadre


async def accounts_of(database: Database, table: str) -> set[str]:
    return {row["account"] for row in await database.fetch(f"select distinct account from cuadre.{table}")}


async def test_moved_orders_are_read_again(renamed: Cuadre, database: Database) -> None:
    await see(database, paid_order(1))
    async with stub_provider() as provider, MercadoPagoClient(provider.url) as client:
        provider.put(refunded_order(1, "30.00", seconds=120))
        recorder = NotificationRecorder(database, on_committed=lambda: None)
        await recorder.record(delivery(order_id(1), verified=True, account="shop"))
        await recorder.close()
        assert await accounts_of(database, "sync") == {"default"}, "a stored order keeps its account"
        result = await renamed("accounts", "move", "default", "shop", "--apply", "--format", "json")
        assert result.code == 0, result.err
        assert (result.json()["orders"], result.json()["sync_rows"]) == (1, 1)
        worker = Worker(database, client, concurrency=4, poll_seconds=0.05, lease_seconds=30)
        worker.follow([SHOP])
        task = asyncio.create_task(worker.run())
        try:

            async def read() -> bool:
                return bool(await database.fetchval("select refunded_amount > 0 from cuadre.orders"))

            await until(read, what="the order's notification is followed by a read")
        finally:
            await worker.stop(within_seconds=5)
            await task


async def test_a_dry_run_says_what_would_move_and_moves_nothing(renamed: Cuadre, database: Database) -> None:
    await see(database, order(1), order(2))
    await ask(database, "one", "refund", "done", order_id=order_id(1))
    result = await renamed("accounts", "move", "default", "shop")
    assert result.code == 0, result.err
    assert "2 orders, 2 rows about looks and 1 commands would be moved from default to shop" in result.out
    assert "--apply" in result.out
    for table in ("orders", "sync", "commands"):
        assert await accounts_of(database, table) == {"default"}


async def test_all_of_an_account_moves_in_small_batches_and_what_was_interrupted_is_finished(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await see(database, *(paid_order(number) for number in range(1, 8)))
    await see(database, order(20), account="other")
    calls = 0

    async def broken_at_the_third(connection: object, ids: list[str]) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise ConnectionError("gone")
        return await lock_orders(connection, ids)

    monkeypatch.setattr("service.audit.moving.lock_orders", broken_at_the_third)
    with pytest.raises(ConnectionError):
        await move_account(database, "default", "shop", batch=2)
    pairs = await database.fetch(
        "select o.account, s.account as owes from cuadre.orders as o join cuadre.sync as s using (order_id)"
    )
    assert sorted(row["account"] for row in pairs) == ["default"] * 3 + ["other"] + ["shop"] * 4
    assert all(row["account"] == row["owes"] for row in pairs), "an order and its row move together"
    moved = await move_account(database, "default", "shop", batch=2)
    assert (moved.orders, moved.sync_rows) == (3, 3)
    assert await accounts_of(database, "orders") == await accounts_of(database, "sync") == {"shop", "other"}
    assert not (await count_to_move(database, "default", "shop")).anything


async def test_a_look_that_was_begun_under_the_old_name_leaves_the_order_with_the_new_one(database: Database) -> None:
    await see(database, order(1))
    held = await claim(database, order_id(1))
    await move_account(database, "default", "shop")
    await apply_looks(database, [look(held, paid_order(1))])
    assert await database.fetchval("select status from cuadre.orders") == "processed"
    assert await accounts_of(database, "orders") == await accounts_of(database, "sync") == {"shop"}


async def test_what_was_sold_under_both_names_is_found_to_be_sold_twice(renamed: Cuadre, database: Database) -> None:
    await see(database, paid_order(1, external_reference="sale-7"))
    await see(database, paid_order(2, external_reference="sale-7"), account="shop")
    assert await open_discrepancies(database) == set()
    result = await renamed("accounts", "move", "default", "shop", "--apply")
    assert result.code == 0, result.err
    assert await open_discrepancies(database) == {(order_id(2), "duplicate_sale", order_id(1))}
    assert await accounts_of(database, "discrepancies") == {"shop"}


async def test_commands_move_but_for_those_whose_key_the_new_account_has_used(
    renamed: Cuadre, database: Database
) -> None:
    for command_id, account, key in (("1", "default", "a"), ("2", "default", "b"), ("3", "shop", "b")):
        await ask(database, command_id, "refund", "waiting", account=account)
        await database.execute("update cuadre.commands set idempotency_key = $2 where command_id = $1", command_id, key)
        # Of a creation whose order nobody knows: it stands under the command's own id.
        await database.execute(
            "insert into cuadre.discrepancies (order_id, account, rule, subject_id, severity, expected, actual, "
            "explanation, opened_at, refreshed_at) "
            "values ($1, $2, 'unknown_outcome', $1, 'critical', '', '', '', now(), now())",
            command_id, account,
        )  # fmt: skip
    result = await renamed("accounts", "move", "default", "shop", "--apply", "--format", "json")
    assert result.code == 1
    assert "settle them by hand" in result.err
    assert result.json()["commands"] == 1
    assert [one["idempotency_key"] for one in result.json()["kept_commands"]] == ["b"]
    rows = await database.fetch("select account, idempotency_key from cuadre.commands order by 1, 2")
    assert [tuple(row) for row in rows] == [("default", "b"), ("shop", "a"), ("shop", "b")]
    rows = await database.fetch("select d.account, c.account from cuadre.discrepancies as d join cuadre.commands as c "
        "on c.command_id = d.order_id")  # fmt: skip
    assert len(rows) == 3
    assert all(row[0] == row[1] for row in rows), "what is told of a command moves with it"


async def test_searches_of_the_old_name_end_with_its_certificate(renamed: Cuadre, database: Database) -> None:
    for name in ("default", "shop"):
        await database.execute(
            "insert into cuadre.sweeps (account, kind, from_at, to_at, position_at, started_at, moved_at) "
            "values ($1, 'sweep', '-infinity', 'infinity', now(), now(), now())",
            name,
        )
        await database.execute("insert into cuadre.completeness values ($1, now(), now(), now())", name)
    assert (await renamed("accounts", "move", "default", "shop", "--apply")).code == 0
    assert await accounts_of(database, "sweeps") == await accounts_of(database, "completeness") == {"shop"}


async def test_what_a_process_with_the_old_name_goes_on_storing_is_told(
    renamed: Cuadre, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await see(database, order(1))
    await database.execute("insert into cuadre.completeness values ('default', now(), now(), now())")
    # As if each pass found another order.
    monkeypatch.setattr("service.audit.moving.MOST_PASSES", 0)
    result = await renamed("accounts", "move", "default", "shop", "--apply")
    assert result.code == 1
    assert "some process still works under default" in result.err
    assert await accounts_of(database, "completeness") == {"default"}, "the move is not over"


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ("default", "elsewhere", 2, "there are shop"),
        ("shop", "shop", 2, "take it out of the configuration"),
        ("nobody", "shop", 1, "nothing is stored under the account nobody"),
    ],
)
async def test_only_from_a_name_that_is_not_configured_to_one_that_is(
    renamed: Cuadre, old: str, new: str, code: int, says: str
) -> None:
    result = await renamed("accounts", "move", old, new)
    assert result.code == code
    assert says in " ".join(result.err.replace("│", " ").split())


async def test_the_list_has_the_configured_and_the_stored(renamed: Cuadre, database: Database) -> None:
    await see(database, order(1))
    await database.execute("update cuadre.sync set due_at = now()")
    result = await renamed("accounts", "--format", "json")
    assert result.json() == {
        "data": [
            {"account": "shop", "orders": 0, "scheduled": 0, "due": 0, "commands": 0, "configured": True},
            {"account": "default", "orders": 1, "scheduled": 1, "due": 1, "commands": 0, "configured": False},
        ]
    }
    table = await renamed("accounts")
    assert [line.split() for line in table.out.splitlines()][1:] == [
        ["shop", "yes", "0", "0", "0", "0"],
        ["default", "no", "1", "1", "1", "0"],
    ]
    assert "cuadre accounts move" in table.err
