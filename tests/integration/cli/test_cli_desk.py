"""The order desk on the command line, with no service running and beside one; the simulator is the provider."""

import asyncio
import getpass
import io
import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service.database.pool import Database
from service.desk.runner import Runner
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.pacing import AccountGate
from service.simulator.server import SimulatorConfig, create_app
from tests.integration.cli.cli_support import SECRET, TOKEN, USER_ID, Cuadre, Result

QR: dict[str, Any] = {
    "type": "qr",
    "total_amount": "100.00",
    "external_reference": "sale-1",
    "config": {"qr": {"external_pos_id": "CAJA01", "mode": "dynamic"}},
    "transactions": {"payments": [{"amount": "100.00"}]},
}
SALE = (
    '{"external_reference": "legacy-1", "items": [{"title": "Yerba", "currency_id": "ARS", "unit_price": 25.10, '
    '"quantity": 3}]}'
)
ASKED_BY = f"command line ({getpass.getuser()})"


@dataclass
class Till:
    """Commands with everything in order, the simulator behind them."""

    cuadre: Cuadre
    provider: TestClient[web.Request, web.Application]
    folder: Path

    async def __call__(self, *arguments: str) -> Result:
        return await self.cuadre(*arguments)

    def file(self, content: Any) -> str:
        path = self.folder / "order.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    async def simulate(self, path: str, body: Any = None) -> Any:
        method = "GET" if body is None else "POST"
        async with self.provider.request(method, f"/_sim/{path}", json=body) as answer:
            assert answer.status < 300
            return await answer.json()

    async def created(self) -> str:
        result = await self("orders", "create", self.file(QR), "--key", "k-create", "--format", "json")
        assert result.code == 0, result.err
        order_id: str = result.json()["order"]["id"]
        return order_id


@pytest.fixture
async def till(environment: pytest.MonkeyPatch, database_dsn: str, tmp_path: Path) -> AsyncIterator[Till]:
    client: TestClient[web.Request, web.Application] = TestClient(
        TestServer(create_app(SimulatorConfig(user_id=USER_ID)))
    )
    await client.start_server()
    for name, value in {
        "MERCADOPAGO_URL": str(client.make_url("")).rstrip("/"),
        "DATABASE_URL": database_dsn,
        "ACCESS_TOKEN": TOKEN,
        "USER_ID": USER_ID,
        "WEBHOOK_SECRETS": SECRET,
    }.items():
        environment.setenv(f"CUADRE_{name}", value)
    environment.setattr("service.cli.desk_now.SERVICE_SECONDS", 0.1)
    yield Till(Cuadre([TOKEN, SECRET]), client, tmp_path)
    await client.close()


def value(result: Result, name: str) -> str:
    """A field of a table of names and values."""
    (found,) = re.findall(rf"^{name} +(.*)$", result.out, re.MULTILINE)
    return str(found)


async def statuses(database: Database) -> Sequence[str]:
    return [row["status"] for row in await database.fetch("select status from cuadre.commands order by asked_at")]


async def test_an_order_is_created_and_stored_when_the_command_returns(till: Till, database: Database) -> None:
    result = await till("orders", "create", till.file(QR))
    assert result.code == 0, result.err
    (order,) = (await till.simulate("orders"))["data"]
    assert value(result, "order") == order["id"]
    assert value(result, "status") == "done"
    assert value(result, "qr_data") == order["type_response"]["qr_data"]
    assert value(result, "amount").startswith("100.00")
    stored = await database.fetchrow("select status from cuadre.orders where order_id = $1", order["id"])
    assert stored is not None
    row = await database.fetchrow("select command_id, idempotency_key, asked_by from cuadre.commands")
    assert row is not None
    assert value(result, "command") == row["command_id"]
    assert row["asked_by"] == ASKED_BY
    # The fresh key was told, with what it is good for.
    key = row["idempotency_key"]
    assert f"--key {key}" in result.err
    again = await till("orders", "create", till.file(QR), "--key", key)
    assert (again.code, again.out, again.err) == (0, result.out, "")
    assert len((await till.simulate("orders"))["data"]) == 1


