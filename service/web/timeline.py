"""One order's story: what was told, what was looked up, what changed, what did not add up, each with why.

Entries come in the order of their times. At the same time, a cause stands before its effect: notification, look,
version, discrepancy.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from aiohttp import web

from service.web.errors import NotFound, json_response
from service.web.models import Amount, Document, Instant, amount_text
from service.web.parameters import ORDER_ID, TimelineParameters, path_parameter
from service.web.state import STATE
from service.web.statements import QUERIES

Row = Mapping[str, Any]

_CAUSES = {
    "look": "the schedule",
    "operator": "an operator's wish",
    "notification": "a notification",
    "desk": "a command of the desk",
    "sweep": "the provider's list",
    "replay": "a replayed notification",
    "repair": "a repair of what differed",
}


class TimelineEntry(Document):
    """Something that happened `at` a time; `why` says in one sentence why, or what it meant."""

    at: Instant
    why: str


class NotificationEntry(TimelineEntry):
    """The provider told us something."""

    kind: Literal["notification"] = "notification"
    id: int
    account: str
    topic: str | None
    action: str | None
    resource_id: str | None
    verified: bool
    verification: str
    manifest: str | None
    refused: bool
    simulation: bool
    received_at: Instant
    last_received_at: Instant
    copies: int


class FetchEntry(TimelineEntry):
    """We looked; `at` is when the look was claimed, before its request was sent."""

    kind: Literal["fetch"] = "fetch"
    claimed_at: Instant
    settled_at: Instant
    cause: str
    notification_id: int | None
    outcome: str
    detail: str | None
    version: int | None


class VersionEntry(TimelineEntry):
    """What we saw was new, and is stored."""

    kind: Literal["version"] = "version"
    version: int
    status: str | None
    status_detail: str | None
    total_amount: Amount | None
    paid_amount: Amount
    refunded_amount: Amount
    currency: str | None
    updated_at: Instant | None
    observed_at: Instant
    cause: str
    notification_id: int | None


class DiscrepancyEntry(TimelineEntry):
    """Something stopped adding up, or adds up again."""

    kind: Literal["discrepancy"] = "discrepancy"
    change: Literal["opened", "resolved"]
    id: int
    rule: str
    subject_id: str
    severity: str
    amount_at_stake: Amount | None
    currency: str | None
    expected: str
    actual: str


class Timeline(Document):
    """An order's entries, oldest first; `truncated` says that older ones were left out."""

    order_id: str
    data: list[NotificationEntry | FetchEntry | VersionEntry | DiscrepancyEntry]
    truncated: bool


Entry = NotificationEntry | FetchEntry | VersionEntry | DiscrepancyEntry


async def show_timeline(request: web.Request, asked: TimelineParameters) -> web.Response:
    """The newest `limit` entries of one order, stored or only spoken of."""
    order_id = path_parameter(request, "order_id", ORDER_ID)
    async with (
        request.app[STATE].database.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        # One more than shown of each, to know whether something is left out.
        count = asked.limit + 1
        notifications = await connection.fetch(QUERIES.timeline_notifications, order_id, count)
        fetches = await connection.fetch(QUERIES.timeline_fetches, order_id, count)
        versions = await connection.fetch(QUERIES.timeline_versions, order_id, count)
        discrepancies = await connection.fetch(QUERIES.timeline_discrepancies, order_id, count)
    entries = merge(order_id, notifications, fetches, versions, discrepancies)
    if not entries:
        raise NotFound(f"nothing was ever heard or seen of order {order_id}")
    truncated = len(entries) > asked.limit
    shown = entries[-asked.limit :]
    return json_response(Timeline(order_id=order_id, data=shown, truncated=truncated).to_json())


def merge(
    order_id: str, notifications: list[Any], fetches: list[Any], versions: list[Any], discrepancies: list[Any]
) -> list[Entry]:
    """Rows of the four queries as entries, oldest first."""
    ranked: list[tuple[datetime, int, int, Entry]] = []
    ranked.extend((row["received_at"], 0, row["id"], _notification(order_id, row)) for row in notifications)
    ranked.extend((row["claimed_at"], 1, 0, _fetch(row)) for row in fetches)
    ranked.extend((row["observed_at"], 2, row["version"], _version(row)) for row in versions)
    for row in discrepancies:
        ranked.append((row["opened_at"], 3, row["id"], _discrepancy(row, "opened")))
        if row["resolved_at"] is not None:
            ranked.append((row["resolved_at"], 3, row["id"], _discrepancy(row, "resolved")))
    return [entry for _, _, _, entry in sorted(ranked, key=lambda one: one[:3])]


def _notification(order_id: str, row: Row) -> NotificationEntry:
    if row["refused"]:
        effect = "refused by the account's signature policy, kept as a sample"
    elif row["order_id"] == order_id:
        effect = "marked the order due"
    else:
        effect = "recorded, marks nothing due"
    times = "" if row["copies"] == 1 else f" (told {row['copies']} times)"
    why = f"Mercado Pago said {row['action'] or row['topic'] or 'something'}{times}; "
    why += f"signature {row['verification'].replace('_', ' ')}; {effect}"
    if row["body_id_differs"]:
        why += "; its body names another id"
    if row["simulation"]:
        why += "; a simulation of the provider's panel"
    names = NotificationEntry.model_fields.keys() - {"at", "why", "kind"}
    return NotificationEntry(at=row["received_at"], why=why, **{name: row[name] for name in names})


def _because(row: Row) -> str:
    """`cause`, and the notification behind it, as words."""
    if row["notification_id"] is not None:
        return f"{row['cause']} {row['notification_id']}"
    cause = str(row["cause"])
    return _CAUSES.get(cause, cause)


def _fetch(row: Row) -> FetchEntry:
    seconds = (row["settled_at"] - row["claimed_at"]).total_seconds()
    why = f"looked because of {_because(row)}: {row['outcome'].replace('_', ' ')}"
    if row["outcome"] == "applied" and row["version"] is not None:
        why += f" as version {row['version']}"
    elif row["detail"]:
        why += f" ({row['detail']})"
    return FetchEntry(at=row["claimed_at"], why=f"{why}, after {max(seconds, 0):.3f} s", **row)


def _version(row: Row) -> VersionEntry:
    changes = []
    if row["previous_version"] is None:
        what = (
            f"first seen as {row['status'] or 'no status'}"
            if row["version"] == 1
            else f"{row['status'] or 'no status'}"
        )
    else:
        if row["previous_status"] != row["status"]:
            changes.append(f"status {row['previous_status'] or 'none'} → {row['status'] or 'none'}")
        for name in ("paid_amount", "refunded_amount"):
            before, now = row[f"previous_{name}"], row[name]
            if before != now:
                changes.append(f"{name} {_money(before)} → {_money(now)}")
        what = ", ".join(changes) or "details changed"
    names = VersionEntry.model_fields.keys() - {"at", "why", "kind"}
    return VersionEntry(
        at=row["observed_at"], why=f"{what}; found because of {_because(row)}", **{name: row[name] for name in names}
    )


def _money(amount: Decimal | None) -> str:
    return "none" if amount is None else amount_text(amount)


def _discrepancy(row: Row, change: Literal["opened", "resolved"]) -> DiscrepancyEntry:
    opened = change == "opened"
    names = DiscrepancyEntry.model_fields.keys() - {"at", "why", "kind", "change"}
    return DiscrepancyEntry(
        at=row["opened_at"] if opened else row["resolved_at"],
        why=row["explanation"] if opened else f"no longer so: {row['explanation']}",
        change=change,
        **{name: row[name] for name in names},
    )
