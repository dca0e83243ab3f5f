"""What each of Mercado Pago's codes means to the person at the till: one plain sentence that says what to do. Pure.

Every code of the fact sheet of the Orders API, §7 and §8, and of the legacy fact sheet, §1, §2 and §5, has its words.
"""

from collections.abc import Mapping

UNKNOWN = "outcome_unknown"
"""Our code: it may have taken effect."""
SUPERSEDED = "superseded"
"""Our code: something newer is on the point of sale."""
NO_ORDER_ID = "no_order_id"
"""Our code: a success that does not say what was made."""
REFUND_FAILED = "refund_failed"
"""Our code: a refund that was made, and failed at once."""
ACCOUNT_REFUSED = "unauthorized"
FORBIDDEN = "forbidden"
NOTHING_THERE = "point_of_sale_in_store_order_not_found"
SAYS_UNKNOWN = frozenset({"idempotency_key_already_used", "4295", "4296", "resource_locked"})
"""Codes whose sentence says that the outcome is open."""

_NOUNS = {
    "create": "the order",
    "cancel": "the cancellation",
    "refund": "the refund",
    "legacy_put": "the order on the QR",
    "legacy_delete": "taking the order off the QR",
}

_SUPPORT = "pass this on to whoever looks after the till's software"
_BODY = "Mercado Pago does not accept the order as the till sent it"
_WAITS = "nothing has happened yet, and it is tried again by itself"
_GOES_ON = "put it right, and this goes on by itself"
_BUSY = "The terminal already has an order waiting: cancel it on the terminal or below, then try again."
_ACCOUNT = f"Mercado Pago does not accept this account's access token: {_GOES_ON}."
_FORBIDDEN = f"Mercado Pago, or something before it, forbids this call: {_WAITS}."
_TERMINAL = "The terminal does not belong to this account: check which terminal the till is set to."
_PLACE = "Mercado Pago does not know this point of sale: check which point of sale the till is set to."
_AMOUNTS = f"{_BODY}, because its amounts do not add up: {_SUPPORT}."
_LEFT = "The refund is more than is left of the payment: look at what was refunded already and ask for less."
_NOT_REFUNDABLE = "This payment cannot be refunded: give the money back in another way, or ask Mercado Pago."
_TOO_OLD = "The payment is too old to be refunded through Mercado Pago: give the money back in another way."
_NO_PARTIAL = "Only the whole payment can be refunded: refund all of it, or give the difference back in another way."
_SOON = f"Mercado Pago is not done with this payment yet: {_WAITS}."
_IN_PROCESS = f"Another refund of this order is being processed: {_WAITS}."
_NO_ORDER = "Mercado Pago does not know this order: check that it belongs to this account."
_KEY = "Mercado Pago says that this was sent before with other content: it is looked up; do not repeat it."
_SITE = "This kind of order is not offered in the account's country: use another way to charge."
_MARKETPLACE = f"The account may not take a marketplace fee: {_SUPPORT}."
_HEADER = f"The request lacked something that Mercado Pago needs: {_SUPPORT}."
_CANCELED = "The order is canceled already: nothing is left to do."
_CARD = "ask for another card or another way to pay, with a new order."

_BODY_CODES = (
    "json_syntax_error",
    "required_properties",
    "minimum_properties",
    "unsupported_properties",
    "property_type",
    "property_value",
    "minimum_items",
    "maximum_items",
    "invalid_properties",
    "bad_request",
    "order_builder_without_transactions",
    "exceeded_number_of_transactions",
    "invalid_order_type",
    "invalid_order_mode_for_operation",
    "invalid_sponsor_id",
    "sponsor_id_not_valid",
    "invalid_preference_body",
    "invalid_items",
    "invalid_external_reference",
    "invalid_title",
    "1",
)

