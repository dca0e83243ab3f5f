"""What is remembered of earlier snapshots: a fold that is idempotent and survives its JSON form."""

import json
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from service.orders.history import EMPTY, History, Record, from_json, remember, to_json
from service.orders.snapshot import CashOut, OrderSnapshot
from tests.unit.orders.orders_samples import NOW, chargeback, folded, order, paid, refund, unpaid
from tests.unit.orders.orders_strategies import SNAPSHOTS

LATER = NOW + timedelta(hours=1)


def test_records_of_every_kind_with_their_last_known_amount() -> None:
    first = order(
        "processed",
        paid("PAY1", paid_amount=Decimal("47.28")),
        unpaid("PAY2", of="9.00", paid_amount=Decimal("8.00")),
        refunds=(refund(of="5.00"),),
        chargebacks=(chargeback(of="6.00"),),
        cash_outs=(CashOut("CAS1", Decimal("7.00")),),
    )
    second = order("processed", refunds=(refund(of=None),), cash_outs=(CashOut("CAS1", Decimal("7.50")),))
    assert folded([first, second]).records == {
        "PAY1": Record("payment", Decimal("47.28")),
        "PAY2": Record("payment", Decimal("9.00")),
        "REF1": Record("refund", Decimal("5.00")),
        "CBK1": Record("chargeback", Decimal("6.00")),
        "CAS1": Record("cash_out", Decimal("7.50")),
    }


def test_first_sight_of_a_refund_stays() -> None:
    snapshot = order("processed", paid(), refunds=(refund(of="1.00"),))
    history = remember(remember(EMPTY, snapshot, NOW), snapshot, LATER)
    assert history.refund_first_seen == {"REF1": NOW}
    more = order("processed", paid(), refunds=(refund("REF2", of="1.00"),))
    assert remember(history, more, LATER).refund_first_seen == {"REF1": NOW, "REF2": LATER}


def test_statuses_peaks_and_currency() -> None:
    steps = [
        order("processed", paid("PAY1"), paid("PAY2", refunded_amount=Decimal("2.00")), currency=None),
        order("cancelled", paid("PAY1"), paid("PAY3"), paid("PAY2", refunded_amount=Decimal("1.00"))),
        order("expired", paid("PAY4"), currency="BRL"),
        order("refunded"),
    ]
    history = folded(steps)
    assert history.refunded_peaks == {"PAY2": Decimal("2.00")}
    assert history.closed_status == "canceled"
    assert history.terminal_status == "refunded"
    assert history.paid_before_close == {"PAY1", "PAY2"}
    assert history.first_currency == "ARS"
    assert folded(steps[:3]).terminal_status == "expired"
    assert folded(steps[:1]).closed_status is None


def test_a_payment_first_seen_paid_on_a_closed_order_was_not_paid_before() -> None:
    assert folded([order("failed", paid())]).paid_before_close == frozenset()


def test_nothing_is_changed_in_place() -> None:
    before = folded([order("processed", paid(), refunds=(refund(of="1.00"),))])
    copy = from_json(to_json(before), dict(before.refund_first_seen))
    remember(before, order("canceled", paid("PAY2", refunded_amount=Decimal(3)), currency="BRL"), LATER)
    assert before == copy
    assert History.empty() == EMPTY == History()


@given(st.lists(SNAPSHOTS, max_size=4), SNAPSHOTS)
def test_the_same_snapshot_twice_is_the_same_as_once(earlier: list[OrderSnapshot], snapshot: OrderSnapshot) -> None:
    once = remember(folded(earlier), snapshot, LATER)
    assert remember(once, snapshot, LATER) == once
    assert remember(once, snapshot, LATER + timedelta(days=1)) == once


@given(st.lists(SNAPSHOTS, max_size=3))
def test_records_and_peaks_do_not_depend_on_the_order_of_snapshots(snapshots: list[OrderSnapshot]) -> None:
    folds = [folded(arrived) for arrived in permutations(snapshots)]
    assert all(fold.records.keys() == folds[0].records.keys() for fold in folds)
    assert all(fold.refunded_peaks == folds[0].refunded_peaks for fold in folds)
    assert all(fold.refund_first_seen.keys() == folds[0].refund_first_seen.keys() for fold in folds)
    assert all((fold.terminal_status is None) == (folds[0].terminal_status is None) for fold in folds)
    assert all((fold.closed_status is None) == (folds[0].closed_status is None) for fold in folds)


AMOUNTS = st.one_of(
    st.decimals(0, 10**9, places=2),
    st.sampled_from([Decimal("1e-30"), Decimal("9" * 100), Decimal("1E+3"), Decimal("0.10"), Decimal(0)]),
)
IDS = st.text(min_size=1, max_size=8)
WORDS = st.none() | st.text(min_size=1, max_size=8)
HISTORIES = st.builds(
    History,
    records=st.dictionaries(
        IDS,
        st.builds(Record, st.sampled_from(["payment", "refund", "chargeback", "cash_out"]), st.none() | AMOUNTS),
        max_size=4,
    ),
    refund_first_seen=st.dictionaries(IDS, st.datetimes(timezones=st.just(NOW.tzinfo)), max_size=3),
    refunded_peaks=st.dictionaries(IDS, AMOUNTS, max_size=3),
    terminal_status=WORDS,
    closed_status=WORDS,
    paid_before_close=st.frozensets(IDS, max_size=3),
    first_currency=WORDS,
)


@given(HISTORIES)
def test_json_form_reads_back_as_the_same_history(history: History) -> None:
    data = json.loads(json.dumps(to_json(history)))
    assert from_json(data, history.refund_first_seen) == history
    assert "refund_first_seen" not in data


@given(st.lists(SNAPSHOTS, max_size=3))
def test_json_form_of_a_folded_history_reads_back(snapshots: list[OrderSnapshot]) -> None:
    history = folded(snapshots)
    assert from_json(json.loads(json.dumps(to_json(history))), history.refund_first_seen) == history


def test_json_form_is_tolerant_of_what_is_missing() -> None:
    seen: dict[str, datetime] = {"REF1": NOW}
    assert from_json({}, {}) == EMPTY
    assert from_json({"unknown": 1, "records": None, "paid_before_close": None}, seen) == History(
        refund_first_seen=seen
    )
    full = to_json(folded([order("canceled", paid(refunded_amount=Decimal(1)), refunds=(refund(),))]))
    for key in full:
        rest = {name: value for name, value in full.items() if name != key}
        assert to_json(from_json(rest, {})) == full | {key: to_json(EMPTY)[key]}


def test_amounts_are_kept_as_strings_with_their_digits() -> None:
    data = to_json(folded([order("processed", paid(of="50.00", refunded_amount=Decimal("1.50")))]))
    assert data["records"] == {"PAY1": {"kind": "payment", "amount": "50.00"}}
    assert data["refunded_peaks"] == {"PAY1": "1.50"}
