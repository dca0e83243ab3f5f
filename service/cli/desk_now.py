"""One command of the desk, now: written down, carried out by a running service or else here, and its order looked at.

What runs here is the desk's own code under the same lease, so a service that starts meanwhile does nothing twice. A
command that is interrupted is neither lost nor sent under another key: a repeat with the same key finds it.
"""

import asyncio
import getpass
import os
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from service.accounts import AccountBook
from service.cli.context import open_database
from service.cli.failures import CommandError, ConfigurationError
from service.cli.look_now import LookNow
from service.database.pool import Database
from service.desk.desk import Desk
from service.desk.errors import DeskError, InvalidRequest
from service.desk.intents import CommandRow
from service.desk.runner import Runner
from service.mercadopago.account import DEFAULT_ACCOUNT, Account
from service.mercadopago.client import MercadoPagoClient
from service.settings import Settings
from service.sync.gates import Gates
from service.web.bodies import UnusableBody, parse_object
from service.web.errors import MAX_BODY_BYTES

SERVICE_SECONDS: Final = 1.0
"""A running service has taken a command up within that time; else it is carried out here."""
LOOK_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0
"""What is under way when the time is over may still finish."""
_PAUSE_SECONDS: Final = 0.25
# What a look at the order can tell something about.
_OF_AN_ORDER = {"create", "cancel", "refund"}

AccountOption = Annotated[str | None, typer.Option(help="Whose it is; else `default`, or the only account.")]
KeyOption = Annotated[
    str | None, typer.Option(metavar="KEY", help="The intent's own key: a repeat with it does nothing twice.")
]
WaitOption = Annotated[float, typer.Option(min=0, max=600, metavar="SECONDS", help="How long to wait for the outcome.")]
Ask = Callable[[Desk], Awaitable[CommandRow]]


def command_line_user() -> str:
    """Who asks: what the commands say of themselves."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        name = str(os.getuid())
    return f"command line ({name})"


def key_to_use(key: str | None) -> str:
    """The caller's key; else a fresh one, which is told before anything is sent."""
    if key is not None:
        return key
    fresh = str(uuid.uuid4())
    print(f"key {fresh}: to repeat this command without doing it twice, add --key {fresh}", file=sys.stderr, flush=True)
    return fresh


def account_to_use(accounts: AccountBook, name: str | None) -> Account:
    """The account of that name; without one `default`, or the only one. Raises `typer.BadParameter`."""
    usual = accounts.by_name(DEFAULT_ACCOUNT) or (accounts.accounts[0] if len(accounts) == 1 else None)
    account = usual if name is None else accounts.by_name(name)
    if account is None:
        known = ", ".join(one.name for one in accounts)
        what = "none is called default" if name is None else "no account of that name is configured"
        raise typer.BadParameter(f"{what}; there are {known}", param_hint="--account")
    return account


def read_order_file(name: str) -> dict[str, Any]:
    """The JSON object in a file, `-` for standard input; its numbers exact. Raises `ConfigurationError`."""
    try:
        raw = sys.stdin.buffer.read(MAX_BODY_BYTES + 1) if name == "-" else _read(Path(name))
        if len(raw) > MAX_BODY_BYTES:
            raise ConfigurationError([f"{name}: larger than {MAX_BODY_BYTES} bytes"])
        return parse_object(raw)
    except OSError as error:
        raise ConfigurationError([f"{name}: {error.strerror or 'cannot be read'}"]) from None
    except UnusableBody as error:
        raise ConfigurationError([f"{name}: {error}"]) from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BODY_BYTES + 1)


def said(error: DeskError) -> CommandError:
    """What the desk refuses to write down: every fault of a request, else one line."""
    if isinstance(error, InvalidRequest):
        return ConfigurationError([f"{fault.path}: {fault.message}" for fault in error.faults])
    return CommandError(error.message)


async def carry_out(settings: Settings, accounts: AccountBook, ask: Ask, *, wait_seconds: float) -> CommandRow:
    """Has the intent written down and sees to it; the command as it stands when it is settled or the time is over.

    Raises `CommandError` where the desk refuses it, and what the database raises.
    """
    async with open_database(settings) as database:
        desk = Desk(database, accounts.by_name, wake=lambda: None)
        try:
            command = await ask(desk)
        except DeskError as error:
            raise said(error) from None
        deadline = time.monotonic() + wait_seconds
        was_settled = command.is_settled
        if not was_settled:
            command = await desk.wait(command.command_id, seconds=min(SERVICE_SECONDS, wait_seconds))
        if not command.is_settled:
            command = await _see_to_it(settings, accounts, database, desk, command, deadline)
        if command.is_settled and not was_settled:
            await _look(settings, accounts, database, command)
        return command


async def _see_to_it(
    settings: Settings, accounts: AccountBook, database: Database, desk: Desk, command: CommandRow, deadline: float
) -> CommandRow:
    """A runner of this process's own, until the command is settled or the time is over.

    It is the service's runner, so it also carries out what others left due; a lease that somebody holds it leaves.
    """
    gates = Gates(time.monotonic)
    gates.follow(accounts)
    async with MercadoPagoClient(settings.mercadopago_url) as client:
        runner = Runner(
            database,
            client,
            account=gates.account,
            gate=gates.gate,
            poll_seconds=_PAUSE_SECONDS,
            lease_seconds=settings.lease_seconds,
        )
        running = asyncio.create_task(runner.run())
        try:
            while not command.is_settled and time.monotonic() < deadline and not running.done():
                if command.status == "accepted":
                    await _look(settings, accounts, database, command)
                left = deadline - time.monotonic()
                command = await desk.wait(command.command_id, seconds=max(0.0, min(_PAUSE_SECONDS, left)))
        finally:
            await runner.stop(within_seconds=STOP_SECONDS)
            await running
    return await desk.wait(command.command_id, seconds=0)


async def _look(settings: Settings, accounts: AccountBook, database: Database, command: CommandRow) -> None:
    """What is stored of the order is what it is now, when the command returns."""
    if command.order_id is None or command.kind not in _OF_AN_ORDER:
        return
    async with LookNow(settings, accounts, database) as looks:
        await looks.look(command.order_id, command.account, timeout_seconds=LOOK_SECONDS)
