"""`cuadre orders`: what is stored, now or as it was stored at a time; the desk's part is in `orders_desk`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from service.cli.commands import new_app
from service.cli.context import open_database, run, settings_for_command
from service.cli.failures import EXIT_ERROR, CommandError
from service.cli.orders_desk import cancel_order, create_order, refund_order
from service.cli.output import (
    Column,
    Format,
    FormatOption,
    amount,
    note,
    print_fields,
    print_json_text,
    print_line,
    print_table,
    print_title,
    shown,
)
from service.cli.reading import DEFAULT_LIMIT, checked_order_id, checked_time, list_json, read_list
from service.cli.story import print_timeline, read_timeline
from service.settings import Settings
from service.web.errors import ApiError
from service.web.models import Order, OrderDetail, SyncState
from service.web.orders import order_at, order_now

app = new_app(no_args_is_help=True, help="Show, create, cancel and refund orders.")

_PAYMENT_COLUMNS = [
    Column("PAYMENT", "id"), Column("STATUS"), Column("AMOUNT", "amount"), Column("PAID", "amount"),
    Column("REFUNDED", "amount"),
]  # fmt: skip


@app.command("list")
def list_orders(
    account: Annotated[str | None, typer.Option(help="Orders of this account.")] = None,
    status: Annotated[str | None, typer.Option(help="Orders in this status, like processed.")] = None,
    type: Annotated[str | None, typer.Option(help="qr, point or online.")] = None,  # noqa: A002 - the column's name
    external_reference: Annotated[str | None, typer.Option(help="Orders that bear this reference.")] = None,
    updated_since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Changed at that RFC 3339 time or later.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = DEFAULT_LIMIT,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """List orders, newest change first."""
    filters: dict[str, object] = {
        "account": account,
        "status": status,
        "type": type,
        "external_reference": external_reference,
        "in_any_account": True if external_reference and not account else None,
        "updated_since": checked_time(updated_since, "--updated-since"),
    }
    return run(lambda: _list(settings_for_command(), filters, limit, format))


async def _list(settings: Settings, filters: dict[str, object], limit: int, form: Format) -> int:
    async with open_database(settings) as database:
        orders, more = await read_list(database, "list_orders", Order, filters, limit)
    if form == "json":
        print_json_text(list_json(orders, more))
        return 0
    # One account's name in every row says nothing.
    several = len({one.account for one in orders}) > 1
    columns = [Column("ORDER", "id"), Column("STATUS"), Column("PAID", "amount"), Column("REFUNDED", "amount")]
    print_table(
        [*columns, Column("UPDATED"), *([Column("ACCOUNT")] if several else [])],
        [
            (
                one.order_id,
                one.status,
                amount(one.paid_amount, one.currency),
                amount(one.refunded_amount, one.currency),
                one.updated_at,
                *([one.account] if several else []),
            )
            for one in orders
        ],
        empty="no orders",
    )
    if more:
        note(f"only the first {limit}; --limit shows more")
    return 0


@app.command("show")
def show_order(
    order: Annotated[str, typer.Argument(metavar="ORDER", help="The order's id.")],
    as_of: Annotated[
        str | None, typer.Option(metavar="TIME", help="As it was stored here at that RFC 3339 time.")
    ] = None,
    timeline: Annotated[bool, typer.Option("--timeline", help="Also what happened to it, each with why.")] = False,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Show one order, its parts and what does not add up."""
    order_id, moment = checked_order_id(order), checked_time(as_of, "--as-of")
    return run(lambda: _show(settings_for_command(), order_id, moment, timeline, format))


