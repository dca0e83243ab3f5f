"""A till of the legacy attended QR: the desk at work, the watches, the public port for notices, the buyer's acts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, cast

from service.database.pool import Database
from service.desk.intents import CommandRow
from service.desk.legacy_watch import LegacyWatches
from service.desk.runner import Runner
from service.mercadopago.account import Account
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.client import MercadoPagoClient
from tests.support.desk import ACCOUNT, Shop, make_runner, shop
from tests.support.public_port import PublicPort, public_port
from tests.support.waiting import until

V1 = replace(ACCOUNT, legacy_qr="v1", currency="ARS")
V2 = replace(ACCOUNT, legacy_qr="v2", legacy_store_id="TIENDA1", currency="ARS")
ACCOUNTS = {"v1": V1, "v2": V2}
POS = "CAJA01"


def sale(reference: str = "venta-1", price: str = "25.50", **fields: Any) -> dict[str, Any]:
    """A V1 body over twice `price`, its numbers as they are read from JSON."""
    return {
        "external_reference": reference,
        "items": [{"title": "Yerba", "currency_id": "ARS", "unit_price": Decimal(price), "quantity": 2}],
    } | fields


class _PlainHttp:
    """A client of whom the provider hears of our loopback addresses without TLS, which the desk would not let pass."""

    def __init__(self, client: MercadoPagoClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def put_legacy_order(self, account: Account, external_pos_id: str, body: str, **more: Any) -> ProviderAnswer:
        heard = body.replace("https://127.0.0.1", "http://127.0.0.1")
        return await self._client.put_legacy_order(account, external_pos_id, heard, **more)


def plain_http(client: MercadoPagoClient) -> MercadoPagoClient:
    return cast(MercadoPagoClient, _PlainHttp(client))


@dataclass
class Till:
    """What stands at the counter. `hears` decides whether sales name the public port as their `notification_url`."""

    shop: Shop
    port: PublicPort
    watches: LegacyWatches
    account: Account
    hears: bool = True
    keys: int = 0

    @property
    def notification_url(self) -> str:
        return f"{self.port.url}/webhooks/mercadopago/{self.account.name}".replace("http://", "https://")

    async def ask(
        self,
        reference: str = "venta-1",
        *,
        ttl_seconds: int | None = None,
        pos: str = POS,
        query: str = "",
        **fields: Any,
    ) -> CommandRow:
        """Asks for a sale to be put on the point of sale; the command as it was written down."""
        self.keys += 1
        if self.hears:
            fields = {"notification_url": self.notification_url + query} | fields
        return await self.shop.desk.put_legacy(
            self.account,
            pos,
            sale(reference, **fields),
            ttl_seconds=ttl_seconds,
            key=f"put-{self.keys}",
            asked_by="till",
        )

    async def put(self, reference: str = "venta-1", **more: Any) -> CommandRow:
        """The same, carried out."""
        command = await self.shop.settled(await self.ask(reference, **more))
        assert (command.status, command.message) == ("done", None)
        return command

    async def ask_delete(self, *, pos: str = POS) -> CommandRow:
        self.keys += 1
        return await self.shop.desk.delete_legacy(self.account, pos, key=f"delete-{self.keys}", asked_by="till")

    async def act(self, name: str, *, pos: str = POS, **body: Any) -> dict[str, Any]:
        """What the buyer does; the truth about the sale afterwards."""
        answer: dict[str, Any] = await self.shop.provider.tell(f"legacy/{pos}/{name}", body)
        return answer

    async def truth(self) -> list[dict[str, Any]]:
        """Every legacy order that the provider has, oldest first."""
        found: list[dict[str, Any]] = (await self.shop.provider.ask("legacy"))["data"]
        return found

    async def shows(self, *, pos: str = POS) -> str | None:
        """The reference of the sale that a buyer would see now."""
        for place in (await self.shop.provider.ask("places"))["data"]:
            if place["name"] == pos and place.get("shows"):
                reference: str = place["shows"]["external_reference"]
                return reference
        return None

    async def stored(self, told: dict[str, Any], **expected: Any) -> dict[str, Any]:
        """The stored order of this sale once its columns have these values."""
        order_id = f"MO{told['merchant_order']['id']}"

        async def once() -> dict[str, Any] | None:
            row = await self.shop.database.fetchrow("select * from cuadre.orders where order_id = $1", order_id)
            if row is None or any(row[name] != value for name, value in expected.items()):
                return None
            return dict(row)

        result = await until(once, what=f"{order_id} is stored with {expected}")
        assert result is not None
        return result

    async def rows(self, table: str, order_id: str) -> list[dict[str, Any]]:
        """The order's payments or refunds, in their order."""
        found = await self.shop.database.fetch(
            f"select * from cuadre.{table} where order_id = $1 order by position", order_id
        )
        return [dict(row) for row in found]

    async def open_rules(self) -> set[str]:
        """The rules that stand open now."""
        rows = await self.shop.database.fetch("select rule from cuadre.discrepancies where resolved_at is null")
        return {row["rule"] for row in rows}

    async def reread(self, order_id: str) -> dict[str, Any]:
        """The order as a look of this moment finds it."""
        return await self.shop.know(order_id)


