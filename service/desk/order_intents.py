"""Intents about a stored order: its cancellation, and refunds, which reserve what they will give back."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from asyncpg import Record

from service.desk.errors import DeskError, Fault, InvalidRequest, UnknownOrder, WrongState
from service.desk.identities import new_command_id, provider_key, request_hash
from service.desk.intents import QUERIES, CommandRow, Intent, commands_of_order, find_by_key, write_down
from service.desk.refund_rules import check_refund, legacy_refund_body, refund_body
from service.mercadopago.legacy import is_merchant_order_id
from service.orders.asked import AskedCommand
from service.orders.lifecycle import CLOSED_STATUSES, PAID_STATUSES
from service.orders.money import total_of
from service.orders.refunding import RefundRefused, is_all_that_is_left, reserve
from service.orders.snapshot import Chargeback, Payment, Refund
from service.sync.locks import lock_orders

# What the caller can mend by asking otherwise, and where; the rest lies in the order's state.
_PLACE_OF: Final[Mapping[str, str]] = {
    "not_positive": "amount",
    "unknown_payment": "payment_id",
    "amount_needs_payment": "payment_id",
}


# The option of a refund that was sent as "everything that is left", whatever that is by then.
EVERYTHING: Final = "everything"


async def cancellation(connection: Any, order_id: str, *, key: str, asked_by: str) -> tuple[CommandRow, bool]:
    """Writes the cancellation down, in the connection's transaction; the row, and whether it is new."""
    order = await connection.fetchrow(QUERIES.read_order_asked_about, order_id)
    if order is None:
        raise _unknown(order_id)
    asked = request_hash("cancel", order_id, None)
    there = await find_by_key(connection, order["account"], key, asked)
    if there is not None:
        return there, False
    _check_cancelable(order)
    return await write_down(
        connection,
        Intent(
            command_id=new_command_id(),
            account=order["account"],
            key=key,
            request_hash=asked,
            asked_by=asked_by,
            kind="cancel",
            provider_key=provider_key(order["account"], key),
            type=order["type"],
            order_id=order_id,
            external_reference=order["external_reference"],
            point_of_sale=order["point_of_sale"],
            currency=order["currency"],
            # The terminal may take the order up at any moment: allowed for always, the call stays the same.
            options={"at_terminal": True} if order["type"] == "point" else {},
        ),
    )


async def refund_intent(
    connection: Any,
    order_id: str,
    *,
    payment_id: str | None,
    amount: str | None,
    key: str,
    asked_by: str,
    currency_of: Callable[[str], str | None],
) -> tuple[CommandRow, bool]:
    """Reserves and writes the refund down, in the connection's transaction; the row, and whether it is new.

    The order's locks are taken first. A repeat finds its row before anything is reserved. `currency_of` an account, by
    name, is for orders that do not tell theirs.
    """
    await lock_orders(connection, [order_id])
    order = await connection.fetchrow(QUERIES.lock_order_asked_about, order_id)
    if order is None:
        raise _unknown(order_id)
    request = {name: value for name, value in (("payment_id", payment_id), ("amount", amount)) if value is not None}
    asked = request_hash("refund", order_id, request)
    there = await find_by_key(connection, order["account"], key, asked)
    if there is not None:
        return there, False
    currency = order["currency"] or currency_of(order["account"])
    wanted = check_refund(request, currency=currency)
    commands = await commands_of_order(connection, order_id)
    reserved, is_all = await _reserve(connection, order_id, commands, wanted.payment_id, wanted.amount)
    # Said as such only where nothing else is on its way, or taken by the buyer's bank: else its share would be given
    # back as well.
    is_alone = not any(one.kind == "refund" and one.is_open for one in commands)
    everything = wanted == (None, None) and is_all and is_alone
    return await write_down(
        connection,
        Intent(
            command_id=new_command_id(),
            account=order["account"],
            key=key,
            request_hash=asked,
            asked_by=asked_by,
            kind="refund",
            provider_key=provider_key(order["account"], key),
            type=order["type"],
            order_id=order_id,
            external_reference=order["external_reference"],
            point_of_sale=order["point_of_sale"],
            payment_id=next(iter(reserved)) if len(reserved) == 1 else None,
            amount=total_of(reserved.values()),
            currency=currency,
            reserved=reserved,
            body=_body(order_id, reserved, currency, everything=everything),
            options={EVERYTHING: True} if everything else {},
        ),
    )


