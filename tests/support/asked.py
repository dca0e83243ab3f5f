"""Rows of `commands`, as whoever executes them leaves them behind."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from service.database.pool import Database

INSERT = """
insert into cuadre.commands (
    command_id, account, idempotency_key, request_hash, asked_by, asked_at, kind, order_id, external_reference,
    amount, currency, reserved, provider_key, status, maybe_sent_at, accepted_at, settled_at, refund_ids, expires_at
)
select $1, $2, $1, '\\x00', 'a test', now() - $3::interval, $4, $5, $6, $7, 'ARS', $8::jsonb, $1, $9,
    case when $9 <> 'waiting' then now() - $3::interval end,
    case when $9 in ('accepted', 'done') then now() - $3::interval end,
    case when $9 in ('done', 'refused', 'withdrawn') then now() - $3::interval end,
    $10, now() + $11::interval
on conflict (command_id) do update set
    status = excluded.status, accepted_at = excluded.accepted_at, settled_at = excluded.settled_at,
    refund_ids = excluded.refund_ids
"""


async def ask(
    database: Database,
    command_id: str,
    kind: str,
    status: str,
    *,
    order_id: str | None = None,
    account: str = "default",
    age: timedelta = timedelta(0),
    amount: str | None = None,
    reserved: Mapping[str, str] | None = None,
    refund_ids: Sequence[str] = (),
    external_reference: str | None = None,
    expires_in: timedelta | None = None,
) -> None:
    """A command that was asked for, sent and answered `age` ago; the same id again gives it another outcome."""
    await database.execute(
        INSERT,
        command_id,
        account,
        age,
        kind,
        order_id,
        external_reference,
        None if amount is None else Decimal(amount),
        json.dumps(dict(reserved or {})),
        status,
        list(refund_ids),
        expires_in,
    )
