"""Pure: why a stored notification's signature matched or not, found out by trying everything that is known to vary.

Each variant goes through the one check (`service.mercadopago.signature`), with one secret at a time: the account's own
and those of the other accounts, the id from the query or elsewhere and in every casing, `ts` as given, in seconds and
in milliseconds, with the request id and without. Secrets are named by account and number, never shown. What is known
to vary: fact sheet of the notifications, §4.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote, unquote

from service.mercadopago.account import Account
from service.mercadopago.signature import verify

_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
_WHOLE = re.compile(r"[0-9]{1,20}")
_MILLISECONDS_FROM: Final = 10**11
_SHOWN_DIGITS = 8

Verdict = Literal[
    "valid", "variant", "other_account", "unsigned", "malformed", "no_secret", "legacy", "nothing_matched"
]
Timestamp = Literal["as_given", "seconds", "milliseconds"]


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored notification, as far as its signature goes. `query` and `headers` as they came, by name."""

    account: str
    topic: str | None
    resource_id: str | None
    simulation: bool
    verification: str
    query: Mapping[str, Any]
    headers: Mapping[str, Any]
    body: Any
    received_at: float


@dataclass(frozen=True, slots=True)
class Header:
    """The signature header, read. `fault` says in one line why it cannot be used, None where it can."""

    given: bool
    ts: str | None = None
    digest: str | None = None
    fault: str | None = None

    @property
    def unit(self) -> str | None:
        """`seconds` or `milliseconds`, by its size."""
        if self.ts is None or not _WHOLE.fullmatch(self.ts):
            return None
        return "milliseconds" if int(self.ts) > _MILLISECONDS_FROM else "seconds"

    @property
    def shown_digest(self) -> str | None:
        """Its beginning, enough to tell two apart."""
        return None if self.digest is None else self.digest[:_SHOWN_DIGITS] + "…"


@dataclass(frozen=True, slots=True)
class Match:
    """What was signed, and with whose secret. `secret_index` counts from 0 within `account`'s `webhook_secrets`."""

    account: str
    secret_index: int
    blanks_removed: bool
    id_from: str
    casing: Literal["lower", "verbatim", "upper", "none"]
    ts: Timestamp
    with_request_id: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """`secrets` is how many were tried, `tried` how many manifests in all, `matches` at most one a secret."""

    verdict: Verdict
    header: Header
    age_seconds: float | None
    tried: int
    secrets: int
    matches: tuple[Match, ...]


def explain(stored: Stored, accounts: Iterable[Account]) -> Explanation:
    """Tries the whole matrix. The order of `accounts` does not matter: the notification's own comes first."""
    accounts = sorted(accounts, key=lambda account: account.name != stored.account)
    header = read_header(_first(stored.headers, "x-signature"))
    own = sum(bool(secret.strip()) for one in accounts if one.name == stored.account for secret in one.webhook_secrets)
    matches: list[Match] = []
    tried = 0
    age: float | None = None
    if header.given and header.fault is None:
        age = _age(stored, header)
        for tries, match in _attempts(stored, header, accounts):
            tried += tries
            if match is not None:
                matches.append(match)
    secrets = sum(bool(secret.strip()) for account in accounts for secret in account.webhook_secrets)
    verdict = _verdict(stored, header, own, matches)
    return Explanation(verdict, header, age, tried, secrets, tuple(matches))


def read_header(value: str | None) -> Header:
    """The parts of `x-signature`, and what is wrong with them."""
    if value is None or not value.strip():
        return Header(given=False, fault="there is no x-signature header")
    parts = {name.strip().lower(): text.strip() for name, _, text in (one.partition("=") for one in value.split(","))}
    ts, digest = parts.get("ts"), parts.get("v1")
    fault = None
    if not ts:
        fault = "the header has no ts"
    elif not _WHOLE.fullmatch(ts):
        fault = "its ts is no whole number of at most 20 digits"
    elif not digest:
        fault = "the header has no v1"
    elif not _DIGEST.fullmatch(digest):
        fault = f"its v1 is not of 64 hexadecimal digits, but of {len(digest)} characters"
    elif verify(signature=value, request_id=None, data_id=None, secrets=(), now=0).result == "malformed":
        fault = "it is too long to be a signature"
    return Header(given=True, ts=ts, digest=digest, fault=fault)


def _attempts(stored: Stored, header: Header, accounts: Sequence[Account]) -> Iterator[tuple[int, Match | None]]:
    """For each secret: how many manifests were tried with it, and the first that matched. Likeliest first."""
    for account in accounts:
        for index, secret in enumerate(account.webhook_secrets):
            if not secret.strip():
                continue
            tried = 0
            found = None
            for text, blanks_removed in ((secret, False), (secret.strip(), True)):
                if found is not None or (blanks_removed and text == secret):
                    continue
                for id_from, casing, data_id, unit, ts, request_id in _variants(stored, header):
                    tried += 1
                    if _matches(text, header, data_id, ts, request_id):
                        signed = request_id is not None
                        found = Match(account.name, index, blanks_removed, id_from, casing, unit, signed)
                        break
            yield tried, found


