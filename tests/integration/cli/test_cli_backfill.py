"""`cuadre backfill`: a range is listed and stored, alone and beside a running service, whole again after `kill -9`."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.audit.backfill import BackfillRun
from service.audit.completeness import QUERIES, Certificate, excuse, read_certificate
from service.audit.listing import ProviderList
from service.database.pool import Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.errors import AccountRefused
from service.mercadopago.listing import OrdersPage
from service.simulator.server import SimulatorConfig, create_app
from service.sync.gates import Gates
from service.sync.worker import Worker
from tests.integration.cli.cli_support import TOKEN, USER_ID, Cuadre, Result
from tests.support.listing import Asked, BentList, entry
from tests.support.looking import see
from tests.support.orders import order
from tests.support.waiting import until

DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=10)
FROM, TO = DAY, DAY + timedelta(days=2)


class Shop:
    """A simulator that announces nothing, and what is stored of it."""

    def __init__(self, server: TestServer, database: Database) -> None:
        self.server, self.database = server, database
        self.url = str(server.make_url("")).rstrip("/")

    async def tell(self, path: str, body: object) -> Any:
        async with _session() as session, session.post(f"{self.url}/_sim/{path}", json=body) as answer:
            assert answer.status in {200, 201}, await answer.text()
            return await answer.json()

    async def sell(self, count: int, *, first: datetime = FROM, every: timedelta = timedelta(minutes=1)) -> list[str]:
        """Orders created at these moments, paid unless their number is a multiple of three."""
        found = []
        async with _session() as session:
            for number in range(count):
                created = (first + number * every).isoformat(timespec="milliseconds").replace("+00:00", "Z")
                spec = {"type": "qr", "total_amount": "100.00", "created_date": created}
                async with session.post(f"{self.url}/_sim/orders", json=spec) as answer:
                    found.append((await answer.json())["id"])
                if number % 3:
                    async with session.post(f"{self.url}/_sim/orders/{found[-1]}/pay", json={}) as answer:
                        assert answer.status == 200
        return found

    async def requests(self, operation: str) -> int:
        async with (
            _session() as session,
            session.get(f"{self.url}/_sim/requests?operation={operation}&limit=1") as answer,
        ):
            counts = (await answer.json())["counts"].get(operation, {})
            return sum(counts.values())

    async def stored(self) -> dict[str, str]:
        rows = await self.database.fetch("select order_id, status from cuadre.orders")
        return {row["order_id"]: row["status"] for row in rows}

    async def standing(self) -> Any:
        return await self.database.fetchrow("select * from cuadre.sweeps where kind = 'backfill'")


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


@pytest.fixture
async def shop(cuadre: Cuadre, database: Database, environment: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    app: web.Application = create_app(SimulatorConfig(seed=3, access_tokens={TOKEN: USER_ID}, user_id=USER_ID))
    server = TestServer(app)
    await server.start_server()
    environment.setenv("CUADRE_MERCADOPAGO_URL", str(server.make_url("")).rstrip("/"))
    yield Shop(server, database)
    await server.close()


async def backfilled(cuadre: Cuadre, *more: str, code: int = 0, begin: datetime = FROM, end: datetime = TO) -> Any:
    result = await cuadre("backfill", "--from", text(begin), "--to", text(end), "--format", "json", *more)
    assert result.code == code, (result.out, result.err)
    [document] = result.json()["data"]
    return document


def text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def counts(document: Any) -> tuple[int, ...]:
    return tuple(document[name] for name in ("listed", "unknown", "stale", "applied", "failed"))


async def test_every_unknown_order_of_the_range_is_stored_and_a_second_run_finds_all_known(
    cuadre: Cuadre, shop: Shop
) -> None:
    sold = await shop.sell(120)
    outside = await shop.sell(1, first=FROM - timedelta(seconds=1)) + await shop.sell(1, first=TO)
    first = await backfilled(cuadre)
    assert counts(first) == (120, 120, 0, 120, 0)
    assert (first["finished"], first["resumed"], first["error"], first["failures"]) == (True, False, None, [])
    stored = await shop.stored()
    assert stored.keys() == set(sold)
    assert not stored.keys() & set(outside)
    assert {stored[order_id] for order_id in sold[::3]} == {"expired"}
    assert stored[sold[1]] == "processed"
    looks = await shop.requests("get_order")
    assert counts(await backfilled(cuadre)) == (120, 0, 0, 0, 0)
    assert await shop.requests("get_order") == looks


async def test_older_orders_are_looked_at_again_and_dates_and_times_name_the_range(cuadre: Cuadre, shop: Shop) -> None:
    [order_id] = await shop.sell(1)
    days = "--from", FROM.date().isoformat(), "--to", TO.date().isoformat()
    result = await cuadre("backfill", *days)
    assert result.code == 0
    title, row = result.out.splitlines()
    assert title.split() == ["ACCOUNT", "FROM", "TO", "LISTED", "UNKNOWN", "STALE", "APPLIED", "FAILED", "STATE"]
    assert row.split()[-6:] == ["1", "1", "0", "1", "0", "finished"]
    await shop.tell(f"orders/{order_id}/pay", {})
    assert counts(await backfilled(cuadre)) == (1, 0, 1, 1, 0)
    assert await shop.stored() == {order_id: "processed"}


async def test_an_order_that_fails_is_told_stays_due_and_the_rest_is_stored(
    cuadre: Cuadre, shop: Shop, database: Database
) -> None:
    sold = await shop.sell(5)
    await shop.tell("faults", {"get_order": {"status": 404, "order_id": sold[2]}})
    result = await cuadre("backfill", "--from", text(FROM), "--to", text(TO))
    assert result.code == 1
    assert f"{sold[2]}  failed: not_found: 404" in result.err
    assert (await shop.stored()).keys() == set(sold) - {sold[2]}
    assert await database.fetchval("select due_at is not null from cuadre.sync where order_id = $1", sold[2])
    assert (await shop.standing())["last_error"].startswith(f"{sold[2]}: not_found")
    await shop.tell("faults", {"get_order": {}})
    assert counts(await backfilled(cuadre)) == (5, 1, 0, 1, 0)
    assert (await shop.standing())["last_error"] is None


async def test_a_provider_that_is_down_for_the_looks_stops_the_run_and_it_goes_on_later(
    cuadre: Cuadre, shop: Shop, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr("service.cli.backfill.LOOK_SECONDS", 1.0)
    sold = await shop.sell(30)
    await shop.tell("faults", {"get_order": {"status": 503}})
    stopped = await backfilled(cuadre, code=1)
    assert not stopped["finished"]
    assert stopped["error"].startswith("20 orders in a row failed")
    assert (await shop.standing())["position_at"] == FROM
    await shop.tell("faults", {"get_order": {}})
    await backfilled(cuadre)
    assert (await shop.stored()).keys() == set(sold)


async def test_orders_that_are_listed_and_no_more_shown_are_told_and_the_younger_ones_are_stored(
    cuadre: Cuadre, shop: Shop
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    begin, end = now - timedelta(days=110), now - timedelta(days=5)
    old = await shop.sell(25, first=now - timedelta(days=100))
    young = await shop.sell(10, first=now - timedelta(days=10))
    await shop.tell("rules", {"orders_shown_days": 90})
    for stored_before in (0, 10):
        document = await backfilled(cuadre, code=1, begin=begin, end=end)
        assert (document["finished"], document["resumed"], document["error"]) == (True, False, None)
        assert {one["order_id"] for one in document["failures"]} == set(old)
        assert all(one["error"].startswith("not_found: 404") for one in document["failures"])
        assert document["applied"] == len(young) - stored_before
        assert (await shop.stored()).keys() == set(young)


async def test_a_search_that_fails_for_a_while_is_waited_for(cuadre: Cuadre, shop: Shop) -> None:
    sold = await shop.sell(3)
    await shop.tell("faults", {"search": {"status": 502, "count": 2}})
    assert counts(await backfilled(cuadre)) == (3, 3, 0, 3, 0)
    assert (await shop.stored()).keys() == set(sold)


async def test_a_refused_token_is_told_at_once(cuadre: Cuadre, shop: Shop) -> None:
    await shop.tell("faults", {"me": {"status": 401}})
    result = await cuadre("backfill", "--from", text(FROM), "--to", text(TO))
    assert result.code == 1
    assert "default  stopped: unauthorized: 401" in result.err
    assert "access_token" in result.err


@pytest.mark.parametrize("status", [403, 404, 405, 500])
async def test_a_provider_that_does_not_say_who_the_token_is_is_listed_all_the_same(
    cuadre: Cuadre, shop: Shop, status: int
) -> None:
    sold = await shop.sell(2)
    await shop.tell("faults", {"me": {"status": status}})
    assert counts(await backfilled(cuadre)) == (2, 2, 0, 2, 0)
    assert (await shop.stored()).keys() == set(sold)


async def test_beside_a_running_service_both_end_with_the_same_rows(
    cuadre: Cuadre, shop: Shop, database: Database
) -> None:
    sold = await shop.sell(60)
    async with MercadoPagoClient(shop.url) as api:
        worker = Worker(database, api, concurrency=8, poll_seconds=0.05, lease_seconds=30)
        worker.follow([Account("default", access_token=TOKEN)])
        task = asyncio.create_task(worker.run())
        document = await backfilled(cuadre)
        await worker.stop(within_seconds=5)
        await task
    assert counts(document) == (60, 60, 0, 60, 0)
    assert (await shop.stored()).keys() == set(sold)
    versions = await database.fetch("select order_id, count(*) as versions from cuadre.order_versions group by 1")
    assert {row["versions"] for row in versions} == {1}


async def test_a_run_that_is_killed_goes_on_where_it_stood(cuadre: Cuadre, shop: Shop, tmp_path: Any) -> None:
    sold = await shop.sell(450, every=timedelta(seconds=60))
    arguments = ["backfill", "--from", text(FROM), "--to", text(TO), "--format", "json"]
    with (tmp_path / "killed.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "service", *arguments, stdout=log, stderr=log, env=dict(os.environ)
        )
        try:

            async def has_moved() -> bool:
                row = await shop.standing()
                return row is not None and row["position_at"] > FROM + timedelta(minutes=90)

            await until(has_moved, what="the run has moved past its first page", seconds=60)
            process.send_signal(signal.SIGKILL)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
    position = (await shop.standing())["position_at"]
    stored = await shop.stored()
    before = {order_id for number, order_id in enumerate(sold) if FROM + timedelta(seconds=60 * number) < position}
    assert before <= stored.keys(), "the position stands before all that is not stored"
    assert len(stored) < len(sold)
    looks = await shop.requests("get_order")
    document = await backfilled(cuadre)
    assert (document["resumed"], document["finished"]) == (True, True)
    assert document["listed"] < len(sold)
    assert (await shop.stored()).keys() == set(sold)
    # What was stored before the kill was not asked for again, but for looks that were under way.
    assert await shop.requests("get_order") - looks <= len(sold) - len(stored) + 8
    assert (await shop.standing())["listed"] >= len(sold)
    again = await backfilled(cuadre)
    assert (again["resumed"], *counts(again)) == (False, 450, 0, 0, 0, 0)


@pytest.mark.parametrize("stays", [True, False])
async def test_what_failed_before_a_kill_is_tried_again_and_told_by_the_run_that_goes_on(
    cuadre: Cuadre, shop: Shop, database: Database, stays: bool
) -> None:
    class Killed(BaseException):
        """As if the process ended here."""

    sold = await shop.sell(250)
    broken = sold[30]
    moments = {order_id: FROM + timedelta(minutes=number) for number, order_id in enumerate(sold)}

    def killed(nth: int, asked: Asked) -> OrdersPage | None:
        if nth == 3:
            raise Killed
        return None

    async def look(order_id: str, of: str | None) -> str | None:
        if order_id == broken:
            return "not_found: 404"
        dates = {name: text(moments[order_id]) for name in ("created_date", "last_updated_date")}
        await see(database, order(1) | dates | {"id": order_id})
        return None

    gates = Gates(asyncio.get_running_loop().time)
    gates.follow([Account("default", access_token=TOKEN)])
    listing = ProviderList(BentList([entry(*one) for one in moments.items()], killed), gates, "default")
    run = BackfillRun(database, listing, look, account="default", from_at=FROM, to_at=TO, random=lambda: 0.0)
    now = datetime.now(UTC)
    await run.begin(now)
    with pytest.raises(Killed):
        await run.run(now)
    assert len(await shop.stored()) == 99
    assert FROM < (await shop.standing())["position_at"] <= moments[broken]
    if stays:
        await shop.tell("faults", {"get_order": {"status": 404, "order_id": broken}})
    document = await backfilled(cuadre, code=int(stays))
    assert (document["resumed"], document["finished"]) == (True, True)
    assert [one["order_id"] for one in document["failures"]] == ([broken] if stays else [])
    assert (await shop.stored()).keys() == set(sold) - ({broken} if stays else set())


async def test_a_clean_run_that_touches_the_certificate_extends_it_backwards(
    cuadre: Cuadre, shop: Shop, database: Database
) -> None:
    await shop.sell(3)
    for since in (TO + timedelta(hours=1), TO):
        await database.execute("delete from cuadre.completeness")
        await database.execute(QUERIES.begin_certificate, "default", since)
        document = await backfilled(cuadre, begin=FROM - timedelta(minutes=30))
        certificate = await read_certificate(database, "default")
        assert certificate is not None
        assert certificate.complete_until == since
        assert certificate.complete_since == (FROM if since == TO else since)
        assert document["complete_since"] == (text(FROM) if since == TO else None)


async def test_a_clean_run_over_all_that_is_certified_knows_anew_which_types_the_list_leaves_out(
    cuadre: Cuadre, shop: Shop, database: Database
) -> None:
    await shop.sell(2)
    await database.execute(QUERIES.begin_certificate, "default", TO)
    await database.execute("update cuadre.completeness set blind_types = '{qr}'")
    dates = {"created_date": text(FROM + timedelta(hours=3)), "last_updated_date": text(FROM + timedelta(hours=3))}
    await see(database, order(1) | dates | {"type": "legacy_qr"})
    await backfilled(cuadre)
    certificate = await read_certificate(database, "default")
    assert certificate is not None
    assert (certificate.complete_since, certificate.blind_types) == (FROM, ("legacy_qr",))


class Nameless(BentList):
    """A list of stored orders, one a minute, in whose first page one more entry bears no usable id."""

    def page(self, begin: datetime, end: datetime, page: int, page_size: int) -> OrdersPage:
        found = super().page(begin, end, page, page_size)
        return (
            replace(found, total=None if found.total is None else found.total + 1, skipped=1)
            if begin <= FROM
            else found
        )


def run_over(database: Database, shown: BentList) -> BackfillRun:
    """Everything that is listed is stored as new, and nothing is looked at."""

    async def look(order_id: str, of: str | None) -> str | None:
        raise AssertionError(f"{order_id} of {of} is stored already")

    gates = Gates(asyncio.get_running_loop().time)
    gates.follow([Account("default", access_token=TOKEN)])
    listing = ProviderList(shown, gates, "default")
    return BackfillRun(database, listing, look, account="default", from_at=FROM, to_at=TO, random=lambda: 0.0)


async def stored_and_listed(database: Database, count: int) -> Nameless:
    moments = [FROM + timedelta(minutes=number) for number in range(count)]
    for number, moment in enumerate(moments):
        await see(database, order(number) | {"created_date": text(moment), "last_updated_date": text(moment)})
    return Nameless([entry(str(order(number)["id"]), moment) for number, moment in enumerate(moments)])


async def test_entries_without_a_usable_id_hold_the_position_before_them(database: Database) -> None:
    shown = await stored_and_listed(database, 120)

    def ends(nth: int, asked: Asked) -> OrdersPage | None:
        if asked.begin > FROM:
            raise AccountRefused("401: as told", status=401)
        return None

    shown.before = ends
    run = run_over(database, shown)
    await run.begin(datetime.now(UTC))
    with pytest.raises(AccountRefused):
        await run.run(datetime.now(UTC))
    row = await database.fetchrow("select position_at, listed from cuadre.sweeps")
    assert row is not None
    assert (row["position_at"], row["listed"]) == (FROM, 100)


async def test_entries_without_a_usable_id_are_a_failure_and_certify_nothing(database: Database) -> None:
    await database.execute(QUERIES.begin_certificate, "default", TO)
    run = run_over(database, await stored_and_listed(database, 3))
    await run.begin(datetime.now(UTC))
    result = await run.run(datetime.now(UTC))
    assert (result.finished, result.listed, result.certified_since) == (True, 3, None)
    assert result.failures == [("-", "the list shows entries without a usable id (1)")]
    assert (await certificate_of(database)).complete_since == TO


async def store(database: Database, number: int, **fields: Any) -> None:
    """By its notification; the provider's list does not show it."""
    dates = {"created_date": text(FROM + timedelta(hours=3)), "last_updated_date": text(FROM + timedelta(hours=3))}
    await see(database, order(number) | dates | fields)


