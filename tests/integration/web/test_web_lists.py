"""Discrepancies, notifications and quarantine over the API: filters and pages."""

from typing import Any

from service.database.pool import Database
from tests.integration.web.internal_port import InternalPort
from tests.integration.web.web_rows import at, order_id, put_discrepancy, put_notification, put_quarantined, text


async def test_discrepancies_are_the_open_ones_unless_asked(port: InternalPort, database: Database) -> None:
    await put_discrepancy(database, 1)
    await put_discrepancy(database, 2, resolved_at=at(9), note="refunded by hand")
    await put_discrepancy(database, 3, account="second", rule="duplicate_sale", amount_at_stake=None)

    async def numbers(**params: str) -> list[str]:
        page = await port.get("/api/v1/discrepancies", **params)
        return [row["order_id"][-1] for row in page["data"]]

    assert await numbers() == ["3", "1"]
    assert await numbers(state="open") == ["3", "1"]
    assert await numbers(state="resolved") == ["2"]
    assert await numbers(state="all") == ["3", "2", "1"]
    assert await numbers(rule="duplicate_sale") == ["3"]
    assert await numbers(account="default", state="all") == ["2", "1"]
    assert await numbers(order_id=order_id(1)) == ["1"]
    row = (await port.get("/api/v1/discrepancies", state="resolved"))["data"][0]
    assert row["amount_at_stake"] == "2.50"
    assert row["resolved_at"] == text(at(9))
    assert row["note"] == "refunded by hand"
    status, error = await port.refused("/api/v1/discrepancies", state="closed")
    assert (status, error["details"][0]["field"]) == (400, "state")
    status, error = await port.refused("/api/v1/discrepancies", rule="nope")
    assert (status, error["details"][0]["field"]) == (400, "rule")
    assert "refund_without_payment" in error["message"]
    assert await numbers(rule="") == await numbers(), "an empty filter filters nothing"


async def test_notifications_by_every_filter_and_by_id(port: InternalPort, database: Database) -> None:
    await put_notification(database, 1, body='{"amount": 1.10, "big": 123456789012345678901234567890}')
    await put_notification(database, 2, verified=False, verification="mismatch", account="second")
    about = {"topic": "payment", "action": "order.canceled", "order_id": None, "resource_id": "987"}
    await put_notification(database, 3, **about, body=None)
    # Another month's partition: the default one.
    await put_notification(database, 4, received_at=at(-90 * 86400))

    async def numbers(**params: str) -> list[str]:
        rows = await port.page_through("/api/v1/notifications", limit=2, **params)
        return [str(row["received_at"]) for row in rows]

    one, two, three, four = (text(at(seconds)) for seconds in (1, 2, 3, -90 * 86400))
    assert await numbers() == [four, three, two, one]
    assert await numbers(account="second") == [two]
    assert await numbers(topic="payment") == [three]
    assert await numbers(resource_id="987") == [three]
    assert await numbers(order_id=order_id(1)) == [one]
    assert await numbers(verified="false") == [two]
    assert await numbers(verified="true") == [four, three, one]
    assert await numbers(verification="mismatch") == [two]
    assert await numbers(verification="malformed") == []
    assert await numbers(verification="") == await numbers(action="") == await numbers()
    assert await numbers(action="order.canceled") == [three]
    for name, value in (("verification", "good"), ("action", "\0")):
        status, error = await port.refused("/api/v1/notifications", **{name: value})
        assert (status, error["details"][0]["field"]) == (400, name)
    assert await numbers(since=one) == [three, two, one]
    row = (await port.get("/api/v1/notifications", topic="payment"))["data"][0]
    assert row["body"] is None
    async with port.client.get("/api/v1/notifications/1") as answer:
        body = await answer.text()
        assert '"amount": 1.10' in body
        assert "123456789012345678901234567890" in body
    assert (await port.get("/api/v1/notifications/1"))["id"] == 1
    assert (await port.refused("/api/v1/notifications/77"))[0] == 404
    assert (await port.refused("/api/v1/notifications/99999999999999999999"))[0] == 404
    assert (await port.refused("/api/v1/notifications/None"))[0] == 404


async def test_quarantine_latest_first_in_pages(port: InternalPort, database: Database) -> None:
    for number in range(7):
        reason = "unreadable" if number % 2 else "not_found"
        await put_quarantined(database, number, quarantined_at=at(number // 3), quarantine_reason=reason)
    await put_quarantined(database, 50, quarantined_at=None)
    whole = (await port.get("/api/v1/quarantine"))["data"]
    assert [int(row["order_id"][-2:]) for row in whole] == [6, 5, 4, 3, 2, 1, 0]
    for limit in (1, 2, 3, 7):
        assert await port.page_through("/api/v1/quarantine", limit=limit) == whole
    unreadable: list[Any] = await port.page_through("/api/v1/quarantine", reason="unreadable", limit=2)
    assert [int(row["order_id"][-2:]) for row in unreadable] == [5, 3, 1]
    assert await port.page_through("/api/v1/quarantine", account="second") == []


async def test_pages_by_id_are_the_whole_list(port: InternalPort, database: Database) -> None:
    for number in range(11):
        await put_discrepancy(database, number, subject_id=str(number))
        await put_notification(database, number)
    for path in ("/api/v1/discrepancies", "/api/v1/notifications"):
        whole = (await port.get(path))["data"]
        assert [row["id"] for row in whole] == sorted((row["id"] for row in whole), reverse=True)
        for limit in (1, 4, 10, 11):
            assert await port.page_through(path, limit=limit) == whole
        first = await port.get(path, limit=5)
        await put_discrepancy(database, 99, subject_id=path)
        await put_notification(database, 99, path=path)
        assert first["data"] + await port.page_through(path, limit=3, cursor=first["next_cursor"]) == whole
