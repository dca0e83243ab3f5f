"""What committed changes add to metrics and log: one line per applied change, counters for the rest."""

from datetime import UTC, datetime

import structlog

from service.sync.apply import Outcome
from service.sync.changes import Applied, DiscrepancyChange
from service.telemetry import metrics

log = structlog.get_logger(__name__)


def report(outcome: Outcome) -> None:
    """Called once per look, after its commit."""
    claim, applied = outcome.look.claim, outcome.applied
    for change in outcome.discrepancies:
        report_discrepancy(change)
    if not outcome.settled:
        log.warning("lease_lost", order_id=claim.order_id, advice="another worker serves this order now")
    if applied is not None and applied.outcome == "applied":
        _count(applied)
        log.info(
            "order_changed",
            order_id=claim.order_id,
            account=applied.account,
            version=applied.version,
            cause=claim.cause,
            notification_id=claim.notification_id,
            type=applied.snapshot.type,
            from_status=applied.stored.status if applied.stored else None,
            to_status=applied.snapshot.status,
            status_detail=applied.snapshot.status_detail,
        )
    if outcome.settlement.quarantine_reason is not None and not claim.quarantined:
        log.warning(
            "order_quarantined",
            order_id=claim.order_id,
            account=claim.account,
            reason=outcome.settlement.quarantine_reason,
            notification_id=claim.notification_id,
            detail=outcome.settlement.detail,
            advice=f"look with: cuadre quarantine; try again with: cuadre sync {claim.order_id}",
        )


def report_discrepancy(change: DiscrepancyChange) -> None:
    """Opened and resolved discrepancies are counted and said; refreshed ones are neither."""
    if change.change == "refreshed":
        return
    finding = change.finding
    metrics.discrepancies_total.labels(finding.rule, change.change).inc()
    log.info(
        f"discrepancy_{change.change}",
        order_id=change.order_id,
        account=change.account,
        rule=finding.rule,
        subject_id=finding.subject_id,
        severity=finding.severity,
        amount_at_stake=None if finding.amount_at_stake is None else str(finding.amount_at_stake),
        currency=finding.currency,
    )


def _count(applied: Applied) -> None:
    snapshot, stored = applied.snapshot, applied.stored
    before = stored.status if stored else None
    if stored is None or before != snapshot.status:
        metrics.order_transitions_total.labels(
            metrics.bounded(snapshot.type, metrics.KNOWN_TYPES),
            "new" if stored is None else metrics.bounded(before, metrics.KNOWN_STATUSES),
            metrics.bounded(snapshot.status, metrics.KNOWN_STATUSES),
        ).inc()
    if stored is not None and before != snapshot.status and snapshot.updated_at and stored.stamp.updated_at:
        spent = (snapshot.updated_at - stored.stamp.updated_at).total_seconds()
        metrics.order_stage_seconds.labels(metrics.bounded(before, metrics.KNOWN_STATUSES)).observe(max(0.0, spent))
    if snapshot.updated_at is not None:
        metrics.freshness_seconds.observe(max(0.0, (datetime.now(UTC) - snapshot.updated_at).total_seconds()))
    currency = metrics.label_currency(snapshot.currency)
    paid = applied.paid_amount - (stored.paid_amount if stored else 0)
    refunded = applied.refunded_amount - (stored.refunded_amount if stored else 0)
    # Counters only rise: money that an answer takes back is a discrepancy, not a negative sale.
    if paid > 0:
        metrics.paid_amount_total.labels(currency).inc(float(paid))
    if refunded > 0:
        metrics.refunded_amount_total.labels(currency).inc(float(refunded))
