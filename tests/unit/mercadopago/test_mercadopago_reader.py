"""The tolerant reader: the examples, the contradictions of the provider's documents, and payloads mangled at random."""

import copy
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mercadopago.errors import MercadoPagoError, NonsenseAnswer, UnreadableOrder
from service.mercadopago.json_text import canonical_hash, parse_json
from service.mercadopago.reader import ReadOrder, parse_duration, parse_time, read_order
from service.orders.snapshot import Chargeback, OrderSnapshot, Payment, Refund

FIXTURES = Path(__file__).parents[2] / "fixtures" / "mercadopago"
ORDERS = {path.stem: path.read_bytes() for path in [*FIXTURES.glob("order-*.json"), *FIXTURES.glob("variants/*.json")]}
PARSED: dict[str, dict[str, Any]] = {name: json.loads(raw) for name, raw in ORDERS.items()}
OFFICIAL = "order-refunded-qr-official-sample"

Order = dict[str, Any]


def order(**fields: Any) -> Order:
    return {"id": "ORD1", "status": "created", **fields}


def with_payment(**fields: Any) -> Order:
    return order(transactions={"payments": [{"id": "PAY1", **fields}]})


def read(value: Order | bytes, order_id: str = "ORD1") -> ReadOrder:
    return read_order(value if isinstance(value, bytes) else json.dumps(value).encode(), order_id)


def snapshot(value: Order | bytes) -> OrderSnapshot:
    return read(value).snapshot


def example(name: str) -> OrderSnapshot:
    return read_order(ORDERS[name], PARSED[name]["id"]).snapshot


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_every_example_is_read_whole(name: str) -> None:
    source = PARSED[name]
    got = read_order(ORDERS[name], source["id"])
    assert not got.altered
    assert got.text == ORDERS[name].decode()
    assert got.payload_hash == canonical_hash(parse_json(ORDERS[name]).value)
    one = got.snapshot
    assert (one.order_id, one.type, one.status, one.status_detail) == tuple(
        source[key] for key in ("id", "type", "status", "status_detail")
    )
    assert [str(payment.amount) for payment in one.payments] == [
        payment["amount"] for payment in source["transactions"]["payments"]
    ]
    assert one.created_at is not None
    assert one.updated_at is not None
    assert one.updated_at >= one.created_at
    assert one.currency in {"ARS", "BRL", "CLP", "MXN"}


def test_the_official_sample() -> None:
    assert example(OFFICIAL) == OrderSnapshot(
        order_id="ORD00001111222233334444555566",
        type="qr",
        status="refunded",
        status_detail="created",
        user_id="5238400195",
        external_reference="ext_ref_1234",
        description="Point Mini",
        total_amount=Decimal("50.00"),
        currency="CLP",
        country_code="CHL",
        created_at=datetime(2024, 9, 10, 14, 26, 42, 109000, UTC),
        updated_at=datetime(2024, 9, 10, 14, 27, 42, 109000, UTC),
        expires_at=datetime(2024, 9, 10, 14, 42, 42, 109000, UTC),
        payments=(
            Payment(
                payment_id="PAY01J67CQQH5904WDBVZEM4JMEP3",
                status="refunded",
                status_detail="refunded",
                amount=Decimal("50.00"),
                paid_amount=Decimal("47.28"),
                refunded_amount=Decimal("47.28"),
                method_id="master",
                method_type="credit_card",
                installments=1,
                reference_id="12345678",
            ),
        ),
        refunds=(
            Refund(
                refund_id="REF01J67CQQH5904WDBVZEM1234D",
                transaction_id="PAY01J67CQQH5904WDBVZEM4JMEP3",
                amount=Decimal("47.28"),
                status="processed",
                reference_id="12345678",
            ),
        ),
    )


def test_tips_chargebacks_and_refunds_in_their_order() -> None:
    tip = example("order-processed-point-tip").payments[0]
    assert (tip.amount, tip.tip_amount, tip.paid_amount) == (Decimal("364.00"), Decimal("54.60"), Decimal("418.60"))
    assert example("order-charged-back-online").chargebacks == (
        Chargeback(
            "CBK01M0F6C3M00XQDJMP2FHRMWFZA",
            "PAY01KWKV12N1Z8AHSXEWJ4MGRQ4Z",
            Decimal("350.00"),
            "in_process",
            "217000112233",
        ),
    )
    assert [refund.amount for refund in example("order-refunded-online-two-steps").refunds] == [
        Decimal(30),
        Decimal(70),
    ]


