"""Card data do not stay: what is kept of a body could charge nobody."""

import json

from hypothesis import given

from service.desk.card_data import has_card_data, without_card_tokens
from service.desk.create_rules import check_create
from service.mercadopago.json_text import dumps, parse_json
from tests.unit.desk.desk_bodies import ANY_JSON, online_body, qr_body

TOKEN = "12ab34cd56ef7890aa11bb22cc33dd44"


def test_a_token_is_hidden_and_all_else_stays() -> None:
    checked = check_create(online_body(), currency="BRL")
    assert TOKEN in checked.body
    kept = without_card_tokens(checked.body)
    expected = online_body()
    expected["transactions"]["payments"][0]["payment_method"]["token"] = "***"
    assert json.loads(kept) == expected
    assert without_card_tokens(kept) == kept


def test_card_data_are_hidden_wherever_they_stand() -> None:
    body = {"a": [{"Card_Number": "4509953566233704", "security_code": 123}], "card": {"x": "4509"}, "token": None}
    assert json.loads(without_card_tokens(dumps(body))) == {
        "a": [{"Card_Number": "***", "security_code": "***"}],
        "card": "***",
        "token": None,
    }


def test_digits_survive() -> None:
    assert without_card_tokens('{"rate":1.2300,"token":"x"}') == '{"rate":1.2300,"token":"***"}'


def test_a_body_without_card_data_stays_as_it_is() -> None:
    checked = check_create(qr_body(), currency="ARS")
    assert not checked.has_card_token
    assert without_card_tokens(checked.body) == checked.body


def test_what_is_no_json_is_hidden_altogether() -> None:
    assert without_card_tokens(f"token={TOKEN}") == '"***"'


@given(ANY_JSON)
def test_after_hiding_there_is_nothing_to_hide(body: object) -> None:
    try:
        kept = without_card_tokens(dumps(body))
    except (TypeError, ValueError):  # no JSON to begin with
        return
    assert not has_card_data(parse_json(kept.encode(errors="replace")).value)
