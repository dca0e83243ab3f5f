"""Comparing stored orders with the provider, one by one.

A run (`service.audit.runs`) can be interrupted anywhere, by `kill -9` too, and gone on with: that costs a page of
orders at most. A difference is believed when the stored row did not move while it was found: an order that changes
meanwhile, or that a look is under way for, is read and compared again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from service.audit import runs
from service.audit.compare import (
    LOOK_FIELD,
    NOT_SHOWN,
    Difference,
    StoredState,
    compare,
    compare_payment,
    contradictions,
    is_older,
    look_lost,
    row_lost,
)
from service.audit.fresh import FreshReader, NoAnswer, NotAsked, ProviderAway, Refused, map_bounded
from service.audit.lost import LostOrder, read_lost
from service.audit.repair import OLDER_STATE, write_anew
from service.audit.runs import PSEUDO_FIELDS, QUERIES, Outcome, Run, Verdict, commit_page, finish, keep
from service.audit.stored import read_states
from service.database.pool import Database
from service.mercadopago.reader import ReadOrder
from service.orders.lifecycle import PAID_STATUSES
from service.sync.claims import mark_order_due
from service.sync.positions import number_events

PAGE: Final = 100
# How far a page looks for orders whose row is gone, in lines of what says that they were stored: in bounded time.
STRETCH: Final = 20_000
# GET is documented for orders younger than three months (fact sheet of the Orders API, §1).
DOCUMENTED_AGE: Final = timedelta(days=90)
# An order that moves again and again while it is compared is believed to differ after so many looks.
MOST_LOOKS: Final = 6
UNDER_WAY_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.05


@dataclass(slots=True)
class Remarks:
    """What this process saw of a run beside its findings.

    `not_asked` counts orders by why their account could not be asked; `unrepaired` says why, by order id.
    """

    by_payments: int = 0
    not_asked: Counter[str] = field(default_factory=Counter)
    unrepaired: dict[str, str] = field(default_factory=dict)


class Verification:
    """Carries out runs, `at_once` orders at a time. `on_checked` is told how many more are done, after each commit."""

    def __init__(
        self,
        database: Database,
        reader: FreshReader,
        *,
        at_once: int,
        page: int = PAGE,
        under_way_seconds: float = UNDER_WAY_SECONDS,
        on_checked: Callable[[int], None] = lambda number: None,
    ) -> None:
        self._database = database
        self._reader = reader
        self._at_once = at_once
        self._page = page
        self._under_way_seconds = under_way_seconds
        self._on_checked = on_checked
        self.remarks = Remarks()

    async def carry_out(self, run: Run) -> Run:
        """Compares what is left of the run, and ends it.

        Raises `TakenOver`, `ProviderAway`, and what the database raises: the run then stays where it is. Where the
        token of an account is refused it stays before that account's orders: the others are compared all the same,
        and what is found is kept, but none of them counts as done.
        """
        pages = self._drawn(run) if run.by_chance else self._in_order(run)
        refused: dict[str, str] = {}
        async for ids in pages:
            states = await read_states(self._database, ids)
            lost = await read_lost(self._database, [one for one in ids if one not in states])
            verdicts = await map_bounded(partial(self._verdict, run), [*states.values(), *lost], self._at_once)
            refused |= {one.account: str(one.reason) for one in verdicts if one.outcome == "refused"}
            if refused:
                await keep(self._database, run, [one for one in verdicts if one.drifts])
            else:
                run = await commit_page(self._database, run, verdicts, cursor=ids[-1])
            self._remark(verdicts)
            if any(verdict.repaired for verdict in verdicts):
                await number_events(self._database)
            self._on_checked(len(ids))
        if refused:
            raise ProviderAway(
                f"not finished: {'; '.join(sorted(refused.values()))}. See: cuadre doctor; the same command goes on "
                "from here when the token is accepted, --account compares one account alone"
            )
        return await finish(self._database, run)

    async def _in_order(self, run: Run) -> AsyncIterator[list[str]]:
        cursor = run.cursor
        end = await self._database.fetchval(QUERIES.last_order)
        while end is not None:
            rows = await self._database.fetch(
                QUERIES.next_orders, cursor, run.account, run.since, run.started_at, self._page, STRETCH, end
            )
            if not rows[0]["more"]:
                return
            ids = [row["order_id"] for row in rows if row["order_id"] is not None]
            # A stretch may hold fewer than a page, or nothing at all of what is compared.
            cursor = ids[-1] if len(ids) == self._page else rows[0]["upto"]
            if ids:
                yield ids

    async def _drawn(self, run: Run) -> AsyncIterator[list[str]]:
        """What is left of a sample is drawn anew: an order may then be compared twice in a run, never in one call.

        The nightly one takes in what earlier runs found to differ, up to half of it: so its drift ends once it is gone.
        """
        left = run.to_check - run.checked
        if left <= 0:
            return
        stored = None
        if run.account is not None:
            stored = (await runs.count_by_account(self._database, [run.account]))[run.account]
        rows = await self._database.fetch(
            QUERIES.sample_orders,
            left,
            run.account,
            run.since,
            stored,
            runs.COUNTED_ONE_BY_ONE,
            runs.PAGES_READ,
        )
        if run.kind == "nightly":
            known = await self._database.fetch(QUERIES.open_drifts, PSEUDO_FIELDS, (left + 1) // 2, run.account)
            rows = [*known, *rows]
        ids = list(dict.fromkeys(row["order_id"] for row in rows))[:left]
        for first in range(0, len(ids), self._page):
            yield ids[first : first + self._page]

    async def _verdict(self, run: Run, order: StoredState | LostOrder) -> Verdict:
        order_id, account = order.order_id, order.account
        try:
            difference = await self._asked_twice(order)
            if difference is None:
                return Verdict(order_id, account, "equal")
            found = Verdict(order_id, account, difference.kind, difference.drifts)
            if not run.repair:
                return found
            # Written down before it is mended: an interruption between the two must not lose what was wrong.
            await keep(self._database, run, [found])
            return await self._repaired(found)
        except NotAsked as error:
            return _not_asked(order, error)
        except NoAnswer as error:
            return await self._unanswered(order, error)

    async def _unanswered(self, state: StoredState | LostOrder, error: NoAnswer) -> Verdict:
        """What it means that the order itself was not answered."""
        if error.status != 404:
            return Verdict(state.order_id, state.account, "unanswered", reason=str(error))
        if isinstance(state, LostOrder):
            reason = "its row is gone and it is not shown, so it cannot be written anew; a backup may have it"
            return Verdict(state.order_id, state.account, "drift", (row_lost(None),), reason)
        if _is_beyond_documented_age(state):
            return await self._by_payments(state, error)
        reason = "it is not shown, so it cannot be written anew"
        return Verdict(state.order_id, state.account, "drift", (NOT_SHOWN,), reason)

    async def _asked_twice(self, order: StoredState | LostOrder) -> Difference | None:
        """As `_difference`; an order that should be shown and is not is asked for again: a replica may lag."""
        ask = partial(self._lost, order) if isinstance(order, LostOrder) else partial(self._difference, order)
        try:
            return await ask()
        except NoAnswer as error:
            if error.status != 404 or (isinstance(order, StoredState) and _is_beyond_documented_age(order)):
                raise
        return await ask()

    async def _lost(self, order: LostOrder) -> Difference | None:
        """That the order is gone; where a look has brought it back meanwhile, as of any other."""
        read = await self._reader.order(order.account, order.order_id)
        state = (await read_states(self._database, [order.order_id])).get(order.order_id)
        return Difference("drift", (row_lost(read),)) if state is None else await self._difference(state)

    async def _difference(self, state: StoredState) -> Difference | None:
        """The difference that stands while nothing moves; None where there is none.

        Raises `NoAnswer` where the provider answers an older state twice and what is stored is whole.
        """
        read = await self._reader.order(state.account, state.order_id)
        asked_again = False
        for _ in range(MOST_LOOKS):
            difference = self._compared(state, read)
            if difference is None:
                return None
            if is_older(state, read) and not asked_again:
                # A replica of the provider's that lags, perhaps.
                asked_again = True
            else:
                later = await self._after_looks(state)
                if later is None or later.claimed_at == state.claimed_at:
                    # Only the look that is owed may have come back meanwhile.
                    difference = self._compared(later or state, read)
                    return None if difference is None else _judged(state, read, difference)
                state = later
            read = await self._reader.order(state.account, state.order_id)
        difference = self._compared(state, read)
        return None if difference is None else _judged(state, read, difference)

    def _compared(self, state: StoredState, read: ReadOrder) -> Difference | None:
        difference = compare(state, read)
        lost = look_lost(state, read, datetime.now(UTC), self._reader.account(state.account).looks)
        if lost is None:
            return difference
        found = Difference("drift", ()) if difference is None else difference
        return replace(found, drifts=(*found.drifts, lost))

    async def _after_looks(self, state: StoredState) -> StoredState | None:
        """The order as it is stored once a look that is under way has ended, if that is soon."""
        deadline = asyncio.get_running_loop().time() + self._under_way_seconds
        while True:
            later = (await read_states(self._database, [state.order_id])).get(state.order_id)
            if later is None or later.claimed_at != state.claimed_at or not later.order["look_under_way"]:
                return later
            if asyncio.get_running_loop().time() >= deadline:
                return later
            await asyncio.sleep(POLL_SECONDS)

    async def _repaired(self, found: Verdict) -> Verdict:
        """After the repair the order is compared again, as any other."""
        reason: str | None
        try:
            if all(drift.field == LOOK_FIELD for drift in found.drifts):
                reason = None
                await mark_order_due(self._database, found.order_id, found.account)
            else:
                reason = await write_anew(self._database, self._reader, found.order_id, found.account)
            again = (await read_states(self._database, [found.order_id])).get(found.order_id)
            if reason is None and again is not None and await self._difference(again) is not None:
                reason = "it still differs after it was written anew"
        except (NotAsked, NoAnswer) as error:
            reason = str(error)
        return Verdict(
            found.order_id, found.account, found.outcome, found.drifts, reason=reason, repaired=reason is None
        )

    async def _by_payments(self, state: StoredState, gone: NoAnswer) -> Verdict:
        """An order that is older than GET is documented for, by its payload and its payments."""
        order_id, account = state.order_id, state.account
        drifts = list(contradictions(state))
        paid = [payment for payment in state.parts["payments"] if payment["status"] in PAID_STATUSES]
        shown = [payment for payment in paid if payment["vanished_at"] is None]
        references = Counter(payment["reference_id"] for payment in shown)
        silent = None
        if not shown:
            silent = "it has no payment to ask for instead"
        elif references[None] or references.total() > len(references):
            silent = "not each of its paid payments has a reference_id of its own to ask for"
        try:
            for payment in shown:
                if payment["reference_id"] is None:
                    continue
                document = await self._reader.payment(account, str(payment["reference_id"]))
                drifts += compare_payment(payment, document)
        except NotAsked as error:
            if not drifts:
                return _not_asked(state, error)
            silent = str(error)
        except NoAnswer as error:
            silent = f"its payment: {error}"
        if drifts:
            # The same field may differ from the payload and from the payment: what the provider says now is told.
            drifts = list({drift.field: drift for drift in drifts}.values())
            reason = "the order itself is answered no more, so it cannot be written anew"
            return Verdict(order_id, account, "drift", tuple(drifts), reason, by_payments=silent is None)
        if not paid and state.order["status"] not in PAID_STATUSES:
            return Verdict(order_id, account, "unprovable", reason=f"{gone}; no money is in it")
        if silent is not None:
            return Verdict(order_id, account, "unanswered", reason=f"{gone}; {silent}")
        return Verdict(order_id, account, "equal", by_payments=True)

    def _remark(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            self.remarks.by_payments += verdict.by_payments
            if verdict.outcome == "not_asked" and verdict.reason:
                self.remarks.not_asked[verdict.reason] += 1
            elif verdict.drifts and verdict.reason:
                self.remarks.unrepaired[verdict.order_id] = verdict.reason


def _judged(state: StoredState, read: ReadOrder, difference: Difference) -> Difference:
    """What an answer proves. One that is older than what is stored proves nothing; the stored payload may still."""
    if not is_older(state, read):
        return difference
    own = contradictions(state)
    if not own:
        raise NoAnswer(OLDER_STATE)
    return Difference("drift", own)


def _not_asked(state: StoredState | LostOrder, error: NotAsked) -> Verdict:
    outcome: Outcome = "refused" if isinstance(error, Refused) else "not_asked"
    return Verdict(state.order_id, state.account, outcome, reason=str(error))


def _is_beyond_documented_age(state: StoredState) -> bool:
    """An order that does not say when it was created is at least as old as our first sight of it."""
    created_at: datetime = state.order["created_at"] or state.order["first_seen_at"]
    return datetime.now(UTC) - created_at > DOCUMENTED_AGE
