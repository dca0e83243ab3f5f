"""Looks at legacy sales: every form of notice leads to the stored order, and a payment to whose it is."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.database.pool import Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.pacing import AccountGate
from service.mercadopago.reader import ReadOrder, read_any
from service.sync.apply import Look, apply_looks
from service.sync.claims import Claim, Lane, claim_due
from service.sync.look import look_at
from service.sync.payment_hints import PaymentTold, payment_told
from tests.support.legacy import Till, till
from tests.support.looking import claim, see
from tests.support.orders import order_id, paid_order
from tests.support.waiting import until

SELLER = "2100457788"
ACCOUNT = Account("default", user_id=SELLER, access_token="APP_USR-test", legacy_qr="v1")


async def sync_row(database: Database, sync_id: str) -> dict[str, Any]:
    row = await database.fetchrow("select * from cuadre.sync where order_id = $1", sync_id)
    assert row is not None, sync_id
    return dict(row)


async def hints(database: Database) -> list[dict[str, Any]]:
    return [dict(row) for row in await database.fetch("select * from cuadre.sync where order_id like 'PY%'")]


async def post(here: Till, form: str, told: dict[str, Any]) -> None:
    """One notice in one of the provider's forms."""
    number, payment_number = told["merchant_order"]["id"], told["payments"][-1]["id"]
    forms: dict[str, tuple[dict[str, str], object]] = {
        "feed merchant_order": (
            {"topic": "merchant_order", "id": str(number)},
            {"resource": f"https://api.mercadolibre.com/merchant_orders/{number}", "topic": "merchant_order"},
        ),
        "webhook merchant_order": (
            {"data.id": str(number), "type": "topic_merchant_order_wh"},
            {"type": "topic_merchant_order_wh", "data": {"id": number}},
        ),
        "feed payment": (
            {"topic": "payment", "id": str(payment_number)},
            {"resource": str(payment_number), "topic": "payment"},
        ),
        "IPN payment": ({}, {"resource": f"https://api.x/v1/payments/{payment_number}", "topic": "payment"}),
        "webhook payment": (
            {"data.id": str(payment_number), "type": "payment"},
            {"action": "payment.created", "type": "payment", "data": {"id": str(payment_number)}},
        ),
    }
    query, body = forms[form]
    assert await here.port.post(json.dumps(body).encode(), query=query) == (200, "recorded")
    here.shop.worker.wake()


@pytest.mark.parametrize(
    "form", ["feed merchant_order", "webhook merchant_order", "feed payment", "IPN payment", "webhook payment"]
)
@pytest.mark.parametrize("generation", ["v1", "v2"])
async def test_each_form_of_notice_leads_to_the_stored_sale(database: Database, generation: str, form: str) -> None:
    async with till(database, generation) as here:
        here.hears = False
        await here.put()
        told = await here.act("pay")
        await post(here, form, told)
        order = await here.stored(told, status="processed")
        assert await here.open_rules() == set()
        assert (await sync_row(database, order["order_id"]))["trust"] == 2
        for hint in await hints(database):
            assert (hint["due_at"], hint["quarantined_at"], hint["last_error"], hint["trust"]) == (None, None, None, 0)
            assert hint["fetched"] == hint["requested"] == 1


@pytest.mark.parametrize("source", ["ipn", "webhooks"])
async def test_what_the_provider_sends_by_itself_is_enough(database: Database, source: str) -> None:
    async with till(database) as here:
        await here.put(query=f"?source_news={source}")
        await here.stored(await here.act("pay"), status="processed")
        # A refund in the panel is told of in the same forms.
        told = await here.act("refund", amount=20)
        order = await here.stored(told, status_detail="partially_refunded")
        assert [row["amount"] for row in await here.rows("refunds", order["order_id"])] == [20]


async def test_a_hint_is_no_order_and_says_what_it_led_to(database: Database) -> None:
    async with till(database) as here:
        here.hears = False
        await here.put()
        told = await here.act("pay")
        await post(here, "webhook payment", told)
        order = await here.stored(told)
        number = told["payments"][0]["id"]
        fetch = await database.fetchrow("select * from cuadre.fetches where order_id = $1", f"PY{number}")
        assert fetch is not None
        assert (fetch["outcome"], fetch["cause"]) == ("redirected", "notification")
        assert order["order_id"] in fetch["detail"]
        assert await database.fetchval("select count(*) from cuadre.orders where order_id like 'PY%'") == 0
        # The version tells which notification it came of.
        version = await database.fetchrow("select * from cuadre.order_versions where order_id = $1", order["order_id"])
        assert version is not None
        assert version["notification_id"] == fetch["notification_id"]


