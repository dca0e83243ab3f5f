"""What a notification says: query, headers and body, in the shapes of the notifications fact sheet (§2, §6, §7)."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from .draws import Draws
from .ledger import SimulatedOrder
from .money import Json
from .payloads import dump_json, payments_of, records_of

ORDER_AGENT = "MercadoPago WebHook v1.0 order"


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to deliver. `data_id` is what the signature covers; `sign`, `secret` and `url` override the
    usual ones."""

    topic: str
    query: tuple[tuple[str, str], ...]
    body: bytes
    user_agent: str
    data_id: str | None
    order_id: str | None = None
    action: str | None = None
    version: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    sign: str | None = None
    secret: str | None = None
    url: str | None = None


def order_notice(
    order: SimulatedOrder,
    action: str,
    draws: Draws,
    *,
    body_id: str | None = None,
    version: int | None = None,
) -> Notice:
    """The message that announces an order's present state under `action`."""
    view = order.view
    nanoseconds = 5_000_000 + draws.below(300_000_000, "date_created", order.key, order.version)
    integration = view.get("integration_data")
    application_id = integration.get("application_id") if isinstance(integration, dict) else None
    data = _data(view, action) | {"version": order.version if version is None else version}
    data["id"] = order.order_id if body_id is None else body_id
    body = {
        "action": action,
        "api_version": "v1",
        "application_id": application_id,
        "data": dict(sorted(data.items())),
        "date_created": _nanosecond_time(order, nanoseconds),
        "live_mode": not order.order_id.startswith("ORDTST"),
        "type": "order",
        "user_id": view.get("user_id"),
    }
    reference = view.get("external_reference")
    query = [("data.external_reference", str(reference))] if reference is not None else []
    return Notice(
        topic="order",
        query=(*query, ("data.id", order.order_id), ("type", "order")),
        body=dump_json({name: value for name, value in body.items() if value is not None}),
        user_agent=ORDER_AGENT,
        data_id=order.order_id,
        order_id=order.order_id,
        action=action,
        version=order.version,
    )


def unknown_order_notice(order_id: str, action: str, user_id: str, application_id: str, body_id: str | None) -> Notice:
    """A message about an order that does not exist."""
    body = {
        "action": action,
        "api_version": "v1",
        "application_id": application_id,
        "data": {"id": body_id or order_id, "type": "qr", "version": 1},
        "live_mode": True,
        "type": "order",
        "user_id": user_id,
    }
    query = (("data.id", order_id), ("type", "order"))
    return Notice("order", query, dump_json(body), ORDER_AGENT, order_id, order_id=order_id, action=action)


def feed_notice(topic: str, resource_id: str) -> Notice:
    """A legacy message (feed v2.0); its signature cannot be validated, as documented."""
    resource = (
        f"https://api.mercadolibre.com/merchant_orders/{resource_id}" if topic == "merchant_order" else resource_id
    )
    return Notice(
        topic=topic,
        query=(("topic", topic), ("id", resource_id)),
        body=dump_json({"resource": resource, "topic": topic}),
        user_agent=f"MercadoPago Feed v2.0 {topic}",
        data_id=resource_id,
        sign="wrong",
    )


def panel_notice(resource_id: str, user_id: str, application_id: str) -> Notice:
    """The panel's "Simulate" button: top-level id, numeric user, an old date, signed verbatim."""
    body = {
        "action": "order.action_required",
        "api_version": "v1",
        "application_id": application_id,
        "date_created": "2021-11-01T02:02:02Z",
        "id": resource_id,
        "live_mode": False,
        "type": "order",
        "user_id": int(user_id) if user_id.isdigit() else user_id,
        "data": {"id": resource_id},
    }
    return Notice(
        topic="order",
        query=(("data.id", resource_id), ("type", "order")),
        body=dump_json(body),
        user_agent="restclient-node/5.1.10",
        data_id=resource_id,
        action="order.action_required",
        sign="verbatim",
    )


def webhook_notice(topic: str, action: str, resource_id: str, user_id: str, number: int, at_text: str) -> Notice:
    """A webhook of another topic (`payment`, `mp-connect`, ...), with its top-level id."""
    body = {
        "id": number,
        "live_mode": True,
        "type": topic,
        "date_created": at_text,
        "user_id": user_id,
        "api_version": "v1",
        "action": action,
        "data": {"id": resource_id},
    }
    return Notice(
        topic=topic,
        query=(("data.id", resource_id), ("type", topic)),
        body=dump_json(body),
        user_agent=f"MercadoPago WebHook v1.0 {topic}",
        data_id=resource_id,
        action=action,
    )


def _data(view: Json, action: str) -> Json:
    """The partial order of one event: which members it carries differs by type and event, as documented."""
    kind, event = view.get("type"), action.removeprefix("order.")
    names = ["external_reference", "status", "status_detail", "type"]
    if event == "charged_back":
        cases = [
            {name: value for name, value in case.items() if name != "references"}
            for case in records_of(view, "chargebacks")
        ]
        return _picked(view, names) | {"transactions": {"chargebacks": cases}}
    if kind == "online":
        data = _picked(view, [*names, "total_amount", "total_paid_amount"])
        if "currency" in view:
            data["currency_id"] = view["currency"]
        return data | _payments(view)
    if kind == "point":
        data = _picked(view, [*names, *(["total_paid_amount"] if event in {"processed", "refunded"} else [])])
        if event != "action_required":
            return data | _payments(view)
        details = [payment["status_detail"] for payment in payments_of(view) if "status_detail" in payment]
        return data | ({"status_detail": details[0]} if details else {})
    if event in {"canceled", "expired"}:
        return _picked(view, [*names, "total_amount"])
    data = _picked(view, [*names, "total_amount", "total_paid_amount"])
    return data if event == "refunded" else data | _payments(view)


def _picked(view: Json, names: list[str]) -> Json:
    return {name: view[name] for name in names if name in view}


def _payments(view: Json) -> Json:
    payments = [_payment(payment) for payment in payments_of(view)]
    return {"transactions": {"payments": payments}} if payments else {}


def _payment(payment: Json) -> Json:
    said = _picked(payment, ["amount", "id", "status", "status_detail"])
    if "paid_amount" in payment and payment.get("status") != "failed":
        said["paid_amount"] = payment["paid_amount"]
    method = payment.get("payment_method")
    if isinstance(method, dict):
        said["payment_method"] = {
            "id": method.get("id"),
            "installments": method.get("installments", 0),
            "type": method.get("type"),
        }
    if "reference_id" in payment:
        said["reference"] = {"id": payment["reference_id"]}
    return dict(sorted(said.items()))


def _nanosecond_time(order: SimulatedOrder, nanoseconds: int) -> str:
    """`last_updated_date` plus some nanoseconds, without trailing zeros, as the provider does (9 or 8 digits)."""
    at = order.updated_at + timedelta(seconds=nanoseconds // 10**9)
    whole = at.microsecond * 1000 + nanoseconds % 10**9
    at += timedelta(seconds=whole // 10**9)
    fraction = f"{whole % 10**9:09d}".rstrip("0")
    return at.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "") + "Z"


def as_query(value: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """A JSON object as query pairs."""
    return tuple((str(name), str(item)) for name, item in value.items())
