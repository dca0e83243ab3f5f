"""The judge of the chaos runs sees what it is there to see: each of its checks, tampered with, complains."""

import pytest

from service.database.pool import Database
from service.sync.positions import assign_positions
from tests.chaos.judge import CHECKS, Verdict, without_payers
from tests.support.looking import see
from tests.support.orders import paid_order, refunded_order

TAMPERING = {
    "versions with gaps or doubles": "delete from cuadre.order_versions where version = 1",
    "versions without exactly one event": "delete from cuadre.events where type = 'order.changed' and version = 2",
    "events without a position, or not in the order written": "update cuadre.events set position = -position",
    "positions given twice": "update cuadre.events set position = 1",
    "orders that differ from their last version": "update cuadre.orders set status = 'created'",
    "discrepancies whose events do not match": "update cuadre.discrepancies set resolved_at = now()",
    "orders in quarantine": "update cuadre.sync set quarantined_at = now(), quarantine_reason = 'not_found'",
    "orders whose provider's time went backwards":
        "update cuadre.order_versions set updated_at = updated_at - interval '1 day' where version = 2",
}  # fmt: skip


async def complaints(database: Database) -> set[str]:
    return {what for what, check in CHECKS.items() if await database.fetch(check)}


@pytest.mark.parametrize("what", CHECKS)
async def test_a_check_holds_and_complains_when_it_is_tampered_with(database: Database, what: str) -> None:
    wrong = refunded_order(1, "30.00")
    wrong["transactions"]["payments"][0]["refunded_amount"] = "31.00"
    await see(database, paid_order(1))
    await see(database, wrong)
    assert await assign_positions(database)
    assert await complaints(database) == set()
    await database.execute(TAMPERING[what])
    assert what in await complaints(database)


def test_a_verdict_holds_only_with_orders_and_without_loss_and_complaints() -> None:
    assert not Verdict().holds
    assert Verdict(orders=1).holds
    assert not Verdict(orders=1, lost=1).holds
    verdict = Verdict(orders=1)
    verdict.complain("nothing", [])
    assert verdict.holds
    verdict.complain("something", ["one"])
    assert not verdict.holds


def test_payers_are_not_compared() -> None:
    body = {"id": "1", "payer": {"email": "a@b"}, "transactions": {"payments": [{"id": "2", "cardholder": {}}]}}
    assert without_payers(body) == {"id": "1", "transactions": {"payments": [{"id": "2"}]}}
