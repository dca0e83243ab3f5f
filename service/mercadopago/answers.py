"""Pure: what the provider's answers mean: those to a read in the terms of the error tree, those to a write as they are.

The provider has several error envelopes (fact sheet of the Orders API, §8.1), and what stands in front of it answers
with HTML or nothing at all. None of that may hide the status.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from service.mercadopago.errors import (
    MESSAGE_LIMIT,
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
# What can be a machine's word for something; a sentence is none.
_CODE = re.compile(r"[\x21-\x7e]{1,64}")
# What the provider says there is none of; a gateway knows routes and resources.
_OF_AN_ORDER = re.compile(r"order|point.of.sale", re.IGNORECASE)
# Tokens as the provider writes them; an answer that quotes ours must not carry it into a log.
_TOKEN = re.compile(r"(?:APP_USR|TEST)-[A-Za-z0-9_-]{8,}|Bearer\s+\S+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """A complete HTTP answer to a write, good or bad: what it means is for the caller to say.

    `code` is the provider's machine code, one word of at most 64 characters; `message` its words, one line of at most
    250. `document` is the JSON object that came, numbers as `parse_json` reads them, `text` the same fit for `jsonb`;
    None and empty where no JSON object came. `retry_after_seconds` is what `Retry-After` asks for (0 to 900). The
    access token is in none of them.
    """

    status: int
    code: str | None
    message: str | None
    document: dict[str, object] | None
    text: str
    retry_after_seconds: float | None


def provider_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, token: str, may_be_empty: bool
) -> ProviderAnswer:
    """The answer to a write.

    `may_be_empty` says that success may come without a document. Raises `NonsenseAnswer` for a success without the
    JSON object that belongs to it and for a redirect: neither is the provider's API speaking, so the outcome is open.
    """
    if status < 200 or 300 <= status < 400:
        raise NonsenseAnswer(f"{status} is a redirect, which is not followed", outcome="redirect", status=status)
    if token:
        body = body.replace(token.encode(), b"***")
    document, text = _object(body)
    if status < 300 and document is None and not (may_be_empty and not body.strip()):
        raise NonsenseAnswer(f"{status}, but no JSON object where one belongs", status=status)
    code, message = (None, None) if status < 300 else _code_and_message(document or {})
    return ProviderAnswer(
        status=status,
        code=code,
        message=message,
        document=document,
        text=text,
        retry_after_seconds=retry_after_seconds(headers.get("Retry-After"), http_date(headers.get("Date"))),
    )


def _object(body: bytes) -> tuple[dict[str, object] | None, str]:
    try:
        document = parse_json(body)
    except NotJson:
        return None, ""
    return (document.value, document.text) if isinstance(document.value, dict) else (None, "")


def _code_and_message(document: Mapping[str, object]) -> tuple[str | None, str | None]:
    """Out of any of the error envelopes. The number of a cause says more than the word for its status beside it."""
    first = _first_cause(document)
    candidates = (first.get("code"), document.get("code"), document.get("error"))
    texts = (_first_text(candidate) for candidate in candidates)
    code = next((text for text in texts if _CODE.fullmatch(text)), None)
    message = _first_text(first.get("message"), first.get("description"), document.get("message"))
    details = first.get("details")
    if isinstance(details, list) and details:
        message = f"{message}: " * bool(message) + "; ".join(filter(None, map(_first_text, details)))
    return code, one_line(_TOKEN.sub("***", message), MESSAGE_LIMIT) or None


def _first_cause(document: Mapping[str, object]) -> Mapping[str, object]:
    """The first entry of `errors`, `cause` or `causes`; an empty object where there is none."""
    for name in ("errors", "cause", "causes"):
        listed = document.get(name)
        first = listed[0] if isinstance(listed, list) and listed else listed
        if isinstance(first, dict):
            return first
    return {}


def error_for(
    status: int, headers: Mapping[str, str], body: bytes, *, token: str, about_order: bool, what: str = ""
) -> MercadoPagoError:
    """The error that an answer with `status` (anything but 200) stands for.

    `about_order` says whether the call was about one order; where it was not, a 4xx is no order's fault. `what` names
    the part of the order that was asked for, where that is not all of it. `token` is the access token that the call
    bore, so that it can be kept out of the message.
    """
    if 300 <= status < 400:
        return NonsenseAnswer(f"{status} is a redirect, which is not followed", outcome="redirect", status=status)
    if status < 300:
        return NonsenseAnswer(f"{status} is no answer to a GET of one object", status=status)
    complaint = provider_complaint(body, token) or "without a readable reason"
    kind, outcome = _kind_of(status, about_order)
    error = kind(
        f"{status} {complaint} ({what})" if what else f"{status} {complaint}",
        outcome=outcome,
        status=status,
        retry_after_seconds=retry_after_seconds(headers.get("Retry-After"), http_date(headers.get("Date"))),
    )
    document = _object(body)[0] or {}
    error.code, _ = _code_and_message(document)
    if error.code is None and is_own_words(document):
        error.code = str(status)
    return error


def is_own_words(document: Mapping[str, object] | None) -> bool:
    """Whether an answer that is no success is the provider's own, by any of the members that its errors have.

    Which of them bears the word is not documented for every call. What a gateway in between says of a path that it does
    not know is not the provider's: an object with the `path` or the `timestamp` of the request, or a `message` alone
    that speaks of no order.
    """
    if not document:
        return False
    code, message = _code_and_message(document)
    if code is not None:
        return True
    if "path" in document or "timestamp" in document:
        return False
    listed = any(isinstance(document.get(name), list | dict) for name in ("errors", "cause", "causes"))
    numbered = type(document.get("status")) is int
    return (
        listed or numbered or bool(_first_text(document.get("error"))) or _OF_AN_ORDER.search(message or "") is not None
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
