"""An order's timeline: the API's, as a document and as lines."""

from datetime import datetime
from typing import TYPE_CHECKING

from service.cli.output import note, print_line, print_title, shown
from service.web.statements import QUERIES
from service.web.timeline import Timeline, merge

if TYPE_CHECKING:
    from service.database.pool import Connection

LIMIT = 500


async def read_timeline(connection: "Connection", order_id: str, until: datetime | None = None) -> Timeline:
    """The newest entries of one order, oldest first; with `until` those up to that time."""
    rows = [
        await connection.fetch(statement, order_id, LIMIT + 1)
        for statement in (
            QUERIES.timeline_notifications,
            QUERIES.timeline_fetches,
            QUERIES.timeline_versions,
            QUERIES.timeline_discrepancies,
        )
    ]
    entries = [one for one in merge(order_id, *rows) if until is None or one.at <= until]
    return Timeline(order_id=order_id, data=entries[-LIMIT:], truncated=len(entries) > LIMIT)


def print_timeline(story: Timeline) -> None:
    """One line an entry: when, what, why."""
    print_title("timeline")
    for entry in story.data:
        print_line(f"{shown(entry.at)}  {entry.kind:<12}  {shown(entry.why)}")
    if story.truncated:
        note(f"only the newest {LIMIT} entries are shown")
