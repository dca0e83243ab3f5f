"""One attempt at a command: the call, what its answer means, and what it tells about the account's pace."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from service.desk.card_data import card_data_of, document_without_quotes_of, without_quotes_of
from service.desk.outcomes import Outcome, Verdict, judge
from service.desk.work import Executor, Tools, Work
from service.mercadopago.account import Account
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.errors import (
    AccountRefused,
    BadRequest,
    MercadoPagoError,
    ProviderTrouble,
    RateLimited,
    ServerTrouble,
)
from service.mercadopago.pacing import AccountGate

FAULT_WAIT_SECONDS: Final = 30.0

log = structlog.get_logger(__name__)


async def attempt(
    executor: Executor, tools: Tools, account: Account, work: Work, gate: AccountGate, clock: Callable[[], float]
) -> tuple[Outcome, str | None]:
    """What becomes of the command, and the provider's answer as JSON text. Tells the gate exactly once.

    Holds no connection while it calls. A fault of ours leaves the command unknown: it may have been sent.
    """
    try:
        if work.is_past:
            outcome = await executor.compare(tools, account, work)
            _tell(gate, clock(), outcome.status, None, refused=outcome.pause_account)
            return outcome, None
        answered = await executor.send(tools, account, work)
    except MercadoPagoError as error:
        token_refused = _is_token_refused(gate, clock())
        _tell_error(gate, clock(), error)
        if isinstance(error, BadRequest) and error.status == 0:
            return _unsendable(work, error), None
        return _judged(work, error, token_refused=token_refused), None
    except Exception as error:
        gate.abandoned(clock())
        log.exception("command_attempt_failed", command_id=work.command.command_id)
        return (
            Outcome(
                Verdict.COMPARE if work.is_past else Verdict.RETRY,
                code="fault_of_ours",
                message=f"Something went wrong here ({type(error).__name__}); it is tried again.",
                wait_seconds=FAULT_WAIT_SECONDS,
                unknown=True,
            ),
            None,
        )
    except BaseException:
        # Cancelled: it says nothing about the account, but the call is over.
        gate.abandoned(clock())
        raise
    if isinstance(answered, Outcome):
        _tell(gate, clock(), answered.status, None, refused=answered.pause_account)
        return answered, None
    answered = _without_card_data(work, answered)
    outcome = _judged(work, answered, token_refused=_is_token_refused(gate, clock()))
    _tell(gate, clock(), answered.status, answered.retry_after_seconds, refused=outcome.pause_account)
    return outcome, answered.text or None


def _without_card_data(work: Work, answer: ProviderAnswer) -> ProviderAnswer:
    """The answer as it may be told and kept: what complains of a card's token may quote it."""
    secrets = card_data_of(work.body)
    if not secrets:
        return answer
    return replace(
        answer,
        code=None if answer.code is None else without_quotes_of(secrets, answer.code),
        message=None if answer.message is None else without_quotes_of(secrets, answer.message),
        text=document_without_quotes_of(secrets, answer.text),
    )


def _is_token_refused(gate: AccountGate, now: float) -> bool:
    """Whether the account is paused for its token's sake, by this or any other kind of call."""
    return gate.paused(now) == "refused"


def _judged(work: Work, answer: ProviderAnswer | MercadoPagoError, *, token_refused: bool) -> Outcome:
    if work.is_past and isinstance(answer, MercadoPagoError):
        # The search failed; what it looks for may be there.
        return Outcome(
            Verdict.COMPARE,
            code=answer.outcome,
            status=answer.status or None,
            message="What became of it could not be looked up just now; it is tried again.",
            wait_seconds=FAULT_WAIT_SECONDS,
            unknown=True,
        )
    outcome = judge(
        work.command.kind,
        answer,
        attempts=work.command.attempts,
        age_seconds=work.age_seconds,
        unknown_before=work.was_unknown,
        newest=work.is_newest,
        order_age_seconds=work.order_age_seconds,
        token_refused=token_refused,
    )
    if outcome.verdict is Verdict.ACCEPTED and work.command.kind == "refund" and (outcome.status or 0) >= 400:
        # "Already refunded" does not say by whom: the order does.
        return replace(outcome, verdict=Verdict.COMPARE, unknown=True)
    return outcome


def _unsendable(work: Work, error: BadRequest) -> Outcome:
    """What the client would not send this time, it will not send another time."""
    if work.was_unknown:
        message = str(error)
        return Outcome(
            Verdict.COMPARE, code="unsendable", message=message, wait_seconds=FAULT_WAIT_SECONDS, unknown=True
        )
    return Outcome(Verdict.REFUSED, code="unsendable", message=f"It could not be sent: {error}")


def _tell(
    gate: AccountGate, now: float, status: int | None, retry_after_seconds: float | None, *, refused: bool
) -> None:
    """The gate's view of an HTTP status: who answers well, whatever it says of the command, is well."""
    if refused:
        gate.refused(now)
    elif status is None:
        gate.abandoned(now)
    elif status == 429:
        gate.trouble(now, RateLimited("too many requests", status=status, retry_after_seconds=retry_after_seconds))
    elif status == 408 or status >= 500:
        gate.trouble(now, ServerTrouble(f"answered {status}", status=status))
    elif 200 <= status < 300:
        gate.succeeded(now)
    else:
        gate.order_fault(now)


def _tell_error(gate: AccountGate, now: float, error: MercadoPagoError) -> None:
    if isinstance(error, AccountRefused):
        if error.status == 403 and not _is_token_refused(gate, now):
            # Of a search: that one call is forbidden says nothing of the others.
            gate.order_fault(now)
        else:
            gate.refused(now)
    elif isinstance(error, ProviderTrouble):
        gate.trouble(now, error)
    elif error.status == 0:
        # Refused before it was sent: says nothing about the provider.
        gate.abandoned(now)
    else:
        gate.order_fault(now)
