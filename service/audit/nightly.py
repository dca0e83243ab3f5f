"""A comparison by itself, once a day: a sample of the stored orders, slowly, by one process at a time.

Each account has a run of its own (`verifications`, kind `nightly`), so that one whose token is refused leaves nobody
else's orders uncompared. The gauges show what the runs found together. It repairs nothing: drift that nobody asked for
is something for a person to see.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from asyncpg import QueryCanceledError

from service.audit.fresh import FreshReader, ProviderAway
from service.audit.runs import PSEUDO_FIELDS, QUERIES, Run, TakenOver, Wish, begin, count_by_account
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
# A statement ran into its time limit, the server's or (behind PgBouncer) the client's: that is of what was asked, as a
# rule, and the other accounts' orders can be asked for all the same.
TOO_SLOW: Final = (QueryCanceledError, TimeoutError)

log = structlog.get_logger(__name__)


def is_due(last: datetime, now: datetime) -> bool:
    """Whether a night's comparison is owed. `last` is when the latest began (or the database came into being)."""
    since = now - last
    if since >= AT_ALL_EVENTS_AFTER:
        return True
    return since >= NIGHT_AFTER and now.astimezone(UTC).hour in NIGHT_HOURS


class NightlyVerification:
    """The loop. `sample` orders a day, of each account its share; 0 compares none.

    `accounts` is asked anew each time.
    """

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
        # By account: the loop's time before which a run that was broken off is not gone on with.
        self._not_before: defaultdict[str, float] = defaultdict(lambda: -math.inf)

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

    async def round(self) -> list[Run]:
        """Compares the samples that are owed, account by account; the runs that came to their end.

        None does where nothing is owed or another process leads. A run that is broken off is tried again in an hour.
        """
        if self._sample <= 0 or not await self._leads():
            return []
        accounts = {account.name: account for account in self._accounts()}
        due = await self._due(accounts)
        if not due:
            return []
        try:
            stored = await count_by_account(self._database, list(accounts))
        except TOO_SLOW as error:
            log.warning("verification_broken_off", accounts=due, **_too_slow(error))
            for name in due:
                self._rest(name)
            return []
        reader = FreshReader(self._client, map(_slowed, accounts.values()), share=1.0)
        ended = []
        for name in due:
            # Renewed: an account that does not answer is waited for as long as a quarter of the lease.
            if not await self._leads():
                break
            run = await self._compared(name, stored, reader)
            if run is not None:
                ended.append(run)
        return ended

    async def _leads(self) -> bool:
        return await try_lead(self._database, LEADER, self._holder, LEASE_SECONDS)

    async def _due(self, names: Collection[str]) -> list[str]:
        now = asyncio.get_running_loop().time()
        awake = [name for name in names if self._not_before[name] <= now]
        rows = await self._database.fetch(QUERIES.read_last_nightly, awake)
        return [row["account"] for row in rows if row["last_at"] is not None and is_due(row["last_at"], row["now"])]

    async def _compared(self, account: str, stored: dict[str, int], reader: FreshReader) -> Run | None:
        """The account's run to its end; None where it was broken off. `stored`: how many orders each account has."""
        told: dict[str, object] = {"account": account}
        wish = Wish("nightly", account, sample=_share(self._sample, account, stored))
        try:
            run = await begin(self._database, wish, stored=stored[account])
            told["verification_id"] = run.verification_id
            run = await Verification(self._database, reader, at_once=AT_ONCE).carry_out(run)
        except (ProviderAway, TakenOver) as error:
            log.warning("verification_broken_off", **told, reason=str(error))
            self._rest(account)
            return None
        except TOO_SLOW as error:
            log.warning("verification_broken_off", **told, **_too_slow(error))
            self._rest(account)
            return None
        except UNAVAILABLE:
            raise
        except Exception:
            # What one account's orders bring about must not leave the others' uncompared.
            log.exception("verification_failed", **told)
            self._rest(account)
            return None
        self._on_committed()
        say = log.warning if run.drifted else log.info
        advice = {"advice": "see what differs with: cuadre verify; mend it with: cuadre verify --repair"}
        say(
            "verification_finished",
            **told,
            checked=run.checked,
            equal=run.equal,
            drifted=run.drifted,
            unanswered=run.unanswered,
            unprovable=run.unprovable,
            **(advice if run.drifted else {}),
        )
        return run

    def _rest(self, account: str) -> None:
        self._not_before[account] = asyncio.get_running_loop().time() + AGAIN_AFTER_SECONDS


def _share(sample: int, account: str, stored: dict[str, int]) -> int:
    """Of `sample` orders as many as the account has of all that are stored, rounded up, so that none has none."""
    return -(-sample * stored[account] // max(1, sum(stored.values())))


def _too_slow(error: BaseException) -> dict[str, str]:
    return {
        "reason": f"the database took too long ({type(error).__name__})",
        "advice": "it is tried again in an hour; where this stays, vacuum analyze cuadre.orders and cuadre.sync, and "
        "look at what keeps the database busy",
    }


def _slowed(account: Account) -> Account:
    return replace(account, rate_per_second=min(MOST_PER_SECOND, account.rate_per_second * SHARE))


async def refresh_gauges(database: Database, accounts: Collection[str] | None = None) -> None:
    """What comparisons found and when they finished, and by account how many notifications fail their signature.

    `accounts` are the configured ones: of them, the one whose last comparison is longest ago is told. None: of all that
    ever had a nightly one.
    """
    row = await database.fetchrow(QUERIES.read_finished, None if accounts is None else list(accounts))
    assert row is not None  # it is made of sums
    metrics.verify_finished_timestamp_seconds.set(row["finished"] or 0)
    metrics.verify_unanswered_orders.set(row["unanswered"] or 0)
    metrics.verify_drifted_orders.set(len(await database.fetch(QUERIES.open_drifts, PSEUDO_FIELDS, MOST_DRIFTED, None)))
    metrics.unverified_share.clear()
    for share in await database.fetch(QUERIES.read_unverified_share):
        metrics.unverified_share.labels(share["account"]).set(share["share"])
