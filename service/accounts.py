"""The accounts file, the one account of the environment, and which account a notification belongs to."""

import json
import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

import structlog

from service.mercadopago.account import DEFAULT_ACCOUNT, Account, LegacyQr, SignaturePolicy
from service.orders.look_table import DEFAULT_LOOKS, LookTable, read_look_table
from service.reloading import Reloading, UnusableFileError
from service.settings import Settings, is_visible

# What fits a segment of a URL's path, percent-encoded, and a label.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")
_POLICIES = get_args(SignaturePolicy)
_CURRENCY = re.compile(r"[A-Z]{3}")
_GENERATIONS: tuple[LegacyQr, ...] = get_args(LegacyQr)
_FIELDS = (
    "name", "user_id", "application_ids", "access_token", "webhook_secrets", "signature_policy", "rate_per_second",
    "currency", "refunds_only_here_since", "legacy_qr", "legacy_store_id", "looks",
    "keep_payer",
)  # fmt: skip
_MAX_RATE_PER_SECOND = 1000.0
# A mounted secret is a line; more than this is the wrong file.
_MAX_SECRET_BYTES = 65536

NO_ACCOUNT = "no account: set CUADRE_ACCOUNTS_FILE, or CUADRE_ACCESS_TOKEN for a single account"
"""The problem of an environment that configures none."""

log = structlog.get_logger(__name__)


class AccountsError(UnusableFileError):
    """No usable accounts. `problems` has one line each, like `accounts[2].rate_per_second: …`, without secrets."""


class AccountBook:
    """The accounts at one moment, found by name or by what a notification says. Lookups are dictionary lookups.

    Several accounts may share a user (one seller, several applications); the one listed first answers for the user
    where no application decides. Two books are equal when they say the same.
    """

    def __init__(self, accounts: Iterable[Account]) -> None:
        self.accounts = tuple(accounts)
        self._names = {account.name: account for account in self.accounts}
        self._users: dict[str, Account] = {}
        self._pairs: dict[tuple[str, str], Account] = {}
        self._applications: dict[str, Account | None] = {}
        for account in self.accounts:
            if account.user_id is not None:
                self._users.setdefault(account.user_id, account)
            for application_id in dict.fromkeys(account.application_ids):
                if account.user_id is not None:
                    self._pairs.setdefault((account.user_id, application_id), account)
                shared = application_id in self._applications
                self._applications[application_id] = None if shared else account

    def by_name(self, name: str) -> Account | None:
        """The account of that name, None when there is none."""
        return self._names.get(name)

    def route(self, user_id: str | None, application_id: str | None) -> Account | None:
        """The account by user and application; else by user; else by the application, if one account alone lists it;
        else the account named `default`; else None.
        """
        if user_id is not None:
            account = self._pairs.get((user_id, application_id or "")) or self._users.get(user_id)
            if account is not None:
                return account
        if application_id is not None:
            account = self._applications.get(application_id)
            if account is not None:
                return account
        return self._names.get(DEFAULT_ACCOUNT)

    def __iter__(self) -> Iterator[Account]:
        return iter(self.accounts)

    def __len__(self) -> int:
        return len(self.accounts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccountBook) and other.accounts == self.accounts

    def __hash__(self) -> int:
        return hash(self.accounts)


class AccountsFile(Reloading[AccountBook]):
    """The configured accounts, followed while they change: `current`, `reload()`, `ask()`, `watch(on_change)`.

    Covers the accounts file and every mounted secret that it names. Raises `AccountsError` when there are none.
    What means nothing in it is logged, once until it changes.
    """

    def __init__(self, settings: Settings) -> None:
        self._warned: list[str] = []
        name = str(settings.accounts_file or "environment")

        def read() -> AccountBook:
            accounts, warnings = _read(settings)
            if warnings and warnings != self._warned:
                log.warning("accounts_file_odd", file=name, warnings=warnings)
            self._warned = warnings
            return AccountBook(accounts)

        super().__init__(read, name=name)


def load_accounts(settings: Settings) -> tuple[Account, ...]:
    """The accounts of `CUADRE_ACCOUNTS_FILE`, else the `default` account of the environment.

    Raises `AccountsError` with every problem together: unreadable, wrong, or none configured at all.
    """
    return _read(settings)[0]


def account_warnings(settings: Settings) -> list[str]:
    """Fields of the accounts file that mean nothing: mostly typing mistakes. A line each; a wrong file has none."""
    try:
        return _read(settings)[1]
    except AccountsError:
        return []


