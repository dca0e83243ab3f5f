"""What the environment says (`CUADRE_…`), checked all at once so that one start shows every mistake.

`load_settings` is the one way in: it reads the environment, and nothing else of the service does. Secrets are
`SecretStr`; no message, `repr` or table made here shows one.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service.mercadopago.account import SignaturePolicy

PREFIX = "CUADRE_"
MASK = "****"

_USER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,253}")
_DATABASE_SCHEMES = ("postgres://", "postgresql://")
# Words of a DSN's query that may be shown; everything else of it (passwords, key files) is left out.
_SHOWN_DSN_WORDS = frozenset({"host", "port", "dbname", "user", "target_session_attrs", "sslmode", "application_name"})
# What these words of a DSN's query may say; asyncpg would refuse the rest, when it is too late to name the setting.
_DSN_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "primary", "standby", "prefer-standby", "read-write", "read-only"),
}
_ESCAPED = "in a password, @ : / ? # [ ] are written %40 %3A %2F %3F %23 %5B %5D"
_EVERY_INTERFACE = "0.0.0.0"  # noqa: S104 - webhooks, probes and scrapes come from outside  # nosec B104
_PORT = "a port from 1 to 65535, or 0 for any free one"
_PORTS = ("public_port", "internal_port")
# A URL may hold a password; a user id may be a token pasted into the wrong place.
_NEVER_REPEATED = frozenset({"database_url", "mercadopago_url", "access_token", "webhook_secrets", "user_id"})


class SettingsError(Exception):
    """Wrong settings. `problems` has one line each: the variable, what is allowed, what it is now (never a secret)."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _setting(default: Any, meaning: str, allowed: str, **bounds: Any) -> Any:
    """A field whose meaning and allowed values are written once, for `describe` and for the error messages."""
    return Field(default, description=meaning, json_schema_extra={"allowed": allowed}, **bounds)


def _seconds(default: float, meaning: str, least: float, most: float) -> Any:
    allowed = f"a number of seconds from {least:g} to {most:g}"
    return _setting(default, meaning, allowed, ge=least, le=most, allow_inf_nan=False)


def _days(what: str) -> Any:
    return _setting(
        0, f"days that {what} are kept at least, by whole months; 0 keeps them for ever",
        "0, or a whole number of days from 1 to 36500", ge=0, le=36500,
    )  # fmt: skip


def _refuse(problem: str, kind: str = "setting") -> PydanticCustomError:
    """The reason goes to the reader as the field's `allowed` text; this one only names the kind of mistake.

    Of the kind `told`, the problem goes to the reader as well: it must hold nothing of the value.
    """
    return PydanticCustomError(kind, "{problem}", {"problem": problem})


def _whole_number(value: object) -> object:
    """`7`, not `7.0`, `0x7`, ` 7` or `7_0`: what an environment variable may call a whole number."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,9}", value, re.ASCII):
        raise _refuse("not a whole number")
    return value


def _plain_number(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"(?=\.?[0-9])[0-9]{0,9}(\.[0-9]{1,9})?", value, re.ASCII):
        raise _refuse("not a number")
    return value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _database_url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.startswith(_DATABASE_SCHEMES) or not is_visible(text):
        raise _refuse("not a Postgres URL")
    fault = _dsn_fault(text)
    if fault is not None:
        raise _refuse(fault, "told")
    return value


def _dsn_fault(url: str) -> str | None:
    """What no connection can be made of in a Postgres URL, None where all of it can be read.

    Read as asyncpg reads it. Nothing of the URL is repeated: what stands where a port belongs may be half a password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"its [ and ] do not enclose an IPv6 address ({_ESCAPED})"
    try:
        words = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        return f"what follows its ? must be name=value pairs joined by & ({_ESCAPED})"
    fault = _hosts_fault(parts.netloc, words)
    if fault is not None:
        return fault
    for name, choices in _DSN_CHOICES.items():
        # asyncpg takes verify_full, too.
        if name in words and words[name].replace("_", "-" if name == "sslmode" else "_") not in choices:
            return f"its {name} must be one of {', '.join(choices)}"
    return None


def _hosts_fault(location: str, words: Mapping[str, str]) -> str | None:
    """The same of its hosts and ports, which stand before the database, else among the words of its query."""
    credentials, at, rest = location.partition("@")
    named = rest if at else credentials
    if "@" in named:
        return f"it has more than one @ before the database ({_ESCAPED})"
    ports = [] if named else words.get("port", "").split(",")
    hosts = [unquote(host) for host in named.split(",")] if named else words.get("host", "localhost").split(",")
    if not all(hosts):
        return "one of its hosts is empty"
    ports += [host.rpartition("]")[2].partition(":")[2] for host in hosts if not host.startswith("/")]
    if not all(_is_port(port) and int(port) > 0 for port in ports if port):
        return f"a port of it is no number from 1 to 65535 ({_ESCAPED})"
    return None


