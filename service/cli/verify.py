"""`cuadre verify`: stored orders against the provider's own answers, field by field; with `--repair` written anew.

Works with no service running and beside running ones. What is interrupted is gone on with by the same call.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer

from service.accounts import AccountBook
from service.audit.fresh import FreshReader, ProviderAway
from service.audit.runs import FoundOrder, Run, RunKind, TakenOver, Wish, begin, read_found
from service.audit.verify import Remarks, Verification
from service.cli.context import configuration, open_database, run
from service.cli.failures import EXIT_ERROR, EXIT_FOUND, CommandError
from service.cli.output import Column, Format, FormatOption, note, print_json, print_line, print_table, shown
from service.cli.progress import progress
from service.cli.reading import checked_moment
from service.database.pool import Database
from service.mercadopago.client import MercadoPagoClient
from service.settings import Settings

AT_ONCE = 16
# Of each account's rate: a running service has its own work to do.
SHARE = 0.5
MAX_SAMPLE = 100_000
# More rows than a person reads; the API pages through all of them.
MAX_ROWS = 10_000
SILENT = frozenset({"unanswered", "unprovable"})


@dataclass(frozen=True, slots=True)
class _Report:
    """How a call came out."""

    run: Run
    resumed: bool
    found: list[FoundOrder]
    more: bool
    remarks: Remarks

    @property
    def stale(self) -> int:
        return sum(one.kind == "stale" for one in self.found)

    @property
    def left(self) -> int:
        return self.run.drifted - self.run.repaired


def command(
    full: Annotated[bool, typer.Option("--full", help="All stored orders; what is done anyway.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Orders changed or looked at then or later; a date or RFC 3339.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, max=MAX_SAMPLE, metavar="N", help="So many orders, by chance.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Orders of this account.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Write orders that differ anew from the provider.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew instead of going on.")] = False,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Compare what is stored with Mercado Pago; exit 3 on drift.

    An interrupted comparison is gone on with by the same call within 24 hours.
    """
    if full and (since is not None or sample is not None):
        raise typer.BadParameter("--full is all orders; leave it out with --since or --sample", param_hint="--full")
    moment = checked_moment(since, "--since")
    settings, accounts = configuration()
    if account is not None and accounts.by_name(account) is None:
        known = ", ".join(one.name for one in accounts)
        raise typer.BadParameter(f"no account of that name is configured; there are {known}", param_hint="--account")
    kind: RunKind = "sample" if sample is not None else "since" if moment is not None else "full"
    wish = Wish(kind, account, repair, moment, sample)
    return run(lambda: _verify(settings, accounts, wish, restart, format))


async def _verify(settings: Settings, accounts: AccountBook, wish: Wish, restart: bool, form: Format) -> int:
    async with open_database(settings) as database, MercadoPagoClient(settings.mercadopago_url) as client:
        report = await _carry_out(database, FreshReader(client, accounts, share=SHARE), wish, restart, form)
    if form == "json":
        print_json(_document(report))
    else:
        _print(report)
    for reason, orders in report.remarks.not_asked.items():
        note(f"cuadre: {orders} orders were not compared: {shown(reason)}; see: cuadre doctor")
    if report.left:
        return EXIT_FOUND
    if report.run.unprovable:
        note(f"cuadre: {report.run.unprovable} orders cannot be proved any more; no money is in them")
    if report.run.unanswered:
        note(f"cuadre: nothing was proved about {report.run.unanswered} orders that were not answered for")
        return EXIT_ERROR
    return 0


async def _carry_out(database: Database, reader: FreshReader, wish: Wish, restart: bool, form: Format) -> _Report:
    begun = await begin(database, wish, restart=restart)
    resumed = begun.checked > 0
    if resumed:
        note(
            f"going on with comparison {begun.verification_id} of {shown(begun.started_at)}: {begun.checked} of "
            f"{begun.to_check} orders are done (--restart begins anew)"
        )
    with progress(begun.to_check, "orders compared") as steps:
        steps.advance(begun.checked)
        verification = Verification(database, reader, at_once=AT_ONCE, on_checked=steps.advance)
        try:
            ended = await verification.carry_out(begun)
        except ProviderAway as error:
            found, _ = await read_found(database, begun.verification_id, at_most_rows=MAX_ROWS)
            differing = [one for one in found if one.kind not in SILENT]
            if differing and form == "table":
                _print_drifts(differing, repaired=wish.repair)
            so_far = f"; {len(differing)} orders differ so far: GET /api/v1/verifications/{begun.verification_id}"
            raise CommandError(f"{error}{so_far if differing else ''}") from None
        except TakenOver:
            raise CommandError(
                f"another process goes on with comparison {begun.verification_id}; --restart begins one of your own"
            ) from None
    found, more = await read_found(database, ended.verification_id, at_most_rows=MAX_ROWS)
    return _Report(ended, resumed, found, more, verification.remarks)


