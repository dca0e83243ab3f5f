"""Who pays is stored only where the account says so."""

import json
from dataclasses import replace

from aiohttp import web
from aiohttp.test_utils import TestServer

from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient

ORDER = {"id": "ORD01JSA8Q0000000000000000AA", "status": "processed", "payer": {"email": "ana@example.com"}}


async def test_the_payer_is_left_out_unless_the_account_keeps_payers() -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(ORDER)

    app = web.Application()
    app.router.add_get("/v1/orders/{order_id}", answer)
    async with TestServer(app) as server, MercadoPagoClient(str(server.make_url("")).rstrip("/")) as client:
        account = Account("shop", access_token="APP_USR-1")
        bare = (await client.get_any(account, str(ORDER["id"]))).read
        whole = (await client.get_any(replace(account, keep_payer=True), str(ORDER["id"]))).read

    assert json.loads(bare.text) == {key: value for key, value in ORDER.items() if key != "payer"}
    assert json.loads(whole.text) == ORDER
    assert bare.payload_hash != whole.payload_hash
