"""Settings: the contract's names and defaults, every mistake at once, and no secret in any message."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from service.settings import Settings, SettingsError, describe, load_settings, shown_database_url

DEFAULTS = load_settings({})
NAMES = [name for name, _, _ in describe(DEFAULTS)]
CONTRACT = {
    "CUADRE_DATABASE_URL": None,
    "CUADRE_DATABASE_STATEMENT_CACHE": 100,
    "CUADRE_MERCADOPAGO_URL": "https://api.mercadopago.com",
    "CUADRE_ACCOUNTS_FILE": None,
    "CUADRE_ACCESS_TOKEN": None,
    "CUADRE_USER_ID": None,
    "CUADRE_WEBHOOK_SECRETS": (),
    "CUADRE_SIGNATURE_POLICY": "report",
    "CUADRE_PUBLIC_HOST": "0.0.0.0",
    "CUADRE_PUBLIC_PORT": 8080,
    "CUADRE_INTERNAL_HOST": "0.0.0.0",
    "CUADRE_INTERNAL_PORT": 9090,
    "CUADRE_ROLE": "all",
    "CUADRE_SYNC_CONCURRENCY": 32,
    "CUADRE_API_KEYS_FILE": None,
    "CUADRE_INTERNAL_AUTH": "on",
    "CUADRE_LOG_FORMAT": "json",
    "CUADRE_LOG_LEVEL": "info",
    "CUADRE_DRAIN_SECONDS": 5.0,
    "CUADRE_POLL_SECONDS": 0.5,
    "CUADRE_ACK_TIMEOUT_SECONDS": 4.0,
}
WRONG = {
    "CUADRE_DATABASE_URL": "mysql://user:hunter2@host/db",
    "CUADRE_DATABASE_STATEMENT_CACHE": "-1",
    "CUADRE_MERCADOPAGO_URL": "https://user:hunter2@api.mercadopago.com",
    "CUADRE_ACCESS_TOKEN": "APP_USR-hunter2 with a blank",
    "CUADRE_USER_ID": "APP_USR hunter2",
    "CUADRE_SIGNATURE_POLICY": "strict",
    "CUADRE_PUBLIC_HOST": "a host",
    "CUADRE_PUBLIC_PORT": "65536",
    "CUADRE_INTERNAL_PORT": "http",
    "CUADRE_ROLE": "boss",
    "CUADRE_SYNC_CONCURRENCY": "0",
    "CUADRE_INTERNAL_AUTH": "maybe",
    "CUADRE_LOG_FORMAT": "xml",
    "CUADRE_LOG_LEVEL": "loud",
    "CUADRE_DRAIN_SECONDS": "nan",
    "CUADRE_POLL_SECONDS": "0",
    "CUADRE_ACK_TIMEOUT_SECONDS": "inf",
    "CUADRE_LEASE_SECONDS": "1e3",
}


def test_defaults_are_the_contract() -> None:
    settings = load_settings({})
    found = {name: getattr(settings, name.removeprefix("CUADRE_").lower()) for name in CONTRACT}
    assert found == CONTRACT
    assert settings.lease_seconds == 30.0
    assert settings.data_dir is None
    assert settings.unknown == ()


def test_values_of_the_environment() -> None:
    settings = load_settings(
        {
            "CUADRE_DATABASE_URL": "postgresql://a:b@one:5432,two:5433/db?target_session_attrs=read-write\n",
            "CUADRE_WEBHOOK_SECRETS": "one, two ,,three",
            "CUADRE_ROLE": "Worker",
            "CUADRE_PUBLIC_PORT": "0",
            "CUADRE_INTERNAL_PORT": "0",
            "CUADRE_MERCADOPAGO_URL": "http://simulator:8090/",
            "CUADRE_POLL_SECONDS": "0.05",
            "CUADRE_ACCOUNTS_FILE": "/etc/cuadre/accounts.json",
            "CUADRE_LOG_LEVEL": "",
            "CUADRE_INTERNAL_AUTH": " ",
        }
    )
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value().endswith("read-write")
    assert [secret.get_secret_value() for secret in settings.webhook_secrets] == ["one", "two", "", "three"]
    assert (settings.role, settings.public_port, settings.internal_port) == ("worker", 0, 0)
    assert settings.mercadopago_url == "http://simulator:8090"
    assert settings.poll_seconds == 0.05
    assert settings.accounts_file == Path("/etc/cuadre/accounts.json")
    assert (settings.log_level, settings.internal_auth) == ("info", "on")
    assert settings.ignored == ("CUADRE_WEBHOOK_SECRETS",)


@pytest.mark.parametrize(("text", "seconds"), [(".2", 0.2), ("0.2", 0.2), ("2", 2.0), ("2.50", 2.5)])
def test_ways_to_write_a_number(text: str, seconds: float) -> None:
    assert load_settings({"CUADRE_POLL_SECONDS": text}).poll_seconds == seconds


@pytest.mark.parametrize("text", [".", "2.", "-.2", "+2", "2,5", ". 2", "..2", "1e0"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="CUADRE_POLL_SECONDS"):
        load_settings({"CUADRE_POLL_SECONDS": text})


def test_the_process_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUADRE_ROLE", "web")
    assert load_settings().role == "web"
    assert load_settings({}).role == "all"
    assert Settings().role == "all"


def test_every_wrong_value_is_reported_together_and_no_secret() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(WRONG)
    assert sorted(line.partition(":")[0] for line in caught.value.problems) == sorted(WRONG)
    assert all(": must be " in line and "\n" not in line for line in caught.value.problems)
    assert "hunter2" not in str(caught.value)
    assert "CUADRE_ROLE: must be all, web or worker, is 'boss'" in caught.value.problems


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        ("u:hunter2@h:99999/x", "no number from 1 to 65535"),
        ("u:hunter2@h:0/x", "no number from 1 to 65535"),
        ("u:hunter2@one,two:http/x", "no number from 1 to 65535"),
        ("u:hunter2@[::1]:65536/x", "no number from 1 to 65535"),
        ("u:hunter2@/x?host=one&port=65536", "no number from 1 to 65535"),
        ("u:hunter2@/x?host=one:1,two:x", "no number from 1 to 65535"),
        ("u:hunter2/hunter2@h/x", "are written %40"),
        ("u:hunter2#hunter2@h/x", "are written %40"),
        ("u:hunter2?hunter2@h/x", "are written %40"),
        ("u:hunter2@hunter2@h/x", "more than one @"),
        ("u:hunter2[@h/x", "do not enclose an IPv6 address"),
        ("[bad/x", "do not enclose an IPv6 address"),
        ("u:hunter2@one,,two/x", "one of its hosts is empty"),
        ("u:hunter2@h/x?sslmode", "must be name=value pairs"),
        ("u:hunter2@h/x?sslmode=hunter2", "its sslmode must be one of disable, allow, prefer, require"),
        ("u:hunter2@h/x?target_session_attrs=hunter2", "its target_session_attrs must be one of any, primary"),
    ],
)
def test_a_dsn_that_no_connection_can_be_made_of_says_why_and_nothing_of_itself(rest: str, fault: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"CUADRE_DATABASE_URL": f"postgresql://{rest}"})
    [line] = caught.value.problems
    assert line.startswith("CUADRE_DATABASE_URL: must be a URL postgresql://")
    assert fault in line
    assert "hunter2" not in line
    assert line.isprintable()


@pytest.mark.parametrize(
    "rest",
    [
        "", "/x", "h", "h:/x", "u@h/x", "u:a,b@one/x", "u:p%40ss@one:5432,two:5433/x?target_session_attrs=read-write",
        "[::1]:5432,[::2]/x", "%2Frun%2Fpg/x", "u:p@/x?host=%2Frun%2Fpg&port=5432", "u:p@/x?host=one,two",
        "/x?host=one:1,two:2", "/x?host=one,two&port=1,2", "h/x?sslmode=verify-full", "h/x?sslmode=verify_full",
        "h/x?sslmode=require&options=-csearch_path%3Dx&application_name=",
    ],
)  # fmt: skip
def test_ways_to_write_a_dsn(rest: str) -> None:
    url = load_settings({"CUADRE_DATABASE_URL": f"postgresql://{rest}"}).database_url
    assert url is not None
    assert url.get_secret_value() == f"postgresql://{rest}"


def test_one_port_for_both_is_refused_beside_other_mistakes() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"CUADRE_PUBLIC_PORT": "9090", "CUADRE_ROLE": "x"})
    assert [line.partition(":")[0] for line in caught.value.problems] == ["CUADRE_ROLE", "CUADRE_INTERNAL_PORT"]


def test_a_port_that_kubernetes_wrote_is_explained() -> None:
    with pytest.raises(SettingsError, match="enableServiceLinks"):
        load_settings({"CUADRE_PUBLIC_PORT": "tcp://10.0.0.1:8080"})


def test_unknown_names_are_listed_not_refused() -> None:
    settings = load_settings({"CUADRE_ROEL": "web", "cuadre_role": "web", "CUADRE_UNKNOWN": "x", "PATH": "/bin"})
    assert settings.unknown == ("CUADRE_ROEL", "CUADRE_UNKNOWN", "cuadre_role")
    assert settings.role == "all"


def test_describe_names_every_setting_and_masks_secrets() -> None:
    settings = load_settings(
        {
            "CUADRE_DATABASE_URL": "postgresql://app:hunter2@one,two/db?sslmode=require&sslpassword=hunter2",
            "CUADRE_ACCESS_TOKEN": "APP_USR-hunter2",
            "CUADRE_WEBHOOK_SECRETS": "hunter2,hunter2",
        }
    )
    table = describe(settings)
    assert {name for name, _, _ in table} >= CONTRACT.keys()
    assert all(meaning for _, _, meaning in table)
    shown = {name: value for name, value, _ in table}
    assert shown["CUADRE_DATABASE_URL"] == "postgresql://app:****@one,two/db?sslmode=require"
    assert (shown["CUADRE_ACCESS_TOKEN"], shown["CUADRE_WEBHOOK_SECRETS"]) == ("****", "****,****")
    assert shown["CUADRE_DRAIN_SECONDS"] == "5"
    assert "hunter2" not in repr(table) + repr(settings) + str(settings) + settings.model_dump_json()


_SIGNS = st.characters(min_codepoint=33, max_codepoint=126)


@given(password=st.text(_SIGNS, min_size=8), user=st.sampled_from(["app", ""]), tail=st.text(_SIGNS, max_size=8))
def test_no_password_shows_however_it_is_written(password: str, user: str, tail: str) -> None:
    marked = f"Zq{password}qZ"
    shown = shown_database_url(SecretStr(f"postgresql://{user}:{marked}@host:5432/db?{tail}"))
    assert "Zq" not in shown
    assert password not in shown


_ODD = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", " ", "true", "null", "[]", "{}", "0x10", "٣", "1_0", "+1", "1.", "tcp://x"]),
)


@given(values=st.dictionaries(st.sampled_from(NAMES), _ODD))
def test_odd_values_are_taken_or_reported_and_nothing_else(values: dict[str, str]) -> None:
    problems: list[str] = []
    try:
        settings = load_settings(values)
    except SettingsError as error:
        problems = error.problems
        assert problems
    else:
        assert 1 <= settings.sync_concurrency <= 1000
        assert 0 <= settings.drain_seconds <= 20
        assert 0.1 <= settings.ack_timeout_seconds <= 20
        assert settings.public_port != settings.internal_port or settings.public_port == 0
        unset = [name.removeprefix("CUADRE_").lower() for name in NAMES if not values.get(name, "").strip()]
        assert [getattr(settings, field) for field in unset] == [getattr(DEFAULTS, field) for field in unset]
    named = {line.partition(":")[0] for line in problems}
    assert named <= values.keys() | {"CUADRE_INTERNAL_PORT"}
    assert len(problems) == len(named)
    assert all(line.isprintable() for line in problems)


@given(secret=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=12))
def test_no_secret_is_repeated_whatever_is_wrong_with_it(secret: str) -> None:
    wrong = {
        "CUADRE_DATABASE_URL": f"postgres-{secret}",
        "CUADRE_ACCESS_TOKEN": f"a b {secret}",
        "CUADRE_MERCADOPAGO_URL": f"ftp://{secret}",
        "CUADRE_USER_ID": f"ü{secret}",
        "CUADRE_WEBHOOK_SECRETS": secret,
        "CUADRE_ROLE": "x",
    }
    with pytest.raises(SettingsError) as caught:
        load_settings(wrong)
    assert len(caught.value.problems) == 5
    assert secret not in repr(caught.value)
