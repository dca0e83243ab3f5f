"""Every metric of the service, by the names that dashboards and alert rules build on.

Counters and histograms are counted in memory where things happen. Gauges that need SQL are refreshed by one elected
process (`DATABASE_GAUGES`) and absent elsewhere, so that sums over replicas are right. No label ever holds an id;
label values that come from outside go through `bounded`.
"""

from collections.abc import Container

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 86400.0)
_STAGE_SECONDS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 86400.0, 604800.0)

build_info = Gauge("cuadre_build_info", "Always 1; the version runs in the label.", ["version"], registry=REGISTRY)

# Intake
notifications_total = Counter(
    "cuadre_notifications_total",
    "Notifications by what became of them: recorded, copy, unverified, refused, malformed, oversized, "
    "unknown_account, unavailable.",
    ["topic", "outcome"],
    registry=REGISTRY,
)
signature_checks_total = Counter(
    "cuadre_signature_checks_total",
    "Signature checks by result (valid, mismatch, missing, malformed, not_checked) and the manifest that matched.",
    ["result", "manifest"],
    registry=REGISTRY,
)
notification_seconds = Histogram(
    "cuadre_notification_seconds", "From receipt of a notification to its answer.", buckets=_SECONDS, registry=REGISTRY
)

# Sync
sync_seconds = Histogram(
    "cuadre_sync_seconds",
    "Seconds an order spent waiting after it fell due, being fetched, being applied.",
    ["stage"],
    buckets=_LONG_SECONDS,
    registry=REGISTRY,
)
freshness_seconds = Histogram(
    "cuadre_freshness_seconds",
    "From the provider's time of a change to the change being stored here.",
    buckets=_LONG_SECONDS,
    registry=REGISTRY,
)
order_transitions_total = Counter(
    "cuadre_order_transitions_total", "Status changes applied.", ["type", "from", "to"], registry=REGISTRY
)
order_stage_seconds = Histogram(
    "cuadre_order_stage_seconds",
    "Provider's time an order spent in the status it left (the stage).",
    ["stage"],
    buckets=_STAGE_SECONDS,
    registry=REGISTRY,
)
paid_amount_total = Counter(
    "cuadre_paid_amount_total", "Money seen paid, in units of the currency.", ["currency"], registry=REGISTRY
)
refunded_amount_total = Counter(
    "cuadre_refunded_amount_total", "Money seen refunded, in units of the currency.", ["currency"], registry=REGISTRY
)
discrepancies_total = Counter(
    "cuadre_discrepancies_total", "Discrepancies opened and resolved.", ["rule", "change"], registry=REGISTRY
)