async def test_an_order_is_read_from_standard_input(till: Till, environment: pytest.MonkeyPatch) -> None:
    environment.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(QR).encode())))
    result = await till("orders", "create", "-", "--key", "k", "--format", "json")
    assert result.code == 0, result.err
    document = result.json()
    assert document["command"]["order_id"] == document["order"]["id"]
    assert (document["command"]["kind"], document["command"]["asked_by"]) == ("create", ASKED_BY)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["not JSON"]),
        ("[]", ["must be a JSON object"]),
        ('{"type": "qr", "type": "qr"}', ["'type' stands twice"]),
        (json.dumps(QR | {"total_amount": 100, "external_reference": "a b"}), ["total_amount", "external_reference"]),
    ],
)
async def test_a_wrong_order_file_ends_with_2_and_every_fault(
    till: Till, database: Database, content: str, words: list[str]
) -> None:
    result = await till("orders", "create", till.file(content), "--key", "k")
    assert (result.code, result.out) == (2, "")
    lines = result.err.splitlines()
    assert len(lines) >= len(words)
    assert all(any(word in line for line in lines) for word in words)
    assert await statuses(database) == []


async def test_what_cannot_be_read_or_found_ends_with_2(till: Till) -> None:
    result = await till("orders", "create", str(till.folder / "nothing.json"))
    assert result.code == 2
    assert "nothing.json: No such file" in result.err
    result = await till("orders", "create", till.file(QR), "--account", "nobody")
    assert result.code == 2
    assert "default" in result.err
    assert (await till("orders", "cancel", "a b")).code == 2
    assert (await till("commands", "show", "CMD1")).code == 2
    misspelt = await till("commands", "list", "--status", "unknwon")
    assert misspelt.code == 2
    assert "unknown" in misspelt.err
    assert (await till("commands", "--status", "unknwon")).code == 2
    assert (await till("orders", "create", till.file(QR), "--key", "a b")).code == 2


async def test_an_order_is_canceled_paid_ones_are_refunded(till: Till, database: Database) -> None:
    order_id = await till.created()
    result = await till("orders", "cancel", order_id, "--key", "k-cancel")
    assert result.code == 0, result.err
    assert await database.fetchval("select status from cuadre.orders where order_id = $1", order_id) == "canceled"
    again = await till("orders", "cancel", order_id, "--key", "k-other")
    assert (again.code, again.out) == (1, "")
    assert again.err.splitlines()[-1].startswith("cuadre: ")


async def test_a_refund_is_done_when_a_look_shows_it(till: Till, database: Database) -> None:
    order_id = await till.created()
    await till.simulate(f"orders/{order_id}/pay", {})
    assert (await till("sync", order_id)).code == 0
    result = await till("orders", "refund", order_id, "--amount", "30.00", "--key", "k-1")
    assert result.code == 0, result.err
    assert value(result, "amount").startswith("30.00")
    assert value(result, "refunds").startswith("REF")
    refunded = await database.fetchval("select refunded_amount from cuadre.orders where order_id = $1", order_id)
    assert str(refunded) == "30.00"
    result = await till("orders", "refund", order_id, "--amount", "70.01", "--key", "k-2")
    assert (result.code, result.out) == (1, "")
    assert "70.00 left" in result.err
    result = await till("orders", "refund", order_id, "--amount", "lots", "--key", "k-3")
    assert result.code == 2
    assert result.err.startswith("amount: ")
    payment = await database.fetchval("select payment_id from cuadre.payments where order_id = $1", order_id)
    result = await till("orders", "refund", order_id, "--payment", payment, "--key", "k-4", "--format", "json")
    assert result.code == 0, result.err
    assert result.json()["command"]["amount"] == "70.00"
    assert await database.fetchval("select status from cuadre.orders where order_id = $1", order_id) == "refunded"


async def test_what_the_provider_refuses_ends_with_1_and_its_code(till: Till) -> None:
    await till.simulate("rules", {"known_pos": []})
    static = QR | {"config": {"qr": {"external_pos_id": "CAJA01", "mode": "static"}}}
    result = await till("orders", "create", till.file(static), "--key", "k")
    assert result.code == 1
    assert value(result, "status") == "refused"
    assert result.err.startswith("cuadre: refused (pos_not_found): ")
    assert len(result.err.splitlines()) == 1


