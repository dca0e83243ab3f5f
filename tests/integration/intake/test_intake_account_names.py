"""An account's name in the path, whatever a name may hold."""

import pytest

from service.database.pool import Database
from service.mercadopago.account import Account
from tests.support.public_port import SECRET, public_port


@pytest.mark.parametrize(
    ("name", "path"), [("Main", "Main"), ("Store 1", "Store%201"), ("a.b_c-d", "a.b_c-d"), ("a.b_c-d", "a%2Eb_c-d")]
)
async def test_a_name_is_found_in_the_path_percent_decoded(database: Database, name: str, path: str) -> None:
    accounts = [Account("default"), Account(name, webhook_secrets=(SECRET,))]
    async with public_port(database, *accounts) as port:
        answer = await port.post(b'{"type": "order", "data": {"id": "1"}}', path=f"/webhooks/mercadopago/{path}")
        assert answer == (200, "recorded")
        assert await port.post(path="/webhooks/mercadopago/main") == (404, "unknown_account")
    assert await database.fetchval("select account from cuadre.notifications") == name
