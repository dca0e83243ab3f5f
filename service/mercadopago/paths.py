"""Pure: the provider's paths, from ids that were looked at first.

An id comes from a notification or from a caller's request: what could leave its place in the path (`..`, `/`, `?`) is
none. Everything here raises `BadRequest` (with `status` 0) for what cannot be asked for; nothing is sent then.
"""

import re

from service.mercadopago.account import Account
from service.mercadopago.errors import BadRequest
from service.mercadopago.legacy import is_number

_ORDER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# `external_id` of a point of sale is documented as alphanumeric, of at most 40; real ones are not always.
_PATH_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")


def order_path(order_id: str) -> str:
    """`/v1/orders/{id}`."""
    if not _ORDER_ID.fullmatch(order_id):
        raise BadRequest("the order id is not of 1 to 64 letters, digits, _ and -; it was not asked for")
    return f"/v1/orders/{order_id}"


def merchant_order_path(number: str) -> str:
    """`/merchant_orders/{id}`, of the bare number."""
    if not is_number(number):
        raise BadRequest("the merchant order id is not of 1 to 20 digits; it was not asked for")
    return f"/merchant_orders/{number}"


def payment_path(payment_id: str) -> str:
    """`/v1/payments/{id}`."""
    if not is_number(payment_id):
        raise BadRequest("the payment id is not of 1 to 20 digits; it was not asked for")
    return f"/v1/payments/{payment_id}"


def v1_path(account: Account, external_pos_id: str) -> str:
    """Where the first generation of the legacy QR puts and deletes an order."""
    return f"/mpmobile/instore/qr/{_seller_id(account)}/{_path_id(external_pos_id, 'external_pos_id')}"


def v2_path(account: Account, external_pos_id: str, store_id: str | None = None) -> str:
    """Where the second generation reads and deletes an order; with the store, where it puts one."""
    store = "" if store_id is None else f"/stores/{_path_id(store_id, 'legacy_store_id')}"
    pos = _path_id(external_pos_id, "external_pos_id")
    return f"/instore/qr/seller/collectors/{_seller_id(account)}{store}/pos/{pos}/orders"


def _seller_id(account: Account) -> str:
    if account.user_id is None or not is_number(account.user_id):
        raise BadRequest(f"account {account.name} has no user_id of digits, which legacy paths need; nothing was sent")
    return account.user_id


def _path_id(value: str, name: str) -> str:
    if not _PATH_ID.fullmatch(value):
        raise BadRequest(f"{name} is not of 1 to 64 letters, digits, ., _ and -; nothing was sent")
    return value
