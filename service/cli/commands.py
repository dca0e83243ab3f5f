"""The list of commands, and the group that imports the one that is called."""

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from service import __version__

if TYPE_CHECKING:
    from typer.core import TyperCommand

# Name: module of `service.cli` with a `command` function or an `app` of sub-commands. The order is that of the help.
COMMANDS = {
    "demo": "launchers:demo",
    "serve": "launchers:serve",
    "migrate": "migrate:command",
    "doctor": "doctor:command",
    "sync": "sync:command",
    "backfill": "backfill:command",
    "completeness": "completeness:app",
    "verify": "verify:command",
    "reconcile": "reconcile:command",
    "replay": "replay:command",
    "orders": "orders:app",
    "commands": "commands_desk:app",
    "legacy-qr": "legacy_qr:app",
    "notifications": "notifications:app",
    "discrepancies": "discrepancies:command",
    "quarantine": "quarantine:app",
    "erase-payer": "erase_payer:command",
    "simulator": "launchers:simulator",
    "accounts": "accounts:app",
    "config": "config:command",
}


class LazyCommands(TyperGroup):
    """Knows every command by name and imports its module when the command, or the list of all, is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> "TyperCommand | TyperGroup | None":
        if cmd_name not in COMMANDS:
            # A typing mistake: the group suggests from the commands that are loaded.
            for name in COMMANDS:
                self.get_command(ctx, name)
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        loaded: TyperCommand | TyperGroup = self.commands[cmd_name]  # type: ignore[assignment]  # as above
        return loaded


def _load(name: str) -> Any:
    module_name, _, attribute = COMMANDS[name].partition(":")
    found = getattr(import_module(f"service.cli.{module_name}"), attribute)
    if not isinstance(found, typer.Typer):
        alone = new_app()
        alone.command(name)(found)
        found = alone
    return typer.main.get_command(found)


def new_app(**arguments: Any) -> typer.Typer:
    """An app of our manner: plain help texts, no options but ours."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **arguments)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"cuadre {__version__}")
        raise typer.Exit


_app = new_app(cls=LazyCommands, no_args_is_help=True)


@_app.callback()
def _cuadre(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Keep a Postgres equal to Mercado Pago's orders, and say out loud when the money does not add up."""
    del version


cuadre = typer.main.get_command(_app)
