"""What the rules remember of an order's earlier snapshots: a fold over the snapshots that were applied, in order.

`remember` is pure and idempotent for one snapshot. Which records were seen and the peaks do not depend on the order of
the snapshots; the rest does, and a time of first sight that is known is never moved.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal, Self, cast, get_args

from service.orders.lifecycle import canonical_status, is_closed, is_paid, is_terminal
from service.orders.money import ZERO, parse_amount, plain
from service.orders.snapshot import OrderSnapshot

RecordKind = Literal["payment", "refund", "chargeback", "cash_out"]
_KINDS = frozenset(get_args(RecordKind))


@dataclass(frozen=True, slots=True)
class Record:
    """A record once seen, with the last amount known of it; of a paid payment, what was paid."""

    kind: RecordKind
    amount: Decimal | None


@dataclass(frozen=True, slots=True)
class History:
    """Everything remembered of an order.

    `records` and `refund_first_seen` are keyed by the record's id, `refunded_peaks` by payment id: the highest
    `refunded_amount` ever shown, where above 0. `terminal_status` is the last of canceled, expired, failed and
    refunded that the order showed; `closed_status` the first of canceled, expired and failed. `paid_before_close`:
    payments seen paid before the order was first seen closed. `first_currency`: the first that was known.
    """

    records: Mapping[str, Record] = field(default_factory=dict)
    refund_first_seen: Mapping[str, datetime] = field(default_factory=dict)
    refunded_peaks: Mapping[str, Decimal] = field(default_factory=dict)
    terminal_status: str | None = None
    closed_status: str | None = None
    paid_before_close: frozenset[str] = frozenset()
    first_currency: str | None = None

    @classmethod
    def empty(cls) -> Self:
        """The history of an order never seen."""
        return cls()


EMPTY = History.empty()


def remember(history: History, snapshot: OrderSnapshot, observed_at: datetime) -> History:
    """`history` with `snapshot` folded in; `observed_at` is the first sight of refunds that are new to it."""
    status = canonical_status(snapshot.status)
    closes = is_closed(status)
    paid_before_close = history.paid_before_close
    if history.closed_status is None and not closes:
        paid_before_close |= {payment.payment_id for payment in snapshot.payments if is_paid(payment)}
    return History(
        records=_records(history.records, snapshot),
        refund_first_seen={refund.refund_id: observed_at for refund in snapshot.refunds}
        | dict(history.refund_first_seen),
        refunded_peaks=_peaks(history.refunded_peaks, snapshot),
        terminal_status=status if is_terminal(status) else history.terminal_status,
        closed_status=history.closed_status or (status if closes else None),
        paid_before_close=paid_before_close,
        first_currency=history.first_currency or snapshot.currency or None,
    )


def _shown(snapshot: OrderSnapshot) -> Iterator[tuple[str, RecordKind, Decimal | None]]:
    for payment in snapshot.payments:
        accredited = payment.paid_amount if is_paid(payment) else None
        yield payment.payment_id, "payment", payment.amount if accredited is None else accredited
    for refund in snapshot.refunds:
        yield refund.refund_id, "refund", refund.amount
    for chargeback in snapshot.chargebacks:
        yield chargeback.chargeback_id, "chargeback", chargeback.amount
    for cash_out in snapshot.cash_outs:
        yield cash_out.cash_out_id, "cash_out", cash_out.amount


def _records(known: Mapping[str, Record], snapshot: OrderSnapshot) -> dict[str, Record]:
    records = dict(known)
    for record_id, kind, amount in _shown(snapshot):
        before = records.get(record_id)
        records[record_id] = Record(kind, before.amount if amount is None and before is not None else amount)
    return records


def _peaks(known: Mapping[str, Decimal], snapshot: OrderSnapshot) -> dict[str, Decimal]:
    peaks = dict(known)
    for payment in snapshot.payments:
        if payment.refunded_amount is not None and payment.refunded_amount > peaks.get(payment.payment_id, ZERO):
            peaks[payment.payment_id] = payment.refunded_amount
    return peaks


def to_json(history: History) -> dict[str, object]:
    """A JSON-able form, amounts as decimal strings. Leaves out `refund_first_seen`, which the refunds table keeps."""
    return {
        "records": {
            record_id: {"kind": record.kind, "amount": None if record.amount is None else plain(record.amount)}
            for record_id, record in history.records.items()
        },
        "refunded_peaks": {payment_id: plain(peak) for payment_id, peak in history.refunded_peaks.items()},
        "terminal_status": history.terminal_status,
        "closed_status": history.closed_status,
        "paid_before_close": sorted(history.paid_before_close),
        "first_currency": history.first_currency,
    }


def from_json(data: Mapping[str, object], refund_first_seen: Mapping[str, datetime]) -> History:
    """The history that `to_json` wrote. A missing key is an empty one; an amount that is no number: `ValueError`."""
    paid_before_close = data.get("paid_before_close")
    return History(
        records={key: record for key, value in _mapping(data, "records").items() if (record := _record(value))},
        refund_first_seen=dict(refund_first_seen),
        refunded_peaks={key: parse_amount(value) for key, value in _mapping(data, "refunded_peaks").items()},
        terminal_status=_text(data, "terminal_status"),
        closed_status=_text(data, "closed_status"),
        paid_before_close=frozenset(map(str, paid_before_close))
        if isinstance(paid_before_close, list)
        else frozenset(),
        first_currency=_text(data, "first_currency"),
    )


def _mapping(data: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _text(data: Mapping[str, object], key: str) -> str | None:
    value = data.get(key)
    return value if isinstance(value, str) else None


def _record(value: object) -> Record | None:
    if not isinstance(value, Mapping) or value.get("kind") not in _KINDS:
        return None
    amount = value.get("amount")
    return Record(cast("RecordKind", value["kind"]), None if amount is None else parse_amount(amount))
