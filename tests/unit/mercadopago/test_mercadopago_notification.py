"""What is read from each shape of notification that the provider sends, and what is turned away."""

import json
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mercadopago.notification import MalformedNotification, Notification, copy_key, parse

NOTIFICATIONS = Path(__file__).parents[2] / "fixtures" / "mercadopago" / "notifications"
BODIES = sorted(path for path in NOTIFICATIONS.glob("*.json") if path.name != "signature-vectors.json")
ORDER = "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"


def read(query: str, body: object = None) -> Notification:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return parse(parse_qsl(query, keep_blank_values=True), raw)


def body_of(name: str) -> bytes:
    return (NOTIFICATIONS / name).read_bytes()


def test_the_recorded_request() -> None:
    head, _, body = (NOTIFICATIONS / "order.processed.qr.http").read_text().partition("\n\n")
    query = head.split(" ", 2)[1].partition("?")[2]
    notification = parse(parse_qsl(query), body.strip().encode())
    assert notification == Notification(
        topic="order",
        action="order.processed",
        resource_id=ORDER,
        signed_id=ORDER,
        order_id=ORDER,
        user_id="2100457788",
        application_id="5512340987654321",
        body_text=body.strip(),
        body_altered=False,
        body_id_differs=False,
        simulation=False,
        provider_version=2,
    )


@pytest.mark.parametrize("path", BODIES, ids=lambda path: path.name)
def test_every_example_is_read_without_a_query(path: Path) -> None:
    notification = parse([], path.read_bytes())
    assert notification.topic is not None
    assert notification.resource_id is not None
    assert notification.signed_id is None
    is_order = path.name.startswith("order.")
    assert (notification.order_id is not None) == is_order
    assert notification.simulation == path.name.startswith("panel-simulation")


def test_the_panel_simulation() -> None:
    notification = read("data.id=123456&type=order", body_of("panel-simulation.json"))
    assert notification.simulation
    assert notification.order_id is None
    assert notification.resource_id == "123456"
    assert notification.user_id == "2100457788"


def test_a_simulation_with_an_orders_id_is_still_looked_at() -> None:
    notification = read(f"data.id={ORDER}&type=order", {"id": "123456", "type": "order", "data": {"id": "123456"}})
    assert notification.simulation
    assert notification.order_id == ORDER
    assert notification.body_id_differs


@pytest.mark.parametrize(
    ("query", "name", "topic", "resource_id"),
    [
        ("topic=merchant_order&id=36678900123", "merchant_order.feed-v2.json", "merchant_order", "36678900123"),
        ("", "merchant_order.feed-v2.json", "merchant_order", "36678900123"),
        ("topic=payment&id=118000000101", "payment.ipn.json", "payment", "118000000101"),
        ("", "payment.ipn.json", "payment", "118000000101"),
        ("data.id=118000000101&type=payment", "payment.updated.webhook.json", "payment", "118000000101"),
        ("", "mp-connect.deauthorized.json", "mp-connect", "5512340987654321"),
    ],
)
def test_legacy_and_other_topics(query: str, name: str, topic: str, resource_id: str) -> None:
    notification = read(query, body_of(name))
    assert (notification.topic, notification.resource_id, notification.order_id) == (topic, resource_id, None)
    assert not notification.simulation


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        ("topic=merchant_order&id=36678900123", {"resource": "https://x/merchant_orders/36678900123"}, "MO36678900123"),
        ("", {"resource": "https://api.example/merchant_orders/44?a=b", "topic": "merchant_order"}, "MO44"),
        ("data.id=44&type=topic_merchant_order_wh", {"data": {"id": "44"}}, "MO44"),
        ("type=topic_merchant_order_wh", {"data": {"id": 44}}, "MO44"),
        ("topic=payment&id=118000000101", {"resource": "118000000101", "topic": "payment"}, "PY118000000101"),
        ("topic=payment", {"resource": "https://api.example/v1/payments/118/"}, "PY118"),
        ("", {"type": "payment", "action": "payment.created", "data": {"id": "118"}}, "PY118"),
        ("data.id=118&type=payment", {"type": "payment", "data": {"id": "118"}}, "PY118"),
        (f"data.id={'9' * 20}&type=payment", {}, f"PY{'9' * 20}"),
        (f"data.id={'9' * 21}&type=payment", {}, None),
        # One number has one name; the provider writes no leading zeros.
        ("data.id=0118&type=payment", {}, None),
        ("data.id=0&type=payment", {}, None),
        (f"data.id={ORDER}&type=payment", {}, None),
        (f"data.id={ORDER}&type=merchant_order", {}, None),
        ("data.id=118&type=order", {}, None),
        ("data.id=118&type=topic_chargebacks_wh", {}, None),
        ("data.id=118&type=merchant_orders", {}, None),
        ("id=118", {}, None),
        ("type=payment", {}, None),
    ],
)  # fmt: skip
def test_what_a_legacy_notice_leads_to_where_the_account_asks_for_it(
    query: str, body: object, expected: str | None
) -> None:
    notification = read(query, body)
    assert (notification.legacy_id, notification.order_id) == (expected, None)
    assert notification.with_legacy_look().order_id == expected


