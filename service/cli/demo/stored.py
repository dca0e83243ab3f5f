"""What the service stored of one run, read from its tables."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from service.cli.demo.plan import Json
from service.database.pool import Database
from service.database.queries import load

QUERIES = load(Path(__file__).with_name("queries.sql"))

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """A row of `orders` with its payments (id, status, amount, paid, refunded) and refunds (id, payment, status,
    amount).
    """

    order_id: str
    type: str | None
    status: str | None
    status_detail: str | None
    external_reference: str | None
    total_amount: Decimal | None
    paid_amount: Decimal
    refunded_amount: Decimal
    payload: Json
    payments: frozenset[Row] = frozenset()
    refunds: frozenset[Row] = frozenset()


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A row of `discrepancies`, as far as it is compared and shown."""

    order_id: str
    rule: str
    subject_id: str
    explanation: str
    resolved: bool


class Books:
    """The rows of one account."""

    def __init__(self, database: Database, account: str) -> None:
        self._database = database
        self._account = account

    async def retire_earlier_runs(self) -> None:
        """Lets nobody wait for looks at orders whose provider is gone; what is stored of them stays."""
        await self._database.execute(QUERIES.retire_earlier_runs, self._account)

    async def count(self) -> int:
        """How many orders are stored."""
        return int(await self._database.fetchval(QUERIES.count_orders, self._account))

    async def times(self, order_ids: Collection[str]) -> dict[str, str]:
        """`last_updated_date` of those that are stored."""
        rows = await self._database.fetch(QUERIES.read_times, list(order_ids))
        return {row["order_id"]: row["last_updated_date"] for row in rows}

    async def orders(self) -> dict[str, StoredOrder]:
        """All orders by id."""
        payments = await self._parts(QUERIES.read_payments)
        refunds = await self._parts(QUERIES.read_refunds)
        orders = {}
        for row in await self._database.fetch(QUERIES.read_orders, self._account):
            values = dict(row)
            values["payload"] = json.loads(values["payload"], parse_float=Decimal)
            order_id = values["order_id"]
            orders[order_id] = StoredOrder(
                **values, payments=frozenset(payments[order_id]), refunds=frozenset(refunds[order_id])
            )
        return orders

    async def _parts(self, query: str) -> Mapping[str, list[Row]]:
        parts: defaultdict[str, list[Row]] = defaultdict(list)
        for order_id, *values in await self._database.fetch(query, self._account):
            parts[order_id].append(tuple(values))
        return parts

    async def caught_up(self) -> set[str]:
        """Orders for which nothing is owed on account of a notification."""
        return {row["order_id"] for row in await self._database.fetch(QUERIES.read_caught_up, self._account)}

    async def bring_forward(self, order_ids: Collection[str]) -> dict[str, timedelta]:
        """Makes an owed look due now. By order: how far ahead it was; an order to which no look is owed is missing."""
        rows = await self._database.fetch(QUERIES.bring_forward, self._account, sorted(order_ids))
        return {row["order_id"]: row["ahead"] for row in rows}

    async def discrepancies(self) -> list[Discrepancy]:
        """Open and resolved ones."""
        rows = await self._database.fetch(QUERIES.read_discrepancies, self._account)
        return [Discrepancy(**dict(row)) for row in rows]

    async def deliveries(self) -> dict[str, int]:
        """Recorded deliveries by `verification`."""
        rows = await self._database.fetch(QUERIES.read_deliveries, self._account)
        return {row["verification"]: row["deliveries"] for row in rows}
