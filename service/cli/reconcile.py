"""`cuadre reconcile`: evaluates all rules over all stored orders again, and puts the discrepancies right.

Works with no service running and beside running ones. What is interrupted is done by the next run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import typer

from service.accounts import AccountBook
from service.audit.reconcile import Reconciliation, Report
from service.cli.context import configuration, open_database, run
from service.cli.failures import EXIT_ERROR, EXIT_FOUND
from service.cli.output import Column, Format, FormatOption, note, print_json, print_line, print_table
from service.cli.progress import progress
from service.orders.rules import RULES
from service.settings import Settings
from service.sync.changes import DiscrepancyChange
from service.sync.policies import account_policies

# More than a person reads; the counts are of all.
MOST_LISTED = 1000
_CHANGES = ("opened", "refreshed", "resolved")


@dataclass(slots=True)
class _Listed:
    """The first changes of a run, and how many more there were."""

    changes: list[DiscrepancyChange] = field(default_factory=list)
    more: int = 0

    def add(self, changes: Sequence[DiscrepancyChange]) -> None:
        room = MOST_LISTED - len(self.changes)
        self.changes.extend(changes[:room])
        self.more += len(changes[room:])


def command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and write nothing.")] = False,
    account: Annotated[str | None, typer.Option(help="Orders of this account.")] = None,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Judge all stored orders by all rules; exit 3 on a change.

    A change is a discrepancy that opens or closes.
    """
    settings, accounts = configuration()
    if account is not None and accounts.by_name(account) is None:
        known = ", ".join(one.name for one in accounts)
        raise typer.BadParameter(f"no account of that name is configured; there are {known}", param_hint="--account")
    return run(lambda: _reconcile(settings, accounts, account, dry_run, format))


async def _reconcile(
    settings: Settings, accounts: AccountBook, account: str | None, dry_run: bool, form: Format
) -> int:
    listed = _Listed()
    async with open_database(settings) as database:

        def judged(orders: int, changes: Sequence[DiscrepancyChange]) -> None:
            steps.advance(orders)
            listed.add(changes)

        reconciliation = Reconciliation(
            database,
            account_policies(accounts.by_name)["refunds_only_here_since"],
            frozenset(one.name for one in accounts),
            account=account,
            dry_run=dry_run,
            on_judged=judged,
        )
        with progress(await reconciliation.count(), "orders judged") as steps:
            report = await reconciliation.carry_out()
    if form == "json":
        print_json(_document(report, listed, dry_run=dry_run))
    else:
        _print(report, listed, dry_run=dry_run)
    if report.unreadable:
        note(
            f"cuadre: {report.unreadable} stored orders cannot be read, and nothing was said about them; "
            "the log names them: fetch each anew with cuadre sync ORDER"
        )
        return EXIT_ERROR
    return EXIT_FOUND if report.opened_or_resolved else 0


def _print(report: Report, listed: _Listed, *, dry_run: bool) -> None:
    verbs = {"opened": "would open", "refreshed": "would refresh", "resolved": "would close"} if dry_run else {}
    if listed.changes:
        print_table(
            [Column("ORDER", "id"), Column("RULE", "id"), Column("SUBJECT", "id"), Column("CHANGE")],
            [
                (
                    one.order_id,
                    one.finding.rule,
                    one.finding.subject_id,
                    verbs.get(one.change, one.change),
                    one.finding.explanation,
                )
                for one in listed.changes
            ],
            detail="WHAT",
        )
        print_line("")
    if listed.more:
        note(f"only the first {MOST_LISTED} changes are listed; {listed.more} more are counted")
    if report.changes:
        columns = [Column("RULE", "id"), *(Column(verbs.get(one, one).upper(), "amount") for one in _CHANGES)]
        print_table(columns, [(rule, *counts.values()) for rule, counts in _by_rule(report).items()])
        print_line("")
    print_line(f"{report.orders} orders judged: {_summary(report, dry_run=dry_run)}")


def _summary(report: Report, *, dry_run: bool) -> str:
    if not report.changes:
        return "every discrepancy is as it should be"
    numbers = [sum(counts[change] for counts in _by_rule(report).values()) for change in _CHANGES]
    did = "would be " if dry_run else ""
    return ", ".join(f"{number} {did}{change}" for number, change in zip(numbers, _CHANGES, strict=True))


def _by_rule(report: Report) -> dict[str, dict[str, int]]:
    """How many of each change, by rule, in the order of the rules; a rule of an older build comes last."""
    changed = {rule for rule, _ in report.changes}
    names = [*(rule for rule in RULES if rule in changed), *sorted(changed.difference(RULES))]
    return {rule: {change: report.changes[rule, change] for change in _CHANGES} for rule in names}


def _document(report: Report, listed: _Listed, *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "orders": report.orders,
        "unreadable": report.unreadable,
        "rules": _by_rule(report),
        "data": [
            {
                "change": one.change,
                "order_id": one.order_id,
                "account": one.account,
                "rule": one.finding.rule,
                "subject_id": one.finding.subject_id,
                "severity": one.finding.severity,
                "amount_at_stake": one.finding.amount_at_stake,
                "currency": one.finding.currency,
                "expected": one.finding.expected,
                "actual": one.finding.actual,
                "explanation": one.finding.explanation,
            }
            for one in listed.changes
        ],
        "more": listed.more,
    }
