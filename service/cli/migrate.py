"""`cuadre migrate`: brings the database's schema up to date, or says how it stands."""

from typing import Annotated

import typer

from service.cli.context import database_url, open_database, run, settings_for_command
from service.cli.failures import EXIT_ERROR, CommandError, database_trouble
from service.cli.output import Format, FormatOption, note, print_fields, print_json, print_line
from service.database.migrations import migrate, schema_state
from service.database.pool import UNAVAILABLE
from service.settings import Settings


def command(
    status: Annotated[bool, typer.Option("--status", help="Change nothing; exit 1 unless it is current.")] = False,
    format: FormatOption = "table",  # noqa: A002 - the option's name is the contract's
) -> int:
    """Bring the database's schema up to date."""
    settings = settings_for_command()
    return run(lambda: _show(settings, format) if status else _apply(settings, format))


async def _show(settings: Settings, form: Format) -> int:
    async with open_database(settings, any_schema=True) as database:
        state = await schema_state(database)
    document = {"state": state.state, "pending": list(state.pending), "advice": state.advice}
    if form == "json":
        print_json(document)
    else:
        print_fields([("state", state.state), ("pending", ", ".join(state.pending)), ("advice", state.advice)])
    return 0 if state.state == "current" else EXIT_ERROR


async def _apply(settings: Settings, form: Format) -> int:
    say = note if form == "json" else print_line
    try:
        applied = await migrate(database_url(settings), on_progress=say)
    except UNAVAILABLE as error:
        raise CommandError(database_trouble(error)) from error
    if form == "json":
        print_json({"applied": applied})
    elif applied:
        print_line(f"applied {', '.join(applied)}; the schema is up to date")
    else:
        print_line("nothing to apply; the schema is up to date")
    return 0
