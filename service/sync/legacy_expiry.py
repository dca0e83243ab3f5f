"""When a legacy sale stops being payable: its merchant order does not say it, the command that put it up does."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from service.mercadopago.legacy import is_merchant_order_id, with_expiry
from service.sync.claims import QUERIES

if TYPE_CHECKING:
    from service.sync.apply import Look


async def with_legacy_expiries(connection: Any, looks: "Sequence[Look]") -> "list[Look]":
    """The same looks, in their order; read legacy orders bear the expiry that was asked for here, if any was."""
    references = {
        number: (look.claim.account, look.read.snapshot.external_reference)
        for number, look in enumerate(looks)
        if look.read is not None and look.read.snapshot.external_reference and is_merchant_order_id(look.claim.order_id)
    }
    if not references:
        return list(looks)
    keys = sorted(set(references.values()))
    rows = await connection.fetch(QUERIES.read_legacy_expiries, [key[0] for key in keys], [key[1] for key in keys])
    expiries = {(row["account"], row["external_reference"]): row["expires_at"] for row in rows}
    return [
        _served(look, expiries.get(references[number])) if number in references else look
        for number, look in enumerate(looks)
    ]


def _served(look: "Look", expires_at: datetime | None) -> "Look":
    if look.read is None or expires_at is None:
        return look
    return replace(look, read=with_expiry(look.read, expires_at, look.claim.claimed_at))