_Variant = tuple[str, Literal["lower", "verbatim", "upper", "none"], str | None, Timestamp, str, str | None]


def _variants(stored: Stored, header: Header) -> Iterator[_Variant]:
    """(where the id is from, its casing, the id, unit of ts, ts, request id), each manifest once."""
    request_id = _first(stored.headers, "x-request-id")
    seen = set()
    for ts_name, ts in _timestamps(header):
        for id_from, data_id in _ids(stored):
            for casing, spelled in _casings(data_id):
                for asked in (request_id, None) if request_id else (None,):
                    if (spelled, ts, asked) not in seen:
                        seen.add((spelled, ts, asked))
                        yield id_from, casing, spelled, ts_name, ts, asked


def _matches(secret: str, header: Header, data_id: str | None, ts: str, request_id: str | None) -> bool:
    """Whether this manifest was signed. The check itself also tries one without the request id: that is another."""
    signature = f"ts={ts},v1={header.digest}"
    found = verify(signature=signature, request_id=request_id, data_id=data_id, secrets=(secret,), now=0)
    if not found.verified or request_id is None:
        return found.verified
    return not verify(signature=signature, request_id=None, data_id=data_id, secrets=(secret,), now=0).verified


def _timestamps(header: Header) -> Iterator[tuple[Timestamp, str]]:
    ts = header.ts or ""
    yield "as_given", ts
    if header.unit == "milliseconds":
        yield "seconds", str(int(ts) // 1000)
    else:
        yield "milliseconds", f"{ts}000"


def _ids(stored: Stored) -> Iterator[tuple[str, str | None]]:
    """Where a signed id may have come from."""
    body = stored.body if isinstance(stored.body, dict) else {}
    data = body.get("data")
    found = {
        "query data.id": _first(stored.query, "data.id"),
        "query id": _first(stored.query, "id"),
        "body data.id": text_of(data.get("id")) if isinstance(data, dict) else None,
        "body id": text_of(body.get("id")),
        "resource": stored.resource_id,
        "external_reference": _first(stored.query, "data.external_reference"),
    }
    for name, text in found.items():
        if text:
            yield name, text
            if unquote(text) != text:
                yield f"{name}, decoded", unquote(text)
            if quote(text, safe="") != text:
                yield f"{name}, encoded", quote(text, safe="")
    yield "no id", None


def _casings(data_id: str | None) -> Iterator[tuple[Literal["lower", "verbatim", "upper", "none"], str | None]]:
    if data_id is None:
        yield "none", None
        return
    yield "lower", data_id.lower()
    yield "verbatim", data_id
    yield "upper", data_id.upper()


def _verdict(stored: Stored, header: Header, own: int, matches: Sequence[Match]) -> Verdict:
    if not header.given:
        return "unsigned"
    if header.fault is not None:
        return "malformed"
    mine = [match for match in matches if match.account == stored.account]
    if mine:
        return "valid" if any(_is_as_verified(match) for match in mine) else "variant"
    if matches:
        return "other_account"
    if _is_legacy(stored):
        return "legacy"
    return "no_secret" if own == 0 else "nothing_matched"


def _is_as_verified(match: Match) -> bool:
    """Whether the service itself takes it: its own check tries both casings of the query's id."""
    id_counts = match.id_from in {"query data.id", "no id"} and match.casing in {"lower", "verbatim", "none"}
    return match.ts == "as_given" and id_counts and not match.blanks_removed


def _is_legacy(stored: Stored) -> bool:
    agent = _first(stored.headers, "user-agent") or ""
    return "Feed v2.0" in agent or (_first(stored.query, "topic") is not None and "data.id" not in stored.query)


def _age(stored: Stored, header: Header) -> float | None:
    if header.ts is None or header.unit is None:
        return None
    instant = int(header.ts)
    return stored.received_at - (instant / 1000 if header.unit == "milliseconds" else instant)


def _first(pairs: Mapping[str, Any], name: str) -> str | None:
    """The first value under a name, whatever its case; repeated names are kept as lists."""
    for key, value in pairs.items():
        if key.lower() == name:
            first = value[0] if isinstance(value, list) and value else value
            return first if isinstance(first, str) and first else None
    return None


def text_of(value: object) -> str | None:
    """A string, or a whole number as its text, that says something."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def stored_of(row: Mapping[str, Any]) -> Stored:
    """A row of `list_notifications`."""
    return Stored(
        account=row["account"],
        topic=row["topic"],
        resource_id=row["resource_id"],
        simulation=row["simulation"],
        verification=row["verification"],
        query=_object(row["query"]),
        headers=_object(row["headers"]),
        body=json.loads(row["body"]) if row["body"] else None,
        received_at=row["received_at"].timestamp(),
    )


def _object(text: str | None) -> dict[str, Any]:
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}
