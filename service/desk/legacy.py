"""Carrying out the legacy attended QR's commands: putting a sale on a point of sale, and taking it off.

Mercado Pago knows no idempotency key for these: what is put replaces what is there, and says nothing of it. So
a put whose answer was lost is repeated only while nothing was asked for the same point of sale since, and only as
long as what it puts there can still be paid; before that it is asked whether the first call took effect, because a
sale that is put up once more after its buyer has paid could be paid twice. A deletion is repeated until it is
answered: what was asked later for its point of sale waits for it.

Sources: legacy fact sheet, §1, §2, §4.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

from service.database.pool import Database
from service.database.queries import load
from service.desk.intents import CommandRow
from service.desk.outcome_table import Meaning, meaning_of
from service.desk.outcomes import Outcome, Verdict
from service.desk.sentences import UNKNOWN, sentence
from service.desk.work import CREATE_LATE_SECONDS, Executor, Tools, Work
from service.mercadopago.account import Account, LegacyQr
from service.mercadopago.answers import ProviderAnswer, is_own_words
from service.mercadopago.errors import AccountRefused, MercadoPagoError, NonsenseAnswer, OrderFault
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
# So long a deletion is repeated that is answered, but not by words that are known.
_VAGUE_FOR_SECONDS: Final = 60.0
# So long what became of a deletion is asked for again where it cannot be looked up.
_LOOKUP_FOR_SECONDS: Final = 600.0
# How long something newer waits at most for the next attempt at what stands before it.
_NEWER_WAITS_SECONDS: Final = {"legacy_put": 1.0, "legacy_delete": 15.0}
# A merchant order that nobody here had heard of: what it is shows in a moment.
_FOUND_NEW: Final = "found_by_search"
# One that is not read yet, or is read and may be this sale's.
_FOUND_UNCLEAR: Final = "found_unclear"

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
STILL_THERE: Final = (
    "Mercado Pago did not take the order off this point of sale, where it can still be paid: ask again, or put another "
    "order there."
)
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


@dataclass(frozen=True, slots=True)
class _Held:
    """A put whose lease is this runner's now: the database's clock, its sale's end, whether nothing newer was asked.

    `is_overtaken`: a newer sale, of whichever API, may stand on its QR. `since`: this process's clock before the
    attempt was dated; what is newer waits for the call no longer than counted from there.
    """

    since: float
    now: datetime
    expires_at: datetime
    is_newest: bool
    is_overtaken: bool


async def send_put(tools: Tools, account: Account, work: Work) -> ProviderAnswer | Outcome:
    """Puts the sale on its point of sale, or finds that an earlier attempt did, or that it is too late to repeat it."""
    refusal = unsendable(account, work)
    if refusal is not None:
        return refusal
    held = await _hold(tools, work)
    if held is not None and not work.is_first:
        ended = _ended(is_newest=held.is_newest, now=held.now, expires_at=held.expires_at)
        known = await _look_up(tools, account, work, ended)
        if known is not None:
            return known
        # That took its time: somebody else may have the command by now, and another sale the place.
        held = await _hold(tools, work)
        if held is not None and (ended := _ended(is_newest=held.is_newest, now=held.now, expires_at=held.expires_at)):
            return ended
    if held is None:
        # The lease is lost: whoever has the command now sends it, if it is to be sent.
        return Outcome(Verdict.RETRY, code="lease_lost", unknown=True)
    if held.is_overtaken:
        # It was held up since its claim, and never left: it is withdrawn, unless what is newer is refused.
        return Outcome(Verdict.UNSENT, code="superseded", wait_seconds=_NEWER_WAITS_SECONDS["legacy_put"])
    return await _put(tools, account, work, held)


async def _hold(tools: Tools, work: Work) -> _Held | None:
    """Dates the sale's end, and keeps the lease for the call that follows; None where the lease is somebody else's."""
    command, seconds = work.command, float(ttl_seconds(work) or DEFAULT_TTL_SECONDS)
    async with tools.database.transaction() as connection:
        await connection.execute(QUERIES.wait_for_claims, command.account)
        since = tools.clock()
        row = await connection.fetchrow(QUERIES.date_expiry, command.command_id, work.lease_token, seconds)
    if row is None:
        return None
    is_overtaken = row["is_overtaken"]
    return _Held(since, row["now"], row["expires_at"], row["is_newest"] and not is_overtaken, is_overtaken)


def _ended(*, is_newest: bool, now: datetime, expires_at: datetime | None) -> Outcome | None:
    """Why a put of unknown outcome is not repeated; None while it may be."""
    if not is_newest:
        return Outcome(Verdict.REFUSED, code="superseded", message=SUPERSEDED)
    if expires_at is None or now >= expires_at:
        return Outcome(Verdict.REFUSED, code="expired", message=EXPIRED)
    return None


def ttl_seconds(work: Work) -> int | None:
    """How long the sale was asked to be payable; None leaves it to the provider (600 s)."""
    asked = work.command.options.get("ttl_seconds")
    return asked if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0 else None


def seconds_left(expires_at: datetime, now: datetime) -> int:
    """Whole seconds, at least one, that a sale which ends then has from `now` on."""
    return max(1, math.ceil((expires_at - now).total_seconds()))


async def _put(tools: Tools, account: Account, work: Work, held: _Held) -> ProviderAnswer | Outcome:
    # A repeat asks for what is left: its sale ends when the first attempt's would have.
    ttl = ttl_seconds(work) if work.is_first else seconds_left(held.expires_at, held.now)
    generation, body = generation_of(account, work), work.body or "{}"
    if generation == "v2":
        body, ttl = order_body_v2(_v1_body(work), now=held.expires_at, ttl_seconds=0), None
    if tools.clock() - held.since >= CREATE_LATE_SECONDS:
        # The commit took so long, or the process stood still: what is newer may be on its way to the same QR.
        return _held_too_long(work)
    return await tools.client.put_legacy_order(
        account,
        work.command.point_of_sale or "",
        body,
        generation=generation,
        ttl_seconds=ttl,
        store_id=store_of(account, work) if generation == "v2" else None,
    )


def _held_too_long(work: Work) -> Outcome:
    """It was not sent this time, and is judged anew at the next claim. What an earlier attempt did stays unknown."""
    wait = _NEWER_WAITS_SECONDS["legacy_put"]
    if work.is_first:
        return Outcome(Verdict.UNSENT, code="held_too_long", wait_seconds=wait)
    return Outcome(Verdict.RETRY, code="held_too_long", wait_seconds=wait, unknown=True)


def _v1_body(work: Work) -> dict[str, Any]:
    value = parse_json((work.body or "{}").encode()).value
    return value if isinstance(value, dict) else {}


async def _look_up(tools: Tools, account: Account, work: Work, ended: Outcome | None) -> Outcome | None:
    """What is known of a sale that may be up already; None where nothing speaks against putting it up once more.

    `ended` is what becomes of a sale that is not repeated. A lookup that fails holds that up no longer, nor one that
    finds what cannot be read: the sale is watched afterwards. Raises `MercadoPagoError` where that is the provider's
    trouble or the account's.
    """
    try:
        seen = await _took_effect(tools, account, work)
    except MercadoPagoError as error:
        if ended is not None:
            # One search's 403 may be a gateway's: it pauses nobody.
            return replace(ended, pause_account=isinstance(error, AccountRefused) and error.status != 403)
        if not isinstance(error, OrderFault) and not is_refused_search(error):
            raise
        # The provider is well, and does not take this one question.
        return _again(work, error.outcome, status=error.status or None)
    if ended is None or (seen is not None and (seen.verdict is Verdict.DONE or seen.code == _FOUND_NEW)):
        return seen
    return ended


def is_refused_search(error: MercadoPagoError) -> bool:
    """Whether the provider did not take what was searched for, which says nothing about any other call."""
    return isinstance(error, NonsenseAnswer) and 400 <= error.status < 500


def _again(work: Work, code: str, *, status: int | None = None) -> Outcome:
    """The sale may be up, and is asked about again after 1, 2, 4, … seconds up to a minute."""
    wait = min(2.0 ** min(max(work.command.attempts, 1) - 1, 10), _LOOK_AGAIN_SECONDS)
    return Outcome(Verdict.RETRY, code=code, status=status, wait_seconds=wait, unknown=True)


async def _took_effect(tools: Tools, account: Account, work: Work) -> Outcome | None:
    """Looks for what an earlier attempt did: the buyer's scan, stored or searched for, or the sale on its place.

    The place comes before the search: a sale that is gone from it because it was paid meanwhile is found then.
    """
    command = work.command
    since = None if command.maybe_sent_at is None else command.maybe_sent_at - CLOCKS_DIFFER
    if command.external_reference is None:
        # Nothing that could be searched for.
        since = None
    if since is not None and await _was_scanned(tools, work, since):
        return Outcome(Verdict.DONE)
    if generation_of(account, work) == "v2":
        current = await tools.client.get_legacy_current(account, command.point_of_sale or "")
        if current is not None and is_same_sale(current, command.external_reference, command.amount):
            return Outcome(Verdict.DONE)
    return None if since is None else await _searched(tools, account, work, since)


async def _searched(tools: Tools, account: Account, work: Work, since: datetime) -> Outcome | None:
    """Searches for the buyer's scan. What may be this sale's, or is not stored yet, forbids putting it up again."""
    command = work.command
    found = await tools.client.search_merchant_orders(account, command.external_reference or "")
    marked = await mark_found(tools.database, account.name, found, since) if found else Found(0, 0)
    # Stored while the search was under way: it is not unread any more, and was not there before.
    if await _was_scanned(tools, work, since):
        return Outcome(Verdict.DONE)
    if marked.unheard:
        return Outcome(Verdict.RETRY, code=_FOUND_NEW, wait_seconds=_FOUND_IS_READ_SECONDS, unknown=True)
    if marked.unread or await tools.database.fetchval(
        QUERIES.may_be_scanned,
        [sync_id(number) for number in found],
        since,
        command.maybe_sent_at,
        command.command_id,
    ):
        return _again(work, _FOUND_UNCLEAR)
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
    now: datetime = await tools.database.fetchval(QUERIES.read_now)
    ended = _ended(is_newest=work.is_newest, now=now, expires_at=work.command.expires_at)
    known = await _look_up(tools, account, work, ended)
    if known is None:
        return Outcome(Verdict.COMPARE, wait_seconds=_LOOK_AGAIN_SECONDS, unknown=True)
    return replace(known, verdict=Verdict.COMPARE) if known.verdict is Verdict.RETRY else known


async def send_delete(tools: Tools, account: Account, work: Work) -> ProviderAnswer | Outcome:
    """Takes what is on the point of sale off it; that there is nothing is as good, where it is sure."""
    refusal = unsendable(account, work)
    if refusal is not None:
        return refusal
    generation, place = generation_of(account, work), work.command.point_of_sale or ""
    answer = await tools.client.delete_legacy_order(
        account, place, generation=generation, store_id=store_of(account, work) if generation == "v2" else None
    )
    meaning = meaning_of(work.command.kind, answer.status, answer.code, answer.message)
    is_vague = meaning is Meaning.OUTAGE and 400 <= answer.status < 500 and answer.status != 408
    if meaning is not Meaning.NOTHING_THERE and not is_vague:
        return answer
    # A page of whatever stands before the API would say the same of the place.
    if generation == "v2" and is_own_words(answer.document):
        try:
            shows_nothing = await _shows_nothing(tools, account, work)
        except MercadoPagoError as error:
            if not isinstance(error, OrderFault) and not is_refused_search(error):
                raise
            # The deletion was answered, and only what became of it cannot be looked up.
            return _not_taken_off(work, answer, UNKNOWN_DELETE)
        if shows_nothing:
            return Outcome(Verdict.DONE, code=answer.code, status=answer.status, message=NOTHING_THERE)
        return _not_taken_off(work, answer, STILL_THERE)
    return _not_taken_off(work, answer, UNKNOWN_DELETE) if is_vague else answer


def _not_taken_off(work: Work, answer: ProviderAnswer, message: str) -> Outcome:
    """A deletion that was answered, and may not have happened: repeated for a minute, if nothing newer waits for it."""
    if work.is_newest and work.age_seconds < _VAGUE_FOR_SECONDS:
        return replace(
            _again(work, answer.code or "not_found", status=answer.status),
            message=sentence(work.command.kind, UNKNOWN, answer.status),
        )
    return Outcome(Verdict.REFUSED, code=answer.code or "not_found", status=answer.status, message=message)


async def compare_delete(tools: Tools, account: Account, work: Work) -> Outcome:
    """What became of a deletion that is not sent again: V2 shows whether the place is empty, V1 cannot be asked."""
    try:
        if generation_of(account, work) == "v2" and await _shows_nothing(tools, account, work):
            return Outcome(Verdict.DONE)
    except MercadoPagoError:
        if work.is_newest and work.age_seconds < _LOOKUP_FOR_SECONDS:
            raise
    return Outcome(Verdict.REFUSED, code="unknown_outcome", message=UNKNOWN_DELETE)


async def _shows_nothing(tools: Tools, account: Account, work: Work) -> bool:
    return await tools.client.get_legacy_current(account, work.command.point_of_sale or "") is None


LEGACY_PUT: Final = Executor(send=send_put, compare=compare_put)
LEGACY_DELETE: Final = Executor(send=send_delete, compare=compare_delete)


async def let_newer_pass(connection: Any, command: CommandRow) -> None:
    """Where something newer waits for this command of a point of sale, its next attempt is near. In its commit."""
    seconds = _NEWER_WAITS_SECONDS.get(command.kind)
    if seconds is not None and not command.is_settled:
        await connection.execute(QUERIES.let_newer_pass, command.command_id, seconds)
