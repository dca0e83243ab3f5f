"""Accounts: the file and its mounted secrets, every mistake at once, routing, and a file that changes under us."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from service.accounts import AccountBook, AccountsError, AccountsFile, account_warnings, load_accounts
from service.mercadopago.account import Account
from service.reloading import Reloading, UnusableFileError
from service.settings import Settings, load_settings
from tests.support.waiting import until

Write = Callable[[Any], Settings]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the accounts file (anything as JSON, bytes as they are) and returns settings that name it."""

    def write_file(content: Any) -> Settings:
        path = tmp_path / "accounts.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return load_settings({"CUADRE_ACCOUNTS_FILE": str(path)})

    return write_file


def _problems(settings: Settings) -> list[str]:
    with pytest.raises(AccountsError) as caught:
        load_accounts(settings)
    return caught.value.problems


def test_a_full_account_and_a_bare_one(write: Write, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("APP_USR-from-a-file\n")
    (tmp_path / "current").write_text("  s3cret \r\n")
    (tmp_path / "user").write_text("42")
    settings = write(
        [
            {
                "name": "shop-1",
                "user_id": 2100457788,
                "application_ids": [123, "456"],
                "access_token": {"file": "secrets/token"},
                "webhook_secrets": [{"file": str(tmp_path / "current")}, "", "previous"],
                "signature_policy": "required",
                "rate_per_second": 12,
            },
            {"name": "bare", "user_id": {"file": "user"}, "access_token": None, "application_ids": None},
        ]
    )
    assert load_accounts(settings) == (
        Account(
            "shop-1", "2100457788", ("123", "456"), "APP_USR-from-a-file", ("s3cret", "", "previous"), "required", 12.0
        ),
        Account("bare", "42", (), None, (), "report", 50.0),
    )


def test_the_account_of_the_environment() -> None:
    settings = load_settings(
        {
            "CUADRE_ACCESS_TOKEN": "APP_USR-1",
            "CUADRE_USER_ID": "7",
            "CUADRE_WEBHOOK_SECRETS": "a,b",
            "CUADRE_SIGNATURE_POLICY": "required",
        }
    )
    assert load_accounts(settings) == (Account("default", "7", (), "APP_USR-1", ("a", "b"), "required", 50.0),)


def test_no_account_at_all_says_what_to_set() -> None:
    (problem,) = _problems(load_settings({}))
    assert "CUADRE_ACCOUNTS_FILE" in problem
    assert "CUADRE_ACCESS_TOKEN" in problem


def test_every_mistake_is_reported_together_by_its_place(write: Write, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    problems = _problems(
        write(
            [
                {"name": "Café", "rate_per_second": 0, "signature_policy": "strict"},
                {"name": "same", "access_token": {"file": "missing"}, "webhook_secrets": "abc"},
                {
                    "name": "same",
                    "rate_per_second": "fast",
                    "user_id": True,
                    "application_ids": [None, 1.5, "a b"],
                    "access_token": "two words",
                    "webhook_secrets": [{"file": "binary"}, {"path": "x"}, 7],
                },
                "not an object",
                {"rate_per_second": True},
            ]
        )
    )
    assert [line.partition(": ")[0] for line in problems] == [
        "accounts[0].name",
        "accounts[0].signature_policy",
        "accounts[0].rate_per_second",
        "accounts[1].access_token",
        "accounts[1].webhook_secrets",
        "accounts[2].user_id",
        "accounts[2].application_ids[0]",
        "accounts[2].application_ids[1]",
        "accounts[2].application_ids[2]",
        "accounts[2].access_token",
        "accounts[2].webhook_secrets[0]",
        "accounts[2].webhook_secrets[1]",
        "accounts[2].webhook_secrets[2]",
        "accounts[2].rate_per_second",
        "accounts[3]",
        "accounts[3].name",
        "accounts[4].name",
        "accounts[4].rate_per_second",
        "accounts[2].name",
    ]
    assert all("\n" not in line for line in problems)
    assert "abc" not in "".join(problems)
    assert "two words" not in "".join(problems)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"NaN",
        b"[NaN]",
        b'[{"name": "a", "rate_per_second": Infinity}]',
        {},
        [],
        "x",
        b"[" * 100_000,
    ],
)
def test_a_file_that_is_no_list_of_accounts(write: Write, content: Any) -> None:
    (problem,) = _problems(write(content))
    assert "accounts.json" in problem


