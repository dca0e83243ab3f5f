"""One order that the account is not shown is its own trouble; an account that is shown none is paused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from service.database.pool import Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient, Seller
from service.mercadopago.errors import ServerTrouble
from service.mercadopago.pacing import BREAKER_FAILURES, AccountGate
from service.sync.apply import Look, apply_looks
from service.sync.claims import mark_order_due
from service.sync.look import look_at
from tests.support.looking import claim, see
from tests.support.orders import order_id, paid_order
from tests.support.provider import not_found, stub_provider
from tests.support.waiting import until
from tests.support.workers import Running

ACCOUNT = Account("default", access_token="APP_USR-t", rate_per_second=50.0)
Mishap = Callable[[str, int], web.StreamResponse | None]


def refused(*numbers: int) -> Mishap:
    """403 for these orders; for all of them where none is named."""

    def answer(asked: str, nth: int) -> web.StreamResponse | None:
        if numbers and asked not in map(order_id, numbers):
            return None
        return web.json_response({"message": "At least one policy returned UNAUTHORIZED."}, status=403)

    return answer


async def row(database: Database, number: int) -> Any:
    return await database.fetchrow("select * from cuadre.sync where order_id = $1", order_id(number))


async def looked_at(database: Database, number: int, mishap: Mishap, gate: AccountGate, now: float = 1.0) -> Look:
    """A claimed look whose answer is applied; the provider has the orders 1 to 9."""
    held = await claim(database, order_id(number))
    async with stub_provider() as provider, MercadoPagoClient(provider.url) as client:
        provider.put(*(paid_order(one) for one in range(1, 10)))
        provider.mishap = mishap
        gate.take(now, known=1)
        look = await look_at(client, ACCOUNT, held, gate, lambda: now, database=database)
    await apply_looks(database, [look])
    return look


@pytest.fixture
def gate() -> AccountGate:
    return AccountGate(50, random=lambda: 0.5)


async def test_one_order_that_is_refused_keeps_no_sale_waiting(database: Database) -> None:
    await see(database, paid_order(1), paid_order(2))
    async with stub_provider() as provider:
        provider.put(paid_order(1), paid_order(2), paid_order(3))
        provider.mishap = refused(1)
        async with Running(database, provider, ACCOUNT) as worker:
            await mark_order_due(database, order_id(1), "default")
            worker.wake()

            async def is_refused() -> bool:
                return bool((await row(database, 1))["last_error"])

            await until(is_refused, what="the refusal is noted")
            await mark_order_due(database, order_id(3), "default")
            worker.wake()

            async def is_sold() -> bool:
                return bool(await database.fetchval("select count(*) = 3 from cuadre.orders"))

            await until(is_sold, what="the sale is stored", seconds=10)
    current = await row(database, 1)
    assert (current["attempts"], current["quarantined_at"]) == (0, None)
    assert "this order alone" in current["last_error"]
    assert current["due_at"] is not None


async def test_an_order_that_stays_refused_ends_in_quarantine_by_the_24_hours(
    database: Database, gate: AccountGate
) -> None:
    await see(database, paid_order(1), paid_order(2))
    gate.succeeded(0.0)
    first = await looked_at(database, 1, refused(1), gate, now=7200.0)
    assert first.failure is not None
    assert not first.failure.counts
    assert (await row(database, 1))["quarantined_at"] is None
    await database.execute(
        "update cuadre.sync set failing_since = now() - interval '25 h' where order_id = $1", order_id(1)
    )
    await looked_at(database, 1, refused(1), gate, now=7201.0)
    current = await row(database, 1)
    assert current["quarantine_reason"] == first.failure.kind
    assert current["due_at"] is not None, "its money can still move"
    assert gate.paused(7201.0) is None


async def test_an_account_that_is_shown_no_order_is_paused_though_its_token_is_good(
    database: Database, gate: AccountGate
) -> None:
    await see(database, paid_order(1), paid_order(2))
    look = await looked_at(database, 1, refused(), gate)
    assert look.failure is not None
    assert gate.paused(1.0) == "refused"


@pytest.mark.parametrize("is_stored", [False, True])
async def test_where_no_other_order_was_read_the_account_is_paused(
    database: Database, gate: AccountGate, is_stored: bool
) -> None:
    if is_stored:
        await see(database, paid_order(1))
    await looked_at(database, 1, refused(1), gate)
    assert gate.paused(1.0) == "refused"


async def test_an_order_that_fails_itself_vouches_for_nobody(database: Database, gate: AccountGate) -> None:
    await see(database, *(paid_order(number) for number in (1, 2, 3)))
    await database.execute("update cuadre.sync set due_at = now() + interval '1 min' where order_id = $1", order_id(3))
    await looked_at(database, 2, refused(1, 2), gate)
    assert gate.paused(1.0) is None
    await looked_at(database, 1, refused(1, 2), gate)
    assert gate.paused(1.0) is None


async def test_another_order_that_is_no_longer_shown_will_do(database: Database, gate: AccountGate) -> None:
    await see(database, paid_order(1), paid_order(2))
    answers = refused(1)
    await looked_at(database, 1, lambda asked, nth: answers(asked, nth) or not_found(), gate)
    assert gate.paused(1.0) is None


@pytest.mark.parametrize("status", [503, 429])
async def test_trouble_while_another_order_is_asked_for_proves_nothing_and_pauses_nobody(
    database: Database, gate: AccountGate, status: int
) -> None:
    await see(database, paid_order(1), paid_order(2))
    answers = refused(1)
    look = await looked_at(database, 1, lambda asked, nth: answers(asked, nth) or web.Response(status=status), gate)
    assert gate.paused(1.0) is None
    assert look.failure is not None
    assert (look.failure.kind, look.failure.counts) == ("forbidden", False)
    assert "not known" in look.failure.message
    current = await row(database, 1)
    assert (current["attempts"], current["troubles"], current["quarantined_at"]) == (0, 1, None)
    await looked_at(database, 1, refused(), gate)
    assert gate.paused(1.0) == "refused", "asked again, and the account is shown no order"


async def test_refusals_of_a_provider_that_is_down_open_the_breaker(database: Database, gate: AccountGate) -> None:
    await see(database, paid_order(1), paid_order(2))
    answers = refused(1)
    for _ in range(BREAKER_FAILURES):
        await looked_at(database, 1, lambda asked, nth: answers(asked, nth) or web.Response(status=503), gate)
    assert gate.paused(1.0) == "outage"


class SilentOnTokens(MercadoPagoClient):
    """Who the token is of is not answered."""

    async def who_am_i(self, account: Account) -> Seller:
        raise ServerTrouble("503: as told", status=503)


async def test_a_forged_id_pauses_nobody_while_the_provider_does_not_say_whether_the_token_is_good(
    database: Database, gate: AccountGate
) -> None:
    held = replace(await claim(database, order_id(66)), trust=0)
    async with stub_provider() as provider, SilentOnTokens(provider.url) as client:
        provider.mishap = refused(66)
        gate.take(1.0, known=1)
        look = await look_at(client, ACCOUNT, held, gate, lambda: 1.0, database=database)
    assert gate.paused(1.0) is None
    assert look.failure is not None
    assert not look.failure.counts
