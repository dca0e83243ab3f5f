"""`cuadre discrepancies`: what does not add up."""

from typing import Annotated, Literal

import typer

from service.cli.context import open_database, run, settings_for_command
from service.cli.failures import EXIT_FOUND
from service.cli.output import Column, Format, FormatOption, amount, note, print_json_text, print_table
from service.cli.reading import DEFAULT_LIMIT, list_json, read_list
from service.orders.rules import RULES
from service.settings import Settings
from service.web.models import Discrepancy

State = Literal["open", "resolved", "all"]


def command(
    state: Annotated[State, typer.Option(help="Which ones.")] = "open",
    rule: Annotated[str | None, typer.Option(help="Those of this rule, like refund_without_payment.")] = None,
    account: Annotated[str | None, typer.Option(help="Those of this account.")] = None,
    order: Annotated[str | None, typer.Option(metavar="ORDER", help="Those of this order.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = DEFAULT_LIMIT,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """List what does not add up; exit 3 if open ones are listed."""
    if rule is not None and rule not in RULES:
        raise typer.BadParameter(f"no such rule; there are {', '.join(RULES)}", param_hint="--rule")
    filters: dict[str, object] = {
        "rule": rule,
        "account": account,
        "order_id": order,
        "only_open": state == "open" or None,
        "only_resolved": state == "resolved" or None,
    }
    return run(lambda: _list(settings_for_command(), filters, limit, format))


async def _list(settings: Settings, filters: dict[str, object], limit: int, form: Format) -> int:
    async with open_database(settings) as database:
        found, more = await read_list(database, "list_discrepancies", Discrepancy, filters, limit)
    if form == "json":
        print_json_text(list_json(found, more))
    else:
        print_table(
            [Column("ORDER", "id"), Column("RULE"), Column("AT STAKE", "amount"), Column("STATE")],
            [
                (one.order_id, one.rule, amount(one.amount_at_stake, one.currency), _state(one), one.explanation)
                for one in found
            ],
            empty="nothing to list",
            detail="WHAT",
        )
        if more:
            note(f"only the latest {limit}; --limit shows more")
    return EXIT_FOUND if any(one.resolved_at is None for one in found) else 0


def _state(one: Discrepancy) -> str:
    if one.resolved_at is not None:
        return "resolved"
    return "acknowledged" if one.acknowledged_at is not None else one.severity