_SENTENCES: Mapping[str, str] = {
    **dict.fromkeys(_BODY_CODES, f"{_BODY}: {_SUPPORT}."),
    "invalid_email_for_sandbox": "Test accounts take only test buyers' e-mail addresses: use one of those.",
    "empty_required_header": _HEADER,
    "invalid_idempotency_key_length": _HEADER,
    "4292": _HEADER,
    "unsupported_site": _SITE,
    "marketplace_not_valid": _MARKETPLACE,
    "marketplace_fee_not_allowed": _MARKETPLACE,
    "invalid_total_amount": _AMOUNTS,
    "order_items_total_amount_mismatch": _AMOUNTS,
    "invalid_transaction_amount": "Mercado Pago does not accept this amount: check it, and try again with a new order.",
    "unauthorized": _ACCOUNT,
    "invalid_credentials": _ACCOUNT,
    "invalid_access_token": _ACCOUNT,
    FORBIDDEN: _FORBIDDEN,
    "PA_UNAUTHORIZED_RESULT_FROM_POLICIES": _ACCOUNT,
    "refused": _ACCOUNT,
    "user_not_authorized": "This account may not do that with this order: check that the order is its own.",
    "invalid_order_owner": "The order belongs to another account: use the account that it was made with.",
    "forbidden_checking_terminal_owner": _TERMINAL,
    "pos_not_found": _PLACE,
    "pos_obtainment_by_external_id_error": _PLACE,
    "invalid_externalPosId": _PLACE,
    "invalid_collector_id": f"The account's user id does not fit its access token: {_SUPPORT}.",
    "invalid_collectorId": f"The account's user id does not fit its access token: {_SUPPORT}.",
    "invalid_caller_id": f"The account's user id does not fit its access token: {_SUPPORT}.",
    "already_queued_order_on_terminal": _BUSY,
    "already_queued_order_for_terminal": _BUSY,
    "already_queued_order_for_device": _BUSY,
    "unprocessable_content": f"Mercado Pago does not know this card: {_CARD}",
    "failed": f"The payment was declined: {_CARD}",
    "order_not_found": _NO_ORDER,
    "2000": "Mercado Pago does not know this payment: check that the order belongs to this account.",
    "transaction_not_found": "The order has no such payment: look at the order and choose one of its payments.",
    "invalid_transaction_id": "The order has no such payment: look at the order and choose one of its payments.",
    "invalid_path_param": "Mercado Pago does not take this order's id: check the order.",
    "cannot_cancel_order": "The order can no longer be canceled: look at it, and refund it if it was paid.",
    "order_already_canceled": _CANCELED,
    "order_already_cancelled": _CANCELED,
    "cannot_capture_order": "The order cannot be captured in its present state: look at it first.",
    "operation_not_supported": "Mercado Pago cannot do that with this kind of order: look at the order first.",
    "action_not_allowed_for_current_state": "The order's present state does not allow that: look at it first.",
    "cannot_refund_order": "Only a paid order can be refunded: look at the order; cancel it if it still waits.",
    "order_already_refunded": "The order is refunded already: nothing is left to give back.",
    "in_store_payment_refund_order": "This sale in a shop has to be refunded in Mercado Pago's own app or panel.",
    "unsupported_partially_refunds": _NO_PARTIAL,
    "partial_refund_forbidden_with_tips": "A payment with a tip can be refunded in full only: refund all of it.",
    "3024": _NO_PARTIAL,
    "refund_amount_exceeds": _LEFT,
    "amount_not_refundable": _LEFT,
    "payment_not_refundable": _NOT_REFUNDABLE,
    "2063": "The payment's present state does not allow this refund: look at what was refunded already.",
    "max_refunds_exceeded": "This payment has had as many refunds as it may: give the rest back in another way.",
    "refund_period_exceeded": _TOO_OLD,
    "2024": _TOO_OLD,
    "15016": _TOO_OLD,
    "insufficient_money_for_refund": "The account has too little money for this refund: add money, then try again.",
    "refund_in_progress": _IN_PROCESS,
    "order_refund_already_in_process": _IN_PROCESS,
    "movement_operations_pending": _SOON,
    "post_processing_operation_pending": _SOON,
    "unprocessable_entity": _SOON,
    "order_payment_not_yet_enabled_for_refund": _SOON,
    "processor_communication_error": f"Mercado Pago cannot reach the card's processor right now: {_WAITS}.",
    "idempotency_key_already_used": _KEY,
    "4295": _KEY,
    "4296": _KEY,
    "resource_locked": "Mercado Pago is still at work on this: its answer is waited for; do not repeat it.",
    "too_many_requests": f"Mercado Pago takes no more requests at the moment: {_WAITS}.",
    "usage_quota_exceeded": f"Mercado Pago takes no more requests at the moment: {_WAITS}.",
    "rate_limited": f"Mercado Pago takes no more requests at the moment: {_WAITS}.",
    "connection": f"Mercado Pago cannot be reached at the moment: {_WAITS}.",
    "point_of_sale_in_store_order_not_found": "No order was on this QR: there was nothing to take off.",
    "in_store_order_delete_error": "No order was on this QR: there was nothing to take off.",
    REFUND_FAILED: "Mercado Pago began the refund and it failed: look at the order, then try again.",
}

