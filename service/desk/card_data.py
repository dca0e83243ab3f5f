"""Taking card data out of what is kept. Pure."""

import re
from collections.abc import Iterator, Sequence

from service.mercadopago.json_text import NotJson, dumps, parse_json

MASK = "***"

# A card token pays once, and what a body should never bear could pay for years.
_SECRET_MEMBERS = frozenset(
    {"token", "card_token", "card_token_id", "card", "card_number", "security_code", "cvv", "cvc", "cryptogram"}
)

# What is shorter may stand in any text by chance, so only the whole word is hidden there.
_UNMISTAKABLE = 8


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


def card_data_of(body: str | None) -> tuple[str, ...]:
    """What `without_card_tokens` hides in the JSON text `body`, as texts, longest first; nothing where it is none."""
    try:
        document = parse_json((body or "null").encode(errors="replace")).value
    except NotJson:
        return ()
    return tuple(sorted({text for text in _secrets(document, hidden=False) if text}, key=len, reverse=True))


def without_quotes_of(secrets: Sequence[str], text: str) -> str:
    """`text`, which somebody else has written and may have cut short with `…`, with `***` for each of `secrets`."""
    for secret in secrets:
        if len(secret) < _UNMISTAKABLE:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
            continue
        text = text.replace(secret, MASK)
        cut = next((n for n in range(len(secret) - 1, _UNMISTAKABLE - 1, -1) if text.endswith(secret[:n] + "…")), 0)
        text = text[: len(text) - cut - 1] + MASK if cut else text
    return text


def document_without_quotes_of(secrets: Sequence[str], body: str) -> str:
    """The JSON text `body` with `***` for each of `secrets` that is too long to stand in its texts by chance."""
    long = [secret for secret in secrets if len(secret) >= _UNMISTAKABLE]
    if not long or not body:
        return body
    return dumps(_unquoted(long, parse_json(body.encode(errors="replace")).value))


def _unquoted(secrets: Sequence[str], value: object) -> object:
    if isinstance(value, dict):
        return {name: _unquoted(secrets, member) for name, member in value.items()}
    if isinstance(value, list):
        return [_unquoted(secrets, entry) for entry in value]
    return without_quotes_of(secrets, value) if isinstance(value, str) else value


def _secrets(value: object, *, hidden: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _secrets(member, hidden=hidden or _hides(name, member))
    elif isinstance(value, list):
        for entry in value:
            yield from _secrets(entry, hidden=hidden)
    elif hidden and value is not None and not isinstance(value, bool):
        yield str(value)


def _masked(value: object) -> object:
    if isinstance(value, dict):
        return {name: MASK if _hides(name, member) else _masked(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_masked(entry) for entry in value]
    return value


def _hides(name: object, member: object) -> bool:
    return isinstance(name, str) and name.lower() in _SECRET_MEMBERS and member not in (None, MASK)
