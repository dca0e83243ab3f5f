"""Reading a range of the list: nothing that it shows is passed over, whatever appears, vanishes or is out of order."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.audit.windows import (
    LARGE_PAGES,
    LONGEST,
    OLDEST,
    SHORTEST,
    UNCOUNTED,
    Walk,
    Window,
    earliest_begin,
    to_the_hour,
)
from service.mercadopago.listing import ListedOrder, OrdersPage
from tests.support.listing import BentList, entry, ids

START = datetime(2026, 9, 1, 12, 0, 0, tzinfo=UTC)
SIZE = 5


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def order(number: int, seconds: float) -> ListedOrder:
    return entry(f"ORD{number:026d}", at(seconds))


def answer(shop: BentList, window: Window) -> OrdersPage:
    return shop.page(window.begin, window.end, window.page, SIZE)


def read_all(shop: BentList, walk: Walk) -> list[ListedOrder]:
    found: list[ListedOrder] = []
    for _ in range(10_000):
        if walk.window is None:
            return found
        assert walk.window.end - walk.window.begin <= LONGEST
        found += walk.read(answer(shop, walk.window))
    raise AssertionError("the walk does not end")


@given(
    st.lists(st.floats(0, 40), max_size=60),
    st.booleans(),
    st.booleans(),
)
def test_everything_is_given_out_once_in_either_order_counted_or_not(
    moments: list[float], descending: bool, counts: bool
) -> None:
    shop = BentList([order(n, moment) for n, moment in enumerate(moments)], descending=descending, counts=counts)
    walk = Walk(at(0), at(40), page_size=SIZE)
    found = read_all(shop, walk)
    assert walk.broken is None
    assert ids(found) == ids(shop.orders)
    assert len(found) == len(shop.orders)
    assert walk.position == at(40)


@given(
    st.lists(st.floats(0, 40), max_size=40),
    st.lists(st.tuples(st.integers(0, 30), st.floats(0, 40)), max_size=15),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 39)), max_size=10),
    st.booleans(),
)
def test_what_stands_in_the_list_throughout_is_never_passed_over(
    moments: list[float], appearing: list[tuple[int, float]], vanishing: list[tuple[int, int]], descending: bool
) -> None:
    """Orders appear and vanish between the answers, also behind the reader's back; then the walk may say broken.

    In a list that ignores the order asked for, as many may vanish as appear: nothing tells, so that is left out here.
    """
    if descending:
        appearing = []
    shop = BentList([order(n, moment) for n, moment in enumerate(moments)], descending=descending)
    gone = {f"ORD{number:026d}" for _, number in vanishing}
    stays = ids(shop.orders) - gone
    walk = Walk(at(0), at(40), page_size=SIZE)
    found: list[ListedOrder] = []
    for turn in range(1000):
        if walk.window is None:
            break
        shop.show(*(order(1000 + n, moment) for n, (when, moment) in enumerate(appearing) if when == turn))
        lost = {f"ORD{number:026d}" for when, number in vanishing if when == turn}
        shop.orders = [one for one in shop.orders if one.order_id not in lost]
        found += walk.read(answer(shop, walk.window))
    assert walk.window is None
    if walk.broken is None:
        assert stays <= ids(found)
    else:
        before = {one.order_id for one in shop.orders if one.created_at is not None and one.created_at < walk.position}
        assert (before & stays) <= ids(found)


def test_a_page_in_order_moves_the_begin_to_just_before_its_last_order() -> None:
    shop = BentList([order(n, n * 10) for n in range(12)])
    walk = Walk(at(0), at(1000), page_size=SIZE)
    assert walk.window is not None
    walk.read(answer(shop, walk.window))
    assert walk.window == Window(at(39), at(1000), 1)
    assert walk.position == at(39)


def test_orders_that_appear_behind_the_reader_shift_nothing() -> None:
    shop = BentList([order(n, 10 + n * 10) for n in range(12)])
    walk = Walk(at(0), at(1000), page_size=SIZE)
    assert walk.window is not None
    first = walk.read(answer(shop, walk.window))
    shop.show(*(order(100 + n, n) for n in range(7)))
    rest = read_all(shop, walk)
    assert ids(first) | ids(rest) >= {f"ORD{n:026d}" for n in range(12)}
    assert walk.broken is None


def test_more_orders_of_one_moment_than_a_page_holds_are_read_by_pages() -> None:
    shop = BentList([order(n, 5) for n in range(23)] + [order(50, 0), order(51, 30)])
    walk = Walk(at(0), at(60), page_size=SIZE)
    assert ids(read_all(shop, walk)) == ids(shop.orders)


def test_an_empty_answer_is_asked_for_again() -> None:
    shop = BentList()
    walk = Walk(at(0), at(60), page_size=SIZE)
    assert walk.window is not None
    assert walk.read(answer(shop, walk.window)) == []
    assert walk.window == Window(at(0), at(60), 1)
    shop.show(order(1, 30))
    assert ids(read_all(shop, walk)) == ids(shop.orders)


def test_orders_that_leave_while_pages_are_counted_off_break_the_walk() -> None:
    shop = BentList([order(n, n) for n in range(12)], descending=True)
    walk = Walk(at(0), at(60), page_size=SIZE)
    assert walk.window is not None
    walk.read(answer(shop, walk.window))
    shop.orders = [one for one in shop.orders if one.order_id != f"ORD{11:026d}"]
    read_all(shop, walk)
    assert walk.broken == "the list counts 12 orders and shows 11 of them"
    assert walk.position == at(0)


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (OrdersPage((), 7, is_last=False), "empty page"),
        (OrdersPage((order(1, 1),), 7, is_last=True), "counts 7 orders and ends after 1"),
    ],
)
def test_answers_that_contradict_themselves_break_the_walk_and_give_out_what_they_show(
    page: OrdersPage, why: str
) -> None:
    walk = Walk(at(0), at(60), page_size=SIZE)
    found = walk.read(page)
    if walk.window is not None:  # an empty answer was asked for again
        found += walk.read(page)
    assert why in str(walk.broken)
    assert walk.window is None
    assert ids(found) == ids(page.orders)
    assert walk.position == at(0)
    with pytest.raises(ValueError, match="over"):
        walk.read(page)


def test_a_list_that_answers_the_same_page_for_ever_breaks_the_walk() -> None:
    same = OrdersPage(tuple(order(n, 5 - n) for n in range(SIZE)), None, is_last=False)
    walk = Walk(at(0), at(60), page_size=SIZE)
    for _ in range(5):
        if walk.window is not None:
            walk.read(same)
    assert walk.broken == "the list repeats itself instead of going on"


def test_entries_without_an_id_are_counted_and_complete_the_count() -> None:
    walk = Walk(at(0), at(60), page_size=SIZE)
    walk.read(OrdersPage((order(1, 1),), 2, is_last=True, skipped=1))
    assert (walk.broken, walk.skipped, walk.window) == (None, 1, None)


def test_a_long_range_is_asked_for_in_windows_that_overlap() -> None:
    walk = Walk(START, START + timedelta(days=100), page_size=SIZE)
    asked: list[Window] = []
    shop = BentList([entry(f"ORD{n:026d}", START + timedelta(days=n)) for n in range(100)])
    found: list[ListedOrder] = []
    while walk.window is not None:
        if walk.window.page == 1 and (not asked or walk.window.end != asked[-1].end):
            asked.append(walk.window)
        found += walk.read(answer(shop, walk.window))
    assert ids(found) == ids(shop.orders)
    assert len(asked) == 4
    for earlier, later in pairwise(asked):
        assert later.begin < earlier.end
        assert later.end - later.begin <= LONGEST


def test_a_window_with_very_many_orders_is_cut_and_grows_again() -> None:
    walk = Walk(START, START + timedelta(days=60), page_size=SIZE)
    many = LARGE_PAGES * SIZE + 1
    spans: list[timedelta] = []
    while walk.window is not None and len(spans) < 40:
        span = walk.window.end - walk.window.begin
        spans.append(span)
        if span > SHORTEST and len(spans) < 12:
            assert walk.read(OrdersPage((), many, is_last=False)) == []
        else:
            walk.read(OrdersPage((order(len(spans), 0),), 1, is_last=True))
    assert min(spans) == SHORTEST
    assert spans[:3] == [LONGEST, LONGEST / 2, LONGEST / 4]
    assert spans[-2] > min(spans)


def test_several_pages_that_nobody_counts_are_asked_for_by_the_day() -> None:
    walk = Walk(START, START + timedelta(days=20), page_size=SIZE)
    full = tuple(order(n, n) for n in range(SIZE))
    while walk.window is not None and walk.window.end - walk.window.begin > UNCOUNTED:
        assert walk.read(OrdersPage(full, None, is_last=False)) == []
    assert walk.window is not None
    assert walk.read(OrdersPage(full, None, is_last=False)) == list(full)


def test_an_empty_range_asks_nothing() -> None:
    assert Walk(at(5), at(5)).window is None
    assert Walk(at(6), at(5)).window is None


def test_the_earliest_begin_lies_within_what_the_provider_takes() -> None:
    assert START - OLDEST < earliest_begin(START) < START - OLDEST + timedelta(days=2)
    assert to_the_hour(at(125)) == START
