"""What the internal application's handlers work with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from service.accounts import AccountBook
from service.database.pool import Database
from service.web.health import Health

MarkDue = Callable[[str, str], Awaitable[object]]
"""Marks an order (id, account) due for a look; raises what the database raises."""


@dataclass(frozen=True, slots=True)
class InternalState:
    """One application's collaborators."""

    database: Database
    mark_due: MarkDue
    accounts: Callable[[], AccountBook]
    health: Health


STATE: web.AppKey[InternalState] = web.AppKey("STATE", InternalState)
