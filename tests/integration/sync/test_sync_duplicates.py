"""`duplicate_sale`: two paid orders of one account share a reference, whoever applies them and in whatever order."""

import asyncio
import random
from collections.abc import Iterable

import pytest

from service.database.pool import Database
from service.sync.apply import apply_looks
from tests.support.looking import claim, look, open_discrepancies, see
from tests.support.orders import moment, order, order_id, paid_order, refunded_order

REFERENCE = "mesa-14"


def sale(number: int, seconds: float = 60, reference: str = REFERENCE) -> dict[str, object]:
    """Order `number`, created `number` seconds after the beginning: a smaller number is an earlier sale."""
    return paid_order(number, seconds=seconds, external_reference=reference, created_date=moment(number))


def given_back(number: int, seconds: float = 120) -> dict[str, object]:
    return refunded_order(number, "100.00", seconds=seconds, external_reference=REFERENCE, created_date=moment(number))


def duplicates(earliest: int, others: Iterable[int]) -> set[tuple[str, str, str]]:
    return {(order_id(number), "duplicate_sale", order_id(earliest)) for number in others}


async def test_the_later_created_is_the_duplicate_whichever_is_applied_first(database: Database) -> None:
    await see(database, sale(2))
    assert await open_discrepancies(database) == set()
    await see(database, sale(1))
    assert await open_discrepancies(database) == duplicates(1, [2])


async def test_refunding_either_resolves_it(database: Database) -> None:
    await see(database, sale(1), sale(2))
    await see(database, given_back(2))
    assert await open_discrepancies(database) == set()
    await see(database, sale(3))
    assert await open_discrepancies(database) == duplicates(1, [3])
    await see(database, given_back(1))
    assert await open_discrepancies(database) == set()


async def test_a_new_earliest_renames_everybodys_subject(database: Database) -> None:
    await see(database, sale(5), sale(6), sale(7))
    assert await open_discrepancies(database) == duplicates(5, [6, 7])
    await see(database, sale(2))
    assert await open_discrepancies(database) == duplicates(2, [5, 6, 7])
    await see(database, given_back(2))
    assert await open_discrepancies(database) == duplicates(5, [6, 7])


async def test_other_accounts_empty_references_and_unpaid_orders_do_not_count(database: Database) -> None:
    await see(database, sale(1), account="uno")
    await see(database, sale(2), account="otro")
    await see(database, sale(3, reference=""), sale(4, reference=""))
    await see(database, order(5, external_reference=REFERENCE), account="uno")
    await see(database, paid_order(6, external_reference=...), paid_order(7, external_reference=None))
    assert await open_discrepancies(database) == set()


async def test_a_changed_reference_leaves_one_group_and_joins_another(database: Database) -> None:
    await see(database, sale(1, reference="a"), sale(2, reference="a"), sale(3, reference="b"))
    assert await open_discrepancies(database) == duplicates(1, [2])
    await see(database, sale(2, seconds=90, reference="b"))
    assert await open_discrepancies(database) == duplicates(2, [3])


@pytest.mark.parametrize("seed", range(6))
async def test_any_order_of_sales_and_refunds_ends_where_it_should(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    numbers = list(range(1, 9))
    steps = [(number, "sale") for number in numbers] + [
        (number, "refund") for number in numbers if chance.random() < 0.5
    ]
    chance.shuffle(steps)
    state: dict[int, str] = {}
    for number, step in steps:
        # A refund is seen after its sale, or instead of it: either way it is the newer answer.
        state[number] = "refund" if "refund" in (step, state.get(number)) else "sale"
        await see(database, sale(number) if step == "sale" else given_back(number))
        sales = sorted(number for number, now in state.items() if now == "sale")
        assert await open_discrepancies(database) == duplicates(sales[0], sales[1:]) if sales else True


async def test_two_processes_applying_at_the_same_moment_find_each_other(database_dsn: str, database: Database) -> None:
    other = await Database.connect(database_dsn)
    try:
        for number in range(1, 41, 2):
            reference = f"ref-{number}"
            first = look(await claim(database, order_id(number)), sale(number, reference=reference))
            second = look(await claim(database, order_id(number + 1)), sale(number + 1, reference=reference))
            await asyncio.gather(apply_looks(database, [first]), apply_looks(other, [second]))
        expected = {(order_id(number + 1), "duplicate_sale", order_id(number)) for number in range(1, 41, 2)}
        assert await open_discrepancies(database) == expected
    finally:
        await other.close()
