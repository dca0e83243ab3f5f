"""Commands as rows: what was asked, written down before anything leaves, and what became of it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from asyncpg import Record

from service.database.queries import load
from service.desk.errors import KeyReused, WrongState
from service.orders.asked import SETTLED_STATUSES, AskedCommand
from service.orders.money import plain

QUERIES = load(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One row of `commands`, without its body and its lease. Amounts are in `currency`, times are UTC.

    `kind`: create, cancel, refund, legacy_put, legacy_delete. `status`: waiting, sending, unknown, accepted (still
    open), done, refused, withdrawn (settled). `maybe_sent_at` is None while nothing of it can have reached the
    provider. `reserved` is a refund's share of each payment, by payment id. `answer` is the provider's JSON object
    that decided it, its numbers as `Decimal`. The columns are described in migration 0002.
    """

    command_id: str
    account: str
    idempotency_key: str
    asked_by: str
    asked_at: datetime
    kind: str
    type: str | None
    order_id: str | None
    external_reference: str | None
    point_of_sale: str | None
    payment_id: str | None
    amount: Decimal | None
    currency: str | None
    reserved: Mapping[str, Decimal]
    options: Mapping[str, Any]
    provider_key: str
    status: str
    attempts: int
    maybe_sent_at: datetime | None
    attempted_at: datetime | None
    valid_until: datetime | None
    accepted_at: datetime | None
    settled_at: datetime | None
    provider_status: int | None
    provider_code: str | None
    message: str | None
    refund_ids: tuple[str, ...]
    answer: Mapping[str, Any] | None
    last_error: str | None
    expires_at: datetime | None
    due_at: datetime | None

    @property
    def is_settled(self) -> bool:
        """Nothing more will come of it: done, refused or withdrawn."""
        return self.status in SETTLED_STATUSES


def command_row(row: Record) -> CommandRow:
    """A row of `select *` from `commands`."""
    values: dict[str, Any] = {name: row[name] for name in CommandRow.__slots__}
    values["reserved"] = _amounts(row["reserved"])
    values["options"] = json.loads(row["options"])
    values["refund_ids"] = tuple(row["refund_ids"])
    values["answer"] = None if row["answer"] is None else json.loads(row["answer"], parse_float=Decimal)
    return CommandRow(**values)


def asked_command(command: CommandRow) -> AskedCommand:
    """The same as the rules and the reservation of refunds see it."""
    return AskedCommand(**{name: getattr(command, name) for name in AskedCommand.__slots__})


def _amounts(text: str) -> dict[str, Decimal]:
    return {payment_id: Decimal(amount) for payment_id, amount in json.loads(text).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What somebody asks for, ready to be written down. `key` is the caller's, `provider_key` the one that is sent.

    `valid_for_seconds`: unsent by then it is withdrawn. `payable_for_seconds`: how long what it puts on a point of
    sale can be paid. `body` is what is sent, the same text at every attempt; None sends no body.
    """

    command_id: str
    account: str
    key: str
    request_hash: bytes
    asked_by: str
    kind: str
    provider_key: str
    type: str | None = None
    order_id: str | None = None
    external_reference: str | None = None
    point_of_sale: str | None = None
    payment_id: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    reserved: Mapping[str, Decimal] = field(default_factory=dict)
    body: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    valid_for_seconds: float | None = None
    payable_for_seconds: float | None = None


async def find_by_key(
    connection: Any, account: str, key: str, request_hash: bytes, *, unnamed_by: str | None = None
) -> CommandRow | None:
    """What this key was used for; None for a new one. Raises `KeyReused` where it was another request.

    `unnamed_by` is who asks without naming the account: another one may have been the usual one when it was asked
    first. Raises `WrongState` where several were.
    """
    row = await connection.fetchrow(QUERIES.read_command_by_key, account, key)
    if row is None:
        return None if unnamed_by is None else await _find_elsewhere(connection, key, request_hash, unnamed_by)
    if bytes(row["request_hash"]) != request_hash:
        raise KeyReused
    return command_row(row)


async def _find_elsewhere(connection: Any, key: str, request_hash: bytes, asked_by: str) -> CommandRow | None:
    rows = await connection.fetch(QUERIES.read_repeats_elsewhere, key, request_hash, asked_by)
    if len(rows) > 1:
        names = ", ".join(row["account"] for row in rows)
        message = f"this was asked under this key for several accounts ({names}): name the account"
        raise WrongState(message, code="account_unclear")
    return command_row(rows[0]) if rows else None


async def write_down(connection: Any, intent: Intent) -> tuple[CommandRow, bool]:
    """The row of this intent, and whether it is new: the same key and request give the row that there is.

    Raises `KeyReused` where the key belongs to another request. Whoever comes second at the same moment waits here for
    the first one's commit.
    """
    row = await connection.fetchrow(
        QUERIES.record_command,
        intent.command_id,
        intent.account,
        intent.key,
        intent.request_hash,
        intent.asked_by,
        intent.kind,
        intent.type,
        intent.order_id,
        intent.external_reference,
        intent.point_of_sale,
        intent.payment_id,
        intent.amount,
        intent.currency,
        reserved_text(intent.reserved),
        intent.body,
        json.dumps(dict(intent.options)),
        intent.provider_key,
        intent.valid_for_seconds,
        intent.payable_for_seconds,
    )
    if row is not None:
        return command_row(row), True
    there = await find_by_key(connection, intent.account, intent.key, intent.request_hash)
    if there is None:
        raise RuntimeError("a command that was there a moment ago is gone; commands are never deleted")
    return there, False


async def commands_of_order(connection: Any, order_id: str) -> list[AskedCommand]:
    """Everything that was asked here for one order, in the order in which it was asked."""
    return asked_commands(await connection.fetch(QUERIES.read_commands_of_order, order_id))


def asked_commands(rows: Iterable[Record]) -> list[AskedCommand]:
    """Rows of `commands` as the rules see them."""
    return [asked_command(command_row(row)) for row in rows]


def reserved_text(reserved: Mapping[str, Decimal]) -> str:
    """JSON for the column: amounts as text, every digit kept."""
    return json.dumps({payment_id: plain(amount) for payment_id, amount in reserved.items()})
