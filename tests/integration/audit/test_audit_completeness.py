"""The certificate against everything that tries to make it move wrongly."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from prometheus_client import Gauge

from service.audit.completeness import (
    HOUR,
    LAG,
    PATIENCE,
    QUERIES,
    Certificate,
    certify,
    excuse,
    read_certificate,
    read_certificates,
    read_excused,
    refresh_gauges,
    settle_hour,
    take_excuse_back,
)
from service.audit.completeness import HourPass as Pass
from service.audit.windows import ListBrokenError, Window
from service.database.pool import Database
from service.mercadopago.errors import ServerTrouble
from service.mercadopago.listing import OrdersPage
from service.telemetry import metrics
from tests.support.listing import Asked, BentList, entry
from tests.support.looking import see
from tests.support.orders import order, order_id, paid_order

NOON = datetime(2026, 9, 14, 12, 0, 0, tzinfo=UTC)
PASSED = NOON + HOUR + LAG
PAGE = 5
FOREIGN = "QRX01J8000000000000000000000"


def stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Shop:
    """One account whose certificate stands at noon, its list at the provider, and what is stored of it."""

    def __init__(self, database: Database, account: str = "default") -> None:
        self.database, self.account, self.list = database, account, BentList()

    async def begin(self, since: datetime = NOON) -> None:
        await self.database.execute(QUERIES.begin_certificate, self.account, since)

    def sell(self, *numbers: int, minutes: float = 10, kind: str = "qr") -> None:
        """At the provider only; order `n` is created `n` seconds after the minute."""
        for number in numbers:
            self.list.show(entry(order_id(number), self.created(number, minutes), kind=kind))

    def created(self, number: int, minutes: float = 10) -> datetime:
        return NOON + timedelta(minutes=minutes, seconds=number)

    async def store(self, *numbers: int, minutes: float = 10, updated: datetime | None = None, **fields: Any) -> None:
        """As the worker would, as of the creation or of a later change."""
        for number in numbers:
            created = self.created(number, minutes)
            dates = {"created_date": stamp(created), "last_updated_date": stamp(updated or created)}
            await see(self.database, order(number) | dates | fields, account=self.account)

    async def certify(self, now: datetime = PASSED, *, lag: timedelta = LAG) -> bool:
        async def ask(window: Window) -> OrdersPage:
            return await self._search(window, PAGE)

        async def count(window: Window) -> OrdersPage:
            return await self._search(window, 1)

        return await certify(self.database, self.account, ask, now, count=count, lag=lag)

    async def _search(self, window: Window, size: int) -> OrdersPage:
        asked = Asked(self.account, window.begin, window.end, window.page, size)
        self.list.asked.append(asked)
        instead = self.list.before(len(self.list.asked), asked)
        return instead if instead is not None else self.list.page(window.begin, window.end, window.page, size)

    async def certificate(self) -> Certificate:
        found = await read_certificate(self.database, self.account)
        assert found is not None
        return found

    async def hours(self) -> float:
        """How many hours are certified."""
        one = await self.certificate()
        return (one.complete_until - one.complete_since) / HOUR

    async def due(self) -> set[str]:
        rows = await self.database.fetch("select order_id from cuadre.sync where cause = 'sweep' and due_at <= now()")
        return {row["order_id"] for row in rows}


@pytest.fixture
async def shop(database: Database) -> Shop:
    one = Shop(database)
    await one.begin()
    return one


async def test_it_moves_by_whole_hours_over_what_is_stored(shop: Shop) -> None:
    shop.sell(1, 2, 3)
    shop.sell(4, minutes=80)
    await shop.store(1, 2, 3)
    await shop.store(4, minutes=80)
    assert await shop.certify(PASSED) is False
    assert await shop.hours() == 1
    await shop.certify(NOON + 3 * HOUR + LAG)
    assert await shop.hours() == 3
    certificate = await shop.certificate()
    assert (certificate.complete_since, certificate.complete_until) == (NOON, NOON + 3 * HOUR)
    assert (certificate.blocked_by, certificate.last_error, certificate.blind_types) == ((), None, ())


async def test_it_waits_for_the_lag_after_the_hours_end(shop: Shop) -> None:
    await shop.certify(PASSED - timedelta(seconds=1))
    assert await shop.hours() == 0
    assert shop.list.asked == []
    await shop.certify(PASSED)
    assert await shop.hours() == 1


async def test_an_order_that_is_not_stored_blocks_it_and_is_marked_due(shop: Shop) -> None:
    shop.sell(1, 2)
    await shop.store(1)
    assert await shop.certify() is True
    certificate = await shop.certificate()
    assert certificate.complete_until == NOON
    assert certificate.blocked_by == (order_id(2),)
    assert certificate.is_blocked
    assert await shop.due() == {order_id(2)}
    await shop.store(2)
    await shop.certify()
    assert await shop.hours() == 1
    assert (await shop.certificate()).blocked_by == ()


async def test_an_order_that_is_stored_older_blocks_it_and_one_that_is_stored_newer_does_not(shop: Shop) -> None:
    shop.sell(1, 2)
    await shop.store(1)
    await shop.store(2, updated=NOON + timedelta(minutes=50))
    shop.list.touch(order_id(1), NOON + timedelta(minutes=40))
    shop.list.touch(order_id(2), NOON + timedelta(minutes=40))
    await shop.certify()
    assert (await shop.certificate()).blocked_by == (order_id(1),)
    assert await shop.due() == {order_id(1)}
    await shop.store(1, updated=NOON + timedelta(minutes=40), status="canceled")
    await shop.certify()
    assert await shop.hours() == 1


async def test_a_change_that_the_list_dates_later_than_the_order_does_is_known_once_the_order_is_read(
    shop: Shop,
) -> None:
    shop.sell(1)
    await shop.store(1)
    shop.list.touch(order_id(1), shop.created(1) + timedelta(microseconds=400))
    await shop.certify()
    assert (await shop.certificate()).blocked_by == (order_id(1),)
    await shop.certify()
    assert (await shop.certificate()).blocked_by == (order_id(1),), "it was read before the list told of the change"
    await shop.store(1)
    await shop.certify()
    assert await shop.hours() == 1
    # A mark that is gone was answered by a look.
    await shop.database.execute("update cuadre.completeness set complete_until = complete_since")
    await shop.database.execute("update cuadre.sync set marked_at = null")
    await shop.certify()
    assert await shop.hours() == 1
    # What changes later is a change like any other.
    shop.list.touch(order_id(1), NOON + timedelta(minutes=50))
    await shop.database.execute("update cuadre.completeness set complete_until = complete_since")
    await shop.certify()
    assert (await shop.certificate()).blocked_by == (order_id(1),)
    assert await shop.due() == {order_id(1)}


async def test_an_answer_that_is_older_than_the_list_is_not_believed_for_ten_minutes(shop: Shop) -> None:
    """A replica of the provider's may lag behind its list: the order is asked for again until it cannot any more."""
    shop.sell(1)
    shop.list.touch(order_id(1), datetime.now(UTC) - timedelta(minutes=1))
    await shop.certify()
    for _ in range(2):
        await shop.store(1)
        await shop.certify()
        assert (await shop.certificate()).blocked_by == (order_id(1),)
        assert await shop.due() == {order_id(1)}
    await shop.store(1)
    await shop.database.execute("update cuadre.orders set claimed_at = claimed_at + interval '10 minutes'")
    await shop.certify()
    assert await shop.hours() == 1


