"""Looks at an order whose row in `orders` is gone: it comes back, no version's number is given twice, and what is open
on it stays what it was."""

from typing import Any

import pytest

from service.database.pool import Database
from service.sync.judging import judge_stored
from tests.support.looking import open_discrepancies, see
from tests.support.orders import moment, order, order_id, paid_order, payment_id, refund, refunded_order


async def lose(database: Database, number: int, *also: str) -> None:
    for table in ("orders", *also):
        await database.execute(f"delete from cuadre.{table} where order_id = $1", order_id(number))


async def discrepancies(database: Database) -> list[tuple[int, str, bool]]:
    """(id, rule, whether it is open) of all there ever were."""
    rows = await database.fetch("select id, rule, resolved_at is null as open from cuadre.discrepancies order by id")
    return [(row["id"], row["rule"], row["open"]) for row in rows]


def with_a_stray_refund(number: int) -> dict[str, Any]:
    """A refund that names no payment of its order."""
    body = refunded_order(number, "10.00", seconds=60)
    body["transactions"]["refunds"][0]["transaction_id"] = payment_id(9)
    return body


@pytest.mark.parametrize("months", [0, 1])
async def test_a_look_brings_a_lost_order_back_as_its_next_version(database: Database, months: int) -> None:
    await see(database, paid_order(1), paid_order(2))
    await see(database, refunded_order(1, "30.00", seconds=120))
    # The versions of another month stand in another partition.
    await database.execute(
        "update cuadre.order_versions set period = (period - make_interval(months => $1))::date", months
    )
    await database.execute("delete from cuadre.orders where order_id = $1", order_id(1))
    [back, other] = await see(database, refunded_order(1, "30.00", seconds=120), refunded_order(2, "5.00", seconds=60))
    assert (back.settlement.outcome, other.settlement.outcome) == ("applied", "applied")
    rows = await database.fetch("select order_id, version from cuadre.order_versions order by order_id, version")
    assert [tuple(row) for row in rows] == [
        *((order_id(1), version) for version in (1, 2, 3)),
        *((order_id(2), version) for version in (1, 2)),
    ]
    stored = await database.fetch("select order_id, version from cuadre.orders order by order_id")
    assert [tuple(row) for row in stored] == [(order_id(1), 3), (order_id(2), 2)]


@pytest.mark.parametrize("also", [(), ("order_versions",), ("sync",), ("sync", "order_versions", "fetches")])
async def test_the_next_number_is_known_by_whatever_is_left(database: Database, also: tuple[str, ...]) -> None:
    await see(database, paid_order(1))
    await see(database, refunded_order(1, "30.00", seconds=120))
    await lose(database, 1, *also)
    [back] = await see(database, refunded_order(1, "30.00", seconds=120))
    assert back.settlement.outcome == "applied"
    assert await database.fetchval("select version from cuadre.orders") == 3
    events = await database.fetch("select version from cuadre.events where type = 'order.changed' order by event_id")
    assert [row["version"] for row in events] == [1, 2, 3]


@pytest.mark.parametrize("also", [(), ("sync",)])
async def test_what_is_open_on_a_lost_order_stays_the_same_and_resolves(
    database: Database, also: tuple[str, ...]
) -> None:
    await see(database, with_a_stray_refund(1))
    before = await discrepancies(database)
    assert ("refund_without_payment", True) in [one[1:] for one in before]
    await lose(database, 1, *also)
    [back, other] = await see(database, with_a_stray_refund(1), paid_order(2))
    assert (back.settlement.outcome, back.settled, other.settlement.outcome) == ("applied", True, "applied")
    assert await discrepancies(database) == before
    await see(database, refunded_order(1, "10.00", seconds=120))
    assert await discrepancies(database) == [(number, rule, False) for number, rule, _ in before]


async def test_the_look_that_brings_a_lost_order_back_resolves_what_is_mended(database: Database) -> None:
    await see(database, with_a_stray_refund(1))
    before = await discrepancies(database)
    await lose(database, 1)
    await see(database, refunded_order(1, "10.00", seconds=120))
    assert await discrepancies(database) == [(number, rule, False) for number, rule, _ in before]
    told = await database.fetchval("select count(*) from cuadre.events where type = 'discrepancy.resolved'")
    assert told == len(before)


async def test_a_refund_of_a_lost_order_is_as_old_as_it_was(database: Database) -> None:
    stuck = paid_order(1)
    stuck["transactions"]["refunds"] = [refund(1, 1, "10.00", status="processing")]
    await see(database, stuck)
    await database.execute("update cuadre.refunds set first_seen_at = first_seen_at - interval '25 hours'")
    await judge_stored(database, [order_id(1)])
    before = await discrepancies(database)
    assert [one[1:] for one in before] == [("refund_stuck", True)]
    await lose(database, 1)
    await see(database, stuck)
    assert await discrepancies(database) == before


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_lost_sale_that_comes_back_refunded_is_no_duplicate(database: Database, lost: int) -> None:
    fields: list[dict[str, Any]] = [
        {"external_reference": "mesa-14", "created_date": moment(number)} for number in range(3)
    ]
    await see(database, paid_order(1, **fields[1]), paid_order(2, **fields[2]))
    assert await open_discrepancies(database) == {(order_id(2), "duplicate_sale", order_id(1))}
    await lose(database, lost)
    await see(database, refunded_order(lost, "100.00", seconds=120, **fields[lost]))
    assert await open_discrepancies(database) == set()


async def test_what_the_rules_remember_of_a_lost_order_comes_back_with_it(database: Database) -> None:
    # Paid after it was closed: only the earlier version tells of it.
    await see(database, order(1, status="canceled", status_detail="canceled"))
    await see(database, paid_order(1, seconds=60))
    before = await discrepancies(database)
    assert [one[1:] for one in before] == [("paid_after_close", True)]
    history = await database.fetchval("select history from cuadre.orders")
    await lose(database, 1)
    await see(database, paid_order(1, seconds=60))
    assert await discrepancies(database) == before
    assert await database.fetchval("select history from cuadre.orders") == history