async def test_without_the_provider_a_command_waits_is_listed_and_taken_back(
    till: Till, environment: pytest.MonkeyPatch, database: Database
) -> None:
    environment.setenv("CUADRE_MERCADOPAGO_URL", "http://127.0.0.1:1")
    result = await till("orders", "create", till.file(QR), "--key", "k", "--wait", "1")
    assert result.code == 1
    assert "not sent yet" in result.err
    command_id = value(result, "command")
    assert f"cuadre commands withdraw {command_id}" in result.err
    listed = await till("commands", "--status", "waiting")
    assert listed.code == 0
    assert command_id in listed.out
    listed = await till("commands", "list", "--format", "json")
    assert [one["command_id"] for one in listed.json()["data"]] == [command_id]
    taken = await till("commands", "withdraw", command_id)
    assert (taken.code, value(taken, "status")) == (0, "withdrawn")
    assert await statuses(database) == ["withdrawn"]
    shown = await till("commands", "show", command_id)
    assert (shown.code, value(shown, "status")) == (0, "withdrawn")
    again = await till("orders", "create", till.file(QR), "--key", "k")
    assert again.code == 1
    assert again.err.startswith("cuadre: withdrawn")


async def test_an_unknown_outcome_is_settled_by_hand(till: Till, database: Database) -> None:
    order_id = await till.created()
    (row,) = await database.fetch("select command_id from cuadre.commands")
    command_id = row["command_id"]
    refused = await till("commands", "settle", command_id, "--as", "done", "--note", "seen in the panel")
    assert (refused.code, refused.out) == (1, "")
    assert (await till("commands", "withdraw", command_id)).code == 1
    await database.execute(
        "update cuadre.commands set status = 'unknown', settled_at = null, order_id = null, due_at = now()"
    )
    assert (await till("commands", "settle", command_id, "--as", "lost", "--note", "x")).code == 2
    missing = await till("commands", "settle", command_id, "--as", "done", "--note", "seen in the panel")
    assert missing.code == 2
    assert missing.err.startswith("order_id: ")
    settled = await till(
        "commands", "settle", command_id, "--as", "done", "--note", "seen in the panel", "--order", order_id
    )
    assert settled.code == 0, settled.err
    assert (value(settled, "status"), value(settled, "order")) == ("done", order_id)
    assert "seen in the panel" in value(settled, "message")
    assert ASKED_BY in value(settled, "message")
    assert (await till("commands", "show", "CMD" + "0" * 26)).code == 1


async def test_a_legacy_sale_is_put_and_deleted(till: Till, database: Database) -> None:
    result = await till("legacy-qr", "put", "CAJA01", till.file(SALE), "--ttl", "180", "--key", "k-put")
    assert result.code == 0, result.err
    assert (value(result, "point of sale"), value(result, "reference")) == ("CAJA01", "legacy-1")
    assert '"unit_price":25.10' in await database.fetchval("select body from cuadre.commands")
    (there,) = (await till.simulate("legacy"))["data"]
    assert there["state"] == "live"
    result = await till("legacy-qr", "delete", "CAJA01", "--key", "k-delete", "--format", "json")
    assert result.code == 0, result.err
    assert result.json()["command"]["kind"] == "legacy_delete"
    (there,) = (await till.simulate("legacy"))["data"]
    assert there["state"] == "deleted"
    assert (await till("legacy-qr", "put", "CAJA01", till.file("{}"), "--key", "k-2")).code == 2


async def test_beside_a_running_service_nothing_is_sent_twice(
    till: Till, database: Database, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr("service.cli.desk_now.SERVICE_SECONDS", 20.0)
    account, gate = Account("default", user_id=USER_ID, access_token=TOKEN), AccountGate(50, random=lambda: 0.5)
    async with MercadoPagoClient(str(till.provider.make_url("")).rstrip("/")) as client:
        runner = Runner(database, client, account=lambda _: account, gate=lambda _: gate, poll_seconds=0.05)
        running = asyncio.create_task(runner.run())
        try:
            result = await till("orders", "create", till.file(QR), "--key", "k")
        finally:
            await runner.stop(within_seconds=5)
            await running
    assert result.code == 0, result.err
    order_id = value(result, "order")
    assert await database.fetchval("select count(*) from cuadre.orders where order_id = $1", order_id) == 1
    requests = (await till.simulate("requests"))["counts"]["create"]
    assert sum(requests.values()) == 1
