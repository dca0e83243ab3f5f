"""`cuadre reconcile`: says what it changes, or would change, in words and in JSON, and by its exit code."""

import pytest

from service.database.pool import Database
from tests.integration.cli.cli_support import Cuadre
from tests.support.looking import open_discrepancies, see
from tests.support.orders import order, order_id, paid_order, payment_id, refunded_order

FALSE = (order_id(2), "refund_failed", "REFX")


async def tamper(database: Database) -> set[tuple[str, str, str]]:
    """Three orders; one true discrepancy is gone and a false one stands. Returns what is true."""
    wrong = refunded_order(1, "30.00")
    wrong["transactions"]["payments"][0]["refunded_amount"] = "10.00"
    await see(database, wrong, paid_order(2), order(3))
    true = await open_discrepancies(database)
    await database.execute("delete from cuadre.discrepancies")
    await database.execute(
        "insert into cuadre.discrepancies (order_id, account, rule, subject_id, severity, expected, actual, "
        "explanation, opened_at, refreshed_at) values ($1, 'default', $2, $3, 'critical', '', '', 'F.', now(), now())",
        *FALSE,
    )
    return true


async def test_a_dry_run_says_it_and_leaves_it(database: Database, cuadre: Cuadre) -> None:
    true = await tamper(database)
    result = await cuadre("reconcile", "--dry-run")
    assert result.code == 3
    words = [" ".join(line.split()) for line in result.out.splitlines()]
    opens = f"{order_id(1)} refunded_amount_mismatch {payment_id(1)} would open Mercado Pago says that 10.00 ARS"
    assert any(line.startswith(opens) for line in words)
    assert f"{' '.join(FALSE)} would close F." in words
    assert "refunded_amount_mismatch 1 0 0" in words
    assert "refund_failed 0 0 1" in words
    assert words[-1] == "3 orders judged: 1 would be opened, 0 would be refreshed, 1 would be resolved"
    assert result.err == ""
    assert await open_discrepancies(database) == {FALSE}
    assert (await cuadre("reconcile")).code == 3
    assert await open_discrepancies(database) == true


async def test_after_it_all_is_clean(database: Database, cuadre: Cuadre) -> None:
    await tamper(database)
    document = (await cuadre("reconcile", "--format", "json")).json()
    assert (document["dry_run"], document["orders"], document["unreadable"], document["more"]) == (False, 3, 0, 0)
    assert document["rules"] == {
        "refunded_amount_mismatch": {"opened": 1, "refreshed": 0, "resolved": 0},
        "refund_failed": {"opened": 0, "refreshed": 0, "resolved": 1},
    }
    by_change = {one["change"]: one for one in document["data"]}
    assert by_change["resolved"]["order_id"] == order_id(2)
    assert by_change["opened"] | {"explanation": ""} == {
        "change": "opened", "order_id": order_id(1), "account": "default", "rule": "refunded_amount_mismatch",
        "subject_id": payment_id(1), "severity": "warning", "amount_at_stake": "20.00", "currency": "ARS",
        "expected": "refunded_amount 30.00 ARS", "actual": "refunded_amount 10.00 ARS", "explanation": "",
    }  # fmt: skip
    again = await cuadre("reconcile")
    assert (again.code, again.out) == (0, "3 orders judged: every discrepancy is as it should be\n")
    assert (await cuadre("reconcile", "--format", "json")).json()["rules"] == {}
    assert await database.fetchval("select count(*) from cuadre.events where position is null") == 0


async def test_an_empty_database_is_clean(cuadre: Cuadre) -> None:
    result = await cuadre("reconcile", "--account", "default")
    assert (result.code, result.out) == (0, "0 orders judged: every discrepancy is as it should be\n")


async def test_what_cannot_be_read_is_an_error(database: Database, cuadre: Cuadre) -> None:
    await see(database, order(1))
    await database.execute("update cuadre.orders set payload = '{}'")
    result = await cuadre("reconcile")
    assert result.code == 1
    assert "1 stored orders cannot be read" in result.err
    assert order_id(1) in result.err


async def test_a_long_list_is_cut_and_counted_whole(
    database: Database, cuadre: Cuadre, environment: pytest.MonkeyPatch
) -> None:
    await tamper(database)
    environment.setattr("service.cli.reconcile.MOST_LISTED", 1)
    document = (await cuadre("reconcile", "--dry-run", "--format", "json")).json()
    assert (len(document["data"]), document["more"], len(document["rules"])) == (1, 1, 2)
    assert "only the first 1 changes are listed; 1 more are counted" in (await cuadre("reconcile", "--dry-run")).err


async def test_an_account_that_is_not_configured_is_a_mistake(cuadre: Cuadre) -> None:
    result = await cuadre("reconcile", "--account", "tienda")
    assert result.code == 2
    assert "no account of that name is configured; there are default" in result.err
