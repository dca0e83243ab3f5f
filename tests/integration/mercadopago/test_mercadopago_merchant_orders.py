"""A legacy sale put together from several answers: what is asked for, and what becomes of an answer that is wrong."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from service.mercadopago.account import Account
from service.mercadopago.client import FetchedOrder, MercadoPagoClient
from service.mercadopago.errors import (
    AccountRefused,
    MercadoPagoError,
    NonsenseAnswer,
    OrderNotFound,
    RateLimited,
    Timeout,
    UnreadableOrder,
)
from service.mercadopago.reader import read_any
from service.telemetry import metrics
from tests.support.legacy_sales import NUMBER, ORDER_ID, PAYMENT, merchant_order, number, payment, raw, refund
from tests.support.raw_provider import Provider, http

ACCOUNT = Account("shop", user_id="2100457788", access_token="APP_USR-merchant-orders-0000")
ORDER_PATH = f"/merchant_orders/{NUMBER}"
PAYMENT_PATH = f"/v1/payments/{PAYMENT}"
REFUNDS_PATH = f"{PAYMENT_PATH}/refunds"
BARE = payment("refunded", transaction_amount_refunded=number("50.00"), refunds=[])

Pages = dict[str, bytes | None]


def pages(*payments: dict[str, Any], **fields: Any) -> Pages:
    """The answers for a closed sale with these payments."""
    shown: Pages = {ORDER_PATH: http(200, raw(merchant_order("closed", payments=payments, **fields)))}
    return shown | {f"/v1/payments/{one['id']}": http(200, raw(one)) for one in payments}


def answering(shown: Pages) -> Callable[[str], bytes | None]:
    return lambda path: shown.get(path, http(404))


async def fetch(shown: Pages, *, within_seconds: float = 5.0) -> tuple[FetchedOrder, list[str]]:
    async with (
        Provider(answering(shown)).running() as provider,
        MercadoPagoClient(provider.url, total_timeout_seconds=within_seconds) as client,
    ):
        return await client.get_any(ACCOUNT, ORDER_ID), provider.paths


async def failure(shown: Pages, *, within_seconds: float = 5.0) -> MercadoPagoError:
    with pytest.raises(MercadoPagoError) as caught:
        await fetch(shown, within_seconds=within_seconds)
    return caught.value


async def test_only_what_is_needed_is_asked_for() -> None:
    second = payment("rejected", payment_id=PAYMENT + 1)
    fetched, paths = await fetch(pages(payment(), second))
    assert paths == [ORDER_PATH, PAYMENT_PATH, f"/v1/payments/{PAYMENT + 1}"]
    assert [one.status for one in fetched.read.snapshot.payments] == ["processed", "failed"]
    assert fetched.provider_date is not None


async def test_the_number_alone_will_do() -> None:
    async with Provider(answering(pages(payment()))).running() as provider, MercadoPagoClient(provider.url) as client:
        fetched = await client.get_merchant_order(ACCOUNT, NUMBER)
    assert fetched.read.snapshot.order_id == ORDER_ID


@pytest.mark.parametrize("carried", [[], None])
async def test_refunds_that_the_payment_does_not_carry_are_asked_for(carried: object) -> None:
    shown = pages(BARE | {"refunds": carried}) | {REFUNDS_PATH: http(200, raw([refund("50.00")]))}
    fetched, paths = await fetch(shown)
    assert paths == [ORDER_PATH, PAYMENT_PATH, REFUNDS_PATH]
    assert [str(one.amount) for one in fetched.read.snapshot.refunds] == ["50.00"]
    assert json.loads(fetched.read.text)["refunds"] == {str(PAYMENT): json.loads(raw([refund("50.00")]))}
    assert read_any(fetched.read.text.encode(), ORDER_ID) == fetched.read


async def test_what_jsonb_refuses_is_replaced_and_said() -> None:
    fetched, _ = await fetch(pages(payment(description="a\x00b")))
    assert fetched.read.altered
    assert "\\\\u0000" in fetched.read.text
    untouched, _ = await fetch(pages(payment(description="ab")))
    assert not untouched.read.altered


@pytest.mark.parametrize(
    ("path", "what"),
    [
        (ORDER_PATH, ""),
        (PAYMENT_PATH, f" (payment {PAYMENT})"),
        (REFUNDS_PATH, f" (refunds of payment {PAYMENT})"),
    ],
)
@pytest.mark.parametrize(("status", "kind"), [(404, OrderNotFound), (429, RateLimited), (401, AccountRefused)])
async def test_any_part_that_fails_fails_the_whole(
    path: str, what: str, status: int, kind: type[MercadoPagoError]
) -> None:
    error = await failure(pages(BARE) | {path: http(status, b'{"error":"e","message":"m"}', Retry_After="7")})
    assert type(error) is kind
    assert str(error) == f"{status} e: m{what}"
    assert error.retry_after_seconds == 7


@pytest.mark.parametrize("path", [ORDER_PATH, PAYMENT_PATH, REFUNDS_PATH])
@pytest.mark.parametrize("body", [b"", b"<html>", b'"x"', b'{"id":', b"null", b'{"id":7}'])
async def test_any_part_that_is_nonsense(path: str, body: bytes) -> None:
    assert isinstance(await failure(pages(BARE) | {path: http(200, body)}), NonsenseAnswer)


async def test_an_answer_about_another_payment() -> None:
    error = await failure(pages(payment()) | {PAYMENT_PATH: http(200, raw(payment(payment_id=7)))})
    assert (type(error), error.outcome) == (NonsenseAnswer, "foreign_order")


async def test_a_sale_that_cannot_be_read_bears_its_text() -> None:
    unreadable: list[tuple[Pages, str]] = [
        (pages(payment(of="-5")), "payments[0].transaction_amount"),
        (pages(BARE | {"transaction_amount_refunded": "much"}), "payment.transaction_amount_refunded"),
        ({ORDER_PATH: http(200, raw(merchant_order() | {"payments": [{"id": "x/y"}]}))}, "merchant_order.payments[0]"),
    ]
    for shown, where in unreadable:
        error = await failure(shown)
        assert isinstance(error, UnreadableOrder)
        assert where in str(error)
        assert error.body is not None
        assert NUMBER in error.body


async def test_it_does_not_take_for_ever() -> None:
    error = await failure(pages(payment()) | {PAYMENT_PATH: None}, within_seconds=0.2)
    assert (type(error), error.outcome) == (Timeout, "timeout")


async def test_all_of_its_parts_together_do_not_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    async with MercadoPagoClient("http://127.0.0.1:1", total_timeout_seconds=0.05) as client:
        monkeypatch.setattr(client._transport, "get", never)
        with pytest.raises(Timeout, match="not all there"):
            await client.get_merchant_order(ACCOUNT, NUMBER)


async def test_every_call_is_counted_by_its_own_name() -> None:
    def counted(operation: str) -> float:
        labels = {"operation": operation, "outcome": "ok"}
        return metrics.REGISTRY.get_sample_value("cuadre_api_requests_total", labels) or 0.0

    names = ["get_merchant_order", "get_payment", "get_payment_refunds"]
    before = [counted(name) for name in names]
    await fetch(pages(BARE) | {REFUNDS_PATH: http(200, raw([refund()]))})
    assert [counted(name) - was for name, was in zip(names, before, strict=True)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("body", "current"),
    [(b"[]", None), (b"null", None), (b"[null]", None), (b'[{"title":"x"},{"title":"y"}]', {"title": "x"})],
)
async def test_what_a_point_of_sale_shows(body: bytes, current: object) -> None:
    async with Provider(http(200, body)).running() as provider, MercadoPagoClient(provider.url) as client:
        assert await client.get_legacy_current(ACCOUNT, "CAJA01") == current
        provider.reply = http(404, b'{"error":"point_of_sale_in_store_order_not_found"}')
        assert await client.get_legacy_current(ACCOUNT, "CAJA01") is None
        provider.reply = http(200, b'"x"')
        with pytest.raises(NonsenseAnswer):
            await client.get_legacy_current(ACCOUNT, "CAJA01")
    assert provider.paths[0] == "/instore/qr/seller/collectors/2100457788/pos/CAJA01/orders"


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":"point_of_sale_in_store_order_not_found","message":"no order","status":404}',
        b'{"message":"not found","error":"not_found","status":404,"cause":[]}',
        b'{"errors":[{"code":"point_of_sale_in_store_order_not_found"}]}',
        b'{"message":"point_of_sale_in_store_order_not_found"}',
        b'{"message":"In store order not found for this point of sale"}',
        b'{"error":"in store order not found"}',
        b'{"message":"nothing here","status":404}',
        b'{"message":"nothing here","cause":[]}',
        b'{"errors":[{"message":"nothing here"}]}',
    ],
)
async def test_a_point_of_sale_shows_nothing_where_the_provider_says_so(body: bytes) -> None:
    async with Provider(http(404, body)).running() as provider, MercadoPagoClient(provider.url) as client:
        assert await client.get_legacy_current(ACCOUNT, "CAJA01") is None


@pytest.mark.parametrize(
    "body",
    [
        b"<html><title>404 Not Found</title></html>",
        b"",
        b"[]",
        b'"not_found"',
        b'{"message":"no Route matched with those values"}',
        b'{"message":"Not Found"}',
        b"{}",
        b'{"status":"404"}',
        b'{"timestamp":"2026-09-14","status":404,"error":"Not Found","path":"/instore"}',
    ],
)
async def test_what_a_gateway_cannot_find_may_be_on_the_point_of_sale(body: bytes) -> None:
    async with Provider(http(404, body)).running() as provider, MercadoPagoClient(provider.url) as client:
        with pytest.raises(NonsenseAnswer) as raised:
            await client.get_legacy_current(ACCOUNT, "CAJA01")
    assert raised.value.status == 404
