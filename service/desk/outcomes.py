"""What an answer of Mercado Pago, or none, makes of a command. Pure.

`service.desk.outcome_table` says what an answer means; here that meets what was tried before, and time. The rule behind
both: a command is `refused` only where it is sure that it took no effect, and is never sent under another key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from service.desk.outcome_table import (
    BUSY_TERMINAL,
    CANCEL,
    CREATE,
    KINDS,
    LEGACY_DELETE,
    LEGACY_PUT,
    REFUND,
    Meaning,
    meaning_of,
)
from service.desk.sentences import (
    ACCOUNT_REFUSED,
    FORBIDDEN,
    NO_ORDER_ID,
    NOTHING_THERE,
    REFUND_FAILED,
    SAYS_UNKNOWN,
    SUPERSEDED,
    UNKNOWN,
    sentence,
)
from service.desk.told import MadeRefund, decline_of, has_failed, order_of, refunds_of
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.errors import AccountRefused, MercadoPagoError, ProviderTrouble, RateLimited

__all__ = ["BUSY_TERMINAL", "KINDS", "MadeRefund", "Outcome", "Verdict", "judge"]

REPEATABLE_SECONDS = 20 * 3600.0
"""So long a repeat is safe: the provider keeps keys for 24 h (fact sheet of the Orders API, §1.1)."""
NOT_YET_SECONDS = 600.0
"""So long "not yet", and a 403 that says nothing, is taken for something that passes."""
LAG_SECONDS = 60.0
"""So long an order just made may be unknown to some of the provider's servers."""

_LONGEST_WAIT = 30.0
_LONGEST_OUTAGE_WAIT = 900.0
_ACCOUNT_WAIT = 30.0


class Verdict(StrEnum):
    """What becomes of the command."""

    DONE = "done"
    """It took effect. (create, legacy_put, legacy_delete)"""
    ACCEPTED = "accepted"
    """Mercado Pago said yes; it is done when a GET shows it. (cancel, refund)"""
    REFUSED = "refused"
    """Final: it took no effect (a create that answers 402 may have `order_id`: that order exists, and failed)."""
    RETRY = "retry"
    """The same call with the same key after `wait_seconds`. `unknown` says whether it may have taken effect."""
    UNSENT = "unsent"
    """Nothing reached Mercado Pago, or it did not listen: back to waiting, the same call after `wait_seconds`."""
    COMPARE = "compare"
    """It may have taken effect, and repeating it would tell nothing: send nothing more, look and compare."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`code` is the provider's, or ours where it gave none (`timeout`, `connection`, …); `status` is HTTP's.

    `message` is one sentence for the person at the till, None where all is well. `unknown`: the command may have
    taken effect, by this attempt or an earlier one. `pause_account`: the account's token is refused altogether.
    `order_id`, `order_status` and `refunds` are what the answer says of the order.
    """

    verdict: Verdict
    code: str | None = None
    status: int | None = None
    message: str | None = None
    wait_seconds: float = 0.0
    unknown: bool = False
    pause_account: bool = False
    order_id: str | None = None
    order_status: str | None = None
    refunds: tuple[MadeRefund, ...] = ()


