"""A provider's books on loopback, many orders stored the real way, and ways to change rows behind our back."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from service.audit.compare import PARTS
from service.audit.fresh import FreshReader
from service.audit.runs import FoundOrder, Run, Wish, begin, read_found
from service.audit.verify import Verification
from service.database.pool import Database
from service.mercadopago.account import Account
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.reader import read_any
from service.sync.apply import Look, apply_looks
from service.sync.claims import Lane, claim_due
from tests.support.orders import moment, order, order_id, paid_order, payment_id, raw, refunded_order
from tests.support.provider import not_found

ACCOUNT = Account("default", access_token="APP_USR-token-for-tests", rate_per_second=1000.0)
BATCH = 200


@dataclass
class Books:
    """What the provider answers. `mishap(id, nth)` may give another answer; `calls` counts GETs by id."""

    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    payments: dict[str, dict[str, Any]] = field(default_factory=dict)
    mishap: Callable[[str, int], web.StreamResponse | None] = lambda asked, nth: None
    calls: Counter[str] = field(default_factory=Counter)
    url: str = ""

    def put(self, *bodies: dict[str, Any]) -> None:
        self.orders |= {body["id"]: body for body in bodies}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = request.match_info["id"]
        self.calls[asked] += 1
        instead = self.mishap(asked, self.calls[asked])
        if instead is not None:
            return instead
        body = (self.payments if "/payments/" in request.path else self.orders).get(asked)
        if body is None:
            return not_found()
        return web.Response(text=json.dumps(body), content_type="application/json")


async def whose_token(_request: web.Request) -> web.Response:
    return web.json_response({"id": 2100457788, "nickname": "SHOP", "site_id": "MLA"})


@asynccontextmanager
async def provider_books() -> AsyncIterator[Books]:
    """Serves until the block ends."""
    books = Books()
    app = web.Application()
    app.router.add_get("/v1/orders/{id}", books.answer)
    app.router.add_get("/v1/payments/{id}", books.answer)
    app.router.add_get("/users/me", whose_token)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        books.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield books
    finally:
        await runner.cleanup()


def rich_order(number: int, **fields: Any) -> dict[str, Any]:
    """An order with a part of every kind and every column filled."""
    extra: dict[str, Any] = {
        "description": "two coffees", "expiration_time": "PT15M", "config": {"qr": {"mode": "static"}},
        "payer": {"email": "somebody@example.com"},
    }  # fmt: skip
    body = refunded_order(number, "30.00", **extra | fields)
    body["transactions"]["payments"][0] |= {
        "reference_id": f"9{number:09d}", "payment_method": {"id": "visa", "type": "credit_card", "installments": 1},
        "provider": "mercadopago", "date_of_expiration": moment(900),
    }  # fmt: skip
    body["transactions"]["chargebacks"] = [
        {"id": f"CBK{number:026d}", "transaction_id": payment_id(number), "amount": "5.00", "status": "in_process"}
    ]
    body["transactions"]["cash_outs"] = [{"id": f"CAS{number:026d}", "amount": "20.00", "status": "processed"}]
    return body


def varied_order(number: int) -> dict[str, Any]:
    return (rich_order, paid_order, order)[number % 3](number)


async def store(database: Database, bodies: Iterable[dict[str, Any]], *, account: str = "default") -> None:
    """Stores orders through the real claim and apply, in batches."""
    waiting = {body["id"]: body for body in bodies}
    await database.execute(
        """insert into cuadre.sync (order_id, account, trust, requested, requested_trusted, due_at, cause)
        select id, $2, 1, 1, 1, now(), 'notification' from unnest($1::text[]) as id""",
        sorted(waiting),
        account,
    )
    while waiting:
        claims = await claim_due(database, [Lane(account, True, BATCH)], lease_seconds=60)
        assert claims, f"{len(waiting)} orders were not stored"
        looks = [Look(one, read=read_any(raw(waiting.pop(one.order_id)), one.order_id)) for one in claims]
        await apply_looks(database, looks)


@dataclass
class Result:
    """A finished run and what it found."""

    run: Run
    found: list[FoundOrder]
    verification: Verification

    @property
    def ids(self) -> list[str]:
        return [one.order_id for one in self.found]

    @property
    def fields(self) -> dict[str, list[str]]:
        return {one.order_id: [drift.field for drift in one.drifts] for one in self.found}


async def verify(
    database: Database,
    books: Books,
    wish: Wish | None = None,
    *,
    accounts: Iterable[Account] = (ACCOUNT,),
    at_once: int = 16,
    on_checked: Callable[[int], None] = lambda number: None,
    restart: bool = False,
    page: int = 100,
    patience_seconds: float = 60.0,
) -> Result:
    """One call of the command, without the command."""
    async with MercadoPagoClient(books.url, total_timeout_seconds=5) as client:
        reader = FreshReader(client, accounts, share=1.0, patience_seconds=patience_seconds)
        verification = Verification(database, reader, at_once=at_once, page=page, on_checked=on_checked)
        run = await begin(database, wish or Wish("full"), restart=restart)
        run = await verification.carry_out(run)
    found, _ = await read_found(database, run.verification_id, at_most_rows=100_000)
    return Result(run, found, verification)


ORDER_COLUMNS = (
    "order_id, account, user_id, type, external_reference, description, status, status_detail, total_amount, currency, "
    "country_code, paid_amount, refunded_amount, is_sale, created_at, updated_at, expires_at, payload::text, "
    "payload_hash, payload_altered, history::text, first_seen_at"
)


async def everything_stored(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All that came from the provider, without the records that are marked as vanished."""
    orders = await database.fetch(f"select {ORDER_COLUMNS} from cuadre.orders order by order_id")
    stored: dict[str, list[tuple[Any, ...]]] = {"orders": [tuple(row.values()) for row in orders]}
    for table, id_column in PARTS:
        rows = await database.fetch(
            f"select * from cuadre.{table} where vanished_at is null order by order_id, {id_column}"
        )
        stored[table] = [tuple(value for name, value in row.items() if name != "first_seen_at") for row in rows]
    return stored


