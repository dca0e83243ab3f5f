"""Who pays is taken out of an answer; what was paid is not."""

import json

from hypothesis import given
from hypothesis import strategies as st

from service.mercadopago.json_text import parse_json
from service.mercadopago.payer import PAYER_MEMBERS, order_without_payer, without_payer
from service.mercadopago.reader import read_order

_names = st.sampled_from(["payer", "cardholder", "card_holder", "id", "amount", "transactions", "Payer"])
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["payer", "ana@example.com", '"payer"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=12,
)


def test_every_payer_goes_and_the_money_stays() -> None:
    answer = b"""{"id": "ORD1", "total_amount": "10.00", "payer": {"email": "ana@example.com"},
        "transactions": {"payments": [{"id": "PAY1", "amount": 12.50, "card": {"cardholder": {"name": "ANA"}}}]},
        "additional_info": {"payer": {"first_name": "Ana"}, "note": "the payer waits"}}"""

    document = without_payer(parse_json(answer))

    assert json.loads(document.text) == {
        "id": "ORD1",
        "total_amount": "10.00",
        "transactions": {"payments": [{"id": "PAY1", "amount": 12.5, "card": {}}]},
        "additional_info": {"note": "the payer waits"},
    }
    assert "12.50" in document.text
    assert document.value == parse_json(document.text.encode()).value


def test_an_escaped_name_hides_nobody() -> None:
    assert without_payer(parse_json(b'{"\\u0070ayer": {"id": 1}, "id": "ORD1"}')).value == {"id": "ORD1"}


def test_an_answer_without_a_payer_is_left_as_it_came() -> None:
    document = parse_json(b'{ "id":  "ORD1", "description": "for the \\"payer\\"" }')

    assert without_payer(document) is document


@given(_values)
def test_nothing_else_is_touched(value: object) -> None:
    document = without_payer(parse_json(json.dumps(value).encode()))

    assert document.value == _expected(value)
    assert parse_json(document.text.encode()).value == document.value


def _expected(value: object) -> object:
    if isinstance(value, dict):
        return {key: _expected(item) for key, item in value.items() if key not in PAYER_MEMBERS}
    if isinstance(value, list):
        return [_expected(item) for item in value]
    return value


def test_an_order_without_its_payer_has_the_hash_of_what_is_stored() -> None:
    named = b'{"id": "ORD1", "status": "created", "total_amount": "10.00", "payer": {"email": "ana@example.com"}}'
    bare = b'{"id": "ORD1", "status": "created", "total_amount": "10.00"}'

    read = order_without_payer(read_order(named, "ORD1"))

    assert "ana" not in read.text
    assert read.payload_hash == read_order(bare, "ORD1").payload_hash
    assert read.snapshot == read_order(bare, "ORD1").snapshot
    assert order_without_payer(read) is read
