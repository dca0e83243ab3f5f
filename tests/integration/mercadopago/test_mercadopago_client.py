"""The client against a server that answers with the bytes a test gives it: every row of the error table, and worse."""

import asyncio
import contextlib
import gzip
import json
import logging
import traceback
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.mercadopago.account import Account
from service.mercadopago.client import FetchedOrder, MercadoPagoClient, Seller
from service.mercadopago.errors import (
    AccountRefused,
    BadRequest,
    ConnectionTrouble,
    MercadoPagoError,
    NonsenseAnswer,
    OrderNotFound,
    RateLimited,
    ServerTrouble,
    Timeout,
    UnreadableOrder,
)
from service.telemetry import metrics
from tests.support.raw_provider import Provider, http

FIXTURES = Path(__file__).parents[2] / "fixtures" / "mercadopago"
ORDER_ID = "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"
ORDER = (FIXTURES / "order-processed-qr.json").read_bytes()
TOKEN = "APP_USR-1234567890123456-091415-0123456789abcdef0123456789abcdef-2100457788"
ACCOUNT = Account("shop", access_token=TOKEN)


async def fetch(provider: Provider, order_id: str = ORDER_ID, *, within_seconds: float = 5.0) -> FetchedOrder:
    async with MercadoPagoClient(provider.url, total_timeout_seconds=within_seconds) as client:
        return await client.get_order(ACCOUNT, order_id)


async def failure(reply: bytes | None, *, then_close: bool = False, within_seconds: float = 5.0) -> MercadoPagoError:
    async with Provider(reply, then_close=then_close).running() as provider:
        with pytest.raises(MercadoPagoError) as caught:
            await fetch(provider, within_seconds=within_seconds)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert TOKEN not in shown
    assert "Bearer" not in shown
    # Those of aiohttp hold the request's headers; whoever walks the chain would find them.
    assert not isinstance(caught.value.__context__, aiohttp.ClientError)
    return caught.value


# What works ----------------------------------------------------------------------------------------------------------


async def test_an_order_is_asked_for_and_read() -> None:
    async with Provider(http(200, ORDER)).running() as provider:
        fetched = await fetch(provider)
    assert fetched.read.snapshot.order_id == ORDER_ID
    assert fetched.read.text == ORDER.decode()
    assert fetched.provider_date == datetime(2026, 9, 14, 14, 2, 43, tzinfo=UTC)
    [request] = provider.requests
    line, *headers = request.strip().split("\r\n")
    assert line == f"GET /v1/orders/{ORDER_ID} HTTP/1.1"
    sent = {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}
    assert sent["authorization"] == f"Bearer {TOKEN}"
    assert sent["accept"] == "application/json"
    assert sent["user-agent"].startswith("cuadre/")
    assert request.count(TOKEN) == 1


async def test_a_base_url_with_a_path_and_a_slash() -> None:
    async with (
        Provider(http(200, ORDER)).running() as provider,
        MercadoPagoClient(f"{provider.url}/gateway/mp/") as client,
    ):
        await client.get_order(ACCOUNT, ORDER_ID)
    assert provider.requests[0].startswith(f"GET /gateway/mp/v1/orders/{ORDER_ID} ")


async def test_connections_are_kept_and_cookies_are_not() -> None:
    async with (
        Provider(http(200, ORDER, Set_Cookie="session=1; Path=/")).running() as provider,
        MercadoPagoClient(provider.url) as client,
    ):
        for _ in range(5):
            await client.get_order(ACCOUNT, ORDER_ID)
    assert provider.connections == 1
    assert len(provider.requests) == 5
    assert not any("cookie" in request.lower() for request in provider.requests)


async def test_many_at_once_share_the_connections() -> None:
    async with (
        Provider(http(200, ORDER)).running() as provider,
        MercadoPagoClient(provider.url, max_connections=4) as client,
    ):
        await asyncio.gather(*(client.get_order(ACCOUNT, ORDER_ID) for _ in range(40)))
    assert provider.connections <= 4
    assert len(provider.requests) == 40


async def test_a_kept_connection_that_died_is_not_noticed() -> None:
    async with (
        Provider(http(200, ORDER), then_close=True).running() as provider,
        MercadoPagoClient(provider.url) as client,
    ):
        for _ in range(3):
            await client.get_order(ACCOUNT, ORDER_ID)
    assert len(provider.requests) >= 3


