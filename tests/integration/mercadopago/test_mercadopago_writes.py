"""Writes over the wire: what is sent, that it is sent at most once, and what every way to fail says of its fate."""

import asyncio
import contextlib
import gzip
import json
import logging
import socket
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.mercadopago.account import Account
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.errors import (
    AccountRefused,
    BadRequest,
    ConnectionTrouble,
    MercadoPagoError,
    NonsenseAnswer,
    ProviderTrouble,
    Timeout,
)
from service.telemetry import metrics
from tests.support.raw_provider import Provider, http

ERRORS = Path(__file__).parents[2] / "fixtures" / "mercadopago" / "errors"
ORDER_ID = "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"
TOKEN = "APP_USR-1234567890123456-091415-0123456789abcdef0123456789abcdef-2100457788"
ACCOUNT = Account("shop", user_id="2100457788", access_token=TOKEN)
KEY = "0f6e2a5c-7d1b-4c39-9a51-2b7f0d6c1e88"
BODY = '{"type":"qr","total_amount":"50.00"}'
MADE = b'{"id":"' + ORDER_ID.encode() + b'","status":"created"}'

Write = Callable[[MercadoPagoClient], Awaitable[ProviderAnswer]]
WRITES: dict[str, Write] = {
    "create_order": lambda client: client.create_order(ACCOUNT, BODY, KEY),
    "cancel_order": lambda client: client.cancel_order(ACCOUNT, ORDER_ID, KEY, at_terminal=False),
    "refund_order": lambda client: client.refund_order(ACCOUNT, ORDER_ID, None, KEY),
    "refund_payment": lambda client: client.refund_payment(ACCOUNT, "118000000001", "{}", KEY),
    "put_legacy_order": lambda client: client.put_legacy_order(
        ACCOUNT, "CAJA01", "{}", generation="v2", ttl_seconds=None, store_id="SUC01"
    ),
    "delete_legacy_order": lambda client: client.delete_legacy_order(ACCOUNT, "CAJA01", generation="v1", store_id=None),
}
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())


def safe(error: MercadoPagoError) -> MercadoPagoError:
    shown = "".join(traceback.format_exception(error)) + repr(error)
    assert TOKEN not in shown
    assert "Bearer" not in shown
    assert KEY not in shown
    # Those of aiohttp hold the request's headers; whoever walks the chain would find them.
    assert not isinstance(error.__context__, aiohttp.ClientError)
    return error


async def failure(
    write: Write, reply: bytes | None, *, then_close: bool = False, within_seconds: float = 5.0
) -> MercadoPagoError:
    async with (
        Provider(reply, then_close=then_close).running() as provider,
        MercadoPagoClient(provider.url, total_timeout_seconds=within_seconds) as client,
    ):
        with pytest.raises(MercadoPagoError) as caught:
            await write(client)
    return safe(caught.value)


# What is sent --------------------------------------------------------------------------------------------------------


async def test_a_creation_carries_its_body_and_key() -> None:
    async with Provider(http(201, MADE)).running() as provider, MercadoPagoClient(f"{provider.url}/mp/") as client:
        answer = await client.create_order(ACCOUNT, BODY, KEY)
    [request] = provider.received
    assert request.line == "POST /mp/v1/orders HTTP/1.1"
    assert request.body == BODY.encode()
    assert request.headers["x-idempotency-key"] == KEY
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["user-agent"].startswith("cuadre/")
    assert request.text.count(TOKEN) == 1
    assert answer == ProviderAnswer(201, None, None, {"id": ORDER_ID, "status": "created"}, MADE.decode(), None)


async def test_a_body_that_is_not_ascii_arrives_as_utf_8() -> None:
    async with Provider(http(201, MADE)).running() as provider, MercadoPagoClient(provider.url) as client:
        await client.create_order(ACCOUNT, '{"description":"Café ñandú"}', KEY)
    assert json.loads(provider.received[0].body) == {"description": "Café ñandú"}


@pytest.mark.parametrize("at_terminal", [False, True])
async def test_a_cancellation_reaches_a_terminal_only_when_it_is_told_to(at_terminal: bool) -> None:
    async with Provider(http(200, MADE)).running() as provider, MercadoPagoClient(provider.url) as client:
        await client.cancel_order(ACCOUNT, ORDER_ID, KEY, at_terminal=at_terminal)
    [request] = provider.received
    assert request.line == f"POST /v1/orders/{ORDER_ID}/cancel HTTP/1.1"
    assert request.body == b""
    assert request.headers.get("x-allow-cancelable-status") == ("at_terminal" if at_terminal else None)
    assert request.headers["x-idempotency-key"] == KEY


