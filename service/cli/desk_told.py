"""What a command of the desk came to, told to whoever typed it."""

import json
from typing import Any

from service.cli.failures import EXIT_ERROR
from service.cli.output import Format, amount, note, print_fields, print_json_text, shown
from service.desk.intents import CommandRow
from service.mercadopago.json_text import dumps
from service.orders.money import plain
from service.web.command_models import Command

_SETTLED_BADLY = {"refused", "withdrawn"}


def tell(command: CommandRow, form: Format) -> int:
    """Prints the command and returns the exit code: 0 done, 1 refused, withdrawn or not known yet."""
    if form == "json":
        order = f',"order":{dumps(command.answer)}' if _shows_the_order(command) else ""
        print_json_text(f'{{"command":{document(command).to_json()}{order}}}')
    else:
        print_fields([(name, value) for name, value in fields(command) if value not in (None, "")])
    if command.status == "done":
        return 0
    note(f"cuadre: {_what_to_do(command)}")
    return EXIT_ERROR


def document(command: CommandRow) -> Command:
    """The command as the API shows it."""
    values = {name: getattr(command, name) for name in Command.model_fields}
    values["reserved"] = json.dumps({one: plain(share) for one, share in command.reserved.items()})
    values["refund_ids"] = list(command.refund_ids)
    return Command(**values)


def fields(command: CommandRow) -> list[tuple[str, object]]:
    """What a person wants to know first; absent things are None."""
    return [
        ("command", command.command_id),
        ("status", command.status),
        ("order", command.order_id),
        ("reference", command.external_reference),
        ("point of sale", command.point_of_sale),
        ("payment", command.payment_id),
        ("amount", None if command.amount is None else amount(command.amount, command.currency)),
        ("refunds", ", ".join(command.refund_ids)),
        ("expires", command.expires_at if command.status == "done" else None),
        ("message", command.message),
        ("qr_data", _qr_data(command)),
    ]


def _shows_the_order(command: CommandRow) -> bool:
    answer = command.answer
    return command.kind == "create" and answer is not None and answer.get("id") == command.order_id is not None


def _qr_data(command: CommandRow) -> str | None:
    """What a till shows as a QR code: dynamic and hybrid orders bear it."""
    response: Any = (command.answer or {}).get("type_response")
    found = response.get("qr_data") if isinstance(response, dict) else None
    return found if isinstance(found, str) else None


def _what_to_do(command: CommandRow) -> str:
    """One line: what became of it, and what to do."""
    if command.status in _SETTLED_BADLY:
        code = f" ({shown(command.provider_code)})" if command.provider_code else ""
        return f"{command.status}{code}: {shown(command.message)}"
    repeat = f"look again with: cuadre commands show {command.command_id}"
    if command.status == "waiting" and command.maybe_sent_at is None:
        why = f" ({shown(command.last_error)})" if command.last_error else ""
        take_back = f"take it back with: cuadre commands withdraw {command.command_id}"
        return f"not sent yet{why}; a running service sends it; {take_back}"
    if command.status == "accepted":
        return f"Mercado Pago said yes and no look has shown it yet; {repeat}"
    return f"its outcome is not known yet and is being found out; never do it again under another key; {repeat}"
