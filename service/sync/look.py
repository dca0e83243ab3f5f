"""One look: the provider's answer for a claimed order or payment hint, or the failure that came instead.

An order that is stored and shown no more is read by its payments (`by_payments`), where a database is given.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from service.database.pool import UNAVAILABLE, Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.documents import Fields
from service.mercadopago.errors import (
    AccountRefused,
    BadRequest,
    MercadoPagoError,
    OrderNotFound,
    ProviderTrouble,
    Timeout,
    UnreadableOrder,
)
from service.mercadopago.legacy import is_merchant_order_id, is_payment_hint_id
from service.mercadopago.pacing import AccountGate
from service.sync.apply import Look
from service.sync.by_payments import ASKING_SECONDS, NOT_TOLD, last_document, read_by_payments
from service.sync.claims import QUERIES, Claim
from service.sync.payment_hints import payment_number, payment_told
from service.sync.settle import LOST_LEASES, NOT_OURS, WORKER_LOST, Failure, failure_of

# Orders of the account have been read for this long without a pause: what still fails is the order, not the provider.
OTHERS_SUCCEED_SECONDS: Final = 3600.0


async def look_at(
    client: MercadoPagoClient,
    account: Account,
    claim: Claim,
    gate: AccountGate,
    clock: Callable[[], float],
    *,
    database: Database | None = None,
) -> Look:
    """Fetches one order (of either system), or the payment that a hint names, and tells the account's gate how it went.

    `database` holds the last document of an order that is shown no more; without it such an order is not found. It
    also names another order to ask for where one is refused; without it a known order's refusal is the account's. No
    connection is held while the provider is asked.
    """
    if claim.lost_leases >= LOST_LEASES:
        gate.abandoned(clock())
        return Look(claim, failure=WORKER_LOST)
    try:
        look = await _read(client, account, claim)
    except MercadoPagoError as error:
        if _may_be_anothers(claim, error):
            try:
                alone = await _alone(client, account, claim, error, database)
            except ProviderTrouble as trouble:
                return _refused_in_trouble(claim, error, trouble, gate, clock())
            if alone is not None:
                gate.order_fault(clock())
                return Look(claim, failure=alone, others_succeed=_others_succeed(gate, clock()))
        look = _failed(claim, error, gate, clock())
        if database is not None and isinstance(error, OrderNotFound):
            return await _shown_no_more(client, account, look, gate, clock, database)
        return look
    except BaseException:
        # Cancelled, or a fault of ours: it says nothing about the account, but the call is over.
        gate.abandoned(clock())
        raise
    gate.succeeded(clock())
    return look


async def _read(client: MercadoPagoClient, account: Account, claim: Claim) -> Look:
    if is_payment_hint_id(claim.order_id):
        number = payment_number(claim.order_id)
        return Look(claim, told=payment_told(await client.get_payment(account, number), number, account))
    fetched = await client.get_any(account, claim.order_id)
    return Look(claim, read=fetched.read)


async def _shown_no_more(
    client: MercadoPagoClient,
    account: Account,
    not_found: Look,
    gate: AccountGate,
    clock: Callable[[], float],
    database: Database,
) -> Look:
    """The order by its payments, where it is old enough and they tell all of it; else `not_found` stands."""
    claim = not_found.claim
    try:
        last = await last_document(database, claim)
    except UNAVAILABLE as error:
        return Look(claim, failure=Failure("database", f"the stored order: {type(error).__name__}", counts=False))
    if last is None:
        return not_found
    try:
        async with asyncio.timeout(ASKING_SECONDS):
            read = await read_by_payments(last, lambda number: _payment(client, account, number, gate, clock))
    except TimeoutError:
        late = Timeout(f"the payments of an order that is shown no more were not told within {ASKING_SECONDS:g} s")
        return Look(claim, failure=failure_of(late))
    except MercadoPagoError as error:
        return await _untold(client, account, not_found, error, gate, clock)
    return not_found if read is None else Look(claim, read=read, laid_over=last.payload_hash)


async def _payment(
    client: MercadoPagoClient, account: Account, number: str, gate: AccountGate, clock: Callable[[], float]
) -> Fields:
    """One more call of the account's; of a failure that is not `NOT_TOLD`, whoever catches it tells the gate."""
    gate.take(clock(), known=1)
    try:
        payment = await client.get_payment(account, number)
    except NOT_TOLD:
        gate.order_fault(clock())
        raise
    except MercadoPagoError:
        raise
    except BaseException:
        gate.abandoned(clock())
        raise
    gate.succeeded(clock())
    return payment


