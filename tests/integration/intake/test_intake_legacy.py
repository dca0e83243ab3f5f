"""Notices of the legacy attended QR: which accounts look at what they speak of, and how far they are trusted."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.database.pool import Database
from service.mercadopago.account import Account
from tests.support.public_port import ORDER, SECRET, public_port, signature

NOTIFICATIONS = Path(__file__).parents[2] / "fixtures" / "mercadopago" / "notifications"
FORMS = [
    (
        {"topic": "merchant_order", "id": "36678900123"},
        (NOTIFICATIONS / "merchant_order.feed-v2.json").read_bytes(),
        "MO36678900123",
    ),
    ({}, (NOTIFICATIONS / "merchant_order.feed-v2.json").read_bytes(), "MO36678900123"),
    ({"topic": "merchant_order", "id": "36678900123"}, b"", "MO36678900123"),
    ({"data.id": "36678900123", "type": "topic_merchant_order_wh"}, b"{}", "MO36678900123"),
    ({"topic": "payment", "id": "118000000101"}, (NOTIFICATIONS / "payment.ipn.json").read_bytes(), "PY118000000101"),
    ({}, (NOTIFICATIONS / "payment.ipn.json").read_bytes(), "PY118000000101"),
    (
        {"data.id": "118000000101", "type": "payment"},
        (NOTIFICATIONS / "payment.updated.webhook.json").read_bytes(),
        "PY118000000101",
    ),
]


async def marks(database: Database) -> list[tuple[str, int, int, bool]]:
    rows = await database.fetch(
        "select order_id, trust, requested, due_at <= now() as due from cuadre.sync order by order_id"
    )
    return [(row["order_id"], row["trust"], row["requested"], row["due"]) for row in rows]


async def told_orders(database: Database) -> list[Any]:
    return [row["order_id"] for row in await database.fetch("select order_id from cuadre.notifications order by id")]


@pytest.mark.parametrize(("query", "body", "expected"), FORMS)
@pytest.mark.parametrize("generation", ["v1", "v2"])
async def test_each_form_marks_what_it_speaks_of_as_a_stranger(
    database: Database, query: dict[str, str], body: bytes, expected: str, generation: Any
) -> None:
    account = Account("default", webhook_secrets=(SECRET,), legacy_qr=generation)
    async with public_port(database, account) as port:
        assert await port.post(body, query=query) == (200, "recorded")
    # Trust 0: a number that nobody here knows draws on the strangers' share of the rate (invariant I8).
    assert await marks(database) == [(expected, 0, 1, True)]
    assert await told_orders(database) == [expected]


@pytest.mark.parametrize(("query", "body", "expected"), FORMS)
async def test_without_the_legacy_qr_they_are_recorded_and_left(
    database: Database, query: dict[str, str], body: bytes, expected: str
) -> None:
    del expected
    async with public_port(database, Account("default", webhook_secrets=(SECRET,))) as port:
        assert await port.post(body, query=query) == (200, "recorded")
    assert await marks(database) == []
    assert await told_orders(database) == [None]


async def test_a_signed_one_is_trusted_and_copies_are_marks(database: Database) -> None:
    account = Account("default", webhook_secrets=(SECRET,), legacy_qr="v1")
    async with public_port(database, account) as port:
        query = {"data.id": "118000000101", "type": "payment"}
        for _ in range(2):
            assert await port.post(b"{}", query=query, headers=signature("118000000101")) == (200, "recorded")
    assert await marks(database) == [("PY118000000101", 1, 2, True)]


async def test_each_account_decides_for_itself_and_orders_are_marked_as_ever(database: Database) -> None:
    legacy, modern = Account("legado", legacy_qr="v1"), Account("moderna")
    order = json.dumps({"action": "order.processed", "type": "order", "data": {"id": ORDER}}).encode()
    async with public_port(database, legacy, modern) as port:
        for account, number in (("legado", "111"), ("moderna", "222")):
            await port.post(
                b"{}", path=f"/webhooks/mercadopago/{account}", query={"topic": "merchant_order", "id": number}
            )
        await port.post(order, path="/webhooks/mercadopago/legado", query={"data.id": ORDER, "type": "order"})
        # No numbers of orders, and nothing that anybody could have looked at.
        for odd in ({"topic": "payment", "id": "0118"}, {"topic": "payment", "id": ORDER}, {"topic": "x", "id": "1"}):
            assert await port.post(b"{}", path="/webhooks/mercadopago/legado", query=odd) == (200, "recorded")
    assert [order_id for order_id, *_ in await marks(database)] == ["MO111", ORDER]


async def test_a_refused_sample_marks_nothing(database: Database) -> None:
    account = Account("default", webhook_secrets=(SECRET,), signature_policy="required", legacy_qr="v1")
    async with public_port(database, account) as port:
        assert await port.post(b"{}", query={"topic": "payment", "id": "118000000101"}) == (401, "refused")
    assert await marks(database) == []
