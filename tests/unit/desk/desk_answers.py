"""Answers of the provider, and every status and code that its documentation and the observations name."""

from collections.abc import Iterator
from typing import Any

from service.desk.outcomes import Outcome, judge
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.errors import MercadoPagoError
from service.mercadopago.json_text import dumps

KINDS = ("create", "cancel", "refund", "legacy_put", "legacy_delete")
ORDER_ID = "ORD01M2GR4XXRNZNGAXFZH60T35ER"
PAYMENT_ID = "PAY01M2GR4XY4K839CXZ6AB5RGYFG"

# Fact sheet of the Orders API, §7.1, §7.2, §8.2; legacy fact sheet, §1, §2, §5. Codes by status; "" is none.
DOCUMENTED = {
    400: (
        "empty_required_header json_syntax_error required_properties minimum_properties unsupported_properties "
        "property_type property_value minimum_items maximum_items invalid_properties bad_request unsupported_site "
        "marketplace_not_valid sponsor_id_not_valid invalid_total_amount order_items_total_amount_mismatch "
        "invalid_transaction_amount order_builder_without_transactions exceeded_number_of_transactions "
        "invalid_order_type invalid_order_mode_for_operation invalid_email_for_sandbox "
        "invalid_idempotency_key_length invalid_path_param invalid_transaction_id invalid_order_owner "
        "in_store_payment_refund_order unsupported_partially_refunds refund_amount_exceeds "
        "idempotency_key_already_used "
        "invalid_collector_id invalid_sponsor_id invalid_items invalid_access_token invalid_preference_body "
        "invalid_caller_id invalid_collectorId invalid_externalPosId pos_obtainment_by_external_id_error "
        "invalid_external_reference invalid_title invalid_items.unit_price in_store_order_delete_error "
        "2063 2024 15016 3024 4292 4295 4296 1"
    ),
    401: "unauthorized invalid_credentials user_not_authorized",
    402: "failed",
    403: "forbidden_checking_terminal_owner partial_refund_forbidden_with_tips PA_UNAUTHORIZED_RESULT_FROM_POLICIES",
    404: (
        "pos_not_found marketplace_fee_not_allowed order_not_found transaction_not_found 2000 "
        "point_of_sale_in_store_order_not_found pos_obtainment_by_external_id_error"
    ),
    409: (
        "idempotency_key_already_used already_queued_order_on_terminal already_queued_order_for_terminal "
        "already_queued_order_for_device cannot_cancel_order cannot_refund_order cannot_capture_order "
        "operation_not_supported order_already_canceled order_already_cancelled order_already_refunded "
        "refund_period_exceeded action_not_allowed_for_current_state refund_in_progress "
        "order_refund_already_in_process movement_operations_pending post_processing_operation_pending "
        "processor_communication_error"
    ),
    422: "unprocessable_content unprocessable_entity payment_not_refundable amount_not_refundable max_refunds_exceeded",
    423: "resource_locked",
    425: "order_payment_not_yet_enabled_for_refund",
    428: "insufficient_money_for_refund",
    429: "too_many_requests usage_quota_exceeded",
    500: "internal_error idempotency_validation_failed 500 in_store_order_creation_error",
    502: "",
    503: "",
    504: "",
}


def documented() -> Iterator[tuple[int, str | None]]:
    """Every status with each of its codes, and without one."""
    for status, codes in DOCUMENTED.items():
        for code in codes.split():
            yield status, code
        yield status, None


def answer(
    status: int,
    code: str | None = None,
    document: dict[str, Any] | None = None,
    *,
    message: str | None = "The provider's words.",
    retry_after: float | None = None,
) -> ProviderAnswer:
    """A complete answer."""
    text = "" if document is None else dumps(document)
    return ProviderAnswer(status, code, message if status >= 300 else None, document, text, retry_after)


def judged(
    kind: str,
    told: ProviderAnswer | MercadoPagoError,
    *,
    attempts: int = 1,
    age: float = 0.0,
    unknown_before: bool = False,
    newest: bool = True,
    order_age: float | None = None,
    token_refused: bool = False,
) -> Outcome:
    """`judge`, for a first attempt if nothing else is said."""
    return judge(
        kind,
        told,
        attempts=attempts,
        age_seconds=age,
        unknown_before=unknown_before,
        newest=newest,
        order_age_seconds=order_age,
        token_refused=token_refused,
    )
