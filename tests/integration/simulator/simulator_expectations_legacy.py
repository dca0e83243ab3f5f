"""What Mercado Pago's legacy attended QR, merchant orders and payments answer to what: one row per expectation."""

from typing import Any

from tests.integration.simulator.simulator_expectations import Expectation, changed

V1 = "/mpmobile/instore/qr/2100457788/CAJA01"
V2 = "/instore/qr/seller/collectors/2100457788/stores/TIENDA1/pos/CAJA01/orders"
V2_READ = "/instore/qr/seller/collectors/2100457788/pos/CAJA01/orders"
SALE: dict[str, Any] = {
    "external_reference": "legacy-1",
    "items": [{"title": "Yerba", "currency_id": "ARS", "unit_price": 25.5, "quantity": 2}],
}
SALE_V2: dict[str, Any] = {
    "external_reference": "legacy-2",
    "title": "Mostrador",
    "description": "Compra",
    "total_amount": 51,
    "items": [{"title": "Yerba", "unit_price": 25.5, "quantity": 2, "total_amount": 51, "unit_measure": "unit"}],
}


def legacy(
    name: str, method: str, path: str, status: int, code: str | int | None = None, body: Any = None, **more: Any
) -> Expectation:
    return Expectation(f"legacy: {name}", method, path, status, code, body, **more)


