"""`cuadre doctor`: every check in good order and out of it."""

import json
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.database.pool import Database
from service.sync.claims import mark_order_due
from tests.integration.cli.cli_support import SECRET, TOKEN, USER_ID, Cuadre, Provider, order_fixture

ORDER = "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"


class Listing(Provider):
    """The stub, with a list of its orders: all but those of the types in `hides`."""

    hides: frozenset[str] = frozenset()
    list_status = 200

    def application(self) -> web.Application:
        app = super().application()
        app.router.add_get("/v1/orders", self._search)
        return app

    async def _search(self, request: web.Request) -> web.Response:
        begin, end = (datetime.fromisoformat(request.query[name]) for name in ("begin_date", "end_date"))
        found = [
            order
            for order in self.orders.values()
            if isinstance(order, dict)
            and order["type"] not in self.hides
            and begin <= datetime.fromisoformat(order["created_date"]) <= end
        ]
        size = int(request.query["page_size"])
        paging = {"total": str(len(found)), "offset": "0", "limit": str(size)}
        return self._answer({"data": found[:size], "paging": paging}, self.list_status)


@pytest.fixture
async def provider(environment: pytest.MonkeyPatch) -> AsyncIterator[Listing]:
    """A provider that also lists orders."""
    stub = Listing()
    server = TestServer(stub.application(), skip_url_asserts=True)
    await server.start_server()
    environment.setenv("CUADRE_MERCADOPAGO_URL", str(server.make_url("")).rstrip("/"))
    yield stub
    await server.close()


def of(document: dict[str, Any], name: str, account: str | None = None) -> list[dict[str, Any]]:
    """The rows of one check."""
    return [row for row in document["checks"] if row["name"] == name and account in {None, row["account"]}]


def statuses(rows: Iterable[dict[str, Any]]) -> set[str]:
    return {row["status"] for row in rows}


async def examined(cuadre: Cuadre, *, code: int) -> dict[str, Any]:
    result = await cuadre("doctor", "--format", "json")
    assert result.code == code, result.out
    document: dict[str, Any] = result.json()
    assert document["status"] == "fail" if code else document["status"] in {"ok", "warn"}
    for row in document["checks"]:
        assert row.keys() == {"name", "account", "status", "found", "advice"}
        assert row["status"] == "ok" or row["advice"]
    return document


async def notify(database: Database, **columns: object) -> None:
    """Rows as the intake writes them, with what a check looks at."""
    given = {
        "account": "default",
        "topic": "order",
        "order_id": ORDER,
        "verified": False,
        "verification": "mismatch",
        "manifest": None,
        "copies": 1,
        "at": datetime.now(UTC),
        "application": "5512340987654321",
    } | columns
    await database.execute(
        """
        insert into cuadre.notifications (
            period, account, topic, order_id, verified, verification, manifest, copies, received_at, last_received_at,
            copy_key, path, query, headers, body
        )
        values (
            cuadre.period_of($8), $1, $2, $3, $4, $5, $6, $7, $8, $8, gen_random_uuid()::text::bytea, '/', '{}', '{}',
            jsonb_build_object('application_id', $9::text)
        )
        """,
        *given.values(),
    )


async def test_all_is_well(cuadre: Cuadre, database: Database) -> None:
    document = await examined(cuadre, code=0)
    assert document["status"] == "ok"
    names = [row["name"] for row in document["checks"]]
    assert names == [
        "settings", "accounts", "database", "schema", "signatures", "webhooks", "backlog", "quarantine",
        "partitions", "discrepancies", "search", "clock", "token",
    ]  # fmt: skip
    assert "agree within" in of(document, "clock")[0]["found"]
    assert "PostgreSQL" in of(document, "database")[0]["found"]
    assert f"user {USER_ID} of MLA" in of(document, "token", "default")[0]["found"]
    table = await cuadre("doctor")
    assert table.code == 0
    assert table.out.splitlines()[0].split()[:3] == ["CHECK", "ACCOUNT", "STATUS"]