def test_a_missing_file(tmp_path: Path) -> None:
    (problem,) = _problems(load_settings({"CUADRE_ACCOUNTS_FILE": str(tmp_path / "none.json")}))
    assert problem.startswith("CUADRE_ACCOUNTS_FILE: ")
    assert "none.json: No such file or directory; it must be the path of a JSON list of accounts" in problem


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a", True),
        ("0-_", True),
        ("Main", True),
        ("Store 1", True),
        ("Store.1", True),
        ("a/b", False),
        (" ", False),
        (".a", False),
        ("a" * 63, True),
        ("a" * 64, False),
        ("_a", False),
        ("", False),
        ("a\n", False),
        ("ñ", False),
    ],
)
def test_names(write: Write, name: str, good: bool) -> None:
    settings = write([{"name": name}])
    if good:
        assert load_accounts(settings)[0].name == name
    else:
        assert _problems(settings)


def test_a_name_from_a_file_and_one_with_blanks_around_it(write: Write, tmp_path: Path) -> None:
    (tmp_path / "name").write_text("Store 1\n")
    accounts = load_accounts(write([{"name": {"file": "name"}}, {"name": " shop "}]))
    assert [account.name for account in accounts] == ["Store 1", "shop"]


@pytest.mark.parametrize(("given_rate", "rate"), [("5", 5.0), (" 2.5 ", 2.5), ({"file": "rate"}, 12.0), (5, 5.0)])
def test_a_rate_may_be_a_text(write: Write, tmp_path: Path, given_rate: Any, rate: float) -> None:
    (tmp_path / "rate").write_text("12\n")
    assert load_accounts(write([{"name": "a", "rate_per_second": given_rate}]))[0].rate_per_second == rate


@pytest.mark.parametrize("wrong", ["0", "-5", "nan", "1e3", "", "5000", [5], {"file": "missing"}, True])
def test_a_rate_that_is_none(write: Write, wrong: Any) -> None:
    (problem,) = _problems(write([{"name": "a", "rate_per_second": wrong}]))
    assert problem.startswith("accounts[0].rate_per_second: ")


def test_an_unknown_field_is_warned_of_and_changes_nothing(write: Write) -> None:
    settings = write([{"name": "a", "webhook_secret": "marked"}, {"name": "b"}])
    assert [account.name for account in load_accounts(settings)] == ["a", "b"]
    (warning,) = account_warnings(settings)
    assert warning.startswith("accounts[0].'webhook_secret': unknown field, it changes nothing")
    assert "marked" not in warning
    with capture_logs() as lines:
        file = AccountsFile(settings)
        assert file.reload() is False
    assert [line["warnings"] for line in lines if line["event"] == "accounts_file_odd"] == [[warning]], "once"
    assert account_warnings(write(b"{")) == []
    assert account_warnings(load_settings({"CUADRE_ACCESS_TOKEN": "t"})) == []


@given(
    entry=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["file", "name", "x"]), inner),
        max_leaves=5,
    ),
    field=st.sampled_from(["name", "user_id", "application_ids", "access_token", "webhook_secrets", "rate_per_second"]),
)
def test_odd_values_are_reported_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, entry: Any, field: str
) -> None:
    path = tmp_path_factory.mktemp("odd") / "accounts.json"
    path.write_text(json.dumps([{"name": "a"} | {field: entry}]))
    problems: list[str] = []
    try:
        load_accounts(load_settings({"CUADRE_ACCOUNTS_FILE": str(path)}))
    except AccountsError as error:
        problems = error.problems
    assert all(line.startswith(f"accounts[0].{field}") for line in problems)


A = Account("a", "1", ("10", "11"))
B = Account("b", "1", ("12",))
C = Account("c", "2", ("12", "13", "13"))
D = Account("d", None, ("14",))
DEFAULT = Account("default")


