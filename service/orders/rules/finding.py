"""What a violated rule says, and the words for it."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from service.orders.money import plain

Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule violated by one subject: an open row of `discrepancies`.

    `severity`: `critical` where money is lost, owed or unexplained; `warning` where the provider's own facts
    contradict each other; `info` is for what merely deserves a look. `amount_at_stake` is never negative, in
    `currency`, and None where no amount is known. `expected` and `actual` are short and say the same thing of what
    should be and what is; `explanation` is one sentence for a shop manager.
    """

    rule: str
    subject_id: str
    severity: Severity
    amount_at_stake: Decimal | None
    currency: str | None
    expected: str
    actual: str
    explanation: str


def spoken(amount: Decimal | None, currency: str | None) -> str:
    """An amount as a person reads it: `47.28 CLP`."""
    if amount is None:
        return "an unknown amount"
    return f"{plain(amount)} {currency}" if currency else plain(amount)