def _base_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    else:
        usable = usable and parts.username is None and not parts.query and not parts.fragment and is_visible(value)
    if not usable:
        raise _refuse("not a base URL")
    return value.rstrip("/")


def is_visible(text: str) -> bool:
    """Whether a text can stand in a header or a URL: printable ASCII without blanks, and not empty."""
    return bool(text) and all("!" <= sign <= "~" for sign in text)


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise _refuse("not a host")
    return value


def _user_id(value: str) -> str:
    if not _USER_ID.fullmatch(value):
        raise _refuse("not a user id")
    return value


def _visible_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if not is_visible(text):
        raise _refuse("not a token")
    return SecretStr(text)


def _split_secrets(value: object) -> object:
    """Comma-separated; blanks around a secret are no part of it. Places count, so an empty one keeps its place."""
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _path(value: Path) -> Path:
    if "\0" in str(value):
        raise _refuse("not a path")
    return value.expanduser() if str(value).startswith("~/") else value


_Whole = Annotated[int, BeforeValidator(_whole_number)]
_Number = Annotated[float, BeforeValidator(_plain_number)]
_Host = Annotated[str, AfterValidator(_host)]
_PathSetting = Annotated[Path, AfterValidator(_path)]


class Settings(BaseSettings):
    """The settings, by the names of the outward contract in lower case and without the prefix.

    Durations are seconds, ports are TCP ports (0: any free one, which tests and the demo use). Both hosts default to
    every interface: in a container the webhooks and the kubelet's probes come from outside, and all of the internal
    port but health and metrics asks for a key.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False
    )

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = _setting(
        None, "Postgres DSN, several hosts allowed", "a URL postgresql://user:password@host[:port][,host…]/database"
    )
    database_statement_cache: _Whole = _setting(
        100, "prepared statements kept per connection; 0 behind PgBouncer in transaction mode",
        "a whole number from 0 to 10000", ge=0, le=10000,
    )  # fmt: skip
    mercadopago_url: Annotated[str, AfterValidator(_base_url)] = _setting(
        "https://api.mercadopago.com", "base of the provider's API",
        "an http:// or https:// URL without user, query or fragment",
    )  # fmt: skip
    accounts_file: _PathSetting | None = _setting(
        None, "JSON list of accounts, read again on SIGHUP and on change", "the path of a file"
    )
    access_token: Annotated[SecretStr, AfterValidator(_visible_secret)] | None = _setting(
        None, "access token of the one account (without a file)", "a token in printable ASCII without blanks"
    )
    user_id: Annotated[str, AfterValidator(_user_id)] | None = _setting(
        None, "provider's user id of the one account", "up to 64 letters, digits, - and _"
    )
    webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split_secrets)] = _setting(
        (), "webhook secrets of the one account, comma-separated", "secrets separated by commas"
    )
    signature_policy: Annotated[SignaturePolicy, BeforeValidator(_lower)] = _setting(
        "report", "what the one account does with failed signatures", "required, report or off"
    )
    public_host: _Host = _setting(
        _EVERY_INTERFACE, "address of the public port (webhooks only)", "a host name or an address",
    )  # fmt: skip
    public_port: _Whole = _setting(8080, "port for webhooks, nothing else is served there", _PORT, ge=0, le=65535)
    internal_host: _Host = _setting(
        _EVERY_INTERFACE, "address of the internal port", "a host name or an address",
    )  # fmt: skip
    internal_port: _Whole = _setting(9090, "port for health, metrics and the API", _PORT, ge=0, le=65535)
    role: Annotated[Literal["all", "web", "worker"], BeforeValidator(_lower)] = _setting(
        "all", "what this process does: receive (web), synchronise (worker), or both", "all, web or worker"
    )
    sync_concurrency: _Whole = _setting(
        32, "fetches in flight per process", "a whole number from 1 to 1000", ge=1, le=1000
    )
    api_keys_file: _PathSetting | None = _setting(
        None,
        "JSON list of API keys {name, sha256, scopes, commands_per_second?}, read again on change",
        "the path of a file",
    )
    internal_auth: Annotated[Literal["on", "off"], BeforeValidator(_lower)] = _setting(
        "on",
        "off opens reading and operating to whoever reaches the port; commands need a key all the same",
        "on or off",
    )
    log_format: Annotated[Literal["json", "console"], BeforeValidator(_lower)] = _setting(
        "json", "how log lines look", "json or console"
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = _setting(
        "info", "least level that is logged", "debug, info, warning or error"
    )
    drain_seconds: _Number = _seconds(5.0, "how long requests are still taken after SIGTERM", 0, 20)
    poll_seconds: _Number = _seconds(0.5, "pause between looks for due orders when there are none", 0.01, 60)
    ack_timeout_seconds: _Number = _seconds(4.0, "within it a notification is committed or answered 503", 0.1, 20)
    lease_seconds: _Number = _seconds(30.0, "how long a claimed order belongs to its worker", 1, 3600)
    sweep: Annotated[Literal["on", "off"], BeforeValidator(_lower)] = _setting(
        "on", "searches the provider's list for orders that nobody told of, and certifies completeness", "on or off"
    )
    verify_sample: _Whole = _setting(
        200, "stored orders that are compared with the provider once a day; 0 compares none",
        "a whole number from 0 to 100000", ge=0, le=100_000,
    )  # fmt: skip
    keep_payer: Annotated[Literal["on", "off"], BeforeValidator(_lower)] = _setting(
        "off", "on keeps what Mercado Pago says about payers in payloads", "on or off"
    )
    keep_notifications_days: _Whole = _days("notifications")
    keep_versions_days: _Whole = _days("versions of orders")
    keep_fetches_days: _Whole = _days("lines about reads")
    keep_events_days: _Whole = _days("events")
    data_dir: _PathSetting | None = _setting(
        None, "where the demo keeps its database between runs", "the path of a folder"
    )
    # Names under the prefix that mean nothing, to be warned about: most are typing mistakes.
    unknown: tuple[str, ...] = Field((), exclude=True, repr=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed over: `load_settings` reads the environment, so a test can give its own."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @property
    def ignored(self) -> tuple[str, ...]:
        """Variables that are set and mean nothing, because an accounts file takes their place."""
        single = ("access_token", "user_id", "webhook_secrets", "signature_policy")
        return tuple(_variable(name) for name in single if self.accounts_file and name in self.model_fields_set)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of `environ` (the process's own when None); empty variables count as not set.

    Raises `SettingsError` with every wrong value together.
    """
    environ = os.environ if environ is None else environ
    given = {name: value.strip() for name, value in environ.items() if value.strip()}
    known = {_variable(name) for name, _ in _fields()}
    unknown = sorted(name for name in given if name.upper().startswith(PREFIX) and name not in known)
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): given[name] for name in sorted(known & given.keys())}
    problems: list[str] = []
    try:
        settings = Settings(**source(), unknown=tuple(unknown))
    except ValidationError as error:
        problems = _problems(error, given)
    public, internal = (given.get(_variable(name), str(Settings.model_fields[name].default)) for name in _PORTS)
    if _is_port(public) and _is_port(internal) and int(public) == int(internal) != 0:
        problems.append(f"CUADRE_INTERNAL_PORT: must differ from CUADRE_PUBLIC_PORT, both are {int(public)}")
    if problems:
        raise SettingsError(problems)
    return settings


