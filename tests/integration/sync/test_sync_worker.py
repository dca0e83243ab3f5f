"""The worker against a provider on loopback and a real Postgres: bad days, pacing, stopping."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from service.database.pool import Database
from service.intake.record import NotificationRecorder
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.sync.claims import Lane, claim_due, mark_order_due
from service.sync.worker import Worker
from tests.support.deliveries import delivery
from tests.support.orders import order, order_id, paid_order
from tests.support.provider import StubProvider, not_found, stub_provider
from tests.support.waiting import until

ACCOUNT = Account("default", access_token="APP_USR-test", rate_per_second=200)


@asynccontextmanager
async def working(
    database: Database, provider: StubProvider, *accounts: Account, lease_seconds: float = 30, **options: Any
) -> AsyncIterator[Worker]:
    """A running worker; stopped at the end of the block."""
    async with MercadoPagoClient(provider.url, total_timeout_seconds=options.pop("timeout", 5)) as client:
        worker = Worker(
            database, client, concurrency=options.pop("concurrency", 8), poll_seconds=0.05, lease_seconds=lease_seconds
        )
        worker.follow(accounts or [ACCOUNT])
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            await worker.stop(within_seconds=options.pop("stop_within", 5))
            await asyncio.wait_for(task, 5)


async def mark(database: Database, *numbers: int, account: str = "default") -> None:
    for number in numbers:
        await mark_order_due(database, order_id(number), account)


async def row(database: Database, number: int) -> Any:
    return await database.fetchrow("select * from cuadre.sync where order_id = $1", order_id(number))


async def caught_up(database: Database) -> bool:
    return bool(await database.fetchval("select bool_and(fetched >= requested) from cuadre.sync"))


async def stored_statuses(database: Database) -> dict[int, str]:
    rows = await database.fetch("select order_id, status from cuadre.orders")
    return {int(one["order_id"][3:]): one["status"] for one in rows}


async def test_due_orders_are_fetched_applied_and_scheduled(database: Database) -> None:
    async with stub_provider() as provider, working(database, provider):
        provider.put(*(paid_order(number) for number in range(1, 31)))
        await mark(database, *range(1, 31))
        await until(lambda: caught_up(database), what="all orders are read")
    assert await stored_statuses(database) == dict.fromkeys(range(1, 31), "processed")
    assert set(provider.calls.values()) == {1}


async def test_provider_trouble_burns_no_attempt_changes_no_order_and_ends_in_convergence(database: Database) -> None:
    def mishap(order_id: str, nth: int) -> web.StreamResponse | None:
        answers: list[web.StreamResponse | None] = [
            web.Response(status=503),
            web.Response(status=200, text="<html>"),
            web.json_response({"id": "ORD99999999999999999999999999"}),
            web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"}),
            web.Response(status=429, headers={"Retry-After": "0"}),
        ]
        return answers[nth - 1] if nth <= len(answers) else None

    async with stub_provider() as provider, working(database, provider):
        provider.mishap = mishap
        provider.put(order(1))
        await mark(database, 1)
        await until(lambda: caught_up(database), what="the order is read in the end", seconds=60)
    assert await stored_statuses(database) == {1: "created"}
    assert provider.calls[order_id(1)] == 6
    end = await row(database, 1)
    assert (end["attempts"], end["troubles"], end["last_error"], end["quarantined_at"]) == (0, 0, None, None)
    outcomes = [
        one["outcome"] for one in await database.fetch("select outcome from cuadre.fetches order by claimed_at")
    ]
    assert outcomes[-1] == "applied"
    assert len(outcomes) == 6


async def test_an_outage_opens_the_breaker_and_everything_converges_when_it_is_over(database: Database) -> None:
    down = True
    async with stub_provider() as provider, working(database, provider) as worker:
        provider.mishap = lambda order_id, nth: web.Response(status=500) if down else None
        provider.put(*(order(number) for number in range(1, 101)))
        await mark(database, *range(1, 101))

        async def paused() -> bool:
            gate = worker.gates.gate("default")
            return gate is not None and gate.paused(asyncio.get_running_loop().time()) == "outage"

        await until(paused, what="the account is paused")
        # What was under way when the breaker opened still comes in; after that, only probes.
        assert sum(provider.calls.values()) < 40
        assert await database.fetchval("select max(attempts) from cuadre.sync where leased_until is null") == 0
        down = False
        await until(lambda: caught_up(database), what="all orders are read", seconds=60)
    assert await database.fetchval("select count(*) from cuadre.orders") == 100
    assert await database.fetchval("select count(*) from cuadre.sync where quarantined_at is not null") == 0


async def test_a_refused_token_pauses_its_account_only_and_new_settings_are_tried_at_once(database: Database) -> None:
    good = Account("buena", access_token="APP_USR-good", rate_per_second=200)
    bad = Account("mala", access_token="APP_USR-old", rate_per_second=200)

    async with stub_provider() as provider, working(database, provider, good, bad) as worker:
        refused = True
        provider.put(order(1), order(2))
        provider.mishap = lambda name, nth: (
            web.json_response({"code": "unauthorized", "message": "no"}, status=401)
            if name == order_id(2) and refused
            else None
        )
        await mark(database, 2, account="mala")
        await until(lambda: read_error(database, 2), what="the refusal is noted")
        await mark(database, 1, account="buena")
        await until(lambda: is_stored(database, 1), what="the other account goes on")
        assert (await row(database, 2))["attempts"] == 0
        refused = False
        await database.execute("update cuadre.sync set due_at = now()")
        worker.follow([good, Account("mala", access_token="APP_USR-new", rate_per_second=200)])
        await until(lambda: is_stored(database, 2), what="the new token is tried at once", seconds=10)


async def read_error(database: Database, number: int) -> str | None:
    current = await row(database, number)
    return current["last_error"] if current else None


async def is_stored(database: Database, number: int) -> bool:
    return number in await stored_statuses(database)


async def test_not_found_waits_an_hour_and_then_is_quarantined_and_a_notification_revives_it(
    database: Database,
) -> None:
    async with stub_provider() as provider, working(database, provider) as worker:
        await mark(database, 1)
        await until(lambda: read_error(database, 1), what="the first 404")
        first = await row(database, 1)
        assert first["quarantined_at"] is None
        assert first["due_at"] is not None
        await database.execute("update cuadre.sync set failing_since = now() - interval '61 min', due_at = now()")

        async def quarantined() -> bool:
            return bool((await row(database, 1))["quarantine_reason"] == "not_found")

        await until(quarantined, what="it is quarantined")
        end = await row(database, 1)
        assert end["due_at"] is None
        assert end["fetched"] >= end["requested"]
        provider.put(order(1))
        recorder = NotificationRecorder(database, on_committed=worker.wake)
        await recorder.record(delivery(order_id(1), verified=True))
        await until(lambda: is_stored(database, 1), what="it is read after all")
        await recorder.close()
        assert (await row(database, 1))["quarantined_at"] is None


async def test_a_stored_order_that_turns_404_keeps_its_state_and_is_still_looked_at(database: Database) -> None:
    async with stub_provider() as provider, working(database, provider):
        provider.put(paid_order(1))
        await mark(database, 1)
        await until(lambda: is_stored(database, 1), what="it is stored")
        provider.mishap = lambda order_id, nth: not_found()
        await mark(database, 1)
        await until(lambda: read_error(database, 1), what="the 404")
        await database.execute("update cuadre.sync set failing_since = now() - interval '61 min', due_at = now()")

        async def quarantined() -> bool:
            return bool((await row(database, 1))["quarantine_reason"] is not None)

        await until(quarantined, what="it is quarantined")
    assert await stored_statuses(database) == {1: "processed"}
    assert (await row(database, 1))["due_at"] is not None


@pytest.mark.parametrize(
    ("answer", "attempts", "reason"),
    [
        ({"total_amount": "-5"}, 5, "unreadable"),
        ({"transactions": {"payments": [{"id": "PAY1", "amount": "ten"}]}}, 5, "unreadable"),
    ],
)
async def test_an_unreadable_order_is_quarantined_with_its_raw_text_and_nothing_else_stops(
    database: Database, answer: dict[str, Any], attempts: int, reason: str
) -> None:
    async with stub_provider() as provider, working(database, provider):
        provider.put(order(1) | answer, order(2))
        await mark(database, 1, 2)

        async def quarantined() -> bool:
            await database.execute("update cuadre.sync set due_at = now() where fetched < requested")
            return bool((await row(database, 1))["quarantine_reason"] == reason)

        await until(quarantined, what="it is quarantined")
        await until(lambda: is_stored(database, 2), what="its neighbour is stored")
        assert provider.calls[order_id(1)] == attempts
        kept = await database.fetchrow("select * from cuadre.unreadable_payloads")
        assert kept is not None
        assert kept["order_id"] == order_id(1)
        assert next(iter(answer)) in kept["body"]
        provider.put(order(1))
        await mark(database, 1)
        await until(lambda: is_stored(database, 1), what="it heals")
    assert await database.fetchval("select count(*) from cuadre.unreadable_payloads") == 0


async def test_a_bad_request_is_quarantined_at_the_second(database: Database) -> None:
    async with stub_provider() as provider, working(database, provider):
        provider.mishap = lambda order_id, nth: web.json_response(
            {"errors": [{"code": "invalid_path_param"}]}, status=400
        )
        await mark(database, 1)

        async def quarantined() -> bool:
            await database.execute("update cuadre.sync set due_at = now() where fetched < requested")
            return bool((await row(database, 1))["quarantine_reason"] == "bad_request")

        await until(quarantined, what="it is quarantined")
    assert provider.calls[order_id(1)] == 2


async def test_an_order_that_kills_its_worker_is_bounded(database: Database) -> None:
    await mark(database, 1)
    for _ in range(11):
        await claim_due(database, [Lane("default", known=True, room=1)], lease_seconds=0)
        await database.execute("update cuadre.sync set due_at = now()")
    async with stub_provider() as provider, working(database, provider):

        async def quarantined() -> bool:
            return bool((await row(database, 1))["quarantine_reason"] == "worker_lost")

        await until(quarantined, what="it is quarantined")
        assert provider.calls == {}


async def test_a_flood_of_strangers_does_not_keep_known_orders_waiting(database: Database) -> None:
    # Invariant I8: forged ids cost their own share of the rate only.
    slow = Account("default", access_token="APP_USR-test", rate_per_second=20)
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    await asyncio.gather(*(recorder.record(delivery(order_id(n), verified=False)) for n in range(1000, 1400)))
    async with stub_provider() as provider, working(database, provider, slow):
        provider.put(*(order(number) for number in range(1, 21)))
        await asyncio.gather(*(recorder.record(delivery(order_id(n), verified=True)) for n in range(1, 21)))

        async def honest_are_stored() -> bool:
            return len(await stored_statuses(database)) == 20

        await until(honest_are_stored, what="every verified order is stored")
        forged = sum(count for name, count in provider.calls.items() if int(name[3:]) >= 1000)
        honest = sum(count for name, count in provider.calls.items() if int(name[3:]) < 1000)
        # At most half of the rate, plus the two buckets' first fill.
        assert forged <= honest + 10
    await recorder.close()


async def test_stopping_finishes_what_it_can_and_releases_the_rest(database: Database) -> None:
    blocked = asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        await blocked.wait()
        return web.Response(status=500)

    async with stub_provider() as provider:
        app = web.Application()
        app.router.add_get("/v1/orders/{order_id}", hang)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        await mark(database, 1, 2)
        async with working(database, provider, stop_within=0.2, timeout=30):

            async def leased() -> bool:
                return bool(
                    await database.fetchval("select count(*) = 2 from cuadre.sync where leased_until is not null")
                )

            await until(leased, what="both are claimed")
        released = await database.fetch("select attempts, leased_until, due_at <= now() as due from cuadre.sync")
        assert [(one["attempts"], one["leased_until"], one["due"]) for one in released] == [(0, None, True)] * 2
        blocked.set()
        await runner.cleanup()


async def test_two_workers_share_the_work_and_fetch_nothing_twice(database_dsn: str, database: Database) -> None:
    other = await Database.connect(database_dsn)
    async with stub_provider() as provider:
        provider.put(*(order(number) for number in range(1, 61)))
        await mark(database, *range(1, 61))
        async with working(database, provider), working(other, provider):
            await until(lambda: caught_up(database), what="all orders are read")
        assert set(provider.calls.values()) == {1}
    await other.close()
