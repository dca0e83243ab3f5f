"""What became of a creation that was answered 402 while its order had not failed: the order itself says it."""

from datetime import datetime
from typing import Final

from service.desk.intents import QUERIES
from service.desk.outcomes import Outcome, Verdict
from service.desk.search import NOT_FOUND, compare_create, is_over
from service.desk.sentences import sentence
from service.desk.work import Tools, Work
from service.mercadopago.account import Account
from service.orders.lifecycle import CLOSED_STATUSES
from service.sync.claims import QUERIES as SYNC_QUERIES

NOT_TAKEN: Final = (
    "Mercado Pago did not take it while the sale was on, and it is not sent again: ask again if the sale still is."
)
NEVER_SHOWN: Final = (
    "Mercado Pago said that the payment failed, and never showed the order until a day after it would have ended."
)
_LONGEST_WAIT_SECONDS: Final = 60.0
_HURRIED_ATTEMPTS: Final = 30
_PATIENT_WAIT_SECONDS: Final = 600.0


async def compare_creation(tools: Tools, account: Account, work: Work) -> Outcome:
    """By the status of the order that the answer named, read anew; without one it is searched for.

    One whose last answer said that nothing had happened (`was_unknown` is False) was not made and is not sent any more.
    Committing an outcome that is still open marks the order due, so the look comes. An order that is open or paid was
    made like any other, and its own status says the rest.
    """
    command = work.command
    if not work.was_unknown:
        return Outcome(Verdict.REFUSED, code="not_taken", message=NOT_TAKEN)
    if command.order_id is None:
        return await compare_create(tools, account, work)
    order = await tools.database.fetchrow(QUERIES.read_last_look, command.order_id, command.attempted_at)
    if order is None or not order["is_fresh"]:
        now: datetime = await tools.database.fetchval(SYNC_QUERIES.database_now)
        if order is None and is_over(command, now):
            return Outcome(Verdict.REFUSED, code=NOT_FOUND, message=NEVER_SHOWN, order_id=command.order_id)
        return Outcome(
            Verdict.COMPARE,
            code="unknown",
            message="Mercado Pago says that the payment failed, and its order does not: the order is being read again.",
            wait_seconds=min(_LONGEST_WAIT_SECONDS, 2.0 * max(1, command.attempts))
            if command.attempts < _HURRIED_ATTEMPTS
            else _PATIENT_WAIT_SECONDS,
            unknown=True,
            order_id=command.order_id,
        )
    if order["status"] in CLOSED_STATUSES:
        message = sentence(command.kind, "failed", None)
        return Outcome(Verdict.REFUSED, code="failed", message=message, order_id=command.order_id)
    return Outcome(Verdict.DONE, order_id=command.order_id)
