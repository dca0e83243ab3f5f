"""An order's timeline: everything in the order it happened, each with why."""

from datetime import timedelta
from decimal import Decimal

from service.database.pool import Database
from tests.integration.web.internal_port import InternalPort
from tests.integration.web.web_rows import (
    at,
    order_id,
    put_discrepancy,
    put_fetch,
    put_notification,
    put_version,
    text,
)


async def test_everything_in_order_with_causes_before_effects(port: InternalPort, database: Database) -> None:
    soon = at(10) + timedelta(milliseconds=250)
    await put_fetch(database, 1, claimed_at=at(10), settled_at=soon, cause="notification", notification_id=1)
    failed = {"outcome": "server_error", "detail": "HTTP 502", "version": None}
    await put_fetch(database, 1, claimed_at=at(40), settled_at=at(41), **failed)
    await put_version(
        database, 1, 1, {"status": "created"}, observed_at=at(10), cause="notification", notification_id=1
    )
    await put_version(
        database, 1, 2, {"status": "processed"}, observed_at=at(30), paid_amount=Decimal("100.00"), cause="look"
    )
    await put_notification(database, 1, received_at=at(10), copies=3)
    await put_notification(
        database, 1, received_at=at(20), verified=False, verification="mismatch", order_id=None, action=None,
        topic="payment",
    )  # fmt: skip
    await put_discrepancy(database, 1, opened_at=at(10), resolved_at=at(30))
    await put_notification(database, 2)

    timeline = await port.get(f"/api/v1/orders/{order_id(1)}/timeline")

    assert timeline["order_id"] == order_id(1)
    assert timeline["truncated"] is False
    story = [(entry["at"], entry["kind"], entry["why"]) for entry in timeline["data"]]
    assert story == [
        (text(at(10)), "notification",
         "Mercado Pago said order.processed (told 3 times); signature valid; marked the order due"),
        (text(at(10)), "fetch", "looked because of notification 1: applied as version 1, after 0.250 s"),
        (text(at(10)), "version", "first seen as created; found because of notification 1"),
        (text(at(10)), "discrepancy", "More was given back than was paid."),
        (text(at(20)), "notification",
         "Mercado Pago said payment; signature mismatch; recorded, marks nothing due"),
        (text(at(30)), "version", "status created → processed, paid_amount 0 → 100.00; found because of the schedule"),
        (text(at(30)), "discrepancy", "no longer so: More was given back than was paid."),
        (text(at(40)), "fetch", "looked because of the schedule: server error (HTTP 502), after 1.000 s"),
    ]  # fmt: skip
    changes = [entry["change"] for entry in timeline["data"] if entry["kind"] == "discrepancy"]
    assert changes == ["opened", "resolved"]


async def test_a_long_story_keeps_its_newest_entries_and_says_so(port: InternalPort, database: Database) -> None:
    for number in range(12):
        await put_notification(database, 1, received_at=at(number))
        await put_fetch(database, 1, claimed_at=at(number + 0.5), settled_at=at(number + 0.6))
    whole = (await port.get(f"/api/v1/orders/{order_id(1)}/timeline"))["data"]
    assert len(whole) == 24
    for limit in (1, 5, 23):
        part = await port.get(f"/api/v1/orders/{order_id(1)}/timeline", limit=limit)
        assert part["truncated"] is True
        assert part["data"] == whole[-limit:]
    assert (await port.get(f"/api/v1/orders/{order_id(1)}/timeline", limit=24))["truncated"] is False


async def test_an_order_that_nobody_spoke_of_has_no_story(port: InternalPort) -> None:
    status, error = await port.refused(f"/api/v1/orders/{order_id(1)}/timeline")
    assert (status, error["code"]) == (404, "not_found")