async def certificate_of(database: Database) -> Certificate:
    found = await read_certificate(database, "default")
    assert found is not None
    return found


@pytest.mark.parametrize("shown", [2, 0])
async def test_a_list_that_leaves_out_stored_orders_or_everything_extends_nothing(
    cuadre: Cuadre, shop: Shop, database: Database, shown: int
) -> None:
    await shop.sell(shown)
    await store(database, 1)
    await store(database, 2)
    await database.execute(QUERIES.begin_certificate, "default", TO)
    before = await certificate_of(database)
    result = await cuadre("backfill", "--from", text(FROM), "--to", text(TO))
    assert result.code == 0, result.err
    assert await certificate_of(database) == before
    said = f"the list leaves out 2 stored orders of type qr, such as {order(1)['id']}"
    assert (said in result.err) is bool(shown)


async def test_left_out_orders_that_are_excused_or_of_a_type_that_is_known_not_to_be_listed_hold_up_nothing(
    cuadre: Cuadre, shop: Shop, database: Database
) -> None:
    await shop.sell(1)
    await store(database, 1)
    await store(database, 2, type="legacy_qr")
    await store(database, 3, type="point")
    await excuse(database, [order(1)["id"]], "looked into")
    await database.execute(QUERIES.begin_certificate, "default", TO)
    await database.execute("update cuadre.completeness set blind_types = '{point}'")
    assert (await backfilled(cuadre))["complete_since"] == text(FROM)
    certificate = await certificate_of(database)
    assert (certificate.complete_since, certificate.blind_types) == (FROM, ("legacy_qr", "point"))


