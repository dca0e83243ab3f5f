"""What one pass over an hour allows, decided without any database."""

from datetime import UTC, datetime, timedelta

import pytest

from service.audit.completeness import (
    EDGE,
    HOUR,
    NAMED,
    PATIENCE,
    WAITING,
    Certificate,
    HourPass,
    Verdict,
    judge_hour,
    read_hour,
)
from service.audit.windows import ListBrokenError, Window
from service.mercadopago.listing import ListedOrder, OrdersPage
from tests.support.listing import Asked, BentList, entry, ids

NOON = datetime(2026, 9, 1, 12, 0, 0, tzinfo=UTC)
SOON = NOON + HOUR + timedelta(minutes=40)
LATE = NOON + HOUR + PATIENCE


def order(number: int, minutes: float = 5, kind: str = "qr") -> ListedOrder:
    return entry(f"ORD{number:026d}", NOON + timedelta(minutes=minutes), kind=kind)


def seen(*orders: ListedOrder, skipped: int = 0) -> HourPass:
    return HourPass(NOON, {order.order_id: order for order in orders}, skipped)


def stored(*orders: ListedOrder) -> list[tuple[str, str | None]]:
    return [(one.order_id, one.type) for one in orders]


def test_an_hour_whose_orders_are_all_stored_is_complete() -> None:
    assert judge_hour(seen(order(1)), [], stored(order(1)), (), SOON) == Verdict()
    assert judge_hour(seen(), [], [], (), SOON).is_complete


def test_missing_orders_block_and_at_most_twenty_are_named() -> None:
    verdict = judge_hour(seen(order(1)), [f"ORD{n:026d}" for n in range(50)], [], (), LATE)
    assert not verdict.is_complete
    assert len(verdict.blocked_by) == NAMED
    assert verdict.blocked_by[0] == f"ORD{0:026d}"


def test_entries_without_an_id_are_no_proof_of_anything() -> None:
    verdict = judge_hour(seen(skipped=2), [], [], (), LATE)
    assert not verdict.is_complete
    assert verdict.reason == "the list shows entries without a usable id (2)"


def test_while_stored_orders_are_not_shown_the_list_is_late_and_is_waited_for() -> None:
    verdict = judge_hour(seen(order(1)), [], stored(order(1), order(2)), (), SOON)
    assert verdict.reason == (
        f"{WAITING}stored orders of the hour are not in the list (1, such as {order(2).order_id}); it is asked again"
    )
    assert not verdict.is_complete
    later = judge_hour(seen(order(1)), [], stored(order(1), order(2)), (), LATE)
    assert later == Verdict((order(2).order_id,), "the list leaves out 1 stored orders of type qr")


def test_a_type_that_is_never_shown_is_named_as_blind_after_a_while() -> None:
    point, qr = order(1, kind="point"), order(2)
    assert not judge_hour(seen(point), [], stored(point, qr), (), SOON).is_complete
    assert judge_hour(seen(point), [], stored(point, qr), (), LATE) == Verdict(newly_blind=("qr",))
    assert judge_hour(seen(point), [], stored(point, qr), ("qr",), SOON) == Verdict()


def test_a_type_that_the_list_showed_at_another_time_is_not_blind_and_what_is_left_out_of_it_blocks() -> None:
    verdict = judge_hour(seen(), [], stored(order(1)), (), LATE, {"qr"})
    assert (verdict.blocked_by, verdict.newly_blind, verdict.is_complete) == ((order(1).order_id,), (), False)
    assert not judge_hour(seen(), [], stored(order(1)), (), SOON, {"qr"}).is_complete


def test_a_blind_type_of_which_the_hour_shows_all_that_is_stored_is_blind_no_more() -> None:
    shown, left_out = order(1), order(2)
    assert judge_hour(seen(shown), [], stored(shown), ("qr",), SOON) == Verdict(shown_again=("qr",))
    assert judge_hour(seen(shown), [], stored(shown, left_out), ("qr",), SOON) == Verdict()
    assert judge_hour(seen(), [], [], ("qr",), SOON) == Verdict()
    assert judge_hour(seen(shown), [shown.order_id], [], ("qr",), SOON).shown_again == ()


def test_sales_that_are_no_orders_at_the_provider_are_not_waited_for() -> None:
    legacy = order(1, kind="legacy_qr")
    assert judge_hour(seen(), [], stored(legacy), (), SOON) == Verdict(newly_blind=("legacy_qr",))


@pytest.mark.parametrize(
    ("blocked_by", "last_error", "blocked"),
    [((), None, False), (("ORD1",), None, True), ((), "timeout: no answer", True), ((), f"{WAITING}it is late", False)],
)
def test_a_certificate_that_only_waits_is_no_alarm(
    blocked_by: tuple[str, ...], last_error: str | None, blocked: bool
) -> None:
    assert Certificate("a", NOON, NOON, NOON, blocked_by, last_error, (), {}, 0).is_blocked is blocked


class Reader:
    """Asks a bent list for pages of five."""

    def __init__(self, shop: BentList) -> None:
        self.shop = shop
        self.asked: list[Window] = []

    async def ask(self, window: Window) -> OrdersPage:
        self.asked.append(window)
        instead = self.shop.before(len(self.asked), Asked("a", window.begin, window.end, window.page, 5))
        return instead if instead is not None else self.shop.page(window.begin, window.end, window.page, 5)

    async def count(self, window: Window) -> OrdersPage:
        return self.shop.page(window.begin, window.end, window.page, 1)


async def test_an_hour_is_read_with_its_edges() -> None:
    inside = [order(n, n) for n in range(12)] + [order(50, 60)]
    outside = [order(90, -30), order(91, 90)]
    reader = Reader(BentList(inside + outside))
    found = await read_hour(reader.ask, NOON, count=reader.count)
    assert found.listed.keys() == ids(inside)
    assert (reader.asked[0].begin, reader.asked[0].end) == (NOON - EDGE, NOON + HOUR + EDGE)


async def test_an_order_that_appears_behind_the_reader_makes_the_pass_worthless() -> None:
    shop = BentList([order(n, 10 + n) for n in range(12)])

    def appears(nth: int, asked: Asked) -> OrdersPage | None:
        if nth == 3:
            shop.show(order(70, 1))
        return None

    shop.before = appears
    reader = Reader(shop)
    with pytest.raises(ListBrokenError, match="12 orders of an hour and counts 13"):
        await read_hour(reader.ask, NOON, count=reader.count)


async def test_as_many_coming_as_going_are_noticed_in_a_list_that_is_not_in_order() -> None:
    shop = BentList([order(n, 10 + n) for n in range(12)], descending=True)

    def changes(nth: int, asked: Asked) -> OrdersPage | None:
        if nth == 2:
            shop.orders = [one for one in shop.orders if one.order_id != order(11).order_id]
            shop.show(order(70, 50))
        return None

    shop.before = changes
    reader = Reader(shop)
    with pytest.raises(ListBrokenError, match="two readings"):
        await read_hour(reader.ask, NOON, count=reader.count)


async def test_an_hour_without_orders_is_asked_for_twice() -> None:
    reader = Reader(BentList())
    assert (await read_hour(reader.ask, NOON, count=reader.count)).listed == {}
    assert len(reader.asked) == 2
