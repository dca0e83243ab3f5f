"""Looks at an order whose row in `orders` is gone: it comes back, and no version's number is given twice."""

import pytest

from service.database.pool import Database
from tests.support.looking import see
from tests.support.orders import order_id, paid_order, refunded_order


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
