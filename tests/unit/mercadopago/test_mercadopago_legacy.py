"""Sales of the legacy QR as orders: the words of two APIs, money by its digits, and no alarm on what is normal."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mercadopago.documents import ReadOrder
from service.mercadopago.errors import MercadoPagoError, NonsenseAnswer, UnreadableOrder
from service.mercadopago.json_text import canonical_hash, parse_json
from service.mercadopago.legacy import (
    is_merchant_order_id,
    is_payment_hint_id,
    listed_payments,
    merchant_order_of,
    needs_refunds,
    read_merchant_order,
    with_expiry,
)
from service.mercadopago.reader import read_any
from service.orders.history import EMPTY, remember
from service.orders.lifecycle import is_sale, paid_total, refunded_total
from service.orders.rules import evaluate
from service.orders.snapshot import Chargeback, OrderSnapshot, Payment, Refund
from tests.support.legacy_sales import (
    NUMBER,
    ORDER_ID,
    PAYMENT,
    merchant_order,
    number,
    payment,
    raw,
    refund,
    sale,
    sold,
)

NOW = datetime(2026, 9, 14, 15, 0, tzinfo=UTC)
SECOND = PAYMENT + 1


def rules_of(*snapshots: OrderSnapshot) -> set[str]:
    """What is wrong after the last of these, seen one after the other."""
    history = EMPTY
    for snapshot in snapshots:
        history = remember(history, snapshot, NOW)
    return {finding.rule for finding in evaluate(snapshots[-1], history, NOW)}


# Ids -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order_id", "is_order", "is_hint"),
    [
        ("MO36678900123", True, False),
        ("PY118000000101", False, True),
        ("MO" + "9" * 20, True, False),
        ("MO" + "9" * 21, False, False),
        ("MO", False, False),
        ("PY", False, False),
        ("mo1", False, False),
        ("MO1\n", False, False),
        ("MO١٢", False, False),
        ("MOPY1", False, False),
        ("ORD01M2G3K2XF0W7YQHBTWEK4BXB9", False, False),
        ("36678900123", False, False),
    ],
)
def test_what_is_an_id_of_ours(order_id: str, is_order: bool, is_hint: bool) -> None:
    assert is_merchant_order_id(order_id) is is_order
    assert is_payment_hint_id(order_id) is is_hint


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ({"id": NUMBER, "type": "mercadopago"}, NUMBER),
        ({"id": int(NUMBER)}, NUMBER),
        ({"id": None}, None),
        ({"id": "a/b"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_payment_tells_its_merchant_order(order: Any, expected: str | None) -> None:
    assert merchant_order_of({"order": order}) == expected


# The whole of it -----------------------------------------------------------------------------------------------------


def test_a_sale_is_read_whole() -> None:
    paid = payment(
        of="50.10", date_last_updated="2026-09-14T10:07:00.500-04:00", transaction_amount_refunded=number("10.05")
    )
    read = sale(
        merchant_order("closed", "partially_reverted", of="50.10", payments=[paid]),
        paid | {"refunds": [refund("10.05")]},
    )
    assert read.snapshot == OrderSnapshot(
        order_id=ORDER_ID,
        type="legacy_qr",
        status="processed",
        status_detail="partially_refunded",
        user_id="2100457788",
        external_reference="venta-1",
        total_amount=Decimal("50.10"),
        currency="ARS",
        country_code="MLA",
        created_at=datetime(2026, 9, 14, 14, 1, tzinfo=UTC),
        updated_at=datetime(2026, 9, 14, 14, 7, 0, 500000, tzinfo=UTC),
        payments=(
            Payment(
                payment_id=str(PAYMENT),
                status="processed",
                status_detail="accredited",
                amount=Decimal("50.10"),
                paid_amount=Decimal("50.10"),
                refunded_amount=Decimal("10.05"),
                method_id="visa",
                method_type="credit_card",
                installments=1,
                reference_id=str(PAYMENT),
            ),
        ),
        refunds=(
            Refund(
                refund_id="2000000001",
                transaction_id=str(PAYMENT),
                amount=Decimal("10.05"),
                status="processed",
                reference_id="2000000001",
            ),
        ),
    )
    payload = json.loads(read.text)
    assert set(payload) == {"merchant_order", "payments", "refunds"}
    assert [one["id"] for one in payload["refunds"][str(PAYMENT)]] == [2000000001]
    assert '"transaction_amount": 50.10' in read.text
    assert read.payload_hash == canonical_hash(parse_json(read.text.encode()).value)
    assert not read.altered


def test_reading_the_stored_payload_again_gives_the_same() -> None:
    read = sold("closed", "paid", payment())
    again = read_any(read.text.encode(), ORDER_ID)
    assert again == read
    # As Postgres gives a jsonb back: other spacing, other order.
    shuffled = json.dumps(json.loads(read.text, parse_float=Decimal), sort_keys=True, default=str, indent=1)
    assert read_any(shuffled.encode(), ORDER_ID).snapshot == read.snapshot


def test_other_ids_go_to_the_other_reader() -> None:
    assert read_any(b'{"id":"ORD1","status":"created"}', "ORD1").snapshot.order_id == "ORD1"
    with pytest.raises(NonsenseAnswer):
        read_any(b'{"id":"ORD1","status":"created"}', ORDER_ID)


def test_a_sale_that_nobody_has_paid() -> None:
    read = sold("opened", "payment_required", payment_id=None)
    assert (read.snapshot.status, read.snapshot.payments, read.snapshot.currency) == ("created", (), "ARS")
    assert rules_of(read.snapshot) == set()


def test_the_currency_is_what_was_paid_in_before_it_is_the_sites() -> None:
    uruguay = payment(currency_id="uyu")
    assert sold("closed", "paid", uruguay).snapshot.currency == "UYU"
    assert sold("closed", "paid", payment(currency_id=None), site_id="MLC").snapshot.currency == "CLP"
    assert sold("closed", "paid", payment(currency_id=""), site_id="x").snapshot.currency is None


# Statuses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("approved", "processed"),
        ("authorized", "action_required"),
        ("pending", "processing"),
        ("in_process", "processing"),
        ("in_mediation", "processed"),
        ("rejected", "failed"),
        ("cancelled", "canceled"),
        ("refunded", "refunded"),
        ("charged_back", "charged_back"),
        ("brand_new", "brand_new"),
    ],
)
def test_payment_statuses(theirs: str, ours: str) -> None:
    assert sold("opened", None, payment(theirs)).snapshot.payments[0].status == ours


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("approved", "processed"),
        ("in_process", "processing"),
        ("authorized", "processing"),
        ("rejected", "failed"),
        ("cancelled", "failed"),
        ("brand_new", "brand_new"),
    ],
)
def test_refund_statuses(theirs: str, ours: str) -> None:
    assert sold("closed", "paid", payment(refunds=[refund(status=theirs)])).snapshot.refunds[0].status == ours


RETURNED = payment("refunded", transaction_amount_refunded=number("50.00"), refunds=[refund()])
PARTLY = payment(
    status_detail="partially_refunded", transaction_amount_refunded=number("20.00"), refunds=[refund("20.00")]
)
CHARGED_BACK = payment("charged_back", status_detail="in_process")
REJECTED = payment("rejected", payment_id=SECOND)
PENDING = payment("in_process")

NORMAL: dict[str, tuple[ReadOrder, tuple[str, str | None]]] = {
    "scanned": (sold("opened", "payment_required"), ("created", "created")),
    "scanned, older than order_status": (sold("opened", "undefined"), ("created", "created")),
    "rejected, may try again": (sold("opened", "payment_required", REJECTED), ("created", "created")),
    "rejected, then paid": (sold("closed", "paid", REJECTED, payment()), ("processed", "accredited")),
    "under review": (sold("opened", "payment_in_process", PENDING), ("processing", "in_process")),
    "paid": (sold("closed", "paid", payment()), ("processed", "accredited")),
    "paid, no order_status": (sold("closed", None, payment()), ("processed", "accredited")),
    "paid with two": (
        sold("closed", "paid", payment(of="30"), payment(of="20.00", payment_id=SECOND)),
        ("processed", "accredited"),
    ),
    "paid, test environment: opened and paid": (sold("opened", "paid", payment()), ("processed", "accredited")),
    "paid, test environment: opened and nothing else": (sold("opened", None, payment()), ("created", "created")),
    "paid, test environment: payment_required": (sold("opened", "payment_required", payment()), ("created", "created")),
    "returned, test environment": (sold("opened", None, RETURNED), ("created", "created")),
    "partly returned": (sold("closed", "partially_reverted", PARTLY), ("processed", "partially_refunded")),
    "partly returned, OpenAPI": (sold("opened", "partially_refunded", PARTLY), ("processed", "partially_refunded")),
    "partly returned, old word": (sold("closed", "paid", PARTLY), ("processed", "partially_refunded")),
    "returned": (sold("closed", "reverted", RETURNED), ("refunded", "refunded")),
    "returned, OpenAPI": (sold("opened", "refunded", RETURNED), ("refunded", "refunded")),
    "returned, old word": (sold("closed", "paid", RETURNED), ("refunded", "refunded")),
    "reverted by a chargeback": (sold("closed", "reverted", CHARGED_BACK), ("charged_back", "in_process")),
    "charged back and won": (
        sold("closed", "paid", payment("charged_back", status_detail="reimbursed")),
        ("charged_back", "reimbursed"),
    ),
    "in mediation": (sold("closed", "paid", payment("in_mediation")), ("processed", "accredited")),
    "a refund in process": (
        sold("closed", "paid", payment(refunds=[refund(status="in_process")])),
        ("processed", "accredited"),
    ),
    "expired": (sold("expired", "expired"), ("expired", "expired")),
    "expired after a rejection": (sold("expired", "expired", REJECTED), ("expired", "expired")),
    "expired, by order_status alone": (sold("opened", "expired"), ("expired", "expired")),
    "canceled": (sold("opened", "expired", cancelled=True), ("canceled", "canceled")),
    "canceled, OpenAPI": (sold("opened", "cancelled", canceled=True), ("canceled", "canceled")),
    "a cancellation under way": (sold("opened", "pending_cancel"), ("created", "created")),
    "a coupon and shipping": (
        sold(
            "closed",
            "paid",
            payment(
                coupon_amount=number("5.00"),
                shipping_amount=10,
                transaction_details={"total_paid_amount": number("55.00"), "net_received_amount": number("48.9")},
            ),
        ),
        ("processed", "accredited"),
    ),
    "installments with interest, returned": (
        sold("closed", "reverted", RETURNED | {"transaction_details": {"total_paid_amount": number("71.13")}}),
        ("refunded", "refunded"),
    ),
}


@pytest.mark.parametrize("name", NORMAL)
def test_what_is_normal_has_its_status_and_raises_no_alarm(name: str) -> None:
    read, status = NORMAL[name]
    assert (read.snapshot.status, read.snapshot.status_detail) == status
    assert rules_of(read.snapshot) == set()


PAID_THEN = [
    ("scanned", "rejected, may try again", "rejected, then paid"),
    ("scanned", "under review", "paid", "partly returned"),
    ("paid", "returned"),
    ("paid", "reverted by a chargeback", "charged back and won"),
    ("paid, test environment: payment_required", "returned, test environment"),
    ("scanned", "expired"),
    ("scanned", "canceled"),
]


@pytest.mark.parametrize("lives", PAID_THEN, ids=" → ".join)
def test_a_normal_life_raises_no_alarm(lives: tuple[str, ...]) -> None:
    for seen in range(1, len(lives) + 1):
        wrong = rules_of(*(NORMAL[name][0].snapshot for name in lives[:seen]))
        # The rejected attempt of one sample has another number than the paid one of the next.
        assert wrong <= {"record_vanished"}


@pytest.mark.parametrize(
    ("read", "status", "rules"),
    [
        (sold("closed", "paid"), "processed", {"order_status_mismatch"}),
        (sold("closed", "paid", REJECTED), "processed", {"order_status_mismatch"}),
        (sold("opened", "partially_paid", payment(of="20.00")), "created", {"paid_total_mismatch"}),
        (sold("opened", "paid", payment(of="20.00")), "created", {"paid_total_mismatch"}),
        (sold("closed", "paid", payment(), payment(payment_id=SECOND)), "processed", {"paid_total_mismatch"}),
        (sold("expired", "expired", payment()), "expired", {"paid_after_close"}),
        (sold("opened", None, payment(), cancelled=True), "canceled", {"paid_after_close"}),
        (sold("closed", "paid", payment(refunds=[refund(status="rejected")])), "processed", {"refund_failed"}),
    ],
    ids=["closed unpaid", "closed rejected", "part", "said paid", "twice", "expired", "canceled", "refund"],
)
def test_what_is_not_normal_is_seen(read: ReadOrder, status: str, rules: set[str]) -> None:
    assert read.snapshot.status == status
    assert rules_of(read.snapshot) == rules


def test_money_on_a_sale_that_was_seen_canceled() -> None:
    canceled = sold("opened", "expired", cancelled=True)
    late = sold("closed", "paid", payment(), cancelled=True)
    assert late.snapshot.status == "processed"
    assert rules_of(canceled.snapshot, late.snapshot) == {"paid_after_close"}


def test_a_status_that_nobody_knows_is_kept() -> None:
    read = sold("on_hold", "thinking")
    assert (read.snapshot.status, read.snapshot.status_detail) == ("on_hold", "thinking")


def test_a_chargeback_is_a_record_only_with_an_id_of_its_own() -> None:
    assert sold("closed", "reverted", CHARGED_BACK).snapshot.chargebacks == ()
    told = CHARGED_BACK | {"chargebacks": [{"id": 217000087654321000, "amount": number("50.00")}, {"amount": 1}, "x"]}
    assert sold("closed", "reverted", told).snapshot.chargebacks == (
        Chargeback("217000087654321000", str(PAYMENT), Decimal("50.00"), "in_process"),
    )


# Refunds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "asks"),
    [
        (payment(), False),
        (payment(refunds=[refund("1")], transaction_amount_refunded=1), False),
        (payment(transaction_amount_refunded=number("0.01")), True),
        (payment(refunds=None), True),
        (payment("refunded", refunds=None), True),
        (payment("rejected", refunds=None), False),
        (payment("pending", refunds=None), False),
    ],
)
def test_refunds_are_asked_for_only_where_the_payment_does_not_carry_them(fields: dict[str, Any], asks: bool) -> None:
    value = parse_json(raw(fields)).value
    assert isinstance(value, dict)
    assert needs_refunds(value) is asks


def test_refunds_that_were_asked_for() -> None:
    bare = payment("refunded", transaction_amount_refunded=number("50.00"), refunds=None)
    read = sale(
        merchant_order("closed", "reverted", payments=[bare]),
        bare,
        refunds={str(PAYMENT): [refund("20.00"), refund("30.00", 2000000002)]},
    )
    assert [(one.refund_id, one.amount) for one in read.snapshot.refunds] == [
        ("2000000001", Decimal("20.00")),
        ("2000000002", Decimal("30.00")),
    ]
    assert rules_of(read.snapshot) == set()


def test_a_refund_that_came_later_makes_up_for_one_that_failed_however_they_are_listed() -> None:
    later = refund("50.00", 2000000002, date_created="2026-09-14T12:00:00.000-04:00")
    failed = refund("50.00", 2000000001, status="rejected")
    for listed in ([later, failed], [failed, later]):
        read = sold("closed", "reverted", RETURNED | {"refunds": listed})
        assert [one.refund_id for one in read.snapshot.refunds] == ["2000000001", "2000000002"]
        assert rules_of(read.snapshot) == set()


def test_refunds_without_dates_stay_as_they_are_listed() -> None:
    undated = [refund("20", 9, date_created=None), refund("30", 8)]
    read = sold("closed", "reverted", RETURNED | {"refunds": undated})
    assert [one.refund_id for one in read.snapshot.refunds] == ["9", "8"]


# What cannot be read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"transaction_amount": number("-1")}, "payments[0].transaction_amount"),
        ({"transaction_amount": "much"}, "payments[0].transaction_amount"),
        ({"transaction_amount": True}, "payments[0].transaction_amount"),
        ({"transaction_amount_refunded": []}, "payments[0].transaction_amount_refunded"),
        ({"refunds": [{"amount": 1}]}, "refunds.118000000101[0] has no id"),
        ({"refunds": [refund(), refund("1")]}, "refunds.118000000101[1] repeats an id"),
        ({"refunds": ["x"]}, "refunds.118000000101[0] is no object"),
    ],
)
def test_unclear_money_makes_a_sale_unreadable(fields: dict[str, Any], reason: str) -> None:
    bad = payment() | fields
    payload = {"merchant_order": merchant_order(payments=[bad]), "payments": [bad], "refunds": {}}
    if isinstance(bad.get("refunds"), list):
        payload["refunds"] = {str(PAYMENT): bad["refunds"]}
    with pytest.raises(UnreadableOrder, match=reason.replace("[", r"\[")) as caught:
        read_merchant_order(raw(payload), ORDER_ID)
    assert caught.value.body == raw(payload).decode()


@pytest.mark.parametrize("entry", ["x", {"status": "approved"}, {"id": "a/../b"}, {"id": True}, {"id": -1}, 7])
def test_a_payment_that_cannot_be_asked_for(entry: object) -> None:
    with pytest.raises(UnreadableOrder, match=r"merchant_order\.payments\[0\] has no"):
        listed_payments({"payments": [entry]})


@pytest.mark.parametrize("listed", [None, [], [{}], [None], {}])
def test_no_payments_are_none(listed: object) -> None:
    assert listed_payments({"payments": listed}) == ()


def test_payments_are_asked_for_once_each() -> None:
    assert listed_payments({"payments": [{"id": 1}, {"id": "2"}, {"id": "1"}]}) == ("1", "2")


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b"", "nonsense"),
        (b"[]", "nonsense"),
        (b"{}", "nonsense"),
        (b'{"merchant_order":null}', "nonsense"),
        (raw({"merchant_order": merchant_order() | {"id": 7}}), "foreign_order"),
    ],
)
def test_what_is_no_sale_or_anothers(body: bytes, outcome: str) -> None:
    with pytest.raises(NonsenseAnswer) as caught:
        read_merchant_order(body, ORDER_ID)
    assert caught.value.outcome == outcome


# Expiry --------------------------------------------------------------------------------------------------------------

EXPIRY = datetime(2026, 9, 14, 14, 11, tzinfo=UTC)
AFTER, BEFORE = EXPIRY + timedelta(seconds=1), EXPIRY - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("read", "seen_at", "status"),
    [
        (sold("opened", "payment_required"), BEFORE, "created"),
        (sold("opened", "payment_required"), EXPIRY, "created"),
        (sold("opened", "payment_required"), AFTER, "expired"),
        (sold("opened", "payment_required", REJECTED), AFTER, "expired"),
        (sold("opened", "payment_required", PENDING), AFTER, "created"),
        (sold("opened", "payment_in_process", PENDING), AFTER, "processing"),
        (sold("opened", "payment_required", payment()), AFTER, "created"),
        (sold("opened", "partially_paid", payment(of="1")), AFTER, "created"),
        (sold("closed", "paid", payment()), AFTER, "processed"),
        (sold("opened", None, cancelled=True), AFTER, "canceled"),
    ],
)
def test_only_what_still_waits_for_its_first_money_expires(read: ReadOrder, seen_at: datetime, status: str) -> None:
    told = with_expiry(read, EXPIRY, seen_at)
    assert told.snapshot.status == status
    assert told.snapshot.expires_at == EXPIRY
    assert read_any(told.text.encode(), ORDER_ID) == told
    assert told.payload_hash != read.payload_hash


def test_running_out_is_a_change_and_being_seen_again_is_none() -> None:
    read = sold("opened", "payment_required")
    before, after = with_expiry(read, EXPIRY, BEFORE), with_expiry(read, EXPIRY, AFTER)
    assert before.payload_hash != after.payload_hash
    assert with_expiry(read, EXPIRY, AFTER + timedelta(days=1)) == after
    assert with_expiry(read, EXPIRY, BEFORE - timedelta(minutes=1)) == before
    assert after.snapshot.status_detail == "expired"


def test_an_expiry_is_told_once_and_can_be_told_anew() -> None:
    read = sold("opened", "payment_required")
    after = with_expiry(read, EXPIRY, AFTER)
    assert with_expiry(after, EXPIRY, AFTER) == after
    assert with_expiry(after, EXPIRY, BEFORE) == with_expiry(read, EXPIRY, BEFORE)
    assert with_expiry(after, AFTER, AFTER).snapshot.status == "created"


def test_that_time_has_passed_is_no_change_of_a_sale_that_was_paid() -> None:
    paid = sold("closed", "paid", payment())
    assert with_expiry(paid, EXPIRY, BEFORE) == with_expiry(paid, EXPIRY, AFTER)


def test_money_after_the_expiry_is_seen() -> None:
    expired = with_expiry(sold("opened", "payment_required"), EXPIRY, AFTER)
    paid = with_expiry(sold("closed", "paid", payment()), EXPIRY, AFTER)
    assert rules_of(expired.snapshot) == set()
    assert rules_of(expired.snapshot, paid.snapshot) == {"paid_after_close"}


def test_an_expiry_in_any_timezone_to_the_microsecond() -> None:
    at = datetime.fromisoformat("2026-09-14T10:11:00.123456-04:00")
    told = with_expiry(sold("opened", None), at, AFTER)
    assert told.snapshot.expires_at == at
    assert json.loads(told.text)["expiry"] == {"at": "2026-09-14T14:11:00.123456Z", "passed": True}


def test_other_orders_are_left_as_they_are() -> None:
    read = read_any(b'{"id":"ORD1","type":"qr","status":"created"}', "ORD1")
    assert with_expiry(read, EXPIRY, AFTER) is read


def test_that_something_was_replaced_is_kept() -> None:
    read = read_merchant_order(raw({"merchant_order": merchant_order(additional_info="a\x00b")}), ORDER_ID)
    assert read.altered
    assert read.snapshot.description == "a\\u0000b"
    assert with_expiry(read, EXPIRY, AFTER).altered


# Properties ----------------------------------------------------------------------------------------------------------

amounts = st.decimals(min_value=0, max_value=10**12, allow_nan=False, allow_infinity=False, places=2) | st.builds(
    lambda digits, places: Decimal(f"{digits}e-{places}"), st.integers(0, 10**30), st.integers(0, 30)
)


@given(st.lists(amounts.filter(bool), min_size=1, max_size=5))
def test_every_digit_of_an_amount_is_kept(values: list[Decimal]) -> None:
    payments = [payment(of=format(value, "f"), payment_id=PAYMENT + n) for n, value in enumerate(values)]
    total = sum(values, Decimal(0)) if all(len(str(value)) < 20 for value in values) else values[0]
    read = sold("closed", "paid", *payments, of=format(total, "f"))
    assert read.snapshot.total_amount == total
    for got, value in zip(read.snapshot.payments, values, strict=True):
        assert got.amount == got.paid_amount == value
        assert got.amount is not None
        assert got.amount.as_tuple() == value.as_tuple()
    assert (
        read_any(with_expiry(read, EXPIRY, AFTER).text.encode(), ORDER_ID).snapshot.payments == read.snapshot.payments
    )


cents = st.integers(1, 10**9)


@given(st.lists(st.tuples(cents, st.lists(cents, max_size=4)), min_size=1, max_size=4))
def test_a_sale_whose_sums_are_right_raises_no_alarm(shape: list[tuple[int, list[int]]]) -> None:
    """Payments that make up the total, each returned in part or whole: no rule finds anything, the sums are exact."""
    payments, returned_in_all = [], 0
    for place, (price, wanted) in enumerate(shape):
        returned: list[int] = []
        for part in wanted:
            if sum(returned) + part <= price:
                returned.append(part)
        listed = [refund(f"{part / 100:.2f}", 1000 * place + n) for n, part in enumerate(returned, start=1)]
        whole = sum(returned) == price
        returned_in_all += sum(returned)
        payments.append(
            payment(
                "refunded" if whole else "approved",
                f"{price / 100:.2f}",
                PAYMENT + place,
                transaction_amount_refunded=number(f"{sum(returned) / 100:.2f}"),
                refunds=listed,
            )
        )
    total = sum(price for price, _ in shape)
    finer = "reverted" if returned_in_all == total else "partially_reverted" if returned_in_all else "paid"
    snapshot = sold("closed", finer, *payments, of=f"{total / 100:.2f}").snapshot
    assert rules_of(snapshot) == set()
    assert paid_total(snapshot) == Decimal(total) / 100
    assert refunded_total(snapshot) == Decimal(returned_in_all) / 100
    assert is_sale(snapshot) is (returned_in_all < total)
    assert snapshot.status == ("refunded" if returned_in_all == total else "processed")


scalars = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))
FIELDS = [*merchant_order(), "order_status", "cancelled", *payment(), *refund(), "chargebacks"]


@given(st.dictionaries(st.sampled_from(FIELDS), values), st.dictionaries(st.sampled_from(FIELDS), values), values)
def test_whatever_is_told_is_a_sale_or_an_error_of_the_tree(
    order: dict[str, Any], paid: dict[str, Any], refunds: object
) -> None:
    told, attempt = merchant_order() | order, payment() | paid
    given_back = refunds if isinstance(refunds, dict) else {str(PAYMENT): refunds}
    try:
        read = read_merchant_order(
            raw({"merchant_order": told, "payments": [attempt], "refunds": given_back}), ORDER_ID
        )
        listed_payments(told)
        needs_refunds(attempt)
    except MercadoPagoError:
        return
    assert with_expiry(read, EXPIRY, AFTER).snapshot.expires_at == EXPIRY
    again = read_any(read.text.encode(), ORDER_ID)
    assert (again.snapshot, again.text, again.payload_hash) == (read.snapshot, read.text, read.payload_hash)
