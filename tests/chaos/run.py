"""A randomised run against ground truth: `python -m tests.chaos [--seed N] [--orders N] [--seconds N] [--only …]`.

The simulator lives orders from a seed and misbehaves; meanwhile replicas are killed and frozen, Postgres is restarted,
a standby is promoted. At the end everything stored must equal the provider's ledger, and nothing that was acknowledged
may be missing. 0 when all holds; 1 with the seed and the folder of the logs otherwise.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from service.cli.demo.stored import Books
from service.database.migrations import migrate
from service.database.pool import Database
from tests.chaos.drive import ChaosDriver, ChaosProvider, PatientSightings, Tally, count_orders
from tests.chaos.faults import ALL, EVENTS, POOLER, UNANNOUNCED, told_to_the_simulator
from tests.chaos.judge import Verdict, judge
from tests.chaos.plan import plan
from tests.chaos.report import Options, Report
from tests.chaos.world import World, replica_settings, schedule, write_accounts
from tests.support.chaos_pgbouncer import find_pgbouncer, pgbouncer
from tests.support.chaos_postgres import a_pair
from tests.support.chaos_replicas import Replica
from tests.support.processes import Simulator, simulator
from tests.support.waiting import until

SHORT_SECONDS: Final = 60.0
"""A storm shorter than this has no time for the sweep's lease to run out by itself."""
FAULTS_EVERY_SECONDS: Final = 12.0
TURN_SECONDS: Final = 0.5


def looks(storm_seconds: float) -> dict[str, object]:
    """A table like the contract's, in a tempo that fits the run: the first look soon, each one later than before."""
    first = max(2.0, storm_seconds / 6)
    series = {"at_seconds": [first, 3 * first, 9 * first, 40 * first]}
    often = {"at_seconds": [3.0, 10.0, 30.0], "every_seconds": 60.0}
    return {
        "open_in_person": often, "open_online": often, "after_expiry": {"at_seconds": [2.0, 20.0, 90.0, 600.0]},
        "paid": series, "closed": series, "refund_in_process": {"at_seconds": [5.0, 15.0], "every_seconds": 30.0},
    }  # fmt: skip


def _compression(options: Options) -> float:
    """Of the provider's retries, 15 minutes to 4 days: the first after 45 ms, the last after a minute; or sooner."""
    return 20_000 if options.storm_seconds >= SHORT_SECONDS else 100_000


async def run(options: Options, folder: Path) -> Report:
    """One run; its processes are gone when it returns, whatever happened."""
    report = Report(options)
    began = time.monotonic()
    try:
        async with asyncio.timeout(options.seconds) as limit:
            await _run(options, folder, report)
    except Exception as error:  # the seed must be told, whatever it was
        over = isinstance(error, TimeoutError) and limit.expired()
        report.problem = f"not done within {options.seconds:g} s" if over else f"{type(error).__name__}: {error}"[:500]
        (folder / "problem.log").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    report.seconds = time.monotonic() - began
    return report


async def _run(options: Options, folder: Path, report: Report) -> None:
    random, began = Random(options.seed), time.monotonic()
    async with (
        _stage(options, folder) as (world, told),
        ChaosProvider(told.url) as provider,
        ChaosProvider(told.url) as logs,
    ):
        report.setup_seconds = time.monotonic() - began
        database = await Database.connect(world.pair.dsn, application_name="chaos", max_size=4)
        try:
            await _storm(options, random, world, provider, Tally(logs), database, report)
        finally:
            await database.close()


@contextlib.asynccontextmanager
async def _stage(options: Options, folder: Path) -> AsyncIterator[tuple[World, Simulator]]:
    with contextlib.ExitStack() as stack:
        pair = await asyncio.to_thread(stack.enter_context, a_pair(folder))
        await migrate(pair.dsn)
        program = find_pgbouncer() if POOLER in options.names else None
        bouncer = stack.enter_context(pgbouncer(folder, program, pair.host, pair.password)) if program else None
        told = await asyncio.to_thread(
            stack.enter_context, simulator(folder, webhook_port=1, seed=options.seed, compression=_compression(options))
        )
        accounts = write_accounts(folder, looks(options.storm_seconds))
        environments = replica_settings(accounts, pair, bouncer, told.url, options.names)
        replicas = [
            stack.enter_context(Replica(folder, f"replica-{number}", environment))
            for number, environment in enumerate(environments)
        ]
        world = World(pair, bouncer, replicas, spares_the_sweeper=options.storm_seconds < SHORT_SECONDS)
        for replica in replicas:
            await asyncio.to_thread(replica.start)
        await world.until_ready()
        try:
            yield world, told
        finally:
            (folder / "events.log").write_text("\n".join(world.log) + "\n", encoding="utf-8")
            await asyncio.to_thread(stack.close)


