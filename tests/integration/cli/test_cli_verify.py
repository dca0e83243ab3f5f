"""`cuadre verify`: exit codes, tables and JSON, progress, and going on after `kill -9`."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.database.pool import Database
from tests.integration.audit.verify_support import provider_books, rich_order, store, tamper
from tests.integration.cli.cli_support import TOKEN, Cuadre, Provider, order_fixture, until

ORDER = "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"
OTHER = "ORD01M2GAB43R6JS4MJ49W1EX16NG"


@pytest.fixture(autouse=True)
async def stored(cuadre: Cuadre, provider: Provider) -> None:
    """Two orders, stored as the provider has them."""
    recent = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    provider.orders = {
        ORDER: order_fixture("order-processed-qr", created_date=recent),
        OTHER: order_fixture("order-canceled-qr", created_date=recent),
    }
    assert (await cuadre("sync", ORDER, OTHER)).code == 0
    provider.asked.clear()


async def test_equal_orders_end_with_0(cuadre: Cuadre, provider: Provider) -> None:
    result = await cuadre("verify", "--full")
    assert (result.code, result.err) == (0, "")
    assert result.out == "comparison 1: 2 orders, 2 equal, 0 differ\n"
    assert sorted(provider.asked) == sorted([ORDER, OTHER])


async def test_drift_is_listed_with_field_and_both_values_and_ends_with_3(cuadre: Cuadre, database: Database) -> None:
    await database.execute("update cuadre.orders set total_amount = 1 where order_id = $1", ORDER)
    result = await cuadre("verify")
    assert result.code == 3
    assert [line.split() for line in result.out.splitlines()[:2]] == [
        ["ORDER", "FIELD", "STORED", "PROVIDER", "KIND"],
        [ORDER, "total_amount", "1", "1500.00", "drift"],
    ]
    assert result.out.endswith("comparison 1: 2 orders, 1 equal, 1 differ\n")
    mended = await cuadre("verify", "--repair")
    assert mended.code == 0
    assert [line.split()[-1] for line in mended.out.splitlines()[:2]] == ["REPAIRED", "yes"]
    assert "1 repaired, 0 left" in mended.out
    assert (await cuadre("verify")).code == 0
    story = await cuadre("orders", "show", ORDER, "--timeline", "--format", "json")
    assert [entry["cause"] for entry in story.json()["timeline"]["data"] if entry["kind"] == "version"] == [
        "operator",
        "repair",
    ]


async def test_as_json(cuadre: Cuadre, provider: Provider, database: Database) -> None:
    await database.execute("update cuadre.payments set status = 'refunded' where order_id = $1", ORDER)
    provider.orders[OTHER] = order_fixture("order-canceled-qr", last_updated_date="2026-12-31T00:00:00.000Z")
    result = await cuadre("verify", "--format", "json", "--account", "default")
    assert result.code == 3
    document = result.json()
    assert {
        name: document[name]
        for name in document.keys() - {"started_at", "finished_at", "data"}
    } == {
        "verification_id": 1, "kind": "full", "account": "default", "repair": False, "since": None, "resumed": False,
        "to_check": 2, "checked": 2, "equal": 0, "drifted": 2, "stale": 1, "repaired": 0, "left": 2, "unanswered": 0,
        "unprovable": 0, "checked_by_payments": 0, "not_asked": {}, "more": False,
    }  # fmt: skip
    assert document["started_at"] < document["finished_at"]
    drift, stale = sorted(document["data"], key=lambda one: one["order_id"])
    assert (drift["order_id"], drift["kind"], drift["repaired_at"], drift["reason"]) == (ORDER, "drift", None, None)
    [field] = drift["fields"]
    assert (field["stored"], field["provider"]) == ("refunded", "processed")
    assert field["field"].startswith("payments[PAY")
    assert field["field"].endswith("].status")
    assert stale["kind"] == "stale"
    assert "updated_at" in [one["field"] for one in stale["fields"]]


async def test_what_is_not_answered_for_ends_with_1_and_with_3_beside_drift(
    cuadre: Cuadre, provider: Provider, database: Database
) -> None:
    provider.statuses = {OTHER: 400}
    result = await cuadre("verify")
    assert result.code == 1
    assert f"{OTHER}  bad_request" in result.out
    assert "nothing was proved about 1 orders" in result.err
    await database.execute("update cuadre.orders set status = 'created' where order_id = $1", ORDER)
    assert (await cuadre("verify")).code == 3
    document = (await cuadre("verify", "--repair", "--format", "json")).json()
    assert (document["repaired"], document["left"], document["unanswered"]) == (1, 0, 1)
    silent = next(one for one in document["data"] if one["kind"] == "unanswered")
    assert (silent["order_id"], silent["fields"]) == (OTHER, [])
    assert silent["reason"].startswith("bad_request")


async def test_an_order_that_is_not_shown_is_drift_that_cannot_be_repaired(cuadre: Cuadre, provider: Provider) -> None:
    del provider.orders[OTHER]
    result = await cuadre("verify")
    assert (result.code, result.err) == (3, "")
    line = next(line for line in result.out.splitlines() if line.startswith(OTHER))
    assert line.split(None, 2)[1:] == ["order", "stored  not shown by the provider  drift"]
    repair = await cuadre("verify", "--repair")
    assert repair.code == 3
    assert f"{OTHER}  not repaired: it is not shown" in repair.out
    assert "0 repaired, 1 left" in repair.out
    assert (await cuadre("orders", "show", OTHER)).code == 0


async def test_an_order_too_old_to_be_shown_that_holds_no_money_is_told_and_ends_with_0(
    cuadre: Cuadre, provider: Provider, database: Database
) -> None:
    old = (datetime.now(UTC) - timedelta(days=100)).isoformat().replace("+00:00", "Z")
    provider.orders[OTHER] = order_fixture("order-canceled-qr", created_date=old)
    await database.execute("delete from cuadre.orders where order_id = $1", OTHER)
    await database.execute("delete from cuadre.order_versions where order_id = $1", OTHER)
    assert (await cuadre("sync", OTHER)).code == 0
    del provider.orders[OTHER]
    result = await cuadre("verify")
    assert result.code == 0
    assert "1 equal, 0 differ, 1 too old to be proved and without money" in result.out
    assert "1 orders cannot be proved any more; no money is in them" in result.err
    document = (await cuadre("verify", "--format", "json")).json()
    assert (document["checked"], document["equal"], document["unanswered"], document["unprovable"]) == (2, 1, 0, 1)
    [old_one] = document["data"]
    assert (old_one["kind"], old_one["fields"]) == ("unprovable", [])
    assert old_one["reason"].startswith("not_found")


async def test_a_refused_token_is_said_once(cuadre: Cuadre, provider: Provider) -> None:
    provider.statuses = {ORDER: 401, OTHER: 401}
    result = await cuadre("verify")
    assert result.code == 1
    assert "cuadre doctor" in result.err
    assert "unauthorized" in result.err or "refused" in result.err
    assert result.err.count("refused") == 1


async def test_one_refused_account_is_named_and_the_others_are_compared_to_the_end(
    cuadre: Cuadre, provider: Provider, database: Database, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    accounts = tmp_path / "accounts.json"
    accounts.write_text(json.dumps([{"name": name, "access_token": TOKEN} for name in ("default", "south")]))
    environment.setenv("CUADRE_ACCOUNTS_FILE", str(accounts))
    # The refused one's order comes first.
    for table in ("orders", "sync"):
        await database.execute(f"update cuadre.{table} set account = 'south' where order_id = $1", ORDER)
    await database.execute("update cuadre.orders set total_amount = 1 where order_id = $1", OTHER)
    provider.statuses = {ORDER: 401}
    for _ in range(2):
        result = await cuadre("verify")
        assert result.code == 1
        assert result.err.splitlines()[-1].startswith("cuadre: not finished: the access_token of account south was ref")
        assert result.err.count("refused") == 1
        assert [line.split()[:3] for line in result.out.splitlines()[1:]] == [[OTHER, "total_amount", "1"]]
    assert await database.fetchval("select count(*) from cuadre.verifications where finished_at is null") == 1
    provider.statuses = {}
    result = await cuadre("verify")
    assert result.code == 3
    assert "comparison 1: 2 orders, 1 equal, 1 differ" in result.out


async def test_since_and_sample(cuadre: Cuadre, provider: Provider) -> None:
    later = await cuadre("verify", "--since", "2099-01-01T00:00:00Z", "--format", "json")
    assert (later.code, later.json()["to_check"], later.json()["kind"]) == (0, 0, "since")
    day = await cuadre("verify", "--since", "2099-01-01", "--format", "json")
    assert (day.code, day.json()["since"]) == (0, later.json()["since"])
    sample = await cuadre("verify", "--sample", "1", "--format", "json")
    assert (sample.code, sample.json()["checked"], sample.json()["kind"]) == (0, 1, "sample")
    assert len(provider.asked) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--since", "yesterday"],
        ["--since", "2026-02-30"],
        ["--sample", "0"],
        ["--account", "nobody"],
        ["--full", "--sample", "3"],
        ["ORDER"],
    ],
)
async def test_usage_errors_end_with_2(cuadre: Cuadre, arguments: list[str]) -> None:
    assert (await cuadre("verify", *arguments)).code == 2


async def test_a_provider_that_is_away_is_an_error_that_says_to_go_on(
    cuadre: Cuadre, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("CUADRE_MERCADOPAGO_URL", "http://127.0.0.1:1")
    environment.setattr("service.audit.fresh.ATTEMPTS", 1)
    result = await cuadre("verify")
    assert result.code == 1
    assert "connection" in result.out


async def test_killed_in_the_middle_the_same_call_goes_on(
    cuadre: Cuadre, database: Database, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    accounts = tmp_path / "accounts.json"
    accounts.write_text(json.dumps([{"name": "default", "access_token": TOKEN, "rate_per_second": 100}]))
    environment.setenv("CUADRE_ACCOUNTS_FILE", str(accounts))
    await database.execute("truncate cuadre.orders, cuadre.order_versions, cuadre.sync")
    async with provider_books() as books:
        environment.setenv("CUADRE_MERCADOPAGO_URL", books.url)
        bodies = [rich_order(number) for number in range(150)]
        books.put(*bodies)
        await store(database, bodies)
        ways = await tamper(database, [7, 120])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "service", "verify", "--repair", stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
        )

        async def first_page_is_done() -> bool:
            return bool(await database.fetchval("select max(checked) = 100 from cuadre.verifications"))

        await until(first_page_is_done)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        before = dict(books.calls)
        result = await cuadre("verify", "--repair", "--format", "json")
        # What was done before is not asked for again.
        assert not [asked for asked in sorted(before)[:100] if books.calls[asked] != before[asked]]
    assert result.code == 0, result.err
    assert "going on with comparison 1" in result.err
    document = result.json()
    assert (document["resumed"], document["verification_id"]) == (True, 1)
    assert (document["checked"], document["equal"], document["drifted"], document["repaired"]) == (150, 148, 2, 2)
    assert [one["order_id"] for one in document["data"]] == sorted(ways)
