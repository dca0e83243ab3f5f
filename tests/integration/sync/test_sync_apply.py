"""Applying looks on a real Postgres: fence, versions, parts, discrepancies, events, the settled `sync` row."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.database.pool import Database
from service.mercadopago.errors import Timeout
from service.sync.apply import Look, apply_looks
from service.sync.claims import claim_one
from service.sync.judging import judge_stored
from service.sync.settle import Failure, failure_of
from tests.support.looking import claim, look, open_discrepancies, see
from tests.support.orders import moment, order, order_id, paid_order, payment, payment_id, refund, refunded_order

FIXTURES = Path(__file__).parents[2] / "fixtures" / "mercadopago"


async def stored(database: Database, number: int = 1) -> Any:
    return await database.fetchrow("select * from cuadre.orders where order_id = $1", order_id(number))


async def events(database: Database, number: int = 1) -> list[tuple[str, int]]:
    rows = await database.fetch(
        "select type, version from cuadre.events where order_id = $1 order by event_id", order_id(number)
    )
    return [(row["type"], row["version"]) for row in rows]


async def test_the_official_sample_is_stored_exactly_and_is_clean(database: Database) -> None:
    body = json.loads((FIXTURES / "order-refunded-qr-official-sample.json").read_text())
    await see(database, body)
    row = await database.fetchrow("select * from cuadre.orders where order_id = $1", body["id"])
    assert row is not None
    assert json.loads(row["payload"]) == body
    assert (row["status"], row["status_detail"], row["currency"]) == ("refunded", "created", "CLP")
    assert (row["total_amount"], row["paid_amount"], row["refunded_amount"]) == (
        Decimal("50.00"),
        Decimal("47.28"),
        Decimal("47.28"),
    )
    assert str(row["total_amount"]) == "50.00"
    assert await open_discrepancies(database) == set()


async def test_a_change_makes_one_version_and_one_event_and_a_repeat_makes_none(database: Database) -> None:
    await see(database, order(1))
    await see(database, order(1))
    await see(database, paid_order(1))
    await see(database, paid_order(1))
    row = await stored(database)
    assert (row["version"], row["status"], row["paid_amount"], row["is_sale"]) == (2, "processed", 100, True)
    versions = await database.fetch("select version, status, payload from cuadre.order_versions order by version")
    assert [(one["version"], one["status"]) for one in versions] == [(1, "created"), (2, "processed")]
    assert json.loads(versions[1]["payload"]) == paid_order(1)
    assert await events(database) == [("order.changed", 1), ("order.changed", 2)]


async def test_an_older_answer_never_replaces_a_newer_one(database: Database) -> None:
    # The slow worker claims first, freezes past its lease, and comes back after the fast one has applied.
    slow = await claim(database, order_id(1), lease_seconds=0)
    fast = await claim(database, order_id(1))
    (first,) = await apply_looks(database, [look(fast, paid_order(1))])
    (late,) = await apply_looks(database, [look(slow, order(1))])
    assert first.applied is not None
    assert late.applied is not None
    assert (first.applied.outcome, first.settled) == ("applied", True)
    assert (late.applied.outcome, late.settled) == ("older", False)
    row = await stored(database)
    assert (row["status"], row["version"]) == ("processed", 1)


async def test_a_date_in_the_future_keeps_no_later_answer_out(database: Database) -> None:
    now = datetime.now(UTC)
    await see(database, paid_order(1, last_updated_date=(now + timedelta(hours=6)).isoformat()))
    slow = await claim(database, order_id(1), lease_seconds=0)
    (refunded,) = await see(database, refunded_order(1, "100.00", last_updated_date=now.isoformat()))
    assert refunded.settlement.outcome == "applied"
    (late,) = await apply_looks(database, [look(slow, paid_order(1, last_updated_date="2099-01-01T00:00:00Z"))])
    assert late.settlement.outcome == "older"
    row = await stored(database)
    assert (row["status"], row["refunded_amount"], row["updated_at"]) == ("refunded", 100, now)


async def test_at_the_same_provider_time_the_later_claim_decides_whoever_applies_last(database: Database) -> None:
    early = await claim(database, order_id(1), lease_seconds=0)
    later = await claim(database, order_id(1))
    await apply_looks(database, [look(later, order(1, description="later"))])
    await apply_looks(database, [look(early, order(1, description="early"))])
    assert (await stored(database))["description"] == "later"


async def test_two_looks_at_one_order_in_one_batch_are_both_judged_by_the_fence(database: Database) -> None:
    early = await claim(database, order_id(1), lease_seconds=0)
    later = await claim(database, order_id(1))
    outcomes = await apply_looks(database, [look(later, paid_order(1)), look(early, order(1))])
    assert [one.applied.outcome for one in outcomes if one.applied] == ["applied", "older"]
    assert (await stored(database))["status"] == "processed"


async def test_parts_are_rows_and_what_vanishes_stays_marked(database: Database) -> None:
    await see(database, refunded_order(1, "30.00", "20.00"))
    gone = refunded_order(1, "30.00", seconds=200)
    await see(database, gone)
    rows = await database.fetch(
        "select refund_id, payment_id, amount, vanished_at from cuadre.refunds order by refund_id"
    )
    assert [(row["amount"], row["vanished_at"] is None) for row in rows] == [
        (Decimal("30.00"), True),
        (Decimal("20.00"), False),
    ]
    assert {row["payment_id"] for row in rows} == {payment_id(1)}
    rules = {(rule, subject) for _, rule, subject in await open_discrepancies(database)}
    assert rules == {("record_vanished", rows[1]["refund_id"]), ("went_backwards", order_id(1))}
    await see(database, refunded_order(1, "30.00", "20.00", seconds=300))
    assert await open_discrepancies(database) == set()
    assert await database.fetchval("select count(*) from cuadre.refunds where vanished_at is not null") == 0


async def test_a_discrepancy_opens_is_refreshed_and_resolves_with_its_events(database: Database) -> None:
    wrong = refunded_order(1, "30.00")
    wrong["transactions"]["payments"][0]["refunded_amount"] = "10.00"
    await see(database, wrong)
    opened = await database.fetchrow("select * from cuadre.discrepancies")
    assert opened is not None
    assert (opened["rule"], opened["subject_id"]) == ("refunded_amount_mismatch", payment_id(1))
    assert opened["amount_at_stake"] == 20
    assert opened["explanation"]
    wrong = json.loads(json.dumps(wrong)) | {"last_updated_date": moment(200)}
    wrong["transactions"]["payments"][0]["refunded_amount"] = "15.00"
    await see(database, wrong)
    refreshed = await database.fetchrow("select * from cuadre.discrepancies")
    assert refreshed is not None
    assert (refreshed["id"], refreshed["amount_at_stake"], refreshed["resolved_at"]) == (opened["id"], 15, None)
    await see(database, refunded_order(1, "30.00", seconds=300))
    resolved = await database.fetchrow("select * from cuadre.discrepancies")
    assert resolved is not None
    assert resolved["resolved_at"] is not None
    assert await events(database) == [
        ("order.changed", 1),
        ("discrepancy.opened", 1),
        ("order.changed", 2),
        ("order.changed", 3),
        ("discrepancy.resolved", 3),
    ]


async def test_a_discrepancy_that_comes_back_is_a_new_row(database: Database) -> None:
    def wrong(seconds: float) -> dict[str, Any]:
        body = refunded_order(1, "30.00", seconds=seconds)
        body["transactions"]["payments"][0]["refunded_amount"] = "40.00"
        return body

    await see(database, wrong(100))
    await see(database, refunded_order(1, "30.00", "10.00", seconds=200))
    await see(database, wrong(300) | {"transactions": refunded_order(1, "30.00", "10.00")["transactions"]})
    assert await open_discrepancies(database) == set()
    again = refunded_order(1, "30.00", "10.00", seconds=400)
    again["transactions"]["payments"][0]["refunded_amount"] = "41.00"
    await see(database, again)
    rows = await database.fetch("select resolved_at is null as open from cuadre.discrepancies order by id")
    assert [row["open"] for row in rows] == [False, True]


async def test_paid_after_close_needs_the_history(database: Database) -> None:
    await see(database, order(1, status="expired", status_detail="expired"))
    assert await open_discrepancies(database) == set()
    await see(database, paid_order(1))
    assert await open_discrepancies(database) == {(order_id(1), "paid_after_close", order_id(1))}
    await see(database, refunded_order(1, "100.00"))
    assert await open_discrepancies(database) == set()


async def test_a_refund_gets_stuck_by_time_alone(database: Database) -> None:
    body = paid_order(1)
    body["transactions"]["refunds"] = [refund(1, 1, "10.00", status="processing")]
    await see(database, body)
    assert await open_discrepancies(database) == set()
    due = (await stored(database))["rules_due_at"]
    first_seen = await database.fetchval("select first_seen_at from cuadre.refunds")
    assert timedelta(0) < due - first_seen - timedelta(hours=24) < timedelta(seconds=1)
    await database.execute("update cuadre.refunds set first_seen_at = first_seen_at - interval '25 hours'")
    changes = await judge_stored(database, [order_id(1)])
    assert [(change.change, change.finding.rule) for change in changes] == [("opened", "refund_stuck")]
    assert {rule for _, rule, _ in await open_discrepancies(database)} == {"refund_stuck"}
    row = await stored(database)
    assert (row["version"], row["rules_due_at"]) == (1, None)


async def test_a_stored_order_keeps_its_account(database: Database) -> None:
    await see(database, order(1), account="tienda")
    (outcome,) = await see(database, paid_order(1), account="otra")
    assert outcome.applied is not None
    assert outcome.applied.account == "tienda"
    assert await database.fetchval("select account from cuadre.sync") == "tienda"
    assert {row["account"] for row in await database.fetch("select account from cuadre.orders")} == {"tienda"}


async def test_a_failed_look_changes_no_order(database: Database) -> None:
    await see(database, paid_order(1))
    before = await stored(database)
    claimed = await claim(database, order_id(1))
    failure = Failure("not_found", "404 order_not_found", counts=True)
    await apply_looks(database, [Look(claimed, failure=failure)])
    assert await stored(database) == before
    row = await database.fetchrow("select * from cuadre.sync")
    assert row is not None
    assert (row["attempts"], row["quarantined_at"], row["leased_until"]) == (1, None, None)
    assert row["last_error"].startswith("not_found: ")
    assert row["due_at"] > row["claimed_at"]
    assert row["fetched"] < row["requested"]


async def test_a_mark_during_the_look_is_owed_another_look(database: Database) -> None:
    claimed = await claim(database, order_id(1))
    await claim_is_refused_while_held(database)
    await database.execute(
        "update cuadre.sync set requested = requested + 1, requested_trusted = requested + 1, due_at = now()"
    )
    await apply_looks(database, [look(claimed, paid_order(1))])
    row = await database.fetchrow("select *, due_at <= now() as due from cuadre.sync")
    assert row is not None
    assert (row["fetched"], row["requested"], row["due"]) == (1, 2, True)


@pytest.mark.parametrize(("marks", "trusted"), [(0, 0), (1, 1), (1, 0)])
async def test_a_trusted_mark_during_a_look_that_fails_waits_for_no_back_off(
    database: Database, marks: int, trusted: int
) -> None:
    await see(database, paid_order(1))
    # So often in a row that the shortest wait is a minute and a half.
    await database.execute("update cuadre.sync set troubles = 30, last_error = 'timeout: x', failing_since = now()")
    held = await claim(database, order_id(1))
    await database.execute(
        "update cuadre.sync set requested = requested + $1, requested_trusted = requested_trusted + $2",
        marks, trusted,
    )  # fmt: skip
    await apply_looks(database, [Look(held, failure=failure_of(Timeout("no answer")))])
    row = await database.fetchrow(
        "select due_at - claimed_at as wait, troubles, requested > fetched as owed from cuadre.sync"
    )
    assert row is not None
    assert (row["troubles"], row["owed"]) == (31, True)
    assert row["wait"] >= timedelta(seconds=1), "however many marks come"
    assert (row["wait"] < timedelta(minutes=1)) is bool(trusted)


async def claim_is_refused_while_held(database: Database) -> None:
    assert await claim_one(database, order_id(1), lease_seconds=30) is None


async def test_one_unstorable_answer_does_not_fail_its_neighbours(database: Database) -> None:
    # Raised for the whole batch here; the worker's batcher then tries each item alone (its own test).
    first, second = await claim(database, order_id(1)), await claim(database, order_id(2))
    await apply_looks(database, [look(first, order(1, total_amount="1" * 90)), look(second, order(2))])
    assert await database.fetchval("select count(*) from cuadre.orders") == 2


async def test_nul_characters_and_lone_surrogates_are_stored_visibly(database: Database) -> None:
    body = order(1, description="a\x00b \ud800 c")
    (outcome,) = await see(database, body)
    assert outcome.settled
    row = await stored(database)
    assert row["payload_altered"] is True
    assert json.loads(row["payload"])["description"] == "a\\u0000b \ufffd c"


async def test_two_hundred_payments(database: Database) -> None:
    many = [payment(number, amount="0.50") for number in range(1, 201)]
    await see(database, order(1, payments=many))
    assert await database.fetchval("select count(*) from cuadre.payments") == 200
    rows = await database.fetch("select position from cuadre.payments order by payment_id")
    assert [row["position"] for row in rows] == list(range(200))


async def test_every_fetch_is_logged_with_its_cause_and_version(database: Database) -> None:
    await see(database, order(1))
    await see(database, order(1))
    rows = await database.fetch("select outcome, cause, version from cuadre.fetches order by claimed_at")
    assert [(row["outcome"], row["cause"], row["version"]) for row in rows] == [
        ("applied", "operator", 1),
        ("unchanged", "operator", 1),
    ]


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.glob("order-*.json")))
async def test_every_documented_order_is_stored_as_it_came_and_is_clean(database: Database, name: str) -> None:
    body = json.loads((FIXTURES / name).read_text())
    await see(database, body)
    assert json.loads(await database.fetchval("select payload from cuadre.orders")) == body
    assert await open_discrepancies(database) == set()
