"""What the README guarantees, attacked one by one, with real processes and a real Postgres.

Others of the kind: killed in the middle of a storm, two replicas, a restarted Postgres, an outage of the provider
(tests/e2e/test_service_storms.py); a crash at every statement (tests/chaos/test_crash_points.py); everything at once
(tests/chaos/run.py).
"""

import itertools
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service.database.embedded import EmbeddedPostgres
from tests.chaos.world import settings, write_accounts
from tests.e2e.test_service_storms import assert_converges, query, stored
from tests.support.chaos_postgres import PostgresPair, a_pair, ask, short_folder
from tests.support.chaos_replicas import Replica
from tests.support.processes import Simulator, free_port, serving, simulator
from tests.support.waiting import until_sync

LONG = os.environ.get("CHAOS_LONG") == "1"
pytestmark = pytest.mark.slow


def acknowledged(provider: Simulator) -> Counter[str]:
    """Order -> deliveries that were answered 200 so far."""
    log = provider.ask("notifications?limit=100000")["data"]
    return Counter(one["order_id"] for one in log if one["outcome"] == "delivered")


def recorded(dsn: str) -> Counter[str]:
    """Order -> deliveries that are stored."""
    rows = query(dsn, "select resource_id, sum(copies)::int as copies from cuadre.notifications group by 1")
    return Counter({row["resource_id"]: row["copies"] for row in rows})


def sell(provider: Simulator, numbers: range) -> None:
    """Orders and their lives, from several tills."""
    with ThreadPoolExecutor(6) as tills:
        list(tills.map(provider.sell, numbers))


def test_a_promoted_standby_has_everything_that_was_acknowledged(tmp_path: Path) -> None:
    # "A 200 means committed", and with synchronous replication: committed on the standby, too.
    port = free_port()
    with short_folder() as folder, a_pair(folder) as pair, simulator(tmp_path, webhook_port=port) as provider:
        commits_wait_for_the_standby(pair)
        arguments = ("--migrate",)
        with serving(tmp_path, pair.dsn, provider.url, public_port=port, arguments=arguments) as service:
            with ThreadPoolExecutor(1) as shop:
                sold = shop.submit(sell, provider, range(80))
                until_sync(lambda: sum(acknowledged(provider).values()) > 30, what="the shop is busy")
                before = acknowledged(provider)
                pair.fail_over()
                after = recorded(pair.primary.dsn)
                assert {order_id: count for order_id, count in before.items() if after[order_id] < count} == {}
                sold.result(60)
            until_sync(service.is_ready, what="the service found the new primary by itself")
            assert_converges(pair.primary.dsn, provider)
            assert "Traceback" not in service.process.output()


def commits_wait_for_the_standby(pair: PostgresPair) -> None:
    """The test would be worth nothing if the standby did not have to agree."""
    waiting = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"
    ask(pair.primary.dsn, "create table told (n integer)")
    assert pair.standby is not None
    pair.standby.stop("immediate")
    with ThreadPoolExecutor(1) as client:
        insert = client.submit(ask, pair.primary.dsn, "insert into told values (1)")
        until_sync(lambda: ask(pair.primary.dsn, waiting) == 1, what="the commit waits")
        assert not insert.done()
        pair.standby.start()
        insert.result(30)


def test_frozen_past_its_lease_and_continued_changes_nothing_wrong(tmp_path: Path, database_dsn: str) -> None:
    # "An older state never replaces a newer one": a replica stands still with old answers in its hands.
    accounts = write_accounts(tmp_path, {})
    with simulator(tmp_path, webhook_port=1) as provider:
        environment = settings(accounts, database_dsn, provider.url, role="all", sweep="off")
        with Replica(tmp_path, "frozen", environment) as frozen, Replica(tmp_path, "other", environment) as other:
            frozen.start()
            until_sync(frozen.is_ready, what="the first replica is ready", seconds=30)
            provider.tell("webhook", {"url": frozen.webhook_url})
            provider.tell("faults", {"get_order": {"latency_ms": [1, 2500]}})
            sell_paid(provider, range(30))
            until_sync(lambda: len(stored(database_dsn)) >= 3, what="it is at work")
            freeze_in_a_transaction(frozen, database_dsn, provider)
            other.start()
            until_sync(other.is_ready, what="the second replica is ready", seconds=30)
            provider.tell("webhook", {"url": other.webhook_url})
            provider.tell("faults", {})
            for order_id in provider.ledger():
                provider.tell(f"orders/{order_id}/refund", {})
            until_sync(lambda: stored(database_dsn) == provider.ledger(), what="the other one did the work", seconds=60)
            looks = "select count(*) as looks from cuadre.fetches"
            (before,) = query(database_dsn, looks)
            frozen.thaw()
            until_sync(
                lambda: query(database_dsn, looks)[0]["looks"] > before["looks"], what="it goes on where it stood"
            )
            assert_converges(database_dsn, provider)
            assert "Traceback" not in frozen.log.read_text() + other.log.read_text()


