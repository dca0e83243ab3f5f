"""What the elected process does for all, and only it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from service.database.pool import Database
from service.intake.record import NotificationRecorder
from service.sync import housekeeping as housekeeping_module
from service.sync.housekeeping import Housekeeping
from service.telemetry import metrics
from tests.support.deliveries import delivery
from tests.support.looking import open_discrepancies, see
from tests.support.orders import order, order_id, paid_order, refund, refunded_order
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _gauges_leave_nothing_behind() -> Iterator[None]:
    yield
    metrics.orders.clear()
    metrics.discrepancies_open.clear()


@asynccontextmanager
async def housekeeping(
    database: Database,
    holder: str,
    accounts: Sequence[str] = ("default",),
    gauges: Sequence[Callable[[Database], Awaitable[None]]] = (),
) -> AsyncIterator[Housekeeping]:
    keeper = Housekeeping(database, holder, accounts=lambda: accounts, gauges=gauges)
    task = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def page() -> str:
    return generate_latest(metrics.REGISTRY).decode()


async def shown(line: str) -> bool:
    return line in page()


async def test_the_elected_process_shows_the_database_and_takes_it_back_in_the_end(database: Database) -> None:
    wrong = refunded_order(3, "30.00")
    wrong["transactions"]["payments"][0]["refunded_amount"] = "10.00"
    await see(database, order(1), paid_order(2), wrong)
    await database.execute(
        "insert into cuadre.sync (order_id, account, trust, due_at, quarantined_at, quarantine_reason) values "
        "('ORDOLD', 'default', 1, now() - interval '1 h', null, null), "
        "('ORDGONE', 'default', 1, null, now(), 'not_found'), "
        "('ORDNOBODYS', 'removed', 1, now() - interval '9 h', null, null)"
    )
    assert "cuadre_orders_due" not in page()
    async with housekeeping(database, "me"):
        await until(lambda: shown('cuadre_orders{status="processed",type="qr"} 2.0'), what="orders are counted")
        await until(lambda: shown("cuadre_orders_due 1.0"), what="what is due, of accounts that somebody looks after")
        assert await shown("cuadre_orders_quarantined 1.0")
        assert await shown('cuadre_discrepancies_open{rule="refunded_amount_mismatch"} 1.0')
        assert await shown('cuadre_discrepancies_open{rule="refund_stuck"} 0.0'), "a rule with nothing open says so"
        assert await shown('cuadre_default_partition_rows{table="events"} 0.0')
        oldest = next(line for line in page().splitlines() if line.startswith("cuadre_oldest_due_seconds"))
        assert 3600 <= float(oldest.split()[1]) < 3700
    assert "cuadre_orders_due" not in page()


async def test_one_is_elected_and_the_next_takes_over_when_it_resigns(database: Database) -> None:
    async with housekeeping(database, "first") as first:

        async def elected() -> str | None:
            return await database.fetchval("select holder from cuadre.leaders where held_until > now()")  # type: ignore[no-any-return]  # a text column

        await until(elected, what="somebody is elected")
        async with housekeeping(database, "second"):
            assert await elected() == "first"
        await first.resign()
        assert await elected() is None
        async with housekeeping(database, "third"):
            await until(elected, what="another one is elected")
            assert await elected() == "third"


async def test_rules_that_time_alone_moves_are_judged_when_due(database: Database) -> None:
    stuck = paid_order(1)
    stuck["transactions"]["refunds"] = [refund(1, 1, "10.00", status="processing")]
    await see(database, stuck)
    await database.execute("update cuadre.refunds set first_seen_at = first_seen_at - interval '25 h'")
    await database.execute("update cuadre.orders set rules_due_at = now()")
    async with housekeeping(database, "me"):

        async def opened() -> bool:
            return {(one, rule) for one, rule, _ in await open_discrepancies(database)} == {
                (order_id(1), "refund_stuck")
            }

        await until(opened, what="the stuck refund is seen without a look")
        assert await database.fetchval("select count(*) from cuadre.events where type = 'discrepancy.opened'") == 1


async def test_the_months_ahead_are_made(database: Database) -> None:
    await database.execute("select 1 from cuadre.ensure_partitions(3)")
    last = await database.fetchval(
        "select max(relname::text) from pg_class where relname like 'notifications\\_2%' and relkind = 'r'"
    )
    await database.execute(f"drop table cuadre.{last}")
    async with housekeeping(database, "me"):

        async def made() -> bool:
            return bool(await database.fetchval("select to_regclass('cuadre.' || $1::text) is not null", last))

        await until(made, what="the month is made")


async def test_strangers_are_counted_apart_however_long_they_wait(database: Database) -> None:
    """Whoever forges notifications cannot make it look as if stored states were old."""
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    await asyncio.gather(*(recorder.record(delivery(order_id(n), verified=False)) for n in range(20)))
    await recorder.close()
    await database.execute("update cuadre.sync set due_at = now() - interval '2 h'")
    await see(database, paid_order(900))
    async with housekeeping(database, "me"):
        await until(lambda: shown("cuadre_strangers_due 20.0"), what="strangers are counted")
        assert await shown("cuadre_orders_due 0.0")
        assert await shown("cuadre_oldest_due_seconds 0.0")
        oldest = next(line for line in page().splitlines() if line.startswith("cuadre_oldest_stranger_due_seconds"))
        assert 7200 <= float(oldest.split()[1]) < 7300


async def test_strangers_that_the_provider_does_not_know_are_told_apart_in_quarantine(database: Database) -> None:
    await database.execute(
        "insert into cuadre.sync (order_id, account, trust, quarantined_at, quarantine_reason) values "
        "('ORDINVENTED', 'default', 0, now(), 'not_found'), ('ORDMALFORMED', 'default', 0, now(), 'bad_request'), "
        "('ORDREAL', 'default', 0, now(), 'unreadable'), ('ORDTOLD', 'default', 1, now(), 'not_found')"
    )
    async with housekeeping(database, "me"):
        await until(lambda: shown("cuadre_orders_quarantined 4.0"), what="the quarantine is counted")
        assert await shown("cuadre_strangers_quarantined 2.0")


async def test_strangers_leave_the_quarantine_after_a_month(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping_module, "FORGOTTEN_AT_ONCE", 2)
    await see(database, order(1))
    gone = [f"ORDGONE{number}" for number in range(5)]
    kept = {
        "ORDYOUNG": (0, "29 days", "not_found", None),
        "ORDTOLD": (1, "90 days", "not_found", None),
        "ORDREAL": (0, "90 days", "unreadable", None),
        "ORDASKED": (0, "90 days", "not_found", "1 h"),
    }
    for one, (trust, age, reason, ahead) in {
        **dict.fromkeys(gone, (0, "31 days", "not_found", None)),
        **kept,
    }.items():
        await database.execute(
            "insert into cuadre.sync (order_id, account, trust, quarantined_at, quarantine_reason, due_at) values "
            "($1, 'default', $2, now() - $3::text::interval, $4, now() + $5::text::interval)",
            one, trust, age, reason, ahead,
        )  # fmt: skip
    # Stored, whatever its row says.
    await database.execute(
        "update cuadre.sync set trust = 0, due_at = null, quarantine_reason = 'not_found', "
        "quarantined_at = now() - interval '90 days' where order_id = $1",
        order_id(1),
    )

    async def left() -> bool:
        rows = await database.fetch("select order_id from cuadre.sync")
        return {row["order_id"] for row in rows} == {*kept, order_id(1)}

    async with housekeeping(database, "me"):
        await until(left, what="what was invented is forgotten, and nothing else")


async def test_a_turn_forgets_so_many_strangers_and_the_next_turns_go_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "FORGOTTEN_AT_ONCE": 2,
        "FORGETTING_A_TURN": 3,
        "EVERY_SECONDS": 0,
        "COUNTING_SHARE": 1e9,
    }.items():
        monkeypatch.setattr(housekeeping_module, name, value)
    await database.execute(
        "insert into cuadre.sync (order_id, account, trust, quarantined_at, quarantine_reason) "
        "select 'ORDGONE' || n, 'default', 0, now() - interval '31 days', 'not_found' from generate_series(1, 13) as n"
    )
    left: list[int] = []

    async def look(reading: Database) -> None:
        left.append(await reading.fetchval("select count(*) from cuadre.sync"))

    async def all_gone() -> bool:
        return 0 in left

    async with housekeeping(database, "me", gauges=(look,)):
        await until(all_gone, what="what was invented is forgotten")
    assert left[:3] == [7, 1, 0]


async def test_gauges_that_take_long_to_read_are_read_less_often(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, read = 1000.0, ""

    async def quick(_: Database) -> None:
        nonlocal now, read
        now, read = now + 0.1, read + "q"

    async def slow(_: Database) -> None:
        nonlocal now, read
        now, read = now + 3.0, read + "S"

    async def turn_ends(_: float) -> None:
        nonlocal now
        now += 15.0
        await asyncio.sleep(0)

    async def six_turns() -> bool:
        return read.count("q") >= 6

    monkeypatch.setattr(housekeeping_module, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(housekeeping_module, "asyncio", SimpleNamespace(sleep=turn_ends))
    async with housekeeping(database, "me", gauges=(quick, slow)):
        await until(six_turns, what="six turns")
    assert read.startswith("qSqqqqS"), "3 s in every 60"


async def test_orders_of_an_account_that_is_not_configured_are_told_of(database: Database) -> None:
    await see(database, order(1), order(2), account="renamed")
    await see(database, order(3))
    await database.execute("update cuadre.sync set due_at = now() where order_id <> $1", order_id(2))
    with capture_logs() as lines:
        async with housekeeping(database, "me"):
            await until(lambda: shown("cuadre_orders_of_nobody 1.0"), what="what nobody reads is counted")
            await until(lambda: shown("cuadre_orders_due 1.0"), what="and what is due of the others")
    (told,) = [line for line in lines if line["event"] == "orders_of_nobody"]
    assert (told["log_level"], told["accounts"]) == ("warning", ["renamed"])
    assert "cuadre accounts move" in told["advice"]


async def test_nobody_is_told_of_where_every_account_is_configured(database: Database) -> None:
    await see(database, order(1), account="a")
    await see(database, order(2), account="b")
    await database.execute("update cuadre.sync set due_at = now()")
    with capture_logs() as lines:
        async with housekeeping(database, "me", accounts=("a", "b")):
            await until(lambda: shown("cuadre_orders_due 2.0"), what="what is due is counted")
            assert await shown("cuadre_orders_of_nobody 0.0")
    assert not [line for line in lines if line["event"] == "orders_of_nobody"]
