"""Orders that are shown no more: read by their payments, laid over what is stored, told as such, and never twice."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service.accounts import AccountBook
from service.cli.look_now import LookNow
from service.database.pool import Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.errors import UnreadableOrder
from service.mercadopago.pacing import AccountGate
from service.mercadopago.reader import ReadOrder, read_order
from service.simulator.server import SimulatorConfig, create_app
from service.sync.apply import Look, Outcome, apply_looks
from service.sync.by_payments import READ_BY_PAYMENTS
from service.sync.claims import mark_order_due
from service.sync.judging import judge_stored
from service.sync.look import look_at
from service.sync.payments_overlay import laid_over, references_of
from service.sync.worker import Worker
from tests.support.looking import claim, look, open_discrepancies
from tests.support.orders import order, order_id, paid_order, payment, payment_id, raw, refund, refunded_order
from tests.support.provider import not_found, seller
from tests.support.waiting import until

ACCOUNT = Account("default", access_token="APP_USR-test", rate_per_second=200)
LONG_AGO = datetime.now(UTC) - timedelta(days=100)
REFERENCE = "118000000102"


def text_of(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# With the simulator ----------------------------------------------------------------------------------------------


@dataclass
class World:
    """A provider whose clock is moved, and looks at it as the worker makes them."""

    http: TestClient[web.Request, web.Application]
    api: MercadoPagoClient
    database: Database
    gate: AccountGate
    account: Account = ACCOUNT

    @property
    def url(self) -> str:
        return str(self.http.make_url("")).rstrip("/")

    async def tell(self, path: str, body: dict[str, Any]) -> Any:
        async with self.http.post(f"/_sim/{path}", json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def clock(self, moment: datetime) -> None:
        await self.tell("clock", {"set": text_of(moment), "speed": 0})

    async def sold_long_ago(self, **fields: Any) -> str:
        """A paid QR order of 50.00, stored; by now it is shown no more."""
        await self.clock(LONG_AGO)
        created: dict[str, Any] = await self.tell(
            "orders", {"type": "qr", "status": "processed", "total_amount": "50.00"} | fields
        )
        sold: str = created["id"]
        (outcome,) = await self.look(sold)
        assert outcome.applied is not None
        await self.clock(datetime.now(UTC) - timedelta(days=5))
        await self.tell("rules", {"orders_shown_days": 90})
        return sold

    async def look(self, sold: str) -> list[Outcome]:
        held = await claim(self.database, sold)
        seen = await look_at(self.api, self.account, held, self.gate, lambda: 1.0, database=self.database)
        return await apply_looks(self.database, [seen])

    async def stored(self, sold: str) -> Any:
        return await self.database.fetchrow("select * from cuadre.orders where order_id = $1", sold)

    async def refunds(self, sold: str) -> list[tuple[Any, ...]]:
        rows = await self.database.fetch(
            "select refund_id, payment_id, amount::text as amount, status from cuadre.refunds "
            "where order_id = $1 and vanished_at is null order by position",
            sold,
        )
        return [tuple(row.values()) for row in rows]


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    client = TestClient(TestServer(create_app(SimulatorConfig(seed=7))))
    await client.start_server()
    async with MercadoPagoClient(str(client.make_url("")).rstrip("/")) as api:
        yield World(client, api, database, AccountGate(200, random=lambda: 0.5))
    await client.close()


async def test_a_refund_of_an_old_order_is_seen_at_its_payment(world: World) -> None:
    sold = await world.sold_long_ago()
    before = await world.stored(sold)
    await world.tell(f"orders/{sold}/refund", {"amount": "20.00"})

    (outcome,) = await world.look(sold)

    assert (outcome.settlement.outcome, outcome.settlement.detail) == ("applied", READ_BY_PAYMENTS)
    assert outcome.settlement.due_at is not None
    stored = await world.stored(sold)
    assert (stored["status"], stored["version"], str(stored["refunded_amount"])) == ("processed", 2, "20.00")
    assert stored["updated_at"] > before["updated_at"]
    ((refund_id, of_payment, amount, status),) = await world.refunds(sold)
    payload = json.loads(stored["payload"])
    assert (of_payment, amount, status) == (payload["transactions"]["payments"][0]["id"], "20.00", "processed")
    assert refund_id.isdigit()
    reference = payload["transactions"]["payments"][0]["reference_id"]
    assert payload["payments_api"][reference]["transaction_amount_refunded"] == 20
    assert payload["order_document_date"] == json.loads(before["payload"])["last_updated_date"]
    logged = await world.database.fetchrow("select * from cuadre.fetches where order_id = $1 and version = 2", sold)
    assert logged is not None
    assert (logged["outcome"], logged["detail"], logged["cause"]) == ("applied", READ_BY_PAYMENTS, "operator")
    assert await open_discrepancies(world.database) == set()


async def test_nothing_new_makes_no_version_however_often_it_is_looked_at(world: World) -> None:
    sold = await world.sold_long_ago()
    outcomes = [(await world.look(sold))[0] for _ in range(2)]
    await world.tell(f"orders/{sold}/refund", {"amount": "20.00"})
    outcomes += [(await world.look(sold))[0] for _ in range(3)]
    assert [one.settlement.outcome for one in outcomes] == [
        "unchanged", "unchanged", "applied", "unchanged", "unchanged",
    ]  # fmt: skip
    assert {one.settlement.detail for one in outcomes} == {READ_BY_PAYMENTS}
    assert (await world.stored(sold))["version"] == 2
    await judge_stored(world.database, [sold])
    assert await open_discrepancies(world.database) == set()


async def test_all_of_it_given_back_makes_the_order_refunded(world: World) -> None:
    sold = await world.sold_long_ago()
    await world.tell(f"orders/{sold}/refund", {"amount": "20.00"})
    await world.look(sold)
    await world.tell(f"orders/{sold}/refund", {})
    await world.look(sold)
    stored = await world.stored(sold)
    assert (stored["status"], stored["status_detail"], stored["version"]) == ("refunded", "refunded", 3)
    assert [one[2:] for one in await world.refunds(sold)] == [("20.00", "processed"), ("30.00", "processed")]
    assert await open_discrepancies(world.database) == set()


async def test_a_refund_keeps_one_identity_whichever_way_it_was_seen_first(world: World) -> None:
    sold = await world.sold_long_ago(refunds=["10.00"])
    ((named, *_),) = await world.refunds(sold)
    assert named.startswith("REF")
    await world.tell(f"orders/{sold}/refund", {"amount": "20.00"})

    await world.look(sold)
    first = await world.refunds(sold)
    assert [one[0] == named for one in first] == [True, False]
    assert str((await world.stored(sold))["refunded_amount"]) == "30.00"

    # Shown again, with its own name for what only the payment had told.
    await world.tell("rules", {"orders_shown_days": None})
    (outcome,) = await world.look(sold)
    assert (outcome.settlement.outcome, outcome.settlement.detail) == ("applied", None)
    again = await world.refunds(sold)
    assert [one[0].startswith("REF") for one in again] == [True, True]
    stored = await world.stored(sold)
    assert (stored["version"], str(stored["refunded_amount"])) == (3, "30.00")
    assert "payments_api" not in json.loads(stored["payload"])

    # And shown no more: nothing new.
    await world.tell("rules", {"orders_shown_days": 90})
    for _ in range(2):
        (outcome,) = await world.look(sold)
        assert outcome.settlement.outcome == "unchanged"
    assert await world.refunds(sold) == again
    rules = await world.database.fetch("select rule from cuadre.discrepancies")
    assert [row["rule"] for row in rules] == [], "no discrepancy was ever opened"


async def test_what_is_shown_again_as_it_was_before_its_payments_moved_on_changes_nothing(world: World) -> None:
    sold = await world.sold_long_ago()
    old = json.loads((await world.stored(sold))["payload"])
    await world.tell(f"orders/{sold}/refund", {"amount": "20.00"})
    await world.look(sold)
    held = await claim(world.database, sold)
    (outcome,) = await apply_looks(world.database, [look(held, old)])
    assert outcome.settlement.outcome == "older"
    assert outcome.settlement.due_at is not None
    assert outcome.settlement.due_at > held.claimed_at + timedelta(minutes=5), "not once a minute for ever"
    assert str((await world.stored(sold))["refunded_amount"]) == "20.00"
    assert await open_discrepancies(world.database) == set()


async def test_a_slow_look_by_payments_never_replaces_what_came_meanwhile(world: World) -> None:
    sold = await world.sold_long_ago()
    await world.tell(f"orders/{sold}/refund", {"amount": "20.00"})
    frozen = await claim(world.database, sold)
    slow = await look_at(world.api, ACCOUNT, frozen, world.gate, lambda: 1.0, database=world.database)
    assert slow.read is not None
    # However late its payments are dated.
    late = replace(slow.read, snapshot=replace(slow.read.snapshot, updated_at=datetime.now(UTC)))
    await world.database.execute("update cuadre.sync set leased_until = now()")
    await world.tell("rules", {"orders_shown_days": None})
    await world.look(sold)
    before = await world.stored(sold)
    (outcome,) = await apply_looks(world.database, [replace(slow, read=late)])
    assert (outcome.settlement.outcome, outcome.settled) == ("older", False)
    assert await world.stored(sold) == before


async def test_the_worker_reads_by_payments_with_a_single_connection(world: World, database_dsn: str) -> None:
    sold = await world.sold_long_ago()
    await world.tell(f"orders/{sold}/refund", {})
    narrow = await Database.connect(database_dsn, max_size=1)
    worker = Worker(narrow, world.api, concurrency=4, poll_seconds=0.05, lease_seconds=30)
    worker.follow([ACCOUNT])
    await mark_order_due(world.database, sold, "default")
    running = asyncio.create_task(worker.run())

    async def is_refunded() -> bool:
        return bool((await world.stored(sold))["status"] == "refunded")

    try:
        await until(is_refunded, what="the worker sees the refund")
    finally:
        await worker.stop(within_seconds=5)
        await asyncio.wait_for(running, 5)
        await narrow.close()


async def test_a_look_by_name_says_how_it_was_read(world: World) -> None:
    sold = await world.sold_long_ago()
    await world.tell(f"orders/{sold}/refund", {"amount": "5.00"})
    settings = cast(Any, SimpleNamespace(lease_seconds=30.0, mercadopago_url=world.url))
    async with LookNow(settings, AccountBook([ACCOUNT]), world.database) as looks:
        first = await looks.look(sold, None, timeout_seconds=20)
        second = await looks.look(sold, None, timeout_seconds=20)
    assert (first.error, first.changed, first.version, first.hint) == (None, True, 2, READ_BY_PAYMENTS)
    assert (second.error, second.changed, second.version) == (None, False, 2)


@pytest.mark.parametrize("days", [84, 86])
async def test_the_fallback_begins_at_85_days(world: World, days: int) -> None:
    sold = await world.sold_long_ago()
    created_at = datetime.now(UTC) - timedelta(days=days)
    await world.database.execute("update cuadre.orders set created_at = $1", created_at)
    (outcome,) = await world.look(sold)
    assert outcome.settlement.outcome == ("unchanged" if days > 85 else "not_found")
    assert (await world.stored(sold))["version"] == 1


# With a provider that answers what it is told ---------------------------------------------------------------------


@dataclass
class Stub:
    """No order is shown; `payments` by number, or an HTTP status instead, and so is `welcome`, the token."""

    payments: dict[str, Any]
    welcome: bool | int = True
    asked: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/users/me":
            return await seller(request) if self.welcome is True else web.Response(status=self.welcome or 401)
        if request.path.startswith("/v1/orders/"):
            return not_found()
        self.asked += 1
        told = self.payments.get(request.path.rpartition("/")[2], 404)
        if isinstance(told, int):
            return web.json_response({"message": "as told", "error": "as_told"}, status=told)
        return web.json_response(told)


@dataclass
class Shown:
    look: Look
    outcome: Outcome
    gate: AccountGate


async def shown(database: Database, stub: Stub, body: dict[str, Any], *, database_for_looks: Any = ...) -> Shown:
    """A stored order that is looked at after three months."""
    held = await claim(database, body["id"])
    await apply_looks(database, [look(held, body | {"created_date": text_of(LONG_AGO)})])
    held = await claim(database, body["id"])
    gate = AccountGate(50, random=lambda: 0.5)
    app = web.Application()
    app.router.add_get("/{path:.*}", stub.answer)
    async with TestServer(app) as server, MercadoPagoClient(str(server.make_url("")).rstrip("/")) as client:
        stored = database if database_for_looks is ... else database_for_looks
        seen = await look_at(client, ACCOUNT, held, gate, lambda: 1.0, database=stored)
    (outcome,) = await apply_looks(database, [seen])
    return Shown(seen, outcome, gate)


def with_reference(body: dict[str, Any], reference: str | None = REFERENCE) -> dict[str, Any]:
    body["transactions"]["payments"][0]["reference_id"] = reference
    return body


@pytest.mark.parametrize(
    ("reference", "told", "kind", "paused"),
    [
        (None, 200, "not_found", None),
        ("000dv7fo0h", 200, "not_found", None),
        (REFERENCE, 404, "not_found", None),
        (REFERENCE, 400, "not_found", None),
        # The token is good and may not see payments.
        (REFERENCE, 403, "not_found", None),
        (REFERENCE, 503, "server_error", None),
        (REFERENCE, 429, "rate_limited", None),
    ],
)
async def test_what_its_payments_do_not_tell_is_settled_as_ever(
    database: Database, reference: str | None, told: int, kind: str, paused: str | None
) -> None:
    result = await shown(database, Stub({REFERENCE: told}), with_reference(paid_order(1), reference))
    assert result.outcome.settlement.outcome == kind
    counts = kind == "not_found"
    assert result.outcome.settlement.attempts == (1 if counts else 0)
    assert result.gate.paused(1.0) == paused
    row = await database.fetchrow("select status, version from cuadre.orders")
    assert row is not None
    assert tuple(row.values()) == ("processed", 1)


async def test_a_payment_that_is_refused_while_nobody_says_whether_the_token_is_good_pauses_nobody(
    database: Database,
) -> None:
    result = await shown(database, Stub({REFERENCE: 403}, welcome=503), with_reference(paid_order(1)))
    assert (result.outcome.settlement.outcome, result.outcome.settlement.attempts) == ("forbidden", 0)
    assert result.gate.paused(1.0) is None


async def test_a_token_that_is_refused_altogether_pauses_the_account(database: Database) -> None:
    result = await shown(database, Stub({REFERENCE: 401}, welcome=False), with_reference(paid_order(1)))
    assert result.outcome.settlement.outcome == "unauthorized"
    assert result.gate.paused(1.0) == "refused"


async def test_an_unreadable_payment_is_the_orders_fault(database: Database) -> None:
    told = {"id": int(REFERENCE), "status": "approved", "transaction_amount_refunded": "much"}
    result = await shown(database, Stub({REFERENCE: told}), with_reference(paid_order(1)))
    assert (result.outcome.settlement.outcome, result.outcome.settlement.attempts) == ("unreadable", 1)


async def test_a_database_that_is_away_is_not_the_orders_fault(database: Database, database_dsn: str) -> None:
    away = await Database.connect(database_dsn)
    await away.close()
    stub = Stub({})
    result = await shown(database, stub, with_reference(paid_order(1)), database_for_looks=away)
    assert (result.outcome.settlement.outcome, result.outcome.settlement.attempts) == ("database", 0)
    assert stub.asked == 0


async def test_the_payer_of_a_payment_is_never_stored(database: Database) -> None:
    told = {
        "id": int(REFERENCE), "status": "refunded", "transaction_amount_refunded": 100,
        "payer": {"email": "ana@example.com"}, "card": {"cardholder": {"name": "ANA"}, "last_four_digits": "1234"},
        "refunds": [{"id": 7, "amount": 100, "status": "approved"}],
    }  # fmt: skip
    result = await shown(database, Stub({REFERENCE: told}), with_reference(paid_order(1)))
    assert result.outcome.settlement.outcome == "applied"
    payload = json.loads(await database.fetchval("select payload::text from cuadre.orders"))
    assert payload["payments_api"] == {
        REFERENCE: {name: value for name, value in told.items() if name != "payer"}
        | {"card": {"last_four_digits": "1234"}}
    }


async def test_an_unpaid_payment_that_is_not_found_stays_as_it_is(database: Database) -> None:
    first = payment(7, status="failed", reference_id="7")
    body = with_reference(paid_order(1))
    body["transactions"]["payments"].append(first)
    told = {"id": int(REFERENCE), "status": "charged_back", "status_detail": "settled"}
    await shown(database, Stub({REFERENCE: told}), body)
    row = await database.fetchrow("select status, status_detail from cuadre.orders")
    assert row is not None
    assert tuple(row.values()) == ("charged_back", "settled")
    statuses = await database.fetch("select payment_id, status from cuadre.payments order by position")
    assert [tuple(one.values()) for one in statuses] == [(payment_id(1), "charged_back"), (payment_id(7), "failed")]


# Laid over, pure ---------------------------------------------------------------------------------------------------


def overlaid(body: dict[str, Any], **told: Any) -> ReadOrder:
    last = read_order(raw(with_reference(body)), body["id"])
    return laid_over(last, {REFERENCE: {"id": int(REFERENCE)} | told})


@pytest.mark.parametrize(
    ("stored", "told", "shown"),
    [
        ("processed", "approved", "processed"),
        ("processed", "in_mediation", "processed"),
        ("processed", "refunded", "refunded"),
        ("processed", "charged_back", "charged_back"),
        ("processed", "cancelled", "processed"),
        ("processed", "rejected", "processed"),
        ("processed", "something_new", "processed"),
        ("charged_back", "approved", "processed"),
        ("created", "approved", "processed"),
        ("created", "cancelled", "canceled"),
        ("created", "rejected", "failed"),
        ("created", "pending", "created"),
        ("expired", "cancelled", "expired"),
        ("expired", "approved", "processed"),
    ],
)
def test_the_words_of_the_payments_api(stored: str, told: str, shown: str) -> None:
    body = order(1, payments=[payment(1, status=stored)])
    (seen,) = overlaid(body, status=told).snapshot.payments
    assert seen.status == shown


def test_what_is_told_twice_changes_nothing_the_second_time() -> None:
    told: dict[str, Any] = {
        "status": "approved", "status_detail": "partially_refunded", "transaction_amount_refunded": Decimal("12.5"),
        "date_last_updated": "2026-12-01T10:00:00.000-04:00",
        "refunds": [{"id": 9, "amount": Decimal("12.5"), "status": "in_process"}],
    }  # fmt: skip
    first = overlaid(paid_order(1), **told)
    assert laid_over(first, {REFERENCE: told}) is first
    assert first.snapshot.updated_at == datetime(2026, 12, 1, 14, tzinfo=UTC)
    assert (first.snapshot.status, first.snapshot.payments[0].status_detail) == ("processed", "partially_refunded")
    later = laid_over(first, {REFERENCE: told | {"refunds": [told["refunds"][0] | {"status": "approved"}]}})
    assert [(one.refund_id, one.status) for one in later.snapshot.refunds] == [("9", "processed")]
    assert json.loads(later.text)["order_document_date"] == json.loads(raw(paid_order(1)))["last_updated_date"]


@pytest.mark.parametrize(
    ("stored", "told", "becomes"),
    [
        # By the reference, whatever the order of the list.
        ([("10.00", "1", "processing"), ("20.00", "2", "processed")], [(2, 20, "approved"), (1, 10, "approved")],
         [("REF0", "processed"), ("REF1", "processed")]),
        # Without one, or with one that the Payments API does not know: by the amount, one for one.
        ([("10.00", None, "processed"), ("10.00", "PAY", "processed")], [(1, 10, "approved"), (2, 10, "approved")],
         [("REF0", "processed"), ("REF1", "processed")]),
        ([("10.00", None, "processed")], [(1, 10, "approved"), (2, 10, "approved")],
         [("REF0", "processed"), ("2", "processed")]),
        # What has failed stays failed.
        ([("10.00", None, "failed")], [(1, 10, "approved")], [("REF0", "failed"), ("1", "processed")]),
        # What is not listed there stays.
        ([("10.00", "1", "processed")], [], [("REF0", "processed")]),
        ([("10.00", "1", "processed")], [(1, 10, "unheard_of")], [("REF0", "processed")]),
    ],
)  # fmt: skip
def test_refunds_are_the_same_by_their_reference_else_by_their_amount(
    stored: list[tuple[str, str | None, str]], told: list[tuple[int, int, str]], becomes: list[tuple[str, str]]
) -> None:
    body = paid_order(1)
    body["transactions"]["refunds"] = [
        refund(0, 1, amount, id=f"REF{number}", reference_id=reference, status=status)
        for number, (amount, reference, status) in enumerate(stored)
    ]
    listed = [{"id": number, "amount": amount, "status": status} for number, amount, status in told]
    seen = overlaid(body, status="approved", refunds=listed)
    assert [(one.refund_id, one.status) for one in seen.snapshot.refunds] == becomes


def test_amounts_are_written_as_the_order_writes_them() -> None:
    seen = overlaid(paid_order(1), status="approved", transaction_amount_refunded=30)
    assert json.loads(seen.text)["transactions"]["payments"][0]["refunded_amount"] == "30.00"


@pytest.mark.parametrize(
    "told",
    [{"status": "approved", "transaction_amount_refunded": -1}, {"status": "approved", "refunds": [{"amount": 1}]}],
)
def test_money_is_never_guessed(told: dict[str, Any]) -> None:
    with pytest.raises(UnreadableOrder):
        overlaid(paid_order(1), **told)


def test_an_order_is_asked_for_only_where_its_payments_tell_all() -> None:
    def references(*payments: dict[str, Any]) -> dict[str, bool]:
        body = order(1, payments=list(payments))
        return references_of(read_order(raw(body), order_id(1)).snapshot)

    paid = payment(1, status="processed", reference_id="11")
    assert references(paid, payment(2, status="failed", reference_id="12")) == {"11": True, "12": False}
    assert references(paid, payment(2, status="failed")) == {"11": True}
    assert references(paid, payment(2, status="processed")) == {}
    assert references(paid, payment(2, status="processed", reference_id="11")) == {}
    assert references() == {}


TOLD_LATER = {
    "id": int(REFERENCE), "status": "approved", "transaction_amount_refunded": 30,
    # Later than the order itself is ever dated: its payment's date is not its own.
    "date_last_updated": "2026-10-01T00:00:00Z",
    "refunds": [{"id": 9, "amount": 30, "status": "approved"}],
}  # fmt: skip


async def test_an_order_that_is_shown_again_stands_though_its_payment_is_dated_later(database: Database) -> None:
    await shown(database, Stub({REFERENCE: TOLD_LATER}), with_reference(paid_order(1)))
    held = await claim(database, order_id(1))
    again = with_reference(refunded_order(1, "30.00", seconds=500)) | {"created_date": text_of(LONG_AGO)}
    (outcome,) = await apply_looks(database, [look(held, again)])
    assert outcome.settlement.outcome == "applied"
    assert await open_discrepancies(database) == set()
    assert str(await database.fetchval("select refunded_amount from cuadre.orders")) == "30.00"


async def test_a_slow_look_that_shows_the_order_again_never_replaces_what_its_payments_told_later(
    database: Database,
) -> None:
    """Its document is later than the last one; its claim is earlier than the look at the payments."""
    slow = await claim(database, order_id(1), lease_seconds=0)
    told = await shown(database, Stub({REFERENCE: TOLD_LATER}), with_reference(paid_order(1)))
    assert told.outcome.settlement.outcome == "applied"
    again = with_reference(paid_order(1, seconds=500)) | {"created_date": text_of(LONG_AGO)}
    (outcome,) = await apply_looks(database, [look(slow, again)])
    assert (outcome.settlement.outcome, outcome.settled) == ("older", False)
    assert str(await database.fetchval("select refunded_amount from cuadre.orders")) == "30.00"
