"""Reading for the reading commands: the API's own statements and documents, so that both say the same."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import typer

from service.database.pool import Database
from service.mercadopago.reader import parse_time
from service.web.models import Document, documents
from service.web.parameters import ORDER_ID
from service.web.statements import QUERIES, compose

DEFAULT_LIMIT = 200
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)

D = TypeVar("D", bound=Document)


async def read_list(
    database: Database, query: str, model: type[D], filters: Mapping[str, object], limit: int
) -> tuple[list[D], bool]:
    """The first `limit` documents of a list query, and whether there are more."""
    statement, arguments = compose(QUERIES[query], {**filters, "row_limit": limit + 1})
    rows = await database.fetch(statement, *arguments)
    return documents(model, rows[:limit]), len(rows) > limit


def list_json(shown: Sequence[Document], more: bool) -> str:
    """`{"data": […], "more"}`: the API's documents, and whether the limit left some out."""
    data = ",".join(one.to_json() for one in shown)
    return f'{{"data":[{data}],"more":{"true" if more else "false"}}}'


def checked_order_id(order_id: str) -> str:
    """An id that can be an order's. Raises `typer.BadParameter`."""
    # `$` would let a trailing line feed pass.
    if "\n" in order_id or not re.match(ORDER_ID, order_id, re.ASCII):
        raise typer.BadParameter("must be an order id, of 1 to 64 letters, digits, _ and -", param_hint="ORDER")
    return order_id


def checked_moment(text: str | None, option: str) -> datetime | None:
    """A date, which is its first moment in UTC, or an RFC 3339 time. Raises `typer.BadParameter`."""
    if text is None:
        return None
    is_date = _DATE.fullmatch(text) is not None
    moment = parse_time(f"{text}T00:00:00Z" if is_date else text)
    if moment is None and is_date:
        raise typer.BadParameter("must be a date that exists", param_hint=option)
    if moment is None:
        raise typer.BadParameter(
            "must be a date like 2026-11-05 or a time with an offset like 2026-11-05T12:00:00Z", param_hint=option
        )
    return moment


def checked_time(text: str | None, option: str) -> datetime | None:
    """An RFC 3339 time. Raises `typer.BadParameter`."""
    if text is None:
        return None
    moment = parse_time(text)
    if moment is None:
        raise typer.BadParameter("must be a time with an offset, like 2026-11-05T12:00:00Z", param_hint=option)
    return moment
