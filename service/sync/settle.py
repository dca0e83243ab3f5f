"""Pure: what a finished look means for the order's `sync` row. No clock, no database.

Provider trouble burns no attempt and changes no order; only what is wrong with *this* order counts, backs off and
ends in quarantine. Numbers are the contract's ("Pace").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.mercadopago.errors import AccountRefused, BadRequest, MercadoPagoError, OrderNotFound, ProviderTrouble
from service.mercadopago.pacing import backoff_seconds
from service.sync.claims import Claim

TROUBLE_BASE_SECONDS, TROUBLE_CAP_SECONDS = 1.0, 900.0
NOT_FOUND_BASE_SECONDS, NOT_FOUND_CAP_SECONDS = 2.0, 300.0
NOT_FOUND_JITTER = 0.1
FAULT_BASE_SECONDS, FAULT_CAP_SECONDS = 1.0, 300.0
NOT_FOUND_GRACE = timedelta(hours=1)
TROUBLE_GRACE = timedelta(hours=24)
BAD_REQUEST_ATTEMPTS = 2
UNREADABLE_ATTEMPTS = 5
LOST_LEASES = 10
# A stored order in quarantine is still looked at, rarely: its money can still move.
QUARANTINED_LOOK = timedelta(hours=24)
# A notification may come before every replica of the provider's shows what it tells of: an answer that shows no change
# since is not the last word. Counted from the mark.
SECOND_LOOKS = (timedelta(minutes=1), timedelta(minutes=10))
# Who asks with these words knows of a change; an operator's wish and a replay only want to be sure.
TELLS_OF_A_CHANGE = frozenset({"notification", "sweep", "desk"})
# Workers were lost while they held this order: it may be the reason, or have been bystander to crashes.
SUSPECT_LOOK = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Settlement:
    """The new values of the `sync` row, and the line for the fetch log."""

    outcome: str
    detail: str | None
    due_at: datetime | None
    attempts: int
    troubles: int
    failing_since: datetime | None
    last_error: str | None
    quarantine_reason: str | None
    # True where this look serves the claimed generation: applied, or settled as not applicable.
    caught_up: bool
    # Provider trouble says nothing about an order in quarantine: it stays there.
    keeps_quarantine: bool = False
    # Nothing more is owed to the mark that was served: what it told of was seen, or looked for long enough.
    answers_mark: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """A look that brought no order. `kind` is the short code; `counts` says whether it is this order's fault."""

    kind: str
    message: str
    counts: bool
    retry_after_seconds: float | None = None


def failure_of(error: MercadoPagoError) -> Failure:
    """The error tree's verdict in the terms of this room."""
    counts = not isinstance(error, ProviderTrouble | AccountRefused)
    if isinstance(error, OrderNotFound):
        kind = "not_found"
    elif isinstance(error, BadRequest):
        kind = "bad_request"
    else:
        kind = error.outcome
    return Failure(kind, str(error), counts, error.retry_after_seconds)


# As good as not found: the same patience, the same end.
NOT_OURS = Failure("not_found", "403: the token is good, but this order is not its to see", counts=True)
WORKER_LOST = Failure("worker_lost", f"{LOST_LEASES} workers in a row took this order and never came back", counts=True)


def settle_success(
    outcome: str,
    next_look: datetime | None,
    *,
    second_look: datetime | None = None,
    last_error: str | None = None,
) -> Settlement:
    """The order was read; `outcome` is `applied`, `unchanged` or `older`. The earlier of the two looks is the next."""
    due_at = min((at for at in (next_look, second_look) if at is not None), default=None)
    answered = second_look is None
    return Settlement(outcome, None, due_at, 0, 0, None, last_error, None, caught_up=True, answers_mark=answered)


def second_look(claim: Claim, outcome: str, now: datetime) -> datetime | None:
    """When to look again because somebody told of a change and the answer does not show it; None where none is owed.

    At most two such looks follow a mark, whatever the answers are: they are the schedule's, and mark nothing anew.
    """
    in_series = claim.cause in TELLS_OF_A_CHANGE or claim.cause == "look"
    if outcome == "applied" or claim.marked_at is None or not in_series:
        return None
    return next((at for wait in SECOND_LOOKS if (at := claim.marked_at + wait) > now), None)


