"""Everything that the internal port serves, as one table: the router and the OpenAPI document are made from it."""

from typing import Final

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
from service.web.operations import Operation, PathParameter
from service.web.orders import list_orders, show_order, sync_order
from service.web.parameters import (
    NOTIFICATION_ID,
    ORDER_ID,
    SYNCABLE_ORDER_ID,
    DiscrepanciesParameters,
    NotificationsParameters,
    OrderParameters,
    OrdersParameters,
    QuarantineParameters,
    SyncParameters,
    TimelineParameters,
)
from service.web.probes import healthz, metrics, readyz
from service.web.timeline import Timeline, show_timeline

_ORDER = PathParameter("order_id", ORDER_ID, "the provider's id of the order")
_SYNCABLE_ORDER = PathParameter("order_id", SYNCABLE_ORDER_ID, "the provider's id of the order")
_NOTIFICATION = PathParameter("id", NOTIFICATION_ID, "our id of the notification")

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
        "GET", "/api/v1/quarantine", "list_quarantine", "Orders in quarantine, latest first", list_quarantine,
        "read", {200: QuarantinePage}, parameters=QuarantineParameters,
    ),
)  # fmt: skip
