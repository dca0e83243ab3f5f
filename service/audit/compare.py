"""Pure: what is stored of an order, field by field, against what the provider answers now.

What the columns should be comes from the rows that an apply would write (`service.sync.rows`), so that one definition
stands on both sides. Compared is everything that comes from the provider: the columns of the order, its payments,
refunds, chargebacks and cash-outs, what is derived from them, and the payload. What is ours alone (versions, stamps,
first sights, the account) is not. Amounts compare by number, times by instant, payloads by content.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal

from service.mercadopago.errors import MercadoPagoError
from service.mercadopago.json_text import NotJson, canonical_hash, parse_json
from service.mercadopago.legacy import with_expiry
from service.mercadopago.payer import order_without_payer, without_payer
from service.mercadopago.reader import ReadOrder, parse_time, read_any
from service.orders.fence import Stamp
from service.orders.look_table import LookTable
from service.orders.looks import next_look
from service.orders.money import parse_amount
from service.sync.changes import decide
from service.sync.payments_overlay import PAYMENT_STATUSES as PAYMENTS_API_STATUSES
from service.sync.rows import order_row, part_rows

Kind = Literal["drift", "stale"]

ORDER_FIELDS: Final = (
    "user_id", "type", "external_reference", "description", "status", "status_detail", "total_amount", "currency",
    "country_code", "paid_amount", "refunded_amount", "is_sale", "created_at", "updated_at", "expires_at",
)  # fmt: skip
PARTS: Final = (
    ("payments", "payment_id"),
    ("refunds", "refund_id"),
    ("chargebacks", "chargeback_id"),
    ("cash_outs", "cash_out_id"),
)
"""The tables of an order's parts, in the order of `part_rows`, each with its id."""

PART_BOOKKEEPING: Final = frozenset({"order_id", "first_seen_at", "vanished_at"})
"""Columns of a part that the provider knows nothing of."""

_SHOWN_PATHS = 5
_MAX_TEXT = 300


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference. `stored` and `provider` are texts for people; None stands for nothing there."""

    field: str
    stored: str | None
    provider: str | None


NOT_SHOWN: Final = Drift("order", "stored", "not shown by the provider")
"""Of an order that the provider should show and does not. Nothing can be written anew from that."""


def row_lost(read: ReadOrder | None) -> Drift:
    """Of an order that was stored and whose row is gone; `read` is what the provider shows, None where nothing."""
    if read is None:
        return Drift("order", None, NOT_SHOWN.provider)
    return Drift("order", None, _part_text({"status": read.snapshot.status, "amount": read.snapshot.total_amount}))


LOOK_FIELD: Final = "sync.due_at"
"""Of an order that nobody would ever look at again."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How an order differs.

    `stale`: what is stored is whole in itself, and the provider's `last_updated_date` is later: it moved on since our
    look. `drift`: anything else, be it that something here was changed, or that we missed something.
    """

    kind: Kind
    drifts: tuple[Drift, ...]


@dataclass(frozen=True, slots=True)
class StoredState:
    """The rows of one order, read at one moment. `order` and the rows of `parts` hold columns by name."""

    order: Mapping[str, Any]
    payload: str
    parts: Mapping[str, Sequence[Mapping[str, Any]]]

    @property
    def order_id(self) -> str:
        """The provider's id."""
        return str(self.order["order_id"])

    @property
    def account(self) -> str:
        """Whose order it is here."""
        return str(self.order["account"])

    @property
    def claimed_at(self) -> datetime:
        """The fence's stamp: moves with every look that was applied."""
        stamp: datetime = self.order["claimed_at"]
        return stamp


def compare(stored: StoredState, read: ReadOrder) -> Difference | None:
    """The difference between what is stored and a fresh answer; None where there is none."""
    content = _content(stored.payload)
    read = _as_applied(read, content, stored)
    drifts = [*_column_drifts(stored, read), *_part_drifts(stored, read)]
    if not drifts and (content is None or canonical_hash(content) != read.payload_hash):
        drifts += _payload_drift(stored.payload, read)
    drifts += _hash_drift(stored, content, read)
    if not drifts:
        return None
    moved_on = _later(read.snapshot.updated_at, stored.order["updated_at"])
    return Difference("stale" if moved_on and not contradictions(stored) else "drift", tuple(drifts))


