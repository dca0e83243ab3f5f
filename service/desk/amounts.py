"""Amounts as Mercado Pago wants to be told them: as fine as their currency, never a binary float. Pure.

Texts with "two decimals or none" (fact sheet of the Orders API, §2, §5); the older APIs take JSON numbers. A currency
without cents has no decimals, not even `.00` in a text: Mercado Pago refuses them there, or rounds them up
(integrators' reports on CLP, COP, HNL and NIO; PYG has none either).
"""

import re
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Final

from service.desk.fields import Faults
from service.orders.money import MAX_DIGITS, parse_amount, plain

NO_CENTS = frozenset({"CLP", "COP", "HNL", "NIO", "PYG"})

WHOLE_DIGITS: Final = 15
"""Ours: no sale has more before the point, and everybody who reads the amount on its way can keep so many."""

_TEXT = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)
_EXACT = Context(prec=3 * MAX_DIGITS)
_CENT = Decimal("0.01")
_TOO_LARGE = f"must have at most {WHOLE_DIGITS} digits before the point"


def decimals_of(currency: str | None) -> int:
    """How many decimals an amount of `currency` (ISO 4217) may have; 2 where it is unknown."""
    return 0 if currency in NO_CENTS else 2


def times(price: Decimal, quantity: int) -> Decimal:
    """`price` x `quantity`, exactly."""
    return _EXACT.multiply(price, Decimal(quantity))


def amount_text(amount: Decimal, currency: str | None = None) -> str:
    """`amount` with two decimals, or with none where it was given without or `currency` has no cents: `12.50`, `990`.

    Raises `ValueError` for an amount that so many decimals cannot express.
    """
    whole = amount == amount.to_integral_value()
    if currency in NO_CENTS:
        if not whole:
            raise ValueError(f"{plain(amount)} has decimals, and {currency} has none")
        return plain(amount.to_integral_value())
    if whole and "." not in plain(amount):
        return plain(amount)
    exact = _EXACT.quantize(amount, _CENT)
    if exact != amount:
        raise ValueError(f"{plain(amount)} has more than two decimals")
    return plain(exact)


@dataclass(frozen=True, slots=True)
class Price:
    """An amount as text, above 0, in `currency`. `one_decimal`: `12.5` will do as well; `zero`: so will 0."""

    currency: str | None
    one_decimal: bool = False
    zero: bool = False

    def check(self, value: object, path: str, faults: Faults) -> None:
        """Names what is wrong with `value`, if anything."""
        wrong = self._wrong(value)
        if wrong is not None:
            faults.add(path, wrong)

    def read(self, value: object) -> Decimal | None:
        """The amount; None where `check` names a fault."""
        return Decimal(value) if isinstance(value, str) and self._wrong(value) is None else None

    def _wrong(self, value: object) -> str | None:
        example = '"1200"' if self.currency in NO_CENTS else '"120.00"'
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return f"must be a text like {example}, not a JSON number"
        match = _TEXT.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return f"must be an amount as text, digits and a point alone, like {example}"
        if len(match[1]) > WHOLE_DIGITS:
            return _TOO_LARGE
        decimals = len(match[2] or "")
        if decimals and self.currency in NO_CENTS:
            return f"must have no decimals: {self.currency} has no cents; write it like {example}"
        if decimals > decimals_of(self.currency) or (decimals == 1 and not self.one_decimal):
            return f"must have two decimals or none, like {example}"
        return None if self.zero or Decimal(match[0]) > 0 else "must be above 0"


@dataclass(frozen=True, slots=True)
class NumberPrice:
    """An amount as a JSON number (`int` or `Decimal`), above 0, in `currency`.

    A JSON number says no more than its value: 990.00 is 990, in any currency.
    """

    currency: str | None

    def check(self, value: object, path: str, faults: Faults) -> None:
        """Names what is wrong with `value`, if anything."""
        wrong = self._wrong(value)
        if wrong is not None:
            faults.add(path, wrong)

    def read(self, value: object) -> Decimal | None:
        """The amount; None where `check` names a fault."""
        return parse_amount(value) if self._wrong(value) is None else None

    def _wrong(self, value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            return "must be a JSON number like 120.50"
        try:
            amount = parse_amount(value)
        except ValueError:
            return _TOO_LARGE
        if amount >= 10**WHOLE_DIGITS:
            return _TOO_LARGE
        if not amount:
            return "must be above 0"
        decimals = len(plain(amount).partition(".")[2].rstrip("0"))
        if decimals <= decimals_of(self.currency):
            return None
        return (
            f"must be whole: {self.currency} has no cents"
            if self.currency in NO_CENTS
            else "must have at most two decimals"
        )
