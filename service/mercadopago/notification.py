"""What a notification says: which resource changed, under which topic, for whose account.

A notification is a hint, so little is asked of it: JSON, and an id or a topic. Of the shapes the provider sends
(webhook, legacy feed, IPN, panel simulation) all are read here. Nothing is ever taken from it but the names; what is
true is fetched. Sources: fact sheet of the notifications §1, §2, §6, §7; outward contract "Intake".
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from service.mercadopago.json_text import NotJson, clean_text, parse_json

ORDER_TOPIC = "order"
# Chargebacks of orders come under this topic, with a body of type `order` (fact sheet §2.1, §6).
_CHARGEBACK_TOPIC = "topic_chargebacks_wh"
# The legacy attended QR's notices, by topic, and what a look at the number they bear is called (fact sheet §6, §7):
# feed, IPN and webhook forms alike.
_LEGACY_PREFIXES = {
    "merchant_order": "MO",
    "topic_merchant_order_wh": "MO",
    "payment": "PY",
}
_MAX_WORD = 64
_MAX_VERSION = 2**31 - 1

_RESOURCE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ORDER_ID = re.compile(r"(ORD|PPORD)[0-9A-Za-z]{10,60}")
# Without leading zeros: the provider writes none, and one number must not have many names.
_NUMBER = re.compile(r"[1-9][0-9]{0,19}")


class MalformedNotification(ValueError):  # noqa: N818 - says what the request is, not that something broke
    """The request is no notification. `reason` is one line and holds nothing of the request."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Notification:
    """One delivery, read. All texts suit Postgres; topic, action and the account's ids have at most 64 characters.

    `signed_id` is the query's `data.id`, the only id that a signature covers. `order_id` is set when this announces an
    order, and is what gets marked due. `body_text` is fit for `jsonb` (None: no body). `body_id_differs` says that the
    body names another id than the one acted on. `simulation` describes and decides nothing: see `_is_simulation`.
    `provider_version` is the body's `data.version`. `legacy_id` is the look that a legacy notice leads to, where the
    account asks for those (`with_legacy_look`): `MO` and a merchant order's number, or `PY` and a payment's.
    """

    topic: str | None
    action: str | None
    resource_id: str | None
    signed_id: str | None
    order_id: str | None
    user_id: str | None
    application_id: str | None
    body_text: str | None
    body_altered: bool
    body_id_differs: bool
    simulation: bool
    provider_version: int | None
    legacy_id: str | None = None

    def with_legacy_look(self) -> "Notification":
        """The same, marking due what its legacy notice speaks of: for accounts that use the legacy attended QR."""
        return self if self.legacy_id is None else replace(self, order_id=self.legacy_id)


def parse(query: Sequence[tuple[str, str]], body: bytes) -> Notification:
    """Reads a delivery from its decoded query pairs and its raw body. Raises `MalformedNotification` for the 400s."""
    signed_id = _first(query, "data.id")
    query_id = signed_id or _first(query, "id") or _last_segment(_first(query, "resource"))
    query_topic = _word(_first(query, "type")) or _word(_first(query, "topic"))
    document: object = None
    body_text: str | None = None
    altered = False
    if body.strip():
        try:
            parsed = parse_json(body)
        except NotJson as error:
            raise MalformedNotification(f"the body is not JSON: {error}") from None
        document, body_text, altered = parsed.value, parsed.text, parsed.altered
    elif query_id is None or query_topic is None:
        raise MalformedNotification("no body, and the query does not say both topic and id")

    fields = document if isinstance(document, dict) else {}
    data = fields.get("data")
    data = data if isinstance(data, dict) else {}
    body_id = _text(data.get("id"))
    action = _word(_text(fields.get("action")))
    body_type = _word(_text(fields.get("type")))
    topic = query_topic or body_type or _word(_text(fields.get("topic"))) or _topic_of(action)
    resource_id = query_id or _last_segment(_text(fields.get("resource"))) or body_id
    if topic is None and resource_id is None:
        raise MalformedNotification("neither an id nor a topic")
    if resource_id is not None and not _RESOURCE_ID.fullmatch(resource_id):
        raise MalformedNotification("the id is not of 1 to 64 letters, digits, _ and -")

    announces_order = topic == ORDER_TOPIC or (topic == _CHARGEBACK_TOPIC and body_type == ORDER_TOPIC)
    order_id = resource_id if announces_order and resource_id and _ORDER_ID.fullmatch(resource_id) else None
    return Notification(
        topic=topic,
        action=action,
        resource_id=resource_id,
        signed_id=signed_id,
        order_id=order_id,
        user_id=_word(_text(fields.get("user_id"))),
        application_id=_word(_text(fields.get("application_id"))),
        body_text=body_text,
        body_altered=altered,
        body_id_differs=body_id is not None and body_id != resource_id,
        simulation=_is_simulation(topic, resource_id, order_id, _text(fields.get("id"))),
        provider_version=_version(data.get("version")),
        legacy_id=_legacy_id(topic, resource_id),
    )


def copy_key(account: str, verified: bool, notification: Notification, body: bytes) -> bytes:
    """What two deliveries share exactly when one is a copy of the other: SHA-256 over the facts that must be equal.

    `verified` is one of them: a forged delivery can never take the place of the true one.
    """
    digest = hashlib.sha256(b"\x01" if verified else b"\x00")
    for text in (account, notification.topic, notification.resource_id, notification.action):
        if text is None:
            digest.update(b"\x00")
        else:
            part = text.encode("utf-8", "surrogatepass")
            digest.update(b"\x01" + len(part).to_bytes(8, "big"))
            digest.update(part)
    digest.update(body)
    return digest.digest()


def _is_simulation(topic: str | None, resource_id: str | None, order_id: str | None, top_level_id: str | None) -> bool:
    """True for what the developer panel's "Simulate" sends under the order topic.

    Two marks, either is enough: the body has an `id` of its own, which real order bodies never have; or the Data ID
    is no order's id (the panel proposes 123456). Anybody can forge the first mark, so this must never keep an order
    from being looked at.
    """
    return topic == ORDER_TOPIC and resource_id is not None and (top_level_id is not None or order_id is None)


def _legacy_id(topic: str | None, resource_id: str | None) -> str | None:
    prefix = _LEGACY_PREFIXES.get(topic) if topic is not None else None
    if prefix is None or resource_id is None or not _NUMBER.fullmatch(resource_id):
        return None
    return prefix + resource_id


def _first(query: Sequence[tuple[str, str]], name: str) -> str | None:
    for key, value in query:
        if key == name and value:
            return value
    return None


def _text(value: object) -> str | None:
    """A string that says something, or a whole number as its decimal text; anything else says nothing."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _word(text: str | None) -> str | None:
    if text is None:
        return None
    return clean_text(text.strip()[:_MAX_WORD])[:_MAX_WORD] or None


def _topic_of(action: str | None) -> str | None:
    return ORDER_TOPIC if action is not None and action.startswith("order.") else None


def _last_segment(resource: str | None) -> str | None:
    """The id in `https://…/merchant_orders/123/?x=y`, or in a bare `123`."""
    if resource is None:
        return None
    path = resource.partition("?")[0].partition("#")[0]
    return path.rstrip("/").rpartition("/")[2] or None


def _version(value: object) -> int | None:
    text = _text(value)
    if text is None or len(text) > 10 or not (text.isascii() and text.isdigit()):
        return None
    version = int(text)
    return version if version <= _MAX_VERSION else None
