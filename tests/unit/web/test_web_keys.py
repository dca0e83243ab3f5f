"""API keys: what the file may say, and which key a header bears."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.reloading import UnusableFileError
from service.settings import load_settings
from service.web.keys import ApiKey, KeyRing, follow_keys, read_keys


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def write(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(content))
    return path


def test_scopes_include_the_ones_before_them(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [
            {"name": "r", "sha256": digest("r").upper(), "scopes": ["read"]},
            {"name": "o", "sha256": digest("o"), "scopes": ["operate", "read"]},
            {"name": "m", "sha256": digest("m"), "scopes": ["money"]},
        ],
    )
    ring = read_keys(path)
    assert [(key.name, sorted(key.scopes)) for key in ring.keys] == [
        ("r", ["read"]),
        ("o", ["operate", "read"]),
        ("m", ["money", "operate", "read"]),
    ]
    found = ring.find("Bearer r")
    assert found is not None
    assert found.name == "r"


def test_every_mistake_is_reported_together(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [
            {"name": "", "sha256": "ab", "scopes": []},
            {"name": "x", "sha256": digest(""), "scopes": ["admin"]},
            {"name": "x", "sha256": digest("k"), "scopes": ["read"], "scope": "read"},
            {"name": "y", "sha256": digest("k"), "scopes": "read"},
            {"name": "z", "sha256": digest("q"), "scopes": [["read"]]},
            [],
        ],
    )
    with pytest.raises(UnusableFileError) as caught:
        read_keys(path)
    assert [line.partition(": ")[0] for line in caught.value.problems] == [
        "keys[0].name",
        "keys[0].sha256",
        "keys[0].scopes",
        "keys[1].sha256",
        "keys[1].scopes",
        "keys[2].'scope'",
        "keys[3].scopes",
        "keys[4].scopes",
        "keys[5]",
        "keys[2].name",
        "keys[3].sha256",
    ]


RING = KeyRing((ApiKey("k", digest("key"), frozenset({"read"})), ApiKey("ñ", digest("ñandú"), frozenset({"read"}))))


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Bearer key", "k"),
        ("BEARER key ", "k"),
        ("Bearer ñandú", "ñ"),
        ("Bearer key2", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic key", None),
        ("key", None),
        ("", None),
        (None, None),
        (f"Bearer {digest('key')}", None),
        ("Bearer " + "x" * 5000, None),
    ],
)
def test_which_key_a_header_bears(header: str | None, name: str | None) -> None:
    found = RING.find(header)
    assert (found and found.name) == name


@given(header=st.text() | st.text().map("Bearer {}".format))
def test_no_header_breaks_the_search(header: str) -> None:
    header = header.encode("utf-8", "ignore").decode("utf-8", "surrogateescape")
    assert RING.find(header) is None or "key" in header or "ñandú" in header
    assert KeyRing().find(header) is None


def test_bytes_that_are_no_utf8_are_no_key() -> None:
    assert RING.find(b"Bearer \xff".decode("utf-8", "surrogateescape")) is None


def test_where_keys_come_from(tmp_path: Path) -> None:
    assert follow_keys(load_settings({})).current.find("Bearer key") is None
    opened = follow_keys(load_settings({"CUADRE_INTERNAL_AUTH": "off"})).current.find(None)
    assert opened is not None
    assert opened.scopes == {"read", "operate"}
    path = write(tmp_path, [{"name": "k", "sha256": digest("key"), "scopes": ["read"]}])
    keys = follow_keys(load_settings({"CUADRE_API_KEYS_FILE": str(path)}))
    assert keys.current.find("Bearer key") is not None
    write(tmp_path, [])
    assert keys.reload() is True
    assert keys.current.find("Bearer key") is None
    path.write_text("[")
    assert keys.reload() is False
    with pytest.raises(UnusableFileError):
        follow_keys(load_settings({"CUADRE_API_KEYS_FILE": str(path)}))


@pytest.mark.parametrize(("rate", "read"), [(None, 5.0), (0.5, 0.5), (7, 7.0), (1000, 1000.0)])
def test_how_fast_a_key_may_command(tmp_path: Path, rate: float | None, read: float) -> None:
    entry = {"name": "k", "sha256": digest("key"), "scopes": ["money"], "commands_per_second": rate}
    (key,) = read_keys(write(tmp_path, [entry])).keys
    assert key.commands_per_second == read
    (key,) = read_keys(write(tmp_path, [{name: entry[name] for name in ("name", "sha256", "scopes")}])).keys
    assert key.commands_per_second == 5.0


@pytest.mark.parametrize("rate", [0, -1, 1000.1, True, "5", [], 1e400])
def test_a_rate_that_is_none_is_a_mistake_of_the_file(tmp_path: Path, rate: Any) -> None:
    entry = {"name": "k", "sha256": digest("key"), "scopes": ["money"], "commands_per_second": rate}
    path = tmp_path / "keys.json"
    path.write_text(json.dumps([entry]).replace("Infinity", "1e400"))
    with pytest.raises(UnusableFileError) as caught:
        read_keys(path)
    assert caught.value.problems == ["keys[0].commands_per_second: must be a number above 0, up to 1000"]


def test_an_open_port_still_knows_its_keys_and_moves_no_money_without_one(tmp_path: Path) -> None:
    path = write(tmp_path, [{"name": name, "sha256": digest(name), "scopes": [name]} for name in ("read", "money")])
    ring = follow_keys(load_settings({"CUADRE_API_KEYS_FILE": str(path), "CUADRE_INTERNAL_AUTH": "off"})).current
    for header, name, scopes in (
        (None, "anonymous", {"read", "operate"}),
        ("Bearer wrong", "anonymous", {"read", "operate"}),
        ("Bearer read", "read", {"read", "operate"}),
        ("Bearer money", "money", {"read", "operate", "money"}),
    ):
        found = ring.find(header)
        assert found is not None
        assert found.name == name
        assert set(found.scopes) == scopes
    path.write_text("[")
    with pytest.raises(UnusableFileError):
        follow_keys(load_settings({"CUADRE_API_KEYS_FILE": str(path), "CUADRE_INTERNAL_AUTH": "off"}))