async def test_a_payment_of_the_orders_api_leads_to_its_stored_order(database: Database) -> None:
    body = paid_order(1)
    body["transactions"]["payments"][0]["reference_id"] = "118000000101"
    await see(database, body)
    held = await claim(database, "PY118000000101")
    before = (await sync_row(database, order_id(1)))["requested"]
    # Even where the payment names a merchant order: its money is reckoned with the order that shows it.
    told = PaymentTold("118000000101", "MO777", is_ours=True)
    (outcome,) = await apply_looks(database, [Look(held, told=told)])
    assert (outcome.settlement.outcome, outcome.settled) == ("redirected", True)
    row = await sync_row(database, order_id(1))
    assert (row["requested"], row["requested_trusted"]) == (before + 1, before + 1)
    assert await database.fetchval("select count(*) from cuadre.sync where order_id = 'MO777'") == 0


async def test_another_accounts_order_is_not_marked(database: Database) -> None:
    body = paid_order(1)
    body["transactions"]["payments"][0]["reference_id"] = "118000000101"
    await see(database, body, account="norte")
    held = await claim(database, "PY118000000101", account="sur")
    (outcome,) = await apply_looks(database, [Look(held, told=PaymentTold("118000000101", None, is_ours=True))])
    assert outcome.settlement.outcome == "not_applicable"
    assert (await sync_row(database, order_id(1)))["requested"] == 1


async def test_a_payment_of_nothing_that_is_known_is_not_applicable(database: Database) -> None:
    held = await claim(database, "PY118000000101")
    (outcome,) = await apply_looks(database, [Look(held, told=PaymentTold("118000000101", None, is_ours=True))])
    assert (outcome.settlement.outcome, outcome.applied) == ("not_applicable", None)
    row = await sync_row(database, "PY118000000101")
    assert (row["due_at"], row["quarantined_at"], row["attempts"], row["last_error"]) == (None, None, 0, None)
    assert row["fetched"] == row["requested"]


async def strangers_hint(database: Database, sync_id: str = "PY118") -> Claim:
    """The claim of a hint that only an unverified notice spoke of."""
    await database.execute(
        "insert into cuadre.sync (order_id, account, trust, requested, due_at, cause) "
        "values ($1, 'default', 0, 1, now(), 'notification')",
        sync_id,
    )
    (held,) = await claim_due(database, [Lane("default", known=False, room=1)], lease_seconds=30)
    return held


@pytest.mark.parametrize(("is_ours", "trust"), [(True, 1), (False, 0)])
async def test_the_accounts_own_payment_lends_trust_and_a_foreign_one_none(
    database: Database, is_ours: bool, trust: int
) -> None:
    held = await strangers_hint(database)
    await apply_looks(database, [Look(held, told=PaymentTold("118", "MO44", is_ours=is_ours))])
    marked = await sync_row(database, "MO44")
    assert (marked["trust"], marked["requested_trusted"], marked["account"]) == (trust, trust, "default")
    assert (await sync_row(database, "PY118"))["trust"] == 0


async def test_a_hint_told_of_again_meanwhile_is_owed_another_look(database: Database) -> None:
    held = await strangers_hint(database)
    await database.execute("update cuadre.sync set requested = 2, requested_trusted = 2")
    await apply_looks(database, [Look(held, told=PaymentTold("118", "MO44", is_ours=True))])
    row = await sync_row(database, "PY118")
    assert (row["fetched"], row["due_at"] is not None) == (1, True)


async def test_hints_and_their_orders_in_one_batch(database: Database) -> None:
    """Two payments of one sale, and the sale itself: all in one commit, and the sale is owed a fresh look."""
    first, second = await claim(database, "PY1"), await claim(database, "PY2")
    third = await claim(database, "MO44")
    looks = [
        Look(first, told=PaymentTold("1", "MO44", is_ours=True)),
        Look(third, read=unpaid("MO44")),
        Look(second, told=PaymentTold("2", "MO44", is_ours=True)),
    ]
    outcomes = await apply_looks(database, looks)
    assert [one.settlement.outcome for one in outcomes] == ["redirected", "applied", "redirected"]
    row = await sync_row(database, "MO44")
    assert (row["requested"], row["fetched"], row["trust"]) == (3, 1, 2)
    assert row["due_at"] is not None