@pytest.mark.parametrize("body", [None, '{"transactions":[{"id":"PAY1","amount":"24.90"}]}'])
async def test_a_refund_of_all_sends_no_body(body: str | None) -> None:
    async with Provider(http(201, MADE)).running() as provider, MercadoPagoClient(provider.url) as client:
        await client.refund_order(ACCOUNT, ORDER_ID, body, KEY)
    [request] = provider.received
    assert request.line == f"POST /v1/orders/{ORDER_ID}/refund HTTP/1.1"
    assert request.body.decode() == (body or "")
    assert request.headers["content-length"] == str(len(body or ""))


async def test_a_refund_of_a_payment() -> None:
    refund = b'{"id":1,"payment_id":118000000001,"amount":5.10,"status":"approved"}'
    async with Provider(http(201, refund)).running() as provider, MercadoPagoClient(provider.url) as client:
        answer = await client.refund_payment(ACCOUNT, "118000000001", '{"amount":5.10}', KEY)
    [request] = provider.received
    assert request.line == "POST /v1/payments/118000000001/refunds HTTP/1.1"
    assert request.body == b'{"amount":5.10}'
    assert request.headers["x-idempotency-key"] == KEY
    assert answer.document is not None
    assert str(answer.document["amount"]) == "5.10"


async def test_the_paths_of_both_legacy_generations() -> None:
    async with Provider(http(204)).running() as provider, MercadoPagoClient(provider.url) as client:
        await client.put_legacy_order(ACCOUNT, "CAJA01", "{}", generation="v1", ttl_seconds=180, store_id=None)
        await client.put_legacy_order(ACCOUNT, "CAJA01", "{}", generation="v1", ttl_seconds=None, store_id=None)
        await client.put_legacy_order(ACCOUNT, "CAJA01", "{}", generation="v2", ttl_seconds=180, store_id="SUC01")
        await client.delete_legacy_order(ACCOUNT, "CAJA01", generation="v1", store_id="SUC01")
        await client.delete_legacy_order(ACCOUNT, "CAJA01", generation="v2", store_id="SUC01")
    collectors = "/instore/qr/seller/collectors/2100457788"
    assert [request.line.removesuffix(" HTTP/1.1") for request in provider.received] == [
        "POST /mpmobile/instore/qr/2100457788/CAJA01",
        "POST /mpmobile/instore/qr/2100457788/CAJA01",
        f"PUT {collectors}/stores/SUC01/pos/CAJA01/orders",
        "DELETE /mpmobile/instore/qr/2100457788/CAJA01",
        f"DELETE {collectors}/pos/CAJA01/orders",
    ]
    ttls = [request.headers.get("x-ttl-store-preference") for request in provider.received]
    assert ttls == ["180", None, None, None, None]
    assert provider.received[3].body == b""


# At most once --------------------------------------------------------------------------------------------------------


@every_write
async def test_a_broken_connection_is_not_tried_again(write: Write) -> None:
    """aiohttp by itself would send a PUT or DELETE a second time."""
    async with Provider(b"", then_close=True).running() as provider, MercadoPagoClient(provider.url) as client:
        with pytest.raises(ConnectionTrouble) as caught:
            await write(client)
    assert len(provider.received) == 1
    assert caught.value.sent is True
    safe(caught.value)


async def test_a_read_is_tried_again_by_itself() -> None:
    """What the test above would see if writes were sent like reads."""
    async with Provider(b"", then_close=True).running() as provider, MercadoPagoClient(provider.url) as client:
        with pytest.raises(ConnectionTrouble):
            await client.get_order(ACCOUNT, ORDER_ID)
    assert len(provider.received) == 2


@every_write
async def test_a_connection_that_was_kept_and_died_costs_a_write_nothing(write: Write) -> None:
    """A connection answers once and breaks at its second request; no write ever gets to be the second."""
    async with Provider(http(200, MADE), drop_after=1).running() as provider, MercadoPagoClient(provider.url) as client:
        await client.get_order(ACCOUNT, ORDER_ID)
        for _ in range(3):
            assert (await write(client)).status == 200
    assert len(provider.received) == 4
    assert provider.connections == 4


