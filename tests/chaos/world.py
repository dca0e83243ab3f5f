"""The stage of a run: simulator, Postgres with its standby, PgBouncer, three replicas. And what befalls them."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import asyncpg

from service.database.pool import UNAVAILABLE
from tests.chaos.faults import POOLER
from tests.support.chaos_pgbouncer import PgBouncer
from tests.support.chaos_postgres import PostgresPair
from tests.support.chaos_replicas import Replica
from tests.support.processes import SECRET, TOKEN, service_environment
from tests.support.waiting import until

LEASE_SECONDS: Final = 3.0
FROZEN_SECONDS: Final = LEASE_SECONDS + 1.5
READY_SECONDS: Final = 60.0


def write_accounts(folder: Path, looks: dict[str, object]) -> Path:
    """The accounts file of a run: one shop that is asked as often as we can, looked at by its own table."""
    path = folder / "accounts.json"
    account = {
        "name": "default", "access_token": TOKEN, "webhook_secrets": [SECRET], "rate_per_second": 400, "looks": looks,
    }  # fmt: skip
    path.write_text(json.dumps([account]), encoding="utf-8")
    return path


def settings(accounts: Path, dsn: str, provider_url: str, **more: str) -> dict[str, str]:
    """The environment of a replica."""
    given = {"accounts_file": str(accounts), "lease_seconds": f"{LEASE_SECONDS:g}", **more}
    environment = service_environment(dsn, provider_url, **given)
    for name in ("CUADRE_ACCESS_TOKEN", "CUADRE_WEBHOOK_SECRETS"):
        del environment[name]
    return environment


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens `at` seconds after the beginning, to the replica of that number where it is about one."""

    at: float
    kind: str
    replica: int
    lasts_seconds: float


def schedule(random: Random, kinds: Collection[str], seconds: float, replicas: int) -> list[Event]:
    """Every kind once, in any order; in a long run the repeatable ones again and again. There is one standby."""
    needed = [kind for kind in kinds if kind != "killed"] + ["killed", "killed"] * ("killed" in kinds)
    repeatable = [kind for kind in kinds if kind != "failover"]
    while repeatable and len(needed) < seconds / 8:
        needed.append(random.choice(repeatable))
    random.shuffle(needed)
    step = seconds / (len(needed) + 1)
    return [
        Event(round((place + random.uniform(0.6, 1.2)) * step, 2), kind, random.randrange(replicas),
              round(random.uniform(0.2, 2.0), 2))
        for place, kind in enumerate(needed)
    ]  # fmt: skip


@dataclass
class World:
    """What events happen to. `happened` counts them."""

    pair: PostgresPair
    bouncer: PgBouncer | None
    replicas: list[Replica]
    spares_the_sweeper: bool
    happened: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._locks = [asyncio.Lock() for _ in self.replicas]

    async def until_ready(self) -> None:
        """All replicas are up. AssertionError where one has ended by itself, or is not ready in time."""

        async def are_ready() -> bool:
            for one in self.replicas:
                code = one.process.tied.poll() if one.process is not None else None
                assert code is None, f"{one.name} ended by itself with {code}: {one.log}"
            return all(await asyncio.gather(*(asyncio.to_thread(one.is_ready) for one in self.replicas)))

        await until(are_ready, what="all replicas are ready", seconds=READY_SECONDS)

    async def live(self, events: list[Event]) -> None:
        """Everything that is planned, at its time; replicas are hit while the database is, too."""
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as hits:
            for event in events:
                await asyncio.sleep(max(0.0, began + event.at - asyncio.get_running_loop().time()))
                self.log.append(f"{event.at:7.2f} {event.kind} {event.replica}")
                if event.kind in {"killed", "frozen"}:
                    hits.create_task(self._hit(event))
                else:
                    await self._database(event.kind)
                self.happened[event.kind] += 1

    async def _hit(self, event: Event) -> None:
        number = event.replica
        if event.kind == "killed" and self.spares_the_sweeper:
            number = await self._other_than_the_sweeper(number)
        replica = self.replicas[number]
        async with self._locks[number]:
            if event.kind == "killed":
                await asyncio.to_thread(replica.kill)
                await asyncio.sleep(event.lasts_seconds)
                await asyncio.to_thread(replica.start)
                return
            replica.freeze()
            try:
                await asyncio.sleep(FROZEN_SECONDS)
            finally:
                replica.thaw()

    async def _database(self, kind: str) -> None:
        if kind == "failover":
            await asyncio.to_thread(self.pair.fail_over)
            if self.bouncer is not None:
                self.bouncer.point_to(self.pair.host, self.pair.password)
        else:
            await asyncio.to_thread(self.pair.restart, "fast" if kind == "restarted" else "immediate")

    async def _other_than_the_sweeper(self, number: int) -> int:
        """A short run has no time for the leader's lease to run out."""
        holder = ""
        with contextlib.suppress(*UNAVAILABLE):
            connection = await asyncpg.connect(self.pair.dsn, timeout=5)
            try:
                holder = await connection.fetchval("select holder from cuadre.leaders where name = 'sweep'") or ""
            finally:
                await connection.close()
        leads = f":{self.replicas[number].pid}:" in holder
        return (number + 1) % len(self.replicas) if leads else number

    async def roll_out(self) -> list[int | None]:
        """Every replica ends in order and starts again, as in an update; their exit codes."""
        codes = await asyncio.gather(*(asyncio.to_thread(one.terminate) for one in self.replicas))
        for one in self.replicas:
            await asyncio.to_thread(one.start)
        await self.until_ready()
        return list(codes)


def replica_settings(
    accounts: Path, pair: PostgresPair, bouncer: PgBouncer | None, provider_url: str, names: Collection[str]
) -> list[dict[str, str]]:
    """Two that do all, and a worker; the worker behind PgBouncer where there is one."""
    usual = settings(accounts, pair.dsn, provider_url, role="all")
    if POOLER in names and bouncer is not None:
        last = settings(accounts, bouncer.dsn, provider_url, role="worker", database_statement_cache="0")
    else:
        last = settings(accounts, pair.dsn, provider_url, role="worker")
    return [usual, usual, last]
