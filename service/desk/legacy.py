"""Carrying out the legacy attended QR's commands: putting a sale on a point of sale, and taking it off.

Mercado Pago knows no idempotency key for these: what is put replaces what is there, and says nothing of it. So
a call whose answer was lost is repeated only while nothing was asked for the same point of sale since, and only as
long as what it puts there can still be paid; before that it is asked whether the first call took effect, because a
sale that is put up once more after its buyer has paid could be paid twice.

Sources: legacy fact sheet, §1, §2, §4.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

from service.database.pool import Database
from service.database.queries import load
from service.desk.outcomes import Outcome, Verdict
from service.desk.work import Executor, Tools, Work
from service.mercadopago.account import Account, LegacyQr
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.json_text import parse_json
from service.mercadopago.legacy import MERCHANT_ORDER_PREFIX, is_number
from service.mercadopago.legacy_request import DEFAULT_TTL_SECONDS, order_body_v2
from service.orders.money import parse_amount

_GENERATIONS: Final[tuple[LegacyQr, ...]] = get_args(LegacyQr)
QUERIES = load(Path(__file__).with_name("legacy.sql"))
# The provider's clock dates a scan, ours dates the call that made it possible.
CLOCKS_DIFFER: Final = timedelta(minutes=1)
# A sale that a search found is read by then.
_FOUND_IS_READ_SECONDS: Final = 1.0
_LOOK_AGAIN_SECONDS: Final = 60.0
# V2's words for an empty point of sale: of a DELETE, and of a GET.
_NOTHING_THERE: Final = frozenset({"in_store_order_delete_error", "point_of_sale_in_store_order_not_found"})

SUPERSEDED: Final = (
    "Nobody knows whether Mercado Pago took this, and something newer was asked for the same point of sale, so it is "
    "not sent again; if a buyer pays it all the same, the sale shows up here."
)
EXPIRED: Final = (
    "Nobody knows whether Mercado Pago took this, and its time is over, so it is not sent again; if a buyer pays it "
    "all the same, the sale shows up here."
)
UNKNOWN_DELETE: Final = (
    "Nobody knows whether Mercado Pago took this order off the point of sale; look at the till, and ask again if it is "
    "still there."
)
REPLACED: Final = "Something newer was asked for the same point of sale, so this is not sent again."
NOTHING_THERE: Final = "There was nothing on this point of sale."


def generation_of(account: Account, work: Work) -> LegacyQr:
    """Which of the two APIs this command speaks: fixed when it was asked, else the account's, else V1."""
    asked = work.command.options.get("generation")
    for generation in _GENERATIONS:
        if asked == generation:
            return generation
    return account.legacy_qr or "v1"


def store_of(account: Account, work: Work) -> str | None:
    """The store that V2's addresses name."""
    asked = work.command.options.get("external_store_id")
    return asked if isinstance(asked, str) and asked else account.legacy_store_id


def unsendable(account: Account, work: Work) -> Outcome | None:
    """Why this command cannot be sent with the account's settings; None where it can."""
    if account.user_id is None or not is_number(account.user_id):
        message = f"Set user_id of account {account.name} to its number: the legacy QR's addresses bear it."
        return Outcome(Verdict.REFUSED, code="no_user_id", message=message)
    if generation_of(account, work) == "v2" and store_of(account, work) is None:
        message = f"Set legacy_store_id of account {account.name}: the V2 addresses of the legacy QR bear it."
        return Outcome(Verdict.REFUSED, code="no_legacy_store", message=message)
    return None


async def send_put(tools: Tools, account: Account, work: Work) -> ProviderAnswer | Outcome:
    """Puts the sale on its point of sale, or finds that an earlier attempt did, or that it is too late to repeat it."""
    refusal = unsendable(account, work)
    if refusal is not None:
        return refusal
    row = await tools.database.fetchrow(
        QUERIES.date_expiry, work.command.command_id, work.lease_token, float(ttl_seconds(work) or DEFAULT_TTL_SECONDS)
    )
    if row is None:
        # The lease is lost: whoever has the command now sends it, if it is to be sent.
        return Outcome(Verdict.RETRY, code="lease_lost", unknown=True)
    if not work.is_first:
        known = await _before_repeating(tools, account, work, row["now"], row["expires_at"])
        if known is not None:
            return known
    return await _put(tools, account, work, now=row["now"], expires_at=row["expires_at"])


def ttl_seconds(work: Work) -> int | None:
    """How long the sale was asked to be payable; None leaves it to the provider (600 s)."""
    asked = work.command.options.get("ttl_seconds")
    return asked if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0 else None


def seconds_left(expires_at: datetime, now: datetime) -> int:
    """Whole seconds, at least one, that a sale which ends then has from `now` on."""
    return max(1, math.ceil((expires_at - now).total_seconds()))


async def _put(
    tools: Tools, account: Account, work: Work, *, now: datetime, expires_at: datetime
) -> ProviderAnswer | Outcome:
    # A repeat asks for what is left: its sale ends when the first attempt's would have.
    ttl = ttl_seconds(work) if work.is_first else seconds_left(expires_at, now)
    generation, body = generation_of(account, work), work.body or "{}"
    if generation == "v2":
        body, ttl = order_body_v2(_v1_body(work), now=expires_at, ttl_seconds=0), None
    return await tools.client.put_legacy_order(
        account,
        work.command.point_of_sale or "",
        body,
        generation=generation,
        ttl_seconds=ttl,
        store_id=store_of(account, work) if generation == "v2" else None,
    )


def _v1_body(work: Work) -> dict[str, Any]:
    value = parse_json((work.body or "{}").encode()).value
    return value if isinstance(value, dict) else {}


