"""The rows of orders as a comparison takes them: all of one moment."""

from collections.abc import Sequence

from service.audit.compare import PARTS, StoredState
from service.audit.runs import QUERIES
from service.database.pool import Database


async def read_states(database: Database, order_ids: Sequence[str]) -> dict[str, StoredState]:
    """What is stored of these orders, by id; an order that is not stored is left out. Raises what the database does."""
    async with (
        database.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        orders = {row["order_id"]: dict(row) for row in await connection.fetch(QUERIES.read_orders, order_ids)}
        parts: dict[str, dict[str, list[dict[str, object]]]] = {
            order_id: {table: [] for table, _ in PARTS} for order_id in orders
        }
        for table, _ in PARTS:
            for row in await connection.fetch(QUERIES[f"read_{table}"], list(orders)):
                parts[row["order_id"]][table].append(dict(row))
    return {order_id: StoredState(order, order["payload"], parts[order_id]) for order_id, order in orders.items()}
