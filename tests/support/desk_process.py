"""`python -m tests.support.desk_process`: a till with its desk, runner and sync worker, as a process that may die.

Reads a JSON object from its standard input: `dsn`, `url` (the provider's), `kind`, `order_id`. Asks for that command
under the key `crash`, and waits until it is settled.
"""

import asyncio
import json
import sys
from typing import Any

from service.database.pool import Database
from service.desk.desk import Desk
from service.desk.intents import CommandRow
from service.mercadopago.client import MercadoPagoClient
from service.sync.worker import Worker
from tests.support.desk import ACCOUNT, make_runner, qr


async def ask(desk: Desk, kind: str, order_id: str) -> CommandRow:
    """The one command that is tried."""
    if kind == "create":
        return await desk.create(ACCOUNT, qr(), key="crash", asked_by="till")
    if kind == "cancel":
        return await desk.cancel(order_id, key="crash", asked_by="till")
    return await desk.refund(order_id, payment_id=None, amount="30.00", key="crash", asked_by="till")


async def main(told: dict[str, Any]) -> None:
    """Until the command is settled."""
    database = await Database.connect(told["dsn"])
    async with MercadoPagoClient(told["url"]) as client:
        worker = Worker(database, client, concurrency=4, poll_seconds=0.05, lease_seconds=30)
        worker.follow([ACCOUNT])
        runner = make_runner(database, client, worker, {ACCOUNT.name: ACCOUNT})
        tasks = [asyncio.create_task(worker.run()), asyncio.create_task(runner.run())]
        desk = Desk(database, {ACCOUNT.name: ACCOUNT}.get, wake=runner.wake)
        asked = await ask(desk, told["kind"], told["order_id"])
        await desk.wait(asked.command_id, seconds=30)
        await runner.stop(within_seconds=5)
        await worker.stop(within_seconds=5)
        await asyncio.gather(*tasks)
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(json.load(sys.stdin)))
