"""The calls behind commands on the Orders API: a creation, a cancellation, a refund. One call each, never twice."""

from service.desk.work import Tools, Work
from service.mercadopago.account import Account
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.legacy import is_merchant_order_id


async def send_create(tools: Tools, account: Account, work: Work) -> ProviderAnswer:
    """`POST /v1/orders`."""
    return await tools.client.create_order(account, work.body or "", work.command.provider_key)


async def send_cancel(tools: Tools, account: Account, work: Work) -> ProviderAnswer:
    """`POST /v1/orders/{id}/cancel`."""
    command = work.command
    return await tools.client.cancel_order(
        account,
        command.order_id or "",
        command.provider_key,
        at_terminal=command.options.get("at_terminal") is True,
    )


async def send_refund(tools: Tools, account: Account, work: Work) -> ProviderAnswer:
    """`POST /v1/orders/{id}/refund`; of a legacy sale `POST /v1/payments/{id}/refunds`."""
    command = work.command
    order_id = command.order_id or ""
    if is_merchant_order_id(order_id):
        return await tools.client.refund_payment(
            account, command.payment_id or "", work.body or "{}", command.provider_key
        )
    return await tools.client.refund_order(account, order_id, work.body, command.provider_key)
