"""Log lines: one JSON object each, times in UTC, libraries in the same shape, and no secret in any of them."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from service.telemetry.logging import MASK, configure, redact, redact_text

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, logging.getLogger("aiohttp.access").disabled
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiohttp.access").disabled = disabled
    logging.captureWarnings(capture=False)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def lines(stream: io.StringIO) -> Lines:
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_with_level_and_time(stream: io.StringIO, lines: Lines) -> None:
    configure("json", "info", stream)
    log = structlog.get_logger("x")
    log.debug("too quiet")
    log.info("applied", order_id="ORD1", amount=Decimal("1.50"), count=3, ok=True, nothing=None)
    (line,) = lines()
    at = datetime.fromisoformat(line.pop("at"))
    assert at.utcoffset() is not None
    assert line == {
        "event": "applied", "level": "info", "order_id": "ORD1", "amount": "1.50", "count": 3, "ok": True,
        "nothing": None,
    }  # fmt: skip


def test_libraries_are_heard_from_warnings_on_in_the_same_shape(stream: io.StringIO, lines: Lines) -> None:
    configure("json", "info", stream)
    logging.getLogger("asyncpg").info("chatter")
    logging.getLogger("aiohttp.access").warning("GET /")
    logging.getLogger("asyncio").warning("slow %s", "callback")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", ResourceWarning, stacklevel=1)
    first, second = lines()
    assert (first["event"], first["level"], first["logger"]) == ("slow callback", "warning", "asyncio")
    assert "ResourceWarning" in second["event"]


def test_a_second_call_replaces_the_first(stream: io.StringIO, lines: Lines) -> None:
    log = structlog.get_logger("module level")
    configure("json", "debug", io.StringIO())
    log.info("before")
    configure("json", "error", stream)
    log.info("quiet")
    log.error("loud")
    logging.getLogger("asyncio").warning("quiet")
    logging.getLogger("asyncio").error("loud")
    assert [line["event"] for line in lines()] == ["loud", "loud"]


def test_an_exception_is_data_without_locals_and_masked(stream: io.StringIO, lines: Lines) -> None:
    configure("json", "info", stream)
    try:
        local_secret = "a-local-value"
        raise ValueError("cannot reach postgresql://app:hunter2@db/x as " + local_secret[:1])
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("aiohttp.server").exception("failed too")
    assert "a-local-value" not in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
    for line in lines():
        (exception,) = line["exception"]
        assert exception["exc_type"] == "ValueError"
        assert not any(frame.get("locals") for frame in exception["frames"])


def test_console_lines_are_text_and_masked(stream: io.StringIO) -> None:
    configure("console", "info", stream)
    structlog.get_logger().info("hello", token="hunter2", url="postgres://u:hunter2@h/d")
    try:
        raise ValueError("Bearer hunter2")
    except ValueError:
        structlog.get_logger().exception("failed")
    text = stream.getvalue()
    assert "hello" in text
    assert "ValueError" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "text",
    [
        "APP_USR-hunter2-051122-hunter2__LA_LD__-1",
        "TEST-hunter2-12",
        "Authorization: Bearer hunter2",
        "basic hunter2",
        "postgresql://app:hunter2@db:5432/cuadre",
        "postgres://app:hunt@er2hunter2@db/x?y=1",
        "https://user:hunter2@example.com/",
        "dsn host=x password=hunter2 user=y",
        "access_token=hunter2&x=1",
        'secret: hunter2, "x"',
    ],
)
def test_texts_that_look_like_secrets_are_masked(text: str) -> None:
    shown = redact_text(f"before {text} after")
    assert "hunter2" not in shown
    assert MASK in shown
    assert shown.startswith("before ")
    assert shown.endswith("after")


def test_a_signature_is_masked() -> None:
    assert redact_text("ts=1742505638683,v1=" + "a" * 64) == f"ts=1742505638683,v1={MASK}"


@pytest.mark.parametrize("text", ["order ORD01 created", "10:30@noon", "http://host:8080/path", "v1=2", "test-case"])
def test_harmless_texts_stay(text: str) -> None:
    assert redact_text(text) == text


@given(
    name=st.sampled_from(
        [
            "access_token",
            "Authorization",
            "webhook_secrets",
            "password",
            "dsn",
            "x-signature",
            "api_key",
            "database_url",
        ]
    ),
    value=st.text(min_size=6, alphabet="hunter2") | st.lists(st.text(min_size=6, alphabet="hunter2"), min_size=1),
    depth=st.integers(0, 12),
)
def test_nothing_under_a_secret_name_shows_at_any_depth(name: str, value: object, depth: int) -> None:
    event: dict[str, Any] = {name: value}
    secrets = value if isinstance(value, list) else [value]
    for _ in range(depth):
        event = {"inner": [event]}
    shown = json.dumps(redact(None, "info", {"event": "e", **event}))
    assert not any(str(secret) in shown for secret in secrets)


def test_facts_about_secrets_are_no_secrets() -> None:
    event = {"event": "e", "signature_policy": "report", "secret_index": 1, "token_present": True, "key_name": "x"}
    assert redact(None, "info", dict(event)) == event
    assert redact(None, "info", {"event": "e", "body": b"hunter2"})["body"] == "7 bytes"