_BY_KIND: Mapping[tuple[str, str], str] = {
    ("refund", "bad_request"): f"Mercado Pago does not accept this refund as it was sent: {_SUPPORT}.",
    ("refund", "1"): "Mercado Pago does not accept this amount: check it, and ask for the refund again.",
    ("cancel", "bad_request"): f"Mercado Pago does not accept this cancellation as it was sent: {_SUPPORT}.",
    ("legacy_put", SUPERSEDED): "A newer order has taken this QR, so this one is no longer put there.",
    ("legacy_delete", SUPERSEDED): "A newer order has taken this QR: the one to be taken off is gone from it.",
}
_ENDED = {
    _WAITS: "nothing has happened, and it is not tried any more; ask for it again later",
    _GOES_ON: "put it right, then ask for it again",
}
_UNKNOWN_ENDS = "it is being found out; do not ask for it again, and do not give the goods or money away on it."
_BY_STATUS = {
    401: _ACCOUNT,
    403: _FORBIDDEN,
    429: f"Mercado Pago takes no more requests at the moment: {_WAITS}.",
}

# Reasons why a card payment failed (fact sheet of the Orders API, §4.2), as the 402 of a creation tells them.
_DECLINES: Mapping[str, str] = {
    "insufficient_amount": "has not enough money",
    "card_insufficient_amount": "has not enough money",
    "rejected_by_issuer": "was declined by its bank",
    "required_call_for_authorize": "needs its holder to call the bank first",
    "card_disabled": "is not activated",
    "bad_filled_card_data": "data are wrong",
    "invalid_card_token": "data are no longer valid",  # nosec B105 - a reason, no secret
    "high_risk": "payment was declined as too risky",
    "max_attempts_exceeded": "was tried too often",
    "amount_limit_exceeded": "does not allow so large an amount",
    "invalid_installments": "does not allow this number of instalments",
    "processing_error": "payment could not be processed",
    "in_review": "payment is held for review",
    "rejected_other_reason": "was declined",
}


def sentence(
    kind: str,
    code: str | None,
    status: int | None,
    provider_message: str | None = None,
    *,
    is_refused: bool = False,
) -> str:
    """One sentence for `code` as the answer to a command of `kind`.

    An unknown code gets a general one, which quotes it and the provider's own words. `code` is the provider's, the
    reason of a declined payment, a word of `service.mercadopago.errors`, or one of ours. `is_refused`: the command is
    over, and nobody tries it again. Never raises.
    """
    noun = _NOUNS.get(kind, "this")
    if code == UNKNOWN:
        return f"It is not known yet whether Mercado Pago carried out {noun}: {_UNKNOWN_ENDS}"
    if code is None and status == 404 and kind in ("cancel", "refund"):
        code = "order_not_found"
    known = _BY_STATUS.get(status or 0) if code is None else _for_code(kind, code)
    if known is not None:
        return _ended(known) if is_refused else known
    if status is None or status >= 500:
        return f"Mercado Pago gave no usable answer to {noun} ({_named(code, status)}): {_UNKNOWN_ENDS}"
    words = f', saying "{provider_message}"' if provider_message else ""
    return f"Mercado Pago refused {noun} ({_named(code, status)}){words}: look at the order before you try again."


def _ended(said: str) -> str:
    """The sentence of a command that is over: nothing goes on by itself."""
    for goes_on, ended in _ENDED.items():
        said = said.replace(goes_on, ended)
    return said


def _for_code(kind: str, code: str) -> str | None:
    if code in _DECLINES:
        return f"The card {_DECLINES[code]}: {_CARD}"
    if code.startswith("invalid_items."):
        return _SENTENCES["invalid_items"]
    return _BY_KIND.get((kind, code)) or _SENTENCES.get(code)


def _named(code: str | None, status: int | None) -> str:
    named = " ".join(str(part) for part in (status, code) if part is not None)
    return named or "no reason given"
