"""`cuadre replay` and `cuadre quarantine retry --all`: a dry run first, then each order once."""

import json

import pytest

from service.database.pool import Database
from tests.integration.cli.cli_support import Cuadre, Provider, order_fixture
from tests.integration.cli.test_cli_reading import ORDER, REFUNDED, deliver


@pytest.fixture(autouse=True)
async def told(cuadre: Cuadre, provider: Provider, database: Database) -> None:
    """Two orders that were told of (one of them twice) and looked at."""
    provider.orders = {
        ORDER: order_fixture("order-processed-qr"),
        REFUNDED: order_fixture("order-partially-refunded-qr"),
    }
    await deliver(database, "order.processed.qr", order_id=ORDER)
    await deliver(database, "order.canceled.qr", order_id=ORDER)
    await deliver(database, "order.canceled.qr", order_id=REFUNDED)
    assert (await cuadre("sync", ORDER, REFUNDED)).code == 0


async def marked(database: Database) -> dict[str, str]:
    rows = await database.fetch("select order_id, cause from cuadre.sync where fetched < requested and due_at <= now()")
    return {row["order_id"]: row["cause"] for row in rows}


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(cuadre: Cuadre, database: Database) -> None:
    result = await cuadre("replay", "--from", "2020-01-01")
    assert result.code == 0
    assert result.out == "3 notifications, 3 of them speak of 2 orders\n"
    assert "dry run: 2 orders would be marked due" in result.err
    assert await marked(database) == {}


async def test_without_a_filter_it_is_a_dry_run_over_everything(cuadre: Cuadre, database: Database) -> None:
    result = await cuadre("replay", "--format", "json")
    assert result.code == 0
    document = result.json()
    assert (document["dry_run"], document["notifications"], document["orders"]) == (True, 3, 2)
    refused = await cuadre("replay", "--apply")
    assert refused.code == 2
    assert "--from" in refused.err
    assert await marked(database) == {}


async def test_applied_it_marks_each_order_once(cuadre: Cuadre, provider: Provider, database: Database) -> None:
    result = await cuadre("replay", "--state", "unverified", "--apply")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("2 orders marked due\n")
    assert await marked(database) == {ORDER: "replay", REFUNDED: "replay"}
    again = await cuadre("replay", "--state", "unverified", "--apply")
    assert "0 orders marked due\n2 were marked by an earlier replay" in again.out
    provider.orders[ORDER] = order_fixture("order-processed-qr", last_updated_date="2026-09-15T00:00:00.000Z")
    assert (await cuadre("sync", ORDER)).code == 0


async def test_by_number_as_json(cuadre: Cuadre, database: Database) -> None:
    number = await database.fetchval("select max(id) from cuadre.notifications")
    result = await cuadre("replay", "--notification", str(number), "--apply", "--format", "json")
    assert result.json() == {
        "dry_run": False, "notifications": 1, "to_replay": 1, "orders": 1, "marked": 1, "without_order": {},
        "rerouted": [],
    }  # fmt: skip
    assert await marked(database) == {REFUNDED: "replay"}


async def test_what_would_go_to_another_account_now_is_left(
    cuadre: Cuadre, database: Database, environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    accounts = tmp_path_factory.mktemp("accounts") / "accounts.json"
    accounts.write_text(json.dumps([{"name": "north", "access_token": "a", "user_id": "2100457788"}]))
    environment.setenv("CUADRE_ACCOUNTS_FILE", str(accounts))
    result = await cuadre("replay", "--topic", "order", "--apply", "--format", "json")
    assert result.code == 0
    document = result.json()
    assert (document["orders"], document["marked"]) == (0, 0)
    # The second seller's would go nowhere.
    assert document["rerouted"] == [
        {"account": "default", "account_now": "north", "notifications": 1},
        {"account": "default", "account_now": None, "notifications": 2},
    ]
    table = await cuadre("replay", "--topic", "order")
    assert "which would go to account north now" in table.out
    assert "which would go to no account now" in table.out
    assert await marked(database) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--apply"],
        ["--apply", "--format", "json"],
        ["--from", "yesterday"],
        ["--from", "2026-02-01", "--to", "2026-01-01"],
        ["--notification", "0"],
        ["--state", "odd"],
    ],
)
async def test_usage_errors_end_with_2(cuadre: Cuadre, arguments: list[str]) -> None:
    assert (await cuadre("replay", *arguments)).code == 2


async def test_all_of_the_quarantine_is_tried_again(cuadre: Cuadre, provider: Provider, database: Database) -> None:
    assert (await cuadre("quarantine", "retry", "--all")).out == "quarantine is empty\n"
    for order_id in (ORDER, REFUNDED):
        provider.orders[order_id] = "{}"
    for _ in range(2):
        provider.statuses = {ORDER: 400, REFUNDED: 400}
        await cuadre("sync", ORDER, REFUNDED)
    assert (
        await cuadre("quarantine", "retry", "--all", "--reason", "not_found")
    ).out == "nothing of that is in quarantine\n"
    result = await cuadre("quarantine", "retry", "--all", "--reason", "bad_request", "--format", "json")
    assert (result.code, result.json()) == (0, {"marked": [ORDER, REFUNDED], "not_in_quarantine": []})
    assert await marked(database) == {ORDER: "operator", REFUNDED: "operator"}
    # One more failure is the first again, and does not end in quarantine.
    await cuadre("sync", ORDER)
    assert await database.fetchval("select quarantined_at from cuadre.sync where order_id = $1", ORDER) is None


@pytest.mark.parametrize("arguments", [[], [ORDER, "--all"], [ORDER, "--account", "default"]])
async def test_retry_wants_orders_or_all(cuadre: Cuadre, arguments: list[str]) -> None:
    assert (await cuadre("quarantine", "retry", *arguments)).code == 2
