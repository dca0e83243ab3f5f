"""When a refund may be said as "everything": only where the provider would give back just what is reserved."""

from decimal import Decimal

import pytest

from service.orders.refunding import is_all_that_is_left, reserve
from service.orders.snapshot import Chargeback, Payment, Refund

ONE = Payment("PAY1", status="processed", amount=Decimal("50.00"), paid_amount=Decimal("50.00"))
TWO = Payment("PAY2", status="processed", amount=Decimal("20.00"), paid_amount=Decimal("20.00"))
OPEN = Payment("PAY3", status="created", amount=Decimal("9.00"), paid_amount=Decimal("9.00"))


def refund(status: str, payment_id: str | None = "PAY1") -> Refund:
    return Refund("REF1", payment_id, Decimal("10.00"), status)


def taken(status: str, amount: str = "10.00", payment_id: str = "PAY1") -> Chargeback:
    return Chargeback("CBK1", payment_id, Decimal(amount), status)


@pytest.mark.parametrize(
    ("payments", "refunds", "chargebacks", "is_all"),
    [
        ([ONE], [], [], True),
        ([ONE, TWO, OPEN], [], [], True),
        ([ONE, TWO], [refund("processed")], [], True),
        ([ONE, TWO], [refund("failed")], [], True),
        ([ONE], [], [taken("reimbursed")], True),
        ([ONE], [], [taken("in_process")], False),
        ([ONE, TWO], [], [taken("settled", "20.00", "PAY2")], False),
        # The provider may or may not count a refund that is under way.
        ([ONE], [refund("processing")], [], False),
        ([ONE, TWO], [refund("processed", payment_id=None)], [], False),
    ],
)
def test_everything(
    payments: list[Payment], refunds: list[Refund], chargebacks: list[Chargeback], is_all: bool
) -> None:
    reserved = reserve(payments, refunds, [], payment_id=None, amount=None, chargebacks=chargebacks)
    assert is_all_that_is_left(payments, refunds, reserved) is is_all