async def _untold(
    client: MercadoPagoClient,
    account: Account,
    not_found: Look,
    error: MercadoPagoError,
    gate: AccountGate,
    clock: Callable[[], float],
) -> Look:
    if isinstance(error, UnreadableOrder):
        # Answered, and the gate was told so.
        return Look(not_found.claim, failure=failure_of(error))
    try:
        if isinstance(error, AccountRefused) and await _is_welcome(client, account):
            # A token that is good, and may not see payments, is no reason to pause the account.
            gate.order_fault(clock())
            return not_found
    except ProviderTrouble as trouble:
        return _refused_in_trouble(not_found.claim, error, trouble, gate, clock())
    return _failed(not_found.claim, error, gate, clock())


def _may_be_anothers(claim: Claim, error: MercadoPagoError) -> bool:
    """Whether this refusal may be about the id alone: 403; of the legacy resources also 401 `invalid_caller_id`."""
    legacy = is_merchant_order_id(claim.order_id) or is_payment_hint_id(claim.order_id)
    return error.status == 403 or (legacy and error.status == 401)


async def _alone(
    client: MercadoPagoClient, account: Account, claim: Claim, error: MercadoPagoError, database: Database | None
) -> Failure | None:
    """The order's own failure, where it alone is refused; None where the account is.

    Raises `ProviderTrouble` where the provider does not say.
    """
    if claim.trust == 0 and await _is_welcome(client, account):
        return NOT_OURS
    if claim.known and await _shows_another(client, account, claim, database):
        return _refused_alone(error)
    return None


async def _is_welcome(client: MercadoPagoClient, account: Account) -> bool:
    """Whether the provider takes the account's token as such.

    Another seller's order may be answered 403. An id that nobody trusted spoke of must not pause an account with that
    (invariant I8), so the token itself is asked about. Raises `ProviderTrouble` where that is not answered.
    """
    try:
        await client.who_am_i(account)
    except ProviderTrouble:
        raise
    except MercadoPagoError:
        return False
    return True


async def _shows_another(client: MercadoPagoClient, account: Account, claim: Claim, database: Database | None) -> bool:
    """Whether the account is shown another order, one that was read well before: then this one alone is refused.

    Every order may be refused to a token that is good, so the token itself is not asked about: that is the account's
    trouble. So it is where nothing was read yet. Not paced by the gate: an order that is refused is tried seldom.
    Raises `ProviderTrouble` where the other order is not answered for.
    """
    if database is None:
        return False
    is_legacy = is_merchant_order_id(claim.order_id) or is_payment_hint_id(claim.order_id)
    try:
        witness = await database.fetchval(QUERIES.read_witness, account.name, claim.order_id, is_legacy)
        if witness is None:
            return False
        await client.get_any(account, witness)
    except OrderNotFound:
        # Looked for and no longer shown: the token was taken.
        return True
    except ProviderTrouble:
        raise
    except MercadoPagoError:
        return False
    except UNAVAILABLE:
        return False
    return True


def _refused_alone(error: MercadoPagoError) -> Failure:
    failure = failure_of(error)
    return replace(failure, message=f"{failure.message} (this order alone: the account's others are shown)")


def _refused_in_trouble(
    claim: Claim, error: MercadoPagoError, trouble: ProviderTrouble, gate: AccountGate, now: float
) -> Look:
    """A refusal while the provider does not say whether it is the account's: nothing is known of the token.

    So the account is not paused for it. The trouble counts for the breaker, and the order is tried again like any that
    met trouble: a token that is really refused is refused then.
    """
    others_succeed = _others_succeed(gate, now)
    gate.trouble(now, trouble)
    failure = failure_of(error)
    message = f"{failure.message} (whether the account is refused is not known: {trouble.outcome})"
    return Look(claim, failure=replace(failure, message=message), others_succeed=others_succeed)


def _others_succeed(gate: AccountGate, now: float) -> bool:
    return gate.well_since is not None and now - gate.well_since >= OTHERS_SUCCEED_SECONDS


def _failed(claim: Claim, error: MercadoPagoError, gate: AccountGate, now: float) -> Look:
    others_succeed = _others_succeed(gate, now)
    if isinstance(error, AccountRefused):
        gate.refused(now)
    elif isinstance(error, ProviderTrouble):
        gate.trouble(now, error)
    elif isinstance(error, BadRequest) and error.status == 0:
        # Refused before it was sent: says nothing about the provider.
        gate.abandoned(now)
    else:
        gate.order_fault(now)
    body = error.body if isinstance(error, UnreadableOrder) else None
    return Look(claim, failure=failure_of(error), others_succeed=others_succeed, unreadable_body=body)