async def _storm(
    options: Options,
    random: Random,
    world: World,
    provider: ChaosProvider,
    tally: Tally,
    database: Database,
    report: Report,
) -> None:
    books = Books(database, "default")
    sightings = PatientSightings(books)
    driver = ChaosDriver(provider, sightings)
    scenes = plan(f"chaos{options.seed}", options.seed, options.orders, unannounced=UNANNOUNCED in options.names)
    assert count_orders(scenes) == options.orders
    kinds = [name for name in EVENTS if name in options.names]
    events = schedule(random, kinds, options.storm_seconds, len(world.replicas))
    began = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            misbehaving = group.create_task(_keep_misbehaving(provider, tally, options.names))
            beside = [
                group.create_task(work)
                for work in (
                    tally.follow_for_ever(),
                    sightings.look_for_ever(),
                    _deliver_to_either(world, provider, random),
                )
            ]
            await asyncio.gather(world.live(events), driver.run(scenes, per_second=options.per_second))
            misbehaving.cancel()
            await asyncio.wait([misbehaving])
            await provider.configure("faults", {})
            report.storm_seconds = time.monotonic() - began
            await world.until_ready()
            codes = await world.roll_out()
            report.verdict = await _settled(tally, provider, database, books, driver, options)
            report.settle_seconds = time.monotonic() - began - report.storm_seconds
            for task in beside:
                task.cancel()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        report.faults = dict(tally.faults + world.happened) | {"unanswered": tally.deliveries["connection_error"]}
    report.verdict.complain("replicas that did not end in order", [code for code in codes if code != 0])
    _look_into_logs(world, report.verdict)


async def _settled(
    tally: Tally, provider: ChaosProvider, database: Database, books: Books, driver: ChaosDriver, options: Options
) -> Verdict:
    """Judges with all that the provider's log holds by then."""
    await until(provider.is_idle, what="all deliveries have come to their end", seconds=90.0)
    await tally.read()
    verdict = await judge(
        provider, database, books, tally.acknowledged, driver.planted, driver.to_resolve,
        seconds=max(60.0, options.storm_seconds),
    )  # fmt: skip
    if tally.missed_entries:
        verdict.complain("entries of the provider's logs that were missed", [tally.missed_entries])
    return verdict


async def _deliver_to_either(world: World, provider: ChaosProvider, random: Random) -> None:
    """A poor man's balancer: the provider's deliveries go to one of the receiving replicas, by turns."""
    receiving = world.replicas[:2]
    while True:
        await provider.configure("webhook", {"url": random.choice(receiving).webhook_url})
        await asyncio.sleep(TURN_SECONDS)


async def _keep_misbehaving(provider: ChaosProvider, tally: Tally, names: Sequence[str]) -> None:
    """The same faults again and again: what is counted out begins anew."""
    faults = told_to_the_simulator(names)
    while True:
        await provider.configure("faults", faults)
        try:
            await asyncio.sleep(FAULTS_EVERY_SECONDS)
        finally:
            tally.dealt(faults["get_order"], await provider.faults_left())


def _look_into_logs(world: World, verdict: Verdict) -> None:
    """A stack trace of ours is a fault of ours."""
    traces = [one.name for one in world.replicas if "Traceback" in one.log.read_text(errors="replace")]
    verdict.complain("replicas with a stack trace in their log", traces)


def read_options(arguments: Sequence[str] | None = None) -> Options:
    """From the command line; exits with 2 on wrong ones."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=None, help="replays a run (default: a new one, printed)")
    parser.add_argument("--orders", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=900.0, help="the whole run ends within this, or fails")
    parser.add_argument("--per-second", type=float, default=40.0, help="orders that begin in a second")
    parser.add_argument("--only", nargs="+", choices=ALL, default=list(ALL), metavar="FAULT", help=", ".join(ALL))
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(3), "big")
    events = sum(name in EVENTS for name in given.only)
    storm = max(given.orders / given.per_second, 3.2 * events, 5.0)
    return Options(seed, given.orders, given.seconds, tuple(given.only), given.orders / storm, storm)


def run_and_tell(options: Options, say: Any = print) -> bool:
    """Runs, prints the summary, and keeps the folder of a run that failed."""
    folder = Path(tempfile.mkdtemp(prefix="cuadre-chaos-", dir="/tmp"))  # sockets need a short path
    folder.chmod(0o711)
    report = asyncio.run(run(options, folder))
    for line in report.lines():
        say(line)
    if report.holds:
        shutil.rmtree(folder, ignore_errors=True)
        say("Everything holds.")
    else:
        say(f"It does not hold; replay it with --seed {options.seed} --orders {options.orders}. Logs: {folder}")
    return report.holds


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    return 0 if run_and_tell(read_options(arguments), say=lambda line: print(line, flush=True)) else 1  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