def test_an_orders_notification_leads_to_the_order_alone() -> None:
    notification = read(f"data.id={ORDER}&type=order")
    assert notification.legacy_id is None
    assert notification.with_legacy_look() == notification


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        (f"data.id={ORDER}&id=2&resource=3", {"resource": "4", "data": {"id": "5"}}, ORDER),
        ("data.id=&data.id=7&data.id=8", {}, "7"),
        ("data.id=&id=2", {"data": {"id": "5"}}, "2"),
        ("resource=/v1/x/3", {"resource": "4", "data": {"id": "5"}}, "3"),
        ("", {"resource": "https://api.example/merchant_orders/44/?a=b/c#d/e", "data": {"id": "5"}}, "44"),
        ("", {"resource": 44, "data": {"id": "5"}}, "44"),
        ("", {"resource": ["44"], "data": {"id": 5}}, "5"),
        ("", {"resource": "", "data": {"id": "5"}}, "5"),
        ("", {"resource": "//", "data": {"id": "5"}}, "5"),
        ("", {"data": {"id": None}}, None),
        ("", {"data": {"id": True}}, None),
        ("", {"data": ["5"]}, None),
        ("", {"id": "5"}, None),
    ],
)
def test_where_the_id_is_taken_from(query: str, body: object, expected: str | None) -> None:
    assert read(f"topic=t&{query}", body).resource_id == expected


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        ("type=a&topic=b", {"type": "c", "topic": "d"}, "a"),
        ("type=&topic=b", {"type": "c"}, "b"),
        ("", {"type": "c", "topic": "d"}, "c"),
        ("", {"type": ["c"], "topic": "d"}, "d"),
        ("", {"action": "order.processed"}, "order"),
        ("", {"action": "orders"}, None),
        ("type=%20order%20", {}, "order"),
        (f"type={'x' * 500}", {}, "x" * 64),
        ("type=a%00b", {}, "a\\u0000b"),
    ],
)
def test_where_the_topic_is_taken_from(query: str, body: object, expected: str | None) -> None:
    assert read(f"data.id=1&{query}", body).topic == expected


@pytest.mark.parametrize("topic", ["order"])
@pytest.mark.parametrize(
    ("resource_id", "is_order"),
    [
        (ORDER, True),
        ("ORDTST01M3X5BCMMNJV6GF6JF4RCM5K1", True),
        ("PPORD01M2G3K2XF0W7YQHBTWEK4BXB9", True),
        ("ORD" + "0" * 10, True),
        ("ORD" + "0" * 9, False),
        ("ORD" + "0" * 60, True),
        ("ORD" + "0" * 61, False),
        ("ord01m2g3k2xf0w7yqhbtwek4bxb9", False),
        ("ORD01M2G3K2XF0W7-QHBTWEK4BXB9", False),
        ("123456", False),
        ("PAY01M2G3K2XF0W7YQHBTWEK4BXB9", False),
    ],
)
def test_which_ids_are_orders(topic: str, resource_id: str, is_order: bool) -> None:
    notification = read(f"data.id={resource_id}&type={topic}")
    assert notification.order_id == (resource_id if is_order else None)
    assert notification.simulation == (not is_order)


def test_an_orders_id_under_another_topic_is_no_order() -> None:
    assert read(f"data.id={ORDER}&type=payment", {"type": "order"}).order_id is None
    assert read(f"data.id={ORDER}&type=topic_chargebacks_wh", {"type": "chargebacks"}).order_id is None


def test_chargebacks_of_orders_come_under_their_own_topic() -> None:
    notification = read(f"data.id={ORDER}&type=topic_chargebacks_wh", {"type": "order", "action": "order.charged_back"})
    assert (notification.topic, notification.order_id) == ("topic_chargebacks_wh", ORDER)


@pytest.mark.parametrize("body", [b"", b"  \r\n"])
def test_an_absent_body_is_fine_where_the_query_says_topic_and_id(body: bytes) -> None:
    for query in (f"data.id={ORDER}&type=order", f"id={ORDER}&topic=order"):
        notification = read(query, body)
        assert (notification.order_id, notification.body_text, notification.body_id_differs) == (ORDER, None, False)
    for query in ("", f"data.id={ORDER}", "type=order", "data.id=&type=order"):
        with pytest.raises(MalformedNotification):
            read(query, body)


@pytest.mark.parametrize("body", [[], "text", 7, None, [{"data": {"id": "1"}}]])
def test_a_body_that_is_no_object_is_kept_where_the_query_says_enough(body: object) -> None:
    notification = read(f"data.id={ORDER}&type=order", json.dumps(body).encode())
    assert notification.order_id == ORDER
    assert notification.body_text == json.dumps(body)
    with pytest.raises(MalformedNotification, match="neither"):
        read("", json.dumps(body).encode())


