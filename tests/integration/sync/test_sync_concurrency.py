"""Eight writers on one small set of orders: no deadlock, no lost mark, and the newest answer stands."""

import asyncio
import random

from service.database.pool import Database
from service.intake.record import NotificationRecorder
from service.sync.apply import apply_looks
from service.sync.claims import Lane, claim_due
from tests.support.deliveries import delivery
from tests.support.looking import look
from tests.support.orders import order, order_id, paid_order

ORDERS = 12
FLUSHES = 40
LANES = [Lane("default", known=True, room=5), Lane("default", known=False, room=5)]


class Provider:
    """What `GET` would answer: every notification bumps the order's time."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(range(1, ORDERS + 1), 0)

    def answer(self, number: int) -> dict[str, object]:
        seconds = self.seconds[number]
        # All share two references, so that the locks of the duplicate rule are contended, too.
        body = paid_order(number, seconds=seconds) if seconds % 2 else order(number, seconds=seconds)
        return body | {"external_reference": f"shared-{number % 2}", "description": f"at {seconds}"}


# In the order of the keys, like every statement of the service that touches several of these rows.
DUE_AT_ONCE = """
with owed as (select order_id from cuadre.sync where fetched < requested order by order_id for update)
update cuadre.sync as s set due_at = now() from owed where s.order_id = owed.order_id
"""


async def test_eight_writers_no_deadlock_no_lost_mark(database_dsn: str) -> None:
    provider, chance = Provider(), random.Random(20)
    databases = [await Database.connect(database_dsn, max_size=3, pin_plans=True) for _ in range(8)]
    recorders = [NotificationRecorder(database, on_committed=lambda: None) for database in databases[:4]]
    notified = 0
    intake_ended = asyncio.Event()

    async def notify(recorder: NotificationRecorder) -> None:
        nonlocal notified
        for _ in range(FLUSHES):
            numbers = chance.sample(range(1, ORDERS + 1), 6)
            for number in numbers:
                provider.seconds[number] += 1
            notified += len(numbers)
            await asyncio.gather(
                *(
                    recorder.record(delivery(order_id(n), verified=chance.random() < 0.7, version=provider.seconds[n]))
                    for n in numbers
                )
            )

    async def work(database: Database) -> None:
        while True:
            ended = intake_ended.is_set()
            claims = await claim_due(database, LANES, lease_seconds=30)
            if not claims and ended:
                owed = await database.fetchval("select count(*) from cuadre.sync where fetched < requested")
                if not owed:
                    return
                await database.execute(DUE_AT_ONCE)
            # The answer is taken after the claim, as a fetch would; the batch is applied in a random order.
            looks = [look(claim, provider.answer(int(claim.order_id[3:]))) for claim in claims]
            await asyncio.sleep(0)
            chance.shuffle(looks)
            await apply_looks(database, looks) if looks else await asyncio.sleep(0.005)

    try:
        async with asyncio.timeout(90):
            workers = [asyncio.create_task(work(database)) for database in databases[4:]]
            await asyncio.gather(*(notify(recorder) for recorder in recorders))
            intake_ended.set()
            await asyncio.gather(*workers)
        rows = await databases[0].fetch("select o.order_id, o.description, o.version from cuadre.orders as o")
        assert {row["order_id"]: row["description"] for row in rows} == {
            order_id(number): f"at {seconds}" for number, seconds in provider.seconds.items()
        }
        assert await databases[0].fetchval("select sum(requested) from cuadre.sync") == notified
        assert await databases[0].fetchval("select sum(copies) from cuadre.notifications") == notified
        gaps = await databases[0].fetchval(
            """select count(*) from cuadre.orders as o where o.version <> (
                select count(distinct version) from cuadre.order_versions as v where v.order_id = o.order_id)"""
        )
        assert gaps == 0
        unannounced = await databases[0].fetchval(
            """select count(*) from cuadre.order_versions as v where 1 <> (
                select count(*) from cuadre.events as e
                where e.order_id = v.order_id and e.version = v.version and e.type = 'order.changed')"""
        )
        assert unannounced == 0
    finally:
        for recorder in recorders:
            await recorder.close()
        for database in databases:
            await database.close()
