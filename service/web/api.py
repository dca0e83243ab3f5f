"""Everything that the internal port serves, as one table: the router and the OpenAPI document are made from it."""

from typing import Final

from service.web.bodies import CreateBody, EmptyBody, LegacyPutBody, RefundBody
from service.web.command_models import (
    CommandAnswer,
    CommandErrorDocument,
    CommandsPage,
    OrderAnswer,
    PointsOfSale,
    RefundAnswer,
)
from service.web.commands import (
    cancel_order,
    create_order,
    delete_legacy,
    list_commands,
    put_legacy,
    refund_order,
    show_command,
    withdraw_command,
)
from service.web.completeness import CompletenessList, show_completeness
from service.web.lists import list_discrepancies, list_notifications, list_quarantine, show_notification
from service.web.models import (
    AliveDocument,
    DiscrepanciesPage,
    DueOrder,
    Notification,
    NotificationsPage,
    OrderDetail,
    OrdersPage,
    QuarantinePage,
    ReadyDocument,
)
from service.web.operations import Carried, Operation, PathParameter
from service.web.orders import list_orders, show_order, sync_order
from service.web.parameters import (
    CANCELABLE_ORDER_ID,
    COMMAND_ID,
    EXTERNAL_POS_ID,
    NOTIFICATION_ID,
    ORDER_ID,
    SYNCABLE_ORDER_ID,
    CommandParameters,
    CommandsParameters,
    DiscrepanciesParameters,
    LegacyDeleteParameters,
    NotificationsParameters,
    OrderParameters,
    OrdersParameters,
    PointsOfSaleParameters,
    QuarantineParameters,
    RefundParameters,
    SyncParameters,
    TimelineParameters,
)
from service.web.points_of_sale import list_points_of_sale
from service.web.probes import healthz, metrics, readyz
from service.web.timeline import Timeline, show_timeline
from service.web.verifications import (
    VERIFICATION_ID,
    VerificationDetail,
    VerificationsPage,
    VerificationsParameters,
    list_verifications,
    show_verification,
)

_ORDER = PathParameter("order_id", ORDER_ID, "the provider's id of the order")
_SYNCABLE_ORDER = PathParameter("order_id", SYNCABLE_ORDER_ID, "the provider's id of the order")
_NOTIFICATION = PathParameter("id", NOTIFICATION_ID, "our id of the notification")
_VERIFICATION = PathParameter("id", VERIFICATION_ID, "our number of the comparison")
_CANCELABLE_ORDER = PathParameter("order_id", CANCELABLE_ORDER_ID, "the provider's id of the order")
_COMMAND = PathParameter("command_id", COMMAND_ID, "our id of the command")
_POS = PathParameter("external_pos_id", EXTERNAL_POS_ID, "the `external_id` of the point of sale")

_NOT_YET = "Written down, and not settled in time. `Location` tells more; so does a repeat with the same key."
_REFUSED = "Mercado Pago refused it: `message` says why in a sentence, `details` its status and code."
_COMMAND_MEANINGS = {200: "Done.", 202: _NOT_YET, 422: _REFUSED}
_COMMAND_ANSWERS: dict[int, Carried] = {202: CommandAnswer, 409: CommandErrorDocument, 422: CommandErrorDocument}
_CONFLICT = "Not in this state; or withdrawn before it was sent; or the `Idempotency-Key` was used for another request."