async def test_no_proxy_or_netrc_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with Provider(http(200, ORDER)).running() as provider:
        await fetch(provider)
    assert len(provider.requests) == 1


async def test_compressed_and_chunked_answers() -> None:
    packed = gzip.compress(ORDER)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (ORDER[:7], ORDER[7:])) + b"0\r\n\r\n"
    for reply in (http(200, packed, Content_Encoding="gzip"), chunked, http(200, ORDER, Content_Type="text/html")):
        async with Provider(reply).running() as provider:
            assert (await fetch(provider)).read.text == ORDER.decode()


async def test_nul_in_strings() -> None:
    body = json.dumps({"id": ORDER_ID, "status": "created", "description": "a\x00b"}).encode()
    async with Provider(http(200, body)).running() as provider:
        read = (await fetch(provider)).read
    assert read.altered
    assert read.snapshot.description == "a\\u0000b"


@pytest.mark.parametrize("date", ["", "yesterday"])
async def test_an_answer_without_a_date(date: str) -> None:
    async with Provider(http(200, ORDER, Date=date)).running() as provider:
        assert (await fetch(provider)).provider_date is None


async def test_who_am_i() -> None:
    body = {"id": 2100457788, "nickname": "TESTUSER1", "site_id": "MLA", "tags": ["normal", "test_user"], "email": "x"}
    async with (
        Provider(http(200, json.dumps(body).encode())).running() as provider,
        MercadoPagoClient(provider.url) as client,
    ):
        seller = await client.who_am_i(ACCOUNT)
        provider.reply = http(200, b'{"id":"7"}', Date="x")
        assert await client.who_am_i(ACCOUNT) == Seller("7", None, None, False, None)
    assert seller == Seller("2100457788", "MLA", "TESTUSER1", True, datetime(2026, 9, 14, 14, 2, 43, tzinfo=UTC))
    assert provider.requests[0].startswith("GET /users/me HTTP/1.1")


# What does not -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "outcome"),
    [
        (400, BadRequest, "bad_request"),
        (401, AccountRefused, "unauthorized"),
        (403, AccountRefused, "forbidden"),
        (404, OrderNotFound, "not_found"),
        (409, BadRequest, "bad_request"),
        (423, ServerTrouble, "locked"),
        (429, RateLimited, "rate_limited"),
        (500, ServerTrouble, "server_error"),
        (503, ServerTrouble, "server_error"),
    ],
)
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"errors":[{"code":"c","message":"m"}]}', "c: m"),
        (b'{"code":"c","message":"m"}', "c: m"),
        (b'{"message":"m","status":0}', "m"),
        (b"<html>nginx</html>", "without a readable reason"),
        (b"", "without a readable reason"),
        (json.dumps({"code": "c", "message": f"token {TOKEN}"}).encode(), "c: token ***"),
    ],
)
async def test_every_status_with_every_envelope(
    status: int, kind: type[MercadoPagoError], outcome: str, body: bytes, text: str
) -> None:
    error = await failure(http(status, body))
    assert type(error) is kind
    assert error.outcome == outcome
    assert str(error) == f"{status} {text}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with Provider(http(200, ORDER)).running() as elsewhere:
        error = await failure(http(status, Location=f"{elsewhere.url}/v1/orders/{ORDER_ID}"))
    assert (type(error), error.outcome) == (NonsenseAnswer, "redirect")
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("7200", 900),
        ("Mon, 14 Sep 2026 14:03:13 GMT", 30),
        ("Mon, 14 Sep 2026 14:00:00 GMT", None),
        ("-1", None),
        ("later", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after(status: int, value: str, seconds: float | None) -> None:
    assert (await failure(http(status, Retry_After=value))).retry_after_seconds == seconds


@pytest.mark.parametrize(
    "reply",
    [None, http(200, ORDER)[:-10], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"],
    ids=["silence", "part of a body", "part of a head", "no body"],
)
async def test_no_whole_answer_in_time(reply: bytes | None) -> None:
    error = await failure(reply, within_seconds=0.2)
    assert (type(error), error.outcome) == (Timeout, "timeout")
    assert str(error) == "no whole answer within 0.2 s"


@pytest.mark.parametrize("status", [404, 503])
async def test_an_error_whose_body_never_ends_still_says_its_status(status: int) -> None:
    reply = f"HTTP/1.1 {status} X\r\nContent-Length: 1000\r\n\r\n{{".encode()
    assert (await failure(reply, within_seconds=0.2)).status == status
    assert (await failure(reply, then_close=True)).status == status
    endless = f"HTTP/1.1 {status} X\r\nContent-Length: 9999999\r\n\r\n".encode() + b"x" * 9_999_999
    assert (await failure(endless)).status == status


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        http(200, ORDER)[:-10],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        http(200, b"no gzip", Content_Encoding="gzip"),
    ],
    ids=["nothing", "part of a head", "part of a body", "part of a chunk", "broken compression"],
)
async def test_connections_that_break(reply: bytes) -> None:
    error = await failure(reply, then_close=True)
    assert (type(error), error.outcome) == (ConnectionTrouble, "connection")


