"""Taking card data out of what is kept. Pure."""

from service.mercadopago.json_text import NotJson, dumps, parse_json

MASK = "***"

# A card token pays once, and what a body should never bear could pay for years.
_SECRET_MEMBERS = frozenset(
    {"token", "card_token", "card_token_id", "card", "card_number", "security_code", "cvv", "cvc", "cryptogram"}
)


def has_card_data(value: object) -> bool:
    """Whether a document has a member that `without_card_tokens` hides."""
    if isinstance(value, dict):
        return any(_hides(name, member) or has_card_data(member) for name, member in value.items())
    return isinstance(value, list) and any(map(has_card_data, value))


def without_card_tokens(body: str) -> str:
    """The JSON text `body` with `***` for `payment_method.token` and every other card datum, at any depth.

    A text that is no JSON becomes `"***"` altogether.
    """
    try:
        document = parse_json(body.encode(errors="replace")).value
    except NotJson:
        return dumps(MASK)
    return dumps(_masked(document))


def _masked(value: object) -> object:
    if isinstance(value, dict):
        return {name: MASK if _hides(name, member) else _masked(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_masked(entry) for entry in value]
    return value


def _hides(name: object, member: object) -> bool:
    return isinstance(name, str) and name.lower() in _SECRET_MEMBERS and member not in (None, MASK)