async def test_a_type_that_is_listed_in_part_stays_named_as_blind(
    cuadre: Cuadre, shop: Shop, database: Database
) -> None:
    await shop.sell(1)
    await store(database, 1)
    await database.execute(QUERIES.begin_certificate, "default", FROM)
    await database.execute("update cuadre.completeness set blind_types = '{qr}', complete_until = $1", TO)
    await backfilled(cuadre)
    assert (await certificate_of(database)).blind_types == ("qr",)


async def test_of_a_type_that_was_listed_again_the_certificate_speaks_from_its_begin_after_a_run_over_it(
    cuadre: Cuadre, shop: Shop, database: Database
) -> None:
    await shop.sell(2)
    await database.execute(QUERIES.begin_certificate, "default", FROM)
    await database.execute(
        "update cuadre.completeness set complete_until = $2::timestamptz + interval '1 day', types_since = "
        "jsonb_build_object('qr', $1::timestamptz, 'point', $1::timestamptz, 'online', $2 + interval '1 hour')",
        FROM + timedelta(hours=6),
        TO,
    )
    await backfilled(cuadre)
    certificate = await certificate_of(database)
    assert (certificate.complete_since, certificate.blind_types) == (FROM, ())
    assert certificate.types_since == {"point": FROM + timedelta(hours=6), "online": TO + timedelta(hours=1)}