def contradictions(stored: StoredState) -> tuple[Drift, ...]:
    """Where the stored rows are not what their own payload says: somebody other than an apply has written there.

    `provider` of each is what the payload says. Empty where the rows are whole.
    """
    try:
        read = read_any(stored.payload.encode(), stored.order_id)
    except MercadoPagoError:
        return (Drift("payload", "nothing that can be read", None),)
    drifts = [*_column_drifts(stored, read), *_part_drifts(stored, read)]
    own, here = bytes(stored.order["payload_hash"]), canonical_hash(_content(stored.payload))
    if own != here:
        drifts.append(Drift("payload_hash", own.hex()[:16], here.hex()[:16]))
    return tuple(drifts)


def look_lost(stored: StoredState, read: ReadOrder, now: datetime, table: LookTable) -> Drift | None:
    """Whether nobody would look at the order again by himself, though its row is to be there and its money can move.

    `stored.order` has `has_sync_row`, `look_due_at` and `is_quarantined` beside its own columns. What is quarantined is
    told of elsewhere.
    """
    order = stored.order
    if not order["has_sync_row"]:
        return Drift(LOOK_FIELD, None, "a look: its row is gone")
    if order["look_due_at"] is not None or order["is_quarantined"]:
        return None
    # With the earliest looks that the jitter makes: a look that found none left saw none of these either.
    owed = next_look(
        read.snapshot,
        first_seen_at=order["first_seen_at"],
        changed_at=order["changed_at"],
        now=now,
        refund_first_seen={row["refund_id"]: row["first_seen_at"] for row in stored.parts["refunds"]},
        jitter=-1.0,
        table=table,
    )
    return None if owed is None else Drift(LOOK_FIELD, None, f"a look by {_text(owed)}: its money can still move")


def is_older(stored: StoredState, read: ReadOrder) -> bool:
    """Whether the answer is dated before the stored payload: a replica of the provider's that lags, as a rule.

    The payload's own date counts, whatever became of the column. The column stands in where the payload is not the one
    that was stored and has no date. A date that the fence does not believe is none.
    """
    return _later(Stamp(_own_date(stored), stored.claimed_at).provider_time, read.snapshot.updated_at)


def _own_date(stored: StoredState) -> datetime | None:
    column: datetime | None = stored.order["updated_at"]
    try:
        read = read_any(stored.payload.encode(), stored.order_id)
    except MercadoPagoError:
        return column
    is_ours = stored.order["payload_hash"] == canonical_hash(_content(stored.payload))
    return read.snapshot.updated_at or (None if is_ours else column)


def compare_payment(payment: Mapping[str, Any], document: Mapping[str, object]) -> list[Drift]:
    """A stored payment that was paid against the same payment's record in the Payments API.

    Only what that record tells of an order's payment: its status, `transaction_amount` and
    `transaction_amount_refunded`. The amount may be what was asked for or what the buyer paid (discounts, tips). A
    status that says nothing of money (pending, authorized, …) is no difference, just as a look leaves it alone.
    """
    name = f"payments[{payment['payment_id']}]"
    drifts = []
    status = document.get("status")
    if PAYMENTS_API_STATUSES.get(str(status), payment["status"]) != payment["status"]:
        drifts.append(Drift(f"{name}.status", _text(payment["status"]), _text(status)))
    amount = _amount(document.get("transaction_amount"))
    if amount is not None and amount not in {payment["amount"], payment["paid_amount"]}:
        drifts.append(Drift(f"{name}.amount", _text(payment["amount"]), _text(amount)))
    refunded = _amount(document.get("transaction_amount_refunded"))
    if refunded is not None and refunded != (payment["refunded_amount"] or Decimal(0)):
        drifts.append(Drift(f"{name}.refunded_amount", _text(payment["refunded_amount"]), _text(refunded)))
    return drifts


def _column_drifts(stored: StoredState, read: ReadOrder) -> Iterator[Drift]:
    should = _order_row(stored, read)
    for name in ORDER_FIELDS:
        if stored.order[name] != should[name]:
            yield Drift(name, _text(stored.order[name]), _text(should[name]))


def _order_row(stored: StoredState, read: ReadOrder) -> dict[str, object]:
    """The `orders` row that applying this answer to nothing would write."""
    at = stored.claimed_at
    applied = decide(read, account=stored.account, claimed_at=at, stored=None, now=at)
    return order_row(
        applied, payload_hash=read.payload_hash, altered=read.altered, cause="verify", notification_id=None
    )


def _part_drifts(stored: StoredState, read: ReadOrder) -> Iterator[Drift]:
    for (table, id_column), rows in zip(PARTS, part_rows([read.snapshot]), strict=True):
        shown = {str(row[id_column]): row for row in rows}
        here = {str(row[id_column]): row for row in stored.parts[table]}
        for part_id in sorted(shown.keys() | here.keys()):
            yield from _one_part(f"{table}[{part_id}]", here.get(part_id), shown.get(part_id))


