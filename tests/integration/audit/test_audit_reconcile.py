"""`reconcile`: after any tampering the open discrepancies are exactly what the rules find, and nothing else moved."""

import asyncio
import json
import random
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.audit.reconcile import Reconciliation, Report
from service.database.pool import Database
from service.mercadopago.account import Account
from service.sync.apply import apply_looks
from service.sync.changes import DiscrepancyChange
from service.sync.policies import account_policies
from tests.support.asked import ask
from tests.support.looking import claim, look, open_discrepancies, see
from tests.support.orders import moment, order, order_id, paid_order, payment_id, refund, refunded_order

Key = tuple[str, str, str]
HOURS_AGO = timedelta(hours=2)
STRICT = Account("default", refunds_only_here_since=datetime(2020, 1, 1, tzinfo=UTC))
POLICIES = account_policies({"default": STRICT}.get)


async def run(
    database: Database,
    *,
    dry_run: bool = False,
    batch: int = 7,
    account: str | None = None,
    known: Collection[str] = ("default",),
) -> tuple[Report, dict[str, set[Key]]]:
    """The report, and what changed by change, each once."""
    told: list[DiscrepancyChange] = []
    report = await Reconciliation(
        database,
        POLICIES["refunds_only_here_since"],
        known,
        account=account,
        dry_run=dry_run,
        batch=batch,
        on_judged=lambda _orders, changes: told.extend(changes),
    ).carry_out()
    keys = [(one.change, (one.order_id, one.finding.rule, one.finding.subject_id)) for one in told]
    assert len(set(keys)) == len(keys), "nothing is told twice"
    assert report.changes.total() == len(keys)
    changed: dict[str, set[Key]] = {"opened": set(), "refreshed": set(), "resolved": set()}
    for change, key in keys:
        changed[change].add(key)
    return report, changed


def lives(number: int) -> list[dict[str, Any]]:
    """What is seen of order `number`, one after the other; by its number clean or wrong in one of many ways."""
    wrong_sum = refunded_order(number, "30.00")
    wrong_sum["transactions"]["payments"][0]["refunded_amount"] = "10.00"
    ownerless = paid_order(number)
    ownerless["transactions"]["refunds"] = [refund(number * 100, 9, "5.00", status="failed")]
    stuck = paid_order(number)
    stuck["transactions"]["refunds"] = [refund(number * 100, number, "10.00", status="processing")]
    pair: dict[str, Any] = {"external_reference": f"mesa-{number // 12}", "created_date": moment(number)}
    kinds: list[list[dict[str, Any]]] = [
        [order(number)],
        [paid_order(number)],
        [order(number), refunded_order(number, "100.00")],
        [wrong_sum],
        [ownerless],
        [stuck],
        [order(number, status="expired"), paid_order(number)],
        [paid_order(number, currency="ARS"), paid_order(number, seconds=90, currency="CLP")],
        [paid_order(number, **pair)],
        [paid_order(number, total_amount="120.00", **pair)],
        [refunded_order(number, "100.00", **pair)],
        [refunded_order(number, "20.00", "10.00"), refunded_order(number, "20.00", seconds=300)],
    ]
    return kinds[number % len(kinds)]


async def fill(database: Database, count: int) -> None:
    """Orders of every kind under every rule, in batches as the worker would apply them."""
    for number in range(1, count + 1, 6):
        await ask(database, f"CAN{number}", "cancel", "done", order_id=order_id(number))
        await ask(database, f"CRE{number}", "create", "done", order_id=order_id(number + 2), amount="90.00")
        await ask(
            database, f"REF{number}", "refund", "accepted", order_id=order_id(number + 1), age=HOURS_AGO,
            reserved={payment_id(number + 1): "30.00"}, refund_ids=[refund(number * 100 + 1, 1, "0")["id"]],
        )  # fmt: skip
    seen = [lives(number) for number in range(1, count + 1)]
    for turn in range(max(map(len, seen))):
        bodies = [bodies[turn] for bodies in seen if turn < len(bodies)]
        for start in range(0, len(bodies), 16):
            looks = [look(await claim(database, body["id"]), body) for body in bodies[start : start + 16]]
            await apply_looks(database, looks, **POLICIES)
    # Some refunds are stuck by now, and nobody has judged them since.
    await database.execute("update cuadre.refunds set first_seen_at = first_seen_at - interval '25 h'")


