"""The simulator's own signer against the published vectors."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from service.simulator.signing import digest, manifest, signature_headers

Load = Callable[[str], Any]


@pytest.fixture
def vectors(captured: Load) -> dict[str, str]:
    loaded: dict[str, str] = captured("notifications/signature-vectors.json")
    return loaded


def signed_at(vectors: dict[str, str]) -> datetime:
    return datetime.fromtimestamp(int(vectors["ts_seconds"]), UTC)


def headers(vectors: dict[str, str], variant: str) -> dict[str, str]:
    return signature_headers(
        variant, vectors["secret"], vectors["data_id_query"], vectors["x_request_id"], signed_at(vectors)
    )


def test_manifests_and_digests_equal_the_vectors(vectors: dict[str, str]) -> None:
    data_id, request_id, ts = vectors["data_id_query"], vectors["x_request_id"], vectors["ts_seconds"]
    texts = {
        "lowercase": manifest(data_id.lower(), request_id, ts),
        "verbatim": manifest(data_id, request_id, ts),
        "no_request_id": manifest(data_id.lower(), None, ts),
        "ts_only": manifest(None, None, ts),
    }
    for name, text in texts.items():
        assert text == vectors[f"manifest_{name}"]
        assert digest(vectors["secret"], text) == vectors[f"v1_{name}"]


@pytest.mark.parametrize("variant", ["lowercase", "verbatim", "no_request_id"])
def test_a_variant_sends_the_vectors_signature(vectors: dict[str, str], variant: str) -> None:
    sent = headers(vectors, variant)
    assert sent["X-Signature"] == f"ts={vectors['ts_seconds']},v1={vectors[f'v1_{variant}']}"
    assert ("X-Request-Id" in sent) is (variant != "no_request_id")


def test_milliseconds_stand_in_header_and_manifest(vectors: dict[str, str]) -> None:
    ts = vectors["ts_seconds"] + "000"
    text = manifest(vectors["data_id_query"].lower(), vectors["x_request_id"], ts)
    assert headers(vectors, "ms")["X-Signature"] == f"ts={ts},v1={digest(vectors['secret'], text)}"


def test_wrong_is_well_formed_and_matches_nothing(vectors: dict[str, str]) -> None:
    ts, v1 = headers(vectors, "wrong")["X-Signature"].split(",v1=")
    assert ts == f"ts={vectors['ts_seconds']}"
    assert len(v1) == 64
    assert v1 not in {value for name, value in vectors.items() if name.startswith("v1_")}


def test_nothing_is_signed_without_a_secret_or_when_told_so(vectors: dict[str, str]) -> None:
    assert headers(vectors, "none") == {"X-Request-Id": vectors["x_request_id"]}
    unsigned = signature_headers("lowercase", None, "ORD1", "request", signed_at(vectors))
    assert unsigned == {"X-Request-Id": "request"}
