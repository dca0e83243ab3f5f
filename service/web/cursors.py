"""Where the page before ended: opaque to callers, and for us what the list is ordered by.

Every text that matches a list's pattern *is* a position in that list, so the pattern in the OpenAPI document is the
whole truth about what is taken. The first letter keeps the lists' cursors apart.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

ORDERS_CURSOR: Final = r"^o(none|-?[0-9]{1,18})\.[A-Za-z0-9_-]{1,64}$"
QUARANTINE_CURSOR: Final = r"^q-?[0-9]{1,18}\.[A-Za-z0-9_-]{1,64}$"
COMMANDS_CURSOR: Final = r"^c-?[0-9]{1,18}\.[A-Za-z0-9_-]{1,64}$"
DISCREPANCIES_CURSOR: Final = r"^d[0-9]{1,18}$"
NOTIFICATIONS_CURSOR: Final = r"^n[0-9]{1,18}$"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_MOMENT = datetime.min.replace(tzinfo=UTC)


class TimeCursor(NamedTuple):
    """Behind the row of that time (None: it has none) and order."""

    moment: datetime | None
    order_id: str


def encode_time(kind: str, moment: datetime | None, order_id: str) -> str:
    """The cursor behind a row of a list (its letter) that is ordered by time and order id."""
    position = "none" if moment is None else str((moment - _EPOCH) // _MICROSECOND)
    return f"{kind}{position}.{order_id}"


def decode_time(text: str) -> TimeCursor:
    """The position that a text names; it matches its list's pattern already."""
    position, _, order_id = text[1:].partition(".")
    if position == "none":
        return TimeCursor(None, order_id)
    try:
        return TimeCursor(_EPOCH + int(position) * _MICROSECOND, order_id)
    except OverflowError:
        # Seventeen digits end within the calendar after 1970, and not before it.
        return TimeCursor(_FIRST_MOMENT, order_id)


def encode_id(kind: str, row_id: int) -> str:
    """The cursor behind a row of a list (its letter) that is ordered by id."""
    return f"{kind}{row_id}"


def decode_id(text: str) -> int:
    """The position that a text names; it matches its list's pattern already."""
    return int(text[1:])
