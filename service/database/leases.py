"""Leadership by a lease row: one process at a time does a singleton's work.

A row with an end, not an advisory lock, because it also works behind a transaction pooler. The clock is the database's.
"""

from pathlib import Path

from service.database.pool import Database
from service.database.queries import load

_QUERIES = load(Path(__file__).with_name("queries.sql"))


async def try_lead(db: Database, name: str, holder: str, seconds: float) -> bool:
    """Whether `holder` leads `name` for the next `seconds`: newly, or by renewing its own lease.

    `holder` names one process uniquely. Call again well before the time is over. Work done under the lease must stand
    being done twice: a process that is frozen past its lease does not know.
    """
    return await db.fetchval(_QUERIES.take_lease, name, holder, seconds) is True


async def resign(db: Database, name: str, holder: str) -> None:
    """Give the lease back if `holder` has it, so that another takes over at once."""
    await db.execute(_QUERIES.give_back_lease, name, holder)
