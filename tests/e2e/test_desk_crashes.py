"""A crash at every point between intent, claim, call and outcome: after the restart there is exactly one effect at the
provider, and it is known here. Real processes that die as `kill -9` would; see `service.telemetry.crashpoints`."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from service.database.pool import Database
from service.telemetry import crashpoints
from tests.support.desk import Shop, shop
from tests.support.desk_process import ask

ROOT = Path(__file__).parents[2]
INTENT = ["desk.intent.before_commit", "desk.intent.after_commit"]
CALL = ["desk.claimed", "desk.sending", "desk.called", "desk.outcome.before_commit", "desk.outcome.after_commit"]
SEEN = ["desk.seen.before_commit", "desk.seen.after_commit"]
CASES = [
    *(("create", point) for point in INTENT + CALL),
    *(("refund", point) for point in INTENT[1:] + CALL[2:] + SEEN),
    *(("cancel", point) for point in CALL[2:3] + SEEN[:1]),
]


async def first_life(here: Shop, dsn: str, kind: str, order_id: str, *, crash_at: str) -> int:
    """A process that asks for the command and dies; its exit code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CUADRE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.desk_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        cwd=ROOT,
        env=environment | {crashpoints.VARIABLE: crash_at},
    )
    told = json.dumps({"dsn": dsn, "url": here.provider.url, "kind": kind, "order_id": order_id})
    try:
        await asyncio.wait_for(process.communicate(told.encode()), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "point"), CASES)
async def test_a_crash_leaves_one_effect_and_the_restart_knows_it(
    database: Database, database_dsn: str, kind: str, point: str
) -> None:
    async with shop(database, runner=False) as here:
        order_id = ""
        if kind == "refund":
            order_id = await here.sell()
        elif kind == "cancel":
            order_id = (await here.provider.tell("orders", {"type": "qr", "total_amount": "100.00"}))["id"]
            await here.know(order_id)
        exit_code = await first_life(here, database_dsn, kind, order_id, crash_at=point)
        assert exit_code == crashpoints.EXIT_CODE, "the point was not reached"
        # Leases are waited for; here they are over.
        await database.execute("update cuadre.commands set leased_until = now() where leased_until is not null")
        await database.execute("update cuadre.sync set leased_until = now() where leased_until is not null")
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        # The till asks again, because nobody answered it.
        settled = await here.settled(await ask(here.desk, kind, order_id))
        assert settled.status == "done"
        assert await database.fetchval("select count(*) from cuadre.commands") == 1
        orders = await here.provider.orders()
        if kind == "create":
            assert [one["external_reference"] for one in orders.values()] == ["venta-1"]
            assert {settled.order_id} == orders.keys()
        elif kind == "refund":
            assert [one["amount"] for one in await here.provider.refunds(order_id)] == ["30.00"]
            stored = await database.fetch("select amount::text from cuadre.refunds")
            assert [row["amount"] for row in stored] == ["30.00"]
        else:
            assert orders[order_id]["status"] == "canceled"
            assert await database.fetchval("select status from cuadre.orders") == "canceled"


def test_every_crash_point_of_the_desk_is_tried() -> None:
    named = {
        line.split('"')[1]
        for path in (ROOT / "service" / "desk").glob("*.py")
        for line in path.read_text().splitlines()
        if "crashpoints.reach(" in line
    }
    assert named == {point for _, point in CASES}
