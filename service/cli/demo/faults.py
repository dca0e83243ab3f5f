"""How the simulated provider misbehaves, and what it dealt out in the end."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from service.cli.demo.plan import Json

FAULTS: Mapping[str, Any] = {
    "notification": {
        "drop": 0.10,
        "duplicate": 0.20,
        "duplicate_gap_ms": 800,
        "reorder": 0.20,
        "reorder_hold_ms": 1000,
        "delay_ms": 400,
        "sign": {"none": 0.10, "verbatim": 0.10},
    },
    # 5 % of the reads fail. A 429 halves the pace of the whole account, as it should, so there are a handful of them.
    "get_order": [
        {"status": 429, "rate": 0.02, "count": 2, "retry_after": 1},
        {"status": 429, "rate": 0.02, "count": 2},
        {"status": 503, "rate": 0.01, "retry_after": 1},
        {"status": 500, "rate": 0.02},
        {"status": 502, "rate": 0.02},
        {"latency_ms": [1, 40]},
    ],
}


@dataclass(frozen=True, slots=True)
class Dealt:
    """What went wrong on the way, counted by the simulator, and what arrived all the same."""

    announced: int
    dropped: int
    doubled: int
    overtaken: int
    unsigned: int
    delivered: int
    reads: Mapping[str, int]

    @property
    def failed_reads(self) -> int:
        """Reads that were answered with anything but 200, or not at all."""
        return sum(count for status, count in self.reads.items() if status != "200")


def count_dealt(log: Iterable[Json], reads: Mapping[str, int]) -> Dealt:
    """From the log of deliveries (oldest first) and the reads of orders by the status they were answered with.

    Overtaken is a delivery that came after a newer one of its order.
    """
    announced: set[int] = set()
    kinds: Counter[str] = Counter()
    newest: dict[str, int] = {}
    for entry in log:
        if not entry["duplicate"]:
            announced.add(entry["notification"])
        kinds["dropped"] += entry["outcome"] == "dropped"
        if entry["outcome"] != "delivered":
            continue
        kinds["delivered"] += 1
        kinds["doubled"] += entry["duplicate"]
        kinds["unsigned"] += entry["sign"] == "none"
        order_id, version = entry["order_id"], entry["version"] or 0
        kinds["overtaken"] += version < newest.get(order_id, 0)
        newest[order_id] = max(version, newest.get(order_id, 0))
    return Dealt(
        announced=len(announced),
        dropped=kinds["dropped"],
        doubled=kinds["doubled"],
        overtaken=kinds["overtaken"],
        unsigned=kinds["unsigned"],
        delivered=kinds["delivered"],
        reads=dict(sorted(reads.items())),
    )
