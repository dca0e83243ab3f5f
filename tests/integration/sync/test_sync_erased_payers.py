"""Whose data was erased stays away, also where the account keeps payers; everybody else's is kept."""

import json
from typing import Any

import pytest

from service.audit.erase import erase_payers
from service.database.pool import Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.pacing import AccountGate
from service.sync.apply import Outcome, apply_looks
from service.sync.look import look_at
from tests.support.looking import claim
from tests.support.orders import order, order_id, paid_order
from tests.support.provider import StubProvider, stub_provider

KEEPS = Account("default", access_token="APP_USR-test", keep_payer=True)
ANA: dict[str, Any] = {"payer": {"email": "ana@example.com", "identification": {"type": "DNI", "number": "30111222"}}}


async def looked_at(database: Database, provider: StubProvider, *numbers: int) -> list[Outcome]:
    """Fresh looks at these orders, all in one batch."""
    looks = []
    async with MercadoPagoClient(provider.url) as client:
        for number in numbers:
            held = await claim(database, order_id(number))
            gate = AccountGate(50, random=lambda: 0.5)
            looks.append(await look_at(client, KEEPS, held, gate, lambda: 1.0, database=database))
    return await apply_looks(database, looks)


async def payloads(database: Database, number: int) -> list[dict[str, Any]]:
    """What is stored of an order: as it is now, then every version."""
    rows = await database.fetch(
        "select payload::text as text from cuadre.orders where order_id = $1 union all "
        "(select payload::text from cuadre.order_versions where order_id = $1 order by version)",
        order_id(number),
    )
    return [json.loads(row["text"]) for row in rows]


async def test_an_erased_payer_is_not_stored_again(database: Database) -> None:
    async with stub_provider() as provider:
        provider.put(order(1, **ANA), order(2, **ANA))
        await looked_at(database, provider, 1, 2)
        assert all("payer" in one for one in await payloads(database, 1)), "the account keeps payers"
        await erase_payers(database, [order_id(1)])

        (same,) = await looked_at(database, provider, 1)
        assert same.settlement.outcome == "unchanged"

        provider.put(paid_order(1, **ANA), paid_order(2, **ANA))
        changed = await looked_at(database, provider, 1, 2)
        assert [one.settlement.outcome for one in changed] == ["applied", "applied"]
        (again,) = await looked_at(database, provider, 1)
        assert again.settlement.outcome == "unchanged", "the hash is of what is stored"
    erased, kept = await payloads(database, 1), await payloads(database, 2)
    assert [("payer" in one, one["status"]) for one in erased] == [
        (False, "processed"), (False, "created"), (False, "processed"),
    ]  # fmt: skip
    assert all(one["payer"] == ANA["payer"] for one in kept)


@pytest.mark.parametrize("erased_first", [True, False])
async def test_a_look_under_way_brings_no_payer_back(database: Database, erased_first: bool) -> None:
    async with stub_provider() as provider:
        provider.put(order(1, **ANA))
        await looked_at(database, provider, 1)
        provider.put(paid_order(1, **ANA))
        if erased_first:
            await erase_payers(database, [order_id(1)])
        held = await claim(database, order_id(1))
        async with MercadoPagoClient(provider.url) as client:
            gate = AccountGate(50, random=lambda: 0.5)
            look = await look_at(client, KEEPS, held, gate, lambda: 1.0)
        assert look.read is not None
        assert "ana@" in look.read.text
        if not erased_first:
            await erase_payers(database, [order_id(1)])
        await apply_looks(database, [look])
    assert not any("payer" in one for one in await payloads(database, 1))
