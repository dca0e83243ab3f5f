"""The verifier against the published vectors, against every variant seen in the wild, and against mangled headers."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mercadopago.signature import NOT_CHECKED, Verification, verify

NOTIFICATIONS = Path(__file__).parents[2] / "fixtures" / "mercadopago" / "notifications"
VECTORS: dict[str, str] = json.loads((NOTIFICATIONS / "signature-vectors.json").read_text())
SECRET, ORDER, REQUEST, TS = (VECTORS[key] for key in ("secret", "data_id_query", "x_request_id", "ts_seconds"))
NOW = int(TS) + 3.0

HOSTILE_TEXT = st.text(
    st.one_of(st.characters(), st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF), st.sampled_from("ts=v1,; ")),
    max_size=80,
)


def check(
    signature: str | None,
    *,
    request_id: str | None = REQUEST,
    data_id: str | None = ORDER,
    secrets: list[str] | None = None,
) -> Verification:
    given_secrets = [SECRET] if secrets is None else secrets
    return verify(signature=signature, request_id=request_id, data_id=data_id, secrets=given_secrets, now=NOW)


def signed(manifest: str, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), manifest.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("vector", "request_id", "data_id", "manifest"),
    [
        ("v1_lowercase", REQUEST, ORDER, "lower"),
        ("v1_verbatim", REQUEST, ORDER, "verbatim"),
        ("v1_no_request_id", None, ORDER, "lower"),
        ("v1_no_request_id", REQUEST, ORDER, "lower"),
        ("v1_ts_only", None, None, "lower"),
        ("v1_lowercase", REQUEST, ORDER.lower(), "lower"),
    ],
)
def test_published_vectors(vector: str, request_id: str | None, data_id: str | None, manifest: str) -> None:
    checked = check(f"ts={TS},v1={VECTORS[vector]}", request_id=request_id, data_id=data_id)
    assert (checked.result, checked.manifest, checked.secret_index) == ("valid", manifest, 0)
    assert checked.verified


def test_the_recorded_request() -> None:
    head, _, _ = (NOTIFICATIONS / "order.processed.qr.http").read_text().partition("\n\n")
    headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in head.splitlines()[1:])}
    checked = check(headers["x-signature"], request_id=headers["x-request-id"])
    assert (checked.result, checked.manifest, checked.ts_age_seconds) == ("valid", "lower", 3.0)


@pytest.mark.parametrize(
    "header",
    [
        "ts={ts},v1={v1}",
        " ts = {ts} , v1 = {v1} ",
        "v1={v1},ts={ts}",
        "TS={ts},V1={v1}",
        "ts={ts},v1={V1}",
        "ts={ts},v1={v1},v2=abc,,x",
        "ts=1,v1=00,ts={ts},v1={v1}",
    ],
)
def test_spellings_of_the_header(header: str) -> None:
    v1 = VECTORS["v1_lowercase"]
    assert check(header.format(ts=TS, v1=v1, V1=v1.upper())).verified


def test_any_active_secret_matches_and_says_which() -> None:
    header = f"ts={TS},v1={VECTORS['v1_verbatim']}"
    checked = check(header, secrets=["another", "", SECRET])
    assert (checked.result, checked.manifest, checked.secret_index) == ("valid", "verbatim", 2)


def test_a_secret_that_is_no_ascii() -> None:
    secret = "contraseña-ü"
    checked = check(
        f"ts={TS},v1={signed(f'id:{ORDER.lower()};request-id:{REQUEST};ts:{TS};', secret)}", secrets=[secret]
    )
    assert checked.verified


@pytest.mark.parametrize("signature", [None, "", "   ", "\t"])
def test_no_header(signature: str | None) -> None:
    assert check(signature) == Verification("missing")


@pytest.mark.parametrize(
    "signature",
    [
        "x",
        "=",
        ",",
        "ts",
        f"ts={TS}",
        f"v1={VECTORS['v1_lowercase']}",
        f"ts={TS},v1=",
        f"ts=,v1={'0' * 64}",
        f"ts={TS},v1={'0' * 63}",
        f"ts={TS},v1={'0' * 65}",
        f"ts={TS},v1={'g' * 64}",
        f"ts={TS},v1={'0' * 62} 0",
        f"ts=-5,v1={'0' * 64}",
        f"ts=1.5,v1={'0' * 64}",
        f"ts=１２,v1={'0' * 64}",
        f"ts=²,v1={'0' * 64}",
        f"ts={'9' * 21},v1={'0' * 64}",
        f"ts={TS},v2={'0' * 64}",
        f"ts={TS},v1={'٠' * 64}",
        f"ts=1,v1={'0' * 64}," + "x" * 5000,
        f"ts={TS};v1={'0' * 64}",
        "\udc80\ud800",
    ],
)
def test_headers_of_another_shape(signature: str) -> None:
    assert check(signature) == Verification("malformed")


@pytest.mark.parametrize("secrets", [[], [""], ["", "  "], ["wrong"]])
def test_no_matching_secret(secrets: list[str]) -> None:
    checked = check(f"ts={TS},v1={VECTORS['v1_lowercase']}", secrets=secrets)
    assert checked == Verification("mismatch", ts_age_seconds=3.0)
    assert not checked.verified


@pytest.mark.parametrize("secret", ["", " ", "\n"])
def test_an_empty_secret_verifies_nothing_not_even_what_is_signed_with_it(secret: str) -> None:
    manifest = f"id:{ORDER.lower()};request-id:{REQUEST};ts:{TS};"
    assert check(f"ts={TS},v1={signed(manifest, secret)}", secrets=[secret]).result == "mismatch"


@pytest.mark.parametrize(
    ("request_id", "data_id"),
    [("other", ORDER), (REQUEST, ORDER[:-1] + "0"), (REQUEST, None), (None, ORDER), ("", ORDER)],
)
def test_what_is_signed_cannot_be_exchanged(request_id: str | None, data_id: str | None) -> None:
    assert check(f"ts={TS},v1={VECTORS['v1_lowercase']}", request_id=request_id, data_id=data_id).result == "mismatch"


def test_an_empty_part_is_left_out_of_what_is_signed() -> None:
    assert check(f"ts={TS},v1={VECTORS['v1_ts_only']}", request_id="", data_id="").verified
    empty_values = signed(f"id:;request-id:;ts:{TS};")
    assert check(f"ts={TS},v1={empty_values}", request_id="", data_id="").result == "mismatch"


@pytest.mark.parametrize(
    ("ts", "age"),
    [
        (TS, 3.0),
        (f"{TS}000", 3.0),
        (f"{TS}500", 2.5),
        (str(int(TS) + 26), -23.0),
        ("0", NOW),
        ("100000000000", NOW - 10**11),
        ("100000000001", NOW - 100000000.001),
    ],
)
def test_ts_in_seconds_or_milliseconds_by_magnitude_and_never_a_reason_to_refuse(ts: str, age: float) -> None:
    checked = check(f"ts={ts},v1={signed(f'id:{ORDER.lower()};request-id:{REQUEST};ts:{ts};')}")
    assert checked.result == "valid"
    assert checked.ts_age_seconds == pytest.approx(age)


def test_the_literal_ts_is_what_is_signed() -> None:
    ts = f"000{TS}"
    assert check(f"ts={ts},v1={signed(f'id:{ORDER.lower()};request-id:{REQUEST};ts:{ts};')}").verified
    assert check(f"ts={ts},v1={VECTORS['v1_lowercase']}").result == "mismatch"


def test_header_bytes_that_are_no_utf8_are_signed_as_they_were() -> None:
    request_id = b"ni\xf1o".decode("utf-8", "surrogateescape")
    v1 = hmac.new(SECRET.encode(), b"request-id:ni\xf1o;ts:" + TS.encode() + b";", hashlib.sha256).hexdigest()
    assert check(f"ts={TS},v1={v1}", request_id=request_id, data_id=None).verified


@given(HOSTILE_TEXT, st.none() | HOSTILE_TEXT, st.none() | HOSTILE_TEXT, st.lists(HOSTILE_TEXT, max_size=3))
def test_never_raises_and_never_verifies_garbage(
    signature: str, request_id: str | None, data_id: str | None, secrets: list[str]
) -> None:
    checked = verify(signature=signature, request_id=request_id, data_id=data_id, secrets=secrets, now=NOW)
    assert checked.result in {"missing", "malformed", "mismatch"}


@given(st.data())
def test_a_mangled_header_never_raises(data: st.DataObject) -> None:
    header = f"ts={TS},v1={VECTORS['v1_lowercase']}"
    start = data.draw(st.integers(0, len(header)))
    end = data.draw(st.integers(start, len(header)))
    mangled = header[:start] + data.draw(HOSTILE_TEXT) + header[end:]
    checked = verify(
        signature=mangled,
        request_id=data.draw(st.sampled_from([REQUEST, None, "\ud800"])),
        data_id=data.draw(st.sampled_from([ORDER, None, "İ\udfff", "x" * 100_000])),
        secrets=data.draw(st.sampled_from([[SECRET], ["\udc80\ud800", SECRET], []])),
        now=NOW,
    )
    assert checked.verified == (checked.manifest is not None) == (checked.secret_index is not None)


def test_not_checked() -> None:
    assert NOT_CHECKED.result == "not_checked"
    assert not NOT_CHECKED.verified
