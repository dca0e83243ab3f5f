"""What Mercado Pago shows no longer, what its list leaves out, and payments of orders in the Payments API."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

Simulator = Any
Start = Callable[..., Awaitable[Simulator]]


async def test_an_order_is_shown_for_so_many_days(simulator: Simulator) -> None:
    order = await simulator.order(status="processed")
    await simulator.control("rules", {"orders_shown_days": 90})
    assert (await simulator.api("GET", f"/v1/orders/{order['id']}"))[0] == 200

    await simulator.control("clock", {"advance_seconds": 91 * 86400})

    assert (await simulator.api("GET", f"/v1/orders/{order['id']}"))[0] == 404


async def test_its_payment_is_read_by_the_reference(simulator: Simulator) -> None:
    order = await simulator.order(status="processed", total_amount="50.00")
    payment = order["transactions"]["payments"][0]
    await simulator.control(f"orders/{order['id']}/refund", {"amount": "20.00"})

    status, shown = await simulator.api("GET", f"/v1/payments/{payment['reference_id']}")

    assert status == 200
    assert (shown["status"], shown["status_detail"]) == ("approved", "partially_refunded")
    assert (shown["transaction_amount"], shown["transaction_amount_refunded"]) == (50, 20)
    assert [(one["amount"], one["status"]) for one in shown["refunds"]] == [(20, "approved")]
    refunds = (await simulator.api("GET", f"/v1/orders/{order['id']}"))[1]["transactions"]["refunds"]
    assert [str(one["id"]) for one in shown["refunds"]] == [one["reference_id"] for one in refunds]


async def test_an_unpaid_payment_is_no_money(simulator: Simulator) -> None:
    order = await simulator.order(type="online", status="failed", total_amount="50.00")
    reference = order["transactions"]["payments"][0].get("reference_id", "none")

    status, shown = await simulator.api("GET", f"/v1/payments/{reference}")

    assert (status, shown.get("status")) in {(200, "rejected"), (404, 404)}


async def test_the_list_may_leave_a_type_out(simulator: Simulator) -> None:
    online = await simulator.order(type="online")
    await simulator.order(type="qr")
    await simulator.control("rules", {"search_lists": ["online"]})
    now = datetime.now(UTC)
    window = {"begin_date": _text(now - timedelta(days=1)), "end_date": _text(now + timedelta(days=1))}

    status, found = await simulator.api("GET", "/v1/orders", params=window)

    assert status == 200
    assert [one["id"] for one in found["data"]] == [online["id"]]


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