@every_write
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(write: Write, status: int) -> None:
    async with Provider(http(201, MADE)).running() as elsewhere:
        error = await failure(write, http(status, Location=f"{elsewhere.url}/v1/orders"))
    assert (type(error), error.outcome, error.status) == (NonsenseAnswer, "redirect", status)
    assert elsewhere.received == []


@every_write
@pytest.mark.parametrize("status", [423, 425, 429, 500, 503])
async def test_not_now_is_an_answer_and_not_tried_again(write: Write, status: int) -> None:
    async with Provider(http(status, b"", Retry_After="7")).running() as provider:
        async with MercadoPagoClient(provider.url) as client:
            answer = await write(client)
        assert len(provider.received) == 1
    assert answer == ProviderAnswer(status, None, None, None, "", 7.0)


# Whether it was sent -------------------------------------------------------------------------------------------------


def unsent(error: MercadoPagoError) -> bool:
    assert isinstance(error, ProviderTrouble)
    return not error.sent


@every_write
async def test_nobody_listens(write: Write) -> None:
    async with Provider().running() as provider:
        pass
    async with MercadoPagoClient(provider.url) as client:
        with pytest.raises(ConnectionTrouble) as caught:
            await write(client)
    assert unsent(safe(caught.value))


async def test_a_name_that_nobody_can_have() -> None:
    async with MercadoPagoClient(f"http://{'a' * 64}.invalid") as client:
        with pytest.raises(ConnectionTrouble) as caught:
            await client.create_order(ACCOUNT, BODY, KEY)
    assert unsent(safe(caught.value))


async def test_a_tls_that_is_none() -> None:
    async with Provider(b"no TLS here", then_close=True).running() as provider:
        async with MercadoPagoClient(provider.url.replace("http:", "https:"), total_timeout_seconds=5) as client:
            with pytest.raises(ProviderTrouble) as caught:
                await client.create_order(ACCOUNT, BODY, KEY)
        assert provider.received == []
    assert unsent(safe(caught.value))


@contextlib.contextmanager
def deaf() -> Iterator[str]:
    """A port whose queue of connections is full, so that no new one is ever made."""
    with socket.socket() as listener, contextlib.ExitStack() as held:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(("connect", "total"), [(0.1, 5.0), (5.0, 0.1)], ids=["connect", "total"])
async def test_a_connection_that_is_never_made(connect: float, total: float) -> None:
    with deaf() as url:
        async with MercadoPagoClient(url, connect_timeout_seconds=connect, total_timeout_seconds=total) as client:
            with pytest.raises(Timeout) as caught:
                await client.create_order(ACCOUNT, BODY, KEY)
    assert unsent(safe(caught.value))
    assert str(caught.value) == "no connection within 0.1 s"


async def test_waiting_for_a_free_connection_is_unsent() -> None:
    async with (
        Provider(None).running() as provider,
        MercadoPagoClient(provider.url, max_connections=1, total_timeout_seconds=0.3) as client,
    ):
        assert client._transport._writes is not None
        forever = aiohttp.ClientTimeout(total=None)
        post = client._transport._writes.post(provider.url, timeout=forever, trace_request_ctx=SimpleNamespace())
        holder = asyncio.ensure_future(post)
        async with asyncio.timeout(5):
            await provider.asked.wait()
        with pytest.raises(Timeout) as caught:
            await client.create_order(ACCOUNT, BODY, KEY)
        holder.cancel()
        await asyncio.gather(holder, return_exceptions=True)
    assert unsent(caught.value)
    assert len(provider.received) == 1


@every_write
@pytest.mark.parametrize(
    "reply",
    [None, http(201, MADE)[:-5], b"HTTP/1.1 201 OK\r\n", b"HTTP/1.1 201 OK\r\nContent-Length: 5\r\n\r\n"],
    ids=["silence", "part of a body", "part of a head", "no body"],
)
async def test_no_whole_answer_in_time(write: Write, reply: bytes | None) -> None:
    error = await failure(write, reply, within_seconds=0.2)
    assert (type(error), error.outcome) == (Timeout, "timeout")
    assert not unsent(error)


@every_write
@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 201 OK\r\n",
        http(201, MADE)[:-5],
        b"HTTP/1.1 201 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        http(201, b"no gzip", Content_Encoding="gzip"),
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 201 OK\r\nContent-Length: many\r\n\r\n",
    ],
    ids=["part of a head", "part of a body", "part of a chunk", "broken compression", "another protocol", "a length"],
)
async def test_answers_that_break(write: Write, reply: bytes) -> None:
    error = await failure(write, reply, then_close=True)
    assert isinstance(error, ConnectionTrouble | NonsenseAnswer)
    assert not unsent(error)


