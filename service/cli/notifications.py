"""`cuadre notifications`: what we were told, what was made of it, and why a signature matched or not."""

from typing import Annotated

import typer

from service.cli.commands import new_app
from service.cli.context import open_database, run, settings_for_command
from service.cli.failures import CommandError
from service.cli.output import (
    Column,
    Format,
    FormatOption,
    note,
    print_fields,
    print_json_text,
    print_line,
    print_table,
    print_title,
    printable,
    shown,
)
from service.cli.reading import DEFAULT_LIMIT, checked_time, list_json, read_list
from service.cli.signatures import count_signatures, explain_notification, list_unverified
from service.settings import Settings
from service.web.models import Notification

app = new_app(no_args_is_help=True, help="Show notifications as they were received.")

_MAX_BIGINT = 2**63 - 1


@app.command("list")
def list_notifications(
    account: Annotated[str | None, typer.Option(help="Those of this account.")] = None,
    topic: Annotated[str | None, typer.Option(help="Those of this topic, like order.")] = None,
    order: Annotated[str | None, typer.Option(metavar="ORDER", help="Those that marked this order due.")] = None,
    resource: Annotated[str | None, typer.Option(metavar="ID", help="Those about this id, whatever it is.")] = None,
    verified: Annotated[bool | None, typer.Option("--verified/--unverified", help="By signature.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="First received at that RFC 3339 time or later.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = DEFAULT_LIMIT,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """List notifications, latest first."""
    filters: dict[str, object] = {
        "account": account,
        "topic": topic,
        "order_id": order,
        "resource_id": resource,
        "verified": verified,
        "since": checked_time(since, "--since"),
    }
    return run(lambda: _list(settings_for_command(), filters, limit, format))


async def _list(settings: Settings, filters: dict[str, object], limit: int, form: Format) -> int:
    async with open_database(settings) as database:
        found, more = await read_list(database, "list_notifications", Notification, filters, limit)
    if form == "json":
        print_json_text(list_json(found, more))
        return 0
    # One account's name in every row says nothing.
    several = len({one.account for one in found}) > 1
    columns = [Column("N", "amount"), Column("RECEIVED"), Column("WHAT"), Column("ABOUT", "id"), Column("SIGNATURE")]
    print_table(
        [*columns, Column("TOLD", "amount"), *([Column("ACCOUNT")] if several else [])],
        [
            (
                one.id,
                one.received_at,
                one.action or one.topic,
                one.resource_id,
                _signature(one),
                one.copies,
                *([one.account] if several else []),
            )
            for one in found
        ],
        empty="no notifications",
    )
    if more:
        note(f"only the latest {limit}; --limit shows more")
    return 0


@app.command("show")
def show_notification(
    number: Annotated[int, typer.Argument(metavar="N", min=1, max=_MAX_BIGINT, help="The notification's number.")],
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Show one notification, its headers, body and signature."""
    return run(lambda: _show(settings_for_command(), number, format))


async def _show(settings: Settings, number: int, form: Format) -> int:
    async with open_database(settings) as database:
        found, _ = await read_list(database, "list_notifications", Notification, {"id": number}, 1)
    if not found:
        raise CommandError(f"no notification {number} is stored here; the latest: cuadre notifications list")
    one = found[0]
    if form == "json":
        print_json_text(one.to_json())
        return 0
    times = "once" if one.copies == 1 else f"{one.copies} times, last {shown(one.last_received_at)}"
    print_fields(
        [
            ("notification", one.id),
            ("account", one.account),
            ("received", f"{shown(one.received_at)}, {times}"),
            ("topic", one.topic),
            ("action", one.action),
            ("about", one.resource_id),
            ("marked due", one.order_id),
            ("signature", _signature(one)),
            ("secret", None if one.secret_index is None else f"number {one.secret_index + 1} of webhook_secrets"),
            ("signed", None if one.ts_age_seconds is None else f"{one.ts_age_seconds:.0f} s before it was received"),
            ("remarks", ", ".join(_remarks(one))),
            ("path", one.path),
        ]
    )
    for title, text in (("query", one.query), ("headers", one.headers), ("body", one.body)):
        print_title(title)
        print_line(printable(text or "null"))
    return 0


def _signature(one: Notification) -> str:
    return f"{one.verification} ({one.manifest})" if one.manifest else one.verification


def _remarks(one: Notification) -> list[str]:
    remarks = {
        "refused by the account's policy": one.refused,
        "a simulation of the panel": one.simulation,
        "the body names another id": one.body_id_differs,
        "the body was altered to be stored": one.body_altered,
    }
    return [text for text, holds in remarks.items() if holds]


app.command("explain")(explain_notification)
app.command("signatures")(count_signatures)
app.command("unverified")(list_unverified)
