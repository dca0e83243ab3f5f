"""The OpenAPI document holds the server to its word: odd requests by the hundred, against a live port."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from service.database.pool import Database
from service.web.keys import KeyRing
from tests.integration.web.desk_port import api_key, desk_port
from tests.integration.web.internal_port import InternalPort
from tests.integration.web.web_rows import (
    at,
    insert,
    put_discrepancy,
    put_fetch,
    put_notification,
    put_order,
    put_quarantined,
    put_version,
)

_KEY = "a-key-for-the-fuzzer"
_COMMANDS = "^(create_order|cancel_order|refund_order|withdraw_command|put_legacy|delete_legacy)$"


async def _fill(database: Database) -> None:
    """Rows of every kind, under ids that are found by following one answer into the next request."""
    for number in range(3):
        body = {"id": "x", "status": "created", "total_amount": "1.50"}
        name = await put_order(database, number, payload=json.dumps(body), updated_at=at(number) if number else None)
        body["id"] = name
        await put_version(database, number, 1, body)
        part = {"order_id": name, "position": 0, "first_seen_at": at(1)}
        await insert(database, "payments", **part, payment_id="PAY1")
        await insert(database, "refunds", **part, refund_id="REF1")
        await insert(database, "chargebacks", **part, chargeback_id="CHB1")
        await insert(database, "cash_outs", **part, cash_out_id="CSH1")
        await put_notification(database, number)
        await put_fetch(database, number)
        await put_discrepancy(database, number, resolved_at=at(9) if number else None)
        await put_quarantined(database, number)


async def _fuzz(url: str, folder: Path, *options: str) -> str:
    """What the fuzzer says when it finds nothing."""
    program = str(Path(sys.executable).with_name("schemathesis"))
    usual = ["--checks=all", "--max-examples=10", "--generation-deterministic", "--no-color"]
    process = await asyncio.create_subprocess_exec(
        program, "run", url, *usual, *options, "-H", f"Authorization: Bearer {_KEY}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=folder,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 100)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.slow
@pytest.mark.parametrize(("auth", "phases"), [("off", "fuzzing,stateful"), ("on", "coverage,fuzzing,stateful")])
async def test_answers_are_what_the_document_says(
    port: InternalPort, database: Database, tmp_path: Path, auth: str, phases: str
) -> None:
    await _fill(database)
    if auth == "on":
        port.keys = KeyRing((api_key(_KEY, "read", "operate"),))
    url = str(port.client.make_url("/openapi.json"))
    output = await _fuzz(url, tmp_path, f"--phases={phases}", f"--exclude-operation-id-regex={_COMMANDS}")
    assert "Tested: 17" in output
    assert port.marked, "the fuzzer never reached the operation that writes"


@pytest.mark.slow
async def test_answers_to_commands_are_what_the_document_says(database: Database, tmp_path: Path) -> None:
    async with desk_port(database) as desk:
        desk.keys = KeyRing((api_key(_KEY, "read", "operate", "money"),))
        # What an order must say is the provider's affair and not in the document: most of what fits it is refused.
        output = await _fuzz(
            str(desk.client.make_url("/openapi.json")), tmp_path, "--phases=coverage,fuzzing",
            f"--include-operation-id-regex={_COMMANDS}", "--exclude-checks=positive_data_acceptance",
        )  # fmt: skip
        assert "Tested: 6" in output
        assert await desk.commands() > 0, "the fuzzer never reached the desk"


async def test_the_document_knows_every_answer_of_the_contract(port: InternalPort) -> None:
    document = await port.get("/openapi.json")
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) >= {
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/orders",
        "/api/v1/orders/{order_id}",
        "/api/v1/orders/{order_id}/timeline",
        "/api/v1/orders/{order_id}/sync",
        "/api/v1/discrepancies",
        "/api/v1/notifications",
    }
    assert "security" not in document["paths"]["/api/v1/orders"]["get"]
    port.keys = KeyRing((api_key("x", "read"),))
    async with port.client.get("/openapi.json", headers={"Authorization": "Bearer x"}) as answer:
        closed = await answer.json()
    assert closed["paths"]["/api/v1/orders"]["get"]["security"] == [{"key": []}]
    # Commands need a key also where reading does not.
    create = document["paths"]["/api/v1/orders"]["post"]
    assert create["security"] == [{"key": []}]
    assert create["requestBody"]["required"] is True
    (header,) = [one for one in create["parameters"] if one["in"] == "header"]
    assert (header["name"], header["required"]) == ("Idempotency-Key", True)
    assert {"201", "202", "400", "401", "402", "403", "404", "409", "413", "422", "429", "503"} == set(
        create["responses"]
    )
    assert "content" not in document["paths"]["/api/v1/legacy-qr/{external_pos_id}"]["delete"]["responses"]["204"]


async def test_the_page_for_people_loads_nothing_from_elsewhere(port: InternalPort) -> None:
    async with port.client.get("/docs") as answer:
        page = await answer.text()
        assert answer.content_type == "text/html"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "/api/v1/orders/{order_id}/timeline" in page
    assert "CreateBody" in page
    assert "Idempotency-Key" in page
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