def _read(settings: Settings) -> tuple[tuple[Account, ...], list[str]]:
    """The accounts, and the warnings about them. Raises `AccountsError`."""
    keeps_payers = settings.keep_payer == "on"
    if settings.accounts_file is not None:
        return _read_accounts(settings.accounts_file, keeps_payers=keeps_payers)
    if settings.access_token is None and settings.user_id is None and not settings.webhook_secrets:
        raise AccountsError([NO_ACCOUNT])
    account = Account(
        name=DEFAULT_ACCOUNT,
        user_id=settings.user_id,
        access_token=settings.access_token.get_secret_value() if settings.access_token else None,
        webhook_secrets=tuple(secret.get_secret_value() for secret in settings.webhook_secrets),
        signature_policy=settings.signature_policy,
        keep_payer=keeps_payers,
    )
    return (account,), []


def read_json_list(path: Path, wanted: str, setting: str) -> list[Any]:
    """The JSON list in a file that `setting` names, of `wanted` things.

    Raises `UnusableFileError` naming both; the text of the file is never repeated.
    """
    try:
        content = json.loads(path.read_bytes(), parse_constant=partial(_no_constant))
    except OSError as error:
        trouble = error.strerror or "cannot be read"
    except json.JSONDecodeError as error:
        trouble = f"not JSON, line {error.lineno} column {error.colno}"
    except (ValueError, RecursionError):
        trouble = "not JSON"
    else:
        if isinstance(content, list):
            return content
        trouble = "no JSON list"
    raise UnusableFileError([f"{setting}: {path}: {trouble}; it must be the path of a JSON list of {wanted}"])


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _read_accounts(path: Path, *, keeps_payers: bool) -> tuple[tuple[Account, ...], list[str]]:
    try:
        entries = read_json_list(path, "accounts", "CUADRE_ACCOUNTS_FILE")
    except UnusableFileError as error:
        raise AccountsError(error.problems) from None
    problems: list[str] = []
    accounts: list[Account] = []
    warnings: list[str] = []
    for i, entry in enumerate(entries):
        one = _AccountEntry(entry, f"accounts[{i}]", path.parent, problems, keeps_payers=keeps_payers)
        accounts.append(one.read())
        warnings += one.unknown_fields()
    if not entries:
        problems.append(f"CUADRE_ACCOUNTS_FILE: {path}: lists no account; add one")
    seen: set[str] = set()
    for index, account in enumerate(accounts):
        if account.name in seen:
            problems.append(f"accounts[{index}].name: {account.name!r} is taken by an earlier account")
        seen.add(account.name or f"unnamed {index}")
    if problems:
        raise AccountsError(problems)
    return tuple(accounts), warnings


