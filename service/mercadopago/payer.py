"""Pure: what the provider says about the person who pays, taken out of its answers.

Money, statuses and ids stay. What goes is every member called `payer` (name, e-mail, identification, bank account),
`cardholder` and `card_holder`, wherever they stand.
"""

from dataclasses import replace

from service.mercadopago.documents import ReadOrder
from service.mercadopago.json_text import JsonDocument, NotJson, canonical_hash, dumps, parse_json

PAYER_MEMBERS = frozenset({"payer", "cardholder", "card_holder"})


def without_payer(document: JsonDocument) -> JsonDocument:
    """The same document without its payer; the very same one where it names none."""
    if not _may_name(document.text):
        return document
    value = _pruned(document.value)
    return document if value is document.value else JsonDocument(value, dumps(value), document.altered)


def order_without_payer(read: ReadOrder) -> ReadOrder:
    """The same order, to be stored without its payer."""
    before = parse_json(read.text.encode()) if _may_name(read.text) else None
    after = None if before is None else without_payer(before)
    if after is None or after is before:
        return read
    return replace(read, text=after.text, payload_hash=canonical_hash(after.value))


def names_payer(text: str, payer: str) -> bool:
    """Whether a payer of this id, e-mail or identification stands in `text`, in whatever case.

    A text that is no JSON may hold anybody: it names whom it contains.
    """
    try:
        value = parse_json(text.encode(errors="replace")).value
    except NotJson:
        return payer.lower() in text.lower()
    return _names(value, payer.lower(), of_payer=False)


def _names(value: object, payer: str, *, of_payer: bool) -> bool:
    if isinstance(value, dict):
        return any(_names(item, payer, of_payer=of_payer or key in PAYER_MEMBERS) for key, item in value.items())
    if isinstance(value, list):
        return any(_names(item, payer, of_payer=of_payer) for item in value)
    return of_payer and not isinstance(value, bool) and value is not None and str(value).lower() == payer


def _may_name(text: str) -> bool:
    # A name may also be written with escapes.
    return "\\u" in text or any(f'"{name}"' in text for name in PAYER_MEMBERS)


def _pruned(value: object) -> object:
    """A copy without the members; the value itself where it has none, at any depth."""
    if isinstance(value, dict):
        kept = {key: _pruned(item) for key, item in value.items() if key not in PAYER_MEMBERS}
        same = len(kept) == len(value) and all(kept[key] is item for key, item in value.items())
        return value if same else kept
    if isinstance(value, list):
        items = [_pruned(item) for item in value]
        return value if all(one is item for one, item in zip(items, value, strict=True)) else items
    return value
