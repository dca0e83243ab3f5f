"""Giving what is stored under an account's old name to the account's new one.

An order belongs to the account that it was first read for, by name, and only that account's worker reads it. So an
account that gets another name in the configuration leaves its orders behind, until they are moved. Works beside running
services: each batch is one transaction under the orders' locks, as an apply's. After any end what is committed is
consistent, and the next run does the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.database.pool import Database
from service.database.queries import load
from service.sync.locks import lock_orders

QUERIES = load(Path(__file__).with_name("moving.sql"))

# One advisory lock an order: well within what the server has room for.
BATCH = 500
# A process that still has the old name configured may store another order under it while we move.
MOST_PASSES = 5


@dataclass(frozen=True, slots=True)
class Holding:
    """What is stored under an account's name. `scheduled` and `due` are looks at known orders: ahead, and owed now."""

    account: str
    orders: int
    scheduled: int
    due: int
    commands: int


@dataclass(frozen=True, slots=True)
class KeptCommand:
    """A command that stays under the old name: the new account has used its idempotency key."""

    command_id: str
    idempotency_key: str


@dataclass(slots=True)
class Moved:
    """What was moved, or would be. `sync_rows` says whose looks are owed, of stored orders and others."""

    orders: int = 0
    sync_rows: int = 0
    commands: int = 0
    kept_commands: list[KeptCommand] = field(default_factory=list)
    searched: bool = False

    @property
    def anything(self) -> bool:
        """Whether anything is stored under the old name."""
        return bool(self.orders or self.sync_rows or self.commands or self.kept_commands or self.searched)


async def read_holdings(database: Database) -> list[Holding]:
    """What is stored, by account, in the order of their names."""
    return [Holding(**row) for row in await database.fetch(QUERIES.count_by_account)]


async def count_to_move(database: Database, old: str, new: str) -> Moved:
    """What `move_account` would do now."""
    row = await database.fetchrow(QUERIES.count_to_move, old)
    assert row is not None  # a query without a table makes one row
    kept = [KeptCommand(**taken) for taken in await database.fetch(QUERIES.read_keys_taken, old, new)]
    return Moved(row["orders"], row["sync_rows"], row["commands"] - len(kept), kept, row["searched"])


async def move_account(
    database: Database,
    old: str,
    new: str,
    *,
    batch: int = BATCH,
    on_moved: Callable[[int], None] = lambda _orders: None,
) -> Moved:
    """Moves all that is stored under `old` to `new`, in the order of ids; `on_moved` is told of each batch.

    The rules that compare the orders of one account are the caller's to judge again, when everything is moved.
    """
    moved = Moved()
    for _ in range(MOST_PASSES):
        before = moved.orders + moved.sync_rows
        after = ""
        while rows := await database.fetch(QUERIES.read_ids_of_account, old, after, batch):
            ids = [row["order_id"] for row in rows]
            orders, sync_rows = await _move_batch(database, old, new, ids)
            moved.orders += orders
            moved.sync_rows += sync_rows
            on_moved(len(ids))
            after = ids[-1]
        if moved.orders + moved.sync_rows == before:
            break
    await _move_commands(database, old, new, batch, moved)
    return moved


async def forget_searches(database: Database, account: str) -> None:
    """Ends the searches and the certificate under an account's old name: the last step of a move."""
    await database.execute(QUERIES.forget_searches, account)


async def _move_batch(database: Database, old: str, new: str, ids: Sequence[str]) -> tuple[int, int]:
    """An order and its `sync` row move together: whoever settles a look writes the order's account on the row."""
    async with database.transaction() as connection:
        await lock_orders(connection, ids)
        orders: int = await connection.fetchval(QUERIES.move_orders, old, new, ids)
        sync_rows: int = await connection.fetchval(QUERIES.move_sync_rows, old, new, ids)
    return orders, sync_rows


async def _move_commands(database: Database, old: str, new: str, batch: int, moved: Moved) -> None:
    after = ""
    while rows := await database.fetch(QUERIES.move_commands, old, new, after, batch):
        after = rows[-1]["command_id"]
        moved.commands += sum(row["moved"] for row in rows)
        moved.kept_commands += [
            KeptCommand(row["command_id"], row["idempotency_key"]) for row in rows if not row["moved"]
        ]