def test_the_expiry_of_an_order_without_its_own_is_its_latest_payments() -> None:
    expires = datetime(2026, 10, 2, 13, 41, 55, 640000, UTC)
    pix = example("order-canceled-expired-online-pix")
    assert (pix.expires_at, pix.payments[0].expires_at) == (expires, expires)
    two = order(
        transactions={
            "payments": [
                {"id": "a", "date_of_expiration": "2026-01-02T00:00:00+00:00"},
                {"id": "b", "date_of_expiration": "2026-01-01T00:00:00Z"},
                {"id": "c"},
            ]
        }
    )
    assert snapshot(two).expires_at == datetime(2026, 1, 2, tzinfo=UTC)
    assert snapshot({**two, "created_date": "2026-01-01T00:00:00Z", "expiration_time": "PT30S"}).expires_at == datetime(
        2026, 1, 1, 0, 0, 30, tzinfo=UTC
    )
    assert snapshot({**two, "created_date": "9999-12-31T23:59:59Z", "expiration_time": "P1D"}).expires_at is None


BARE = OrderSnapshot("ORD1", status="created")


def test_an_order_may_say_nothing_but_its_id_and_status() -> None:
    assert snapshot(b'{"id":"ORD1","status":"created"}') == BARE
    nulls = dict.fromkeys([*PARSED[OFFICIAL], "currency", "site_id"])
    assert snapshot({**nulls, "id": "ORD1", "status": "created"}) == BARE
    assert snapshot(order(status="a status of tomorrow")).status == "a status of tomorrow"


@pytest.mark.parametrize(
    "transactions",
    [
        None,
        {},
        [],
        [{}],
        {"payments": None},
        {"payments": []},
        {"payments": [{}, None]},
        {"payments": {}, "refunds": [{}]},
    ],
)
def test_ways_to_say_none(transactions: object) -> None:
    assert snapshot(order(transactions=transactions)) == BARE


def test_an_object_where_a_list_belongs_and_the_other_way_round() -> None:
    parts = {
        "payments": {"id": "p", "payment_method": [{"id": "pix"}]},
        "refunds": {"id": "r"},
        "chargebacks": {"id": "c"},
        "cash_outs": {"id": "o", "amount": "5"},
    }
    for transactions in (parts, [parts]):
        one = snapshot(order(transactions=transactions))
        assert [payment.method_id for payment in one.payments] == ["pix"]
        assert [refund.refund_id for refund in one.refunds] == ["r"]
        assert [chargeback.chargeback_id for chargeback in one.chargebacks] == ["c"]
        assert [cash_out.amount for cash_out in one.cash_outs] == [Decimal(5)]


def test_numbers_where_strings_belong() -> None:
    raw = (
        b'{"id":123,"user_id":5238400195,"external_reference":42,"total_amount":100000.10,"status":"x","status_detail":7,'
        b'"transactions":{"payments":[{"id":1,"amount":1e-3,"paid_amount":12,"reference_id":118000000101,'
        b'"payment_method":{"installments":"6"}}],"refunds":[{"id":2,"transaction_id":1,"amount":0.0}]}}'
    )
    one = read(raw, "123").snapshot
    assert (one.order_id, one.user_id, one.external_reference, one.status_detail) == ("123", "5238400195", "42", "7")
    assert str(one.total_amount) == "100000.10"
    payment = one.payments[0]
    assert (payment.payment_id, payment.amount, payment.paid_amount) == ("1", Decimal("0.001"), Decimal(12))
    assert (payment.reference_id, payment.installments) == ("118000000101", 6)
    assert one.refunds[0].transaction_id == payment.payment_id


@pytest.mark.parametrize("amount", ["120", "120.00", "0.1234567890123456789", "1e-3", "990", "00.10", "1" * 60 + ".5"])
def test_amounts_keep_every_digit(amount: str) -> None:
    assert str(snapshot(with_payment(amount=amount)).payments[0].amount) == str(Decimal(amount))