def _one_part(name: str, here: Mapping[str, Any] | None, shown: Mapping[str, Any] | None) -> Iterator[Drift]:
    if shown is None:
        # A record that the provider once showed and shows no more stays, marked: that is as it should be.
        if here is not None and here["vanished_at"] is None:
            yield Drift(name, _part_text(here), None)
    elif here is None:
        yield Drift(name, None, _part_text(shown))
    elif here["vanished_at"] is not None:
        yield Drift(name, "vanished", _part_text(shown))
    else:
        for column, value in here.items():
            if column not in PART_BOOKKEEPING and column in shown and value != shown[column]:
                yield Drift(f"{name}.{column}", _text(value), _text(shown[column]))


def _part_text(part: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (_text(part.get("status")), _text(part.get("amount"))))) or "present"


def _as_applied(read: ReadOrder, content: object, stored: StoredState) -> ReadOrder:
    """A legacy sale's answer with the expiry that our own look put into the payload: the provider does not tell it."""
    expiry = content.get("expiry") if isinstance(content, dict) else None
    at = parse_time(expiry.get("at")) if isinstance(expiry, dict) else None
    return read if at is None else with_expiry(read, at, stored.claimed_at)


def _payload_drift(payload: str, read: ReadOrder) -> Iterator[Drift]:
    """The payload alone differs: says where, and never what, because it may hold a card's or a person's data.

    Payers are left out of the comparison: whether they are kept is this installation's policy, and they may be erased.
    """
    fresh = without_payer(parse_json(read.text.encode())).value
    try:
        here = without_payer(parse_json(payload.encode())).value
    except NotJson:
        here = None
    paths = list(_paths(here, fresh, ""))
    if paths:
        more = len(paths) - _SHOWN_PATHS
        where = ", ".join(paths[:_SHOWN_PATHS]) + (f" and {more} more" if more > 0 else "")
        yield Drift("payload", f"sha256 {_short(here)}", f"sha256 {_short(fresh)}, differs at {where}")


def _paths(here: object, there: object, path: str) -> Iterator[str]:
    if isinstance(here, dict) and isinstance(there, dict):
        for name in sorted(here.keys() | there.keys()):
            below = f"{path}.{name}" if path else str(name)
            if name in here and name in there:
                yield from _paths(here[name], there[name], below)
            else:
                yield below[:_MAX_TEXT]
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for index, (one, other) in enumerate(zip(here, there, strict=True)):
            yield from _paths(one, other, f"{path}[{index}]")
    elif canonical_hash(here) != canonical_hash(there):
        yield (path or "the whole document")[:_MAX_TEXT]


def _hash_drift(stored: StoredState, content: object, read: ReadOrder) -> Iterator[Drift]:
    """What tells later looks whether anything changed: wrong, it would hide a change or invent one.

    Told only where the contents are the same: else the difference itself is told, and the hash may be right for what
    was there before. A payer that is kept on one side alone makes no difference, so either hash is right.
    """
    if not _same_but_payer(stored, read):
        return
    own = stored.order["payload_hash"]
    if own not in {read.payload_hash, canonical_hash(content), order_without_payer(read).payload_hash}:
        yield Drift("payload_hash", bytes(own).hex()[:16], read.payload_hash.hex()[:16])
    if stored.order["payload_altered"] != read.altered:
        yield Drift("payload_altered", _text(stored.order["payload_altered"]), _text(read.altered))


def _same_but_payer(stored: StoredState, read: ReadOrder) -> bool:
    try:
        here = without_payer(parse_json(stored.payload.encode())).value
    except NotJson:
        return False
    return canonical_hash(here) == order_without_payer(read).payload_hash


def _content(payload: str) -> object:
    """The stored payload's value; None where it is nothing that we would have stored."""
    try:
        return parse_json(payload.encode()).value
    except NotJson:
        return None


def _later(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and one > other


def _short(value: object) -> str:
    return canonical_hash(value).hex()[:8]


def _amount(value: object) -> Decimal | None:
    try:
        return None if value is None else parse_amount(value)
    except ValueError:
        return None


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        # A time at the calendar's end has no other zone to be shown in.
        moment = value if value.tzinfo in {None, UTC} else value.astimezone(UTC)
        return moment.isoformat().replace("+00:00", "Z")
    return str(value)[:_MAX_TEXT]
