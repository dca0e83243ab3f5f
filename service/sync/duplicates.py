"""`duplicate_sale`, the one rule that looks across orders: two paid orders of one account share a reference.

Runs inside the applying transaction, under the advisory lock of each reference it looks at, so that two orders of one
reference applied at the same moment by two processes still find each other. Normally it reads two rows per reference;
the whole group is read only when its earliest sale has changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from asyncpg import Record

from service.orders.duplicates import Sale, find_duplicates
from service.orders.rules import DUPLICATE_SALE, Finding
from service.sync.changes import NOTHING_LEFT, Applied, DiscrepancyChange, OpenDiscrepancy, discrepancy_changes
from service.sync.claims import QUERIES

Reference = tuple[str, str]


def references_touched(applied: Iterable[Applied]) -> dict[Reference, set[str]]:
    """The references whose sales may have changed, each with the orders of this batch that did it."""
    touched: dict[Reference, set[str]] = {}
    for one in applied:
        stored = one.stored
        if one.outcome == "older":
            continue
        now = _reference(one)
        before = (stored.account, stored.external_reference) if stored is not None and stored.is_sale else None
        if one.left != NOTHING_LEFT:
            # Its row is lost, and with it whether it was a sale: what stands on it is judged as if it had been.
            before = (one.account, one.snapshot.external_reference)
        if now == before and one.outcome == "unchanged":
            continue
        for reference in (now, before):
            if reference is not None and reference[1]:
                touched.setdefault((reference[0], reference[1]), set()).add(one.snapshot.order_id)
    return touched


def _reference(one: Applied) -> tuple[str, str | None] | None:
    """The reference that this order counts as a sale of now."""
    return (one.account, one.snapshot.external_reference) if one.is_sale else None


async def duplicate_changes(connection: Any, applied: Sequence[Applied]) -> list[DiscrepancyChange]:
    """What `duplicate_sale` opens, refreshes and resolves, on orders of this batch and on their namesakes."""
    touched = references_touched(applied)
    if not touched:
        return []
    keys = sorted(touched)
    ids = sorted({order_id for batch in touched.values() for order_id in batch})
    rows = await connection.fetch(QUERIES.read_sale_heads, [key[0] for key in keys], [key[1] for key in keys], ids)
    heads: dict[Reference, list[Sale]] = {key: [] for key in keys}
    for row in rows:
        if row["kind"] == "sale":
            heads[row["account"], row["external_reference"]].append(_sale(row))
    standing = [_open(row) for row in rows if row["kind"] == "open"]
    here = {one.snapshot.order_id: one for one in applied}
    findings: dict[str, Finding] = {}
    judged: dict[str, str] = {}
    known = {one.id: one for one in standing}
    for key in keys:
        sales, affected = heads[key], set(touched[key])
        if _earliest_changed(sales, affected, standing):
            sales = [_sale(row) for row in await connection.fetch(QUERIES.read_sale_group, *key)]
            affected |= {sale.order_id for sale in sales}
            rows = await connection.fetch(QUERIES.read_duplicates_open, sorted(affected))
            known |= {one.id: one for one in map(_open, rows)}
            affected |= {one.order_id for one in known.values() if one.finding.subject_id in affected}
        else:
            mine = [_sale_of(here[order_id]) for order_id in sorted(affected) if _reference(here[order_id]) == key]
            sales = list({sale.order_id: sale for sale in [*sales, *mine]}.values())
        duplicates: Mapping[str, Finding] = find_duplicates(key[1], sales) if sales else {}
        findings |= {order_id: finding for order_id, finding in duplicates.items() if order_id in affected}
        judged |= dict.fromkeys(affected, key[0])
    # Compared once, after all groups: an order whose reference changed is judged in its old and in its new one.
    changes = []
    for order_id, account in sorted(judged.items()):
        found = [findings[order_id]] if order_id in findings else []
        open_here = [one for one in known.values() if one.order_id == order_id]
        changes.extend(discrepancy_changes(order_id, account, found, open_here))
    return changes


async def duplicates_standing(connection: Any, judged: Sequence[Applied]) -> list[DiscrepancyChange]:
    """What `duplicate_sale` would open, refresh and resolve on these stored orders, and on no others.

    For whoever judges every stored order, so that each namesake has its own turn. The caller holds the locks of the
    orders and of their references.
    """
    keys = sorted({(one.account, reference) for one in judged if (reference := one.snapshot.external_reference)})
    rows = await connection.fetch(QUERIES.read_sale_heads, [key[0] for key in keys], [key[1] for key in keys], [])
    sales: dict[Reference, dict[str, Sale]] = {key: {} for key in keys}
    for row in rows:
        if row["kind"] == "sale":
            sales[row["account"], row["external_reference"]][row["order_id"]] = _sale(row)
    for one in judged:
        if (key := _named(_reference(one))) is not None:
            sales[key][one.snapshot.order_id] = _sale_of(one)
    findings: dict[str, Finding] = {}
    for (_, external_reference), group in sales.items():
        findings |= find_duplicates(external_reference, list(group.values()))
    changes = []
    for one in judged:
        order_id = one.snapshot.order_id
        found = [findings[order_id]] if order_id in findings else []
        open_here = one.stored.open_discrepancies if one.stored else ()
        standing = [row for row in open_here if row.finding.rule == DUPLICATE_SALE]
        changes.extend(discrepancy_changes(order_id, one.account, found, standing))
    return changes


def _named(reference: tuple[str, str | None] | None) -> Reference | None:
    """The reference, unless it is none or empty: such sales have no namesakes."""
    return None if reference is None or not reference[1] else (reference[0], reference[1])


def _earliest_changed(heads: Sequence[Sale], affected: set[str], standing: Sequence[OpenDiscrepancy]) -> bool:
    """Whether other orders of the group may name an earliest sale that is no longer the earliest."""
    earliest = heads[0].order_id if heads else None
    if any(one.finding.subject_id in affected and one.finding.subject_id != earliest for one in standing):
        return True
    if any(one.order_id == earliest for one in standing):
        return True
    if len(heads) < 2:
        return False
    second = heads[1].order_id
    if second in affected:
        # With both heads new or changed, the one that was earliest before stands further back, unseen.
        return earliest in affected
    return not any(one.order_id == second and one.finding.subject_id == earliest for one in standing)


def _sale(row: Record) -> Sale:
    return Sale(row["order_id"], row["created_at"], Decimal(row["amount"]), row["currency"])


def _sale_of(one: Applied) -> Sale:
    snapshot = one.snapshot
    return Sale(snapshot.order_id, snapshot.created_at, one.paid_amount - one.refunded_amount, snapshot.currency)


def _open(row: Record) -> OpenDiscrepancy:
    return OpenDiscrepancy(
        id=row["id"],
        order_id=row["order_id"],
        account=row["account"],
        finding=Finding(
            rule=DUPLICATE_SALE,
            subject_id=row["subject_id"],
            severity=row["severity"],
            amount_at_stake=row["amount"],
            currency=row["currency"],
            expected=row["expected"],
            actual=row["actual"],
            explanation=row["explanation"],
        ),
    )
