"""Who may ask the internal port, and for what. Only the SHA-256 of a key is ever stored.

A key is a long random text (`openssl rand -base64 32`), so one round of SHA-256 is enough: there is nothing to guess.

Where the port is open to all (CUADRE_INTERNAL_AUTH=off), whoever reaches it may read and operate. Money never moves
without a key: each command records whose it was.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from service.accounts import read_json_list
from service.reloading import Reloading, UnusableFileError
from service.settings import Settings
from service.web.errors import CommandKeyMissing, ScopeMissing, Unauthenticated, route_of

Scope = Literal["read", "operate", "money"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Each includes the ones before it."""
DEFAULT_COMMANDS_PER_SECOND = 5.0
MAX_COMMANDS_PER_SECOND = 1000.0

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SHA256_OF_NOTHING = hashlib.sha256(b"").hexdigest()
_FIELDS = ("name", "sha256", "scopes", "commands_per_second")
_MAX_KEY_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key by its name and digest (lower case hex); `scopes` holds every scope it reaches.

    `commands_per_second` is how fast this key may command, per process; twice as many may come at once.
    """

    name: str
    sha256: str
    scopes: frozenset[Scope]
    commands_per_second: float = DEFAULT_COMMANDS_PER_SECOND


ANONYMOUS = ApiKey("anonymous", "", frozenset({"read", "operate"}))
"""Whoever reaches a port that is open to all."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys at one moment. `open_to_all` (CUADRE_INTERNAL_AUTH=off) asks nobody for one to read and operate."""

    keys: tuple[ApiKey, ...] = ()
    open_to_all: bool = False

    def find(self, authorization: str | None) -> ApiKey | None:
        """The key that an `Authorization` header bears; where the port is open to all, `ANONYMOUS` without one.

        A key of the file may there do at least what anybody may.
        """
        key = self._find(authorization)
        if not self.open_to_all:
            return key
        return ANONYMOUS if key is None else replace(key, scopes=key.scopes | ANONYMOUS.scopes)

    def _find(self, authorization: str | None) -> ApiKey | None:
        """Every key is compared, so time tells nothing about which."""
        scheme, _, text = (authorization or "").partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text or len(text) > _MAX_KEY_LENGTH:
            return None
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found


def follow_keys(settings: Settings) -> Reloading[KeyRing]:
    """The keys of `CUADRE_API_KEYS_FILE`, followed while it changes; without a file nobody has one.

    The file is read also with CUADRE_INTERNAL_AUTH=off, because commands need a key in any case.
    Raises `UnusableFileError` when the file is wrong at the start.
    """
    open_to_all = settings.internal_auth == "off"
    path = settings.api_keys_file
    if path is None:
        return Reloading(lambda: KeyRing(open_to_all=open_to_all), name="CUADRE_API_KEYS_FILE")
    return Reloading(lambda: replace(read_keys(path), open_to_all=open_to_all), name=str(path))


def read_keys(path: Path) -> KeyRing:
    """The keys of a file, `[{"name", "sha256", "scopes": ["read"|"operate"|"money"], "commands_per_second"?}]`.

    Raises `UnusableFileError` with every problem together, by place, digests never repeated.
    """
    problems: list[str] = []
    entries = read_json_list(path, "API keys", "CUADRE_API_KEYS_FILE")
    keys = [_read_key(entry, f"keys[{i}]", problems) for i, entry in enumerate(entries)]
    seen: set[str] = set()
    for index, key in enumerate(keys):
        for value, field in ((key.name, "name"), (key.sha256, "sha256")):
            if value and value in seen:
                problems.append(f"keys[{index}].{field}: taken by an earlier key")
            seen.add(value)
    if problems:
        raise UnusableFileError(problems)
    return KeyRing(tuple(keys))


def _read_key(entry: object, place: str, problems: list[str]) -> ApiKey:
    if not isinstance(entry, dict):
        problems.append(f"{place}: must be an object with {', '.join(_FIELDS)}")
        return ApiKey("", "", frozenset())
    fields: dict[str, Any] = entry
    problems.extend(
        f"{place}.{str(name)[:64]!r}: unknown field, known are {', '.join(_FIELDS)}"
        for name in fields
        if name not in _FIELDS
    )
    name, digest, scopes, rate = (fields.get(field) for field in _FIELDS)
    if not (isinstance(name, str) and 0 < len(name) <= 64 and name.isprintable()):
        problems.append(f"{place}.name: must be a text of 1 to 64 characters")
        name = ""
    if not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
        problems.append(f"{place}.sha256: must be 64 hexadecimal digits, the SHA-256 of the key")
        digest = ""
    elif digest.lower() == _SHA256_OF_NOTHING:
        problems.append(f"{place}.sha256: is the digest of an empty key")
    if not (isinstance(scopes, list) and scopes and all(scope in SCOPES for scope in scopes)):
        problems.append(f"{place}.scopes: must be a list of {', '.join(SCOPES)}")
        scopes = []
    reach = max((SCOPES.index(scope) for scope in scopes), default=-1)
    return ApiKey(name, digest.lower(), frozenset(SCOPES[: reach + 1]), _read_rate(rate, place, problems))


def _read_rate(rate: object, place: str, problems: list[str]) -> float:
    if rate is None:
        return DEFAULT_COMMANDS_PER_SECOND
    if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate <= MAX_COMMANDS_PER_SECOND:
        return float(rate)
    problems.append(f"{place}.commands_per_second: must be a number above 0, up to {MAX_COMMANDS_PER_SECOND:g}")
    return DEFAULT_COMMANDS_PER_SECOND


KEY: web.RequestKey[ApiKey] = web.RequestKey("KEY", ApiKey)


def authenticate(current: Callable[[], KeyRing], open_routes: frozenset[str]) -> Middleware:
    """Middleware that asks for a key everywhere but on `open_routes`, unknown paths included."""

    @web.middleware
    async def ask(request: web.Request, handler: Handler) -> web.StreamResponse:
        if route_of(request) not in open_routes:
            key = current().find(request.headers.get("Authorization"))
            if key is None:
                raise Unauthenticated
            request[KEY] = key
        return await handler(request)

    return ask


def require_scope(request: web.Request, scope: Scope) -> None:
    """Raises `ScopeMissing` where the request's key does not reach that far, `CommandKeyMissing` without any key."""
    if scope in request[KEY].scopes:
        return
    if request[KEY] == ANONYMOUS:
        raise CommandKeyMissing
    raise ScopeMissing(scope)
