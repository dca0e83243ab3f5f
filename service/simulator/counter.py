"""What happens at the counter of the legacy attended QR, and the word sent of it to the order's `notification_url`.

Multiplicities (notifications fact sheet, §5 and §7): a scan is one feed message of the merchant order; a payment is a
`payment.created` webhook, a feed `payment` and the feed `merchant_order` (twice when it closes the order); a later
change of a payment is `payment.updated`, feed `payment`, feed `merchant_order`. No signature of theirs can be verified.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from yarl import URL

from .clock import format_time
from .in_store import MerchantOrder, NotPossible, Payment, Refund, StoreOrder
from .money import Json
from .notices import Notice, feed_notice, webhook_notice
from .world import World

CREATED = ("payment.created", "payment", "merchant_order")
CLOSED = (*CREATED, "merchant_order")
UPDATED = ("payment.updated", "payment", "merchant_order")
SCANNED = ("merchant_order",)


def put(
    world: World, user_id: str, pos: str, generation: str, request: Json, total: Decimal, expires_at: datetime
) -> StoreOrder:
    """A new order on a point of sale, which runs out by itself."""
    order = world.in_store.put(user_id, pos, generation, request, total, world.clock.now(), expires_at)
    world.give_way(("pos", user_id, pos))
    world.agenda.put(expires_at, lambda at: end(world, order, "expired", at))
    return order


def end(world: World, order: StoreOrder, state: str, at: datetime) -> None:
    """An unpaid order runs out or is deleted."""
    if world.in_store.end(order, state, at) and order.merchant_order is not None:
        announce(world, order.merchant_order, None, SCANNED)


def scan(world: World, order: StoreOrder, *, late: bool = False, notify: bool = True) -> MerchantOrder:
    """The buyer opens the order. Who has it open may go on after its end; `late` says that this buyer had it open."""
    if order.merchant_order is None and order.state != "live" and not late:
        raise NotPossible("order_not_shown", f"the order is {order.state} and nobody had scanned it; say late: true")
    merchant_order, new = world.in_store.scan(order, world.clock.now())
    if new and notify:
        announce(world, merchant_order, None, SCANNED)
    return merchant_order


def pay(
    world: World,
    merchant_order: MerchantOrder,
    status: str,
    status_detail: str,
    *,
    amount: Decimal | None = None,
    method: Json | None = None,
    notify: bool = True,
) -> Payment:
    """The buyer tries to pay, and it ends (or hangs) as told."""
    payment = world.in_store.pay(
        merchant_order, world.clock.now(), amount=amount, status=status, status_detail=status_detail, method=method
    )
    if notify:
        announce(world, merchant_order, payment, CLOSED if merchant_order.status == "closed" else CREATED)
    return payment


def settle(world: World, payment: Payment, status: str, status_detail: str, *, notify: bool = True) -> None:
    """A pending payment is decided, or an approved one charged back."""
    world.in_store.settle(payment, status, status_detail, world.clock.now())
    if notify:
        announce(world, world.in_store.payments[payment.payment_id], payment, UPDATED)


def refund(world: World, payment: Payment, amount: Decimal | None, *, notify: bool = True) -> Refund:
    """Give money back, at once or (by the rules) some time later."""
    seconds = world.rules.refund_processing_seconds
    status = "approved" if seconds is None else "in_process"
    made = world.in_store.refund(payment, amount, status, world.clock.now())
    merchant_order = world.in_store.payments[payment.payment_id]
    if seconds is None:
        if notify:
            announce(world, merchant_order, payment, UPDATED)
        return made
    ends = "approved" if world.rules.refund_ends == "processed" else "rejected"

    def finish(at: datetime) -> None:
        world.in_store.end_refund(payment, made, ends, at)
        announce(world, merchant_order, payment, UPDATED)

    world.agenda.put(world.clock.now() + timedelta(seconds=seconds), finish)
    return made


def announce(world: World, merchant_order: MerchantOrder, payment: Payment | None, calls: Sequence[str]) -> None:
    """Send word to the order's own URL; without one nobody hears of it. `source_news` in the URL picks one family."""
    url = merchant_order.order.notification_url
    if url is None:
        return
    family = _family(url)
    for call in calls:
        webhook = "." in call
        if family is None or family == ("webhooks" if webhook else "ipn"):
            notice = _notice(world, merchant_order, payment, call)
            world.notifier.announce_notice(replace(notice, url=url, sign="wrong"), f"{merchant_order.order.key}/{call}")


def _family(url: str) -> str | None:
    try:
        return URL(url).query.get("source_news")
    except ValueError:
        return None  # an unusable URL fails when the message is sent


def _notice(world: World, merchant_order: MerchantOrder, payment: Payment | None, call: str) -> Notice:
    order_id = str(merchant_order.merchant_order_id)
    resource_id = order_id if call == "merchant_order" or payment is None else str(payment.payment_id)
    if "." not in call:
        notice = feed_notice(call, resource_id)
    else:
        number = 10**11 + world.draws.below(10**11, "webhook-id", resource_id, call, merchant_order.version)
        at_text = format_time(world.clock.now())[:-5] + "Z"
        notice = webhook_notice("payment", call, resource_id, merchant_order.order.user_id, number, at_text)
    return replace(notice, order_id=order_id, version=merchant_order.version)
