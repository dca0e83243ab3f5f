"""One order at the provider, and the same order as the service would store it."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

from service.cli.demo.plan import Json
from service.cli.demo.provider import LedgerOrder
from service.cli.demo.stored import StoredOrder

ORDER_ID = "ORD01K371WBFDS4MD9JG0K8ZMECBE"


def body(**members: Any) -> Json:
    """A QR order of 50.00, paid with 47.28 after the wallet's discount, of which 10.00 were given back."""
    order: Json = json.loads(
        """{
          "id": "ORD01K371WBFDS4MD9JG0K8ZMECBE", "type": "qr", "external_reference": "ext_ref_1234",
          "status": "processed", "status_detail": "partially_refunded", "total_amount": "50.00", "taxes": [{}],
          "x_unknown": {"level": 2},
          "transactions": {
            "payments": [{"id": "PAY01", "amount": "50.00", "paid_amount": "47.28", "refunded_amount": "10.00",
                          "status": "processed", "status_detail": "partially_refunded"}],
            "refunds": [{"id": "REF01", "transaction_id": "PAY01", "amount": "10.00", "status": "processed"},
                        {"id": "REF02", "transaction_id": "PAY01", "amount": "5.00", "status": "failed"}]
          }
        }""",
        parse_float=Decimal,
    )
    return order | members


def stored(**changes: Any) -> StoredOrder:
    """The row of that order, written out by hand."""
    row = StoredOrder(
        order_id=ORDER_ID,
        type="qr",
        status="processed",
        status_detail="partially_refunded",
        external_reference="ext_ref_1234",
        total_amount=Decimal("50.00"),
        paid_amount=Decimal("47.28"),
        refunded_amount=Decimal("10.00"),
        payload=body(),
        payments=frozenset({("PAY01", "processed", Decimal("50.00"), Decimal("47.28"), Decimal("10.00"))}),
        refunds=frozenset(
            {("REF01", "PAY01", "processed", Decimal("10.00")), ("REF02", "PAY01", "failed", Decimal("5.00"))}
        ),
    )
    return replace(row, **changes)


def at_provider(*, delivered: bool = True, lost: bool = False, **members: Any) -> LedgerOrder:
    """That order in the provider's books; `lost`: its latest notification was."""
    order = body(**members)
    return LedgerOrder(order["id"], order, delivered, delivered_version=2, version=3 if lost else 2)