@pytest.mark.parametrize(
    ("query", "body", "reason"),
    [
        ("data.id=1&type=order", b"{nope", "not JSON"),
        ("data.id=1&type=order", b"\xff\xff", "not JSON"),
        ("data.id=1&type=order", b'{"a":NaN}', "not JSON"),
        ("", b"{}", "neither"),
        ("other=1", b'{"data":{}}', "neither"),
        ("data.id=a%20b&type=order", b"{}", "id is not"),
        ("data.id=..%2F..%2Fusers&type=order", b"{}", "id is not"),
        ("data.id=%00&type=order", b"{}", "id is not"),
        ("data.id=1%0a&type=order", b"{}", "id is not"),
        ("data.id=%C3%B1&type=order", b"{}", "id is not"),
        ("data.id=%EF%BC%91&type=order", b"{}", "id is not"),
        (f"data.id={'1' * 65}&type=order", b"{}", "id is not"),
        ("type=order", b'{"data":{"id":"a b"}}', "id is not"),
        ("type=order", b'{"data":{"id":' + b"1" * 5000 + b"}}", "id is not"),
        ("type=order", b'{"resource":"https://x.example/a b"}', "id is not"),
    ],
)
def test_what_is_turned_away(query: str, body: bytes, reason: str) -> None:
    with pytest.raises(MalformedNotification, match=reason) as caught:
        read(query, body)
    assert caught.value.reason == str(caught.value)


def test_ids_of_64_characters_are_taken() -> None:
    assert read(f"data.id={'a' * 64}&type=order").resource_id == "a" * 64


def test_odd_types_say_nothing() -> None:
    notification = read(
        "data.id=1&type=order",
        {"action": {"a": 1}, "user_id": [1], "application_id": 1.5, "data": {"id": {}, "version": "x"}},
    )
    assert notification.action is None
    assert notification.user_id is None
    assert notification.application_id is None
    assert notification.provider_version is None
    assert not notification.body_id_differs


@pytest.mark.parametrize(
    ("version", "expected"), [(3, 3), ("3", 3), (True, None), (-1, None), (2**40, None), (1.5, None)]
)
def test_the_providers_version(version: object, expected: int | None) -> None:
    assert read("data.id=1&type=order", {"data": {"version": version}}).provider_version == expected


def test_what_jsonb_refuses_is_replaced_and_said() -> None:
    notification = read("data.id=1&type=order", b'{"action":"a\\u0000b","user_id":"\\ud800","data":{"x":"\\u0000"}}')
    assert notification.body_altered
    assert notification.action == "a\\u0000b"
    assert notification.user_id == "\ufffd"
    assert notification.body_text == '{"action":"a\\\\u0000b","user_id":"\ufffd","data":{"x":"\\\\u0000"}}'


def test_copies_are_equal_in_every_fact_and_only_then() -> None:
    body = body_of("order.processed.qr.json")
    query = f"data.id={ORDER}&type=order"
    key = copy_key("shop", True, read(query, body), body)
    assert len(key) == 32
    assert copy_key("shop", True, read(query + "&data.external_reference=x", body), body) == key
    others = [
        copy_key("shop2", True, read(query, body), body),
        copy_key("shop", False, read(query, body), body),
        copy_key("shop", True, read(query, body), body + b" "),
        copy_key("shop", True, read(f"data.id={ORDER}&type=orders", body), body),
        copy_key("shop", True, read(f"data.id={ORDER}0&type=order", body), body),
        copy_key("shop", True, read(query, b'{"action":"order.refunded"}'), body),
        copy_key("shop", True, read(query, b"{}"), body),
    ]
    assert len({key, *others}) == 1 + len(others)


def test_texts_do_not_run_into_each_other_in_a_copy_key() -> None:
    one, other = read("type=ab&data.id=c"), read("type=a&data.id=bc")
    assert copy_key("s", True, one, b"") != copy_key("s", True, other, b"")


TEXT = st.text(
    st.one_of(st.characters(), st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF), st.just("\x00")), max_size=70
)
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT, st.just(ORDER)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
NAMES = st.sampled_from(["data", "id", "type", "topic", "action", "resource", "user_id", "application_id", "data.id"])
OBJECTS = st.dictionaries(NAMES, st.one_of(VALUES, st.dictionaries(NAMES, VALUES, max_size=4)), max_size=8)


@given(
    st.lists(st.tuples(st.one_of(NAMES, TEXT), st.one_of(TEXT, st.just(ORDER), st.just("order"))), max_size=5),
    st.one_of(st.binary(max_size=100), OBJECTS.map(lambda value: json.dumps(value).encode())),
    st.binary(max_size=2),
)
def test_anything_is_a_notification_or_malformed(query: list[tuple[str, str]], body: bytes, tail: bytes) -> None:
    try:
        notification = parse(query, body + tail)
    except MalformedNotification:
        return
    assert notification.topic is not None or notification.resource_id is not None
    texts = (
        notification.topic,
        notification.action,
        notification.resource_id,
        notification.user_id,
        notification.application_id,
        notification.body_text,
    )
    for text in texts:
        if text is not None:
            text.encode()
            assert "\x00" not in text
    for text in (notification.topic, notification.action, notification.user_id, notification.application_id):
        assert text is None or 0 < len(text) <= 64
    assert len(copy_key("a", False, notification, body)) == 32