@pytest.mark.parametrize("name", ["amount", "paid_amount", "refunded_amount", "tip_amount"])
@pytest.mark.parametrize(
    "amount", ["-1", -1, "abc", "", "NaN", "Infinity", True, [], {}, "1,50", "1e999999999", " 5", "-0.01"]
)
def test_money_that_cannot_be_read_makes_the_order_unreadable(name: str, amount: object) -> None:
    with pytest.raises(UnreadableOrder, match=rf"transactions\.payments\[0\]\.{name}") as caught:
        read(with_payment(**{name: amount}))
    assert caught.value.body == json.dumps(with_payment(**{name: amount}))
    assert caught.value.outcome == "unreadable"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({}, "order has no id"),
        ({"id": None}, "order has no id"),
        ({"id": ""}, "order has no id"),
        ({"id": ["ORD1"]}, "order has no id"),
        ({"id": True}, "order has no id"),
        ({"id": "ORD1"}, "order has no status"),
        ({"id": "ORD1", "foo": 1}, "order has no status"),
        (order(status=None), "order has no status"),
        (order(status=""), "order has no status"),
        (order(status=" "), "order has no status"),
        (order(status=5), "order has no status"),
        (order(status=["created"]), "order has no status"),
        (order(status={}), "order has no status"),
        (order(status=True), "order has no status"),
        (order(total_amount="-5"), "order.total_amount"),
        (order(transactions="none"), "transactions is no object"),
        (order(transactions=[{}, {}]), "transactions is no object"),
        (order(transactions={"payments": ["PAY1"]}), "payments[0] is no object"),
        (order(transactions={"payments": "PAY1"}), "payments[0] is no object"),
        (order(transactions={"payments": [{"id": "a"}, {"amount": "5"}]}), "payments[1] has no id"),
        (order(transactions={"refunds": [{"id": "a", "amount": "-5"}]}), "refunds[0].amount"),
        (order(transactions={"chargebacks": [{"id": "a", "amount": "x"}]}), "chargebacks[0].amount"),
        (order(transactions={"cash_outs": [{"id": "a", "amount": {}}]}), "cash_outs[0].amount"),
        (order(transactions={"refunds": [{"id": "a", "amount": "5"}, {"id": "a", "amount": "6"}]}), "repeats an id"),
    ],
)
def test_objects_that_are_no_order(value: Order, reason: str) -> None:
    with pytest.raises(UnreadableOrder) as caught:
        read(value)
    assert reason in caught.value.reason
    assert caught.value.body == json.dumps(value)


def test_the_reason_quotes_nothing_of_the_payload() -> None:
    with pytest.raises(UnreadableOrder) as caught:
        read(with_payment(amount="SECRETWORD 5031755734530604"))
    assert "SECRET" not in str(caught.value)
    assert "5031" not in str(caught.value)


def test_an_exact_repeat_counts_once() -> None:
    entry = {"id": "PAY1", "amount": "5", "status": "processed"}
    assert len(snapshot(order(transactions={"payments": [entry, entry]})).payments) == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nope",
        b"<html></html>",
        b"null",
        b"[]",
        b'"ORD1"',
        b"7",
        b"\xff",
        b'{"id":"ORD1"',
        b'{"id":"ORD1","a":NaN}',
        b"[" * 300 + b"]" * 300,
        b'{"a":' * 300 + b"1" + b"}" * 300,
    ],
)
def test_answers_that_are_no_object_are_nobodys_fault(raw: bytes) -> None:
    with pytest.raises(NonsenseAnswer) as caught:
        read(raw)
    assert caught.value.outcome == "nonsense"


@pytest.mark.parametrize("other", ["ORD2", "ord1", "ORD1 ", "ORD1\u0000", 1])
def test_another_orders_answer_is_nobodys_fault(other: object) -> None:
    with pytest.raises(NonsenseAnswer) as caught:
        read({"id": other, "total_amount": "-1"})
    assert caught.value.outcome == "foreign_order"


def test_what_jsonb_refuses_is_replaced_in_payload_and_snapshot_alike() -> None:
    got = read(b'{"id":"ORD1","status":"x","description":"a\\u0000b","external_reference":"\\ud800","x":1e5000}')
    assert got.altered
    assert (got.snapshot.description, got.snapshot.external_reference) == ("a\\u0000b", "\ufffd")
    assert json.loads(got.text) == {
        "id": "ORD1",
        "status": "x",
        "description": "a\\u0000b",
        "external_reference": "\ufffd",
        "x": "1e5000",
    }


def test_the_kept_text_of_an_unreadable_answer_is_bounded_and_fit_for_postgres() -> None:
    with pytest.raises(UnreadableOrder) as caught:
        read(b'{"total_amount":"x","long":"' + b"\xc3\xb1" * 2_000_000 + b'"}')
    assert caught.value.body is not None
    assert len(caught.value.body) == 1024 * 1024
    assert "\x00" not in caught.value.body


