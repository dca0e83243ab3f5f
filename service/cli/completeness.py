"""`cuadre completeness`: up to when every listed order is known to be stored, what blocks that, and the way around."""

from typing import Annotated

import typer

from service.audit.completeness import (
    Certificate,
    excuse,
    read_certificates,
    read_excused,
    take_excuse_back,
)
from service.cli.commands import new_app
from service.cli.context import open_database, run, settings_for_command
from service.cli.failures import EXIT_ERROR, EXIT_FOUND
from service.cli.output import (
    Column,
    Format,
    FormatOption,
    note,
    print_fields,
    print_json,
    print_line,
    print_table,
    print_title,
    printable,
    time_text,
)
from service.settings import Settings

LONGEST_NOTE = 500

app = new_app(invoke_without_command=True)

OrdersArgument = Annotated[list[str], typer.Argument(metavar="ORDER...", help="Orders, as the certificate names them.")]


@app.callback()
def completeness(
    context: typer.Context,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Say up to when every listed order is stored."""
    return 0 if context.invoked_subcommand else run(lambda: _show(settings_for_command(), format))


async def _show(settings: Settings, form: Format) -> int:
    async with open_database(settings) as database:
        certificates = await read_certificates(database)
        excused = await read_excused(database)
    if form == "json":
        print_json(
            {
                "data": [_document(one) for one in certificates],
                "excused": [
                    {"order_id": one.order_id, "account": one.account, "note": one.note, "excused_at": one.excused_at}
                    for one in excused
                ],
            }
        )
    elif not certificates:
        print_line("no certificate yet: a running service begins one for each account (see CUADRE_SWEEP)")
    else:
        for one in certificates:
            _print(one)
        if excused:
            print_title("excused: certificates go without these")
            print_table(
                [Column("ORDER", "id"), Column("ACCOUNT"), Column("SINCE")],
                [(one.order_id, one.account, one.excused_at, one.note) for one in excused],
                detail="WHY",
            )
    return EXIT_FOUND if any(one.is_blocked for one in certificates) else 0


def _print(one: Certificate) -> None:
    since, until = time_text(one.complete_since), time_text(one.complete_until)
    print_fields(
        [
            ("account", one.account),
            ("complete", f"orders created from {since} to before {until}"),
            ("checked", one.checked_at),
            ("says nothing of", ", ".join(one.blind_types) or None),
            ("speaks of", ", ".join(f"{kind} from {time_text(at)}" for kind, at in one.types_since.items()) or None),
            ("blocked by", ", ".join(one.blocked_by) or None),
            ("last error", one.last_error),
            ("goes without", f"{one.excused_orders} excused orders" if one.excused_orders else None),
        ]
    )
    if one.blocked_by:
        first = one.blocked_by[0]
        note(f"look with: cuadre orders show {first} --timeline, cuadre quarantine explain {first}")
        note(f'the certificate goes without it after: cuadre completeness excuse {first} --note "WHY"')


def _document(one: Certificate) -> dict[str, object]:
    return {name: getattr(one, name) for name in Certificate.__slots__} | {"is_blocked": one.is_blocked}


@app.command("excuse")
def excuse_orders(
    orders: OrdersArgument,
    why: Annotated[str, typer.Option("--note", help="Why; kept for whoever relies on the certificate later.")],
) -> int:
    """Let the certificate go without orders that block it for good; the next pass over the hour moves it."""
    if not why.strip() or len(why) > LONGEST_NOTE:
        raise typer.BadParameter(f"must be a text of 1 to {LONGEST_NOTE} characters", param_hint="--note")
    return run(lambda: _excuse(settings_for_command(), orders, why.strip()))


async def _excuse(settings: Settings, orders: list[str], why: str) -> int:
    async with open_database(settings) as database:
        done = await excuse(database, orders, why)
    for order_id in sorted(done):
        print_line(f"{printable(order_id)}  excused; it is still looked at, and still stored if it can be")
    unknown = sorted(set(orders) - done)
    for order_id in unknown:
        note(f"cuadre: order {order_id} is neither stored nor looked for here; nothing was changed")
    return EXIT_ERROR if unknown else 0


@app.command("recall")
def recall_excuses(orders: OrdersArgument) -> int:
    """Take an excuse back; hours that are certified already stay so."""
    return run(lambda: _recall(settings_for_command(), orders))


async def _recall(settings: Settings, orders: list[str]) -> int:
    async with open_database(settings) as database:
        done = await take_excuse_back(database, orders)
    for order_id in sorted(done):
        print_line(f"{printable(order_id)}  is asked for again")
    left = sorted(set(orders) - done)
    for order_id in left:
        note(f"cuadre: order {order_id} was not excused; nothing was changed")
    return EXIT_ERROR if left else 0
