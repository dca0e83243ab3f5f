"""A key repeated without naming the account, after another account has become the usual one: never a second sale."""

import json
from typing import Any

import pytest

from service.database.pool import Database
from service.mercadopago.account import Account
from tests.integration.web.desk_port import QR, SALE, USER_ID, Answer, DeskPort, desk_port

LEGACY = json.dumps({"order": json.loads(SALE)})


def account(name: str) -> Account:
    return Account(name, user_id=USER_ID, access_token="APP_USR-test", currency="ARS")


async def ask(desk: DeskPort, what: str, **more: Any) -> Answer:
    """One intent of each kind that names no account."""
    if what == "create":
        return await desk.create(QR, key="k-1", **more)
    body = LEGACY if what == "POST" else None
    return await desk.call(what, "/api/v1/legacy-qr/CAJA01", body, key="k-1", **more)


@pytest.mark.parametrize("now", [("tienda", "default"), ("default",)], ids=["added", "renamed"])
@pytest.mark.parametrize("what", ["create", "POST", "DELETE"])
async def test_a_repeat_finds_the_command_that_it_belongs_to(
    database: Database, what: str, now: tuple[str, ...]
) -> None:
    async with desk_port(database, account("tienda")) as desk:
        first = await ask(desk, what)
        assert first.status in (201, 204), first
    async with desk_port(database, *map(account, now)) as desk:
        again = await ask(desk, what)
        assert (again.status, again.body) == (first.status, first.body)
        sent = [await desk.calls(operation) for operation in ("create", "legacy_create", "legacy_delete")]
        assert sent == [0, 0, 0], "nothing was sent again"
        assert await desk.commands() == 1


async def test_what_is_no_repeat_goes_to_the_usual_account(database: Database) -> None:
    async with desk_port(database, account("tienda")) as desk:
        assert (await desk.create(QR, key="k-1")).status == 201
    async with desk_port(database, account("tienda"), account("default")) as desk:
        # Keys are an account's own: another request under the same text, and one of somebody else's.
        other = await desk.create(QR | {"external_reference": "sale-2"}, key="k-1")
        assert (other.status, other.command["account"]) == (201, "default")
        named = await desk.call("POST", "/api/v1/orders", {"account": "tienda", "order": QR}, key="k-1")
        assert (named.status, named.command["account"]) == (201, "tienda")
        assert await desk.commands() == 2


async def test_a_repeat_of_another_callers_key_is_no_repeat(database: Database) -> None:
    async with desk_port(database, account("tienda")) as desk:
        assert (await desk.create(QR, key="k-1")).status == 201
        await database.execute("update cuadre.commands set asked_by = 'somebody else'")
    async with desk_port(database, account("tienda"), account("default")) as desk:
        assert (await desk.create(QR, key="k-1")).command["account"] == "default"


async def test_a_repeat_that_may_be_of_several_accounts_is_refused(database: Database) -> None:
    async with desk_port(database, account("norte"), account("sur")) as desk:
        for name in ("norte", "sur"):
            body = {"account": name, "order": QR}
            assert (await desk.call("POST", "/api/v1/orders", body, key="k-1")).status == 201
    async with desk_port(database, account("default")) as desk:
        refused = await desk.create(QR, key="k-1")
        assert (refused.status, refused.error["code"]) == (409, "account_unclear")
        assert "(norte, sur): name the account" in refused.error["message"]
        assert await desk.commands() == 2
