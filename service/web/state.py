"""What the internal application's handlers work with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from service.accounts import AccountBook
from service.database.pool import Database
from service.web.health import Health
from service.web.limits import CommandLimits

if TYPE_CHECKING:
    from service.desk.desk import Desk

MarkDue = Callable[[str, str], Awaitable[object]]
"""Marks an order (id, account) due for a look; raises what the database raises."""


@dataclass(frozen=True, slots=True)
class InternalState:
    """One application's collaborators. Without a `desk` commands are answered 503."""

    database: Database
    mark_due: MarkDue
    accounts: Callable[[], AccountBook]
    health: Health
    desk: "Desk | None" = None
    limits: CommandLimits = field(default_factory=CommandLimits)


STATE: web.AppKey[InternalState] = web.AppKey("STATE", InternalState)
