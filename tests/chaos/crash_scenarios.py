"""What a trial does up to its crash, and what the next life does again: intake, apply, sweep, backfill.

Every trial has an account and orders of its own, so that all share one database. Each scenario is written so that it
can be begun anew after a crash anywhere: as the process that is started again would.
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from service.accounts import AccountBook
from service.audit.backfill import BackfillRun
from service.audit.listing import ProviderList
from service.audit.sweep import Sweep
from service.cli.look_now import LookNow
from service.database.pool import Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.settings import Settings
from service.sync.gates import Gates
from service.sync.positions import assign_positions
from service.sync.worker import Worker
from tests.support.listing import BentList, entry
from tests.support.orders import order, order_id, paid_order, payment_id, refunded_order
from tests.support.public_port import SECRET, public_port, signature
from tests.support.waiting import until

Task = Mapping[str, Any]
Scenario = Callable[[Task, int, type], Awaitable[None]]
LEASE_SECONDS: Final = 1.0
SETTLED: Final = timedelta(minutes=90)


def number(trial: int, place: int) -> int:
    """The number of a trial's order; `place` is below 10."""
    return trial * 10 + place


def account_of(trial: int) -> Account:
    return Account(f"t{trial}", access_token="t", webhook_secrets=(SECRET,), rate_per_second=10_000.0)


def bodies_before(trial: int) -> list[dict[str, Any]]:
    """What is stored when the scenario begins: a paid order, one whose books are wrong, and one that rests."""
    wrong = refunded_order(number(trial, 2), "30.00", **_reference(trial, 2))
    wrong["transactions"]["payments"][0]["refunded_amount"] = "31.00"
    return [
        paid_order(number(trial, 1), **_reference(trial, 1)),
        wrong,
        order(number(trial, 4), **_reference(trial, 4)),
    ]


def bodies_after(trial: int) -> list[dict[str, Any]]:
    """The provider's truth: a refund of a stranger's payment, the books put right, a second sale of a reference."""
    strange = refunded_order(number(trial, 1), "30.00", **_reference(trial, 1))
    strange["transactions"]["refunds"][0]["transaction_id"] = payment_id(number(trial, 9))
    right = refunded_order(number(trial, 2), "30.00", seconds=180, **_reference(trial, 2))
    second = paid_order(number(trial, 3), **_reference(trial, 1))
    return [strange, right, second, order(number(trial, 4), **_reference(trial, 4))]


def _reference(trial: int, place: int) -> dict[str, Any]:
    return {"external_reference": f"trial-{trial}-{place}"}


def shown_in_the_list(trial: int) -> BentList:
    """The provider's list of the trial's account: an order that rests, two that changed, one that is unknown."""
    # In one hour, and not at its edges, which two hours' readings have in common.
    created = (datetime.now(UTC) - SETTLED).replace(minute=20)
    entries = []
    for place, body in enumerate(bodies_after(trial)):
        updated = datetime.fromisoformat(body["last_updated_date"])
        entries.append(entry(body["id"], created + timedelta(minutes=place), updated))
    return BentList(entries)


async def intake(task: Task, trial: int, observer: type) -> None:
    """Three deliveries, one of them a copy and one unsigned; every 200 is written down the moment it is had."""
    del observer
    database = await Database.connect(task["dsn"], max_size=2)
    first, second = order_id(number(trial, 1)), order_id(number(trial, 5))
    async with public_port(database, account_of(trial)) as port:
        for about, headers in ((first, signature(first)), (second, {}), (first, signature(first))):
            status, _ = await port.post(
                b'{"action":"order.processed","type":"order"}',
                query={"data.id": about, "type": "order"},
                path=f"/webhooks/mercadopago/t{trial}",
                headers=headers,
            )
            assert status == 200, status
            _tell(task, f"{trial} {about}")
    await database.close()


async def apply(task: Task, trial: int, observer: type) -> None:
    """A worker serves what is due, all in one batch or in several."""
    database = await Database.connect(task["dsn"], max_size=4)
    ids = [body["id"] for body in bodies_after(trial)]
    looking_on: Any = await asyncpg.connect(task["dsn"], connection_class=observer)
    async with MercadoPagoClient(task["url"], total_timeout_seconds=5) as client:
        worker = Worker(database, client, concurrency=8, poll_seconds=0.05, lease_seconds=LEASE_SECONDS)
        worker.follow([account_of(trial)])
        running = asyncio.create_task(worker.run())

        async def is_served() -> bool:
            return bool(await looking_on.fetchval(
                "select count(*) = $2 from cuadre.sync where order_id = any($1) and fetched >= requested",
                ids, len(ids),
            ))  # fmt: skip

        await until(is_served, what="all are served", seconds=15)
        await worker.stop(within_seconds=5)
        await running
    await _number_events(database)
    await looking_on.close()
    await database.close()


async def sweep(task: Task, trial: int, observer: type) -> None:
    """One reading of the account's list, and the hours it certifies."""
    del observer
    database = await Database.connect(task["dsn"], max_size=2)
    gates = Gates(asyncio.get_running_loop().time)
    gates.follow([account_of(trial)])
    lookback = timedelta(hours=3)
    sweeping = Sweep(database, shown_in_the_list(trial), gates, f"holder-{os.getpid()}", lookback=lookback)
    await sweeping.sweep_once(f"t{trial}")
    await database.close()


async def backfill(task: Task, trial: int, observer: type) -> None:
    """A range is listed, and what is unknown or older in it is looked at."""
    del observer
    database = await Database.connect(task["dsn"], max_size=4)
    book = AccountBook([account_of(trial)])
    gates = Gates(asyncio.get_running_loop().time)
    gates.follow(book)
    settings = Settings(mercadopago_url=task["url"], lease_seconds=LEASE_SECONDS)
    begin = datetime.fromisoformat(task["begin"])
    async with LookNow(settings, book, database) as looks:

        async def look(order_id: str, of: str | None) -> str | None:
            return (await looks.look(order_id, of, timeout_seconds=15)).error

        run = BackfillRun(
            database, ProviderList(shown_in_the_list(trial), gates, f"t{trial}"), look, account=f"t{trial}",
            from_at=begin, to_at=begin + timedelta(days=1), random=random.random,
        )  # fmt: skip
        now = datetime.now(UTC)
        await run.begin(now)
        result = await run.run(now)
        assert result.finished
        assert result.failures == []
    await _number_events(database)
    await database.close()


async def _number_events(database: Database) -> None:
    await until(lambda: assign_positions(database), what="nobody else numbers events")


def _tell(task: Task, line: str) -> None:
    """Written at once: a line that is there was really said."""
    descriptor = os.open(task["told"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "intake": intake, "apply": apply, "sweep": sweep, "backfill": backfill,
}  # fmt: skip


def told(lines: Sequence[str]) -> dict[int, list[str]]:
    """Trial -> order ids that were answered 200, from the lines that were written down."""
    answered: dict[int, list[str]] = {}
    for line in lines:
        trial, about = line.split()
        answered.setdefault(int(trial), []).append(about)
    return answered
