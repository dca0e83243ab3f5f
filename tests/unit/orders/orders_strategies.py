"""Random snapshots of one order, and what was asked of it: few ids and amounts, so that they meet, and every status."""

from datetime import timedelta
from decimal import Decimal

from hypothesis import strategies as st

from service.orders.asked import OPEN_STATUSES, SETTLED_STATUSES, AskedCommand
from service.orders.snapshot import CashOut, Chargeback, OrderSnapshot, Payment, Refund
from tests.unit.orders.orders_samples import NOW, ORDER_ID

AMOUNTS = st.sampled_from([None, *map(Decimal, ("0", "5", "5.00", "10.00", "10", "1.5e1", "20", "0.01"))])
STATUSES = st.sampled_from(
    ["created", "at_terminal", "processing", "action_required", "canceled", "cancelled", "expired", "failed"]
    + ["processed", "refunded", "charged_back"] * 3
    + ["a_new_status", None]
)
PAYMENT_IDS = st.sampled_from(["PAY1", "PAY2"])
TRANSACTION_IDS = st.sampled_from(["PAY1", "PAY1", "PAY1", "PAY2", "CAS1", "PAY9", None])

PAYMENTS = st.builds(
    Payment, PAYMENT_IDS, status=STATUSES, amount=AMOUNTS, paid_amount=AMOUNTS, refunded_amount=AMOUNTS
)
REFUNDS = st.builds(
    Refund,
    st.sampled_from(["REF1", "REF2", "REF3"]),
    transaction_id=TRANSACTION_IDS,
    amount=AMOUNTS,
    status=st.sampled_from(["processing", "processed", "failed", "odd", None]),
)
CHARGEBACKS = st.builds(
    Chargeback,
    st.sampled_from(["CBK1", "CBK2"]),
    transaction_id=TRANSACTION_IDS,
    amount=AMOUNTS,
    status=st.sampled_from(["in_process", "settled", "reimbursed"]),
)
CASH_OUTS = st.builds(CashOut, st.sampled_from(["CAS1", "CAS2"]), amount=AMOUNTS)
SNAPSHOTS = st.builds(
    OrderSnapshot,
    st.just(ORDER_ID),
    status=STATUSES,
    total_amount=AMOUNTS,
    currency=st.sampled_from(["ARS", "ARS", "CLP", None]),
    payments=st.lists(PAYMENTS, max_size=3).map(tuple),
    refunds=st.lists(REFUNDS, max_size=4).map(tuple),
    chargebacks=st.lists(CHARGEBACKS, max_size=2).map(tuple),
    cash_outs=st.lists(CASH_OUTS, max_size=2).map(tuple),
)

MOMENTS = st.sampled_from([NOW + timedelta(hours=hours) for hours in (-2, -1, 0, 1, 13)])
MAYBE_MOMENTS = st.one_of(st.none(), MOMENTS)
COMMANDS = st.builds(
    AskedCommand,
    st.sampled_from(["CMD1", "CMD2", "CMD3", "CMD4"]),
    kind=st.sampled_from(["create", "cancel", "refund", "refund", "refund", "legacy_put"]),
    status=st.sampled_from(sorted(OPEN_STATUSES | SETTLED_STATUSES)),
    asked_at=MOMENTS,
    maybe_sent_at=MAYBE_MOMENTS,
    accepted_at=MAYBE_MOMENTS,
    settled_at=MAYBE_MOMENTS,
    amount=AMOUNTS,
    currency=st.sampled_from(["ARS", None]),
    reserved=st.dictionaries(PAYMENT_IDS, st.sampled_from(list(map(Decimal, ("5", "10.00", "20")))), max_size=2),
    refund_ids=st.lists(st.sampled_from(["REF1", "REF2", "REF3", "REF9"]), max_size=2, unique=True).map(tuple),
)
REQUESTS = st.lists(COMMANDS, max_size=4, unique_by=lambda command: command.command_id).map(tuple)
