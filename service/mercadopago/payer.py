"""Pure: what the provider says about the person who pays, taken out of its answers.

Money, statuses and ids stay. What goes is every member called `payer` (name, e-mail, identification, bank account),
`cardholder` and `card_holder`, wherever they stand.
"""

from service.mercadopago.json_text import JsonDocument, dumps

PAYER_MEMBERS = frozenset({"payer", "cardholder", "card_holder"})


def without_payer(document: JsonDocument) -> JsonDocument:
    """The same document without its payer; the very same one where it names none."""
    text = document.text
    # A name may also be written with escapes.
    if "\\u" not in text and not any(f'"{name}"' in text for name in PAYER_MEMBERS):
        return document
    value = _pruned(document.value)
    return document if value is document.value else JsonDocument(value, dumps(value), document.altered)


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
