"""Pure: whether what is stored equals the provider's books, and whether exactly what was planted was found.

The sums are computed here from the provider's bodies, by other code than the service's.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any

from service.cli.demo.plan import Json
from service.cli.demo.provider import LedgerOrder
from service.cli.demo.stored import Discrepancy, Row, StoredOrder

MONEY_MOVED = frozenset({"processed", "refunded", "charged_back"})


class Verdict(Enum):
    """How an order at the provider compares with what is stored."""

    EQUAL = "equal"
    DIFFERING = "differing"
    UNANNOUNCED = "unannounced"  # no notification of it ever got through, so nobody here can know of it


def canonical(value: Any) -> str:
    """One text for equal JSON: keys sorted, numbers by value. A number and a text of the same signs stay different."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return {"number": format(Decimal(value).normalize(), "f")}
    return value


def differences(body: Json, stored: StoredOrder | None) -> list[str]:
    """The names of what differs; empty when an order is stored as the provider has it."""
    if stored is None:
        return ["not stored"]
    pairs = {
        "payload": (canonical(body), canonical(stored.payload)),
        "type": (body.get("type"), stored.type),
        "status": (body.get("status"), stored.status),
        "status_detail": (body.get("status_detail"), stored.status_detail),
        "external_reference": (body.get("external_reference"), stored.external_reference),
        "total_amount": (_amount(body.get("total_amount")), stored.total_amount),
        "paid_amount": (paid_sum(body), stored.paid_amount),
        "refunded_amount": (refunded_sum(body), stored.refunded_amount),
        "payments": (payment_rows(body), stored.payments),
        "refunds": (refund_rows(body), stored.refunds),
    }
    return [name for name, (provider, here) in pairs.items() if provider != here]


def paid_sum(body: Json) -> Decimal:
    """What buyers paid: `paid_amount`, else `amount`, of payments whose status says that money moved."""
    return sum(
        (
            _amount(payment.get("paid_amount", payment.get("amount"))) or Decimal(0)
            for payment in _records(body, "payments")
            if payment.get("status") in MONEY_MOVED
        ),
        Decimal(0),
    )


def refunded_sum(body: Json) -> Decimal:
    """What was given back: the refunds that are processed."""
    return sum(
        (
            _amount(refund.get("amount")) or Decimal(0)
            for refund in _records(body, "refunds")
            if refund.get("status") == "processed"
        ),
        Decimal(0),
    )


def payment_rows(body: Json) -> frozenset[Row]:
    """The payments as `StoredOrder.payments` has them."""
    amounts = ("amount", "paid_amount", "refunded_amount")
    return frozenset(
        (one.get("id"), one.get("status"), *(_amount(one.get(name)) for name in amounts))
        for one in _records(body, "payments")
    )


def refund_rows(body: Json) -> frozenset[Row]:
    """The refunds as `StoredOrder.refunds` has them."""
    return frozenset(
        (one.get("id"), one.get("transaction_id"), one.get("status"), _amount(one.get("amount")))
        for one in _records(body, "refunds")
    )


def _records(body: Json, kind: str) -> list[Json]:
    return list((body.get("transactions") or {}).get(kind) or ())


def _amount(value: object) -> Decimal | None:
    try:
        return None if value is None else Decimal(str(value))
    except InvalidOperation:
        return None


@dataclass(slots=True)
class Line:
    """Orders of one type and status, counted."""

    at_provider: int = 0
    stored: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class OrderComparison:
    """The provider's books against ours. `unknown_here` are stored orders that the provider does not have."""

    lines: Mapping[tuple[str, str], Line]
    differing: Mapping[str, list[str]]
    unannounced: frozenset[str]
    invented: frozenset[str]

    @property
    def holds(self) -> bool:
        """Nothing differs, nothing was invented, and something was compared at all."""
        return not self.differing and not self.invented and self.total(Verdict.EQUAL) > 0

    def total(self, verdict: Verdict) -> int:
        """How many orders there are of one verdict."""
        return sum(line.verdicts[verdict] for line in self.lines.values())


def compare_orders(ledger: Mapping[str, LedgerOrder], stored: Mapping[str, StoredOrder]) -> OrderComparison:
    """Every order at the provider with what is stored of it."""
    lines: dict[tuple[str, str], Line] = {}
    differing: dict[str, list[str]] = {}
    unannounced = set()
    for order in ledger.values():
        here = stored.get(order.order_id)
        line = lines.setdefault((str(order.body.get("type")), str(order.body.get("status"))), Line())
        line.at_provider += 1
        line.stored += here is not None
        if here is None and not order.delivered:
            verdict = Verdict.UNANNOUNCED
            unannounced.add(order.order_id)
        elif names := differences(order.body, here):
            verdict = Verdict.DIFFERING
            differing[order.order_id] = names
        else:
            verdict = Verdict.EQUAL
        line.verdicts[verdict] += 1
    return OrderComparison(
        dict(sorted(lines.items())), differing, frozenset(unannounced), frozenset(stored.keys() - ledger.keys())
    )


Key = tuple[str, str, str]
"""Order, rule, subject."""


@dataclass(frozen=True, slots=True)
class DiscrepancyComparison:
    """What was planted against what is open; and what had to be resolved against what was."""

    planted: frozenset[Key]
    found: frozenset[Key]
    unresolved: frozenset[Key]
    explanations: Mapping[Key, str]

    @property
    def missing(self) -> frozenset[Key]:
        """Planted and not open."""
        return self.planted - self.found

    @property
    def unexpected(self) -> frozenset[Key]:
        """Open and not planted."""
        return self.found - self.planted

    @property
    def holds(self) -> bool:
        """Exactly what was planted is open, and what had to be resolved was."""
        return not self.missing and not self.unexpected and not self.unresolved

    def by_rule(self) -> dict[str, tuple[int, int, int, int]]:
        """Planted, found of these, missing, unexpected; for every rule that occurs."""
        rules = sorted({rule for _, rule, _ in self.planted | self.found})
        counted = [
            Counter(rule for _, rule, _ in keys)
            for keys in (self.planted, self.planted & self.found, self.missing, self.unexpected)
        ]
        return {rule: (counted[0][rule], counted[1][rule], counted[2][rule], counted[3][rule]) for rule in rules}


def compare_discrepancies(
    planted: Collection[Key], to_resolve: Collection[Key], rows: Iterable[Discrepancy]
) -> DiscrepancyComparison:
    """`to_resolve` must have been opened and closed again."""
    rows = list(rows)
    keys = {(row.order_id, row.rule, row.subject_id): row for row in rows if not row.resolved}
    resolved = {(row.order_id, row.rule, row.subject_id) for row in rows if row.resolved}
    return DiscrepancyComparison(
        planted=frozenset(planted),
        found=frozenset(keys),
        unresolved=frozenset(key for key in to_resolve if key not in resolved or key in keys),
        explanations={key: row.explanation for key, row in keys.items()},
    )