async def test_nobody_listens() -> None:
    async with Provider().running() as provider:
        pass
    with pytest.raises(ConnectionTrouble) as caught:
        await fetch(provider)
    assert TOKEN not in repr(caught.value)


async def test_a_host_that_cannot_be_one() -> None:
    async with MercadoPagoClient(f"http://{'a' * 64}.invalid") as client:
        with pytest.raises(ConnectionTrouble):
            await client.get_order(ACCOUNT, ORDER_ID)


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x00\xff\x16\x03\x01",
    ],
)
async def test_answers_that_are_no_http(reply: bytes) -> None:
    assert isinstance(await failure(reply, then_close=True), NonsenseAnswer | ConnectionTrouble)


@pytest.mark.parametrize("status", [201, 202, 204])
async def test_success_of_another_kind_is_nonsense(status: int) -> None:
    assert (await failure(http(status))).outcome == "nonsense"


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b"", "nonsense"),
        (b"<html>Please log in to the Wi-Fi</html>", "nonsense"),
        (b"[]", "nonsense"),
        (b"null", "nonsense"),
        (b'{"id":', "nonsense"),
        (b"\xff\xfe", "nonsense"),
        (b'{"id":"ORD01M2G3K2XF0W7YQHBTWEK4BXB8"}', "foreign_order"),
        (b"[" * 100_000, "nonsense"),
    ],
)
async def test_a_200_that_is_not_the_order(body: bytes, outcome: str) -> None:
    error = await failure(http(200, body))
    assert isinstance(error, NonsenseAnswer)
    assert error.outcome == outcome


async def test_an_oversized_answer() -> None:
    body = b'{"id":"' + ORDER_ID.encode() + b'","x":"' + b"y" * (5 * 1024 * 1024) + b'"}'
    error = await failure(http(200, body))
    assert (type(error), error.outcome) == (NonsenseAnswer, "oversized")
    bomb = gzip.compress(b'{"x":"' + b"y" * 40_000_000)
    error = await failure(http(200, bomb, Content_Encoding="gzip"))
    assert error.outcome == "oversized"


async def test_the_largest_answer_that_is_taken() -> None:
    head, tail = b'{"id":"' + ORDER_ID.encode() + b'","status":"created","x":"', b'"}'
    body = head + b"y" * (5 * 1024 * 1024 - len(head) - len(tail)) + tail
    async with Provider(http(200, body)).running() as provider:
        assert len((await fetch(provider)).read.text) == 5 * 1024 * 1024


async def test_an_unreadable_order_bears_its_text() -> None:
    body = json.dumps({"id": ORDER_ID, "status": "created", "total_amount": "-5", "card": "5031755734530604"})
    error = await failure(http(200, body.encode()))
    assert isinstance(error, UnreadableOrder)
    assert error.body == body
    assert "5031755734530604" not in str(error)


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"id":null}', b'{"id":true}', b'{"id":""}', b"nope", b""])
async def test_a_user_that_is_none(body: bytes) -> None:
    async with Provider(http(200, body)).running() as provider, MercadoPagoClient(provider.url) as client:
        with pytest.raises(NonsenseAnswer):
            await client.who_am_i(ACCOUNT)


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AccountRefused), (404, NonsenseAnswer), (429, RateLimited), (500, ServerTrouble)]
)
async def test_who_am_i_fails_in_the_same_terms(status: int, kind: type[MercadoPagoError]) -> None:
    async with Provider(http(status)).running() as provider, MercadoPagoClient(provider.url) as client:
        with pytest.raises(kind):
            await client.who_am_i(ACCOUNT)


# What is not even tried ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, ""])
async def test_an_account_without_a_token(token: str | None) -> None:
    async with Provider(http(200, ORDER)).running() as provider, MercadoPagoClient(provider.url) as client:
        for call in (client.who_am_i(Account("shop", access_token=token)), client.get_order(Account("shop"), ORDER_ID)):
            with pytest.raises(AccountRefused) as caught:
                await call
            assert caught.value.outcome == "no_token"
    assert provider.connections == 0