# Ways to change a rich order behind our back; `$1` is the order's id. Each is found by a field of its own.
TAMPERINGS: dict[str, str] = {
    name: f"update cuadre.orders set {change} where order_id = $1"
    for name, change in {
        "user_id": "user_id = '1'",
        "type": "type = 'point'",
        "external_reference": "external_reference = 'another'",
        "description": "description = null",
        "status": "status = 'canceled'",
        "status_detail": "status_detail = 'refunded'",
        "total_amount": "total_amount = 1000",
        "currency": "currency = 'BRL'",
        "country_code": "country_code = 'BRA'",
        "paid_amount": "paid_amount = paid_amount - 0.01",
        "refunded_amount": "refunded_amount = 0",
        "is_sale": "is_sale = not is_sale",
        "created_at": "created_at = created_at + interval '1 day'",
        "updated_at": "updated_at = updated_at + interval '10 years'",
        "updated_at back": "updated_at = updated_at - interval '1 microsecond'",
        "updated_at gone": "updated_at = null",
        "expires_at": "expires_at = null",
        "payload": "payload = jsonb_set(payload, '{config,qr,mode}', '\"dynamic\"')",
        "payload status": "payload = jsonb_set(payload, '{status}', '\"canceled\"')",
        "payload lost": "payload = '{}'",
        "payload_hash": "payload_hash = '\\x00'",
        "payload_altered": "payload_altered = true",
        "status and payload": "status = 'canceled', payload = jsonb_set(payload, '{status}', '\"canceled\"')",
    }.items()
} | {
    "payments.status": "update cuadre.payments set status = 'refunded' where order_id = $1",
    "payments.amount": "update cuadre.payments set amount = amount * 10 where order_id = $1",
    "payments.refunded_amount": "update cuadre.payments set refunded_amount = null where order_id = $1",
    "payments.reference_id": "update cuadre.payments set reference_id = '1' where order_id = $1",
    "payments deleted": "delete from cuadre.payments where order_id = $1",
    "payments vanished": "update cuadre.payments set vanished_at = now() where order_id = $1",
    "refunds.amount": "update cuadre.refunds set amount = 29.99 where order_id = $1",
    "refunds.payment_id": "update cuadre.refunds set payment_id = 'PAY0' where order_id = $1",
    "refunds deleted": "delete from cuadre.refunds where order_id = $1",
    "refunds invented": (
        "insert into cuadre.refunds (order_id, refund_id, position, payment_id, status, amount, first_seen_at) "
        "select order_id, 'REF-invented', 1, payment_id, 'processed', 70, now() from cuadre.payments "
        "where order_id = $1"
    ),
    "refunds renamed": "update cuadre.refunds set refund_id = 'REF-renamed' where order_id = $1",
    "chargebacks.status": "update cuadre.chargebacks set status = 'reimbursed' where order_id = $1",
    "chargebacks deleted": "delete from cuadre.chargebacks where order_id = $1",
    "cash_outs.amount": "update cuadre.cash_outs set amount = 0 where order_id = $1",
}


async def tamper(database: Database, numbers: Iterable[int]) -> dict[str, str]:
    """Changes these (rich) orders, each in another way; order id -> way."""
    ways = {order_id(number): way for number, way in zip(numbers, TAMPERINGS, strict=False)}
    for changed, way in ways.items():
        await database.execute(TAMPERINGS[way], changed)
    return ways