@pytest.mark.parametrize("how", ["failed", "resumed"])
async def test_a_run_that_failed_for_an_order_or_was_interrupted_extends_nothing(
    cuadre: Cuadre, shop: Shop, database: Database, how: str
) -> None:
    sold = await shop.sell(3)
    await database.execute(QUERIES.begin_certificate, "default", TO)
    if how == "failed":
        await shop.tell("faults", {"get_order": {"status": 404, "order_id": sold[0]}})
    else:
        await database.fetchval(QUERIES.begin_backfill, "default", FROM, TO)
        await database.execute("update cuadre.sweeps set position_at = $1", FROM + timedelta(minutes=1))
    await backfilled(cuadre, code=int(how == "failed"))
    certificate = await read_certificate(database, "default")
    assert certificate is not None
    assert certificate.complete_since == TO


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "2026-01-02", "--to", "2026-01-02"], "must be earlier than --to"),
        (["--from", "2026-01-03", "--to", "2026-01-02"], "must be earlier than --to"),
        (["--from", "2019-01-01", "--to", "2026-01-02"], "5 years"),
        (["--from", "2190-01-01", "--to", "2191-01-01"], "future"),
        (["--from", "2026-02-30", "--to", "2026-03-02"], "a date that exists"),
        (["--from", "yesterday", "--to", "2026-03-02"], "a date like 2026-11-05"),
        (["--from", "2026-01-01T00:00:00", "--to", "2026-03-02"], "with an offset"),
        (["--to", "2026-03-02"], "--from"),
        (["--from", "2026-01-02", "--to", "2026-01-03", "--account", "nobody"], "there are default"),
    ],
)
async def test_a_range_that_cannot_be_is_refused_before_anything_is_asked(
    cuadre: Cuadre, shop: Shop, arguments: list[str], words: str
) -> None:
    result: Result = await cuadre("backfill", *arguments)
    assert result.code == 2
    assert words in " ".join(result.err.split()).replace("│ ", "").replace(" │", "")
    assert await shop.requests("me") == 0


async def test_each_account_is_filled_with_its_own_orders(
    cuadre: Cuadre, shop: Shop, environment: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    await shop.sell(2)
    accounts = tmp_path / "accounts.json"
    accounts.write_text(
        json.dumps([{"name": "north", "access_token": TOKEN}, {"name": "south", "access_token": "unknown"}])
    )
    environment.setenv("CUADRE_ACCOUNTS_FILE", str(accounts))
    result = await cuadre("backfill", "--from", text(FROM), "--to", text(TO), "--format", "json")
    assert result.code == 1
    north, south = result.json()["data"]
    assert (north["account"], *counts(north)) == ("north", 2, 2, 0, 2, 0)
    assert (south["account"], south["finished"]) == ("south", False)
    only = await cuadre("backfill", "--from", text(FROM), "--to", text(TO), "--account", "north")
    assert only.code == 0
