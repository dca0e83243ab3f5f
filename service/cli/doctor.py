"""`cuadre doctor`: looks at everything that has to hold, says what it found and what to do. Changes nothing."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from service.accounts import AccountBook, account_warnings, load_accounts
from service.audit.completeness import QUERIES as AUDIT_QUERIES
from service.cli import checks
from service.cli.checks import Check
from service.cli.config import warnings_about
from service.cli.context import QUERIES, open_database, run, settings_for_command, without_wrong_ones
from service.cli.failures import EXIT_ERROR, CommandError, ConfigurationError, database_trouble
from service.cli.output import Column, Format, FormatOption, print_json, print_table
from service.database.migrations import schema_state
from service.database.pool import UNAVAILABLE, Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient, Seller
from service.mercadopago.errors import MercadoPagoError
from service.reloading import UnusableFileError
from service.settings import Settings, SettingsError
from service.sync.claims import QUERIES as SYNC_QUERIES
from service.web.keys import follow_keys

CALLS_AT_ONCE = 8
# A stored order is looked for in the list this much around its creation.
AROUND = timedelta(seconds=1)
_UNREADABLE: tuple[type[BaseException], ...] = (asyncpg.PostgresError, *UNAVAILABLE)


def command(format: FormatOption = "table") -> int:  # noqa: A002 - the option's name is the contract's
    """Check everything that has to hold; exit 1 if any fails."""
    return run(lambda: _examine(format))


async def _examine(form: Format) -> int:
    found, settings, accounts = _configuration()
    if settings is not None:
        provider, provider_ahead = await _provider(settings, accounts)
        database, database_ahead = await _database(settings, accounts)
        found += [*database, checks.clocks(database_ahead, provider_ahead), *provider]
    failed = any(check.status == "fail" for check in found)
    if form == "json":
        print_json(_document(found))
    else:
        print_table(
            [Column("CHECK"), Column("ACCOUNT"), Column("STATUS", "id"), Column("FOUND"), Column("WHAT TO DO")],
            [(one.name, one.account, one.status, one.found, one.advice) for one in found],
        )
    return EXIT_ERROR if failed else 0


def _document(found: list[Check]) -> dict[str, object]:
    worst = next((status for status in ("fail", "warn") if any(one.status == status for one in found)), "ok")
    rows = [
        {"name": one.name, "account": one.account, "status": one.status, "found": one.found, "advice": one.advice}
        for one in found
    ]
    return {"status": worst, "checks": rows}


def _configuration() -> tuple[list[Check], Settings | None, AccountBook]:
    """What is wrong with the settings, and what can be used in spite of it."""
    advice = "correct it; all of them: cuadre config"
    found: list[Check] = []
    settings: Settings | None
    try:
        settings = settings_for_command()
        found += [Check("settings", "warn", warning, "correct or unset it") for warning in warnings_about(settings)]
        found = found or [Check("settings", "ok", "no mistakes")]
    except SettingsError as error:
        found += [Check("settings", "fail", problem, advice) for problem in error.problems]
        settings = _usable(error.problems)
    if settings is None:
        return found, None, AccountBook(())
    accounts = AccountBook(())
    try:
        accounts = AccountBook(load_accounts(settings))
        found.append(Check("accounts", "ok", f"{len(accounts)} configured"))
        found += [Check("accounts", "warn", warning, "correct or remove it") for warning in account_warnings(settings)]
    except UnusableFileError as error:
        found += [Check("accounts", "fail", problem, advice) for problem in error.problems]
    try:
        follow_keys(settings)
    except UnusableFileError as error:
        found += [Check("api keys", "fail", problem, advice) for problem in error.problems]
    return found, settings, accounts


def _usable(problems: list[str]) -> Settings | None:
    try:
        return without_wrong_ones(os.environ, problems)
    except ConfigurationError:
        return None


async def _provider(settings: Settings, accounts: AccountBook) -> tuple[list[Check], float | None]:
    """Each token, and by how many seconds the provider's clock is ahead of ours."""
    slots = asyncio.Semaphore(CALLS_AT_ONCE)
    ahead: list[float] = []
    async with MercadoPagoClient(settings.mercadopago_url) as client:

        async def ask(account: Account) -> Check:
            async with slots:
                began, before = time.monotonic(), datetime.now(UTC)
                answer: Seller | MercadoPagoError
                try:
                    answer = await client.who_am_i(account)
                except MercadoPagoError as error:
                    answer = error
                else:
                    middle = before + timedelta(seconds=(time.monotonic() - began) / 2)
                    if answer.provider_date is not None:
                        # The header's second has begun half a second ago on the average.
                        ahead.append((answer.provider_date - middle).total_seconds() + 0.5)
            return checks.token(account, answer, alone=len(accounts) == 1)

        found = await asyncio.gather(*(ask(account) for account in accounts))
    return list(found), min(ahead, key=abs, default=None)


