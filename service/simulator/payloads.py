"""Bodies of orders: a fresh one of each type, and what a GET shows of it with its quirks (orders fact sheet, §2-§5)."""

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from .clock import format_time, parse_duration, parse_time
from .config import SimulatorConfig
from .draws import Draws
from .ids import ulid
from .money import SITES, SITES_BY_ALPHA3, Json, Site, amount_text, decimal_of, written_like
from .spec import OrderSpec

AMOUNT_KEYS = frozenset(
    {
        "total_amount",
        "total_paid_amount",
        "amount",
        "paid_amount",
        "refunded_amount",
        "tip_amount",
        "unit_price",
        "new_total_amount",
        "marketplace_fee",
    }
)
DATE_KEYS = ("created_date", "last_updated_date")
DEFAULT_EXPIRATION = {"qr": "PT15M", "point": "PT15M", "online": "P1D"}


def dump_json(value: Any) -> bytes:
    """JSON as it goes over the wire: compact, UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def load_json(text: bytes) -> Any:
    """What a request's body says. Raises `ValueError`, also for what could not be sent back or is nested too deep."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if b"\\u" in text:
        dump_json(value)  # half a surrogate pair cannot be written as UTF-8
    return value


def new_order(spec: OrderSpec, config: SimulatorConfig, draws: Draws, key: str, at: datetime) -> Json:
    """The body of an order `created` at `at`. Draws are keyed by `key`."""
    site = SITES[spec.site or config.site]
    amount = spec.total_amount or _drawn_amount(draws, key, site)
    prefix = "ORDTST" if spec.test else "ORD"
    body: Json = {
        "id": spec.id or prefix + ulid(at, draws.number("order-id", key)),
        "type": spec.type,
        "processing_mode": "automatic",
        "external_reference": spec.external_reference,
    }
    if spec.description:
        body["description"] = spec.description
    if spec.type != "online":
        body["expiration_time"] = spec.expiration_time or DEFAULT_EXPIRATION[spec.type]
    if spec.type != "point":
        body["total_amount"] = amount
    body |= {
        "country_code": site.alpha3,
        "user_id": spec.user_id or config.user_id,
        "status": "created",
        "status_detail": "created",
        "currency": spec.currency or (config.currency if spec.site is None else None) or site.currency,
        "created_date": format_time(at),
        "last_updated_date": format_time(at),
        "integration_data": {"application_id": spec.application_id or config.application_id},
        "transactions": {"payments": [_fresh_payment(spec, draws, key, at, site, amount)]},
    }
    body |= _members_of_type(spec, draws, key, amount)
    if spec.items:
        body["items"] = list(spec.items)
    if spec.discounts:
        body["discounts"] = {"payment_methods": list(spec.discounts)}
    return body


def _drawn_amount(draws: Draws, key: str, site: Site) -> str:
    cents = Decimal(100 + draws.below(1_000_000, "amount", key))
    return f"{int(cents)}.00" if not site.decimals else f"{cents / 100:.2f}"


def _fresh_payment(spec: OrderSpec, draws: Draws, key: str, at: datetime, site: Site, amount: str) -> Json:
    payment_amount = amount if site.decimals else written_like(decimal_of(amount), "0")
    payment: Json = {
        "id": "PAY" + ulid(at, draws.number("payment-id", key, 0)),
        "amount": payment_amount,
        "status": "created",
        "status_detail": "ready_to_process" if spec.type == "qr" else "created",
    }
    if spec.type == "online":
        method = spec.payment_method or {"id": "pix", "type": "bank_transfer"}
        if method.get("type") == "bank_transfer":
            duration = spec.expiration_time or DEFAULT_EXPIRATION["online"]
            expires_at = at + parse_duration(duration)
            payment["expiration_time"] = duration
            payment["date_of_expiration"] = format_time(expires_at)[:-1] + "+00:00"
        payment["reference_id"] = reference_id(draws, key, 0)
        payment["payment_method"] = dict(method)
    return payment


