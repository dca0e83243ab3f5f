"""Writing one order anew from a fresh answer, through the one write path.

A look at an order whose rows were changed behind our back would find its answer unchanged (the stored hash says so) or
older (the stored time says so). The hash is cleared and the time set to the answer's right before the answer is
applied, so that it makes a new version with the cause `repair`, and payments, refunds, discrepancies and events follow
as ever.

An answer that is older than the stored payload is never written: a replica of the provider's may lag, and what is
stored would go back in time (invariant I3). That holds for whatever look comes next, too, should this process end
between the two commits: the time that is left in the row keeps older answers out. An order whose row is gone is put
back first, as its last version was (`lost`).
"""

import asyncio
import contextlib
from dataclasses import replace
from datetime import datetime
from typing import Final

from service.audit.compare import StoredState, is_older
from service.audit.fresh import FreshReader
from service.audit.lost import LostOrder, put_back
from service.audit.runs import QUERIES
from service.audit.stored import read_states
from service.database.pool import ITEM_FAULT, Database
from service.mercadopago.reader import ReadOrder
from service.orders.fence import AHEAD_AT_MOST
from service.sync.apply import Look, apply_looks, with_failure
from service.sync.claims import Claim, claim_one, mark_order_due, release
from service.sync.look import look_at
from service.sync.policies import AccountPolicies, account_policies
from service.sync.report import report
from service.sync.settle import Failure

CAUSE: Final = "repair"
OLDER_STATE: Final = "the provider answers an older state than is stored"
LEASE_SECONDS: Final = 30.0
# Somebody else's look holds the order for a moment; a worker that died holds it for its lease.
WAIT_SECONDS: Final = 45.0
POLL_SECONDS: Final = 0.1


async def write_anew(
    database: Database, reader: FreshReader, order_id: str, account_name: str, *, wait_seconds: float = WAIT_SECONDS
) -> str | None:
    """Stores the order as the provider has it now. None after it was written; else one line that says why it was not.

    Raises what the database raises, and what `FreshReader.turn` raises.
    """
    account = reader.account(account_name)
    claim = await _claim(database, order_id, account_name, wait_seconds)
    if claim is None:
        return "another process holds the order"
    claim = replace(claim, cause=CAUSE, notification_id=None)
    try:
        gate = await reader.turn(account)
        look = await look_at(reader.client, account, claim, gate, reader.clock)
        if look.read is not None:
            # As it is stored now: a look may have ended since the difference was found.
            state = (await read_states(database, [order_id])).get(order_id)
            if state is not None and is_older(state, look.read):
                await release(database, [claim])
                return OLDER_STATE
            if state is None:
                if not await put_back(database, LostOrder(order_id, account_name), look.read):
                    await release(database, [claim])
                    return OLDER_STATE
            else:
                guards = (claim.claimed_at, state.claimed_at)
                await database.execute(QUERIES.clear_for_repair, order_id, *guards, _time_for(state, look.read))
        return await _apply(database, look, account_policies(lambda _name: account))
    except BaseException:
        # Interrupted, or the database went away: give it back rather than have it wait for the lease's end.
        with contextlib.suppress(Exception):
            await release(database, [claim])
        raise


def _time_for(state: StoredState, answer: ReadOrder) -> datetime | None:
    """The answer's time, as far as the fence believes it of the row as it is stamped now; None where it has none."""
    at = answer.snapshot.updated_at
    return None if at is None else min(at, state.claimed_at + AHEAD_AT_MOST)


async def _apply(database: Database, look: Look, policies: AccountPolicies) -> str | None:
    try:
        [outcome] = await apply_looks(database, [look], **policies)
    except ITEM_FAULT as error:
        failure = Failure("unstorable", type(error).__name__, counts=True)
        [outcome] = await apply_looks(database, [with_failure(look, failure)], **policies)
    report(outcome)
    if outcome.applied is None:
        return f"{outcome.settlement.outcome}: {outcome.settlement.detail}"
    return None


async def _claim(database: Database, order_id: str, account: str, wait_seconds: float) -> Claim | None:
    deadline = asyncio.get_running_loop().time() + wait_seconds
    while (claim := await claim_one(database, order_id, lease_seconds=LEASE_SECONDS)) is None:
        if await database.fetchval(QUERIES.has_sync_row, order_id) is not True:
            # Its line was lost: without one, nobody would ever look at the order again.
            await mark_order_due(database, order_id, account)
            continue
        if asyncio.get_running_loop().time() >= deadline:
            return None
        await asyncio.sleep(POLL_SECONDS)
    return claim