async def _database(settings: Settings, accounts: AccountBook) -> tuple[list[Check], float | None]:
    """All that the database tells, and by how many seconds its clock is ahead of ours."""
    advice = "check CUADRE_DATABASE_URL and that Postgres runs"
    try:
        async with open_database(settings, any_schema=True) as database:
            row = await database.fetchrow(QUERIES.read_server)
            assert row is not None  # a query without a table makes one row
            ahead = await _ahead(database)
            found = checks.server(row)
            found += checks.sessions(row["idle_in_transaction_seconds"], settings.ack_timeout_seconds)
            schema = await _schema(database)
            found.append(schema)
            if schema.status == "ok":
                found += await _stored(database, accounts)
                found += await _searches(settings, accounts, database)
    except CommandError as error:
        what, _, advice_given = str(error).partition("; ")
        return [Check("database", "fail", what.removeprefix("CUADRE_DATABASE_URL: "), advice_given or advice)], None
    return found, ahead


async def _searches(settings: Settings, accounts: AccountBook, database: Database) -> list[Check]:
    """Whether each account's list can be searched, and which types of the stored orders it shows."""
    samples: dict[tuple[str, str], list[Any]] = {}
    try:
        rows = await database.fetch(AUDIT_QUERIES.read_samples_of_types, [account.name for account in accounts])
    except _UNREADABLE as error:
        what, _, advice = database_trouble(error).partition("; ")
        return [Check("search", "fail", what, advice)]
    for row in rows:
        samples.setdefault((row["account"], row["type"]), []).append(row)
    slots = asyncio.Semaphore(CALLS_AT_ONCE)
    async with MercadoPagoClient(settings.mercadopago_url) as client:

        async def ask(account: Account) -> Check:
            async with slots:
                of_account = {kind: rows for (name, kind), rows in samples.items() if name == account.name}
                try:
                    return checks.search(account.name, await _types_shown(client, account, of_account))
                except MercadoPagoError as error:
                    return checks.search(account.name, error)

        # An account without a token is not swept; the check of its token says so.
        return list(await asyncio.gather(*(ask(account) for account in accounts if account.access_token is not None)))


async def _types_shown(
    client: MercadoPagoClient, account: Account, samples: Mapping[str, Sequence[Any]]
) -> dict[str, bool]:
    """By type: whether the list shows one of its latest stored orders. Raises `MercadoPagoError`."""
    now = datetime.now(UTC)
    await client.search_orders(account, begin=now - timedelta(days=1), end=now, page_size=1)
    shown = dict.fromkeys(samples, False)
    for kind, rows in samples.items():
        for row in rows:
            created: datetime = row["created_at"]
            page = await client.search_orders(account, begin=created - AROUND, end=created + AROUND)
            shown[kind] = any(order.order_id == row["order_id"] for order in page.orders)
            if shown[kind]:
                break
    return shown


async def _ahead(database: Database) -> float:
    """Of three askings the one that took the least time, measured at its middle."""
    offsets = []
    for _ in range(3):
        began, before = time.monotonic(), datetime.now(UTC)
        theirs: datetime = await database.fetchval(QUERIES.read_clock)
        took = time.monotonic() - began
        offsets.append((took, (theirs - before).total_seconds() - took / 2))
    return min(offsets)[1]


async def _schema(database: Database) -> Check:
    state = await schema_state(database)
    if state.state == "current":
        return Check("schema", "ok", state.advice)
    what, _, advice = state.advice.partition("; ")
    return Check("schema", "fail", what, advice or None)


async def _stored(database: Database, accounts: AccountBook) -> list[Check]:
    """The checks on what is stored; one that cannot be read fails and does not hide the others."""
    names = [account.name for account in accounts]
    by_name = {account.name: account for account in accounts}

    async def signatures() -> Iterable[Check]:
        return checks.signatures(await database.fetch(QUERIES.read_signature_checks), by_name)

    async def silence() -> Iterable[Check]:
        now: datetime = await database.fetchval(QUERIES.read_clock)
        return checks.silence(await database.fetch(QUERIES.read_silence, names), now)

    async def backlog() -> Iterable[Check]:
        return checks.backlog(await database.fetch(QUERIES.read_backlog), names)

    async def partitions() -> Iterable[Check]:
        return [checks.partitions(await database.fetch(SYNC_QUERIES.read_default_partitions))]

    async def discrepancies() -> Iterable[Check]:
        return [checks.discrepancies(await database.fetch(SYNC_QUERIES.read_discrepancy_gauges))]

    found: list[Check] = []
    examinations: dict[str, Callable[[], Awaitable[Iterable[Any]]]] = {
        "signatures": signatures,
        "webhooks": silence,
        "backlog": backlog,
        "partitions": partitions,
        "discrepancies": discrepancies,
    }
    for name, examine in examinations.items():
        try:
            found += await examine()
        except _UNREADABLE as error:
            what, _, advice = database_trouble(error).partition("; ")
            found.append(Check(name, "fail", what, advice))
    return found