def settle_hint(orders: Sequence[str]) -> Settlement:
    """A payment that was told of was read: `orders` are what it led to, and are looked at in its place.

    The hint is served for good, `redirected` or `not_applicable`: no order of its own id is expected, so none is
    missed, and nothing comes back to it by itself.
    """
    if not orders:
        outcome, detail = "not_applicable", "the payment belongs to no merchant order and to no order stored here"
    else:
        outcome, detail = "redirected", f"the payment belongs to {', '.join(orders)}"
    return Settlement(outcome, detail, None, 0, 0, None, None, None, caught_up=True)


def settle_failure(claim: Claim, failure: Failure, *, now: datetime, random: float, others_succeed: bool) -> Settlement:
    """When to look again, or that this order goes to quarantine.

    `random` is in [0, 1); `others_succeed` says that other orders of the account were read since this one began to
    fail, so that what fails is the order and not the provider.
    """
    # Somebody asks anew for an order in quarantine: it gets all its chances again.
    revived = claim.quarantined and claim.cause != "look"
    same_kind = not revived and claim.last_error is not None and claim.last_error.startswith(failure.kind + ":")
    since = claim.failing_since if same_kind and claim.failing_since is not None else now
    if failure.counts:
        attempts, troubles = (claim.attempts if same_kind else 1), 0
        reason = _order_fault_ends(failure.kind, attempts, now - since)
        wait = _order_fault_waits(failure.kind, attempts, random)
    else:
        # Not its fault: the attempt that the claim counted is given back.
        attempts, troubles = claim.attempts - 1, claim.troubles + 1
        reason = failure.kind if others_succeed and now - since >= TROUBLE_GRACE else None
        wait = backoff_seconds(troubles, TROUBLE_BASE_SECONDS, TROUBLE_CAP_SECONDS, random)
        if failure.retry_after_seconds is not None:
            wait = max(wait, min(failure.retry_after_seconds, TROUBLE_CAP_SECONDS))
    due_at: datetime | None = now + timedelta(seconds=wait)
    if reason is not None:
        due_at = _look_in_quarantine(claim, failure, now)
    return Settlement(
        outcome=failure.kind,
        detail=failure.message,
        due_at=due_at,
        attempts=attempts,
        troubles=troubles,
        failing_since=since,
        last_error=f"{failure.kind}: {failure.message}",
        quarantine_reason=reason,
        caught_up=reason is not None,
        keeps_quarantine=reason is None and not failure.counts,
    )


def _look_in_quarantine(claim: Claim, failure: Failure, now: datetime) -> datetime | None:
    """A stored order's money can still move; and what is not the order's fault, or only suspected, ends some day."""
    if failure.kind == WORKER_LOST.kind:
        return now + SUSPECT_LOOK
    if claim.trust >= 2 or not failure.counts:
        return now + QUARANTINED_LOOK
    return None


def _order_fault_ends(kind: str, attempts: int, failing_for: timedelta) -> str | None:
    """The quarantine's reason, once the order has had its chances."""
    if kind == "not_found":
        return kind if failing_for >= NOT_FOUND_GRACE else None
    if kind == WORKER_LOST.kind:
        return kind
    limit = BAD_REQUEST_ATTEMPTS if kind == "bad_request" else UNREADABLE_ATTEMPTS
    return kind if attempts >= limit else None


def _order_fault_waits(kind: str, attempts: int, random: float) -> float:
    """Seconds. A 404 mostly means that the order is too new for the provider's replica: sooner is no use."""
    if kind != "not_found":
        return backoff_seconds(attempts, FAULT_BASE_SECONDS, FAULT_CAP_SECONDS, random)
    nominal = min(NOT_FOUND_CAP_SECONDS, NOT_FOUND_BASE_SECONDS * 2.0 ** min(attempts - 1, 64))
    return float(nominal * (1 + NOT_FOUND_JITTER * (2 * random - 1)))
