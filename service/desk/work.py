"""What the runner hands to an executor: one claimed command, and what is needed to send it or look into it."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from asyncpg import Record

from service.database.pool import Database
from service.desk.intents import CommandRow, command_row
from service.desk.outcomes import Outcome
from service.mercadopago.account import Account
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.client import MercadoPagoClient

CREATE_LATE_SECONDS: Final = 5.0
"""So soon after its attempt was dated the call of a creation, or of a legacy sale, begins, or it is not made: what is
newer on its point of sale waits for it no longer (`claim_due_commands`)."""


@dataclass(frozen=True, slots=True)
class Work:
    """A command under lease. From its claim's commit on, it counts as sent.

    `is_first`: no attempt before this one may have reached the provider. `is_past`: it is too late to send it again
    (its sale is over, or another one was put on its point of sale since), or sending it again would tell nothing, so
    what became of it has to be found out by looking. `is_newest`: nothing
    was asked for the same point of sale since. `was_unknown`: its outcome was unknown before this claim.
    `order_age_seconds` counts from the creation of the stored order that it is about.
    """

    command: CommandRow
    body: str | None
    lease_token: UUID
    is_first: bool
    is_past: bool
    is_newest: bool
    was_unknown: bool
    age_seconds: float
    order_age_seconds: float | None


def work_of(row: Record) -> Work:
    """A row of `claim_due_commands`."""
    return Work(
        command=command_row(row),
        body=row["body"],
        lease_token=row["lease_token"],
        is_first=row["is_first"],
        is_past=row["is_past"],
        is_newest=row["is_newest"],
        was_unknown=row["was_unknown"],
        age_seconds=row["age_seconds"],
        order_age_seconds=row["order_age_seconds"],
    )


@dataclass(frozen=True, slots=True)
class Tools:
    """What executors work with. No connection or transaction may be held while the client calls.

    `clock` counts seconds, and goes on while the process stands still.
    """

    database: Database
    client: MercadoPagoClient
    clock: Callable[[], float] = time.monotonic


Send = Callable[[Tools, Account, Work], Awaitable[ProviderAnswer | Outcome]]
"""Makes the call, once. Its answer is judged by `outcomes.judge`; an `Outcome` stands as it is (nothing was called, or
more than one answer decided). Raises `MercadoPagoError`."""

Compare = Callable[[Tools, Account, Work], Awaitable[Outcome]]
"""Finds out by looking what became of a command that is not sent again: `done` or `accepted` (adopted), `refused`, or
`compare` again after `wait_seconds`. Its `status` is that of a provider's answer if it asked. Raises
`MercadoPagoError`."""


@dataclass(frozen=True, slots=True)
class Executor:
    """How commands of one kind are carried out."""

    send: Send
    compare: Compare
