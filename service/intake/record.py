"""Committing deliveries: many waiters, one statement, one commit (natural batching)."""

import base64
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from service.database.batching import NaturalBatcher
from service.database.pool import ITEM_FAULT, Database
from service.database.queries import load
from service.mercadopago.notification import Notification
from service.mercadopago.signature import Verification

QUERIES = load(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery as it will be stored. `query` and `headers` are JSON objects as text; `copy_key` is its identity."""

    account: str
    notification: Notification
    verification: Verification
    refused: bool
    copy_key: bytes
    path: str
    query: str
    headers: str
    body: str | None
    body_altered: bool

    def without_odd_values(self, raw_body: bytes) -> "Delivery":
        """The same delivery in a form that no database refuses: what it said, in base64."""
        kept = json.dumps({"base64": base64.b64encode(raw_body).decode("ascii")})
        return replace(self, query="{}", headers="{}", body=kept, body_altered=True)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The committed row's id, and whether this delivery was the first of its kind."""

    notification_id: int
    is_copy: bool


class NotificationRecorder:
    """Commits deliveries and marks their orders due. Raises what the database raises: then nothing was committed."""

    def __init__(self, database: Database, *, on_committed: Callable[[], None]) -> None:
        self._database = database
        self._on_committed = on_committed
        self._batcher: NaturalBatcher[Delivery, Recorded] = NaturalBatcher(
            self._flush, name="intake", is_item_fault=lambda error: isinstance(error, ITEM_FAULT)
        )

    def record(self, delivery: Delivery) -> Awaitable[Recorded]:
        """Resolves once the delivery is committed (invariant I1)."""
        return self._batcher.submit(delivery)

    async def close(self) -> None:
        """Finishes what is in flight or waiting."""
        await self._batcher.close()

    async def _flush(self, deliveries: Sequence[Delivery]) -> list[Recorded]:
        counts: dict[bytes, int] = {}
        first: dict[bytes, Delivery] = {}
        for delivery in deliveries:
            counts[delivery.copy_key] = counts.get(delivery.copy_key, 0) + 1
            first.setdefault(delivery.copy_key, delivery)
        rows = await self._database.fetch(QUERIES.record_notifications, *_columns(list(first.values()), counts))
        self._on_committed()
        committed = {row["copy_key"]: (row["id"], row["copies"] > counts[row["copy_key"]]) for row in rows}
        answers = []
        for delivery in deliveries:
            notification_id, is_copy = committed[delivery.copy_key]
            answers.append(Recorded(notification_id, is_copy))
            committed[delivery.copy_key] = (notification_id, True)
        return answers


def _columns(deliveries: Sequence[Delivery], counts: dict[bytes, int]) -> tuple[list[object], ...]:
    """The deliveries as the statement's twenty arrays, in its order."""
    rows = [
        (
            one.account,
            one.notification.topic,
            one.notification.action,
            one.notification.resource_id,
            one.notification.order_id,
            one.verification.verified,
            one.verification.result,
            one.verification.manifest,
            one.verification.secret_index,
            one.verification.ts_age_seconds,
            one.notification.body_id_differs,
            one.refused,
            one.notification.simulation,
            counts[one.copy_key],
            one.copy_key,
            one.path,
            one.query,
            one.headers,
            one.body,
            one.body_altered,
        )
        for one in deliveries
    ]
    return tuple(list(column) for column in zip(*rows, strict=True))