OPERATIONS: Final = (
    Operation(
        "GET", "/healthz", "healthz", "Is this process alive?", healthz, None, {200: AliveDocument, 503: AliveDocument}
    ),
    Operation(
        "GET", "/readyz", "readyz", "Should requests come here?", readyz, None, {200: ReadyDocument, 503: ReadyDocument}
    ),
    Operation(
        "GET", "/metrics", "metrics", "Prometheus metrics", metrics, None,
        {200: ("text/plain", "application/openmetrics-text")},
    ),
    Operation(
        "GET", "/api/v1/orders", "list_orders", "Orders, newest change first", list_orders, "read",
        {200: OrdersPage}, parameters=OrdersParameters,
    ),
    Operation(
        "GET", "/api/v1/orders/{order_id}", "show_order", "One order, now or as it was stored at a time", show_order,
        "read", {200: OrderDetail}, parameters=OrderParameters, path_parameters=(_ORDER,), errors=(404,),
    ),
    Operation(
        "GET", "/api/v1/orders/{order_id}/timeline", "show_timeline", "What happened to one order, and why",
        show_timeline, "read", {200: Timeline}, parameters=TimelineParameters, path_parameters=(_ORDER,), errors=(404,),
    ),
    Operation(
        "POST", "/api/v1/orders/{order_id}/sync", "sync_order", "Mark one order due for a fresh look", sync_order,
        "operate", {202: DueOrder}, parameters=SyncParameters, path_parameters=(_SYNCABLE_ORDER,), errors=(404,),
    ),
    Operation(
        "GET", "/api/v1/discrepancies", "list_discrepancies", "What does not add up, latest first", list_discrepancies,
        "read", {200: DiscrepanciesPage}, parameters=DiscrepanciesParameters,
    ),
    Operation(
        "GET", "/api/v1/notifications", "list_notifications", "Notifications, latest first", list_notifications,
        "read", {200: NotificationsPage}, parameters=NotificationsParameters,
    ),
    Operation(
        "GET", "/api/v1/notifications/{id}", "show_notification", "One notification", show_notification,
        "read", {200: Notification}, path_parameters=(_NOTIFICATION,), errors=(404,),
    ),
    Operation(
        "GET", "/api/v1/completeness", "show_completeness", "Up to when every listed order is known to be stored",
        show_completeness, "read", {200: CompletenessList},
    ),
    Operation(
        "GET", "/api/v1/verifications", "list_verifications", "Comparisons with the provider, latest first",
        list_verifications, "read", {200: VerificationsPage}, parameters=VerificationsParameters,
    ),
    Operation(
        "GET", "/api/v1/verifications/{id}", "show_verification", "One comparison and what it found",
        show_verification, "read", {200: VerificationDetail}, path_parameters=(_VERIFICATION,), errors=(404,),
    ),
    Operation(
        "GET", "/api/v1/quarantine", "list_quarantine", "Orders in quarantine, latest first", list_quarantine,
        "read", {200: QuarantinePage}, parameters=QuarantineParameters,
    ),
    Operation(
        "POST", "/api/v1/orders", "create_order", "Create an order at Mercado Pago", create_order, "money",
        {201: OrderAnswer, 402: CommandErrorDocument, **_COMMAND_ANSWERS}, parameters=CommandParameters,
        errors=(404,), body=CreateBody, keyed=True,
        meanings=_COMMAND_MEANINGS | {
            201: "Created; `order` is the provider's answer.", 409: _CONFLICT,
            402: "Created, and its payment declined: `order` exists.",
        },
    ),
    Operation(
        "POST", "/api/v1/orders/{order_id}/cancel", "cancel_order", "Cancel an order", cancel_order, "money",
        {200: OrderAnswer, **_COMMAND_ANSWERS}, parameters=CommandParameters, path_parameters=(_CANCELABLE_ORDER,),
        errors=(404,), body=EmptyBody, keyed=True,
        meanings=_COMMAND_MEANINGS | {200: "A look at the order showed it canceled.", 409: _CONFLICT},
    ),
    Operation(
        "POST", "/api/v1/orders/{order_id}/refunds", "refund_order", "Give back what was paid, all or part of it",
        refund_order, "money", {201: RefundAnswer, **_COMMAND_ANSWERS}, parameters=RefundParameters,
        path_parameters=(_SYNCABLE_ORDER,), errors=(404,), body=RefundBody, keyed=True,
        meanings=_COMMAND_MEANINGS | {201: "A look at the order showed the refund.", 409: _CONFLICT},
    ),
    Operation(
        "GET", "/api/v1/commands", "list_commands", "Commands, latest first", list_commands, "read",
        {200: CommandsPage}, parameters=CommandsParameters,
    ),
    Operation(
        "GET", "/api/v1/commands/{command_id}", "show_command", "One command", show_command, "read",
        {200: CommandAnswer}, path_parameters=(_COMMAND,), errors=(404,),
    ),
    Operation(
        "POST", "/api/v1/commands/{command_id}/withdraw", "withdraw_command", "Take back what was not sent yet",
        withdraw_command, "money", {200: CommandAnswer}, path_parameters=(_COMMAND,), errors=(404, 409),
        body=EmptyBody, meanings={200: "Withdrawn: it was never sent, and never will be."},
    ),
    Operation(
        "POST", "/api/v1/legacy-qr/{external_pos_id}", "put_legacy", "Put a sale on a printed QR, the legacy way",
        put_legacy, "money", {201: CommandAnswer, **_COMMAND_ANSWERS}, parameters=CommandParameters,
        path_parameters=(_POS,), errors=(404,), body=LegacyPutBody, keyed=True,
        meanings=_COMMAND_MEANINGS | {201: "It can be scanned and paid.", 409: _CONFLICT},
    ),
    Operation(
        "DELETE", "/api/v1/legacy-qr/{external_pos_id}", "delete_legacy", "Take the legacy sale off a printed QR",
        delete_legacy, "money", {204: None, **_COMMAND_ANSWERS}, parameters=LegacyDeleteParameters,
        path_parameters=(_POS,), errors=(404,), keyed=True,
        meanings=_COMMAND_MEANINGS | {204: "Nothing is on it.", 409: _CONFLICT},
    ),
    Operation(
        "GET", "/api/v1/points-of-sale", "list_points_of_sale", "What is live on each printed QR and terminal",
        list_points_of_sale, "read", {200: PointsOfSale}, parameters=PointsOfSaleParameters,
    ),
)  # fmt: skip