def test_200_payments() -> None:
    payments = [{"id": f"PAY{n}", "amount": f"{n}.05", "status": "processed"} for n in range(200)]
    one = snapshot(order(transactions={"payments": payments}))
    assert [payment.payment_id for payment in one.payments] == [f"PAY{n}" for n in range(200)]
    assert sum(payment.amount or 0 for payment in one.payments) == Decimal("19910.00")


def test_overlong_texts_are_cut_and_stay_distinct() -> None:
    one, other = "x" * 5000 + "1", "x" * 5000 + "2"
    value = order(
        external_reference=one,
        transactions={"payments": [{"id": one}, {"id": other}], "refunds": [{"id": "r", "transaction_id": other}]},
    )
    got = snapshot(value)
    assert got.external_reference is not None
    assert len(got.external_reference) <= 255
    assert got.payments[0].payment_id == got.external_reference
    assert got.payments[1].payment_id == got.refunds[0].transaction_id != got.payments[0].payment_id


@pytest.mark.parametrize(
    ("fields", "currency"),
    [
        ({"currency": "ARS", "country_code": "BRA"}, "ARS"),
        ({"currency": "ars"}, "ARS"),
        ({"currency_id": "BRL"}, "BRL"),
        ({"currency": "", "country_code": "AR"}, "ARS"),
        ({"currency": 7, "country_code": "MX"}, "7"),
        ({"country_code": "ARG"}, "ARS"),
        ({"country_code": "MLB"}, "BRL"),
        ({"site_id": "MLU"}, "UYU"),
        ({"country_code": "??", "site_id": "MLC"}, "CLP"),
        ({"country_code": "??"}, None),
        ({"country_code": 5}, None),
        ({}, None),
    ],
)
def test_the_currency(fields: Order, currency: str | None) -> None:
    assert snapshot(order(**fields)).currency == currency


@pytest.mark.parametrize(
    ("installments", "expected"),
    [(0, 0), (6, 6), ("12", 12), ("x", None), (True, None), (2**31, None), (-1, None), (1.5, None), ([], None)],
)
def test_installments(installments: object, expected: int | None) -> None:
    assert snapshot(with_payment(payment_method={"installments": installments})).payments[0].installments == expected


def test_odd_types_of_what_is_no_money_say_nothing() -> None:
    odd = order(
        status_detail=["x"],
        type={},
        description=True,
        created_date=5,
        expiration_time=[],
        user_id=False,
        transactions={"payments": [{"id": "p", "payment_method": "pix", "discounts": {"type": "x"}}]},
    )
    assert snapshot(odd) == OrderSnapshot("ORD1", status="created", payments=(Payment("p"),))


# Times and durations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", range(10))
def test_any_number_of_fraction_digits_is_cut_to_microseconds(digits: int) -> None:
    fraction = "123456789"[:digits]
    microsecond = int(fraction[:6].ljust(6, "0"))
    text = f"2026-07-22T10:10:18{'.' if digits else ''}{fraction}"
    for suffix in ("Z", "z", "+00:00", "-00:00", "+0000"):
        assert parse_time(text + suffix) == datetime(2026, 7, 22, 10, 10, 18, microsecond, UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-09-14T10:00:00.000-04:00", datetime(2026, 9, 14, 14, tzinfo=UTC)),
        ("2026-01-01T00:30:00+05:30", datetime(2025, 12, 31, 19, tzinfo=UTC)),
        ("2026-09-14 10:00:00,5Z", datetime(2026, 9, 14, 10, 0, 0, 500000, UTC)),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
    ],
)
def test_offsets_and_oddities(text: str, expected: datetime) -> None:
    got = parse_time(text)
    assert got == expected
    assert got is not None
    assert got.tzinfo is UTC


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "",
        "x",
        "2026-09-14",
        "2026-09-14T10:00:00",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-09-14T24:00:00Z",
        "2026-09-14T10:00:61Z",
        "2026-09-14T10:00:00.Z",
        "2026-09-14T10:00:00+25:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:60Z",
        "2026-09-14T10:00:00Z\n",
        "２０２６-09-14T10:00:00Z",
        "2026-09-14T10:00:00+24:00",
    ],
)
def test_what_is_no_time_is_none(value: object) -> None:
    assert parse_time(value) is None


