"""Postgres itself takes every text that `parse_json` makes, and keeps what it says."""

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.mercadopago.json_text import canonical_hash, parse_json


class Jsonb:
    """What comes back from a `jsonb` that was given a text."""

    def __init__(self, runner: "asyncio.Runner", connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._runner = runner
        self._connection = connection

    def __call__(self, text: str) -> str:
        value = self._runner.run(self._connection.fetchval("select $1::jsonb::text", text))
        assert isinstance(value, str)
        return value


@pytest.fixture
def jsonb(empty_dsn: str) -> Iterator[Jsonb]:
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(empty_dsn))
        yield Jsonb(runner, connection)
        runner.run(connection.close())


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a\\u0000b":"\\u0000","c":["\\ud800","\\udc00x","\\ud83d\\ude00"]}',
        b'{"a\\u0000":1,"a\\\\u0000":2}',
        b'{"n":' + b"9" * 1000 + b"}",
        b'{"n":0.' + b"1" * 1000 + b"}",
        b'{"n":1e999,"m":1e-1000}',
        b'{"n":1e99999,"m":-1E-99999,"k":' + b"9" * 200_000 + b"}",
        b'{"n":-0,"m":-0.0,"k":1.50,"l":1E+2}',
        b"[" * 200 + b"]" * 200,
        b'"\x7f\xc2\x80\xef\xbf\xbf\xf4\x8f\xbf\xbf"',
        b"\xef\xbb\xbf{}",
        b'{"":{"":""}}',
    ],
)
def test_the_edges(jsonb: Jsonb, raw: bytes) -> None:
    document = parse_json(raw)
    stored = parse_json(jsonb(document.text).encode())
    assert stored.value == document.value
    assert not stored.altered


TEXT = st.text(
    st.one_of(
        st.characters(), st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF), st.sampled_from("\x00\x01\\\"'/u0")
    ),
    max_size=12,
)
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
DOCUMENTS = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=20,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS, st.integers(-2000, 2000), st.decimals(-9, 9, places=3))
def test_anything(jsonb: Jsonb, value: object, exponent: int, mantissa: Decimal) -> None:
    raw = f"[{json.dumps(value)},{mantissa}e{exponent}]".encode()
    document = parse_json(raw)
    stored = parse_json(jsonb(document.text).encode())
    assert stored.value == document.value
    # So a hash of what is stored can be compared with the hash of what was fetched.
    assert canonical_hash(stored.value) == canonical_hash(document.value)
