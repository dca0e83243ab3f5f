"""What `json_text` promises: no digit lost, nothing that jsonb refuses, one kind of error for whatever is no JSON."""

import contextlib
import hashlib
import json
import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mercadopago.json_text import MAX_DEPTH, NotJson, canonical_hash, clean_text, dumps, parse_json

SURROGATES = st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF)
ANY_TEXT = st.text(st.one_of(st.characters(), SURROGATES, st.just("\x00")), max_size=20)
NUMBERS = st.one_of(
    st.integers(),
    st.decimals(allow_nan=False, allow_infinity=False, places=4),
    st.decimals(allow_nan=False, allow_infinity=False),
)
DOCUMENTS = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, ANY_TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(ANY_TEXT, inner, max_size=5)),
    max_leaves=30,
)


def written(value: object) -> bytes:
    """JSON as a provider could send it: ASCII, everything else escaped, numbers with their digits."""
    if isinstance(value, dict):
        return b"{" + b",".join(json.dumps(key).encode() + b":" + written(item) for key, item in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(written(item) for item in value) + b"]"
    return str(value).encode() if isinstance(value, Decimal) else json.dumps(value).encode()


def texts_of(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in texts_of(part)]
    if isinstance(value, list):
        return [text for item in value for text in texts_of(item)]
    return []


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1}',
        b' [1, 2.50, -3, true, false, null, "x"] ',
        b'"\\ud83d\\ude00"',
        '"ñ\U0001f600"'.encode(),
        b'"\\\\u0000"',
    ],
)
def test_what_jsonb_takes_stays_as_it_came(raw: bytes) -> None:
    document = parse_json(raw)
    assert document.text == raw.decode()
    assert not document.altered


def test_a_byte_order_mark_is_left_out() -> None:
    document = parse_json(b'\xef\xbb\xbf{"a":1}')
    assert (document.value, document.text, document.altered) == ({"a": 1}, '{"a":1}', False)


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("12.50", Decimal("12.50")),
        ("1e-3", Decimal("0.001")),
        ("1E+2", Decimal("1E+2")),
        ("-0.10", Decimal("-0.10")),
        ("0.12345678901234567890123456789012345678901234567890", None),
        ("9" * 1000, int("9" * 1000)),
        ("0." + "1" * 1000, Decimal("0." + "1" * 1000)),
        ("1e999", Decimal("1e999")),
    ],
)
def test_every_digit_is_kept(number: str, value: object) -> None:
    document = parse_json(f'{{"n":{number}}}'.encode())
    expected = Decimal(number) if value is None else value
    assert document.value == {"n": expected}
    assert str(document.value["n"]) == str(expected)
    assert not document.altered


@pytest.mark.parametrize(
    "number",
    [
        "1" * 1001,
        "-" + "1" * 1001,
        "9" * 5000,
        "1e1000",
        "1e-1001",
        "1E99999999999999999999999999",
        "0." + "1" * 1001,
        "1" * 1001 + ".5",
        "1e-99999999999999999999999999",
        "0e5000",
    ],
)
def test_numbers_that_numeric_may_refuse_become_their_text(number: str) -> None:
    document = parse_json(f'{{"n":{number},"m":1.50}}'.encode())
    assert document.value == {"n": number, "m": Decimal("1.50")}
    assert document.text == f'{{"n":"{number}","m":1.50}}'
    assert document.altered


def test_a_nul_becomes_six_visible_characters_and_a_lone_surrogate_the_replacement_sign() -> None:
    document = parse_json(b'{"a\\u0000b":["x\\u0000","\\ud800y","\\uDC00","\\ud83d\\ude00"]}')
    assert document.value == {"a\\u0000b": ["x\\u0000", "\ufffdy", "\ufffd", "\U0001f600"]}
    assert document.altered
    assert document.text == '{"a\\\\u0000b":["x\\\\u0000","\ufffdy","\ufffd","\U0001f600"]}'


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"nope",
        b"{",
        b'{"a":1}x',
        b"[1,]",
        b"{'a':1}",
        b"NaN",
        b'{"a":Infinity}',
        b"[-Infinity]",
        b"01",
        b"1.",
        b".5",
        b"+1",
        b'"\x00"',
        b'"\n"',
        b"\xff\xfe",
        b'"\xed\xa0\x80"',
        b'"\\x"',
        b'"\\ud83"',
        b'"abc',
        "[１]".encode(),
        b"\xef\xbb\xbf\xef\xbb\xbf1",
        b'{"a" 1}',
        b"{1:2}",
        b"nul",
    ],
)
def test_what_is_no_json_is_refused_in_one_line(raw: bytes) -> None:
    with pytest.raises(NotJson) as caught:
        parse_json(raw)
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_reason_holds_nothing_of_the_document() -> None:
    with pytest.raises(NotJson) as caught:
        parse_json(b'{"card":"5031755734530604" SECRETWORD}')
    assert "5031" not in str(caught.value)
    assert "SECRETWORD" not in str(caught.value)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_has_an_end(opening: str, closing: str) -> None:
    deepest = (opening * MAX_DEPTH + "1" + closing * MAX_DEPTH).encode()
    assert parse_json(deepest).text == deepest.decode()
    for depth in (MAX_DEPTH + 1, 5_000, 500_000):
        with pytest.raises(NotJson, match="nested deeper"):
            parse_json((opening * depth + "1" + closing * depth).encode())
    with pytest.raises(NotJson):
        parse_json((opening * 500_000).encode())


