"""The verdict at the end: what is stored against the provider's books, and every promise about what was stored when."""

import asyncio
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from service.cli.demo.compare import Key, compare_discrepancies, compare_orders
from service.cli.demo.plan import Json
from service.cli.demo.provider import LedgerOrder
from service.cli.demo.stored import Books
from service.database.pool import Database
from tests.chaos.drive import ChaosProvider

NOT_STORED: Final = frozenset({"payer", "cardholder", "card_holder"})
NAMED: Final = 5

VERSIONS_WITH_GAPS = """
    select o.order_id from cuadre.orders as o left join cuadre.order_versions as v using (order_id)
    group by o.order_id, o.version
    having count(v.version) <> o.version or max(v.version) <> o.version or min(v.version) <> 1
        or count(distinct v.version) <> count(v.version)
"""
VERSIONS_WITHOUT_THEIR_EVENT = """
    select order_id from (
        select order_id, version from cuadre.order_versions
    ) as v
    full join (
        select order_id, version, count(*) as events from cuadre.events where type = 'order.changed' group by 1, 2
    ) as e using (order_id, version)
    where e.events is distinct from 1 or v.version is null
"""
EVENTS_OUT_OF_ORDER = """
    select order_id from (
        select order_id, event_id, position, lag(position) over (partition by order_id order by event_id) as earlier
        from cuadre.events
    ) as e
    where position is null or position <= earlier
"""
POSITIONS_GIVEN_TWICE = "select position::text from cuadre.events group by position having count(*) > 1"
LAST_VERSION_IS_NOT_THE_STORED_ONE = """
    select o.order_id from cuadre.orders as o
    left join cuadre.order_versions as v on v.order_id = o.order_id and v.version = o.version
    where v.payload is distinct from o.payload or v.status is distinct from o.status
"""
EVENTS_OF_DISCREPANCIES_DO_NOT_MATCH = """
    select d.order_id from cuadre.discrepancies as d
    left join cuadre.events as e
        on e.order_id = d.order_id and (e.data ->> 'discrepancy_id')::bigint = d.id
    group by d.order_id, d.id
    having count(*) filter (where e.type = 'discrepancy.opened') <> 1
        or count(*) filter (where e.type = 'discrepancy.resolved')
            <> (case when d.resolved_at is null then 0 else 1 end)
"""
QUARANTINED = "select order_id from cuadre.sync where quarantined_at is not null"
BACKWARDS = """
    select order_id from (
        select order_id, updated_at, lag(updated_at) over (partition by order_id order by version) as earlier
        from cuadre.order_versions
    ) as v
    where updated_at < earlier
"""
CHECKS: Final[Mapping[str, str]] = {
    "versions with gaps or doubles": VERSIONS_WITH_GAPS,
    "versions without exactly one event": VERSIONS_WITHOUT_THEIR_EVENT,
    "events without a position, or not in the order written": EVENTS_OUT_OF_ORDER,
    "positions given twice": POSITIONS_GIVEN_TWICE,
    "orders that differ from their last version": LAST_VERSION_IS_NOT_THE_STORED_ONE,
    "discrepancies whose events do not match": EVENTS_OF_DISCREPANCIES_DO_NOT_MATCH,
    "orders in quarantine": QUARANTINED,
    "orders whose provider's time went backwards": BACKWARDS,
}


def without_payers(value: Any) -> Any:
    """What is deliberately not stored taken out of a provider's body."""
    if isinstance(value, dict):
        return {name: without_payers(item) for name, item in value.items() if name not in NOT_STORED}
    return [without_payers(item) for item in value] if isinstance(value, list) else value


@dataclass
class Verdict:
    """`lost`: acknowledged and not recorded. `wrong`: everything else that does not hold, by what it is."""

    orders: int = 0
    equal: int = 0
    acknowledged: int = 0
    lost: int = 0
    planted: int = 0
    wrong: dict[str, list[str]] = field(default_factory=dict)
    by_cause: dict[str, int] = field(default_factory=dict)
    slowest_told_seconds: float = 0.0
    slowest_untold_seconds: float = 0.0

    @property
    def holds(self) -> bool:
        return self.orders > 0 and self.lost == 0 and not any(self.wrong.values())

    def complain(self, what: str, whom: Collection[object]) -> None:
        if whom:
            self.wrong[what] = [f"{len(whom)} in all", *sorted(str(one) for one in whom)[:NAMED]]