@given(st.datetimes(timezones=st.just(UTC)), st.integers(0, 999))
def test_times_round_trip(moment: datetime, nanoseconds: int) -> None:
    text = f"{moment.strftime('%Y').rjust(4, '0')}{moment.strftime('-%m-%dT%H:%M:%S.%f')}{nanoseconds:03d}Z"
    assert parse_time(text) == moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PT15M", timedelta(minutes=15)),
        ("PT30S", timedelta(seconds=30)),
        ("P1D", timedelta(days=1)),
        ("PT3600H", timedelta(hours=3600)),
        ("P1DT2H3M4.5S", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("P2W", timedelta(weeks=2)),
        ("PT0S", timedelta(0)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        15,
        "",
        "P",
        "PT",
        "P1DT",
        "15M",
        "P1Y",
        "P1M",
        "PT-5M",
        "-PT5M",
        "pt5m",
        "PT5",
        "P999999999W",
        "PT1e5S",
        "PT15M\n",
    ],
)
def test_what_is_no_duration_is_none(value: object) -> None:
    assert parse_duration(value) is None


# Mangled payloads ---------------------------------------------------------------------------------------------------

DELETE = object()
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=10),
    st.sampled_from(
        [
            "",
            "-1",
            "1e5",
            "0.001",
            "\x00",
            "\ud800",
            "2026-01-01T00:00:00Z",
            "PT5M",
            "9" * 400,
            -0.0,
            10**50,
            "NaN",
            "MLB",
        ]
    ),
)
REPLACEMENTS = st.one_of(
    st.just(DELETE), SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.sampled_from(["id", "amount"]), SCALARS)
)


def paths(value: object, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    return [path for key, child in children for path in [(*here, key), *paths(child, (*here, key))]]


def replace(value: Any, path: tuple[str | int, ...], new: object) -> None:
    for key in path[:-1]:
        value = value[key]
    if new is DELETE:
        del value[path[-1]]
    else:
        value[path[-1]] = new


def amounts_in(entry: dict[str, object], names: tuple[str, ...]) -> list[Decimal | None]:
    return [None if entry.get(name) is None else Decimal(str(entry[name])) for name in names]


@given(st.sampled_from(sorted(ORDERS)), st.data())
def test_a_mangled_order_is_read_exactly_or_refused_by_one_of_two_errors(name: str, data: st.DataObject) -> None:
    value = copy.deepcopy(PARSED[name])
    for _ in range(data.draw(st.integers(1, 4))):
        found = paths(value)
        if found:
            replace(value, data.draw(st.sampled_from(found)), data.draw(REPLACEMENTS))
    raw = json.dumps(value).encode()
    got: ReadOrder | MercadoPagoError
    try:
        got = read_order(raw, PARSED[name]["id"])
    except (UnreadableOrder, NonsenseAnswer) as error:
        got = error
    if isinstance(got, UnreadableOrder):
        assert got.body is not None
        got.body.encode()
        assert "\x00" not in got.body
    elif isinstance(got, ReadOrder):
        check_against_payload(got)
    else:
        assert str(value.get("id")) != PARSED[name]["id"]


def check_against_payload(got: ReadOrder) -> None:
    # Whatever was read is what the payload says, to the digit.
    payload = parse_json(got.text.encode()).value
    assert isinstance(payload, dict)
    assert got.payload_hash == canonical_hash(payload)
    assert [got.snapshot.total_amount] == amounts_in(payload, ("total_amount",))
    listed = payload.get("transactions")
    listed = listed[0] if isinstance(listed, list) and listed else listed or {}
    assert isinstance(listed, dict)
    payments = listed.get("payments") or []
    entries = [entry for entry in (payments if isinstance(payments, list) else [payments]) if entry]
    for payment, entry in zip(got.snapshot.payments, entries, strict=True):
        shown = [payment.amount, payment.paid_amount, payment.refunded_amount, payment.tip_amount]
        stated = amounts_in(entry, ("amount", "paid_amount", "refunded_amount", "tip_amount"))
        assert list(map(str, shown)) == [str(None if amount is None else amount.copy_abs()) for amount in stated]


@given(st.binary(max_size=300))
def test_bytes_raise_nothing_else(raw: bytes) -> None:
    with pytest.raises((NonsenseAnswer, UnreadableOrder)):
        read_order(raw, "ORD1")