def _members_of_type(spec: OrderSpec, draws: Draws, key: str, amount: str) -> Json:
    if spec.type == "online":
        # Filled before anything was paid, as measured (orders fact sheet, §5).
        return {"capture_mode": "automatic_async", "total_paid_amount": amount}
    if spec.type == "point":
        serial = f"N950NCB8012000{draws.below(100, 'terminal', key):02d}"
        terminal = spec.terminal_id or f"NEWLAND_N950__{serial}"
        return {"config": {"point": {"terminal_id": terminal, "print_on_terminal": "seller_ticket"}}}
    pos = spec.external_pos_id or f"CAJA{draws.below(20, 'pos', key) + 1:02d}"
    members: Json = {"config": {"qr": {"external_pos_id": pos, "mode": spec.mode}}}
    if spec.mode != "static":
        token = f"{draws.number('qr-data', key):032x}"
        members["type_response"] = {
            "qr_data": f"00020101021243650016com.mercadolibre02013063{token}5204000053030325802AR"
        }
    return members


def reference_id(draws: Draws, *about: object) -> str:
    """An id of the Payments API: 13 digits."""
    return str(10**12 + draws.below(9 * 10**12, "reference-id", *about))


def expires_at(body: Json) -> datetime | None:
    """When an unpaid order runs out: its own `expiration_time`, else its payment's; `None` for never."""
    try:
        if "expiration_time" in body:
            return parse_time(body["created_date"]) + parse_duration(body["expiration_time"])
        for payment in payments_of(body):
            if "date_of_expiration" in payment:
                return parse_time(payment["date_of_expiration"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None  # a planted body may say anything here
    return None


def payments_of(body: Json) -> list[Json]:
    """The payments of a body, however odd the body is."""
    return records_of(body, "payments")


def records_of(body: Json, kind: str) -> list[Json]:
    """`transactions.<kind>[]` of a body: `payments`, `refunds`, `chargebacks`."""
    transactions = body.get("transactions")
    records = transactions.get(kind) if isinstance(transactions, dict) else None
    return [record for record in records if isinstance(record, dict)] if isinstance(records, list) else []


def shown(body: Json, quirks: frozenset[str], draws: Draws, key: str, version: int) -> Json:
    """What a GET shows of `body`: itself, but for the quirks of that order."""
    if not quirks:
        return body
    view = dict(body)
    site = SITES_BY_ALPHA3.get(str(view.get("country_code")))
    if site is not None and "alpha2_country" in quirks:
        view["country_code"] = site.alpha2
    if site is not None and "site_country" in quirks:
        view["country_code"] = site.site_id
    if "no_currency" in quirks:
        view.pop("currency", None)
    for name in DATE_KEYS:
        if isinstance(view.get(name), str):
            view[name] = _date_with_quirks(view[name], quirks, draws.below(10**6, name, key, version))
    if "empty_taxes" in quirks:
        view["taxes"] = [{}]
    if "unknown_fields" in quirks:
        view["x_unknown_future_field"] = {"note": "readers must ignore what they do not know"}
    if "refunded_detail_created" in quirks and view.get("status") == "refunded":
        view["status_detail"] = "created"
    if quirks & {"discounts_object", "discounts_array"}:
        view = _with_payment_discounts(view, as_object="discounts_object" in quirks)
    return _numbers(view) if "number_amounts" in quirks else view


def _date_with_quirks(text: str, quirks: frozenset[str], nanoseconds: int) -> str:
    if len(text) != len("2026-09-14T13:05:22.727Z"):
        return text
    if "two_digit_fractions" in quirks:
        return text[:-2] + "Z"
    return f"{text[:-1]}{nanoseconds:06d}Z" if "nine_digit_fractions" in quirks else text


def _with_payment_discounts(view: Json, as_object: bool) -> Json:
    discount = {"type": "account_money"}
    payments = [
        payment | {"discounts": discount if as_object else [discount]} if "paid_amount" in payment else payment
        for payment in payments_of(view)
    ]
    return view | {"transactions": view["transactions"] | {"payments": payments}} if payments else view


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _number(item) if name in AMOUNT_KEYS else _numbers(item) for name, item in value.items()}
    return [_numbers(item) for item in value] if isinstance(value, list) else value


def _number(value: Any) -> Any:
    try:
        number = Decimal(amount_text(value))
    except ValueError:
        return value
    return int(number) if number == number.to_integral_value() else float(number)


def date_step(quirks: frozenset[str]) -> timedelta:
    """The smallest step `last_updated_date` can show for such an order."""
    return timedelta(milliseconds=10 if "two_digit_fractions" in quirks else 1)