@pytest.mark.parametrize(
    ("user_id", "application_id", "found"),
    [
        ("1", "10", A),
        ("1", "12", B),
        ("2", "12", C),
        ("1", None, A),
        ("1", "99", A),
        ("1", "13", A),
        ("2", "10", C),
        ("9", "10", A),
        ("9", "13", C),
        ("9", "14", D),
        (None, "14", D),
        (None, "12", DEFAULT),
        ("9", "12", DEFAULT),
        (None, None, DEFAULT),
        ("", "", DEFAULT),
    ],
)
def test_routing(user_id: str | None, application_id: str | None, found: Account) -> None:
    book = AccountBook([A, B, C, D, DEFAULT])
    assert book.route(user_id, application_id) is found
    without = AccountBook([A, B, C, D])
    assert without.route(user_id, application_id) is (None if found is DEFAULT else found)


def test_by_name_and_equality() -> None:
    book = AccountBook([A, D])
    assert (book.by_name("a"), book.by_name("b"), len(book), list(book)) == (A, None, 2, [A, D])
    assert book == AccountBook([A, D])
    assert book != AccountBook([D, A])
    assert hash(book) == hash(AccountBook([A, D]))


def test_secrets_do_not_show() -> None:
    account = Account("a", access_token="hunter2", webhook_secrets=("hunter2",))
    assert "hunter2" not in repr(account) + repr(AccountBook([account]))


def test_a_changed_file_counts_and_a_broken_one_does_not(write: Write, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    settings = write([{"name": "a", "access_token": {"file": "token"}}])
    file = AccountsFile(settings)
    assert file.reload() is False
    token.write_text("two")
    assert file.reload() is True
    assert file.current.accounts[0].access_token == "two"
    write(b"[{")
    assert file.reload() is False
    assert file.current.accounts[0].access_token == "two"
    write([{"name": "a"}, {"name": "b"}])
    assert file.reload() is True
    assert len(file.current) == 2


def test_a_symlink_that_is_swapped_counts(tmp_path: Path) -> None:
    """As Kubernetes replaces a mounted secret: the path stays, what it leads to does not."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "accounts.json").write_text(json.dumps([{"name": version}]))
    data = tmp_path / "data"
    data.symlink_to("one")
    file = AccountsFile(load_settings({"CUADRE_ACCOUNTS_FILE": str(data / "accounts.json")}))
    fresh = tmp_path / "fresh"
    fresh.symlink_to("two")
    fresh.replace(data)
    assert file.reload() is True
    assert file.current.by_name("two") is not None


class Source:
    """Something to reload, as good or broken as a test wants it."""

    def __init__(self) -> None:
        self.value: int | list[str] = 1
        self.reports: list[list[str]] = []
        self.file = Reloading(self.read, name="source", report=lambda name, problems: self.reports.append(problems))

    def read(self) -> int:
        if isinstance(self.value, list):
            raise UnusableFileError(self.value)
        return self.value


def test_a_problem_is_reported_once_until_it_changes() -> None:
    source = Source()
    for value in (["x"], ["x"], ["x", "y"], ["x", "y"], ["x"]):
        source.value = value
        assert source.file.reload() is False
    assert source.reports == [["x"], ["x", "y"], ["x"]]
    source.value = 1
    assert source.file.reload() is False
    source.value = ["x"]
    source.file.reload()
    assert len(source.reports) == 4
    assert source.file.current == 1


def test_a_broken_file_stops_a_start(write: Write) -> None:
    with pytest.raises(AccountsError):
        AccountsFile(write(b"{"))


async def test_watching_tells_of_every_change_by_time_and_when_asked() -> None:
    source = Source()
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def reported() -> bool:
        return bool(source.reports)

    by_time = asyncio.create_task(source.file.watch(seen.put_nowait, every_seconds=0.01))
    async with asyncio.timeout(10):
        source.value = 2
        assert await seen.get() == 2
        source.value = ["broken"]
        await until(reported, what="the broken file is reported")
        source.value = 3
        assert await seen.get() == 3
    by_time.cancel()

    when_asked = asyncio.create_task(source.file.watch(seen.put, every_seconds=3600))
    async with asyncio.timeout(10):
        source.value = 4
        source.file.ask()
        assert await seen.get() == 4
    when_asked.cancel()
    await asyncio.gather(by_time, when_asked, return_exceptions=True)
