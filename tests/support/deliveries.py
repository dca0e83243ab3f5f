"""Deliveries for the real recorder, without HTTP."""

import json

from service.intake.record import Delivery
from service.mercadopago.notification import copy_key, parse
from service.mercadopago.signature import Verification


def delivery(order_id: str, *, verified: bool, account: str = "default", version: int = 1) -> Delivery:
    """A notification that `order_id` changed; another `version` is another notification."""
    body = json.dumps(
        {"action": "order.processed", "type": "order", "data": {"id": order_id, "version": version}}
    ).encode()
    notification = parse([("data.id", order_id), ("type", "order")], body)
    result = Verification("valid", "lower", 0, 1.0) if verified else Verification("mismatch", None, None, 1.0)
    return Delivery(
        account=account,
        notification=notification,
        verification=result,
        refused=False,
        copy_key=copy_key(account, verified, notification, body),
        path="/webhooks/mercadopago",
        query="{}",
        headers="{}",
        body=notification.body_text,
        body_altered=False,
    )