async def contents(database: Database) -> list[str]:
    """Every row of every table, and who wrote it when: `xmin` moves with any write."""
    tables = ("orders", "discrepancies", "events", "sync", "commands", "refunds", "order_versions", "fetches")
    return [
        await database.fetchval(
            f"select md5(string_agg(t.xmin::text || t::text, ',' order by t::text)) from cuadre.{table} as t"
        )
        for table in tables
    ]


async def remove(database: Database, keys: Sequence[Key]) -> None:
    for key in keys:
        done = await database.execute(
            "delete from cuadre.discrepancies where (order_id, rule, subject_id) = ($1, $2, $3)", *key
        )
        assert done == "DELETE 1"


async def insert(database: Database, key: Key, account: str = "default") -> None:
    await database.execute(
        "insert into cuadre.discrepancies (order_id, account, rule, subject_id, severity, expected, actual, "
        "explanation, opened_at, refreshed_at) values ($1, $4, $2, $3, 'critical', 'x', 'y', 'False.', now(), now())",
        *key,
        account,
    )


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_was_tampered_with_is_told_and_put_right(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    await fill(database, 240)
    await run(database)  # opens what time alone has moved since
    true = await open_discrepancies(database)
    rules = {rule for _, rule, _ in true}
    assert rules >= {
        "refunded_amount_mismatch", "refund_without_payment", "refund_failed", "refund_stuck", "paid_after_close",
        "currency_changed", "duplicate_sale", "record_vanished", "paid_total_mismatch", "went_backwards",
        "refund_missing", "refund_unexplained", "amount_differs_from_request", "paid_after_cancel_asked",
    }  # fmt: skip
    chosen = chance.sample(sorted(true), 30)
    lost, resolved, stale = set(chosen[:12]), set(chosen[12:24]), set(chosen[24:])
    false = {
        (order_id(12), "refund_stuck", "REFX"),
        (order_id(24), "duplicate_sale", order_id(1)),
        (order_id(36), "paid_after_cancel_asked", "CMDX"),
        (order_id(48), "a_rule_of_an_older_build", "X"),
        (order_id(33), "refund_unexplained", "REFX"),
    }
    elsewhere = (order_id(60), "unknown_outcome", "CMDX")
    await remove(database, sorted(lost))
    for key in [*sorted(false), elsewhere]:
        await insert(database, key)
    for key in sorted(resolved):
        await database.execute(
            "update cuadre.discrepancies set resolved_at = now() where (order_id, rule, subject_id) = ($1, $2, $3)",
            *key,
        )
    for key in sorted(stale):
        await database.execute(
            "update cuadre.discrepancies set actual = 'old' where (order_id, rule, subject_id) = ($1, $2, $3)", *key
        )
    expected = {"opened": lost | resolved, "refreshed": stale, "resolved": false}
    before = await contents(database)
    report, changed = await run(database, dry_run=True)
    assert changed == expected
    assert (report.orders, report.opened_or_resolved) == (240, len(lost | resolved) + len(false))
    assert await contents(database) == before, "a dry run writes nothing"

    events = await database.fetchval("select count(*) from cuadre.events where type <> 'order.changed'")
    report, changed = await run(database, batch=50)
    assert changed == expected
    assert await open_discrepancies(database) == true | {elsewhere}
    told = await database.fetchval("select count(*) from cuadre.events where type <> 'order.changed'")
    assert told - events == report.opened_or_resolved
    assert await database.fetchval("select count(*) from cuadre.events where position is null") == 0
    assert await database.fetchval("select count(*) from cuadre.discrepancies where actual = 'old'") == 0

    before = await contents(database)
    report, changed = await run(database)
    assert (report.orders, report.opened_or_resolved, report.changes.total()) == (240, 0, 0)
    assert await contents(database) == before, "nothing to do, nothing written"


async def test_what_apply_keeps_needs_no_reconciling(database: Database) -> None:
    """One definition: whatever looks have applied is what reconcile finds."""
    await fill(database, 120)
    await database.execute("update cuadre.refunds set first_seen_at = first_seen_at + interval '25 h'")
    report, changed = await run(database)
    assert changed == {"opened": set(), "refreshed": set(), "resolved": set()}
    assert report.orders == 120
    assert len(await open_discrepancies(database)) > 40


async def test_a_run_that_is_cut_short_leaves_whole_batches(database: Database) -> None:
    await fill(database, 60)
    await run(database)
    true = await open_discrepancies(database)
    await database.execute("delete from cuadre.discrepancies")
    judged = 0

    def die(orders: int, _changes: Sequence[DiscrepancyChange]) -> None:
        nonlocal judged
        judged += orders
        if judged >= 30:
            raise ConnectionAbortedError

    cut = Reconciliation(database, POLICIES["refunds_only_here_since"], ["default"], batch=10, on_judged=die)
    with pytest.raises(ConnectionAbortedError):
        await cut.carry_out()
    half = {key for key in true if key[0] <= order_id(30)}
    assert await open_discrepancies(database) == half
    _, changed = await run(database)
    assert changed == {"opened": true - half, "refreshed": set(), "resolved": set()}
    assert await open_discrepancies(database) == true


async def test_beside_a_running_service(database_dsn: str, database: Database) -> None:
    """Sales come and go while their discrepancies are put right: neither side undoes the other."""
    await see(database, *(paid_order(n, external_reference="mesa", created_date=moment(n)) for n in range(1, 41)))
    other = await Database.connect(database_dsn)
    running = True

    async def reconcile_on_and_on() -> int:
        opened_or_resolved = 0
        while running:
            # `see` applies without the account's policy: it is not known here either.
            report, _ = await run(other, batch=9, known=[])
            opened_or_resolved += report.opened_or_resolved
        return opened_or_resolved

    reconciling = asyncio.create_task(reconcile_on_and_on())
    fields: dict[str, Any] = {"external_reference": "mesa"}
    try:
        for number in range(1, 20):
            await see(
                database,
                refunded_order(number, "100.00", **fields, created_date=moment(number)),
                paid_order(100 + number, **fields, created_date=moment(100 + number)),
                order(40 - number, seconds=400, **fields, status="failed", created_date=moment(40 - number)),
            )
    finally:
        running = False
        changed = await reconciling
        await other.close()
    assert changed == 0, "what looks keep right is never changed"
    report, _ = await run(database, known=[])
    assert report.opened_or_resolved == 0
    assert {rule for _, rule, _ in await open_discrepancies(database)} == {"duplicate_sale"}


async def test_the_policy_of_an_account_that_is_not_known_is_not_guessed(database: Database) -> None:
    told = (order_id(1), "refund_unexplained", refund(100, 1, "30.00")["id"])
    await see(database, refunded_order(1, "30.00"))
    await insert(database, told)
    report, _ = await run(database, known=["another"])
    assert report.changes.total() == 0
    assert await open_discrepancies(database) == {told}


async def test_one_accounts_orders_alone(database: Database) -> None:
    await see(database, order(1), order(3))
    await see(database, order(2), account="tienda")
    for number, account in ((1, "default"), (2, "tienda"), (3, "default")):
        await insert(database, (order_id(number), "refund_failed", "REFX"), account)
    report, changed = await run(database, account="tienda")
    assert report.orders == 1
    assert changed["resolved"] == {(order_id(2), "refund_failed", "REFX")}
    row = await database.fetchrow("select account, data from cuadre.events where type = 'discrepancy.resolved'")
    assert row is not None
    assert (row["account"], json.loads(row["data"])["subject_id"]) == ("tienda", "REFX")


async def test_an_order_that_cannot_be_read_is_counted_and_holds_up_nobody(database: Database) -> None:
    await see(database, order(1), order(2))
    for number in (1, 2):
        await insert(database, (order_id(number), "refund_failed", "REFX"))
    await database.execute(
        'update cuadre.orders set payload = payload || \'{"total_amount": "-1"}\' where order_id = $1', order_id(1)
    )
    report, changed = await run(database, batch=1)
    assert (report.orders, report.unreadable) == (1, 1)
    assert changed["resolved"] == {(order_id(2), "refund_failed", "REFX")}


async def test_when_rules_are_due_is_put_right_too(database: Database) -> None:
    stuck = paid_order(1)
    stuck["transactions"]["refunds"] = [refund(1, 1, "10.00", status="processing")]
    await see(database, stuck)
    due = await database.fetchval("select rules_due_at from cuadre.orders")
    await database.execute("update cuadre.orders set rules_due_at = null")
    await run(database, dry_run=True)
    assert await database.fetchval("select rules_due_at from cuadre.orders") is None
    await run(database)
    assert await database.fetchval("select rules_due_at from cuadre.orders") == due