async def test_a_stored_date_far_ahead_hides_no_later_change_that_is_listed(shop: Shop) -> None:
    shop.sell(1)
    await shop.store(1, updated=datetime.now(UTC) + timedelta(days=900))
    await shop.certify()
    assert await shop.hours() == 0
    assert await shop.due() == {order_id(1)}
    shop.list.touch(order_id(1), NOON + timedelta(minutes=40))
    await shop.store(1, updated=NOON + timedelta(minutes=40), status="canceled")
    assert await shop.database.fetchval("select status from cuadre.orders") == "canceled"
    await shop.certify()
    assert await shop.hours() == 1


async def test_a_listed_date_far_ahead_blocks_nothing_and_costs_no_look_again_and_again(shop: Shop) -> None:
    shop.sell(1, 2)
    for number in (1, 2):
        shop.list.touch(order_id(number), datetime.now(UTC) + timedelta(days=900))
    await shop.store(1)
    await shop.certify()
    assert (await shop.certificate()).blocked_by == (order_id(2),), "what is not stored is missing, whatever its date"
    assert await shop.due() == {order_id(2)}
    await shop.store(2)
    await shop.certify()
    assert await shop.hours() == 1


async def test_the_same_date_far_ahead_in_the_list_and_here_is_known(shop: Shop) -> None:
    shop.sell(1)
    ahead = (datetime.now(UTC) + timedelta(hours=3)).replace(microsecond=0)
    shop.list.touch(order_id(1), ahead)
    await shop.store(1, updated=ahead)
    await shop.certify()
    assert await shop.hours() == 1


