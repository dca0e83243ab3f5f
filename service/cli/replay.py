"""`cuadre replay`: looks again at the orders that recorded notifications speak of. Says first what it would do."""

from typing import Annotated

import typer

from service.accounts import AccountBook
from service.audit.replay import Asked, Plan, State, plan, replay
from service.cli.context import configuration, open_database, run
from service.cli.output import Format, FormatOption, note, print_json, print_line, shown
from service.cli.progress import progress
from service.cli.reading import checked_moment
from service.settings import Settings

_MAX_BIGINT = 2**63 - 1


def command(
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Received then or later; a date or an RFC 3339 time.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Received before; a date or an RFC 3339 time.")
    ] = None,
    notification: Annotated[
        list[int] | None,
        typer.Option(metavar="N", min=1, max=_MAX_BIGINT, help="The notification of this number; may be repeated."),
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Of this topic, like order.")] = None,
    account: Annotated[str | None, typer.Option(help="Of this account.")] = None,
    state: Annotated[
        State | None,
        typer.Option(help="By signature, or by what became of the order; unserved: a look is still owed."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it: mark the orders due.")] = False,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Look again at orders because of recorded notifications. A dry run without --apply."""
    # Marking everything due by leaving out an option would be a long way to learn of it.
    if apply and all(one is None for one in (since, until, notification, topic, account, state)):
        raise typer.BadParameter(
            "needs a range: --from, --to, --notification, --topic, --account or --state", param_hint="--apply"
        )
    asked = Asked(
        since=checked_moment(since, "--from"),
        until=checked_moment(until, "--to"),
        numbers=tuple(notification) if notification else None,
        topic=topic,
        account=account,
        state=state or "recorded",
    )
    if asked.since is not None and asked.until is not None and asked.since >= asked.until:
        raise typer.BadParameter("must be earlier than --to", param_hint="--from")
    settings, accounts = configuration()
    return run(lambda: _replay(settings, accounts, asked, apply, format))


async def _replay(settings: Settings, accounts: AccountBook, asked: Asked, apply: bool, form: Format) -> int:
    def route(named: str | None, user_id: str | None, application_id: str | None) -> str | None:
        account = accounts.by_name(named) if named is not None else accounts.route(user_id, application_id)
        return None if account is None else account.name

    marked = 0
    async with open_database(settings) as database:
        planned = await plan(database, asked, route)
        if apply:
            rates = {one.name: one.rate_per_second for one in accounts}
            with progress(planned.orders, "orders marked due") as steps:
                marked = await replay(database, asked, planned, rates, on_marked=steps.advance)
    if form == "json":
        print_json(_document(planned, marked, apply))
    else:
        _print(planned, marked, apply)
    return 0


def _print(planned: Plan, marked: int, apply: bool) -> None:
    print_line(f"{planned.notifications} notifications, {planned.to_replay} of them speak of {planned.orders} orders")
    for topic, number in sorted(planned.without_order.items()):
        print_line(f"left: {number} of topic {shown(topic)}, which name no order")
    for (before, now), number in sorted(planned.rerouted.items(), key=str):
        where = "no account" if now is None else f"account {now}"
        print_line(f"left: {number} recorded for account {shown(before)}, which would go to {where} now")
    if not apply:
        note(f"dry run: {planned.orders} orders would be marked due; do it with --apply")
        return
    print_line(f"{marked} orders marked due")
    if planned.orders > marked:
        print_line(f"{planned.orders - marked} were marked by an earlier replay and wait for their look")


def _document(planned: Plan, marked: int, apply: bool) -> dict[str, object]:
    return {
        "dry_run": not apply,
        "notifications": planned.notifications,
        "to_replay": planned.to_replay,
        "orders": planned.orders,
        "marked": marked,
        "without_order": dict(planned.without_order),
        "rerouted": [
            {"account": before, "account_now": now, "notifications": number}
            for (before, now), number in sorted(planned.rerouted.items(), key=str)
        ],
    }
