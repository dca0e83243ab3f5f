"""Contradictions planted on known orders, one for every rule that a minute is long enough for.

`refund_stuck` is missing: it opens after 24 hours, and the service asks the database for the time.

Each names exactly what must be found. The last step of each is announced past all faults, so that a lost notification
cannot hide what was planted; its fetches suffer like all others.
"""

from collections.abc import Callable, Mapping
from typing import Any

from service.cli.demo.lives import CARD
from service.cli.demo.plan import PAYMENT, Announce, Do, PlannedOrder, Plant, Prefix, Scene, Seen, Step, money

NOT_PLANTED: Mapping[str, str] = {
    "refund_stuck": "opens after 24 hours of processing",
    **dict.fromkeys(
        (
            "refund_unexplained",
            "refund_missing",
            "amount_differs_from_request",
            "paid_after_cancel_asked",
            "unknown_outcome",
        ),
        "compares with what was asked for at the desk, and the day's orders come from elsewhere",
    ),
}

PLANT_TOTAL_CENTS = 1_250_000
TOTAL = money(PLANT_TOTAL_CENTS)
PART = money(327_800)


def _quiet(change: str, **body: Any) -> Do:
    """A change that nobody is told of yet."""
    return Do(change, body, announce=False)


def _patch(**merge: Any) -> Do:
    return _quiet("patch", merge=merge)


def _payment(**members: Any) -> dict[str, Any]:
    return {"payments": [members]}


PAY = _quiet("pay")
REFUND_PART = _quiet("refund", amount=PART)
PAID_SEEN: tuple[Step, ...] = (PAY, Announce("order.processed"), Seen())
CANCELED_SEEN: tuple[Step, ...] = (_quiet("cancel"), Announce("order.canceled"), Seen())
PROCESSED, REFUNDED = Announce("order.processed"), Announce("order.refunded")

Maker = Callable[[Prefix, int], Scene]


def _one(name: str, kind: str, opens: str | None, subject: str, *steps: Step) -> Maker:
    """A scene of one order whose plant opens one rule."""
    return _several(name, kind, ((opens, subject),) if opens else (), *steps)


def _several(
    name: str,
    kind: str,
    opens: tuple[tuple[str, str], ...],
    *steps: Step,
    resolves: tuple[tuple[str, str], ...] = (),
) -> Maker:
    plant = Plant(name, opens, resolves)

    def make(prefix: Prefix, number: int) -> Scene:
        create: dict[str, Any] = {"type": kind, "total_amount": TOTAL, "external_reference": prefix.reference(number)}
        if kind == "online":
            create["payment_method"] = CARD
        return (PlannedOrder(name, create, steps, plant=plant),)

    return make


def _foreign_refund(prefix: Prefix, number: int) -> Scene:
    random = prefix.random
    stranger, refund = (f"{kind}01{random.getrandbits(120):024X}"[:29] for kind in ("PAY", "REF"))
    record = {"id": refund, "transaction_id": stranger, "amount": PART, "status": "processed"}
    make = _one("refund of a payment of another order", "qr", "refund_without_payment", "refund",
                PAY, _patch(transactions={"refunds": [record]}), PROCESSED)  # fmt: skip
    return make(prefix, number)


def _too_many_refunds(prefix: Prefix, number: int) -> Scene:
    # Both refunds are listed and added up, payment and order say refunded: only the sum is more than was paid.
    refunds = [
        {
            "id": f"REF01{prefix.random.getrandbits(120):024X}"[:29],
            "transaction_id": PAYMENT,
            "amount": amount,
            "status": "processed",
        }
        for amount in (TOTAL, PART)
    ]
    both = money(PLANT_TOTAL_CENTS + 327_800)
    payment = {"refunded_amount": both, "status": "refunded", "status_detail": "refunded"}
    make = _one("refunded twice, beyond what was paid", "point", "refunds_exceed_paid", "payment",
                _quiet("terminal"), PAY,
                _patch(status="refunded", status_detail="refunded",
                       transactions={"payments": [payment], "refunds": refunds}), REFUNDED)  # fmt: skip
    return make(prefix, number)


def _sold_twice(prefix: Prefix, number: int) -> Scene:
    create = {"type": "qr", "total_amount": TOTAL, "external_reference": prefix.reference(number)}
    steps = (PAY, PROCESSED)
    return (
        PlannedOrder("first sale of a reference", create, steps, plant=Plant("first sale of a reference")),
        PlannedOrder("second sale of a reference", create, steps,
                     plant=Plant("second sale of a reference", (("duplicate_sale", "earlier"),))),
    )  # fmt: skip


PLANTS: tuple[Maker, ...] = (
    _one("paid after it expired", "qr", "paid_after_close", "order",
         _quiet("expire"), Announce("order.expired"), Seen(), PAY, PROCESSED),
    _several("paid after it was canceled, given back", "online", (),
             *CANCELED_SEEN, PAY, PROCESSED, Seen(), _quiet("refund"), REFUNDED,
             resolves=(("paid_after_close", "order"),)),
    _one("a pending refund vanished", "qr", "record_vanished", "refund",
         PAY, _quiet("refund", amount=PART, status="processing"), PROCESSED, Seen(),
         _patch(transactions={"refunds": [None]}), PROCESSED),
    # The refund is gone, and with it the refunded amount fell.
    _several("a finished refund vanished", "online", (("record_vanished", "refund"), ("went_backwards", "order")),
             PAY, REFUND_PART, REFUNDED, Seen(),
             _patch(status_detail="accredited",
                    transactions={"refunds": [None],
                                  **_payment(refunded_amount=None, status_detail="accredited")}), PROCESSED),
    _one("a canceled order reopened", "point", "went_backwards", "order",
         *CANCELED_SEEN, _patch(status="created", status_detail="created",
                                transactions=_payment(status="created", status_detail="created")), PROCESSED),
    _one("the currency changed", "online", "currency_changed", "order",
         *PAID_SEEN, _patch(currency="USD"), PROCESSED),
    _foreign_refund,
    _too_many_refunds,
    _one("the refunded amount is not the sum of the refunds", "qr", "refunded_amount_mismatch", "payment",
         PAY, REFUND_PART, _patch(transactions=_payment(refunded_amount=money(500_000))), REFUNDED),
    _one("a payment marked refunded, refunded in part", "qr", "payment_status_mismatch", "payment",
         PAY, REFUND_PART, _patch(transactions=_payment(status="refunded", status_detail="refunded")), REFUNDED),
    _one("a payment given back in full, still marked paid", "point", "payment_status_mismatch", "payment",
         _quiet("terminal"), PAY, _quiet("refund"),
         _patch(transactions=_payment(status="processed", status_detail="accredited")), REFUNDED),
    _one("an order marked refunded, refunded in part", "online", "order_status_mismatch", "order",
         PAY, REFUND_PART, _patch(status="refunded", status_detail="refunded"), REFUNDED),
    _one("an order marked paid, no payment is", "qr", "order_status_mismatch", "order",
         _patch(status="processed", status_detail="accredited"), PROCESSED),
    _one("paid for less than its total", "qr", "paid_total_mismatch", "order",
         PAY, _patch(total_amount=money(PLANT_TOTAL_CENTS + 99_900)), PROCESSED),
    _one("a refund failed", "online", "refund_failed", "refund",
         PAY, _quiet("refund", amount=PART, status="failed"), PROCESSED),
    _one("refunded and charged back", "online", "refund_and_chargeback", "payment",
         PAY, REFUND_PART, _quiet("chargeback", amount=TOTAL), Announce("order.charged_back")),
    _sold_twice,
)  # fmt: skip