def describe(settings: Settings) -> list[tuple[str, str, str]]:
    """Every setting as (variable, value with secrets masked, meaning), for `cuadre config`."""
    return [(_variable(name), _shown(getattr(settings, name)), field.description or "") for name, field in _fields()]


def shown_database_url(url: SecretStr) -> str:
    """A DSN that may be read by anybody: user, hosts, database, and the harmless words of its query."""
    scheme, _, rest = url.get_secret_value().partition("://")
    location, _, query = rest.partition("?")
    if "@" in query or "#" in rest:
        # A password with unescaped signs: what looks like a host could be the first half of it.
        return f"{scheme}://{MASK}"
    credentials, at, hosts = location.rpartition("@")
    user, colon, _ = credentials.partition(":")
    words = "&".join(f"{name}={value}" for name, value in parse_qsl(query) if name in _SHOWN_DSN_WORDS)
    secret = f":{MASK}" if colon else ""
    return f"{scheme}://{user}{secret}{at}{hosts}" + (f"?{words}" if words else "")


def _fields() -> list[tuple[str, FieldInfo]]:
    return [(name, field) for name, field in Settings.model_fields.items() if name != "unknown"]


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _is_port(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}", text) is not None and int(text) <= 65535


def _shown(value: object) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, SecretStr):
        is_url = value.get_secret_value().startswith(_DATABASE_SCHEMES)
        return shown_database_url(value) if is_url else MASK
    if isinstance(value, tuple):
        return ",".join(MASK for _ in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _problems(error: ValidationError, given: Mapping[str, str]) -> list[str]:
    """One line per wrong variable. The value is repeated only where it cannot be, or hold, a secret."""
    lines = {}
    for mistake in error.errors(include_url=False, include_input=False):
        name = str(mistake["loc"][0])
        extra = Settings.model_fields[name].json_schema_extra
        allowed = extra["allowed"] if isinstance(extra, dict) else ""
        value = given.get(_variable(name), "")
        line = f"{_variable(name)}: must be {allowed}" + ("" if name in _NEVER_REPEATED else f", is {value[:80]!r}")
        if mistake["type"] == "told":
            line += f"; {mistake['msg']}"
        if name in _PORTS and value.startswith("tcp://"):
            line += " (Kubernetes made it from a Service's name: set enableServiceLinks to false)"
        lines[name] = line
    return list(lines.values())