def unpaid(sync_id: str) -> ReadOrder:
    """A sale that nobody has paid."""
    number = int(sync_id.removeprefix("MO"))
    order = {"id": number, "status": "opened", "total_amount": 51, "external_reference": f"venta-{number}"}
    return read_any(json.dumps({"merchant_order": order, "payments": [], "refunds": {}}).encode(), sync_id)


async def test_batches_that_lead_to_each_others_orders_never_wait_in_a_circle(database: Database) -> None:
    for number in range(1, 21):
        here, there = f"MO{number}1", f"MO{number}2"
        one = [await claim(database, f"PY{number}1"), await claim(database, here)]
        other = [await claim(database, f"PY{number}2"), await claim(database, there)]
        batches = [
            [Look(hint, told=PaymentTold("1", leads_to, is_ours=True)), Look(sale, read=unpaid(sale.order_id))]
            for (hint, sale), leads_to in ((one, there), (other, here))
        ]
        # A deadlock would be raised by one of them.
        await asyncio.gather(*(apply_looks(database, looks) for looks in batches))
        rows = await database.fetch("select requested from cuadre.sync where order_id = any($1)", [here, there])
        assert [row["requested"] for row in rows] == [2, 2]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"order": {"id": "44", "type": "mercadopago"}, "collector_id": 2100457788}, ("MO44", True)),
        ({"order": {"id": 44, "type": "mercadopago"}}, ("MO44", True)),
        ({"order": {"id": "44", "type": "mercadopago"}, "collector_id": 7}, ("MO44", False)),
        ({"order": {"id": "44", "type": "mercadolibre"}}, (None, True)),
        ({"order": {"id": "x", "type": "mercadopago"}}, (None, True)),
        ({"order": {}}, (None, True)),
        ({"order": None}, (None, True)),
        ({}, (None, True)),
    ],
)
def test_what_a_payment_tells(document: dict[str, object], expected: tuple[str | None, bool]) -> None:
    told = payment_told(document, "118", ACCOUNT)
    assert (told.order_id, told.is_ours) == expected


async def test_a_hint_of_no_payment_is_not_found_like_an_order(database: Database) -> None:
    async with till(database) as here:
        query = {"topic": "payment", "id": "999"}
        assert await here.port.post(b"{}", query=query) == (200, "recorded")

        async def looked() -> bool:
            return bool((await sync_row(database, "PY999"))["last_error"])

        await until(looked, what="it is looked up")
        row = await sync_row(database, "PY999")
        assert row["last_error"].startswith("not_found: ")
        await database.execute("update cuadre.sync set failing_since = now() - interval '61 min', due_at = now()")

        async def quarantined() -> bool:
            return bool((await sync_row(database, "PY999"))["quarantine_reason"] == "not_found")

        await until(quarantined, what="it is quarantined")
        assert here.shop.worker.gates.gate("default").paused(0) is None  # type: ignore[union-attr]  # it is configured


@pytest.mark.parametrize(
    ("trust", "sync_id", "status", "kind"),
    [
        (0, "MO44", 401, "not_found"),
        (0, "PY44", 401, "not_found"),
        (0, "PY44", 403, "not_found"),
        # Whom the account trusts is refused because of the token: that is the account's trouble.
        (1, "MO44", 401, "unauthorized"),
        (0, order_id(44), 401, "unauthorized"),
    ],
)
async def test_a_strangers_number_that_is_refused_pauses_no_account(
    database: Database, trust: int, sync_id: str, status: int, kind: str
) -> None:
    async def refuse(request: web.Request) -> web.Response:
        if request.path == "/users/me":
            return web.json_response({"id": int(SELLER)})
        return web.json_response({"error": "invalid_caller_id", "message": "not yours"}, status=status)

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    held = replace(await strangers_hint(database, sync_id), trust=trust)
    gate = AccountGate(50, random=lambda: 0.5)
    async with TestServer(app) as server, MercadoPagoClient(str(server.make_url(""))) as client:
        look = await look_at(client, ACCOUNT, held, gate, lambda: 1.0)
    assert look.failure is not None
    assert look.failure.kind == kind
    assert gate.paused(1.0) == (None if kind == "not_found" else "refused")