@every_write
@pytest.mark.parametrize("body", [b"<html>Please log in to the Wi-Fi</html>", b"[]", b'"ok"', b'{"id":', b"\xff"])
async def test_success_that_is_not_the_provider_speaking(write: Write, body: bytes) -> None:
    error = await failure(write, http(200, body))
    assert isinstance(error, NonsenseAnswer)
    assert error.status == 200
    assert not unsent(error)


@pytest.mark.parametrize("status", [200, 201, 204])
@pytest.mark.parametrize("name", ["create_order", "cancel_order", "refund_order", "refund_payment"])
async def test_a_success_without_the_document_that_belongs_to_it(name: str, status: int) -> None:
    assert isinstance(await failure(WRITES[name], http(status)), NonsenseAnswer)


@pytest.mark.parametrize("status", [200, 204])
@pytest.mark.parametrize("name", ["put_legacy_order", "delete_legacy_order"])
async def test_a_success_that_needs_no_document(name: str, status: int) -> None:
    async with Provider(http(status)).running() as provider, MercadoPagoClient(provider.url) as client:
        assert await WRITES[name](client) == ProviderAnswer(status, None, None, None, "", None)


@every_write
async def test_an_oversized_success(write: Write) -> None:
    bomb = gzip.compress(b'{"x":"' + b"y" * 20_000_000)
    error = await failure(write, http(201, bomb, Content_Encoding="gzip"))
    assert (type(error), error.outcome) == (NonsenseAnswer, "oversized")


# Errors are answers --------------------------------------------------------------------------------------------------


@every_write
@pytest.mark.parametrize("path", sorted(ERRORS.glob("*.json")), ids=lambda path: path.stem)
async def test_every_envelope_is_an_answer(write: Write, path: Path) -> None:
    status, code = path.stem.split("-", 1)
    async with (
        Provider(http(int(status), path.read_bytes())).running() as provider,
        MercadoPagoClient(provider.url) as client,
    ):
        answer = await write(client)
    assert answer.status == int(status)
    assert answer.document == json.loads(path.read_bytes())
    assert json.loads(answer.text) == answer.document
    known = {"401": "unauthorized", "402": "failed"}
    assert answer.code in {code, known.get(status), "invalid_parameter"}
    assert answer.message


async def test_a_declined_creation_carries_its_order() -> None:
    padding = "x" * 100_000
    body = json.loads((ERRORS / "402-failed-with-order.json").read_bytes())
    body["data"]["description"] = padding
    async with (
        Provider(http(402, json.dumps(body).encode())).running() as provider,
        MercadoPagoClient(provider.url) as client,
    ):
        answer = await client.create_order(ACCOUNT, BODY, KEY)
    assert answer.document is not None
    assert answer.document["data"] == body["data"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 500, 502])
@pytest.mark.parametrize("body", [b"", b"<html>nginx</html>", b"[]", b"null", b"\xff\xfe", b'{"errors":'])
async def test_an_error_without_a_document(status: int, body: bytes) -> None:
    async with (
        Provider(http(status, body, Content_Type="text/html")).running() as provider,
        MercadoPagoClient(provider.url) as client,
    ):
        answer = await client.create_order(ACCOUNT, BODY, KEY)
    assert answer == ProviderAnswer(status, None, None, None, "", None)


@pytest.mark.parametrize("status", [409, 503])
async def test_an_error_whose_body_never_ends_is_still_an_answer(status: int) -> None:
    reply = f"HTTP/1.1 {status} X\r\nContent-Length: 1000\r\n\r\n{{".encode()
    async with Provider(reply, then_close=True).running() as provider, MercadoPagoClient(provider.url) as client:
        assert (await client.create_order(ACCOUNT, BODY, KEY)).status == status


async def test_an_answer_that_quotes_the_token_does_not_keep_it() -> None:
    body = json.dumps({"code": TOKEN, "message": f"token {TOKEN} is bad", "x": [TOKEN]}).encode()
    async with Provider(http(401, body)).running() as provider, MercadoPagoClient(provider.url) as client:
        answer = await client.create_order(ACCOUNT, BODY, KEY)
    assert TOKEN not in repr(answer)
    assert (answer.code, answer.message) == ("***", "token *** is bad")


# What is not sent at all ---------------------------------------------------------------------------------------------

