"""The reading commands, on rows that came the real way: through `cuadre sync` and through the intake."""

import json
import time

import pytest

from service.accounts import AccountBook
from service.database.pool import Database
from service.intake.receive import Intake, RawDelivery
from service.intake.record import NotificationRecorder
from service.mercadopago.account import Account
from tests.integration.cli.cli_support import FIXTURES, USER_ID, Cuadre, Provider, order_fixture

ORDER = "ORD01M2G3K2XF0W7YQHBTWEK4BXB9"
PAYMENT = "PAY01M2G3K2XVNDNZW0HT17NR7YY0"
REFUNDED = "ORD01M2G821RXB2271YK133A9R40K"
UNKNOWN = "ORD01M2G0000000000000000000XX"


@pytest.fixture(autouse=True)
def orders(provider: Provider) -> None:
    provider.orders = {
        ORDER: order_fixture("order-processed-qr"),
        REFUNDED: order_fixture("order-partially-refunded-qr", external_reference="ma\u00f1ana \x1b[31m[red]"),
    }


async def deliver(database: Database, fixture: str, *, order_id: str, headers: dict[str, str] | None = None) -> None:
    """One delivery through the intake, unsigned unless `headers` say otherwise."""
    recorder = NotificationRecorder(database, on_committed=lambda: None)
    accounts = AccountBook([Account("default", user_id=USER_ID, webhook_secrets=("s",))])
    intake = Intake(recorder, lambda: accounts, ack_timeout_seconds=10)
    answer = await intake.receive(
        RawDelivery(
            account_name=None,
            path="/webhooks/mercadopago",
            query=[("data.id", order_id), ("type", "order")],
            headers=list((headers or {}).items()),
            body=(FIXTURES / "notifications" / f"{fixture}.json").read_bytes(),
            received_at=time.monotonic(),
        )
    )
    assert answer.status == 200
    await recorder.close()


def refunded_beyond(amount: str) -> dict[str, object]:
    """The processed order with a refund of more than was paid, and nothing else that says so."""
    body = order_fixture("order-processed-qr", last_updated_date="2026-09-14T15:00:00.000Z")
    body["transactions"]["refunds"] = [
        {"id": "REF01M2G3K2XVNDNZW0HT17NR7YY1", "transaction_id": PAYMENT, "amount": amount, "status": "processed"}
    ]
    return body


async def test_orders_are_listed_newest_change_first_and_filtered(cuadre: Cuadre) -> None:
    assert (await cuadre("sync", ORDER, REFUNDED)).code == 0
    table = await cuadre("orders", "list")
    assert table.code == 0
    lines = table.out.splitlines()
    assert lines[0].split()[0] == "ORDER"
    assert [line.split()[0] for line in lines[1:]] == [REFUNDED, ORDER]
    assert "1425.00 ARS" in lines[2]
    everything = (await cuadre("orders", "list", "--format", "json")).json()
    assert everything["more"] is False
    assert [one["order_id"] for one in everything["data"]] == [REFUNDED, ORDER]
    assert everything["data"][1]["paid_amount"] == "1425.00"
    assert everything["data"][1]["updated_at"] == "2026-09-14T14:02:42.125000Z"
    for options, expected in (
        (["--status", "processed", "--limit", "1"], [REFUNDED]),
        (["--external-reference", "POS7-20260914-000190"], [ORDER]),
        (["--account", "nobody"], []),
        (["--type", "qr", "--updated-since", "2026-09-14T14:03:00Z"], [REFUNDED]),
    ):
        found = (await cuadre("orders", "list", *options, "--format", "json")).json()
        assert [one["order_id"] for one in found["data"]] == expected, options
    assert (await cuadre("orders", "list", "--account", "nobody")).out == "no orders\n"
    cut = await cuadre("orders", "list", "--limit", "1")
    assert "only the first 1" in cut.err