# Calls to Mercado Pago
api_requests_total = Counter(
    "cuadre_api_requests_total", "Calls to Mercado Pago by outcome.", ["operation", "outcome"], registry=REGISTRY
)
api_request_seconds = Histogram(
    "cuadre_api_request_seconds",
    "Seconds a call to Mercado Pago took.",
    ["operation"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
api_paused = Gauge(
    "cuadre_api_paused",
    "1 while this process sends nothing but probes for an account (outage, refused token, rate limit).",
    ["account"],
    registry=REGISTRY,
)

# The order desk
commands_total = Counter(
    "cuadre_commands_total",
    "Commands by what became of them: done, refused, withdrawn; unknown counts each time an outcome became unknown.",
    ["kind", "outcome"],
    registry=REGISTRY,
)
command_seconds = Histogram(
    "cuadre_command_seconds",
    "From the moment a command was asked to the moment it was settled.",
    ["kind"],
    buckets=_LONG_SECONDS,
    registry=REGISTRY,
)

# The audit
sweep_orders_total = Counter(
    "cuadre_sweep_orders_total",
    "Orders in the provider's list, by what was known of them here: known, unknown, stale; foreign: no order's id.",
    ["found"],
    registry=REGISTRY,
)

# This process
http_requests_total = Counter(
    "cuadre_http_requests_total", "Requests served by us.", ["app", "route", "status"], registry=REGISTRY
)
flush_size = Histogram(
    "cuadre_flush_size", "Items per committed batch.", ["batch"], buckets=(1, 2, 4, 8, 12, 16), registry=REGISTRY
)
db_pool_connections = Gauge(
    "cuadre_db_pool_connections", "Database connections of this process.", ["state"], registry=REGISTRY
)
event_loop_lag_seconds = Gauge(
    "cuadre_event_loop_lag_seconds", "How late the event loop woke up, last measured.", registry=REGISTRY
)

# Gauges read from the database. Registered only in the elected process: see `DATABASE_GAUGES`.
# What only unverified notifications speak of is a stranger until a read shows it: counted apart, anybody can send them.
orders_due = Gauge("cuadre_orders_due", "Known orders whose look is due now.", registry=None)
oldest_due_seconds = Gauge(
    "cuadre_oldest_due_seconds", "How long the longest waiting known order waits for its due look.", registry=None
)
strangers_due = Gauge("cuadre_strangers_due", "Orders that only unverified notifications name, due now.", registry=None)
oldest_stranger_due_seconds = Gauge(
    "cuadre_oldest_stranger_due_seconds",
    "How long the longest waiting order waits that only unverified notifications name.",
    registry=None,
)
orders_of_nobody = Gauge(
    "cuadre_orders_of_nobody", "Known orders whose look is due and whose account is not configured.", registry=None
)
orders_quarantined = Gauge("cuadre_orders_quarantined", "Orders in quarantine.", registry=None)
strangers_quarantined = Gauge(
    "cuadre_strangers_quarantined",
    "Of the orders in quarantine, those that only unverified notifications name and the provider does not know.",
    registry=None,
)
orders = Gauge("cuadre_orders", "Stored orders.", ["type", "status"], registry=None)
discrepancies_open = Gauge("cuadre_discrepancies_open", "Open discrepancies.", ["rule"], registry=None)
default_partition_rows = Gauge(
    "cuadre_default_partition_rows",
    "1 where a table's default partition holds rows, which means that months were not made ahead.",
    ["table"],
    registry=None,
)

commands_open = Gauge(
    "cuadre_commands_open", "Commands whose outcome is not settled.", ["kind", "status"], registry=None
)
oldest_command_seconds = Gauge(
    "cuadre_oldest_command_seconds", "How long the longest unsettled command waits.", registry=None
)
complete_until_timestamp_seconds = Gauge(
    "cuadre_complete_until_timestamp_seconds",
    "Up to when every order that the provider lists is known to be stored, as Unix time.",
    ["account"],
    registry=None,
)
completeness_blocked = Gauge(
    "cuadre_completeness_blocked", "1 while the certificate of completeness cannot move.", ["account"], registry=None
)
completeness_blind_types = Gauge(
    "cuadre_completeness_blind_types",
    "Types of orders that the provider's list leaves out, so that the certificate says nothing about them.",
    ["account"],
    registry=None,
)
verify_finished_timestamp_seconds = Gauge(
    "cuadre_verify_finished_timestamp_seconds",
    "When the last full or nightly comparison finished (before the first: when it began), as Unix time; of the account "
    "for which that is longest ago.",
    registry=None,
)
verify_drifted_orders = Gauge(
    "cuadre_verify_drifted_orders",
    "Orders that a comparison of the last 30 days found different, not found equal or repaired since.",
    registry=None,
)
verify_unanswered_orders = Gauge(
    "cuadre_verify_unanswered_orders",
    "Orders that the last full comparison, or each account's last nightly one, was not answered for.",
    registry=None,
)
looks_next_day = Gauge("cuadre_looks_next_day", "Looks at stored orders that fall due within a day.", registry=None)
unverified_share = Gauge(
    "cuadre_unverified_share",
    "Share of the last hour's order notifications whose signature did not match, 0 to 1.",
    ["account"],
    registry=None,
)

DATABASE_GAUGES = (
    commands_open,
    oldest_command_seconds,
    complete_until_timestamp_seconds,
    completeness_blocked,
    completeness_blind_types,
    verify_finished_timestamp_seconds,
    verify_drifted_orders,
    verify_unanswered_orders,
    looks_next_day,
    unverified_share,
    orders_due,
    oldest_due_seconds,
    strangers_due,
    oldest_stranger_due_seconds,
    orders_of_nobody,
    orders_quarantined,
    strangers_quarantined,
    orders,
    discrepancies_open,
    default_partition_rows,
)

KNOWN_TOPICS = frozenset({
    "order", "payment", "merchant_order", "topic_merchant_order_wh", "chargebacks", "topic_chargebacks_wh",
    "topic_claims_integration_wh", "mp-connect", "stop_delivery_op_wh", "point_integration_wh",
    "point_integration_ipn", "delivery", "subscription_preapproval", "subscription_preapproval_plan",
    "subscription_authorized_payment", "wallet_connect", "topic_card_id_wh",
})  # fmt: skip
KNOWN_TYPES = frozenset({"qr", "point", "online", "legacy_qr"})
KNOWN_STATUSES = frozenset({
    "created", "at_terminal", "processing", "action_required", "processed", "failed", "canceled", "cancelled",
    "expired", "refunded", "charged_back",
})  # fmt: skip


def bounded(value: str | None, known: Container[str]) -> str:
    """A label value from outside, kept to a known few: anybody can send us a new topic a second."""
    if value is None:
        return "none"
    return value if value in known else "other"


def label_currency(currency: str | None) -> str:
    """ISO 4217 codes as they are; anything else is `unknown`."""
    if currency is not None and len(currency) == 3 and currency.isascii() and currency.isupper():
        return currency
    return "unknown"