NOT_SENT: dict[str, Write] = {
    "order id": lambda client: client.cancel_order(ACCOUNT, "../users/me", KEY, at_terminal=False),
    "order id of a refund": lambda client: client.refund_order(ACCOUNT, "a/b", None, KEY),
    "payment id": lambda client: client.refund_payment(ACCOUNT, "1/../2", "{}", KEY),
    "key that ends its header": lambda client: client.create_order(ACCOUNT, BODY, "a\r\nX: b"),
    "no key": lambda client: client.create_order(ACCOUNT, BODY, ""),
    "too long a key": lambda client: client.create_order(ACCOUNT, BODY, "k" * 129),
    "half a character": lambda client: client.create_order(ACCOUNT, '{"a":"\ud800"}', KEY),
    "no store": lambda client: client.put_legacy_order(
        ACCOUNT, "CAJA01", "{}", generation="v2", ttl_seconds=None, store_id=None
    ),
    "point of sale": lambda client: client.delete_legacy_order(ACCOUNT, "..", generation="v1", store_id=None),
    "no user": lambda client: client.delete_legacy_order(
        Account("shop", access_token=TOKEN), "CAJA01", generation="v1", store_id=None
    ),
}


@pytest.mark.parametrize("write", NOT_SENT.values(), ids=NOT_SENT.keys())
async def test_what_cannot_be_asked_for_is_not_sent(write: Write) -> None:
    async with Provider(http(200, MADE)).running() as provider, MercadoPagoClient(provider.url) as client:
        with pytest.raises(BadRequest) as caught:
            await write(client)
    assert caught.value.status == 0
    assert provider.connections == 0


@pytest.mark.parametrize(("token", "outcome"), [(None, "no_token"), ("", "no_token"), ("a b", "bad_token")])
async def test_no_token_no_call(token: str | None, outcome: str) -> None:
    async with Provider(http(201, MADE)).running() as provider, MercadoPagoClient(provider.url) as client:
        with pytest.raises(AccountRefused) as caught:
            await client.create_order(Account("shop", access_token=token), BODY, KEY)
    assert caught.value.outcome == outcome
    assert provider.connections == 0


# Around it -----------------------------------------------------------------------------------------------------------


def counted(operation: str, outcome: str) -> float:
    labels = {"operation": operation, "outcome": outcome}
    return metrics.REGISTRY.get_sample_value("cuadre_api_requests_total", labels) or 0.0


@pytest.mark.parametrize(("name", "write"), WRITES.items(), ids=WRITES.keys())
async def test_writes_are_counted_by_their_names(name: str, write: Write) -> None:
    outcomes = ["ok", "bad_request", "not_found", "rate_limited", "server_error", "redirect", "connection"]
    before = {outcome: counted(name, outcome) for outcome in outcomes}
    async with Provider(then_close=True).running() as provider, MercadoPagoClient(provider.url) as client:
        for status in (200, 409, 404, 429, 500, 302, 0):
            provider.reply = http(status, MADE) if status else b""
            with contextlib.suppress(MercadoPagoError):
                await write(client)
    assert {outcome: counted(name, outcome) - before[outcome] for outcome in outcomes} == dict.fromkeys(outcomes, 1)


async def test_cancelling_passes_through() -> None:
    async with Provider(None).running() as provider, MercadoPagoClient(provider.url) as client:
        call = asyncio.create_task(client.create_order(ACCOUNT, BODY, KEY))
        async with asyncio.timeout(5):
            await provider.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert len(provider.received) == 1


async def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for reply in (None, b"nonsense\r\n\r\n", b"", http(201, b"<html>")):
        await failure(WRITES["create_order"], reply, then_close=True, within_seconds=0.2)
    assert TOKEN not in caplog.text
    assert KEY not in caplog.text


def mangled(whole: bytes) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda start, length, new: whole[:start] + new + whole[start + length :],
        st.integers(0, len(whole)),
        st.integers(0, 40),
        st.binary(max_size=20),
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mangled(http(201, MADE)) | mangled(http(409, b'{"errors":[{"code":"c","message":"m","details":["d"]}]}')))
def test_a_mangled_answer_is_an_answer_or_an_error_of_the_tree(reply: bytes) -> None:
    async def scenario() -> None:
        async with Provider(reply, then_close=True).running() as provider:
            async with MercadoPagoClient(provider.url, total_timeout_seconds=5) as client:
                with contextlib.suppress(ProviderTrouble):
                    assert (await client.create_order(ACCOUNT, BODY, KEY)).status >= 200
            assert len(provider.received) == 1

    asyncio.run(scenario())
