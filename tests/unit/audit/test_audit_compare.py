"""Stored rows against a fresh answer: every column that comes from the provider is found when it is changed."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from service.audit.compare import ORDER_FIELDS, PARTS, StoredState, compare, compare_payment, contradictions, is_older
from service.mercadopago.reader import read_any, read_order
from service.sync.changes import decide
from service.sync.rows import order_row, part_rows
from tests.support.orders import moment, order, order_id, paid_order, payment_id, raw, refund, refunded_order

NOW = datetime(2026, 9, 14, 13, tzinfo=UTC)


def rich_order(**fields: Any) -> dict[str, Any]:
    """An order with a part of every kind."""
    own: dict[str, Any] = {"config": {"qr": {"mode": "static"}}, "description": "two coffees"}
    body = refunded_order(1, "30.00", **own | fields)
    body["transactions"]["chargebacks"] = [
        {"id": "CBK1", "transaction_id": payment_id(1), "amount": "5.00", "status": "in_process", "case_id": "c1"}
    ]
    body["transactions"]["cash_outs"] = [{"id": "CAS1", "amount": "20.00", "status": "processed", "reference_id": "9"}]
    return body


def state(body: dict[str, Any], **columns: Any) -> StoredState:
    """What an apply would have stored of this body, with columns changed behind its back."""
    read = read_any(raw(body), body["id"])
    applied = decide(read, account="default", claimed_at=NOW, stored=None, now=NOW)
    row = order_row(applied, payload_hash=read.payload_hash, altered=read.altered, cause="look", notification_id=None)
    kept = {"first_seen_at": NOW, "vanished_at": None}
    parts = {
        table: [{name: value for name, value in one.items() if name != "transaction_id"} | kept for one in rows]
        for (table, _), rows in zip(PARTS, part_rows([read.snapshot]), strict=True)
    }
    return StoredState(row | columns, read.text, parts)


def fields(stored: StoredState, body: dict[str, Any]) -> list[str]:
    difference = compare(stored, read_order(raw(body), body["id"]))
    return [] if difference is None else [drift.field for drift in difference.drifts]


def test_what_an_apply_stored_is_equal_to_the_same_answer_in_other_words() -> None:
    body = rich_order()
    again = json.loads(json.dumps(body))
    again["transactions"]["payments"][0]["amount"] = "100.00"
    assert fields(state(body), dict(reversed(again.items()))) == []


def test_amounts_compare_by_number_and_times_by_instant() -> None:
    body = paid_order(1)
    stored = state(
        body,
        total_amount=Decimal(100),
        paid_amount=Decimal("100.000"),
        updated_at=datetime.fromisoformat(moment(60)).astimezone(UTC),
    )
    assert fields(stored, body) == []


WRONG: dict[str, Any] = {
    "total_amount": Decimal("1.00"),
    "paid_amount": Decimal("99.99"),
    "refunded_amount": Decimal(0),
    "is_sale": False,
    "created_at": NOW,
    "updated_at": NOW,
    "expires_at": NOW,
}


@pytest.mark.parametrize("name", ORDER_FIELDS)
@pytest.mark.parametrize("empty", [False, True])
def test_any_column_of_the_order_that_was_changed_is_found(name: str, empty: bool) -> None:
    body = rich_order(expiration_time="PT15M")
    stored = state(body)
    assert stored.order[name] is not None, "the sample leaves this column empty, so the test proves nothing"
    changed = state(body, **{name: None if empty else WRONG.get(name, "tampered")})
    difference = compare(changed, read_order(raw(body), body["id"]))
    assert difference is not None
    assert [drift.field for drift in difference.drifts] == [name]
    assert difference.kind == "drift"
    assert difference.drifts[0].stored != difference.drifts[0].provider


def every_part_column() -> list[tuple[str, str]]:
    found = []
    for table, rows in state(rich_order()).parts.items():
        found += [(table, name) for name in rows[0] if name not in {"order_id", "first_seen_at", "vanished_at"}]
    return found


@pytest.mark.parametrize(("table", "name"), [one for one in every_part_column() if not one[1].endswith("_id")])
def test_any_column_of_a_part_that_was_changed_is_found(table: str, name: str) -> None:
    body = rich_order()
    stored = state(body)
    part = stored.parts[table][0]
    id_column = dict(PARTS)[table]
    part[name] = "tampered"  # type: ignore[index]  # built as a dict above
    assert fields(stored, body) == [f"{table}[{part[id_column]}].{name}"]


@pytest.mark.parametrize(("table", "id_column"), PARTS)
def test_a_part_that_is_missing_invented_or_wrongly_vanished_is_found(table: str, id_column: str) -> None:
    body = rich_order()
    stored = state(body)
    [part] = stored.parts[table]
    name = f"{table}[{part[id_column]}]"
    missing = StoredState(stored.order, stored.payload, {**stored.parts, table: []})
    assert fields(missing, body) == [name]
    vanished = StoredState(stored.order, stored.payload, {**stored.parts, table: [{**part, "vanished_at": NOW}]})
    assert fields(vanished, body) == [name]
    extra = {**part, id_column: "X1"}
    invented = StoredState(stored.order, stored.payload, {**stored.parts, table: [part, extra]})
    assert fields(invented, body) == [f"{table}[X1]"]
    marked = StoredState(stored.order, stored.payload, {**stored.parts, table: [part, {**extra, "vanished_at": NOW}]})
    assert fields(marked, body) == []


def test_a_payload_changed_alone_is_found_and_said_where_without_a_value() -> None:
    body = rich_order(note="private words")
    changed = rich_order(note="other words", config={"qr": {"mode": "dynamic"}})
    stored = state(body)
    tampered = StoredState(stored.order, read_any(raw(changed), body["id"]).text, stored.parts)
    difference = compare(tampered, read_order(raw(body), body["id"]))
    assert difference is not None
    [drift] = difference.drifts
    assert drift.field == "payload"
    assert drift.provider is not None
    assert drift.provider.endswith("differs at config.qr.mode, note")
    assert "words" not in f"{drift.stored}{drift.provider}"


def test_a_payload_whose_hash_was_changed_along_is_found_by_the_providers_content() -> None:
    body, changed = rich_order(), rich_order(config={"qr": {"mode": "dynamic"}})
    other = read_any(raw(changed), body["id"])
    stored = state(body, payload_hash=other.payload_hash)
    assert fields(StoredState(stored.order, other.text, stored.parts), body) == ["payload"]


def test_a_hash_that_belongs_to_nothing_is_found() -> None:
    body = rich_order()
    assert fields(state(body, payload_hash=b"\x00" * 32), body) == ["payload_hash"]
    assert fields(state(body, payload_altered=True), body) == ["payload_altered"]


def test_beside_a_payer_that_only_we_keep_a_wrong_hash_or_mark_is_found_and_nothing_else_is_said() -> None:
    body = rich_order(payer={"email": "somebody@example.com"})
    answer = rich_order()
    assert fields(state(body, payload_altered=True), answer) == ["payload_altered"]
    assert fields(state(body, payload_hash=b"\x00" * 32), answer) == ["payload_hash"]
    # The payload is changed along with its column: the hash is still that of what was stored.
    changed = read_any(raw(body | {"status": "canceled"}), body["id"]).text
    stored = state(body, status="canceled")
    assert fields(StoredState(stored.order, changed, stored.parts), answer) == ["status"]
    assert fields(StoredState(state(body, payload_altered=True).order, "nonsense", stored.parts), answer) == ["payload"]


def test_an_erased_payer_is_no_drift() -> None:
    body = rich_order(payer={"email": "somebody@example.com"})
    erased = {name: value for name, value in body.items() if name != "payer"}
    assert fields(state(erased), body) == []
    assert fields(state(body), erased) == []


@pytest.mark.parametrize("payload", ['"nonsense"', "[]", "{}", "null", "[" * 300 + "]" * 300])
def test_a_payload_that_is_none_of_ours_is_found(payload: str) -> None:
    body = rich_order()
    stored = state(body)
    assert "payload" in fields(StoredState(stored.order, payload, stored.parts), body)


def test_stale_is_only_what_the_provider_moved_on_from() -> None:
    before, after = paid_order(1), refunded_order(1, "30.00", seconds=120)
    moved_on = compare(state(before), read_order(raw(after), order_id(1)))
    assert moved_on is not None
    assert moved_on.kind == "stale"
    assert {"updated_at", "refunded_amount"} <= {drift.field for drift in moved_on.drifts}
    # The provider moved on as well, but that does not explain what is stored.
    tampered = compare(state(before, total_amount=Decimal(1)), read_order(raw(after), order_id(1)))
    assert tampered is not None
    assert tampered.kind == "drift"
    # Dated back behind the provider's time: nobody moved on.
    backdated = compare(state(before, updated_at=NOW - timedelta(days=9)), read_order(raw(before), order_id(1)))
    assert backdated is not None
    assert backdated.kind == "drift"
    same_time = compare(state(before), read_order(raw(refunded_order(1, "30.00", seconds=60)), order_id(1)))
    assert same_time is not None
    assert same_time.kind == "drift"


def test_an_answer_from_before_what_is_stored_is_known_as_such() -> None:
    stored = state(refunded_order(1, "30.00", seconds=120))
    assert is_older(stored, read_order(raw(paid_order(1)), order_id(1)))
    assert not is_older(stored, read_order(raw(refunded_order(1, "30.00", seconds=120)), order_id(1)))


def test_the_age_of_what_is_stored_is_that_of_its_payload() -> None:
    body = refunded_order(1, "30.00", seconds=120)
    older, same = read_order(raw(paid_order(1)), order_id(1)), read_order(raw(body), order_id(1))
    ahead, back = state(body, updated_at=NOW + timedelta(days=9)), state(body, updated_at=NOW - timedelta(days=9))
    assert [is_older(ahead, same), is_older(back, same)] == [False, False]
    assert [is_older(ahead, older), is_older(back, older)] == [True, True]
    # A payload that is lost has no age: the column is all that is left.
    assert is_older(StoredState(state(body).order, "{}", state(body).parts), older)


def test_a_stored_date_that_cannot_be_true_makes_no_answer_older() -> None:
    ahead = (NOW + timedelta(days=900)).isoformat()
    stored = state(paid_order(1, last_updated_date=ahead))
    now = read_order(raw(refunded_order(1, "30.00", seconds=120)), order_id(1))
    assert not is_older(stored, now)
    difference = compare(stored, now)
    assert difference is not None
    assert difference.kind == "drift"


def test_rows_that_are_not_what_their_own_payload_says_are_named() -> None:
    body = rich_order()
    stored = state(body, total_amount=Decimal(1), payload_hash=b"\x00" * 32)
    assert contradictions(state(body)) == ()
    assert [drift.field for drift in contradictions(stored)] == ["total_amount", "payload_hash"]
    assert [drift.field for drift in contradictions(StoredState(stored.order, "nonsense", stored.parts))] == ["payload"]


def test_odd_values_in_the_database_are_differences_and_no_errors() -> None:
    body = rich_order()
    odd = {"total_amount": Decimal("NaN"), "updated_at": datetime.max.replace(tzinfo=UTC), "status": "x" * 10_000}
    difference = compare(state(body, **odd), read_order(raw(body), body["id"]))
    assert difference is not None
    assert [drift.field for drift in difference.drifts] == ["status", "total_amount", "updated_at"]
    assert all(len(drift.stored or "") <= 300 for drift in difference.drifts)


def test_an_empty_order_with_nothing_in_it_is_equal_to_itself() -> None:
    body = order(7, payments=[], total_amount=..., created_date=..., last_updated_date=..., country_code=...)
    assert fields(state(body), body) == []


def test_a_refund_that_appeared_is_named() -> None:
    body = rich_order()
    body["transactions"]["refunds"].append(refund(999, 1, "10.00"))
    assert f"refunds[REF{999:026d}]" in fields(state(rich_order()), body)


PAYMENT = {
    "payment_id": "PAY1", "status": "processed", "amount": Decimal("100.00"), "paid_amount": Decimal("95.00"),
    "refunded_amount": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("document", "stored", "expected"),
    [
        ({"status": "approved", "transaction_amount": 100, "transaction_amount_refunded": 0}, {}, []),
        ({"status": "approved", "transaction_amount": Decimal("95.00")}, {}, []),
        (
            {"status": "refunded", "transaction_amount": 100, "transaction_amount_refunded": 100},
            {},
            ["status", "refunded_amount"],
        ),
        ({"status": "approved", "transaction_amount": Decimal("99.99")}, {}, ["amount"]),
        ({"status": "charged_back", "transaction_amount": 100}, {"status": "charged_back"}, []),
        (
            {"status": "approved", "transaction_amount": 100, "transaction_amount_refunded": 30},
            {"refunded_amount": Decimal("30.0")},
            [],
        ),
        ({"status": "approved", "transaction_amount": "nonsense"}, {}, []),
        ({"status": "in_mediation", "transaction_amount": 100, "transaction_amount_refunded": 0}, {}, []),
        ({"status": "authorized", "transaction_amount": 100}, {}, []),
        ({"status": "pending", "transaction_amount": 100}, {"status": "refunded"}, []),
        ({"status": "in_mediation", "transaction_amount": 100}, {"status": "refunded"}, ["status"]),
        ({"status": "cancelled", "transaction_amount": 100}, {}, ["status"]),
        ({"status": "approved", "transaction_amount": 100}, {"status": "charged_back"}, ["status"]),
    ],
)
def test_a_payment_is_compared_by_what_the_payments_api_tells(
    document: dict[str, object], stored: dict[str, Any], expected: list[str]
) -> None:
    drifts = compare_payment(PAYMENT | stored, document)
    assert [drift.field for drift in drifts] == [f"payments[PAY1].{name}" for name in expected]


def legacy_payload(expiry: dict[str, object] | None) -> str:
    payload: dict[str, object] = {
        "merchant_order": {"id": 5, "status": "opened", "external_reference": "r", "total_amount": 10, "payments": []},
        "payments": [],
        "refunds": {},
    }
    return json.dumps(payload | ({"expiry": expiry} if expiry else {}))


@pytest.mark.parametrize("passed", [False, True])
def test_the_expiry_that_a_look_put_into_a_legacy_payload_is_no_drift(passed: bool) -> None:
    at = NOW + (-timedelta(hours=1) if passed else timedelta(hours=1))
    text = legacy_payload({"at": at.isoformat().replace("+00:00", "Z"), "passed": passed})
    read = read_any(text.encode(), "MO5")
    applied = decide(read, account="default", claimed_at=NOW, stored=None, now=NOW)
    row = order_row(applied, payload_hash=read.payload_hash, altered=False, cause="look", notification_id=None)
    stored = StoredState(row, read.text, {table: [] for table, _ in PARTS})
    difference = compare(stored, read_any(legacy_payload(None).encode(), "MO5"))
    assert difference is None, difference
