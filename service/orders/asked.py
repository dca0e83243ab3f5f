"""What was asked here of Mercado Pago for an order: the commands, as the rules and the reservation of refunds see them.

A command is written down before it is sent, so what was asked is known whatever became of it. Amounts are `Decimal`
in the command's `currency`; times are timezone-aware UTC.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from service.orders.lifecycle import REFUND_PROCESSED, REFUND_PROCESSING
from service.orders.snapshot import Refund

OPEN_STATUSES = frozenset({"waiting", "sending", "unknown", "accepted"})
SETTLED_STATUSES = frozenset({"done", "refused", "withdrawn"})

# The provider may have been told, and has not refused.
MAYBE_EFFECTIVE_STATUSES = frozenset({"sending", "unknown", "accepted", "done"})
_GIVES_BACK = frozenset({REFUND_PROCESSED, REFUND_PROCESSING})


@dataclass(frozen=True, slots=True)
class AskedCommand:
    """One command. `kind`: create, cancel, refund, legacy_put, legacy_delete; `status`: one of the two sets above.

    `maybe_sent_at` is the first attempt that may have reached the provider, None where provably none did.
    `amount` is the order's total that was asked for, or what is to be refunded. `reserved` is a refund's share of each
    payment, by payment id. `refund_ids` are the provider's ids of the refunds that it made, empty until they are known.
    """

    command_id: str
    kind: str
    status: str
    asked_at: datetime
    maybe_sent_at: datetime | None = None
    accepted_at: datetime | None = None
    settled_at: datetime | None = None
    payment_id: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    reserved: Mapping[str, Decimal] = field(default_factory=dict)
    refund_ids: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether something is still to come of it: it is waiting, sending, unknown or accepted."""
        return self.status in OPEN_STATUSES


def explained_refunds(
    refunds: Iterable[Refund], commands: Sequence[AskedCommand], first_seen: Mapping[str, datetime]
) -> dict[str, str]:
    """Whose refunds these are: command ids by refund id, of every refund that a command explains.

    A refund whose id a command knows is that command's. What is left has the benefit of the doubt: a refund command
    that may have been sent, and does not know its refunds' ids yet, explains one processed or processing refund of
    each payment that it reserved, of exactly the amount that it reserved there. No command explains more refunds than
    it has reserved payments, and no refund is explained twice. Of several that would do, the refund first seen last
    comes first (`first_seen`, by refund id), and of several commands the one asked first.
    """
    in_order = sorted(commands, key=lambda command: (command.asked_at, command.command_id))
    owner: dict[str, str] = {}
    for command in in_order:
        for refund_id in command.refund_ids:
            owner.setdefault(refund_id, command.command_id)
    shown = list(refunds)
    explained = {refund.refund_id: owner[refund.refund_id] for refund in shown if refund.refund_id in owner}
    places = _free_places(shown, in_order)
    room = {
        command.command_id: len(command.reserved) - len(command.refund_ids) for command in in_order if command.reserved
    }
    nameless = [refund for refund in shown if refund.refund_id not in explained and refund.status in _GIVES_BACK]
    for refund in _latest_first(nameless, first_seen):
        for place, (command_id, payment_id, amount) in enumerate(places):
            if room[command_id] > 0 and payment_id == refund.transaction_id and amount == refund.amount:
                explained[refund.refund_id] = command_id
                room[command_id] -= 1
                del places[place]
                break
    return explained


def _latest_first(refunds: Sequence[Refund], first_seen: Mapping[str, datetime]) -> list[Refund]:
    """Refunds never seen before come first; refunds of one moment keep the provider's order."""
    seen = [refund for refund in refunds if refund.refund_id in first_seen]
    seen.sort(key=lambda refund: first_seen[refund.refund_id], reverse=True)
    return [refund for refund in refunds if refund.refund_id not in first_seen] + seen


def _free_places(refunds: Sequence[Refund], commands: Iterable[AskedCommand]) -> list[tuple[str, str, Decimal]]:
    """(command id, payment id, amount) of each refund that a command may have made without knowing its id."""
    known = {(refund.refund_id, refund.transaction_id) for refund in refunds}
    return [
        (command.command_id, payment_id, amount)
        for command in commands
        if command.kind == "refund" and command.status in MAYBE_EFFECTIVE_STATUSES
        for payment_id, amount in sorted(command.reserved.items())
        if not any((refund_id, payment_id) in known for refund_id in command.refund_ids)
    ]
