"""The HTTP client for Mercado Pago: everything that is asked of it, every failure in the terms of the error tree.

Retries across time belong to whoever owes the call: a read's to the `sync` row, a write's to its command. In here a
write is sent at most once. Reads raise `MercadoPagoError`; writes return the provider's answer, whatever it says, and
raise only where there was none (`calls`). What cannot be asked for (an id that is none, an account without the id that
a path needs) raises `BadRequest` with `status` 0 and is not sent.

The label of a call in the metrics is the method's name; the parts of a merchant order count as `get_payment` and
`get_payment_refunds`.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from service.mercadopago.account import Account, LegacyQr
from service.mercadopago.answers import ProviderAnswer, http_date
from service.mercadopago.calls import Caller, OnCall
from service.mercadopago.documents import Fields, ReadOrder, body_text, object_of, text_of
from service.mercadopago.errors import BadRequest, NonsenseAnswer, OrderNotFound, Timeout, UnreadableOrder
from service.mercadopago.json_text import JsonDocument, NotJson, parse_json
from service.mercadopago.legacy import (
    MERCHANT_ORDER_PREFIX,
    is_merchant_order_id,
    is_payment_hint_id,
    listed_payments,
    needs_refunds,
    payload_of,
    read_merchant_order,
)
from service.mercadopago.listing import OrdersPage, read_merchant_order_ids, read_orders_page
from service.mercadopago.paths import merchant_order_path, order_path, payment_path, v1_path, v2_path
from service.mercadopago.payer import order_without_payer
from service.mercadopago.reader import read_order
from service.mercadopago.transport import MAX_ANSWER_BYTES, Answer

__all__ = ["MAX_ANSWER_BYTES", "FetchedOrder", "MercadoPagoClient", "OnCall", "Seller"]

MAX_PAGE_SIZE = 100
# Merchant orders found under one reference; more are no sale, but a test or an abuse.
_MOST_PAGES = 5


@dataclass(frozen=True, slots=True)
class FetchedOrder:
    """`provider_date` is the answer's `Date` header: the provider's clock, to tell how far ours is off."""

    read: ReadOrder
    provider_date: datetime | None


@dataclass(frozen=True, slots=True)
class Seller:
    """Who a token belongs to. `is_test` says that it is a test user; `site_id` is like `MLA`."""

    user_id: str
    site_id: str | None
    nickname: str | None
    is_test: bool
    provider_date: datetime | None


class MercadoPagoClient(Caller):
    """Orders, payments, merchant orders and sellers, read and written."""

    # Reads --------------------------------------------------------------------------------------------------------

    async def get_order(self, account: Account, order_id: str) -> FetchedOrder:
        """`GET /v1/orders/{id}`, read. Raises `MercadoPagoError`; an `UnreadableOrder` bears the answer's text."""
        return await self._read(
            "get_order",
            account,
            order_path(order_id),
            lambda answer: _fetched(account, read_order(answer.body, order_id), http_date(answer.headers.get("Date"))),
            about_order=True,
        )

    async def get_any(self, account: Account, order_id: str) -> FetchedOrder:
        """An order by its id here: `MO…` is a sale of the legacy QR, all else one of the Orders API."""
        if is_merchant_order_id(order_id):
            return await self.get_merchant_order(account, order_id)
        if is_payment_hint_id(order_id):
            raise BadRequest(f"{order_id} is a payment told of, and no order; it was not asked for")
        return await self.get_order(account, order_id)

    async def who_am_i(self, account: Account) -> Seller:
        """`GET /users/me`: the seller that the account's token speaks for. Raises `MercadoPagoError`."""
        return await self._read("who_am_i", account, "/users/me", _seller, about_order=False)

    async def search_orders(
        self,
        account: Account,
        *,
        begin: datetime,
        end: datetime,
        external_reference: str | None = None,
        page: int = 1,
        page_size: int = MAX_PAGE_SIZE,
    ) -> OrdersPage:
        """`GET /v1/orders`: orders created from `begin` to `end`, oldest first, one page of them (the first is 1).

        The provider takes at most 30 days at once, finds new orders late, and may not list every type. Raises
        `MercadoPagoError`; a refused search is a `NonsenseAnswer` with `status` 400. A caller that goes on to the last
        page stops where one tells no new id: a provider that pages otherwise than documented would answer for ever.
        """
        if begin.tzinfo is None or end.tzinfo is None or page < 1 or not 1 <= page_size <= MAX_PAGE_SIZE:
            raise ValueError("begin and end must have a timezone, page must be from 1, page_size 1 to 100")
        query = {
            "begin_date": _rfc3339(begin),
            "end_date": _rfc3339(end + timedelta(milliseconds=1, microseconds=-1)),
            "page": str(page),
            "page_size": str(page_size),
            "sort_by": "created_date",
            "sort_order": "asc",
        }
        if external_reference is not None:
            query["external_reference"] = external_reference
        return await self._read(
            "search_orders",
            account,
            "/v1/orders",
            lambda answer: read_orders_page(answer.body, page=page, page_size=page_size),
            about_order=False,
            query=query,
        )

    async def search_merchant_orders(self, account: Account, external_reference: str) -> tuple[str, ...]:
        """`GET /merchant_orders/search`: the numbers of the merchant orders with this reference, of the last 90 days.

        As the provider writes them, without `MO`. None found does not mean that there is none. Raises
        `MercadoPagoError`.
        """
        found: dict[str, None] = {}
        offset: int | None = 0
        for _ in range(_MOST_PAGES):
            numbers, offset = await self._read(
                "search_merchant_orders",
                account,
                "/merchant_orders/search",
                lambda answer: read_merchant_order_ids(answer.body),
                about_order=False,
                query={"external_reference": external_reference, "limit": "50", "offset": str(offset)},
            )
            found |= dict.fromkeys(numbers)
            if offset is None:
                break
        return tuple(found)

    async def get_merchant_order(self, account: Account, merchant_order_id: str) -> FetchedOrder:
        """`GET /merchant_orders/{id}`, each of its payments and their refunds, read as one order with the id `MO…`.

        Takes the number with or without `MO`. All of it must come within twice the time of one call. Raises
        `MercadoPagoError`: a payment that is not found is an `OrderNotFound` like the merchant order itself.
        """
        number = merchant_order_id.removeprefix(MERCHANT_ORDER_PREFIX)
        path = merchant_order_path(number)
        seconds = 2 * self._transport.total_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._merchant_order(account, number, path)
        except TimeoutError:
            pass
        raise Timeout(f"the merchant order and its payments were not all there within {seconds:g} s")

    async def _merchant_order(self, account: Account, number: str, path: str) -> FetchedOrder:
        order, date = await self._object("get_merchant_order", account, path, number)
        try:
            payments, refunds = await self._payments_of(account, object_of(order.value))
            read = read_merchant_order(payload_of(order, payments, refunds).encode(), MERCHANT_ORDER_PREFIX + number)
        except UnreadableOrder as error:
            if error.body is None:
                error.body = body_text(order.text.encode())
            raise
        altered = any(document.altered for document in (order, *payments, *refunds.values()))
        return _fetched(account, replace(read, altered=altered), date)

    async def _payments_of(
        self, account: Account, merchant_order: Fields
    ) -> tuple[list[JsonDocument], dict[str, JsonDocument]]:
        """Every payment that it lists, and by payment the refunds that had to be asked for."""
        payments: list[JsonDocument] = []
        refunds: dict[str, JsonDocument] = {}
        for payment_id in listed_payments(merchant_order):
            payment = await self._payment(account, payment_id)
            payments.append(payment)
            if needs_refunds(object_of(payment.value)):
                refunds[payment_id] = await self._read(
                    "get_payment_refunds",
                    account,
                    f"{payment_path(payment_id)}/refunds",
                    _list,
                    about_order=True,
                    what=f"refunds of payment {payment_id}",
                )
        return payments, refunds

    async def get_payment(self, account: Account, payment_id: str) -> dict[str, object]:
        """`GET /v1/payments/{id}`: the payment as it came, numbers with a point as `Decimal`.

        Raises `MercadoPagoError`.
        """
        return object_of((await self._payment(account, payment_id)).value)

    async def _payment(self, account: Account, payment_id: str) -> JsonDocument:
        path, what = payment_path(payment_id), f"payment {payment_id}"
        document, _ = await self._object("get_payment", account, path, payment_id, what=what)
        return document

    async def _object(
        self, operation: str, account: Account, path: str, expected_id: str, *, what: str = ""
    ) -> tuple[JsonDocument, datetime | None]:
        return await self._read(
            operation,
            account,
            path,
            lambda answer: (_document_of(answer, expected_id), http_date(answer.headers.get("Date"))),
            about_order=True,
            what=what,
        )

    async def get_legacy_current(self, account: Account, external_pos_id: str) -> dict[str, object] | None:
        """The order of the legacy QR's second generation that a point of sale shows now; None for none.

        Orders of the first generation cannot be asked for. Raises `MercadoPagoError`; so it does where it is not the
        provider that says that there is none: a 404 without any word of its errors is any gateway's.
        """
        try:
            return await self._read(
                "get_legacy_current", account, v2_path(account, external_pos_id), _current, about_order=True
            )
        except OrderNotFound as error:
            if error.code is not None:
                return None
            raise NonsenseAnswer(f"{error}: not Mercado Pago's own words", status=error.status) from None

    # Writes -------------------------------------------------------------------------------------------------------

    async def create_order(self, account: Account, body: str, idempotency_key: str) -> ProviderAnswer:
        """`POST /v1/orders`. 201 with the order; 402 with the order in `data`, which exists then."""
        return await self._write(
            "create_order", account, "POST", "/v1/orders", body=body, headers=_key(idempotency_key)
        )

    async def cancel_order(
        self, account: Account, order_id: str, idempotency_key: str, *, at_terminal: bool
    ) -> ProviderAnswer:
        """`POST /v1/orders/{id}/cancel`. 200 with the order.

        With `at_terminal` a Point order that a terminal shows is canceled as well, if the terminal lets go: only a
        later look says so.
        """
        headers = _key(idempotency_key)
        if at_terminal:
            headers["x-allow-cancelable-status"] = "at_terminal"
        return await self._write("cancel_order", account, "POST", f"{order_path(order_id)}/cancel", headers=headers)

    async def refund_order(
        self, account: Account, order_id: str, body: str | None, idempotency_key: str
    ) -> ProviderAnswer:
        """`POST /v1/orders/{id}/refund`: all that is left where `body` is None. 201 with the new refunds alone."""
        return await self._write(
            "refund_order",
            account,
            "POST",
            f"{order_path(order_id)}/refund",
            body=body,
            headers=_key(idempotency_key),
        )

    async def refund_payment(
        self, account: Account, payment_id: str, body: str, idempotency_key: str
    ) -> ProviderAnswer:
        """`POST /v1/payments/{id}/refunds`: `{}` for all that is left, or `{"amount": 5.0}`. 201 with the refund."""
        return await self._write(
            "refund_payment",
            account,
            "POST",
            f"{payment_path(payment_id)}/refunds",
            body=body,
            headers=_key(idempotency_key),
        )

    async def put_legacy_order(
        self,
        account: Account,
        external_pos_id: str,
        body: str,
        *,
        generation: LegacyQr,
        ttl_seconds: int | None,
        store_id: str | None,
    ) -> ProviderAnswer:
        """Puts an order on a point of sale's printed QR, in place of what is there. 200 (V1) or 204 (V2).

        `ttl_seconds` is sent with V1 alone; V2 has its `expiration_date` in the body (`legacy.order_body_v2`).
        `store_id` is the `external_store_id` that V2 needs.
        """
        if generation == "v1":
            headers = {} if ttl_seconds is None else {"X-Ttl-Store-Preference": str(ttl_seconds)}
            path = v1_path(account, external_pos_id)
            return await self._write(
                "put_legacy_order", account, "POST", path, body=body, headers=headers, may_be_empty=True
            )
        if not store_id:
            raise BadRequest(f"account {account.name} has no legacy_store_id, which V2 paths need; nothing was sent")
        path = v2_path(account, external_pos_id, store_id)
        return await self._write("put_legacy_order", account, "PUT", path, body=body, may_be_empty=True)

    async def delete_legacy_order(
        self, account: Account, external_pos_id: str, *, generation: LegacyQr, store_id: str | None
    ) -> ProviderAnswer:
        """Takes what is there off a point of sale's printed QR. 204. V2 deletes on a path without the store."""
        del store_id
        path = v1_path(account, external_pos_id) if generation == "v1" else v2_path(account, external_pos_id)
        return await self._write("delete_legacy_order", account, "DELETE", path, may_be_empty=True)


