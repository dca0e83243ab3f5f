"""Create bodies: what passes leaves as it came; what is wrong is named at its place, all of it at once."""

import copy
import json
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.desk.create_rules import CheckedCreate, check_create
from service.desk.errors import InvalidRequest
from service.mercadopago.json_text import dumps, parse_json
from tests.unit.desk.desk_bodies import ANY_JSON, SAMPLES, Body, changed, online_body, point_body, qr_body, valid_bodies


def test_a_qr_order_with_everything_passes() -> None:
    body = qr_body()
    checked = check_create(body, currency="ARS")
    assert checked == CheckedCreate(
        type="qr",
        external_reference="sale-1001",
        amount=Decimal("50.00"),
        point_of_sale="CAJA002",
        expires_after=timedelta(minutes=16),
        body=json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        has_card_token=False,
    )


def test_a_point_order_with_everything_passes() -> None:
    checked = check_create(point_body(), currency="MXN")
    assert (checked.type, checked.point_of_sale) == ("point", "NEWLAND_N950__N950NCB801293324")
    assert checked.expires_after == timedelta(hours=3)
    assert checked.amount == Decimal("24.90")


def test_an_online_order_passes_and_its_card_token_is_seen() -> None:
    checked = check_create(online_body(), currency="BRL")
    assert (checked.type, checked.point_of_sale, checked.expires_after) == ("online", None, None)
    assert checked.has_card_token


@pytest.mark.parametrize("body", [qr_body(), point_body()])
def test_a_sale_in_a_shop_lives_15_minutes_by_default(body: Body) -> None:
    del body["expiration_time"]
    assert check_create(body, currency=None).expires_after == timedelta(minutes=15)


def test_an_online_order_ends_with_its_last_payment() -> None:
    body = online_body()
    body["transactions"]["payments"] = [
        {"amount": "60.00", "expiration_time": "PT60S"},
        {"amount": "40.00", "expiration_time": "P1D"},
    ]
    assert check_create(body, currency="BRL").expires_after == timedelta(days=1)
    body["expiration_time"] = "PT60S"
    assert check_create(body, currency="BRL").expires_after == timedelta(minutes=1)


@given(valid_bodies())
def test_a_valid_body_leaves_as_it_came(sample: tuple[Body, str | None]) -> None:
    body, currency = sample
    before = copy.deepcopy(body)
    checked = check_create(body, currency=currency)
    assert body == before
    read = parse_json(checked.body.encode()).value
    assert read == body
    assert isinstance(read, dict)
    assert list(read) == list(body)
    assert checked.body == check_create(copy.deepcopy(body), currency=currency).body
    assert checked.amount == Decimal(body["transactions"]["payments"][0]["amount"])


def test_every_digit_of_unknown_numbers_is_kept() -> None:
    body = qr_body() | {"x_rate": Decimal("1.2300000000000000000000000001000"), "x_big": 10**40}
    sent = check_create(body, currency="ARS").body
    assert '"x_rate":1.2300000000000000000000000001000' in sent
    assert f'"x_big":{10**40}' in sent


@given(ANY_JSON, st.sampled_from([None, "ARS", "CLP"]))
@example({"type": ["qr"]}, None)
@example({"type": "qr", "transactions": {"payments": {"amount": "1"}}, "items": "x", "config": []}, None)
@example([[[[[]]]]], None)
def test_any_json_passes_or_is_refused_and_nothing_else(order: object, currency: str | None) -> None:
    checked = _outcome(order, currency)
    if isinstance(checked, CheckedCreate):
        assert checked.amount > 0
        assert json.loads(checked.body)
        return
    assert checked.faults
    assert all(fault.path.startswith("order") and fault.message for fault in checked.faults)
    assert len({fault.path for fault in checked.faults}) == len(checked.faults)
    assert checked.message.isprintable()


@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_any_json_in_the_place_of_any_member_is_no_surprise(kind: str, data: st.DataObject) -> None:
    body = SAMPLES[kind]()
    where = data.draw(st.sampled_from(_all_paths(body)))
    body = changed(body, where, data.draw(ANY_JSON))
    checked = _outcome(body, "ARS")
    if isinstance(checked, CheckedCreate):
        # What passes can be stored (UTF-8 without NUL) and read again.
        assert "\x00" not in checked.body
        assert parse_json(checked.body.encode()).value == parse_json(dumps(body).encode()).value


def _outcome(order: object, currency: str | None) -> CheckedCreate | InvalidRequest:
    try:
        return check_create(order, currency=currency)
    except InvalidRequest as refused:
        return refused


def _all_paths(value: object, before: str = "") -> list[str]:
    found: list[str] = []
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        path = f"{before}{name}"
        found += [path, *_all_paths(member, f"{path}.")]
    return found


@pytest.mark.parametrize("installments", ["6", 6])
def test_installments_may_be_a_text_or_a_number(installments: object) -> None:
    check_create(changed(point_body(), "config.payment_method.default_installments", installments), currency="ARS")


def test_no_fault_repeats_what_stood_there() -> None:
    body = changed(online_body(), "transactions.payments.0.payment_method.token", ["4509953566233704"])
    body["description"] = "4509953566233704" * 20
    with pytest.raises(InvalidRequest) as refused:
        check_create(body, currency="ARS")
    assert "4509" not in str(refused.value.faults) + str(refused.value)


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_members_nobody_knows_are_passed_on(kind: str) -> None:
    body = SAMPLES[kind]() | {"a_new_member": {"deep": [1, None, "x"]}}
    body["transactions"]["payments"][0]["new_too"] = True
    checked = check_create(body, currency="ARS")
    assert json.loads(checked.body) == body