Setup = tuple[tuple[str, Any], ...]
SCANNED: Setup = (("legacy/CAJA01/scan", {}),)
PAID: Setup = (("legacy/CAJA01/pay", {}),)
REFUND_PATH = "/v1/payments/{legacy_payment}/refunds"
TTL = {"X-Ttl-Store-Preference": "180"}
REJECTED: Setup = (("legacy/CAJA01/reject", {}),)
LEGACY = (
    legacy(
        "V1 create", "POST", V1, 200, body=SALE, headers=TTL, members={"total_amount": 51, "collector_id": 2100457788}
    ),
    legacy("V1 items as an object", "POST", V1, 400, "invalid_preference_body", SALE | {"items": {}}),
    legacy("V1 no items", "POST", V1, 400, "invalid_items", SALE | {"items": []}),
    legacy(
        "V1 a price as a text",
        "POST",
        V1,
        400,
        "invalid_items",
        SALE | {"items": [SALE["items"][0] | {"unit_price": "5"}]},
    ),
    legacy("V1 a sponsor as a text", "POST", V1, 400, "invalid_sponsor_id", SALE | {"sponsor_id": "1"}),
    legacy(
        "V1 a collector that is no number", "POST", "/mpmobile/instore/qr/me/CAJA01", 400, "invalid_collector_id", SALE
    ),
    legacy("V1 with PUT", "PUT", V1, 405, "method_not_allowed", SALE),
    legacy("V1 delete", "DELETE", V1, 204, legacy=SALE),
    legacy("V1 no token", "DELETE", V1, 400, "invalid_access_token", headers={"Authorization": ""}),
    legacy("V2 create", "PUT", V2, 204, body=SALE_V2),
    legacy("V2 a wrong total", "PUT", V2, 400, "invalid_total_amount", SALE_V2 | {"total_amount": 50}),
    legacy("V2 no title", "PUT", V2, 400, "invalid_title", changed(SALE_V2, title=None)),
    legacy("V2 no reference", "PUT", V2, 400, "invalid_external_reference", changed(SALE_V2, external_reference=None)),
    legacy(
        "V2 a wrong total of an item",
        "PUT",
        V2,
        400,
        "invalid_items.total_amount",
        SALE_V2 | {"items": [SALE_V2["items"][0] | {"total_amount": 5}]},
    ),
    legacy(
        "V2 get",
        "GET",
        V2_READ,
        200,
        legacy=SALE_V2,
        members={"0.external_reference": "legacy-2", "0.total_amount": 51},
    ),
    legacy("V2 get with the store", "GET", V2, 200, legacy=SALE_V2, members={"0.title": "Mostrador"}),
    legacy("V2 get of nothing", "GET", V2_READ, 404, "point_of_sale_in_store_order_not_found"),
    legacy("V2 delete", "DELETE", V2_READ, 204, legacy=SALE_V2),
    legacy("V2 delete of nothing", "DELETE", V2_READ, 400, "in_store_order_delete_error"),
    legacy(
        "an unknown point of sale",
        "PUT",
        V2,
        400,
        "pos_obtainment_by_external_id_error",
        SALE_V2,
        setup=(("rules", {"known_pos": []}),),
    ),
    legacy(
        "merchant order",
        "GET",
        "/merchant_orders/{merchant_order}",
        200,
        legacy=SALE,
        setup=SCANNED,
        members={"status": "opened", "order_status": "payment_required"},
    ),
    legacy(
        "merchant order, rejected",
        "GET",
        "/merchant_orders/{merchant_order}",
        200,
        legacy=SALE,
        setup=REJECTED,
        members={"status": "opened", "payments.0.status": "rejected"},
    ),
    legacy(
        "merchant order, paid",
        "GET",
        "/merchant_orders/{merchant_order}",
        200,
        legacy=SALE,
        setup=PAID,
        members={"status": "closed", "order_status": "paid", "paid_amount": 51},
    ),
    legacy("no such merchant order", "GET", "/merchant_orders/1", 404, "not_found"),
    legacy(
        "merchant order, no token", "GET", "/merchant_orders/1", 401, "invalid_token", headers={"Authorization": ""}
    ),
    legacy(
        "search finds",
        "GET",
        "/merchant_orders/search?external_reference=legacy-1",
        200,
        legacy=SALE,
        setup=SCANNED,
        members={"total": 1, "next_offset": 1, "elements.0.status": "opened"},
    ),
    legacy(
        "search finds nothing",
        "GET",
        "/merchant_orders/search?external_reference=none",
        200,
        members={"elements": None, "total": 0},
    ),
    legacy("search by nonsense", "GET", "/merchant_orders/search?colour=red", 400, "ds_search_query"),
    legacy(
        "payment",
        "GET",
        "/v1/payments/{legacy_payment}",
        200,
        legacy=SALE,
        setup=PAID,
        members={"status": "approved", "transaction_amount": 51, "order.type": "mercadopago"},
    ),
    legacy("no such payment", "GET", "/v1/payments/1", 404, 2000),
    legacy(
        "payments found",
        "GET",
        "/v1/payments/search?external_reference=legacy-1&range=date_created&begin_date=NOW-1DAYS&end_date=NOW",
        200,
        legacy=SALE,
        setup=PAID,
        members={"paging.total": 1, "results.0.status": "approved"},
    ),
    legacy(
        "payments over too long a time",
        "GET",
        "/v1/payments/search?begin_date=NOW-2YEARS&end_date=NOW",
        400,
        "bad_request",
    ),
    legacy(
        "refund of all",
        "POST",
        REFUND_PATH,
        201,
        body={},
        legacy=SALE,
        setup=PAID,
        members={"amount": 51, "status": "approved"},
    ),
    legacy(
        "refund of a part",
        "POST",
        REFUND_PATH,
        201,
        body={"amount": 5.25},
        legacy=SALE,
        setup=PAID,
        members={"amount": 5.25},
    ),
    legacy("refund of too much", "POST", REFUND_PATH, 400, 2063, {"amount": 51.01}, legacy=SALE, setup=PAID),
    legacy("refund of a text", "POST", REFUND_PATH, 400, 1, {"amount": "5.00"}, legacy=SALE, setup=PAID),
    legacy("refund without a key", "POST", REFUND_PATH, 400, 4292, {}, legacy=SALE, setup=PAID, key=None),
    legacy("refund with a long key", "POST", REFUND_PATH, 400, 4295, {}, legacy=SALE, setup=PAID, key="k" * 129),
    legacy("refund of a rejected payment", "POST", REFUND_PATH, 400, 2063, {}, legacy=SALE, setup=REJECTED),
    legacy(
        "refund of what is refunded",
        "POST",
        REFUND_PATH,
        400,
        2063,
        {},
        legacy=SALE,
        setup=(*PAID, ("legacy/CAJA01/refund", {})),
    ),
    legacy(
        "refund after its time",
        "POST",
        REFUND_PATH,
        400,
        2024,
        {},
        legacy=SALE,
        setup=(*PAID, ("clock", {"advance_seconds": 181 * 86400})),
    ),
    legacy(
        "refunds listed",
        "GET",
        REFUND_PATH,
        200,
        legacy=SALE,
        setup=(*PAID, ("legacy/CAJA01/refund", {"amount": "1.00"})),
        members={"0.amount": 1},
    ),
)