async def _show(settings: Settings, order_id: str, as_of: datetime | None, timeline: bool, form: Format) -> int:
    async with (
        open_database(settings) as database,
        database.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        try:
            detail = await (order_now(connection, order_id) if as_of is None else order_at(connection, order_id, as_of))
        except ApiError as error:
            if not timeline or error.status != 404:
                raise CommandError(f"{error.message}; try: cuadre sync {order_id}") from error
            detail = None
        story = await read_timeline(connection, order_id, as_of) if timeline else None
    if detail is None:
        if story is None or not story.data:
            raise CommandError(f"nothing was ever heard or seen of order {order_id}; try: cuadre sync {order_id}")
        note(f"cuadre: order {order_id} is not stored" + (" then" if as_of else "") + ", here is what is known of it")
    if form == "json":
        parts = [] if detail is None else [detail.to_json()[1:-1]]
        parts += [] if story is None else [f'"timeline":{story.to_json()}']
        print_json_text("{" + ",".join(parts) + "}")
    else:
        if detail is not None:
            _print_order(detail)
        if story is not None:
            print_timeline(story)
    return EXIT_ERROR if detail is None else 0


app.command("create")(create_order)
app.command("cancel")(cancel_order)
app.command("refund")(refund_order)


def _print_order(order: OrderDetail) -> None:
    print_fields(
        [
            ("order", order.order_id),
            ("account", order.account),
            ("type", order.type),
            ("reference", order.external_reference),
            ("status", _status(order)),
            ("total", amount(order.total_amount, order.currency)),
            ("paid", amount(order.paid_amount, order.currency)),
            ("refunded", amount(order.refunded_amount, order.currency)),
            ("created", order.created_at),
            ("updated", order.updated_at),
            ("expires", order.expires_at),
            ("version", f"{order.version}, stored {shown(order.changed_at)}, confirmed {shown(order.fetched_at)}"),
        ]
    )
    if order.payments:
        print_title("payments")
        print_table(_PAYMENT_COLUMNS, [_payment_row(one) for one in order.payments])
    payments = {one.payment_id for one in order.payments}
    _print_parts("refunds", "REFUND", "refund_id", order.refunds, payments)
    _print_parts("chargebacks", "CHARGEBACK", "chargeback_id", order.chargebacks, payments)
    _print_parts("cash-outs", "CASH-OUT", "cash_out_id", order.cash_outs, payments)
    print_title("does not add up" if order.discrepancies else "everything adds up")
    for one in order.discrepancies:
        print_line(f"{shown(one.severity)}  {shown(one.rule)}  {amount(one.amount_at_stake, one.currency)}")
        print_line(f"  {shown(one.explanation)}")
    if order.sync is not None:
        print_title("next look")
        print_fields(sync_fields(order.sync))


def sync_fields(sync: SyncState) -> list[tuple[str, object]]:
    """How an order stands with the worker, as names and values."""
    return [
        ("due", sync.due_at),
        ("caught up", sync.fetched >= sync.requested),
        ("attempts", sync.attempts),
        ("last error", sync.last_error),
        ("quarantined", sync.quarantined_at),
        ("reason", sync.quarantine_reason),
    ]


def _status(order: Order) -> str:
    if order.status_detail in {None, "", order.status}:
        return shown(order.status)
    return f"{shown(order.status)} ({shown(order.status_detail)})"


def _payment_row(one: Any) -> tuple[object, ...]:
    return (
        one.payment_id,
        _with_vanished(one),
        amount(one.amount, one.currency),
        amount(one.paid_amount, one.currency),
        amount(one.refunded_amount, one.currency),
    )


def _print_parts(title: str, heading: str, id_field: str, parts: Sequence[Any], payments: set[str]) -> None:
    """Refunds and the like; which payment they are of is shown where there is a question."""
    if not parts:
        return
    print_title(title)
    named = [getattr(one, "payment_id", None) for one in parts]
    question = len(payments) != 1 or any(payment is not None and payment not in payments for payment in named)
    columns = [Column(heading, "id"), Column("STATUS"), Column("AMOUNT", "amount"), Column("FIRST SEEN")]
    rows = [
        (
            getattr(one, id_field),
            _with_vanished(one),
            amount(one.amount, one.currency),
            one.first_seen_at,
            *([payment] if question else []),
        )
        for one, payment in zip(parts, named, strict=True)
    ]
    print_table([*columns, *([Column("OF PAYMENT", "id")] if question else [])], rows)


def _with_vanished(one: Any) -> str:
    return f"{shown(one.status)} (vanished)" if one.vanished_at else shown(one.status)