async def test_wrong_settings_are_rows_and_the_rest_is_still_examined(
    cuadre: Cuadre, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("CUADRE_PUBLIC_PORT", "x")
    environment.setenv("CUADRE_POLL_SECONDS", "-1")
    environment.setenv("CUADRE_API_KEYS_FILE", "/nonexistent/keys.json")
    document = await examined(cuadre, code=1)
    assert statuses(of(document, "settings")) == {"fail"}
    assert len(of(document, "settings")) == 2
    assert "/nonexistent/keys.json" in of(document, "api keys")[0]["found"]
    assert statuses(of(document, "token")) == {"ok"}
    assert statuses(of(document, "schema")) == {"ok"}


async def test_misspelt_settings_are_warned_about(cuadre: Cuadre, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CUADRE_ACESS_TOKEN", "marked-misspelt")
    cuadre.secrets = [*cuadre.secrets, "marked-misspelt"]
    document = await examined(cuadre, code=0)
    assert "CUADRE_ACESS_TOKEN" in of(document, "settings")[0]["found"]


async def test_broken_accounts(cuadre: Cuadre, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "accounts.json").write_text('[{"name": "A/B"}, {"name": "b", "rate_per_second": 0}]')
    environment.setenv("CUADRE_ACCOUNTS_FILE", str(tmp_path / "accounts.json"))
    document = await examined(cuadre, code=1)
    assert len(of(document, "accounts")) == 2
    assert statuses(of(document, "database")) == {"ok"}


async def test_a_field_of_an_account_that_means_nothing_is_warned_of(
    cuadre: Cuadre, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "accounts.json").write_text(
        json.dumps([{"name": "Store 1", "access_token": TOKEN, "webhook_secret": SECRET}])
    )
    environment.setenv("CUADRE_ACCOUNTS_FILE", str(tmp_path / "accounts.json"))
    document = await examined(cuadre, code=0)
    well, odd = of(document, "accounts")
    assert (well["status"], odd["status"]) == ("ok", "warn")
    assert "accounts[0].'webhook_secret': unknown field" in odd["found"]
    config = await cuadre("config", "--format", "json")
    assert config.code == 0
    assert odd["found"] in config.json()["warnings"]
    assert config.json()["accounts"][0]["name"] == "Store 1"


async def test_a_database_that_is_down(cuadre: Cuadre, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CUADRE_DATABASE_URL", "postgresql://u:marked-password@127.0.0.1:1/x")
    cuadre.secrets = [*cuadre.secrets, "marked-password"]
    document = await examined(cuadre, code=1)
    assert statuses(of(document, "database")) == {"fail"}
    assert of(document, "schema") == []
    assert statuses(of(document, "token")) == {"ok"}
    assert "the database gave no time" in of(document, "clock")[0]["found"]


async def test_no_database_url(cuadre: Cuadre, environment: pytest.MonkeyPatch) -> None:
    environment.delenv("CUADRE_DATABASE_URL")
    document = await examined(cuadre, code=1)
    assert "not set" in of(document, "database")[0]["found"]


async def test_a_database_without_schema(cuadre: Cuadre, environment: pytest.MonkeyPatch, empty_dsn: str) -> None:
    environment.setenv("CUADRE_DATABASE_URL", empty_dsn)
    document = await examined(cuadre, code=1)
    [schema] = of(document, "schema")
    assert (schema["status"], schema["advice"]) == ("fail", "run: cuadre migrate")
    assert of(document, "backlog") == []


async def test_a_database_that_takes_no_writes(
    cuadre: Cuadre, environment: pytest.MonkeyPatch, database: Database
) -> None:
    name = await database.fetchval("select current_database()")
    await database.execute(f'alter database "{name}" set default_transaction_read_only = on')
    document = await examined(cuadre, code=1)
    assert "takes no writes" in of(document, "database")[0]["found"]


@pytest.mark.parametrize(("seconds", "status", "code"), [(3600, "fail", 1), (-3600, "fail", 1), (10, "warn", 0)])
async def test_a_provider_whose_clock_differs(
    cuadre: Cuadre, provider: Provider, seconds: int, status: str, code: int
) -> None:
    provider.clock = lambda: datetime.now(UTC) + timedelta(seconds=seconds)
    [clock] = of(await examined(cuadre, code=code), "clock")
    assert clock["status"] == status
    assert clock["found"].startswith("Mercado Pago is ")
    assert ("ahead of" if seconds > 0 else "behind") in clock["found"]
    assert "this machine" in clock["advice"]


@pytest.mark.parametrize(("status", "outcome"), [(401, "unauthorized"), (403, "forbidden"), (503, "server_error")])
async def test_a_token_that_is_not_taken(cuadre: Cuadre, provider: Provider, status: int, outcome: str) -> None:
    provider.me_status = status
    [token] = of(await examined(cuadre, code=1), "token")
    assert token["status"] == "fail"
    assert token["found"].startswith(f"{outcome}: {status}")


async def test_a_provider_that_is_down(cuadre: Cuadre, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CUADRE_MERCADOPAGO_URL", "http://127.0.0.1:1")
    document = await examined(cuadre, code=1)
    assert of(document, "token")[0]["found"].startswith("connection:")
    assert "Mercado Pago gave no time" in of(document, "clock")[0]["found"]


async def test_a_token_of_another_user_and_of_a_test_user(cuadre: Cuadre, provider: Provider) -> None:
    provider.me = {"id": 42, "tags": ["test_user"]}
    [token] = of(await examined(cuadre, code=1), "token")
    assert "user 42, a test user" in token["found"]
    assert USER_ID in token["found"]


async def test_every_account_is_asked_with_its_own_token(
    cuadre: Cuadre, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    accounts = [
        {"name": "north", "user_id": USER_ID, "access_token": TOKEN, "webhook_secrets": [SECRET]},
        {"name": "south", "access_token": TOKEN},
        {"name": "west"},
    ]
    (tmp_path / "accounts.json").write_text(json.dumps(accounts))
    environment.setenv("CUADRE_ACCOUNTS_FILE", str(tmp_path / "accounts.json"))
    document = await examined(cuadre, code=1)
    found = {row["account"]: row["status"] for row in of(document, "token")}
    assert found == {"north": "ok", "south": "warn", "west": "fail"}
    assert "no access_token" in of(document, "token", "west")[0]["found"]
    assert "CUADRE_ACCESS_TOKEN: not used" in of(document, "settings")[0]["found"]


async def test_signatures_that_hold_are_told_with_their_manifest(cuadre: Cuadre, database: Database) -> None:
    await notify(database, verified=True, verification="valid", manifest="lower", copies=300)
    await notify(database, verified=True, verification="valid", manifest="verbatim", copies=100)
    await notify(database, topic="payment", order_id=None)
    await notify(database, at=datetime.now(UTC) - timedelta(days=8))
    [row] = of(await examined(cuadre, code=0), "signatures")
    assert row["status"] == "ok"
    assert row["found"] == (
        "application 5512340987654321: 100% valid (manifest lower 75.0%, verbatim 25.0%) of 400 in 7 days"
    )


async def test_signatures_that_do_not_hold_are_told_per_application(cuadre: Cuadre, database: Database) -> None:
    await notify(database, verified=True, verification="valid", manifest="lower", copies=10)
    await notify(database, application="777", copies=3)
    await notify(database, application="777", verification="missing")
    rows = of(await examined(cuadre, code=0), "signatures")
    assert [(row["status"], row["found"].split(":")[0]) for row in rows] == [
        ("ok", "application 5512340987654321"),
        ("warn", "application 777"),
    ]
    assert "75.0% mismatch, 25.0% missing of 4" in rows[1]["found"]
    assert "webhook_secrets" in rows[1]["advice"]


async def test_signatures_that_are_all_refused_fail(
    cuadre: Cuadre, database: Database, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("CUADRE_SIGNATURE_POLICY", "required")
    await notify(database)
    assert statuses(of(await examined(cuadre, code=1), "signatures")) == {"fail"}


async def test_orders_that_change_without_a_word(cuadre: Cuadre, provider: Provider, database: Database) -> None:
    provider.orders[ORDER] = order_fixture("order-processed-qr")
    await cuadre("sync", ORDER)
    [never] = of(await examined(cuadre, code=0), "webhooks")
    assert never["status"] == "warn"
    assert never["found"] == "no order notification in 30 days, 1 orders changed since"
    await notify(database, at=datetime.now(UTC) - timedelta(hours=5))
    [silent] = of(await examined(cuadre, code=0), "webhooks")
    assert silent["found"] == "last told 5 h ago, 1 orders changed since"
    await notify(database)
    [told] = of(await examined(cuadre, code=0), "webhooks")
    assert told["status"] == "ok"


@pytest.mark.parametrize(("minutes", "status", "code"), [(1, "ok", 0), (10, "warn", 0), (120, "fail", 1)])
async def test_a_backlog(cuadre: Cuadre, database: Database, minutes: int, status: str, code: int) -> None:
    await mark_order_due(database, ORDER, "default")
    await database.execute("update cuadre.sync set due_at = now() - make_interval(mins => $1)", minutes)
    [row] = of(await examined(cuadre, code=code), "backlog")
    assert row["status"] == status
    assert row["found"].startswith("1 orders due, the oldest for ")


async def test_strangers_that_wait_are_no_backlog(cuadre: Cuadre, database: Database) -> None:
    await database.execute(
        "insert into cuadre.sync (order_id, account, due_at) values ($1, 'default', now() - interval '5 h')", ORDER
    )
    [row] = of(await examined(cuadre, code=0), "backlog")
    assert row["status"] == "ok"
    assert row["found"] == "0 orders due; besides, 1 that only unverified notifications name"


async def test_orders_in_quarantine_and_of_accounts_that_are_not_configured(cuadre: Cuadre, database: Database) -> None:
    await mark_order_due(database, ORDER, "gone")
    await database.execute("update cuadre.sync set quarantined_at = now(), quarantine_reason = 'not_found'")
    document = await examined(cuadre, code=0)
    assert of(document, "quarantine")[0]["found"] == "1 orders in quarantine"
    [gone] = of(document, "unconfigured", "gone")
    assert gone["status"] == "warn"
    assert "cuadre accounts move gone NEW" in gone["advice"]
    assert statuses(of(document, "backlog")) == {"ok"}


async def test_rows_in_a_default_partition(cuadre: Cuadre, database: Database) -> None:
    await notify(database, at=datetime(2031, 1, 1, tzinfo=UTC), verified=True, verification="valid")
    [row] = of(await examined(cuadre, code=0), "partitions")
    assert (row["status"], row["found"]) == ("warn", "rows in the default partition of notifications")


async def test_sessions_that_a_pooler_leaves_as_they_are(
    cuadre: Cuadre, database: Database, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("CUADRE_DATABASE_STATEMENT_CACHE", "0")
    [row] = of(await examined(cuadre, code=0), "sessions")
    assert row["status"] == "warn"
    assert "for ever" in row["found"]
    name = await database.fetchval("select quote_ident(current_database())")
    await database.execute(f"alter database {name} set idle_in_transaction_session_timeout = '3s'")
    assert of(await examined(cuadre, code=0), "sessions") == []


async def test_open_discrepancies(cuadre: Cuadre, provider: Provider) -> None:
    body = order_fixture("order-processed-qr")
    body["transactions"]["refunds"] = [
        {"id": "REF01", "transaction_id": "PAY_NOBODYS", "amount": "1.00", "status": "processed"}
    ]
    provider.orders[ORDER] = body
    await cuadre("sync", ORDER)
    [row] = of(await examined(cuadre, code=0), "discrepancies")
    assert row["status"] == "warn"
    assert "1 refund_without_payment" in row["found"]


async def test_what_cannot_be_read_fails_and_hides_nothing_else(cuadre: Cuadre, database: Database) -> None:
    await database.execute("drop table cuadre.discrepancies")
    document = await examined(cuadre, code=1)
    assert statuses(of(document, "discrepancies")) == {"fail"}
    assert statuses(of(document, "partitions")) == {"ok"}


async def stored_lately(cuadre: Cuadre, provider: Listing, *kinds: str) -> None:
    """One order of each type, created three hours ago and stored."""
    created = (datetime.now(UTC) - timedelta(hours=3)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for number, kind in enumerate(kinds):
        order_id = f"{ORDER[:-1]}{number}"
        dates = {"created_date": created, "last_updated_date": created}
        provider.orders[order_id] = order_fixture("order-processed-qr") | dates | {"id": order_id, "type": kind}
        assert (await cuadre("sync", order_id)).code == 0


async def test_which_types_the_list_shows_is_unknown_until_there_are_orders(cuadre: Cuadre) -> None:
    [row] = of(await examined(cuadre, code=0), "search", "default")
    assert row["status"] == "ok"
    assert row["found"] == "answers; whether it lists orders of type qr is unknown, none of the last week is stored"


async def test_a_list_that_shows_every_type(cuadre: Cuadre, provider: Listing) -> None:
    await stored_lately(cuadre, provider, "qr", "point", "online")
    [row] = of(await examined(cuadre, code=0), "search")
    assert (row["status"], row["found"]) == ("ok", "lists orders of type online, point and qr")


async def test_a_list_that_leaves_out_qr_orders(cuadre: Cuadre, provider: Listing) -> None:
    provider.hides = frozenset({"qr"})
    await stored_lately(cuadre, provider, "qr", "point")
    [row] = of(await examined(cuadre, code=0), "search")
    assert row["status"] == "warn"
    assert row["found"] == "lists orders of type point, none of type qr, of which some are stored"
    assert row["advice"] == (
        "orders of type qr that no notification announced are not found by the sweep; "
        "the certificate does not cover them"
    )


async def test_a_search_that_is_refused_is_told_with_what_follows(cuadre: Cuadre, provider: Listing) -> None:
    provider.list_status = 403
    [row] = of(await examined(cuadre, code=0), "search")
    assert row["status"] == "warn"
    assert "403" in row["found"]
    assert "not found by the sweep" in row["advice"]