async def _before_repeating(
    tools: Tools, account: Account, work: Work, now: datetime, expires_at: datetime
) -> Outcome | None:
    """What is known of a sale that may be up already; None where it is right to put it up once more."""
    took_effect = await _took_effect(tools, account, work)
    if took_effect is not None:
        return took_effect
    if not work.is_newest:
        return Outcome(Verdict.REFUSED, code="superseded", message=SUPERSEDED)
    if now >= expires_at:
        return Outcome(Verdict.REFUSED, code="expired", message=EXPIRED)
    return None


async def _took_effect(tools: Tools, account: Account, work: Work) -> Outcome | None:
    """Looks for what an earlier attempt did: the buyer's scan, stored or searched for, or the sale on its place."""
    command = work.command
    if command.external_reference is not None and command.maybe_sent_at is not None:
        since = command.maybe_sent_at - CLOCKS_DIFFER
        if await _was_scanned(tools, work, since):
            return Outcome(Verdict.DONE)
        found = await tools.client.search_merchant_orders(account, command.external_reference)
        if found and (await mark_found(tools.database, account.name, found, since)).unread:
            # A sale that is not stored: whether it is this one shows when it is read, in a moment.
            return Outcome(Verdict.RETRY, code="found_by_search", wait_seconds=_FOUND_IS_READ_SECONDS, unknown=True)
    if generation_of(account, work) == "v2":
        current = await tools.client.get_legacy_current(account, command.point_of_sale or "")
        if current is not None and is_same_sale(current, command.external_reference, command.amount):
            return Outcome(Verdict.DONE)
    return None


async def _was_scanned(tools: Tools, work: Work, since: datetime) -> bool:
    command = work.command
    row = await tools.database.fetchrow(
        QUERIES.find_sale_order, command.account, command.external_reference, since, command.maybe_sent_at, None
    )
    return row is not None


class Found(NamedTuple):
    """Of the merchant orders that a search showed: how many nobody here had heard of, and how many are not stored."""

    unheard: int
    unread: int


async def mark_found(database: Database, account: str, found: Sequence[str], since: datetime) -> Found:
    """Marks due what a search showed (`found`: merchant orders' numbers), as far as anything is to be learned of it."""
    ids = sorted({sync_id(number) for number in found})
    row = await database.fetchrow(QUERIES.mark_found_orders, account, ids, since)
    assert row is not None, "an aggregate without groups has one row"
    return Found(row["unheard"], row["unread"])


def sync_id(number: str) -> str:
    """`MO` and a merchant order's number."""
    return number if number.startswith(MERCHANT_ORDER_PREFIX) else MERCHANT_ORDER_PREFIX + number


def is_same_sale(current: dict[str, object], external_reference: str | None, amount: Decimal | None) -> bool:
    """Whether what a point of sale shows (V2) is this sale: the same reference, and the same total to the cent."""
    if current.get("external_reference") != external_reference:
        return False
    try:
        return amount is None or parse_amount(current.get("total_amount")) == amount
    except ValueError:
        return False


async def compare_put(tools: Tools, account: Account, work: Work) -> Outcome:
    """What became of a sale that is not sent again: done where it shows, else given up once its time is over."""
    took_effect = await _took_effect(tools, account, work)
    if took_effect is not None:
        return took_effect if took_effect.verdict is Verdict.DONE else replace(took_effect, verdict=Verdict.COMPARE)
    if not work.is_newest:
        return Outcome(Verdict.REFUSED, code="superseded", message=SUPERSEDED)
    now: datetime = await tools.database.fetchval(QUERIES.read_now)
    ends = work.command.expires_at
    if ends is None or now >= ends:
        return Outcome(Verdict.REFUSED, code="expired", message=EXPIRED)
    return Outcome(Verdict.COMPARE, wait_seconds=_LOOK_AGAIN_SECONDS, unknown=True)


async def send_delete(tools: Tools, account: Account, work: Work) -> ProviderAnswer | Outcome:
    """Takes what is on the point of sale off it; that there is nothing is as good."""
    refusal = unsendable(account, work)
    if refusal is not None:
        return refusal
    if not (work.is_first or work.is_newest):
        # A repeat would take off what was put there since; what was to go is gone.
        return Outcome(Verdict.DONE, code="superseded", message=REPLACED)
    generation, place = generation_of(account, work), work.command.point_of_sale or ""
    answer = await tools.client.delete_legacy_order(
        account, place, generation=generation, store_id=store_of(account, work) if generation == "v2" else None
    )
    is_empty = generation == "v2" and answer.code in _NOTHING_THERE and 400 <= answer.status < 500
    # The same words stand for other failures, too, so the place is looked at.
    if is_empty and await _shows_nothing(tools, account, work):
        return Outcome(Verdict.DONE, code=answer.code, status=answer.status, message=NOTHING_THERE)
    return answer


async def compare_delete(tools: Tools, account: Account, work: Work) -> Outcome:
    """What became of a deletion that is not sent again: V2 shows whether the place is empty, V1 cannot be asked."""
    if not work.is_newest:
        return Outcome(Verdict.DONE, code="superseded", message=REPLACED)
    if generation_of(account, work) == "v2" and await _shows_nothing(tools, account, work):
        return Outcome(Verdict.DONE)
    return Outcome(Verdict.REFUSED, code="unknown_outcome", message=UNKNOWN_DELETE)


async def _shows_nothing(tools: Tools, account: Account, work: Work) -> bool:
    return await tools.client.get_legacy_current(account, work.command.point_of_sale or "") is None


LEGACY_PUT: Final = Executor(send=send_put, compare=compare_put)
LEGACY_DELETE: Final = Executor(send=send_delete, compare=compare_delete)