def _key(idempotency_key: str) -> dict[str, str]:
    return {"X-Idempotency-Key": idempotency_key}


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parsed(answer: Answer) -> JsonDocument:
    try:
        return parse_json(answer.body)
    except NotJson as error:
        reason = str(error)
    raise NonsenseAnswer(f"the answer is not JSON: {reason}", status=200)


def _document_of(answer: Answer, expected_id: str) -> JsonDocument:
    """An object that bears the id that was asked for. Raises `NonsenseAnswer`."""
    document = _parsed(answer)
    if not isinstance(document.value, dict):
        raise NonsenseAnswer("the answer is JSON, but no object", status=200)
    if text_of(document.value.get("id")) != expected_id:
        raise NonsenseAnswer("the answer bears another id than was asked for", outcome="foreign_order", status=200)
    return document


def _list(answer: Answer) -> JsonDocument:
    document = _parsed(answer)
    if not isinstance(document.value, list):
        raise NonsenseAnswer("the answer is JSON, but no list", status=200)
    return document


def _current(answer: Answer) -> Fields | None:
    """The order shown: alone, or as the only entry of a list."""
    value = _parsed(answer).value
    if isinstance(value, list):
        value = value[0] if value else None
    if value is not None and not isinstance(value, dict):
        raise NonsenseAnswer("the answer is JSON, but no object", status=200)
    return value


def _seller(answer: Answer) -> Seller:
    value = _parsed(answer).value
    fields = value if isinstance(value, dict) else {}
    user_id = fields.get("id")
    if isinstance(user_id, bool) or not isinstance(user_id, int | str) or user_id == "":
        raise NonsenseAnswer("the answer names no user", status=200)
    site_id, nickname, tags = fields.get("site_id"), fields.get("nickname"), fields.get("tags")
    return Seller(
        user_id=str(user_id),
        site_id=site_id if isinstance(site_id, str) else None,
        nickname=nickname if isinstance(nickname, str) else None,
        is_test=isinstance(tags, list) and "test_user" in tags,
        provider_date=http_date(answer.headers.get("Date")),
    )


def _fetched(account: Account, read: ReadOrder, provider_date: datetime | None) -> FetchedOrder:
    return FetchedOrder(read if account.keep_payer else order_without_payer(read), provider_date)
