"""Amounts and countries the way the provider writes them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

Json = dict[str, Any]
"""A JSON object. The bodies are kept as the provider would send them, so that any oddity can be planted."""

_AMOUNT = re.compile(r"^\d{1,12}(\.\d{1,2})?$")
ZERO = Decimal(0)
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Site:
    """A country of Mercado Pago; `decimals` is false where the currency has no cents."""

    site_id: str
    alpha3: str
    alpha2: str
    currency: str
    decimals: bool = True


SITES = {
    site.site_id: site
    for site in (
        Site("MLA", "ARG", "AR", "ARS"),
        Site("MLB", "BRA", "BR", "BRL"),
        Site("MLC", "CHL", "CL", "CLP", decimals=False),
        Site("MLM", "MEX", "MX", "MXN"),
        Site("MLU", "URY", "UY", "UYU"),
        Site("MCO", "COL", "CO", "COP", decimals=False),
        Site("MPE", "PER", "PE", "PEN"),
    )
}
SITES_BY_ALPHA3 = {site.alpha3: site for site in SITES.values()}


def amount_text(value: object) -> str:
    """A given amount (text, or a JSON number) as text with 0 to 2 decimals. Raises `ValueError`."""
    text = str(value)
    if isinstance(value, bool) or not _AMOUNT.match(text):
        raise ValueError(f'{value!r} is no amount; write it like "1500.00"')
    return text


def decimal_of(value: object) -> Decimal:
    """An amount in a body as a number; what is absent or planted nonsense counts as nothing."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return ZERO
    return number if number.is_finite() else ZERO


def total(values: Iterable[object]) -> Decimal:
    """The sum of amounts in a body."""
    return sum(map(decimal_of, values), ZERO)


def written_like(value: Decimal, model: object) -> str:
    """`value` with two decimals, or with none where `model` has none and nothing would be lost."""
    if "." not in str(model) and value == value.to_integral_value():
        return str(value.to_integral_value())
    return str(value.quantize(CENT))