def judge(
    kind: str,
    answer: ProviderAnswer | MercadoPagoError,
    *,
    attempts: int,
    age_seconds: float,
    unknown_before: bool,
    newest: bool = True,
    order_age_seconds: float | None = None,
    token_refused: bool = False,
) -> Outcome:
    """What becomes of a command of `kind` after its attempt number `attempts` (from 1) ended with `answer`.

    `age_seconds` counts from the first attempt that may have reached Mercado Pago (0 at the first). `unknown_before`:
    it was not known before this attempt whether an earlier one took effect (no answer, 5xx; a "not yet" is known).
    `newest`: nothing was put on or taken from this point of sale since (legacy_put, legacy_delete: they have no key at
    the provider, and a late repeat would undo what came after). `order_age_seconds`: since the order was created, if
    known: a 404 is lag in its first minute only. `token_refused`: other calls of the account are refused, too, so that
    a 403 without a reason is not about this one alone.
    """
    attempt = _Attempt(
        kind=kind,
        attempts=attempts,
        age_seconds=age_seconds,
        unknown_before=unknown_before,
        order_age_seconds=order_age_seconds,
        retry_after_seconds=answer.retry_after_seconds,
        told=_told(kind, answer),
        has_failed=isinstance(answer, ProviderAnswer) and has_failed(answer.document),
    )
    meaning = _meaning(kind, answer)
    if meaning is Meaning.FORBIDDEN and token_refused:
        meaning = Meaning.ACCOUNT_REFUSED
    outcome = _bounded(attempt, _FATES[meaning](attempt))
    if kind in (LEGACY_PUT, LEGACY_DELETE) and not newest:
        outcome = _superseded(kind, outcome)
        if kind == LEGACY_DELETE and outcome.verdict is Verdict.RETRY and age_seconds >= LAG_SECONDS:
            # What is newer waits for this one, and has its own end: found out by looking, it is waited for no longer.
            outcome = replace(outcome, verdict=Verdict.COMPARE)
    return replace(outcome, message=_message(kind, meaning, outcome, answer))


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What the fate of a command is decided from. `told` is an outcome in all but its verdict.

    `has_failed`: the answer shows an order that is over and unpaid.
    """

    kind: str
    attempts: int
    age_seconds: float
    unknown_before: bool
    order_age_seconds: float | None
    retry_after_seconds: float | None
    told: Outcome
    has_failed: bool

    def ends(self, verdict: Verdict, *, code: str | None = None) -> Outcome:
        """Nothing more is sent."""
        return replace(self.told, verdict=verdict, code=code or self.told.code)

    def again(self, *, unknown: bool, longest: float = _LONGEST_WAIT) -> Outcome:
        """The same call after 1, 2, 4, … seconds up to `longest`, or as long as the provider asked (up to 15 min)."""
        step = min(2.0 ** min(max(self.attempts, 1) - 1, 20), longest)
        wait = max(step, min(self.retry_after_seconds or 0.0, _LONGEST_OUTAGE_WAIT))
        return replace(self.told, verdict=Verdict.RETRY, wait_seconds=wait, unknown=unknown)

    def compares(self) -> Outcome:
        """Nothing more is sent, and what became of it is found out by looking."""
        return replace(self.again(unknown=True), verdict=Verdict.COMPARE)

    def unheard(self) -> Outcome:
        """This attempt did nothing; an earlier one may have."""
        again = self.again(unknown=self.unknown_before, longest=_LONGEST_OUTAGE_WAIT)
        return again if self.unknown_before else replace(again, verdict=Verdict.UNSENT)

    def refused_or_ours(self) -> Outcome:
        """The answer may be what an earlier attempt that was heard makes of this one.

        A creation is repeated for a while: had one been heard, its own answer comes back under the key.
        """
        if not self.unknown_before:
            return self.ends(Verdict.REFUSED)
        return (
            self.again(unknown=True) if self.kind == CREATE and self.age_seconds < NOT_YET_SECONDS else self.compares()
        )


def _success(attempt: _Attempt) -> Outcome:
    told = attempt.told
    if attempt.kind == CREATE and told.order_id is None:
        return replace(attempt.again(unknown=True, longest=_LONGEST_OUTAGE_WAIT), code=NO_ORDER_ID)
    if attempt.kind == REFUND and told.refunds and all(refund.status == "failed" for refund in told.refunds):
        return attempt.ends(Verdict.REFUSED, code=REFUND_FAILED)
    return attempt.ends(Verdict.DONE if attempt.kind in (CREATE, LEGACY_PUT, LEGACY_DELETE) else Verdict.ACCEPTED)


def _declined(attempt: _Attempt) -> Outcome:
    """An order that has not failed may still be paid: who asked for another card then would be charged twice."""
    if attempt.has_failed:
        return attempt.ends(Verdict.REFUSED)
    if attempt.told.order_id is not None or attempt.age_seconds >= NOT_YET_SECONDS:
        return attempt.compares()
    return attempt.again(unknown=True)


def _not_yet(attempt: _Attempt) -> Outcome:
    if attempt.age_seconds < NOT_YET_SECONDS:
        return attempt.again(unknown=attempt.unknown_before)
    return attempt.refused_or_ours()


def _still_running(attempt: _Attempt) -> Outcome:
    return attempt.again(unknown=True) if attempt.age_seconds < NOT_YET_SECONDS else attempt.compares()


def _not_found_yet(attempt: _Attempt) -> Outcome:
    if max(attempt.age_seconds, attempt.order_age_seconds or 0.0) < LAG_SECONDS:
        return attempt.again(unknown=attempt.unknown_before)
    return attempt.refused_or_ours()


def _account_refused(attempt: _Attempt) -> Outcome:
    unheard = attempt.unheard()
    return replace(unheard, pause_account=True, wait_seconds=max(unheard.wait_seconds, _ACCOUNT_WAIT))


_FATES: Mapping[Meaning, Callable[[_Attempt], Outcome]] = {
    Meaning.SUCCESS: _success,
    Meaning.EXISTS_UNPAID: _declined,
    Meaning.REFUSED_OR_OURS: _Attempt.refused_or_ours,
    Meaning.ALREADY: lambda attempt: attempt.ends(Verdict.ACCEPTED),
    Meaning.ALREADY_OR_OURS: lambda attempt: attempt.ends(
        Verdict.ACCEPTED if attempt.unknown_before else Verdict.REFUSED
    ),
    Meaning.NOTHING_THERE: lambda attempt: attempt.ends(Verdict.DONE),
    Meaning.NOT_YET: _not_yet,
    Meaning.NOT_FOUND_YET: _not_found_yet,
    Meaning.STILL_RUNNING: _still_running,
    Meaning.KEY_CONFLICT: _Attempt.compares,
    Meaning.THROTTLED: _Attempt.unheard,
    Meaning.FORBIDDEN: _not_yet,
    Meaning.ACCOUNT_REFUSED: _account_refused,
    Meaning.NOT_CONNECTED: _Attempt.unheard,
    Meaning.OUTAGE: lambda attempt: attempt.again(unknown=True, longest=_LONGEST_OUTAGE_WAIT),
}


def _bounded(attempt: _Attempt, outcome: Outcome) -> Outcome:
    """No repeat of what may have taken effect once its key may be forgotten."""
    too_old = outcome.verdict is Verdict.RETRY and outcome.unknown and attempt.age_seconds >= REPEATABLE_SECONDS
    return replace(outcome, verdict=Verdict.COMPARE) if too_old else outcome


def _superseded(kind: str, outcome: Outcome) -> Outcome:
    """A put is not repeated once something newer is asked; a deletion is: what is newer waits for it, and may fail."""
    if kind == LEGACY_DELETE or outcome.verdict not in (Verdict.RETRY, Verdict.UNSENT, Verdict.COMPARE):
        return outcome
    if outcome.unknown:
        return replace(outcome, verdict=Verdict.COMPARE, code=SUPERSEDED)
    return replace(outcome, verdict=Verdict.REFUSED, code=SUPERSEDED, wait_seconds=0.0)


def _meaning(kind: str, answer: ProviderAnswer | MercadoPagoError) -> Meaning:
    if isinstance(answer, ProviderAnswer):
        return meaning_of(kind, answer.status, answer.code, answer.message)
    if isinstance(answer, AccountRefused):
        # A write has its answer judged: a 403 that comes as an error was to a search on its way.
        return Meaning.FORBIDDEN if answer.status == 403 else Meaning.ACCOUNT_REFUSED
    if isinstance(answer, RateLimited):
        return Meaning.THROTTLED
    if isinstance(answer, ProviderTrouble) and not answer.sent:
        return Meaning.NOT_CONNECTED
    return Meaning.OUTAGE


def _told(kind: str, answer: ProviderAnswer | MercadoPagoError) -> Outcome:
    if isinstance(answer, MercadoPagoError):
        return Outcome(Verdict.RETRY, code=answer.outcome, status=answer.status or None)
    # Only such answers are about an order: an error's `id` is anything, the legacy QR's is a preference.
    of_order = kind in (CREATE, CANCEL, REFUND) and (answer.status < 300 or answer.status == 402)
    order_id, order_status = order_of(answer.document) if of_order else (None, None)
    refunds = refunds_of(answer.document) if kind == REFUND and answer.status < 300 else ()
    return Outcome(
        Verdict.RETRY,
        code=answer.code,
        status=answer.status,
        order_id=order_id,
        order_status=order_status,
        refunds=refunds,
    )


def _message(kind: str, meaning: Meaning, outcome: Outcome, answer: ProviderAnswer | MercadoPagoError) -> str | None:
    if meaning is Meaning.SUCCESS and outcome.verdict in (Verdict.DONE, Verdict.ACCEPTED):
        return None
    words = answer.message if isinstance(answer, ProviderAnswer) else None
    refused = outcome.verdict is Verdict.REFUSED
    return sentence(kind, _code_to_say(meaning, outcome, answer), outcome.status, words, is_refused=refused)


def _code_to_say(meaning: Meaning, outcome: Outcome, answer: ProviderAnswer | MercadoPagoError) -> str | None:
    """What matters most to the person at the till, which need not be the provider's code."""
    if outcome.code == SUPERSEDED:
        return SUPERSEDED
    if outcome.pause_account:
        return ACCOUNT_REFUSED
    if meaning is Meaning.NOTHING_THERE:
        return NOTHING_THERE
    if meaning is Meaning.EXISTS_UNPAID and isinstance(answer, ProviderAnswer) and not outcome.unknown:
        return decline_of(answer.document) or outcome.code
    if outcome.unknown and outcome.code not in SAYS_UNKNOWN:
        return UNKNOWN
    return FORBIDDEN if meaning is Meaning.FORBIDDEN else outcome.code