async def judge(
    provider: ChaosProvider,
    database: Database,
    books: Books,
    acknowledged: Mapping[str, int],
    planted: set[Key],
    to_resolve: set[Key],
    *,
    seconds: float,
) -> Verdict:
    """Waits until everything holds, `seconds` at most; the last verdict."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        idle = await _is_quiet(provider, database)
        verdict = await _judge_now(provider, database, books, acknowledged, planted, to_resolve)
        if (verdict.holds and idle) or asyncio.get_running_loop().time() > deadline:
            if not idle:
                verdict.complain("not quiet", ["deliveries under way, or orders still due"])
            return verdict
        await asyncio.sleep(0.5)


async def _is_quiet(provider: ChaosProvider, database: Database) -> bool:
    owed = await database.fetchval("select count(*) from cuadre.sync where requested > fetched")
    return bool(owed == 0 and await provider.is_idle())


async def _judge_now(
    provider: ChaosProvider,
    database: Database,
    books: Books,
    acknowledged: Mapping[str, int],
    planted: set[Key],
    to_resolve: set[Key],
) -> Verdict:
    verdict = Verdict()
    ledger = {
        order_id: replace(order, body=without_payers(order.body))
        for order_id, order in (await provider.ledger()).items()
    }
    comparison = compare_orders(ledger, await books.orders())
    verdict.orders = len(ledger)
    verdict.equal = len(ledger) - len(comparison.differing) - len(comparison.unannounced)
    verdict.complain("orders that differ from the provider's", [f"{k}: {v}" for k, v in comparison.differing.items()])
    verdict.complain("orders that were never found", comparison.unannounced)
    verdict.complain("orders unknown to the provider", comparison.invented)
    discrepancies = compare_discrepancies(planted, to_resolve, await books.discrepancies())
    verdict.planted = len(planted)
    verdict.complain("planted discrepancies not found", discrepancies.missing)
    verdict.complain("discrepancies that nobody planted", discrepancies.unexpected)
    verdict.complain("discrepancies not resolved", discrepancies.unresolved)
    for what, query in CHECKS.items():
        verdict.complain(what, [row[0] for row in await database.fetch(query)])
    await _count_deliveries(verdict, database, acknowledged)
    await _measure(verdict, database, ledger, acknowledged)
    return verdict


async def _count_deliveries(verdict: Verdict, database: Database, acknowledged: Mapping[str, int]) -> None:
    rows = await database.fetch("select resource_id, sum(copies) as copies from cuadre.notifications group by 1")
    recorded = {row["resource_id"]: int(row["copies"]) for row in rows}
    verdict.acknowledged = sum(acknowledged.values())
    lost = {order_id: count - recorded.get(order_id, 0) for order_id, count in acknowledged.items()}
    verdict.lost = sum(count for count in lost.values() if count > 0)
    verdict.complain(
        "deliveries that were acknowledged and are not recorded",
        [
            f"{order_id}: {acknowledged[order_id]}, recorded {recorded.get(order_id, 0)}"
            for order_id in lost
            if lost[order_id] > 0
        ],
    )


async def _measure(
    verdict: Verdict, database: Database, ledger: Mapping[str, LedgerOrder], acknowledged: Mapping[str, int]
) -> None:
    """From the provider's last change of an order to the commit that shows it: both clocks are this machine's."""
    rows = await database.fetch("""
        select v.order_id, v.observed_at, v.cause
        from cuadre.order_versions as v join cuadre.orders as o on o.order_id = v.order_id and o.version = v.version
    """)
    for row in rows:
        order = ledger.get(row["order_id"])
        if order is None:
            continue
        took = (row["observed_at"] - datetime.fromisoformat(order.body["last_updated_date"])).total_seconds()
        verdict.by_cause[row["cause"]] = verdict.by_cause.get(row["cause"], 0) + 1
        # Told: the provider's last word about the order was answered 200.
        if not order.last_word_lost and order.order_id in acknowledged:
            verdict.slowest_told_seconds = max(verdict.slowest_told_seconds, took)
        else:
            verdict.slowest_untold_seconds = max(verdict.slowest_untold_seconds, took)


def as_text(document: Json) -> str:
    """For logs."""
    return json.dumps(document, sort_keys=True)
