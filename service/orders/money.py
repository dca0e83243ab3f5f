"""Amounts and currencies: exact decimals with every digit that was given, never a float.

The provider sends amounts as decimal strings with none, one or two decimals (fact sheet of the Orders API, §5), now
and then as JSON numbers. Sums here are exact: the default decimal context would round them at 28 digits.
"""

import re
from collections.abc import Iterable
from decimal import Context, Decimal, InvalidOperation

MAX_DIGITS = 100
"""The most digits that an amount may have before the point, and the most it may have after it."""

ZERO = Decimal(0)

# Room for a sum of any number of amounts of MAX_DIGITS digits on either side of the point.
_EXACT = Context(prec=3 * MAX_DIGITS)

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LONGEST_TEXT = 1000  # well over twice MAX_DIGITS; longer text is refused before it is converted
_SHOWN = 40


def parse_amount(value: object) -> Decimal:
    """The amount that `value` (text, int or Decimal) states, with every digit that it gives; `1e-3` is a number.

    Raises `ValueError`, in one line that says what is wrong, for anything else: floats and booleans, text that is no
    plain ASCII number, a negative amount, NaN, infinities, more than `MAX_DIGITS` digits on a side of the point.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        kind = type(value).__name__
        raise ValueError(f"an amount must be a decimal string or a whole number, not {kind}")  # noqa: TRY004 - one kind of error
    amount = _to_decimal(value)
    if not amount.is_finite():
        raise ValueError(f"an amount must be finite, not {_shown(value)}")
    if amount < 0:
        raise ValueError(f"an amount must not be negative, not {_shown(value)}")
    _sign, digits, exponent = amount.as_tuple()
    # Holds for every finite amount; said for the type checker, to which "n", "N" and "F" are exponents too.
    places = exponent if isinstance(exponent, int) else 0
    if len(digits) + places > MAX_DIGITS or -places > MAX_DIGITS:
        raise _too_long()
    return amount.copy_abs()  # "-0.00" is zero


def _to_decimal(value: str | int | Decimal) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int):
        if value.bit_length() > 4 * MAX_DIGITS:
            raise _too_long()
        return Decimal(value)
    if len(value) > _LONGEST_TEXT:
        raise _too_long()
    if not value.strip():
        raise ValueError("an amount must not be empty")
    if _NUMBER.fullmatch(value) is None:
        raise ValueError(f"an amount must be a plain decimal number, not {_shown(value)}")
    try:
        return Decimal(value)
    except InvalidOperation:  # an exponent beyond what a Decimal can hold
        raise _too_long() from None


def _too_long() -> ValueError:
    return ValueError(f"an amount must not have more than {MAX_DIGITS} digits before or after the point")


def _shown(value: str | int | Decimal) -> str:
    text = value if isinstance(value, str) else str(value)
    return ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def plain(amount: Decimal) -> str:
    """`amount` as a decimal string without an exponent, with the digits that it has: `12.50`, `0.001`, `1000`."""
    return format(amount, "f")


def total_of(amounts: Iterable[Decimal | None]) -> Decimal:
    """The exact sum; a missing amount counts as 0."""
    total = ZERO
    for amount in amounts:
        if amount is not None:
            total = _EXACT.add(total, amount)
    return total


def less(amount: Decimal, taken: Decimal) -> Decimal:
    """`amount - taken`, exactly; negative where more was taken."""
    return _EXACT.subtract(amount, taken)


# Site id, alpha-2, alpha-3, currency (ISO 4217). The provider writes a country in any of the three ways
# (fact sheet of the Orders API, §3, `country_code`). Site id MCO (Colombia) is also alpha-3 of Monaco, where
# Mercado Pago does no business.
_COUNTRIES = (
    ("MLA", "AR", "ARG", "ARS"),
    ("MLB", "BR", "BRA", "BRL"),
    ("MLC", "CL", "CHL", "CLP"),
    ("MCO", "CO", "COL", "COP"),
    ("MLM", "MX", "MEX", "MXN"),
    ("MPE", "PE", "PER", "PEN"),
    ("MLU", "UY", "URY", "UYU"),
    ("MLV", "VE", "VEN", "VES"),
    ("MEC", "EC", "ECU", "USD"),
    ("MBO", "BO", "BOL", "BOB"),
    ("MPY", "PY", "PRY", "PYG"),
    ("MCR", "CR", "CRI", "CRC"),
    ("MPA", "PA", "PAN", "PAB"),
    ("MRD", "DO", "DOM", "DOP"),
    ("MGT", "GT", "GTM", "GTQ"),
    ("MHN", "HN", "HND", "HNL"),
    ("MNI", "NI", "NIC", "NIO"),
    ("MSV", "SV", "SLV", "USD"),
    ("MCU", "CU", "CUB", "CUP"),
)
_CURRENCY_OF = {code: currency for *codes, currency in _COUNTRIES for code in codes}


def currency_for_country(code: str | None) -> str | None:
    """ISO 4217 currency of a country given as alpha-2, alpha-3 or site id, in any case; None if unknown."""
    return None if code is None else _CURRENCY_OF.get(code.strip().upper())
