"""Reading an order that is shown no more: its last document, and its payments in the Payments API laid over it.

No database connection is held while the provider is asked: the document is read before.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from service.database.pool import Database
from service.database.queries import load
from service.mercadopago.documents import Fields, ReadOrder
from service.mercadopago.errors import BadRequest, MercadoPagoError, OrderNotFound
from service.mercadopago.legacy import is_merchant_order_id
from service.mercadopago.reader import read_any
from service.sync.claims import Claim
from service.sync.payments_overlay import laid_over, references_of

QUERIES = load(Path(__file__).with_name("by_payments.sql"))

SHOWN_FOR: Final = timedelta(days=85)
"""`GET /v1/orders/{id}` is documented for orders of the last three months; a 404 before that is no end of showing."""

ASKING_SECONDS: Final = 15.0
"""How long the payments of one order may take in all: a lease lasts twice as long."""

READ_BY_PAYMENTS: Final = "read by its payments: the order itself is shown no more"

NOT_TOLD: Final = (OrderNotFound, BadRequest)
"""The provider answered well, and has nothing to say of this payment."""

log = structlog.get_logger(__name__)


async def last_document(database: Database, claim: Claim) -> ReadOrder | None:
    """What is stored of an order of the Orders API that may be shown no more; None for any other.

    Its hash is the stored one: laid over with nothing new, it is what is stored. Raises what the database raises.
    """
    # What only strangers spoke of is not stored; merchant orders are shown without end.
    if not claim.known or is_merchant_order_id(claim.order_id):
        return None
    row = await database.fetchrow(QUERIES.read_last_document, claim.order_id, claim.claimed_at - SHOWN_FOR)
    if row is None:
        return None
    try:
        read = read_any(row["payload"].encode(), claim.order_id)
    except MercadoPagoError as error:
        log.warning("stored_order_unreadable", order_id=claim.order_id, error=str(error))
        return None
    return ReadOrder(read.snapshot, read.text, row["payload_hash"], row["payload_altered"])


async def read_by_payments(last: ReadOrder, ask: Callable[[str], Awaitable[Fields]]) -> ReadOrder | None:
    """The order as its payments tell it now; None where they do not tell all, and what is stored must stand.

    `ask` gets a payment by its reference. Raises what it raises but `NOT_TOLD`, and `UnreadableOrder` for what is told.
    """
    payments: dict[str, Fields] = {}
    for reference, paid in references_of(last.snapshot).items():
        try:
            payments[reference] = await ask(reference)
        except NOT_TOLD:
            if paid:
                return None
    return laid_over(last, payments) if payments else None