async def _reserve(
    connection: Any, order_id: str, commands: list[AskedCommand], payment_id: str | None, amount: Decimal | None
) -> tuple[Mapping[str, Decimal], bool]:
    """What is reserved of each payment, and whether it is all that the provider could give back of the order."""
    payments = [stored_payment(row) for row in await connection.fetch(QUERIES.read_payments, order_id)]
    refunds = [stored_refund(row) for row in await connection.fetch(QUERIES.read_refunds, order_id)]
    chargebacks = [stored_chargeback(row) for row in await connection.fetch(QUERIES.read_chargebacks, order_id)]
    try:
        reserved = reserve(payments, refunds, commands, payment_id=payment_id, amount=amount, chargebacks=chargebacks)
    except RefundRefused as refused:
        raise _mapped(refused) from None
    if len(reserved) > 1 and is_merchant_order_id(order_id):
        names = ", ".join(reserved)
        raise InvalidRequest([Fault("payment_id", f"the order has several payments ({names}): refund them one by one")])
    return reserved, is_all_that_is_left(payments, refunds, reserved)


def _body(order_id: str, reserved: Mapping[str, Decimal], currency: str | None, *, everything: bool) -> str | None:
    if is_merchant_order_id(order_id):
        (amount,) = reserved.values()
        return legacy_refund_body(None if everything else amount)
    try:
        return refund_body(reserved, total=everything, currency=currency)
    except ValueError as error:
        raise WrongState(f"What is left cannot be said to Mercado Pago: {error}.", code="amount_too_fine") from None


def _check_cancelable(order: Record) -> None:
    """Stored as paid or closed: the provider would refuse, and the person is told what to do instead."""
    order_id, status = order["order_id"], order["status"]
    if is_merchant_order_id(order_id):
        raise WrongState(
            "A sale of the legacy QR is taken off its point of sale (DELETE legacy-qr), or refunded when it is paid.",
            code="legacy_order",
        )
    if status in PAID_STATUSES:
        raise WrongState("The order is paid: refund it instead of canceling it.", code="order_paid")
    if status in CLOSED_STATUSES:
        raise WrongState(f"The order is {status} already: there is nothing to cancel.", code="order_closed")


def _mapped(refused: RefundRefused) -> DeskError:
    place = _PLACE_OF.get(refused.code)
    if place is not None:
        return InvalidRequest([Fault(place, refused.message)])
    return WrongState(refused.message, code=refused.code)


def _unknown(order_id: str) -> UnknownOrder:
    return UnknownOrder(f"no order {order_id} is stored here; if it is yours, fetch it first: cuadre sync {order_id}")


def stored_payment(row: Record) -> Payment:
    """A row of `read_payments` as the rules see it."""
    return Payment(**dict(row))


def stored_chargeback(row: Record) -> Chargeback:
    """A row of `read_chargebacks` as the rules see it."""
    return Chargeback(
        chargeback_id=row["chargeback_id"],
        transaction_id=row["payment_id"],
        amount=row["amount"],
        status=row["status"],
    )


def stored_refund(row: Record) -> Refund:
    """A row of `read_refunds` as the rules see it."""
    return Refund(
        refund_id=row["refund_id"],
        transaction_id=row["payment_id"],
        amount=row["amount"],
        status=row["status"],
        status_detail=row["status_detail"],
    )
