"""`cuadre notifications explain|signatures|unverified` and `cuadre quarantine explain`: why, and what to do."""

import json
import time

import pytest

from service.accounts import AccountBook
from service.database.pool import Database
from service.intake.receive import Intake, RawDelivery
from service.intake.record import NotificationRecorder
from service.mercadopago.account import Account, SignaturePolicy
from tests.integration.cli.cli_support import FIXTURES, SECRET, Cuadre, Provider, order_fixture
from tests.support.public_port import signature

ORDER = "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"
BODY = (FIXTURES / "notifications" / "order.processed.qr.json").read_bytes()


async def deliver(
    database: Database,
    headers: dict[str, str],
    *,
    policy: SignaturePolicy = "report",
    secret: str = SECRET,
    version: int = 1,
) -> int:
    """One delivery through the intake; the number of its notification. Another version is no copy."""
    body = json.loads(BODY)
    body["data"]["version"] = version
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    accounts = AccountBook([Account("default", webhook_secrets=(secret,), signature_policy=policy)])
    intake = Intake(recorder, lambda: accounts, ack_timeout_seconds=10)
    await intake.receive(
        RawDelivery(
            account_name=None, path="/webhooks/mercadopago", query=[("data.id", ORDER), ("type", "order")],
            headers=list(headers.items()), body=json.dumps(body).encode(), received_at=time.monotonic(),
        )
    )  # fmt: skip
    await recorder.close()
    number: int = await database.fetchval("select max(id) from cuadre.notifications")
    return number


async def test_a_signature_that_matches_is_explained(cuadre: Cuadre, database: Database) -> None:
    number = await deliver(database, signature(ORDER, secret=SECRET))
    result = await cuadre("notifications", "explain", str(number))
    assert result.code == 0
    assert "matched  secret 1 of account default: query data.id, lower; ts as given; with request id" in result.out
    assert "as real deliveries do" in result.out
    document = (await cuadre("notifications", "explain", str(number), "--format", "json")).json()
    assert (document["verification"], document["verdict"], document["secrets"]) == ("valid", "valid", 1)
    [match] = document["matches"]
    assert (match["account"], match["secret_index"], match["casing"]) == ("default", 0, "lower")
    digest = signature(ORDER, secret=SECRET)["X-Signature"].rpartition("=")[2]
    assert digest not in result.out
    assert len(document["signature"]["digest_begins"]) == 9


async def test_a_refused_sample_signed_with_another_accounts_secret_is_explained(
    cuadre: Cuadre, database: Database, environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    number = await deliver(database, signature(ORDER, secret=SECRET), policy="required", secret="the-own-one")
    assert await database.fetchval("select refused from cuadre.notifications where id = $1", number) is True
    accounts = tmp_path_factory.mktemp("accounts") / "accounts.json"
    accounts.write_text(
        json.dumps([
            {"name": "default", "access_token": "a", "webhook_secrets": ["the-own-one"]},
            {"name": "shop-b", "access_token": "b", "webhook_secrets": [SECRET]},
        ])
    )  # fmt: skip
    environment.setenv("CUADRE_ACCOUNTS_FILE", str(accounts))
    result = await cuadre("notifications", "explain", str(number))
    assert result.code == 0
    assert "signed with secret number 1 of account shop-b" in result.out
    assert "the-own-one" not in result.out


async def test_what_nobody_here_signed_says_what_to_do(cuadre: Cuadre, database: Database) -> None:
    number = await deliver(database, signature(ORDER, secret="somebody-elses"))
    result = await cuadre("notifications", "explain", str(number))
    assert "nothing matched" in result.out
    assert "webhook_secrets" in result.out or "test credentials" in result.out
    unsigned = await deliver(database, {}, version=2)
    assert "unsigned" in (await cuadre("notifications", "explain", str(unsigned))).out


async def test_an_unknown_number_is_an_error(cuadre: Cuadre) -> None:
    result = await cuadre("notifications", "explain", "999")
    assert (result.code, result.out) == (1, "")
    assert "no notification 999" in result.err


async def test_signatures_are_counted_by_account_application_and_result(cuadre: Cuadre, database: Database) -> None:
    assert "no notifications since" in (await cuadre("notifications", "signatures")).out
    for _ in range(3):
        await deliver(database, signature(ORDER, secret=SECRET))
    await deliver(database, signature(ORDER, secret="somebody-elses"), version=2)
    await deliver(database, {}, policy="required", version=3)
    rows = (await cuadre("notifications", "signatures", "--format", "json")).json()["data"]
    application = json.loads(BODY)["application_id"]
    assert [
        (row["account"], row["application_id"], row["verification"], row["manifest"], row["deliveries"], row["share"])
        for row in rows
    ] == [
        ("default", application, "valid", "lower", 3, 0.75),
        ("default", application, "mismatch", "", 1, 0.25),
        ("default", application, "missing", "", 1, None),
    ]
    table = await cuadre("notifications", "signatures")
    assert "75.0%" in table.out
    assert "missing, refused (a sample)" in table.out
    assert (await cuadre("notifications", "signatures", "--account", "nobody", "--format", "json")).json()["data"] == []
    later = await cuadre("notifications", "signatures", "--since", "2099-01-01T00:00:00Z")
    assert "no notifications since 2099" in later.out


async def test_unverified_ones_are_grouped_with_one_to_look_at(cuadre: Cuadre, database: Database) -> None:
    assert "nothing came unverified" in (await cuadre("notifications", "unverified")).out
    await deliver(database, signature(ORDER, secret=SECRET))
    await deliver(database, {})
    await deliver(database, {})
    await deliver(database, signature(ORDER, secret="somebody-elses"), version=2)
    result = await cuadre("notifications", "unverified")
    assert result.code == 0
    document = (await cuadre("notifications", "unverified", "--format", "json")).json()
    assert [(row["verification"], row["deliveries"], row["orders"]) for row in document["data"]] == [
        ("missing", 2, 1),
        ("mismatch", 1, 1),
    ]
    assert f"cuadre notifications explain {document['data'][0]['latest']}" in result.err


async def test_an_order_in_quarantine_is_explained(cuadre: Cuadre, provider: Provider) -> None:
    provider.orders[ORDER] = order_fixture("order-processed-qr", total_amount="-5.00")
    assert (await cuadre("quarantine", "explain", ORDER)).code == 1
    for _ in range(5):
        await cuadre("sync", ORDER)
    result = await cuadre("quarantine", "explain", ORDER)
    assert result.code == 0
    for words in ("unreadable", "update Cuadre", f"cuadre quarantine retry {ORDER}", "an amount must not be negative"):
        assert words in result.out
    document = (await cuadre("quarantine", "explain", ORDER, "--format", "json")).json()
    assert (document["reason"], document["stored"], len(document["looks"])) == ("unreadable", False, 5)
    assert document["unreadable"]["begins"].startswith("{")
    assert len(document["unreadable"]["begins"]) <= 600
    assert document["what_to_do"][-1] == f"then: cuadre quarantine retry {ORDER}"
