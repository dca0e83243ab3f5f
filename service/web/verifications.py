"""Comparisons with the provider: the list of runs, and what one of them found."""

from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field

from service.audit.runs import QUERIES, FoundOrder, read_found
from service.web.cursors import decode_id, encode_id
from service.web.errors import NotFound, json_response
from service.web.models import Document, Instant, documents, page_json
from service.web.parameters import NOTIFICATION_ID, ORDER_ID, NoParameters, Paged, Text, matches, path_parameter
from service.web.state import STATE
from service.web.statements import compose

VERIFICATION_ID = NOTIFICATION_ID
VERIFICATIONS_CURSOR = r"^v[0-9]{1,18}$"
# A run over a shop that was changed as a whole finds more than an answer should hold.
MAX_FIELDS = 10_000


class Verification(Document):
    """One comparison of stored orders with the provider; `finished_at` is null while it runs or lies interrupted.

    `checked` is `equal` + `drifted` + `unanswered` + `unprovable`; those repaired are among the drifted ones.
    `unprovable`: too old to be answered for, and no money is in it.
    """

    verification_id: int
    kind: Literal["full", "since", "sample", "nightly"]
    account: str | None
    repair: bool
    since: Instant | None
    started_at: Instant
    moved_at: Instant
    finished_at: Instant | None
    to_check: int
    checked: int
    equal: int
    drifted: int
    repaired: int
    unanswered: int
    unprovable: int


class DriftedField(Document):
    """One field that differs; null is nothing there."""

    field: str
    stored: str | None
    provider: str | None


class DriftedOrder(Document):
    """An order that was not found equal.

    `stale`: the provider moved on since our look. `drift`: anything else. `unanswered`: not compared, for `reason`.
    `unprovable`: too old to be answered for, and no money is in it.
    """

    order_id: str
    account: str
    kind: Literal["drift", "stale", "unanswered", "unprovable"]
    found_at: Instant
    repaired_at: Instant | None
    reason: str | None
    fields: list[DriftedField]


class VerificationDetail(Verification):
    """One comparison and what it found; `truncated` says that more was found than is shown."""

    orders: list[DriftedOrder]
    truncated: bool


class VerificationsPage(Document):
    """One page of comparisons."""

    data: list[Verification]
    next_cursor: str | None


class VerificationsParameters(Paged):
    """Filters of the list of comparisons."""

    cursor: (
        Annotated[
            str,
            Field(
                pattern=VERIFICATIONS_CURSOR,
                description="`next_cursor` of the page before; opaque, good for this list only",
            ),
        ]
        | None
    ) = None
    account: Text | None = None
    kind: Literal["full", "since", "sample", "nightly"] | None = None


async def list_verifications(request: web.Request, asked: VerificationsParameters) -> web.Response:
    """Latest first."""
    filters: dict[str, object] = {
        "account": asked.account or None,
        "kind": asked.kind,
        "row_limit": asked.limit + 1,
    }
    if asked.cursor is not None:
        filters["after_id"] = decode_id(asked.cursor)
    query, arguments = compose(QUERIES.list_verifications, filters)
    rows = await request.app[STATE].database.fetch(query, *arguments)
    next_cursor = None
    if len(rows) > asked.limit:
        rows = rows[: asked.limit]
        next_cursor = encode_id("v", rows[-1]["verification_id"])
    return json_response(page_json(documents(Verification, rows), next_cursor))


async def show_verification(request: web.Request, asked: NoParameters) -> web.Response:
    """One comparison by its number, with what it found."""
    del asked
    given = path_parameter(request, "id", ORDER_ID)
    row = None
    # What could be an id and is no number of ours names nothing: not found, like any other number.
    if matches(VERIFICATION_ID, given):
        query, arguments = compose(QUERIES.list_verifications, {"id": int(given), "row_limit": 1})
        row = await request.app[STATE].database.fetchrow(query, *arguments)
    if row is None:
        raise NotFound(f"no comparison {given} is stored here")
    found, truncated = await read_found(request.app[STATE].database, int(given), at_most_rows=MAX_FIELDS)
    detail = VerificationDetail(**dict(row), orders=[_order(one) for one in found], truncated=truncated)
    return json_response(detail.to_json())


def _order(found: FoundOrder) -> DriftedOrder:
    silent = found.kind in {"unanswered", "unprovable"}
    return DriftedOrder(
        order_id=found.order_id,
        account=found.account,
        kind=found.kind,
        found_at=found.found_at,
        repaired_at=found.repaired_at,
        reason=found.drifts[0].provider if silent else None,
        fields=[]
        if silent
        else [DriftedField(field=one.field, stored=one.stored, provider=one.provider) for one in found.drifts],
    )