@pytest.mark.parametrize(
    "token", ["a\r\nX-Evil: 1", "SECRET\n", "SECRETñ", "SECRET☃", "SEC RET", "SECRET\x00", "\ud800"]
)
async def test_a_token_that_no_header_can_carry(token: str) -> None:
    async with Provider(http(200, ORDER)).running() as provider, MercadoPagoClient(provider.url) as client:
        with pytest.raises(AccountRefused) as caught:
            await client.get_order(Account("shop", access_token=token), ORDER_ID)
    assert caught.value.outcome == "bad_token"
    assert "SECRET" not in str(caught.value)
    assert provider.connections == 0


@pytest.mark.parametrize(
    "order_id", ["", "..", "a/b", "a?b", "ORD%2f", "ORD 1", "ORD1\n", "ñ", "x" * 65, "../users/me"]
)
async def test_an_id_that_is_none_is_not_asked_for(order_id: str) -> None:
    async with Provider(http(200, ORDER)).running() as provider, MercadoPagoClient(provider.url) as client:
        with pytest.raises(BadRequest):
            await client.get_order(ACCOUNT, order_id)
    assert provider.connections == 0


@pytest.mark.parametrize(
    "url", ["", "api.mercadopago.com", "ftp://x", "https://", "https://a:b@x", "https://x?y=1", "https://x#y"]
)
def test_urls_that_are_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="Mercado Pago URL"):
        MercadoPagoClient(url)


async def test_a_closed_client_says_so() -> None:
    client = MercadoPagoClient("http://127.0.0.1:1")
    with pytest.raises(RuntimeError, match="async with"):
        await client.get_order(ACCOUNT, ORDER_ID)


# Around it -----------------------------------------------------------------------------------------------------------


async def test_cancelling_passes_through() -> None:
    async with Provider(None).running() as provider, MercadoPagoClient(provider.url) as client:
        call = asyncio.create_task(client.get_order(ACCOUNT, ORDER_ID))
        async with asyncio.timeout(5):
            await provider.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


def counted(operation: str, outcome: str) -> float:
    value = metrics.REGISTRY.get_sample_value("cuadre_api_requests_total", {"operation": operation, "outcome": outcome})
    return value or 0.0


async def test_calls_are_counted_by_outcome() -> None:
    calls: list[tuple[str, str]] = []

    def on_call(operation: str, outcome: str, seconds: float) -> None:
        assert 0 <= seconds < 60
        calls.append((operation, outcome))

    outcomes = ["ok", "not_found", "foreign_order", "unreadable"]
    before = {outcome: counted("get_order", outcome) for outcome in outcomes}
    async with Provider().running() as provider, MercadoPagoClient(provider.url, on_call=on_call) as client:
        for reply in (ORDER, None, b'{"id":"ORD2"}', b"{}"):
            provider.reply = http(404) if reply is None else http(200, reply)
            with contextlib.suppress(MercadoPagoError):
                await client.get_order(ACCOUNT, ORDER_ID)
    assert calls == [("get_order", outcome) for outcome in outcomes]
    assert {outcome: counted("get_order", outcome) - before[outcome] for outcome in outcomes} == dict.fromkeys(
        outcomes, 1
    )


async def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for reply in (
        None,
        b"nonsense\r\n\r\n",
        http(401, f'{{"message":"{TOKEN}"}}'.encode()),
        http(200, b'{"id":1}'),
        b"",
    ):
        await failure(reply, then_close=True, within_seconds=0.2)
    assert TOKEN not in caplog.text
    assert "Bearer" not in caplog.text


def mangled(whole: bytes) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda start, length, new: whole[:start] + new + whole[start + length :],
        st.integers(0, len(whole)),
        st.integers(0, 40),
        st.binary(max_size=20),
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mangled(http(200, b'{"id":"' + ORDER_ID.encode() + b'","status":"created","total_amount":"5"}')))
def test_a_mangled_answer_is_an_order_or_an_error_of_the_tree(reply: bytes) -> None:
    async def scenario() -> None:
        async with Provider(reply, then_close=True).running() as provider:
            with contextlib.suppress(MercadoPagoError):
                assert (await fetch(provider)).read.snapshot.order_id == ORDER_ID

    asyncio.run(scenario())