def test_many_shallow_containers_are_no_depth() -> None:
    raw = json.dumps([{"a": []} for _ in range(1000)]).encode()
    assert len(parse_json(raw).value) == 1000  # type: ignore[arg-type]  # a list, as the line before wrote it


def test_deep_and_altered_at_once_is_still_written() -> None:
    raw = b"[" * MAX_DEPTH + b'"\\u0000"' + b"]" * MAX_DEPTH
    assert parse_json(raw).text == "[" * MAX_DEPTH + '"\\\\u0000"' + "]" * MAX_DEPTH


def test_keys_that_become_equal_are_one() -> None:
    document = parse_json(b'{"a\\u0000":1,"a\\\\u0000":2}')
    assert document.value == {"a\\u0000": 2}
    assert document.altered


@given(DOCUMENTS)
def test_text_and_value_say_the_same_and_hold_nothing_that_jsonb_refuses(value: object) -> None:
    document = parse_json(written(value))
    again = parse_json(document.text.encode())
    assert again.value == document.value
    assert not again.altered
    for text in texts_of(document.value):
        assert "\x00" not in text
        text.encode()  # raises where half a surrogate pair is left
    if not document.altered:
        assert canonical_hash(document.value) == canonical_hash(parse_json(written(value)).value)


@given(st.binary(max_size=200))
def test_bytes_are_json_or_refused(raw: bytes) -> None:
    with contextlib.suppress(NotJson):
        parse_json(raw)


@given(DOCUMENTS, st.data())
def test_damaged_json_is_json_or_refused(value: object, data: st.DataObject) -> None:
    raw = bytearray(written(value))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(raw)))
        raw[place : place + data.draw(st.integers(0, 3))] = data.draw(
            st.one_of(
                st.binary(max_size=3),
                st.sampled_from([b"\\u0000", b"\\ud800", b"e9999", b"[", b"{", b'"', b"9" * 5000]),
            )
        )
    try:
        document = parse_json(bytes(raw))
    except NotJson:
        return
    assert parse_json(document.text.encode()).value == document.value


@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_the_hash_ignores_order_and_spacing(value: object, generator: random.Random) -> None:
    def shuffled(item: object) -> object:
        if isinstance(item, dict):
            pairs = [(key, shuffled(inner)) for key, inner in item.items()]
            generator.shuffle(pairs)
            return dict(pairs)
        return [shuffled(inner) for inner in item] if isinstance(item, list) else item

    parsed = parse_json(written(value)).value
    assert canonical_hash(shuffled(parsed)) == canonical_hash(parsed)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"a":12.5}', '{"a":12.50}', False),
        ('{"a":1e2}', '{"a":100}', True),
        ('{"a":1e-2}', '{"a":0.01}', True),
        ('{"a":-0.0}', '{"a":0.0}', True),
        ('{"a":"1.5"}', '{"a":1.5}', False),
        ('{"a":1}', '{"a":"1"}', False),
        ('{"a":null}', "{}", False),
        ("[1,2]", "[2,1]", False),
        ('{"a":1,"b":2}', '{ "b" : 2, "a" : 1 }', True),
        ('"\\u00f1"', '"ñ"', True),
        ("true", "1", False),
    ],
)
def test_what_counts_as_the_same_content(one: str, other: str, same: bool) -> None:
    hashes = {canonical_hash(parse_json(text.encode()).value) for text in (one, other)}
    assert len(hashes) == (1 if same else 2)


def test_the_hash_is_sha256_of_canonical_text() -> None:
    assert canonical_hash({"b": [1, None], "a": "ñ"}) == hashlib.sha256(b'{"a":"\\u00f1","b":[1,null]}').digest()


def test_dumps_refuses_what_json_cannot_say() -> None:
    assert dumps({"a": (Decimal("1.50"), Decimal("1E+3"), 1.5, True, None)}) == '{"a":[1.50,1E+3,1.5,true,null]}'
    for number in (Decimal("NaN"), Decimal("Infinity"), float("nan")):
        with pytest.raises(ValueError, match="JSON"):
            dumps({"a": number})
    with pytest.raises(TypeError):
        dumps(object())


@given(ANY_TEXT)
def test_cleaned_text_is_what_postgres_takes(text: str) -> None:
    cleaned = clean_text(text)
    assert "\x00" not in cleaned
    cleaned.encode()
    assert clean_text(cleaned) == cleaned
