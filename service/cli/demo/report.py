"""The report at the end: stored orders against the provider's books, what does not add up, what went wrong."""

import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from service.cli.demo.compare import DiscrepancyComparison, Key, Verdict
from service.cli.demo.faults import FAULTS, Dealt
from service.cli.demo.household import Household
from service.cli.demo.plants import NOT_PLANTED
from service.cli.demo.settle import Settled

EXPLAINED = 6
# Refunds that do not add up first; that is what most people come for.
EXPLAIN_FIRST = (
    "refunds_exceed_paid",
    "refund_without_payment",
    "refunded_amount_mismatch",
    "payment_status_mismatch",
    "paid_after_close",
    "refund_and_chargeback",
)
NAMED = 5


@dataclass(frozen=True, slots=True)
class Report:
    """All that is reported of a run. `deliveries` are those that the service recorded, by their verification."""

    settled: Settled
    discrepancies: DiscrepancyComparison
    dealt: Dealt
    deliveries: dict[str, int]
    seconds: float

    @property
    def holds(self) -> bool:
        """Both comparisons hold."""
        return self.settled.comparison.holds and self.discrepancies.holds


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", overflow="fold")
    return table


def _say(console: Console, line: str = "") -> None:
    """A line that may be pasted: never broken by us."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def _explain(console: Console, text: str) -> None:
    """A sentence for the reader, broken to the width."""
    console.print(text, markup=False, highlight=False)


def print_report(console: Console, report: Report, household: Household, *, once: bool) -> None:
    """The three tables, where to look next, and the verdict."""
    _say(console)
    _print_orders(console, report.settled)
    _say(console)
    _print_discrepancies(console, report.discrepancies)
    _say(console)
    _print_faults(console, report.dealt, report.deliveries)
    _say(console)
    _print_next(console, household, report, once=once)
    _say(console)
    comparison = report.settled.comparison
    verdict = (
        f"Everything adds up: stored orders equal to the provider's {comparison.total(Verdict.EQUAL)}, "
        f"planted discrepancies found {len(report.discrepancies.planted)}, others none"
        if report.holds
        else f"It does not add up: {_complaint(report)}"
    )
    style = "bold green" if report.holds else "bold red"
    console.print(f"{verdict} ({report.seconds:.0f} s).", style=style, soft_wrap=True, markup=False)


def _complaint(report: Report) -> str:
    comparison, discrepancies = report.settled.comparison, report.discrepancies
    counts = {
        "orders that differ from the provider's": len(comparison.differing),
        "stored orders unknown to the provider": len(comparison.invented),
        "planted discrepancies not found": len(discrepancies.missing),
        "discrepancies that nobody planted": len(discrepancies.unexpected),
        "discrepancies not resolved": len(discrepancies.unresolved),
    }
    return "; ".join(f"{what} {count}" for what, count in counts.items() if count) or "no order was compared"


def _print_orders(console: Console, settled: Settled) -> None:
    comparison = settled.comparison
    table = _table("Stored orders against the provider's books", "order", "provider", "stored", "equal",
                   "differing", "unannounced")  # fmt: skip
    kinds = sorted({kind for kind, _ in comparison.lines})
    for kind in kinds:
        for (of_kind, status), line in comparison.lines.items():
            if of_kind == kind:
                table.add_row(
                    f"{kind} {status}", str(line.at_provider), str(line.stored),
                    *(_count(line.verdicts[verdict], bad=verdict is Verdict.DIFFERING) for verdict in Verdict),
                )  # fmt: skip
        table.add_section()
    lines = comparison.lines.values()
    table.add_row(
        "all", str(sum(line.at_provider for line in lines)), str(sum(line.stored for line in lines)),
        *(_count(comparison.total(verdict), bad=verdict is Verdict.DIFFERING) for verdict in Verdict), style="bold",
    )  # fmt: skip
    console.print(table)
    _explain(console, "Equal: the whole payload, the typed columns, and payments and refunds summed up anew.")
    _explain(
        console,
        "Unannounced: no notification got through, or none was due. This version does not search for such orders.",
    )
    if settled.late:
        minutes = max(1, math.ceil(max(settled.late.values()).total_seconds() / 60))
        _explain(
            console,
            f"Late: {len(settled.late)} whose latest notification was lost. A scheduled look within {minutes} min "
            "finds the change all the same; the demo does not wait for it but brings it forward.",
        )
    for order_id, names in list(comparison.differing.items())[:NAMED]:
        _say(console, f"Differing: {order_id}: {', '.join(names)}")
    for order_id in sorted(comparison.invented)[:NAMED]:
        _say(console, f"Stored and unknown to the provider: {order_id}")


def _count(number: int, *, bad: bool = False) -> str:
    return f"[bold red]{number}[/]" if bad and number else str(number)


def _print_discrepancies(console: Console, comparison: DiscrepancyComparison) -> None:
    table = _table("Discrepancies", "rule", "planted", "found", "missing", "unexpected")
    for rule, (planted, found, missing, unexpected) in comparison.by_rule().items():
        table.add_row(rule, str(planted), str(found), _count(missing, bad=True), _count(unexpected, bad=True))
    console.print(table)
    for rule, reason in NOT_PLANTED.items():
        _explain(console, f"Not planted: {rule} ({reason}).")
    for title, keys in (
        ("Missing", comparison.missing),
        ("Unexpected", comparison.unexpected),
        ("Not resolved", comparison.unresolved),
    ):
        for order_id, rule, subject in sorted(keys)[:NAMED]:
            _say(console, f"{title}: {rule} of {subject} in order {order_id}")
    _say(console)
    console.print("Which do not add up, and why", style="bold")
    for key in _examples(comparison):
        order_id, rule, _ = key
        _say(console, f"{rule} in {order_id}")
        console.print(Padding(Text(comparison.explanations[key]), (0, 0, 0, 2)))


def _examples(comparison: DiscrepancyComparison) -> Sequence[Key]:
    """One of each rule worth explaining, as far as there is one."""
    by_rule = {key[1]: key for key in sorted(comparison.explanations, reverse=True)}
    rules = [*(rule for rule in EXPLAIN_FIRST if rule in by_rule), *sorted(by_rule.keys() - set(EXPLAIN_FIRST))]
    return [by_rule[rule] for rule in rules[:EXPLAINED]]


def _print_faults(console: Console, dealt: Dealt, deliveries: dict[str, int]) -> None:
    table = _table("What went wrong on the way", "", "")
    table.show_header = False
    failed = {status: count for status, count in dealt.reads.items() if status != "200"}
    rows = {
        "notifications announced": dealt.announced,
        "  lost for good": dealt.dropped,
        "  doubled": dealt.doubled,
        "  overtaken by a newer one": dealt.overtaken,
        "  unsigned": dealt.unsigned,
        "deliveries answered 200": dealt.delivered,
        "deliveries recorded": sum(deliveries.values()),
        "reads of orders": sum(dealt.reads.values()),
        **{f"  answered {status}": count for status, count in failed.items()},
    }
    for title, count in rows.items():
        table.add_row(title, str(count))
    console.print(table)
    _explain(console, f"Besides, notifications were delayed by up to {FAULTS['notification']['delay_ms']} ms.")


def _print_next(console: Console, household: Household, report: Report, *, once: bool) -> None:
    if once:
        _say(console, f"The database and the logs stay in {household.folder}; without --once all of it keeps running.")
        return
    ports, command = household.ports, _command()
    order_id = next((key[0] for key in _examples(report.discrepancies)), "ORDER")
    lines = {
        "settings, first": f". {shlex.quote(str(household.environment_file))}",
        "discrepancies": f"{command} discrepancies --account {household.run}",
        "one order": f"{command} orders show {order_id}",
        "the API": f'curl -H "Authorization: Bearer $API_KEY" "{ports.internal_url}/api/v1/orders?limit=3"',
        "metrics": f"curl {ports.internal_url}/metrics",
        "provider's books": f'curl "{ports.simulator_url}/_sim/orders?limit=3"',
        "logs": str(household.files),
    }
    console.print("Look around, in another terminal, while this runs", style="bold")
    for title, text in lines.items():
        _say(console, f"  {title:<18}{text}")


def _command() -> str:
    """How to call `cuadre` from here: as short as it works."""
    beside = Path(sys.executable).parent / "cuadre"
    path = beside if beside.exists() else Path("cuadre")
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))