@pytest.mark.parametrize("tried", ["long ago", "a moment ago"])
async def test_an_order_in_quarantine_is_not_marked_again_within_six_hours_of_its_last_mark(
    shop: Shop, tried: str
) -> None:
    """However long it has been in quarantine."""
    shop.sell(1)
    await shop.certify()
    await shop.database.execute(
        "update cuadre.sync set due_at = null, quarantined_at = now() - interval '7 hours', "
        "quarantine_reason = 'unreadable', marked_at = now() - $1::interval",
        timedelta(hours=7) if tried == "long ago" else timedelta(minutes=5),
    )
    await shop.certify()
    assert await shop.due() == ({order_id(1)} if tried == "long ago" else set())


async def test_where_the_list_tells_no_update_it_is_enough_that_the_order_is_stored(shop: Shop) -> None:
    shop.list.show(entry(order_id(1), None))
    await shop.store(1)
    await shop.certify()
    assert await shop.hours() == 1


async def test_an_id_of_a_form_that_nobody_knows_blocks_it_and_is_left_alone(shop: Shop) -> None:
    shop.list.show(entry(FOREIGN, NOON + timedelta(minutes=3)))
    await shop.certify()
    assert (await shop.certificate()).blocked_by == (FOREIGN,)
    assert await shop.database.fetchval("select count(*) from cuadre.sync") == 0


async def test_an_order_in_quarantine_blocks_it_visibly_and_is_not_tried_at_every_pass(shop: Shop) -> None:
    shop.sell(1)
    await shop.certify()
    await shop.database.execute(
        "update cuadre.sync set due_at = null, quarantined_at = now(), quarantine_reason = 'unreadable'"
    )
    await shop.certify()
    assert (await shop.certificate()).blocked_by == (order_id(1),)
    assert await shop.due() == set()
    await shop.database.execute(
        "update cuadre.sync set quarantined_at = now() - interval '7 hours', marked_at = now() - interval '7 hours'"
    )
    await shop.certify()
    assert await shop.due() == {order_id(1)}


async def test_an_excused_order_blocks_no_more_and_the_certificate_says_how_many_it_goes_without(shop: Shop) -> None:
    shop.sell(1, 2)
    shop.list.show(entry(FOREIGN, NOON + timedelta(minutes=3)))
    await shop.store(1)
    await shop.store(3, minutes=30)
    await shop.certify(NOON + HOUR + PATIENCE)
    assert set((await shop.certificate()).blocked_by) == {order_id(2), FOREIGN}
    assert await excuse(shop.database, [order_id(2), FOREIGN, order_id(99)], "the provider's test order") == {
        order_id(2),
        FOREIGN,
    }
    await shop.certify(NOON + HOUR + PATIENCE)
    assert (await shop.certificate()).blocked_by == (order_id(3),), "what the list leaves out still counts"
    assert (await shop.certificate()).complete_until == NOON
    assert await excuse(shop.database, [order_id(3)], "the list leaves it out for good") == {order_id(3)}
    await shop.certify(NOON + HOUR + PATIENCE)
    certificate = await shop.certificate()
    assert (certificate.complete_until > NOON, certificate.blocked_by, certificate.excused_orders) == (True, (), 3)
    assert {one.account for one in await read_excused(shop.database)} == {"default"}