class _Held:
    """A client whose calls of one operation wait for `go`, before they are made or before their answer is heard."""

    def __init__(self, client: MercadoPagoClient, operation: str, *, answered: bool) -> None:
        self._client = client
        self._operation = operation
        self._answered = answered
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        return self._wrapped(call) if name == self._operation else call

    def _wrapped(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def held(*arguments: Any, **more: Any) -> Any:
            answer = await call(*arguments, **more) if self._answered else None
            self.begun.set()
            await self.go.wait()
            return answer if self._answered else await call(*arguments, **more)

        return held


@dataclass(frozen=True)
class HeldUp:
    """A runner of which one call hangs: `begun` is set when it does, and it goes on with `go`."""

    runner: Runner
    begun: asyncio.Event
    go: asyncio.Event


def held_up(here: "Till", operation: str, *, answered: bool = True) -> HeldUp:
    """A runner, not started, whose calls of this method hang: `answered` already, or not yet made."""
    client = _Held(plain_http(here.shop.client), operation, answered=answered)
    # One call at a time: it claims nothing more while that hangs.
    runner = make_runner(
        here.shop.database,
        cast(MercadoPagoClient, client),
        here.shop.worker,
        here.shop.accounts,
        concurrency=1,
    )
    return HeldUp(runner, client.begun, client.go)


@asynccontextmanager
async def running(runner: Runner) -> AsyncIterator[None]:
    """Runs it until the block ends, and whatever it has under way to its end."""
    task = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        await runner.stop(within_seconds=10)
        await task


@asynccontextmanager
async def till(
    database: Database, generation: str = "v1", *, watches: bool = False, runner: bool = True, **more: Any
) -> AsyncIterator[Till]:
    """Opens a till until the block ends; with `watches` they look by themselves, else when they are told to."""
    account = ACCOUNTS[generation]
    async with (
        shop(database, account=account, runner=runner, wrap=plain_http, **more) as here,
        public_port(database, account) as port,
    ):
        watching = LegacyWatches(
            database,
            here.client,
            accounts=here.accounts.keys,
            account=here.accounts.get,
            gate=here.worker.gates.gate,
            poll_seconds=0.05,
            on_marked=here.worker.wake,
        )
        task = asyncio.create_task(watching.run()) if watches else None
        try:
            yield Till(here, port, watching, account)
        finally:
            watching.stop()
            if task is not None:
                await asyncio.wait_for(task, 10)


def lost(when: str, count: int = 1) -> dict[str, Any]:
    """The answer never comes; `before` the call took effect, or `after`."""
    return {"body": "disconnect", "count": count, "when": when}


async def calls(here: Till, operation: str) -> int:
    return sum(count for (name, _), count in (await here.shop.provider.calls()).items() if name == operation)


async def unknown(here: Till, command: CommandRow) -> CommandRow:
    """The command once its outcome is unknown and nobody holds it; it stays so for as long as nobody hurries it."""

    async def once() -> CommandRow | None:
        row = await here.shop.database.fetchrow(
            "update cuadre.commands set due_at = now() + interval '1 h' "
            "where command_id = $1 and status = 'unknown' and leased_until is null returning command_id",
            command.command_id,
        )
        return None if row is None else await here.shop.desk.find(command.command_id)

    found = await until(once, what="its outcome is unknown")
    assert found is not None
    return found