def _print(report: _Report) -> None:
    differing = [one for one in report.found if one.kind not in SILENT]
    if differing:
        _print_drifts(differing, repaired=report.run.repair)
        print_line("")
    unanswered = [one for one in report.found if one.kind in SILENT]
    if unanswered:
        columns = [Column("ORDER", "id"), Column("NOT COMPARED")]
        print_table(columns, [(one.order_id, one.drifts[0].provider) for one in unanswered])
        print_line("")
    for order_id, reason in report.remarks.unrepaired.items():
        if report.run.repair:
            print_line(f"{order_id}  not repaired: {shown(reason)}")
    if report.more:
        note(f"only the first {MAX_ROWS} fields; the rest: GET /api/v1/verifications/{report.run.verification_id}")
    print_line(_summary(report))


def _print_drifts(found: Sequence[FoundOrder], *, repaired: bool) -> None:
    several = len({one.account for one in found}) > 1
    columns = [Column("ORDER", "id"), Column("FIELD", "id"), Column("STORED"), Column("PROVIDER"), Column("KIND")]
    print_table(
        [*columns, *([Column("REPAIRED")] if repaired else []), *([Column("ACCOUNT")] if several else [])],
        [
            (
                one.order_id, drift.field, drift.stored, drift.provider, one.kind,
                *([one.repaired_at is not None] if repaired else []), *([one.account] if several else []),
            )
            for one in found
            for drift in one.drifts
        ],
    )  # fmt: skip


def _summary(report: _Report) -> str:
    one = report.run
    parts = [f"{one.equal} equal", f"{one.drifted} differ"]
    if report.stale:
        parts[-1] += f" ({report.stale} of them stale: the provider moved on since our look)"
    if one.repair:
        parts += [f"{one.repaired} repaired", f"{report.left} left"]
    if one.unanswered:
        parts.append(f"{one.unanswered} not compared")
    if one.unprovable:
        parts.append(f"{one.unprovable} too old to be proved and without money")
    text = f"comparison {one.verification_id}: {one.checked} orders, {', '.join(parts)}"
    if report.remarks.by_payments:
        text += f"; {report.remarks.by_payments} that GET no longer answers for were checked by their payments"
    return text


def _document(report: _Report) -> dict[str, object]:
    one = report.run
    return {
        "verification_id": one.verification_id,
        "kind": one.kind,
        "account": one.account,
        "repair": one.repair,
        "since": one.since,
        "resumed": report.resumed,
        "started_at": one.started_at,
        "finished_at": one.finished_at,
        "to_check": one.to_check,
        "checked": one.checked,
        "equal": one.equal,
        "drifted": one.drifted,
        "stale": report.stale,
        "repaired": one.repaired,
        "left": report.left,
        "unanswered": one.unanswered,
        "unprovable": one.unprovable,
        "checked_by_payments": report.remarks.by_payments,
        "not_asked": dict(report.remarks.not_asked),
        "more": report.more,
        "data": [_order_document(found, report.remarks.unrepaired.get(found.order_id)) for found in report.found],
    }


def _order_document(found: FoundOrder, reason: str | None) -> dict[str, object]:
    silent = found.kind in SILENT
    repaired_at: datetime | None = found.repaired_at
    return {
        "order_id": found.order_id,
        "account": found.account,
        "kind": found.kind,
        "repaired_at": repaired_at,
        "reason": found.drifts[0].provider if silent else reason,
        "fields": []
        if silent
        else [{"field": one.field, "stored": one.stored, "provider": one.provider} for one in found.drifts],
    }