async def test_an_excuse_covers_that_order_alone_and_can_be_taken_back(shop: Shop) -> None:
    shop.sell(1, 2)
    await shop.certify()
    await excuse(shop.database, [order_id(1)], "as told")
    await shop.certify()
    assert (await shop.certificate()).blocked_by == (order_id(2),)
    assert await take_excuse_back(shop.database, [order_id(1), order_id(2)]) == {order_id(1)}
    await shop.certify()
    certificate = await shop.certificate()
    assert (certificate.blocked_by, certificate.excused_orders) == ((order_id(1), order_id(2)), 0)


@pytest.mark.parametrize("failing", [1, 2, 3, 4])
async def test_a_page_that_fails_in_the_middle_moves_nothing(shop: Shop, failing: int) -> None:
    shop.sell(*range(1, 13))
    await shop.store(*range(1, 13))

    def fails(nth: int, asked: Asked) -> OrdersPage | None:
        if nth == failing:
            raise ServerTrouble("500: as told", status=500)
        return None

    shop.list.before = fails
    before = await shop.certificate()
    with pytest.raises(ServerTrouble):
        await shop.certify()
    assert await shop.certificate() == before
    shop.list.before = lambda nth, asked: None
    await shop.certify()
    assert await shop.hours() == 1


@pytest.mark.parametrize("turn", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("descending", [False, True])
async def test_an_order_that_appears_while_the_pages_are_read_is_never_certified_unseen(
    shop: Shop, turn: int, descending: bool
) -> None:
    shop.list.descending = descending
    shop.sell(*range(1, 13))
    await shop.store(*range(1, 13))

    def appears(nth: int, asked: Asked) -> OrdersPage | None:
        if nth == turn:
            shop.sell(0, minutes=1)
        return None

    shop.list.before = appears
    try:
        await shop.certify()
    except ListBrokenError:
        pass
    else:
        assert (await shop.certificate()).blocked_by == (order_id(0),)
    assert await shop.hours() == 0
    shop.list.before = lambda nth, asked: None
    await shop.certify()
    assert (await shop.certificate()).blocked_by == (order_id(0),)
    await shop.store(0, minutes=1)
    await shop.certify()
    assert await shop.hours() == 1


async def test_an_order_that_the_list_shows_late_is_seen_because_the_pass_begins_late(shop: Shop) -> None:
    """The list is 29 minutes late: less than the lag that a pass keeps after the hour's end."""
    late = entry(order_id(1), NOON + timedelta(minutes=59))
    for minute in range(60, 90):
        now = NOON + timedelta(minutes=minute)
        if minute >= 88:
            shop.list.show(late)
        await shop.certify(now)
        assert await shop.hours() == 0
    await shop.certify(PASSED)
    assert (await shop.certificate()).blocked_by == (order_id(1),)


async def test_a_list_that_is_later_than_the_lag_betrays_itself_by_what_is_stored(shop: Shop) -> None:
    """An order that came by notification is not shown yet, so one that nobody told of may not be shown either."""
    shop.sell(1)
    await shop.store(1, 2)
    await shop.certify(PASSED)
    certificate = await shop.certificate()
    assert certificate.complete_until == NOON
    assert certificate.last_error is not None
    assert order_id(2) in certificate.last_error
    assert not certificate.is_blocked, "it waits, which is no alarm"
    shop.sell(2, 3)
    await shop.certify(PASSED + timedelta(minutes=30))
    assert (await shop.certificate()).blocked_by == (order_id(3),)


async def test_a_type_that_the_list_never_shows_is_named_until_it_shows_it(shop: Shop) -> None:
    shop.sell(1, kind="point")
    await shop.store(1, type="point")
    await shop.store(2)
    await shop.certify(NOON + HOUR + PATIENCE)
    certificate = await shop.certificate()
    assert certificate.blind_types == ("qr",)
    assert certificate.complete_until > NOON
    shop.sell(8, minutes=65 + 60 * 3, kind="point")
    await shop.store(8, minutes=65 + 60 * 3, type="point")
    shop.sell(9, minutes=65 + 60 * 4)
    await shop.store(9, minutes=65 + 60 * 4)
    await shop.store(10, minutes=66 + 60 * 4)
    await shop.certify(NOON + 6 * HOUR + LAG)
    certificate = await shop.certificate()
    assert certificate.blind_types == ("qr",), "in the only hour with such orders it leaves one out"
    assert (certificate.complete_since, certificate.complete_until) == (NOON, NOON + 6 * HOUR)
    shop.sell(11, minutes=65 + 60 * 6)
    await shop.store(11, minutes=65 + 60 * 6)
    await shop.certify(NOON + 9 * HOUR)
    certificate = await shop.certificate()
    assert certificate.blind_types == ()
    seen = (certificate.complete_since, certificate.complete_until)
    assert seen == (NOON, NOON + 8 * HOUR), "what it says of the other type stays"
    assert certificate.types_since == {"qr": NOON + 7 * HOUR}, "of the hours before, it does not know all of that type"
    await shop.store(12, minutes=70 + 60 * 7)
    await shop.database.execute("update cuadre.orders set first_seen_at = created_at")
    await shop.certify(NOON + 12 * HOUR)
    certificate = await shop.certificate()
    assert (certificate.blocked_by, certificate.is_blocked) == ((order_id(12),), True)


async def test_hours_before_a_type_was_listed_again_are_settled_again_without_it(shop: Shop) -> None:
    shop.sell(1, kind="point")
    await shop.store(2)
    shop.sell(3, minutes=70)
    await shop.store(3, minutes=70)
    since = f'{{"qr": "{(NOON + HOUR).isoformat()}"}}'
    await shop.database.execute("update cuadre.completeness set types_since = $1", since)
    await shop.certify(NOON + 9 * HOUR)
    certificate = await shop.certificate()
    assert (certificate.blocked_by, certificate.last_error) == ((order_id(1),), None)
    await shop.store(1, type="point")
    await shop.certify(NOON + 9 * HOUR)
    certificate = await shop.certificate()
    assert (certificate.complete_until, certificate.is_blocked) == (NOON + 8 * HOUR, False)
    assert (certificate.blind_types, certificate.types_since) == ((), {"qr": NOON + HOUR})


@pytest.mark.parametrize("shown_in", ["the hour", "an hour before"])
async def test_orders_of_a_type_that_is_listed_otherwise_are_not_passed_over(shop: Shop, shown_in: str) -> None:
    """A list that leaves out what is known leaves out what nobody told of, too."""
    now, minutes = NOON + HOUR + PATIENCE, 10
    shop.sell(1)
    await shop.store(1)
    if shown_in == "an hour before":
        await shop.database.execute("update cuadre.orders set first_seen_at = created_at")
        await shop.certify()
        now, minutes = now + HOUR, 70
    before = await shop.certificate()
    await shop.store(2, 3, minutes=minutes)
    await shop.certify(now)
    certificate = await shop.certificate()
    assert certificate.complete_until == before.complete_until
    assert certificate.blocked_by == (order_id(2), order_id(3))
    assert certificate.last_error == "the list leaves out 2 stored orders of type qr"
    assert (certificate.is_blocked, certificate.blind_types) == (True, ())
    shop.sell(2, 3, minutes=minutes)
    await shop.certify(now)
    certificate = await shop.certificate()
    assert certificate.complete_until > before.complete_until
    assert (certificate.blocked_by, certificate.last_error) == ((), None)


async def test_what_was_stored_after_its_hour_was_certified_is_no_proof_that_its_type_is_listed(shop: Shop) -> None:
    await shop.certify()
    await shop.store(1)
    await shop.store(2, minutes=70)
    await shop.certify(NOON + 2 * HOUR + PATIENCE)
    certificate = await shop.certificate()
    assert certificate.complete_until > NOON + HOUR
    assert certificate.blind_types == ("qr",)


async def test_two_leaders_settle_an_hour_once_and_a_late_one_moves_nothing(shop: Shop) -> None:
    shop.sell(1)
    await shop.store(1)
    stale = await shop.certificate()
    old_pass = Pass(NOON, {order_id(1): shop.list.orders[0]}, 0)
    await asyncio.gather(shop.certify(), shop.certify(), shop.certify())
    assert await shop.hours() == 1
    await shop.certify(NOON + 2 * HOUR + LAG)
    assert await shop.hours() == 2
    assert (await settle_hour(shop.database, stale, old_pass, PASSED)).is_complete
    assert await shop.hours() == 2
    foreign = Pass(NOON, {order_id(7): entry(order_id(7), NOON)}, 0)
    await settle_hour(shop.database, stale, foreign, PASSED)
    certificate = await shop.certificate()
    assert (await shop.hours(), certificate.blocked_by) == (2, ())


async def test_a_pass_that_is_killed_between_its_statements_leaves_nothing_behind(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.sell(1)

    class Killed(BaseException):
        """As if the process ended here."""

    real = QUERIES.settle_hour
    monkeypatch.setitem(QUERIES._statements, "settle_hour", f"{real}, 1 / 0")
    with pytest.raises(asyncpg.PostgresError):
        await shop.certify()
    monkeypatch.setitem(QUERIES._statements, "settle_hour", real)
    assert await shop.due() == set(), "the marks and the verdict are one commit"
    before = await shop.certificate()
    assert before.complete_until == NOON

    def killed(nth: int, asked: Asked) -> OrdersPage | None:
        raise Killed

    shop.list.before = killed
    with pytest.raises(Killed):
        await shop.certify()
    assert await shop.certificate() == before


async def test_it_never_goes_back_when_the_clock_does(shop: Shop) -> None:
    await shop.certify(NOON + 5 * HOUR + LAG)
    assert await shop.hours() == 5
    for now in (NOON - 24 * HOUR, NOON + 2 * HOUR, NOON + 5 * HOUR):
        await shop.certify(now)
        assert await shop.hours() == 5


async def test_a_new_beginning_of_a_known_account_changes_nothing(shop: Shop) -> None:
    await shop.certify()
    await shop.begin(NOON - 24 * HOUR)
    await shop.begin(NOON + 24 * HOUR)
    certificate = await shop.certificate()
    assert (certificate.complete_since, certificate.complete_until) == (NOON, NOON + HOUR)


async def test_orders_stored_under_another_account_of_the_same_seller_count_as_stored(
    shop: Shop, database: Database
) -> None:
    other = Shop(database, "second")
    await other.begin()
    other.sell(1)
    await shop.store(1)
    await other.certify()
    assert await other.hours() == 1
    assert (await shop.certificate()).complete_until == NOON


async def test_gauges_show_how_far_and_whether_blocked(shop: Shop, database: Database) -> None:
    other = Shop(database, "second")
    await other.begin(NOON + 6 * HOUR)
    shop.sell(1)
    await shop.certify()
    await database.execute("update cuadre.completeness set blind_types = '{point,qr}' where account = 'second'")
    await refresh_gauges(database)

    def read(account: str) -> tuple[float | None, ...]:
        gauges = (
            metrics.complete_until_timestamp_seconds,
            metrics.completeness_blocked,
            metrics.completeness_blind_types,
        )
        return tuple(_values(gauge).get(account) for gauge in gauges)

    assert read("default") == (NOON.timestamp(), 1, 0)
    assert read("second") == ((NOON + 6 * HOUR).timestamp(), 0, 2)
    await refresh_gauges(database, ["second"])
    assert _values(metrics.completeness_blocked).keys() == {"second"}
    assert [one.account for one in await read_certificates(database)] == ["default", "second"]


def _values(gauge: Gauge) -> dict[str, float]:
    return {sample.labels["account"]: sample.value for metric in gauge.collect() for sample in metric.samples}


async def test_a_paid_order_is_compared_by_its_latest_change(shop: Shop) -> None:
    shop.sell(1)
    shop.list.touch(order_id(1), NOON + timedelta(minutes=11))
    await see(
        shop.database,
        paid_order(1, created_date=stamp(shop.created(1)), last_updated_date=stamp(NOON + timedelta(minutes=11))),
    )
    await shop.certify()
    assert await shop.hours() == 1
