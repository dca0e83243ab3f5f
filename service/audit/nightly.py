"""A comparison by itself, once a day: a sample of the stored orders, slowly, by one process at a time.

Its result is a run like any other (`verifications`, kind `nightly`), and what the gauges show. It repairs nothing:
drift that nobody asked for is something for a person to see.
"""

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from service.audit.fresh import FreshReader, ProviderAway
from service.audit.runs import PSEUDO_FIELDS, QUERIES, Run, TakenOver, Wish, begin
from service.audit.verify import Verification
from service.database.leases import resign, try_lead
from service.database.pool import UNAVAILABLE, Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.telemetry import metrics

LEADER: Final = "verification"
EVERY_SECONDS: Final = 300.0
# A sample is compared within minutes; one that was interrupted is gone on with by whoever leads next.
LEASE_SECONDS: Final = 4 * EVERY_SECONDS
# UTC; night in every country of Mercado Pago.
NIGHT_HOURS: Final = range(6, 9)
NIGHT_AFTER: Final = timedelta(hours=20)
AT_ALL_EVENTS_AFTER: Final = timedelta(hours=27)
# Of each account's rate, and never more than this: looks that somebody waits for come first.
SHARE: Final = 0.1
MOST_PER_SECOND: Final = 20.0
AT_ONCE: Final = 2
# After one that was broken off: it costs reads, and what broke it off (a token, the provider) takes a while to mend.
AGAIN_AFTER_SECONDS: Final = 3600.0
# The drift gauge counts no further.
MOST_DRIFTED: Final = 10_000

log = structlog.get_logger(__name__)


def is_due(last: datetime, now: datetime) -> bool:
    """Whether a night's comparison is owed. `last` is when the latest began (or the database came into being)."""
    since = now - last
    if since >= AT_ALL_EVENTS_AFTER:
        return True
    return since >= NIGHT_AFTER and now.astimezone(UTC).hour in NIGHT_HOURS


class NightlyVerification:
    """The loop. `sample` orders a day; 0 compares none. `accounts` is asked anew each time."""

    def __init__(
        self,
        database: Database,
        client: MercadoPagoClient,
        holder: str,
        *,
        accounts: Callable[[], Iterable[Account]],
        sample: int,
        on_committed: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._client = client
        self._holder = holder
        self._accounts = accounts
        self._sample = sample
        self._on_committed = on_committed
        self._not_before = -math.inf

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.round()
            except UNAVAILABLE as error:
                log.debug("verification_waits", error=type(error).__name__)
            except Exception:
                # One bad night must not end what every process relies on.
                log.exception("verification_failed")
            await asyncio.sleep(EVERY_SECONDS)

    async def resign(self) -> None:
        """Lets another process take over at once."""
        await resign(self._database, LEADER, self._holder)

    async def round(self) -> Run | None:
        """Compares the sample where that is owed and nobody else leads; None where not, or where it was broken off."""
        if self._sample <= 0 or not await try_lead(self._database, LEADER, self._holder, LEASE_SECONDS):
            return None
        if asyncio.get_running_loop().time() < self._not_before:
            return None
        row = await self._database.fetchrow(QUERIES.read_last_nightly)
        assert row is not None  # an aggregate has a row
        if row["last_at"] is None or not is_due(row["last_at"], row["now"]):
            return None
        reader = FreshReader(self._client, map(_slowed, self._accounts()), share=1.0)
        run = await begin(self._database, Wish("nightly", sample=self._sample))
        try:
            run = await Verification(self._database, reader, at_once=AT_ONCE).carry_out(run)
        except (ProviderAway, TakenOver) as error:
            log.warning("verification_broken_off", verification_id=run.verification_id, reason=str(error))
            self._not_before = asyncio.get_running_loop().time() + AGAIN_AFTER_SECONDS
            return None
        self._on_committed()
        say = log.warning if run.drifted else log.info
        advice = {"advice": "see what differs with: cuadre verify; mend it with: cuadre verify --repair"}
        say(
            "verification_finished",
            verification_id=run.verification_id,
            checked=run.checked,
            equal=run.equal,
            drifted=run.drifted,
            unanswered=run.unanswered,
            unprovable=run.unprovable,
            **(advice if run.drifted else {}),
        )
        return run


def _slowed(account: Account) -> Account:
    return replace(account, rate_per_second=min(MOST_PER_SECOND, account.rate_per_second * SHARE))


async def refresh_gauges(database: Database) -> None:
    """What comparisons found and when they finished, and by account how many notifications fail their signature."""
    row = await database.fetchrow(QUERIES.read_finished)
    assert row is not None  # it is made of sums
    metrics.verify_finished_timestamp_seconds.set(row["finished"] or 0)
    metrics.verify_unanswered_orders.set(row["unanswered"] or 0)
    metrics.verify_drifted_orders.set(len(await database.fetch(QUERIES.open_drifts, PSEUDO_FIELDS, MOST_DRIFTED)))
    metrics.unverified_share.clear()
    for share in await database.fetch(QUERIES.read_unverified_share):
        metrics.unverified_share.labels(share["account"]).set(share["share"])
