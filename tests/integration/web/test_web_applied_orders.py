"""The API over rows that the service itself wrote: applied looks, not SQL of the test's."""

from datetime import datetime

from service.database.pool import Database
from service.web.models import time_text
from tests.integration.web.internal_port import InternalPort
from tests.support.looking import see
from tests.support.orders import order, order_id, paid_order, payment_id, refunded_order


async def test_an_order_through_its_life(port: InternalPort, database: Database) -> None:
    moments = []
    for body in (order(1), paid_order(1), refunded_order(1, "40.10")):
        await see(database, body)
        moments.append(await database.fetchval("select clock_timestamp()"))
    name = order_id(1)

    now = await port.get(f"/api/v1/orders/{name}")
    assert (now["version"], now["status"], now["paid_amount"], now["refunded_amount"]) == (
        3, "processed", "100.00", "40.10",
    )  # fmt: skip
    assert [(one["payment_id"], one["status"]) for one in now["payments"]] == [(payment_id(1), "processed")]
    assert [one["amount"] for one in now["refunds"]] == ["40.10"]
    assert now["sync"]["requested"] == now["sync"]["fetched"] == 3

    told = []
    for moment in moments:
        then = await port.get(f"/api/v1/orders/{name}", as_of=time_text(moment))
        told.append((then["version"], then["payments"][0]["status"], len(then["refunds"]), then["refunded_amount"]))
        assert datetime.fromisoformat(then["fetched_at"]) <= moment
        assert then["first_seen_at"] == now["first_seen_at"]
        assert then["user_id"] == now["user_id"]
    assert [one[:3] for one in told] == [(1, "created", 0), (2, "processed", 0), (3, "processed", 1)]

    # The last version as of now and the stored order are one and the same, but for what is not kept per version.
    same = await port.get(f"/api/v1/orders/{name}", as_of=time_text(moments[-1]))
    differing = {key for key in now if now[key] != same[key]}
    assert differing <= {"as_of", "payload_altered", "sync"}

    story = (await port.get(f"/api/v1/orders/{name}/timeline"))["data"]
    assert [entry["version"] for entry in story if entry["kind"] == "version"] == [1, 2, 3]
    assert [entry["outcome"] for entry in story if entry["kind"] == "fetch"] == ["applied"] * 3
    assert all(entry["why"] for entry in story)
    times = [datetime.fromisoformat(entry["at"]) for entry in story]
    assert times == sorted(times)


async def test_a_discrepancy_opens_shows_and_resolves(port: InternalPort, database: Database) -> None:
    broken = refunded_order(2, "40.10")
    broken["transactions"]["payments"][0]["refunded_amount"] = "1.00"
    await see(database, broken)
    (found,) = (await port.get("/api/v1/discrepancies", rule="refunded_amount_mismatch"))["data"]
    assert found["order_id"] == order_id(2)
    assert found["currency"] == "ARS"
    detail = await port.get(f"/api/v1/orders/{order_id(2)}")
    assert "refunded_amount_mismatch" in [one["rule"] for one in detail["discrepancies"]]
    await see(database, refunded_order(2, "40.10", seconds=600))
    assert (await port.get("/api/v1/discrepancies", rule="refunded_amount_mismatch"))["data"] == []
    (resolved,) = (await port.get("/api/v1/discrepancies", rule="refunded_amount_mismatch", state="resolved"))["data"]
    assert resolved["id"] == found["id"]
    assert resolved["resolved_at"] is not None