async def test_an_order_is_shown_with_its_parts_and_without_control_characters(cuadre: Cuadre) -> None:
    await cuadre("sync", REFUNDED)
    shown = await cuadre("orders", "show", REFUNDED)
    assert shown.code == 0
    assert "\x1b" not in shown.out
    assert "ma\u00f1ana \ufffd[31m[red]" in shown.out
    assert "everything adds up" in shown.out
    assert "refunds\n" in shown.out
    document = (await cuadre("orders", "show", REFUNDED, "--format", "json")).json()
    assert document["order_id"] == REFUNDED
    assert {"payments", "refunds", "chargebacks", "cash_outs", "discrepancies", "sync", "payload"} <= document.keys()
    assert "timeline" not in document


async def test_an_order_as_it_was_stored_at_a_time(cuadre: Cuadre, provider: Provider, database: Database) -> None:
    await cuadre("sync", ORDER)
    between = await database.fetchval("select now()")
    provider.orders[ORDER] = refunded_beyond("1425.00")
    await cuadre("sync", ORDER)
    now = (await cuadre("orders", "show", ORDER, "--format", "json")).json()
    then = (await cuadre("orders", "show", ORDER, "--as-of", between.isoformat(), "--format", "json")).json()
    assert (now["version"], len(now["refunds"])) == (2, 1)
    assert (then["version"], len(then["refunds"])) == (1, 0)
    never = await cuadre("orders", "show", ORDER, "--as-of", "2020-01-01T00:00:00Z")
    assert never.code == 1
    assert "not stored here at that time" in never.err
    unclear = await cuadre("orders", "show", ORDER, "--as-of", "yesterday")
    assert unclear.code == 2


async def test_a_timeline_says_why(cuadre: Cuadre, database: Database) -> None:
    await deliver(database, "order.processed.qr", order_id=ORDER)
    await cuadre("sync", ORDER)
    shown = await cuadre("orders", "show", ORDER, "--timeline")
    assert shown.code == 0
    assert "signature missing" in shown.out
    document = (await cuadre("orders", "show", ORDER, "--timeline", "--format", "json")).json()
    assert document["order_id"] == ORDER
    assert [entry["kind"] for entry in document["timeline"]["data"]] == ["notification", "fetch", "version"]


async def test_an_unknown_order_is_an_error_and_its_timeline_may_still_tell(cuadre: Cuadre) -> None:
    nothing = await cuadre("orders", "show", UNKNOWN)
    assert nothing.code == 1
    assert nothing.out == ""
    assert nothing.err == f"cuadre: no order {UNKNOWN} is stored here; try: cuadre sync {UNKNOWN}\n"
    silent = await cuadre("orders", "show", UNKNOWN, "--timeline")
    assert (silent.code, silent.out) == (1, "")
    await cuadre("sync", UNKNOWN)
    told = await cuadre("orders", "show", UNKNOWN, "--timeline", "--format", "json")
    assert told.code == 1
    assert [entry["outcome"] for entry in told.json()["timeline"]["data"]] == ["not_found"]
    assert "is not stored" in told.err


async def test_notifications_are_listed_and_shown(cuadre: Cuadre, database: Database) -> None:
    await deliver(database, "order.processed.qr", order_id=ORDER, headers={"X-Request-Id": "r-1"})
    await deliver(database, "order.processed.qr", order_id=ORDER)
    await deliver(database, "order.canceled.qr", order_id=REFUNDED)
    listed = (await cuadre("notifications", "list", "--format", "json")).json()
    assert [(one["order_id"], one["copies"]) for one in listed["data"]] == [(REFUNDED, 1), (ORDER, 2)]
    number = listed["data"][1]["id"]
    of_order = (await cuadre("notifications", "list", "--order", ORDER, "--format", "json")).json()
    assert [one["id"] for one in of_order["data"]] == [number]
    verified = (await cuadre("notifications", "list", "--verified", "--format", "json")).json()
    assert verified == {"data": [], "more": False}
    table = await cuadre("notifications", "list", "--unverified")
    assert ORDER in table.out
    shown = await cuadre("notifications", "show", str(number))
    assert shown.code == 0
    assert "missing" in shown.out
    assert "r-1" in shown.out
    document = (await cuadre("notifications", "show", str(number), "--format", "json")).json()
    assert document["verification"] == "missing"
    assert document["body"]["data"]["id"]
    unknown = await cuadre("notifications", "show", "999999")
    assert unknown.code == 1
    assert "no notification 999999 is stored here" in unknown.err
    assert (await cuadre("notifications", "show", "x")).code == 2


