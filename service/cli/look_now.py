"""One look at one order, now: mark it due, claim it, fetch, apply, settle as the worker would.

A claim is never held beyond its look: what is interrupted is given back. Where another process holds the lease, its
look is awaited (`fetched` reaches the mark's generation), or the claim is had after all, whichever comes first.
"""

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from service.accounts import AccountBook
from service.cli.context import QUERIES
from service.database.pool import ITEM_FAULT, Database
from service.mercadopago.account import DEFAULT_ACCOUNT, Account
from service.mercadopago.client import FetchedOrder, MercadoPagoClient
from service.mercadopago.errors import MercadoPagoError
from service.mercadopago.pacing import AccountGate
from service.settings import Settings
from service.sync.apply import Outcome, apply_looks, with_failure
from service.sync.by_payments import READ_BY_PAYMENTS
from service.sync.claims import QUERIES as SYNC_QUERIES
from service.sync.claims import Claim, claim_one, mark_order_due, release
from service.sync.look import look_at
from service.sync.policies import account_policies
from service.sync.positions import number_events
from service.sync.report import report
from service.sync.settle import Failure

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a look. `version` and `status` are what is stored now; `error` is one line, None after success.

    `hint` is the advice that goes with an error; after success it says how the order was read, if not by itself.
    """

    order_id: str
    account: str | None = None
    status: str | None = None
    status_detail: str | None = None
    version: int | None = None
    changed: bool = False
    error: str | None = None
    hint: str | None = None


class _Client(MercadoPagoClient):
    """Remembers the advice that goes with each order's failed call, which the `sync` row does not keep."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        self.hints: dict[str, tuple[str, str]] = {}
        """By order id: what failed, and the advice."""

    async def get_any(self, account: Account, order_id: str) -> FetchedOrder:
        try:
            return await super().get_any(account, order_id)
        except MercadoPagoError as error:
            self.hints[order_id] = (str(error), error.hint)
            raise


class LookNow:
    """Looks at orders within the accounts' rates. Use as `async with`."""

    def __init__(self, settings: Settings, accounts: AccountBook, database: Database) -> None:
        self._accounts = accounts
        self._database = database
        self._lease_seconds = settings.lease_seconds
        self._client = _Client(settings.mercadopago_url)
        self._gates = {one.name: AccountGate(one.rate_per_second, random=random.random) for one in accounts}

    async def __aenter__(self) -> "LookNow":
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def look(self, order_id: str, account_name: str | None, *, timeout_seconds: float) -> Seen:
        """Marks the order due and sees to it that a look which starts after that is finished.

        Raises what the database raises. The mark stays where the time is over: a running service looks later.
        """
        before = await self._standing(order_id)
        account, problem = self._account(before, account_name)
        if account is None:
            return Seen(order_id, error=problem)
        generation = await mark_order_due(self._database, order_id, account.name)
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            gate = self._gates[account.name]
            pause = gate.paused(time.monotonic())
            if pause == "refused":
                return await self._failed(order_id, account, "not looked at, the account's token was refused")
            if (seen := await self._served_elsewhere(order_id, account, generation, before)) is not None:
                return seen
            if gate.room(time.monotonic()).known > 0:
                claim = await claim_one(self._database, order_id, lease_seconds=self._lease_seconds)
                if claim is not None:
                    gate.take(time.monotonic(), known=1)
                    return await self._serve(claim, account, gate, before)
            await asyncio.sleep(POLL_SECONDS)
        row = await self._database.fetchrow(SYNC_QUERIES.read_sync_row, order_id)
        held = row is not None and row["leased_until"] is not None
        why = "another process holds it and did not finish" if held else "its account's pace left no room"
        return await self._failed(order_id, account, f"not looked at within {timeout_seconds:g} s, {why}; it stays due")

    def _account(self, before: Any, asked: str | None) -> tuple[Account | None, str | None]:
        """A stored order's account stands; else the one asked for, the one told of, `default`, the only one."""
        known: str | None = before["account"]
        if before["stored"] and asked not in {None, known}:
            return None, f"it belongs to account {known}, not to {asked}; leave --account out"
        name = asked or known
        if name is None:
            only = self._accounts.accounts[0].name if len(self._accounts) == 1 else DEFAULT_ACCOUNT
            name = DEFAULT_ACCOUNT if self._accounts.by_name(DEFAULT_ACCOUNT) else only
        account = self._accounts.by_name(name)
        if account is not None:
            return account, None
        names = ", ".join(one.name for one in self._accounts)
        if name == known:
            return None, f"it belongs to account {known}, which is not configured; there are {names}"
        return None, f"name its account with --account; there are {names}"

    async def _serve(self, claim: Claim, account: Account, gate: AccountGate, before: Any) -> Seen:
        try:
            look = await look_at(self._client, account, claim, gate, time.monotonic, database=self._database)
            policies = account_policies(self._accounts.by_name)
            try:
                [outcome] = await apply_looks(self._database, [look], **policies)
            except ITEM_FAULT as error:
                failure = Failure("unstorable", type(error).__name__, counts=True)
                [outcome] = await apply_looks(self._database, [with_failure(look, failure)], **policies)
        except BaseException:
            # Interrupted, or the database went away: give it back rather than have it wait for the lease's end.
            with contextlib.suppress(Exception):
                await release(self._database, [claim])
            raise
        report(outcome)
        await number_events(self._database)
        return await self._seen(outcome, before)

    async def _seen(self, outcome: Outcome, before: Any) -> Seen:
        claim, settlement = outcome.look.claim, outcome.settlement
        if outcome.applied is None:
            error = f"{settlement.outcome}: {settlement.detail}"
            if settlement.quarantine_reason is not None:
                error += " (the order is in quarantine)"
            return await self._failed(claim.order_id, claim.account, error)
        seen = _seen(claim.order_id, await self._standing(claim.order_id), before)
        return replace(seen, hint=READ_BY_PAYMENTS) if outcome.look.laid_over is not None else seen

    async def _served_elsewhere(self, order_id: str, account: Account, generation: int, before: Any) -> Seen | None:
        """What another process's look brought, once it has served our mark."""
        row = await self._database.fetchrow(SYNC_QUERIES.read_sync_row, order_id)
        if row is None or row["fetched"] < generation:
            return None
        if row["last_error"] is not None:
            return await self._failed(order_id, account, row["last_error"])
        return _seen(order_id, await self._standing(order_id), before)

    async def _failed(self, order_id: str, account: Account | str, error: str) -> Seen:
        standing = await self._standing(order_id)
        name = account if isinstance(account, str) else account.name
        # An order that is shown no more may have failed at one of its payments: other advice would go with that.
        failed, hint = self._client.hints.get(order_id, ("", None))
        return Seen(
            order_id=order_id,
            account=standing["account"] or name,
            status=standing["status"],
            status_detail=standing["status_detail"],
            version=standing["version"],
            error=error,
            hint=hint if failed in error else None,
        )

    async def _standing(self, order_id: str) -> Any:
        row = await self._database.fetchrow(QUERIES.read_standing, order_id)
        assert row is not None  # the query makes one row out of nothing
        return row


def _seen(order_id: str, standing: Any, before: Any) -> Seen:
    """Compared with what stood when the look was asked for: it may be another process that found the change."""
    return Seen(
        order_id=order_id,
        account=standing["account"],
        status=standing["status"],
        status_detail=standing["status_detail"],
        version=standing["version"],
        changed=standing["version"] != before["version"],
    )
