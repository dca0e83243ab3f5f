"""The standing sweep over real rows: what it marks, where it stands, what it waits for, and who leads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.audit import listing
from service.audit.completeness import LAG, Certificate, excuse, read_certificate
from service.audit.sweep import HOURS_A_ROUND, LEADER, RELISTED, RELISTED_A_ROUND, Sweep
from service.audit.windows import to_the_hour
from service.database.leases import resign, try_lead
from service.database.pool import Database
from service.mercadopago.account import Account
from service.mercadopago.errors import AccountRefused, BadRequest, RateLimited, ServerTrouble
from service.mercadopago.listing import OrdersPage
from service.sync.claims import claim_one, mark_order_due
from service.sync.gates import Gates
from service.telemetry import metrics
from tests.support.listing import Asked, BentList, entry, ids
from tests.support.looking import see
from tests.support.orders import order, order_id
from tests.support.waiting import until

LOOKBACK = timedelta(hours=6)
SHOP = Account("default", access_token="t", rate_per_second=500.0)


def ago(**span: float) -> datetime:
    return datetime.now(UTC) - timedelta(**span)


def sweeps(database: Database, shop: BentList, *accounts: Account, holder: str = "me", **arguments: Any) -> Sweep:
    gates = Gates(asyncio.get_running_loop().time)
    gates.follow(accounts or [SHOP])
    given: dict[str, Any] = {"lookback": LOOKBACK, "turn_seconds": 0.02, "clock": asyncio.get_running_loop().time}
    return Sweep(database, shop, gates, holder, **(given | arguments))


async def standing(database: Database, account: str = "default") -> Any:
    row = await database.fetchrow("select * from cuadre.sweeps where account = $1 and kind = 'sweep'", account)
    assert row is not None
    return row


async def marked(database: Database) -> set[str]:
    rows = await database.fetch(
        "select order_id from cuadre.sync where cause = 'sweep' and trust >= 1 and due_at <= now()"
    )
    return {row["order_id"] for row in rows}


async def store(database: Database, number: int, created: datetime, updated: datetime) -> None:
    body = order(number) | {"created_date": created.isoformat(), "last_updated_date": updated.isoformat()}
    await see(database, body)


async def test_unknown_and_older_orders_are_marked_due_and_known_ones_are_not(database: Database) -> None:
    created = ago(minutes=90)
    shop = BentList([entry(order_id(n), created, created + timedelta(minutes=n)) for n in range(1, 5)])
    await store(database, 1, created, created + timedelta(minutes=1))
    await store(database, 2, created, created)
    await store(database, 3, created, created + timedelta(minutes=30))
    await database.execute("update cuadre.sync set due_at = now() + interval '1 day'")
    before = {what: metrics.sweep_orders_total.labels(what)._value.get() for what in ("known", "unknown", "stale")}
    woken: list[bool] = []
    await sweeps(database, shop, on_marked=lambda: woken.append(True)).sweep_once("default")
    assert await marked(database) == {order_id(2), order_id(4)}
    assert woken
    row = await standing(database)
    assert (row["listed"], row["unknown"], row["stale"], row["last_error"]) == (4, 1, 1, None)
    assert row["position_at"] > ago(seconds=30)
    counted = {what: metrics.sweep_orders_total.labels(what)._value.get() - before[what] for what in before}
    assert counted == {"known": 2, "unknown": 1, "stale": 1}


async def test_ids_of_another_form_are_counted_and_left(database: Database) -> None:
    before = metrics.sweep_orders_total.labels("foreign")._value.get()
    shop = BentList([entry("01K371WBFDS4MD9JG0K8ZMECBE", ago(minutes=5))])
    await sweeps(database, shop).sweep_once("default")
    assert await database.fetchval("select count(*) from cuadre.sync") == 0
    assert metrics.sweep_orders_total.labels("foreign")._value.get() == before + 1
    assert (await standing(database))["listed"] == 1


async def test_a_new_account_begins_two_days_back_and_later_rounds_read_an_overlap_only(database: Database) -> None:
    shop = BentList()
    sweep = sweeps(database, shop, lookback=timedelta(hours=48))
    await sweep.sweep_once("default")
    assert ago(hours=52) < shop.asked[0].begin < ago(hours=48)
    certificate = await read_certificate(database, "default")
    assert certificate is not None
    # Its hours are settled a few at a time: two searches for each, beside the two for the whole.
    assert certificate.complete_until - certificate.complete_since == timedelta(hours=HOURS_A_ROUND)
    assert len(shop.asked) == 2 + 2 * HOURS_A_ROUND
    for _ in range(48 // HOURS_A_ROUND):
        await sweep.sweep_once("default")
    certificate = await read_certificate(database, "default")
    assert certificate is not None
    assert ago(hours=49, minutes=1) < certificate.complete_since <= ago(hours=48)
    assert certificate.complete_since.minute == 0
    assert certificate.complete_until > ago(hours=2)
    shop.asked.clear()
    await sweep.sweep_once("default")
    assert ago(hours=2, minutes=1) < shop.asked[0].begin <= ago(hours=2)


async def test_orders_that_the_list_shows_late_are_found_by_the_overlap(database: Database) -> None:
    shop = BentList()
    sweep = sweeps(database, shop)
    await sweep.sweep_once("default")
    shop.show(entry(order_id(1), ago(hours=1, minutes=50)))
    await sweep.sweep_once("default")
    assert await marked(database) == {order_id(1)}


async def test_a_failure_keeps_the_position_and_the_reason_and_the_next_round_goes_on(database: Database) -> None:
    shop = BentList([entry(order_id(n), ago(hours=5) + timedelta(minutes=n)) for n in range(250)])

    def fails(nth: int, asked: Asked) -> OrdersPage | None:
        if nth == 2:
            raise ServerTrouble("500: as told", status=500)
        return None

    shop.before = fails
    sweep = sweeps(database, shop, every_seconds=600.0, random=lambda: 0.0)
    async with running(sweep):
        await until_listed(database, 250)
        assert await errors(database) == {None}
    assert len(await marked(database)) == 250
    assert (await standing(database))["position_at"] > ago(minutes=1)


async def test_while_it_fails_the_position_stands_before_what_was_not_dealt_with(database: Database) -> None:
    shop = BentList([entry(order_id(n), ago(hours=5) + timedelta(minutes=n)) for n in range(250)])

    def fails(nth: int, asked: Asked) -> OrdersPage | None:
        if nth >= 2:
            raise ServerTrouble("500: as told", status=500)
        return None

    shop.before = fails
    async with running(sweeps(database, shop, random=lambda: 0.0)):

        async def is_noted() -> bool:
            return await errors(database) == {"server_error: 500: as told"}

        await until(is_noted, what="the failure is kept")
    position = (await standing(database))["position_at"]
    dealt_with = await marked(database)
    before = {one.order_id for one in shop.orders if one.created_at is not None and one.created_at < position}
    assert len(dealt_with) == 100
    assert before <= dealt_with
    certificate = await read_certificate(database, "default")
    assert certificate is not None
    assert certificate.complete_until == certificate.complete_since
    assert certificate.last_error == "server_error: 500: as told"


@pytest.mark.parametrize("statement", ["mark_listed", "move_sweep"])
async def test_marks_and_position_are_one_commit(
    database: Database, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """Killed between its statements, the page is read again as if it had never been."""
    from service.audit.completeness import QUERIES

    shop = BentList([entry(order_id(1), ago(minutes=5))])
    await sweeps(database, BentList()).sweep_once("default")
    before = dict(await standing(database))
    monkeypatch.setitem(QUERIES._statements, statement, "select 1 / 0")
    with pytest.raises(Exception, match=r"division by zero|expects 0 arguments"):
        await sweeps(database, shop).sweep_once("default")
    monkeypatch.undo()
    assert dict(await standing(database)) == before
    assert await marked(database) == set()
    await sweeps(database, shop).sweep_once("default")
    assert await marked(database) == {order_id(1)}


@pytest.mark.parametrize(("rate", "due_limit", "most"), [(500.0, 50, 50), (20.0, 2000, 80)])
async def test_no_more_orders_are_marked_at_a_time_than_are_looked_at_within_seconds(
    database: Database, rate: float, due_limit: int, most: int
) -> None:
    shop = BentList([entry(order_id(n), ago(hours=3) + timedelta(seconds=n)) for n in range(250)])
    sweep = sweeps(database, shop, replace(SHOP, rate_per_second=rate), due_limit=due_limit)
    task = asyncio.create_task(sweep.sweep_once("default"))

    async def waits_or_is_over() -> bool:
        return task.done() or len(await marked(database)) >= most

    times = 0
    while not task.done():
        await until(waits_or_is_over, what="as many as may be are marked")
        assert len(await marked(database)) <= most
        times += 1
        await database.execute(
            "update cuadre.sync set fetched = requested, due_at = now() + interval '1 day' where due_at <= now()"
        )
    await task
    assert times >= 250 // most
    assert await database.fetchval("select count(*) from cuadre.sync") == 250
    assert (await standing(database))["listed"] == 250


async def test_looks_that_only_the_schedule_brings_hold_up_no_sweep(database: Database) -> None:
    for number in range(60):
        await mark_order_due(database, order_id(number), "default")
    await database.execute("update cuadre.sync set fetched = requested")
    shop = BentList([entry(order_id(100), ago(minutes=5))])
    await sweeps(database, shop, due_limit=50).sweep_once("default")
    assert order_id(100) in await marked(database)


async def test_a_sweep_that_waits_for_looks_which_nobody_may_make_says_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.audit.sweep.SHUT_SECONDS", 0.0)
    for number in range(3):
        await mark_order_due(database, order_id(number), "default")
    sweep = sweeps(database, BentList(), due_limit=3)
    clock, gate = asyncio.get_running_loop().time, sweep._gates.gate("default")
    assert gate is not None
    shut = clock()

    def shuts(nth: int, asked: Asked) -> OrdersPage | None:
        raise AssertionError("the list is not read")

    async def refuses(account: Account) -> Any:
        gate.take(shut, known=1)
        gate.refused(shut)
        raise BadRequest("404", status=404)

    shop = sweep._client
    assert isinstance(shop, BentList)
    shop.before, shop.who_am_i = shuts, refuses  # type: ignore[method-assign]  # shuts the gate when it is asked
    await sweep._round("default")
    assert (await standing(database))["last_error"].startswith(
        "waiting: no look goes out for account default (refused)"
    )


async def test_a_slow_accounts_sweep_waits_while_a_look_is_due_and_not_for_one_under_way(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.audit.listing import ProviderList

    monkeypatch.setattr("service.audit.listing.ROOM_SECONDS", (0.01, 0.01))
    yielded, yields = 0, ProviderList._yields

    async def counted(self: Any, *arguments: Any) -> bool:
        nonlocal yielded
        answer = await yields(self, *arguments)
        yielded += answer
        return answer

    monkeypatch.setattr(ProviderList, "_yields", counted)
    await mark_order_due(database, order_id(1), "default")
    await mark_order_due(database, order_id(2), "another")
    shop = BentList()
    shop.clock = lambda: None
    sweep = sweeps(database, shop, Account("default", access_token="t", rate_per_second=19.0))
    task = asyncio.create_task(sweep.sweep_once("default"))

    async def has_yielded() -> bool:
        return yielded > 3

    await until(has_yielded, what="the sweep stood back")
    assert shop.asked == []
    assert await claim_one(database, order_id(1), lease_seconds=60) is not None
    await asyncio.wait_for(task, 20)
    assert shop.asked


async def test_a_search_that_is_told_to_wait_waits_by_itself_and_the_looks_go_on(database: Database) -> None:
    def limits(nth: int, asked: Asked) -> OrdersPage | None:
        raise RateLimited("429: as told", status=429, retry_after_seconds=30.0)

    shop = BentList(before=limits)
    sweep = sweeps(database, shop, every_seconds=0.0, random=lambda: 0.0)
    now = asyncio.get_running_loop().time()
    await sweep._round("default")
    assert sweep._next["default"] >= now + 30.0
    gate = sweep._gates.gate("default")
    assert gate is not None
    assert gate.paused(now) is None
    assert gate.rate_per_second == SHOP.rate_per_second


async def test_what_waits_already_is_not_marked_again_and_strangers_gain_trust(database: Database) -> None:
    await mark_order_due(database, order_id(1), "default")
    await database.execute(
        "insert into cuadre.sync (order_id, account, trust, requested, due_at, cause) "
        "values ($1, 'second', 0, 1, now(), 'notification')",
        order_id(2),
    )
    await mark_order_due(database, order_id(3), "default")
    assert await claim_one(database, order_id(3), lease_seconds=60) is not None
    shop = BentList([entry(order_id(n), ago(minutes=5)) for n in (1, 2, 3)])
    await sweeps(database, shop).sweep_once("default")
    rows = await database.fetch("select order_id, account, trust, requested, cause from cuadre.sync order by order_id")
    assert [tuple(row) for row in rows] == [
        (order_id(1), "default", 1, 1, "operator"),
        (order_id(2), "default", 1, 2, "sweep"),
        (order_id(3), "default", 1, 2, "sweep"),  # its look may have begun before the change
    ]


@pytest.mark.parametrize("provider_ahead", [timedelta(hours=-3), timedelta(0), timedelta(hours=3), None])
async def test_neither_our_clock_nor_the_providers_can_certify_an_hour_that_is_not_over(
    database: Database, provider_ahead: timedelta | None
) -> None:
    shop = BentList()
    shop.clock = lambda: None if provider_ahead is None else datetime.now(UTC) + provider_ahead
    sweep = sweeps(database, shop)
    for _ in range(3):
        await sweep.sweep_once("default")
    certificate = await read_certificate(database, "default")
    assert certificate is not None
    certain = datetime.now(UTC) + min(provider_ahead or timedelta(0), timedelta(0))
    assert certificate.complete_until + LAG <= certain
    assert certificate.complete_until + LAG > certain - timedelta(hours=1, minutes=1)
    assert (await standing(database))["position_at"] <= certain


async def test_a_position_in_the_future_is_not_believed(database: Database) -> None:
    """A clock that was ahead for a while leaves no gap behind."""
    shop = BentList()
    sweep = sweeps(database, shop)
    await sweep.sweep_once("default")
    await database.execute("update cuadre.sweeps set position_at = now() + interval '5 hours'")
    shop.show(entry(order_id(1), ago(minutes=30)))
    await sweep.sweep_once("default")
    assert await marked(database) == {order_id(1)}


async def test_one_process_leads_and_another_takes_over_at_once_when_it_resigns(database: Database) -> None:
    first_shop, second_shop = BentList(), BentList()
    first = sweeps(database, first_shop, holder="first", every_seconds=0.0)
    second = sweeps(database, second_shop, holder="second", every_seconds=0.0)
    async with running(first):
        await until(lambda: asked(first_shop), what="the first one sweeps")
        async with running(second):
            count = len(first_shop.asked)
            await until(lambda: asked(first_shop, count + 3), what="the first one goes on")
            assert second_shop.asked == []
            first_task = next(task for task in asyncio.all_tasks() if task.get_name() == "run first")
            first_task.cancel()
            await asyncio.gather(first_task, return_exceptions=True)
            await first.resign()
            count = len(first_shop.asked)
            await until(lambda: asked(second_shop, 3), what="the second one took over")
            assert len(first_shop.asked) == count


async def test_who_lost_the_lead_stops_sweeping(database: Database) -> None:
    shop = BentList()
    sweep = sweeps(database, shop, every_seconds=0.0)
    async with running(sweep):
        await until(lambda: asked(shop, 2), what="it sweeps")
        await resign(database, LEADER, "me")
        # Whoever asks first after that leads; ours may have been faster.
        while not await try_lead(database, LEADER, "other", 60):
            await resign(database, LEADER, "me")

        async def is_idle() -> bool:
            return not sweep._rounds

        await until(is_idle, what="its rounds are over")
        await asyncio.sleep(0)
        count = len(shop.asked)
        beats = 0

        def beat() -> None:
            nonlocal beats
            beats += 1

        sweep._beat = beat

        async def went_round() -> bool:
            return beats > 3

        await until(went_round, what="it went round idly")
        assert len(shop.asked) == count


async def test_a_database_that_is_missing_for_a_while_is_waited_for(own_postgres: Any) -> None:
    from service.database.migrations import migrate

    await migrate(own_postgres.dsn)
    database = await Database.connect(own_postgres.dsn, max_size=2)
    try:
        shop = BentList([entry(order_id(1), ago(minutes=5))])
        async with running(sweeps(database, shop, every_seconds=0.05)):
            await until(lambda: asked(shop, 2), what="it sweeps")
            own_postgres.stop("immediate")
            own_postgres.start()
            count = len(shop.asked)
            await until(lambda: asked(shop, count + 3), what="it sweeps again")
        assert await marked(database) == {order_id(1)}
    finally:
        await database.close()


async def test_a_sweep_that_waits_for_a_paused_account_says_so_and_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SHUT_SECONDS", 0.0)
    shop = BentList()
    shop.show(entry(order_id(1), ago(minutes=90)))
    clock = asyncio.get_running_loop().time
    gates = Gates(clock)
    gates.follow([SHOP])
    sweep = Sweep(database, shop, gates, "me", lookback=LOOKBACK, turn_seconds=0.02, clock=clock)
    await sweep.sweep_once("default")
    gate = gates.gate("default")
    assert gate is not None
    gate.take(clock(), known=1)
    gate.refused(clock())
    asked = len(shop.asked)
    running = asyncio.create_task(sweep.run())
    try:

        async def is_told() -> bool:
            found = await read_certificate(database, "default")
            return found is not None and (found.last_error or "").startswith("waiting: nothing goes out for account")

        await until(is_told, what="the certificate says why it stands")
        assert len(shop.asked) == asked
        certificate = await read_certificate(database, "default")
        assert certificate is not None
        assert not certificate.is_blocked, "the pause has its own alert"
        gates.follow([replace(SHOP, access_token="another")])
        gate = gates.gate("default")
        assert gate is not None
        gate.take(clock(), known=1)
        gate.succeeded(clock())

        async def goes_on() -> bool:
            return len(shop.asked) > asked and (await standing(database))["last_error"] is None

        await until(goes_on, what="the list is read again")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_refused_token_is_the_accounts_trouble_and_others_are_swept(database: Database) -> None:
    class Two(BentList):
        async def who_am_i(self, account: Account) -> Any:
            if account.name == "bad":
                raise AccountRefused("401: unauthorized", status=401, outcome="unauthorized")
            return await super().who_am_i(account)

    shop = Two([entry(order_id(1), ago(minutes=5))])
    bad = Account("bad", access_token="x")
    async with running(sweeps(database, shop, bad, SHOP, Account("without"))):

        async def is_marked() -> bool:
            return await marked(database) == {order_id(1)}

        await until(is_marked, what="the good account is swept")
    assert ids(shop.orders) == {order_id(1)}
    assert {one.account for one in shop.asked} == {"default"}


class LateShop:
    """A list that is up to its time but for one order, 20 hours old, which it shows when all is certified."""

    def __init__(self, database: Database) -> None:
        self.database, self.list = database, BentList()
        self.late = entry(order_id(1), ago(hours=20))
        self.sweep = sweeps(database, self.list, lookback=timedelta(hours=30))

    async def certify_all(self) -> None:
        """With the late order in the list, which the second reading alone can find."""
        for _ in range(8):
            await self.sweep.sweep_once("default")
        self.list.show(self.late)
        await self.sweep.sweep_once("default")
        assert await marked(self.database) == set()
        assert (await self.certificate()).complete_until > ago(hours=2)

    async def read_again(self) -> None:
        """A day later; as many rounds as the second reading takes."""
        await self.database.execute(
            "update cuadre.sweeps set started_at = started_at - interval '1 day' where kind = 'relisting'"
        )
        for _ in range(RELISTED // RELISTED_A_ROUND):
            await self.sweep.sweep_once("default")

    async def certificate(self) -> Certificate:
        found = await read_certificate(self.database, "default")
        assert found is not None
        return found


async def test_an_order_that_the_list_shows_a_day_late_is_found_and_the_certificate_goes_back_to_its_hour(
    database: Database,
) -> None:
    shop = LateShop(database)
    await shop.certify_all()
    before = await shop.certificate()
    with capture_logs() as logs:
        await shop.read_again()
    assert await marked(database) == {order_id(1)}
    certificate = await shop.certificate()
    assert shop.late.created_at is not None
    assert (certificate.complete_since, certificate.complete_until, certificate.blocked_by) == (
        before.complete_since,
        to_the_hour(shop.late.created_at),
        (order_id(1),),
    )
    [taken_back] = [line for line in logs if line["event"] == "completeness_taken_back"]
    assert (taken_back["log_level"], taken_back["orders"]) == ("warning", (order_id(1),))
    await store(database, 1, shop.late.created_at, shop.late.created_at)
    for _ in range(6):
        await shop.sweep.sweep_once("default")
    certificate = await shop.certificate()
    assert (certificate.complete_since, certificate.complete_until, certificate.blocked_by) == (
        before.complete_since,
        before.complete_until,
        (),
    )


@pytest.mark.parametrize(
    "silent", ["blind_types = '{qr}'", "types_since = jsonb_build_object('qr', date_trunc('hour', now()))"]
)
async def test_a_late_order_of_a_type_that_the_certificate_does_not_speak_of_takes_back_nothing(
    database: Database, silent: str
) -> None:
    shop = LateShop(database)
    await shop.certify_all()
    await database.execute(f"update cuadre.completeness set {silent}")
    before = await shop.certificate()
    await shop.read_again()
    assert await marked(database) == {order_id(1)}
    certificate = await shop.certificate()
    assert (certificate.complete_since, certificate.blocked_by) == (before.complete_since, ())
    assert certificate.complete_until >= before.complete_until


@pytest.mark.parametrize("known_as", ["stored", "excused", "created before the certificate begins"])
async def test_a_second_reading_takes_nothing_back_for_what_is_accounted_for(database: Database, known_as: str) -> None:
    shop = LateShop(database)
    if known_as.startswith("created"):
        shop.late = entry(order_id(1), ago(hours=40))
    await shop.certify_all()
    assert shop.late.created_at is not None
    if known_as == "stored":
        await store(database, 1, shop.late.created_at, shop.late.created_at - timedelta(minutes=1))
    elif known_as == "excused":
        await mark_order_due(database, order_id(1), "default")
        await excuse(database, [order_id(1)], "a test order")
    before = await shop.certificate()
    await shop.read_again()
    after = await shop.certificate()
    assert (after.complete_until, after.blocked_by) == (before.complete_until, ())
    assert await database.fetchval("select count(*) from cuadre.sync where due_at <= now()") == 1


async def test_a_second_reading_comes_once_a_day_and_goes_on_where_it_was_interrupted(database: Database) -> None:
    shop = LateShop(database)
    await shop.certify_all()

    def fails(nth: int, asked: Asked) -> OrdersPage | None:
        if ago(hours=62) < asked.begin < ago(hours=32):
            raise ServerTrouble("500: as told", status=500)
        return None

    shop.list.before = fails
    with pytest.raises(ServerTrouble):
        await shop.read_again()
    begun = await database.fetchrow("select * from cuadre.sweeps where kind = 'relisting'")
    assert begun is not None
    assert begun["finished_at"] is None
    assert ago(hours=62) < begun["position_at"] < ago(hours=54)
    shop.list.before = lambda nth, asked: None
    shop.list.asked.clear()
    for _ in range(RELISTED // RELISTED_A_ROUND):
        await shop.sweep.sweep_once("default")
    assert min(one.begin for one in shop.list.asked) >= begun["position_at"] - timedelta(minutes=2)
    ended = await database.fetchrow("select * from cuadre.sweeps where kind = 'relisting'")
    assert ended is not None
    assert ended["finished_at"] is not None
    assert ended["started_at"] == begun["started_at"]
    shop.list.asked.clear()
    await shop.sweep.sweep_once("default")
    assert min(one.begin for one in shop.list.asked) > ago(hours=21), "the next one is due in a day"


async def test_a_list_that_contradicts_itself_is_gone_by_for_what_it_shows_and_stops_no_second_reading(
    database: Database,
) -> None:
    shop = LateShop(database)
    shop.late = entry(order_id(1), ago(hours=40))
    await shop.certify_all()
    hidden, shown = ago(hours=39), shop.list.page

    def counts_one_too_many(begin: datetime, end: datetime, page: int, page_size: int) -> OrdersPage:
        found = shown(begin, end, page, page_size)
        return replace(found, total=(found.total or 0) + 1) if begin <= hidden <= end else found

    shop.list.page = counts_one_too_many  # type: ignore[method-assign]  # as its own, but for one hour's count
    await shop.read_again()
    assert await marked(database) == {order_id(1)}
    assert await database.fetchval("select finished_at is not null from cuadre.sweeps where kind = 'relisting'")


async def test_a_provider_that_does_not_say_who_the_token_is_is_swept_and_not_asked_again_soon(
    database: Database,
) -> None:
    asked_for: list[str] = []

    class Mute(BentList):
        async def who_am_i(self, account: Account) -> Any:
            asked_for.append(account.name)
            raise BadRequest("404: as told", status=404)

    shop = Mute([entry(order_id(1), ago(minutes=5))])
    now = [0.0]
    sweep = sweeps(database, shop, every_seconds=300.0, clock=lambda: now[0])
    for moment in (0.0, 5.0, 299.0):
        now[0] = moment
        await sweep.sweep_once("default")
    assert await marked(database) == {order_id(1)}
    assert asked_for == ["default"]
    now[0] = 300.0
    await sweep.sweep_once("default")
    assert asked_for == ["default", "default"]


async def test_a_refused_token_is_not_tried_again_before_the_next_round(database: Database) -> None:
    shop = BentList(refuses=AccountRefused("401: unauthorized", status=401))
    sweep = sweeps(database, shop, every_seconds=300.0, random=lambda: 0.0, clock=lambda: 1000.0)
    await sweep._round("default")
    assert sweep._next["default"] == 1300.0


async def test_a_fault_of_ours_in_one_round_ends_no_other(database: Database) -> None:
    def breaks(nth: int, asked_for: Asked) -> OrdersPage | None:
        if nth == 1:
            raise RuntimeError("a mistake")
        return None

    shop = BentList([entry(order_id(1), ago(minutes=5))], before=breaks)
    async with running(sweeps(database, shop, every_seconds=0.0)):

        async def is_marked() -> bool:
            return await marked(database) == {order_id(1)}

        await until(is_marked, what="the next round finds it")


@asynccontextmanager
async def running(sweep: Sweep) -> AsyncIterator[None]:
    """The loop, until the block ends."""
    task = asyncio.create_task(sweep.run(), name=f"run {sweep._holder}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def asked(shop: BentList, count: int = 1) -> bool:
    return len(shop.asked) >= count


async def until_listed(database: Database, count: int) -> None:
    async def listed() -> bool:
        return int(await database.fetchval("select count(*) from cuadre.sync")) >= count and await errors(database) == {
            None
        }

    await until(listed, what=f"{count} orders are marked")


async def errors(database: Database) -> set[str | None]:
    rows = await database.fetch("select last_error from cuadre.sweeps where kind = 'sweep'")
    return {row["last_error"] for row in rows}
