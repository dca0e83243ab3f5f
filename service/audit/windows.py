"""Pure: in which windows and pages a range of the provider's list is read, so that no order of it is passed over.

The list is asked for in ascending order of creation, at most 30 days at once. A page that is in order moves the
window's begin to just before its last order, so what appears or vanishes meanwhile shifts nothing; a page that is not
in order is followed by the next page of the same window. What a window counts at its first page must have been shown
at its last. An empty answer is asked for again. Sources: fact sheet of the Orders API §6; pains of integrators §13.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from service.mercadopago.listing import ListedOrder, OrdersPage

LONGEST: Final = timedelta(days=30) - timedelta(seconds=1)
"""The provider refuses more than 30 days; times are rounded outwards on their way."""
OLDEST: Final = timedelta(days=5 * 365)
"""The provider refuses an older begin."""
PAGE_SIZE: Final = 100
LARGE_PAGES: Final = 50
"""A window with more pages is cut, down to an hour: counting and sorting many is slow at the provider."""
SHORTEST: Final = timedelta(hours=1)
UNCOUNTED: Final = timedelta(days=1)
"""A window of several pages that the provider does not count is no longer than this."""
OVERLAP: Final = timedelta(seconds=1)
"""Times are cut to the second, and read again from a second before: how the provider rounds is not documented."""


class ListBrokenError(Exception):
    """The answers contradict each other, so nothing is concluded from what they leave out. `str()` is one line."""


@dataclass(frozen=True, slots=True)
class Window:
    """What to ask for: orders created from `begin` to `end`, both included, and which page of them (from 1)."""

    begin: datetime
    end: datetime
    page: int


class Walk:
    """Reads `[begin, end]`: ask for `window`, give the answer to `read`, until `window` is None.

    `position`: every order created before it that the list showed has been given out. `broken`: why the walk ended
    before its end, in one line. `skipped` counts entries without a usable id. `counted_off`: pages had to be counted,
    so as many orders may have left the list behind the reader as came: only a second reading tells.
    """

    def __init__(self, begin: datetime, end: datetime, *, page_size: int = PAGE_SIZE) -> None:
        self._end = end
        self._page_size = page_size
        self._span = LONGEST
        self._seen: set[str] = set()
        self._earlier: set[str] = set()
        self._expected: int | None = None
        self._shown_without_id = 0
        self._is_first_answer = True
        self._empty_answers = 0
        self._repeats = 0
        self.answers = 0
        self.skipped = 0
        self.counted_off = False
        self.broken: str | None = None
        self.position = begin
        self.window: Window | None = Window(begin, min(end, begin + self._span), 1) if begin < end else None

    def read(self, page: OrdersPage) -> list[ListedOrder]:
        """Takes the answer for `window`; the orders in it that were not given out yet, each once.

        Answers that contradict each other end the walk where it stands: see `broken`.
        """
        window = self.window
        if window is None:
            raise ValueError("the walk is over; nothing was asked for")
        self.answers += 1
        if self._is_first_answer:
            if self._is_too_large(page, window):
                self._span = max(SHORTEST, (window.end - window.begin) / 2)
                self.window = Window(window.begin, window.begin + self._span, 1)
                return []
            self._expected, self._shown_without_id = page.total, 0
        if not page.orders and self._is_first_answer and self._empty_answers == 0:
            self._empty_answers = 1
            return []
        self._is_first_answer = False
        self._shown_without_id += page.skipped
        self.skipped += page.skipped
        new = self._new(page.orders)
        self._repeats = 0 if new or page.is_last else self._repeats + 1
        self.broken = self._contradiction(page, window)
        if self.broken is not None:
            self.window = None
        elif page.is_last:
            self._finish(window)
        else:
            self._go_on(page.orders, window)
        return new

    def _contradiction(self, page: OrdersPage, window: Window) -> str | None:
        shown = len(page.orders) + page.skipped
        if not shown and not page.is_last:
            return "the list shows an empty page and says that more pages follow"
        if page.is_last and window.page == 1 and page.total is not None and shown < page.total:
            return f"the list counts {page.total} orders and ends after {shown}"
        in_all = len(self._seen) + self._shown_without_id
        if page.is_last and self._expected is not None and in_all < self._expected:
            return f"the list counts {self._expected} orders and shows {in_all} of them"
        return "the list repeats itself instead of going on" if self._repeats > 1 else None

    def _is_too_large(self, page: OrdersPage, window: Window) -> bool:
        if page.total is None:
            return not page.is_last and window.end - window.begin > UNCOUNTED
        return page.total > LARGE_PAGES * self._page_size and window.end - window.begin > SHORTEST

    def _new(self, orders: Sequence[ListedOrder]) -> list[ListedOrder]:
        new: dict[str, ListedOrder] = {}
        for order in orders:
            if order.order_id not in self._seen and order.order_id not in self._earlier:
                new[order.order_id] = order
            self._seen.add(order.order_id)
        return list(new.values())

    def _go_on(self, orders: Sequence[ListedOrder], window: Window) -> None:
        begin = _begin_after(orders, window) if window.page == 1 else None
        if begin is None:
            self.window, self.counted_off = Window(window.begin, window.end, window.page + 1), True
        else:
            self.window, self.position = Window(begin, window.end, 1), begin

    def _finish(self, window: Window) -> None:
        if self._expected is not None and self._expected < LARGE_PAGES * self._page_size // 4:
            self._span = min(LONGEST, self._span * 2)
        self._earlier, self._seen = self._seen, set()
        self._is_first_answer, self._empty_answers, self._repeats = True, 0, 0
        self.position = window.end
        begin = _to_the_second(window.end) - OVERLAP
        self.window = None
        if window.end < self._end:
            self.window = Window(begin, min(self._end, window.end + self._span - 2 * OVERLAP), 1)


def _begin_after(orders: Sequence[ListedOrder], window: Window) -> datetime | None:
    """Where a window begins that goes on after these orders; None where they are not in order, or all of one moment."""
    times = [order.created_at for order in orders]
    known = [time for time in times if time is not None]
    if not known:
        return None
    in_order = len(known) == len(times) and known == sorted(known)
    if not in_order or known[0] < window.begin - OVERLAP or known[-1] > window.end + OVERLAP:
        return None
    begin = _to_the_second(known[-1]) - OVERLAP
    return begin if begin > window.begin else None


def _to_the_second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def earliest_begin(now: datetime) -> datetime:
    """The oldest begin that the provider takes, with a day of slack for clocks that differ."""
    return now - OLDEST + timedelta(days=1)


def to_the_hour(moment: datetime) -> datetime:
    """The beginning of its hour."""
    return moment.replace(minute=0, second=0, microsecond=0)