async def test_open_discrepancies_end_with_3_and_resolved_ones_with_0(cuadre: Cuadre, provider: Provider) -> None:
    clean = await cuadre("discrepancies")
    assert (clean.code, clean.out) == (0, "nothing to list\n")
    provider.orders[ORDER] = refunded_beyond("1500.00")
    await cuadre("sync", ORDER)
    found = await cuadre("discrepancies")
    assert found.code == 3
    assert "refunds_exceed_paid" in found.out
    document = await cuadre("discrepancies", "--rule", "refunds_exceed_paid", "--format", "json")
    assert document.code == 3
    [one] = document.json()["data"]
    assert (one["order_id"], one["subject_id"], one["resolved_at"]) == (ORDER, PAYMENT, None)
    assert isinstance(one["amount_at_stake"], str)
    assert (await cuadre("discrepancies", "--account", "nobody")).code == 0
    assert (await cuadre("discrepancies", "--state", "resolved")).code == 0
    assert (await cuadre("discrepancies", "--state", "all")).code == 3
    assert (await cuadre("discrepancies", "--rule", "no_such_rule")).code == 2
    whole = order_fixture("order-processed-qr", last_updated_date="2026-09-14T16:00:00.000Z")
    whole["transactions"]["refunds"] = []
    provider.orders[ORDER] = whole
    await cuadre("sync", ORDER)
    resolved = await cuadre("discrepancies", "--state", "resolved", "--rule", "refunds_exceed_paid")
    assert resolved.code == 0
    assert "resolved" in resolved.out


async def test_quarantine_is_listed_shown_and_retried(cuadre: Cuadre, provider: Provider, database: Database) -> None:
    assert (await cuadre("quarantine")).out == "quarantine is empty\n"
    provider.orders[ORDER] = json.dumps(order_fixture("order-processed-qr", total_amount="-5.00"))
    for _ in range(5):
        await cuadre("sync", ORDER)
    listed = await cuadre("quarantine")
    assert listed.code == 0
    assert ORDER in listed.out
    assert "unreadable" in listed.out
    document = (await cuadre("quarantine", "--format", "json")).json()
    assert [one["quarantine_reason"] for one in document["data"]] == ["unreadable"]
    assert (await cuadre("quarantine", "list", "--reason", "not_found", "--format", "json")).json()["data"] == []
    shown = await cuadre("quarantine", "show", ORDER)
    assert '"total_amount": "-5.00"' in shown.out
    detail = (await cuadre("quarantine", "show", ORDER, "--format", "json")).json()
    assert json.loads(detail["unreadable"]["body"])["total_amount"] == "-5.00"
    assert len(detail["timeline"]["data"]) == 5
    assert (await cuadre("quarantine", "show", REFUNDED)).code == 1
    mixed = await cuadre("quarantine", "retry", ORDER, REFUNDED)
    assert mixed.code == 1
    assert mixed.out == f"{ORDER}  marked due\n"
    assert f"order {REFUNDED} is not in quarantine" in mixed.err
    row = await database.fetchrow("select due_at <= now() as due, requested > fetched as owed from cuadre.sync")
    assert row is not None
    assert dict(row) == {"due": True, "owed": True}
    provider.orders[ORDER] = order_fixture("order-processed-qr")
    assert (await cuadre("sync", ORDER)).code == 0
    assert (await cuadre("quarantine")).out == "quarantine is empty\n"


@pytest.mark.parametrize("arguments", [["orders"], ["notifications"], ["orders", "show"], ["orders", "show", "a/b"]])
async def test_usage_errors_end_with_2(cuadre: Cuadre, arguments: list[str]) -> None:
    result = await cuadre(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "Usage: cuadre" in result.err
