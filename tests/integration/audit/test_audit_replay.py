"""Replaying notifications: each order once, in batches, at a pace; what no longer fits is counted and left."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from service.audit import replay as module
from service.audit.replay import Asked, Plan, State, plan, replay
from service.database.pool import Database
from service.intake.record import NotificationRecorder
from service.sync.claims import claim_one
from tests.support.deliveries import delivery
from tests.support.looking import see
from tests.support.orders import order_id, paid_order

RATES = {"default": 50.0, "second": 50.0}


def stays(_named: str | None, _user: str | None, _application: str | None) -> str:
    return "default"


async def record(database: Database, *numbers: int, verified: bool = True, **changes: Any) -> None:
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    for number in numbers:
        await recorder.record(replace(delivery(order_id(number), verified=verified), **changes))
    await recorder.close()


async def settle(database: Database) -> None:
    """As if every order had been looked at: nothing is owed any more."""
    await database.execute(
        "update cuadre.sync set fetched = requested, due_at = now() + interval '1 day', "
        "cause = null, claimed_at = now()"
    )


async def due(database: Database) -> dict[str, tuple[str, int]]:
    rows = await database.fetch("select order_id, cause, trust from cuadre.sync where fetched < requested")
    return {row["order_id"]: (row["cause"], row["trust"]) for row in rows}


async def run(database: Database, asked: Asked, route: Any = stays) -> tuple[Plan, int]:
    planned = await plan(database, asked, route)
    return planned, await replay(database, asked, planned, RATES)


async def test_a_plan_changes_nothing_and_a_replay_marks_each_order_once(database: Database) -> None:
    await record(database, 1, 2, 3)
    await record(database, 1, verified=False)
    await settle(database)
    planned = await plan(database, Asked(), stays)
    assert (planned.notifications, planned.to_replay, planned.orders) == (4, 4, 3)
    assert await due(database) == {}
    assert await replay(database, Asked(), planned, RATES) == 3
    assert set(await due(database)) == {order_id(number) for number in (1, 2, 3)}
    assert {cause for cause, _ in (await due(database)).values()} == {"replay"}
    assert (await database.fetchval("select max(requested - fetched) from cuadre.sync")) == 1


async def test_done_again_it_leaves_what_still_waits_and_marks_what_was_served(database: Database) -> None:
    await record(database, 1, 2)
    await settle(database)
    assert (await run(database, Asked()))[1] == 2
    assert (await run(database, Asked()))[1] == 0
    await database.execute("update cuadre.sync set fetched = requested where order_id = $1", order_id(1))
    assert (await run(database, Asked()))[1] == 1


async def test_batches_take_every_order_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    await record(database, *range(10))
    await settle(database)
    planned, marked = await run(database, Asked())
    assert (planned.orders, marked) == (10, 10)


async def test_unverified_ones_stay_among_strangers_and_stored_ones_stay_known(database: Database) -> None:
    await record(database, 1, 2, verified=False)
    await see(database, paid_order(2))
    await settle(database)
    await run(database, Asked(state="unverified"))
    assert await due(database) == {order_id(1): ("replay", 0), order_id(2): ("replay", 2)}


async def test_many_are_spread_over_half_of_the_accounts_rate(database: Database) -> None:
    await record(database, *range(60))
    await settle(database)
    await run(database, Asked())
    waits = await database.fetch(
        "select floor(extract(epoch from due_at - marked_at))::int as wait, count(*) from cuadre.sync "
        "group by 1 order by 1"
    )
    assert [tuple(row) for row in waits] == [(0, 25), (1, 25), (2, 10)]


async def test_what_names_no_order_and_what_is_routed_elsewhere_is_counted_and_left(database: Database) -> None:
    await record(database, 1, 2)
    await record(database, 3, path="/webhooks/mercadopago/second")
    notification = replace(delivery(order_id(4), verified=True).notification, order_id=None, topic="payment")
    await record(database, 4, notification=notification)
    await settle(database)
    asked_of = []

    def route(named: str | None, user_id: str | None, application_id: str | None) -> str | None:
        asked_of.append((named, user_id, application_id))
        return None if named == "second" else "default"

    planned, marked = await run(database, Asked(), route)
    assert (planned.notifications, planned.to_replay, planned.orders, marked) == (4, 2, 2, 2)
    assert planned.without_order == {"payment": 1}
    assert planned.rerouted == {("default", None): 1}
    assert set(asked_of) == {(None, None, None), ("second", None, None)}
    assert set(await due(database)) == {order_id(1), order_id(2)}


async def test_routing_asks_with_what_the_body_says(database: Database) -> None:
    body = '{"user_id": 7, "application_id": "app"}'
    await record(database, 1, body=body)
    seen = []

    def route(named: str | None, user_id: str | None, application_id: str | None) -> str:
        seen.append((named, user_id, application_id))
        return "second"

    planned = await plan(database, Asked(), route)
    assert seen == [(None, "7", "app")]
    assert planned.rerouted == {("default", "second"): 1}
    assert planned.orders == 0


async def test_by_number_topic_account_and_time(database: Database) -> None:
    await record(database, 1, 2, 3)
    await settle(database)
    ids = await database.fetch("select id, order_id from cuadre.notifications order by id")
    now = await database.fetchval("select now()")
    hour = timedelta(hours=1)
    for asked, orders in (
        (Asked(numbers=(ids[1]["id"], 999_999)), 1),
        (Asked(topic="order"), 3),
        (Asked(topic="payment"), 0),
        (Asked(account="default"), 3),
        (Asked(account="nobody"), 0),
        (Asked(since=now - hour, until=now + hour), 3),
        (Asked(since=now + hour), 0),
        (Asked(until=now - hour), 0),
    ):
        assert (await plan(database, asked, stays)).orders == orders, asked


async def test_a_copy_that_came_within_the_range_counts(database: Database) -> None:
    await record(database, 1)
    await database.execute("update cuadre.notifications set received_at = received_at - interval '1 minute'")
    received = await database.fetchval("select last_received_at from cuadre.notifications")
    assert (await plan(database, Asked(since=received - timedelta(seconds=1)), stays)).orders == 1
    assert (await plan(database, Asked(until=received), stays)).orders == 1


async def test_by_state(database: Database) -> None:
    await record(database, 1, 2)
    await record(database, 3, verified=False)
    await record(database, 4, verified=False, refused=True)
    await see(database, paid_order(1))
    await settle(database)
    await database.execute(
        "update cuadre.sync set quarantined_at = now(), quarantine_reason = 'x' where order_id = $1", order_id(2)
    )
    await database.execute("update cuadre.sync set requested = requested + 1 where order_id = $1", order_id(3))
    expected: dict[State, set[int]] = {
        "recorded": {1, 2, 3}, "verified": {1, 2}, "unverified": {3}, "refused": {4}, "quarantined": {2},
        "unserved": {3}, "unstored": {2, 3, 4},
    }  # fmt: skip
    for state, numbers in expected.items():
        assert (await plan(database, Asked(state=state), stays)).orders == len(numbers), state
    await run(database, Asked(state="quarantined"))
    assert order_id(2) in await due(database)
    claimed = await claim_one(database, order_id(2), lease_seconds=5)
    assert claimed is not None
    # Somebody asked for it anew: it gets all its chances again.
    assert (claimed.quarantined, claimed.cause) == (True, "replay")
