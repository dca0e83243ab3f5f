"""`GET /api/v1/completeness`: up to which hour of creation each account's orders are known to be stored."""

from aiohttp import web

from service.audit.completeness import Certificate, read_certificates
from service.web.errors import json_response
from service.web.models import Document, Instant
from service.web.parameters import NoParameters
from service.web.state import STATE


class Completeness(Document):
    """One account's certificate: of every order that the provider lists as created from `complete_since` to before
    `complete_until`, a state at least as new is stored. It says nothing about orders of the `blind_types`, which the
    provider's list leaves out, speaks of a type in `types_since` from that time on, and goes without the
    `excused_orders` that somebody looked into and excused (their number). `blocked_by` names orders (at most 20) that
    keep it from moving.
    """

    account: str
    complete_since: Instant
    complete_until: Instant
    checked_at: Instant
    blocked_by: list[str]
    blind_types: list[str]
    types_since: dict[str, Instant]
    last_error: str | None
    excused_orders: int


class CompletenessList(Document):
    """All certificates, by account."""

    data: list[Completeness]


async def show_completeness(request: web.Request, asked: NoParameters) -> web.Response:
    """All of them; there is one an account that is swept."""
    del asked
    found = await read_certificates(request.app[STATE].database)
    return json_response(CompletenessList(data=[_document(one) for one in found]).to_json())


def _document(one: Certificate) -> Completeness:
    return Completeness(
        account=one.account,
        complete_since=one.complete_since,
        complete_until=one.complete_until,
        checked_at=one.checked_at,
        blocked_by=list(one.blocked_by),
        blind_types=list(one.blind_types),
        types_since=dict(one.types_since),
        last_error=one.last_error,
        excused_orders=one.excused_orders,
    )
