"""`cuadre backfill --from --to`: lists a range at the provider, and stores what of it is missing or older here.

Works with no service running and beside running ones. A run that was interrupted goes on where it stood when the same
range is asked for again.
"""

import random
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from service.accounts import AccountBook
from service.audit.backfill import Backfill, BackfillRun, BackfillStoppedError
from service.audit.listing import AccountShutError, ProviderList
from service.audit.windows import earliest_begin
from service.cli.context import configuration, open_database, run
from service.cli.failures import EXIT_ERROR
from service.cli.look_now import LookNow
from service.cli.output import Column, Format, FormatOption, note, print_json, print_table
from service.cli.progress import progress
from service.cli.reading import checked_moment
from service.database.pool import Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.errors import MercadoPagoError
from service.settings import Settings
from service.sync.gates import Gates

LOOK_SECONDS = 60.0


def command(
    from_: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Orders created from here: a date (UTC) or RFC 3339.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="TIME", help="Up to here; this moment is not included.")],
    account: Annotated[str | None, typer.Option(help="Only this account's; all accounts otherwise.")] = None,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Find orders that nobody told of, and store them."""
    from_at, to_at = _moment(from_, "--from"), _moment(to, "--to")
    now = datetime.now(UTC)
    if from_at >= to_at:
        raise typer.BadParameter("must be earlier than --to", param_hint="--from")
    if from_at < earliest_begin(now):
        raise typer.BadParameter("must be within 5 years: the provider lists no older orders", param_hint="--from")
    if from_at > now:
        raise typer.BadParameter("must not lie in the future", param_hint="--from")
    settings, accounts = configuration()
    if account is not None and accounts.by_name(account) is None:
        known = ", ".join(one.name for one in accounts)
        raise typer.BadParameter(f"no account of that name is configured; there are {known}", param_hint="--account")
    chosen = [one for one in accounts if account in {None, one.name}]
    return run(lambda: _backfill(settings, accounts, chosen, (from_at, to_at), format))


def _moment(text: str, option: str) -> datetime:
    moment = checked_moment(text, option)
    assert moment is not None  # only for no text
    return moment


async def _backfill(
    settings: Settings,
    accounts: AccountBook,
    chosen: list[Account],
    range_: tuple[datetime, datetime],
    form: Format,
) -> int:
    gates = Gates(time.monotonic)
    gates.follow(accounts)
    results: list[tuple[Backfill, str | None]] = []
    async with (
        open_database(settings) as database,
        MercadoPagoClient(settings.mercadopago_url) as client,
        LookNow(settings, accounts, database) as looks,
    ):
        for account in chosen:
            listing = ProviderList(client, gates, account.name)
            results.append(await _one_account(database, listing, looks, account, range_))
    _show(results, form)
    done = all(one.finished and not one.failures for one, _ in results)
    return 0 if done else EXIT_ERROR


async def _one_account(
    database: Database, listing: ProviderList, looks: LookNow, account: Account, range_: tuple[datetime, datetime]
) -> tuple[Backfill, str | None]:
    """What was done, and why it ended early, if it did."""

    async def look(order_id: str, of: str | None) -> str | None:
        seen = await looks.look(order_id, of, timeout_seconds=LOOK_SECONDS)
        return None if seen.error is None else seen.error + (f". {seen.hint}" if seen.hint else "")

    backfill = BackfillRun(
        database, listing, look, account=account.name, from_at=range_[0], to_at=range_[1], random=random.random
    )
    error = None
    try:
        now = (await listing.now(database)).reach
        total = await backfill.begin(now)
        with progress(total, f"{account.name}: orders listed") as steps:
            await backfill.run(now, steps.advance)
    except (BackfillStoppedError, AccountShutError) as stopped:
        error = str(stopped)
    except MercadoPagoError as refused:
        error = f"{refused.outcome}: {refused}. {refused.hint}"
    for order_id, why in backfill.result.failures:
        note(f"{order_id}  failed: {why}")
    if backfill.result.not_certified is not None:
        note(f"{account.name}  the certificate was not extended: {backfill.result.not_certified}")
    if error is not None:
        note(f"{account.name}  stopped: {error}")
    return backfill.result, error


def _show(results: list[tuple[Backfill, str | None]], form: Format) -> None:
    if form == "json":
        print_json({"data": [_document(one, error) for one, error in results]})
        return
    columns = [Column("ACCOUNT", "id"), Column("FROM", "id"), Column("TO", "id")]
    columns += [Column(title, "amount") for title in ("LISTED", "UNKNOWN", "STALE", "APPLIED", "FAILED")]
    columns += [Column("STATE")]
    rows = [
        (
            one.account, one.from_at, one.to_at, one.listed, one.unknown, one.stale, one.applied, len(one.failures),
            _state(one),
        )
        for one, _ in results
    ]  # fmt: skip
    print_table(columns, rows)


def _state(one: Backfill) -> str:
    words = "finished" if one.finished else "interrupted; the same command goes on"
    return f"{words} (went on from an earlier run)" if one.resumed else words


def _document(one: Backfill, error: str | None) -> dict[str, object]:
    return {
        "account": one.account,
        "from": one.from_at,
        "to": one.to_at,
        "resumed": one.resumed,
        "finished": one.finished,
        "listed": one.listed,
        "unknown": one.unknown,
        "stale": one.stale,
        "applied": one.applied,
        "failed": len(one.failures),
        "failures": [{"order_id": order_id, "error": why} for order_id, why in one.failures],
        "error": error,
        "complete_since": one.certified_since,
    }
