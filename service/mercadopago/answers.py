"""Pure: what an answer that is no 200 means, in the terms of the error tree.

The provider has several error envelopes (fact sheet of the Orders API, §8.1), and what stands in front of it answers
with HTML or nothing at all. None of that may hide the status.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from service.mercadopago.errors import (
    AccountRefused,
    BadRequest,
    MercadoPagoError,
    NonsenseAnswer,
    OrderNotFound,
    RateLimited,
    ServerTrouble,
    Timeout,
    one_line,
)
from service.mercadopago.json_text import NotJson, parse_json

MAX_RETRY_AFTER_SECONDS = 900.0
_COMPLAINT_LIMIT = 200

_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
# Tokens as the provider writes them; an answer that quotes ours must not carry it into a log.
_TOKEN = re.compile(r"(?:APP_USR|TEST)-[A-Za-z0-9_-]{8,}|Bearer\s+\S+", re.IGNORECASE)


def error_for(
    status: int, headers: Mapping[str, str], body: bytes, *, token: str, about_order: bool
) -> MercadoPagoError:
    """The error that an answer with `status` (anything but 200) stands for.

    `about_order` says whether the call was about one order; where it was not, a 4xx is no order's fault. `token` is
    the access token that the call bore, so that it can be kept out of the message.
    """
    if 300 <= status < 400:
        return NonsenseAnswer(f"{status} is a redirect, which is not followed", outcome="redirect", status=status)
    if status < 300:
        return NonsenseAnswer(f"{status} is no answer to a GET of one object", status=status)
    complaint = provider_complaint(body, token) or "without a readable reason"
    kind, outcome = _kind_of(status, about_order)
    return kind(
        f"{status} {complaint}",
        outcome=outcome,
        status=status,
        retry_after_seconds=retry_after_seconds(headers.get("Retry-After"), http_date(headers.get("Date"))),
    )


def _kind_of(status: int, about_order: bool) -> tuple[type[MercadoPagoError], str | None]:
    named = _BY_STATUS.get(status)
    if named is not None:
        return named
    if status >= 500:
        return ServerTrouble, None
    if not about_order:
        return NonsenseAnswer, None
    return (OrderNotFound if status == 404 else BadRequest), None


# By whose fault, and the outcome where it is not the kind's own. 408, 423 and 425 all say "not now".
_BY_STATUS: dict[int, tuple[type[MercadoPagoError], str | None]] = {
    401: (AccountRefused, "unauthorized"),
    403: (AccountRefused, "forbidden"),
    408: (Timeout, None),
    423: (ServerTrouble, "locked"),
    425: (ServerTrouble, "too_early"),
    429: (RateLimited, None),
}


def provider_complaint(body: bytes, token: str) -> str:
    """`code: message` out of any of the error envelopes, as one printable line; empty where there is none."""
    try:
        value = parse_json(body).value
    except NotJson:
        return ""
    if not isinstance(value, dict):
        return ""
    listed = value.get("errors") or value.get("cause")
    first = listed[0] if isinstance(listed, list) and listed else listed
    inner = first if isinstance(first, dict) else {}
    code = _first_text(inner.get("code"), value.get("code"), value.get("error"))
    message = _first_text(inner.get("message"), inner.get("description"), value.get("message"))
    complaint = ": ".join(part for part in (code, message) if part)
    if token:
        complaint = complaint.replace(token, "***")
    return one_line(_TOKEN.sub("***", complaint), _COMPLAINT_LIMIT)


def retry_after_seconds(value: str | None, sent_at: datetime | None) -> float | None:
    """What `Retry-After` asks for, 0 to 900 seconds; None where it is absent, garbage or in the past.

    A date is measured from the answer's own `Date`, so that it does not matter how far our clock is off.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    until = http_date(text)
    if until is None:
        return None
    seconds = (until - (sent_at or datetime.now(UTC))).total_seconds()
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds >= 0 else None


def http_date(value: str | None) -> datetime | None:
    """An HTTP date in UTC; None for anything else."""
    if value is None or len(value) > 64:
        return None
    try:
        moment = parsedate_to_datetime(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _first_text(*values: object) -> str:
    for value in values:
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return ""