def freeze_in_a_transaction(replica: Replica, dsn: str, provider: Simulator) -> None:
    """It stands still where that hurts most: with orders in its hands, and rows locked that the others need."""
    locks = "select 1 from pg_stat_activity where state = 'idle in transaction' and datname = current_database()"
    holds = "select 1 from cuadre.sync where leased_until is not null"
    more = itertools.count(30)

    def is_frozen_there() -> bool:
        sell_paid(provider, range(number := next(more), number + 1))
        replica.freeze()
        if query(dsn, locks) and query(dsn, holds):
            return True
        replica.thaw()
        return False

    until_sync(is_frozen_there, what="it stands still in a transaction", seconds=40)


def sell_paid(provider: Simulator, numbers: range) -> None:
    """Paid QR orders."""
    for number in numbers:
        body = {"type": "qr", "total_amount": f"{100 + number}.00", "external_reference": f"venta-{number}"}
        provider.tell("orders", body | {"status": "processed"})


@pytest.mark.timeout(240)
def test_webhooks_off_and_every_state_is_right_within_its_looking_schedule(tmp_path: Path, database_dsn: str) -> None:
    # "A lost notification delays the truth, it does not hide it": here all are lost, of known and of unknown orders.
    # Open and closed orders are looked at by the contract's own table; paid ones sooner than after 10 minutes.
    count = 1000 if LONG else 100
    accounts = write_accounts(tmp_path, {"paid": {"at_seconds": [12, 30, 90, 86400]}})
    with simulator(tmp_path, webhook_port=1) as provider:
        provider.tell("webhook", {"url": None})
        with ThreadPoolExecutor(6) as tills:
            orders = list(tills.map(lambda number: open_order(provider, number), range(count)))
        environment = settings(accounts, database_dsn, provider.url, role="all")
        with Replica(tmp_path, "only", environment) as replica:
            replica.start()
            until_sync(lambda: len(stored(database_dsn)) == count, what="the sweep found all", seconds=60)
            with ThreadPoolExecutor(6) as tills:
                list(tills.map(lambda number: live(provider, orders[number], number), range(count)))
            statuses = {"processed", "refunded", "canceled", "expired"}
            until_sync(
                lambda: {order["status"] for order in provider.ledger().values()} == statuses,
                what="all lives are over", seconds=60,
            )  # fmt: skip
            assert_converges(database_dsn, provider, seconds=110)
            assert query(database_dsn, "select count(*) as n from cuadre.notifications")[0]["n"] == 0
            causes = {row["cause"] for row in query(database_dsn, "select distinct cause from cuadre.order_versions")}
            assert causes == {"sweep", "look"}


def open_order(provider: Simulator, number: int) -> str:
    """A QR order that runs out soon, or late enough for a life."""
    order: dict[str, Any] = provider.tell("orders", {
        "type": "qr", "total_amount": f"{100 + number}.00", "external_reference": f"venta-{number}",
        "expiration_time": "PT40S" if number % 5 == 4 else "PT10M",
    })  # fmt: skip
    return str(order["id"])


def live(provider: Simulator, order_id: str, number: int) -> None:
    """Paid; refunded in part; refunded in full; canceled; left to expire."""
    kind = number % 5
    if kind == 3:
        provider.tell(f"orders/{order_id}/cancel", {})
    elif kind < 3:
        provider.tell(f"orders/{order_id}/pay", {})
        if kind == 1:
            provider.tell(f"orders/{order_id}/refund", {"amount": "30.00"})
        if kind == 2:
            provider.tell(f"orders/{order_id}/refund", {})


@pytest.mark.timeout(240)
def test_postgres_stopped_in_a_storm_and_nothing_is_spooled(tmp_path: Path, own_postgres: EmbeddedPostgres) -> None:
    # docs/decisions/0008-no-spool.md: what finds what happened meanwhile are the retries, the schedule and the sweep.
    port = free_port()
    with simulator(tmp_path, webhook_port=port, compression=100_000) as provider:
        arguments = ("--migrate",)
        with serving(
            tmp_path, own_postgres.dsn, provider.url, public_port=port, arguments=arguments, name="first"
        ) as one:
            sell(provider, range(20))
            known = [provider.tell("orders", {"type": "qr", "total_amount": "80.00"})["id"] for _ in range(5)]
            for order_id in known:
                provider.tell("notify", {"order_id": order_id, "wait": True})
            until_sync(lambda: stored(own_postgres.dsn).keys() >= set(known), what="the open orders are known")
            dsn = own_postgres.dsn
            own_postgres.stop("immediate")
            until_sync(lambda: one.get("/readyz")[0] == 503, what="it says that it is not ready")
            before = sum(acknowledged(provider).values())
            sell(provider, range(100, 130))
            for order_id in known:
                provider.tell(f"orders/{order_id}/pay", {"notify": False})
            untold = provider.tell(
                "orders", {"type": "qr", "total_amount": "90.00", "status": "processed", "notify": False}
            )
            assert sum(acknowledged(provider).values()) == before, "nothing is acknowledged that is not committed"
            own_postgres.start()
            assert own_postgres.dsn == dsn
            until_sync(one.is_ready, what="it recovers by itself")
            expected = provider.ledger()
            del expected[untold["id"]]
            until_sync(lambda: stored(dsn) == expected, what="retries and looks find all but one", seconds=60)
            one.process.terminate()
            assert one.process.wait() == 0
        with serving(tmp_path, dsn, provider.url, public_port=port, name="second"):
            # The sweep goes back to where it stood when it begins again, in a new process or after five minutes.
            assert_converges(dsn, provider)