class _AccountEntry:
    """One entry of the file, read field by field; what is wrong is added to `problems`, secrets never."""

    def __init__(self, entry: object, place: str, folder: Path, problems: list[str], *, keeps_payers: bool) -> None:
        self._keeps_payers = keeps_payers
        self._fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
        self._place = place
        self._folder = folder
        self._problems = problems
        if not isinstance(entry, dict):
            problems.append(f"{place}: must be an object with {', '.join(_FIELDS)}")

    def unknown_fields(self) -> list[str]:
        """A line for each field that means nothing; a newer version's, or a typing mistake."""
        return [
            f"{self._place}.{name[:64]!r}: unknown field, it changes nothing; known are {', '.join(_FIELDS)}"
            for name in self._fields
            if name not in _FIELDS
        ]

    def read(self) -> Account:
        return Account(
            name=self._name(),
            user_id=self._identifier("user_id", self._fields.get("user_id")),
            application_ids=self._application_ids(),
            access_token=self._access_token(),
            webhook_secrets=self._webhook_secrets(),
            signature_policy=self._signature_policy(),
            rate_per_second=self._rate_per_second(),
            currency=self._currency(),
            refunds_only_here_since=self._refunds_only_here_since(),
            legacy_qr=self._legacy_qr(),
            legacy_store_id=self._identifier("legacy_store_id", self._fields.get("legacy_store_id")),
            looks=self._looks(),
            keep_payer=self._keep_payer(),
        )

    def _problem(self, field: str, what: str) -> None:
        self._problems.append(f"{self._place}.{field}: {what}")

    def _text(self, field: str, value: object) -> str | None:
        """A string, or the stripped content of the file that `{"file": "path"}` names (relative to the accounts file).

        None after a problem was noted.
        """
        if isinstance(value, str):
            return value
        if not (isinstance(value, dict) and value.keys() == {"file"} and isinstance(value["file"], str)):
            self._problem(field, 'must be a string or {"file": "path"}')
            return None
        path = self._folder / value["file"]
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_SECRET_BYTES + 1)
            if len(content) > _MAX_SECRET_BYTES:
                self._problem(field, f"{path} is larger than {_MAX_SECRET_BYTES} bytes")
                return None
            return content.decode().strip()
        except OSError as error:
            self._problem(field, f"{path}: {error.strerror or 'cannot be read'}")
        except ValueError:
            self._problem(field, f"{str(path)!r} is no path of a UTF-8 text file")
        return None

    def _name(self) -> str:
        wanted = "must be 1 to 63 of a-z, A-Z, 0-9, blank, ., - and _, beginning with a letter or digit"
        if "name" not in self._fields:
            self._problem("name", f"missing; {wanted}")
            return ""
        name = self._text("name", self._fields["name"])
        if name is not None and not _NAME.fullmatch(name.strip(" ")):
            self._problem("name", wanted)
            return ""
        return (name or "").strip(" ")

    def _identifier(self, field: str, value: object) -> str | None:
        """An id as text; the provider writes the same ids as numbers in some places and as strings in others."""
        if value is None:
            return None
        is_number = isinstance(value, int) and not isinstance(value, bool)
        text = str(value) if is_number else self._text(field, value)
        if text is not None and not (_IDENTIFIER.fullmatch(text) and not text.startswith("-")):
            self._problem(field, "must be an id: a number, or up to 64 letters, digits, - and _")
            return None
        return text

    def _list(self, field: str) -> list[Any]:
        value = self._fields.get(field)
        if value is not None and not isinstance(value, list):
            self._problem(field, "must be a list")
            return []
        return value or []

    def _application_ids(self) -> tuple[str, ...]:
        found = []
        for index, value in enumerate(self._list("application_ids")):
            place = f"application_ids[{index}]"
            text = self._identifier(place, value)
            if value is None:
                self._problem(place, "must be an id, is null")
            elif text is not None:
                found.append(text)
        return tuple(found)

    def _access_token(self) -> str | None:
        value = self._fields.get("access_token")
        token = None if value is None else self._text("access_token", value)
        if token is None:
            return None
        if not is_visible(token.strip()):
            self._problem("access_token", "must be a token in printable ASCII without blanks")
        return token.strip()

    def _webhook_secrets(self) -> tuple[str, ...]:
        # An empty one is kept: it verifies nothing, and the places of the others stay what `secret_index` says.
        texts = [self._text(f"webhook_secrets[{i}]", value) for i, value in enumerate(self._list("webhook_secrets"))]
        for index, text in enumerate(texts):
            if text is not None and not text.isprintable():
                self._problem(f"webhook_secrets[{index}]", "must not hold control characters")
        return tuple(text for text in texts if text is not None)

    def _signature_policy(self) -> SignaturePolicy:
        value = self._fields.get("signature_policy")
        text = "report" if value is None else self._text("signature_policy", value)
        for policy in _POLICIES:
            if text == policy:
                return policy  # type: ignore[no-any-return]  # get_args does not know that these are the literals
        if text is not None:
            self._problem("signature_policy", f"must be {', '.join(_POLICIES[:-1])} or {_POLICIES[-1]}")
        return "report"

    def _rate_per_second(self) -> float:
        value = self._fields.get("rate_per_second")
        if isinstance(value, str | dict):
            text = self._text("rate_per_second", value)
            if text is None:
                return Account("").rate_per_second
            value = float(text) if _NUMBER.fullmatch(text.strip()) else math.nan
        if value is None:
            return Account("").rate_per_second
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not (math.isfinite(value) and 0 < value <= _MAX_RATE_PER_SECOND):
            self._problem("rate_per_second", f"must be a number above 0, up to {_MAX_RATE_PER_SECOND:g}")
            return Account("").rate_per_second
        return float(value)

    def _currency(self) -> str | None:
        text = self._optional_text("currency")
        if text is not None and not _CURRENCY.fullmatch(text):
            self._problem("currency", "must be an ISO 4217 code like ARS")
            return None
        return text

    def _refunds_only_here_since(self) -> datetime | None:
        text = self._optional_text("refunds_only_here_since")
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = datetime.min  # noqa: DTZ901 - without a zone, as refused below
        if moment.tzinfo is None:
            self._problem("refunds_only_here_since", "must be an RFC 3339 time with an offset")
            return None
        return moment.astimezone(UTC)

    def _legacy_qr(self) -> LegacyQr | None:
        text = self._optional_text("legacy_qr")
        for generation in _GENERATIONS:
            if text == generation:
                return generation
        if text is not None:
            self._problem("legacy_qr", f"must be {' or '.join(_GENERATIONS)}")
        return None

    def _keep_payer(self) -> bool:
        value = self._fields.get("keep_payer", self._keeps_payers)
        if not isinstance(value, bool):
            self._problem("keep_payer", "must be true or false")
            return False
        return value

    def _looks(self) -> LookTable:
        try:
            return read_look_table(self._fields.get("looks", {}))
        except ValueError as error:
            self._problem("looks", str(error))
            return DEFAULT_LOOKS

    def _optional_text(self, field: str) -> str | None:
        value = self._fields.get(field)
        return None if value is None else self._text(field, value)
