"""What goes wrong in a run, by name: at the provider, on the way, with our processes, with the database."""

from collections.abc import Collection, Mapping
from typing import Any, Final

Json = dict[str, Any]

NOTIFICATIONS: Final[Mapping[str, Json]] = {
    "lost": {"drop": 0.10},
    "duplicated": {"duplicate": 0.20, "duplicate_gap_ms": 800},
    "reordered": {"reorder": 0.15, "reorder_hold_ms": 1000},
    "delayed": {"delay_ms": 600},
    "unsigned": {"sign": {"none": 0.08}},
    "missigned": {"sign": {"wrong": 0.05, "verbatim": 0.05}},
}
READS: Final[Mapping[str, list[Json]]] = {
    # A 429 halves the pace of the whole account, as it should: a handful of them at a time.
    "429": [{"status": 429, "rate": 0.02, "count": 2, "retry_after": 1}, {"status": 429, "rate": 0.02, "count": 1}],
    "5xx": [
        {"status": 500, "rate": 0.01},
        {"status": 502, "rate": 0.01, "body": "html"},
        {"status": 503, "rate": 0.01},
    ],
    "hung": [{"body": "hang", "rate": 0.01, "count": 3}],
    "disconnected": [{"body": "disconnect", "rate": 0.005}],
    "truncated": [{"body": "truncated", "rate": 0.01}, {"body": "cut", "rate": 0.005}],
    "garbage": [{"body": "garbage", "rate": 0.01}, {"body": "empty", "rate": 0.005}, {"body": "array", "rate": 0.005}],
    "foreign": [{"body": "foreign", "rate": 0.01}],
    "stale": [{"body": "stale", "rate": 0.03}],
    "slow": [{"latency_ms": [1, 60]}],
}
UNANNOUNCED: Final = "unannounced"
"""Orders of which no notification is ever sent: the sweep finds them, or nobody."""
EVENTS: Final = ("killed", "frozen", "restarted", "crashed", "failover")
"""Replicas killed and frozen; Postgres restarted in order and as by a crash; the standby promoted."""
POOLER: Final = "pgbouncer"
ALL: Final = (*NOTIFICATIONS, *READS, UNANNOUNCED, *EVENTS, POOLER)


def told_to_the_simulator(names: Collection[str]) -> Json:
    """The body of `POST /_sim/faults`."""
    notification: Json = {}
    for name, part in NOTIFICATIONS.items():
        if name in names:
            for member, value in part.items():
                notification[member] = {**notification.get(member, {}), **value} if isinstance(value, dict) else value
    reads = [one for name, entries in READS.items() if name in names for one in entries]
    searches = [one for one in reads if one.get("body") not in {"foreign", "stale"} and "count" not in one]
    return {"notification": notification, "get_order": reads, "search": searches}
