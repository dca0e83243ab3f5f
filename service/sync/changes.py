"""Pure: from what is stored and what was read to what changes. Decides; writes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypedDict

from service.mercadopago.reader import ReadOrder
from service.orders.asked import AskedCommand
from service.orders.fence import Stamp, supersedes
from service.orders.history import EMPTY, History, remember
from service.orders.lifecycle import is_sale, paid_total, refunded_total
from service.orders.rules import JUDGED_ELSEWHERE, Finding, evaluate, rules_due_at
from service.orders.snapshot import OrderSnapshot
from service.sync.payments_overlay import under_their_own_names
from service.sync.policies import RefundPolicy, no_policy


@dataclass(frozen=True, slots=True)
class OpenDiscrepancy:
    """A discrepancy row that is open now."""

    id: int
    order_id: str
    account: str
    finding: Finding


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """What the database holds of an order, as far as the next decision needs it."""

    order_id: str
    account: str
    type: str | None
    external_reference: str | None
    status: str | None
    status_detail: str | None
    currency: str | None
    paid_amount: Decimal
    refunded_amount: Decimal
    is_sale: bool
    stamp: Stamp
    payload_hash: bytes
    history: History
    version: int
    first_seen_at: datetime
    changed_at: datetime
    rules_due_at: datetime | None = None
    open_discrepancies: tuple[OpenDiscrepancy, ...] = ()
    # Where payments were laid over the order's last document: that document's own time.
    document_stamp: Stamp | None = None


@dataclass(frozen=True, slots=True)
class LeftOver:
    """What is there of an order that is not stored: nothing, unless it was stored and its row is lost.

    `last_version` is the last version's number; `history` is what the versions tell that are left.
    """

    last_version: int = 0
    history: History = EMPTY
    open_discrepancies: tuple[OpenDiscrepancy, ...] = ()


NOTHING_LEFT = LeftOver()


@dataclass(frozen=True, slots=True)
class Applied:
    """The decision about one snapshot. `outcome`: `applied` (a new version), `unchanged`, `older` (fenced off)."""

    outcome: str
    account: str
    snapshot: OrderSnapshot
    stamp: Stamp
    history: History
    version: int
    stored: StoredOrder | None
    findings: tuple[Finding, ...] = ()
    rules_due_at: datetime | None = None
    paid_amount: Decimal = Decimal(0)
    refunded_amount: Decimal = Decimal(0)
    is_sale: bool = False
    left: LeftOver = NOTHING_LEFT


@dataclass(frozen=True, slots=True)
class DiscrepancyChange:
    """`change` is `opened`, `refreshed` or `resolved`; `id` is None for one that opens."""

    change: str
    id: int | None
    order_id: str
    account: str
    finding: Finding


def decide(
    read: ReadOrder,
    *,
    account: str,
    claimed_at: datetime,
    stored: StoredOrder | None,
    now: datetime,
    commands: Sequence[AskedCommand] = (),
    refunds_only_here_since: RefundPolicy = no_policy,
    laid_over: bytes | None = None,
    left: LeftOver = NOTHING_LEFT,
) -> Applied:
    """Whether this answer replaces what is stored (invariant I3), and what the rules say of it (I5).

    `commands` are all that was asked here of the order. `laid_over`: the answer is the stored document of this
    hash with the order's payments laid over it. `left`: what there is of an order that is not stored.
    """
    snapshot = read.snapshot
    stamp = Stamp(snapshot.updated_at, claimed_at)
    if stored is not None and not _replaces(stamp, stored, laid_over):
        return Applied("older", stored.account, snapshot, stored.stamp, stored.history, stored.version, stored)
    known = (stored or left).history
    history = remember(known if laid_over is not None else under_their_own_names(known, snapshot), snapshot, now)
    changed = stored is None or stored.payload_hash != read.payload_hash
    # A stored order stays with the account that it was first read for.
    owner = stored.account if stored else account
    return Applied(
        outcome="applied" if changed else "unchanged",
        account=owner,
        snapshot=snapshot,
        stamp=stamp,
        history=history,
        version=(stored.version if stored else left.last_version) + (1 if changed else 0),
        stored=stored,
        left=left,
        **_judgement(snapshot, history, now, commands, refunds_only_here_since(owner)),
    )


def _replaces(stamp: Stamp, stored: StoredOrder, laid_over: bytes | None) -> bool:
    if laid_over is not None:
        # What it was laid over is what is stored still, or there is something newer.
        return laid_over == stored.payload_hash and supersedes(stamp, stored.stamp)
    document = stored.document_stamp
    shown = stamp.provider_time
    shown_last = None if document is None else document.provider_time
    if shown is None or shown_last is None or stored.stamp.provider_time is None:
        return supersedes(stamp, stored.stamp)
    # An order that is shown again. Its payments' dates are not its own: it is compared with its own last document, and
    # that one anew tells nothing that the payments did not.
    return shown > shown_last and stamp.claimed_at > stored.stamp.claimed_at


def judge_again(
    snapshot: OrderSnapshot,
    stored: StoredOrder,
    now: datetime,
    *,
    commands: Sequence[AskedCommand] = (),
    refunds_only_here_since: RefundPolicy = no_policy,
) -> Applied:
    """The rules over what is stored already: time has passed, or somebody wants to be sure of them."""
    return Applied(
        outcome="unchanged",
        account=stored.account,
        snapshot=snapshot,
        stamp=stored.stamp,
        history=stored.history,
        version=stored.version,
        stored=stored,
        **_judgement(snapshot, stored.history, now, commands, refunds_only_here_since(stored.account)),
    )


class _Judgement(TypedDict):
    findings: tuple[Finding, ...]
    rules_due_at: datetime | None
    paid_amount: Decimal
    refunded_amount: Decimal
    is_sale: bool


def _judgement(
    snapshot: OrderSnapshot,
    history: History,
    now: datetime,
    commands: Sequence[AskedCommand],
    refunds_only_here_since: datetime | None,
) -> _Judgement:
    return {
        "findings": evaluate(snapshot, history, now, commands, refunds_only_here_since),
        "rules_due_at": rules_due_at(snapshot, history, now, commands),
        "paid_amount": paid_total(snapshot),
        "refunded_amount": refunded_total(snapshot),
        "is_sale": is_sale(snapshot),
    }


def discrepancy_changes(
    order_id: str, account: str, findings: Iterable[Finding], open_now: Iterable[OpenDiscrepancy]
) -> list[DiscrepancyChange]:
    """What opens, is refreshed and resolves so that the open ones are exactly the findings (invariant I5)."""
    standing: Mapping[tuple[str, str], OpenDiscrepancy] = {
        (one.finding.rule, one.finding.subject_id): one for one in open_now
    }
    found = {(finding.rule, finding.subject_id): finding for finding in findings}
    changes = []
    for key, finding in found.items():
        before = standing.get(key)
        if before is None:
            changes.append(DiscrepancyChange("opened", None, order_id, account, finding))
        elif before.finding != finding:
            changes.append(DiscrepancyChange("refreshed", before.id, order_id, account, finding))
    changes.extend(
        DiscrepancyChange("resolved", before.id, order_id, account, before.finding)
        for key, before in standing.items()
        if key not in found
    )
    return changes


def changes_within(applied: Sequence[Applied]) -> list[DiscrepancyChange]:
    """Every rule that `evaluate` judges; discrepancies of the others stand as they are."""
    changes = []
    for one in applied:
        if one.outcome == "older":
            continue
        open_now = (one.stored or one.left).open_discrepancies
        changes.extend(
            discrepancy_changes(
                one.snapshot.order_id,
                one.account,
                one.findings,
                [standing for standing in open_now if standing.finding.rule not in JUDGED_ELSEWHERE],
            )
        )
    return changes
