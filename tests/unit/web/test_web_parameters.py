"""Query strings and cursors: strict, every wrong parameter named."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from service.orders.asked import OPEN_STATUSES, SETTLED_STATUSES
from service.orders.rules import RULES
from service.web.cursors import (
    DISCREPANCIES_CURSOR,
    ORDERS_CURSOR,
    QUARANTINE_CURSOR,
    decode_id,
    decode_time,
    encode_id,
    encode_time,
)
from service.web.errors import BadParameters
from service.web.models import amount_text, time_text
from service.web.parameters import (
    COMMAND_STATUSES,
    CommandsParameters,
    DiscrepanciesParameters,
    NotificationsParameters,
    OrdersParameters,
    Parameters,
    QuarantineParameters,
    matches,
    parse_query,
)

_MOMENTS = st.datetimes(timezones=st.just(UTC))
_IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


@given(moment=st.none() | _MOMENTS, order_id=_IDS)
def test_a_time_cursor_leads_back_to_its_row(moment: datetime | None, order_id: str) -> None:
    cursor = encode_time("o", moment, order_id)
    assert matches(ORDERS_CURSOR, cursor)
    assert decode_time(cursor) == (moment, order_id)
    assert matches(QUARANTINE_CURSOR, cursor) is False


@given(row_id=st.integers(0, 10**18 - 1))
def test_an_id_cursor_leads_back_to_its_row(row_id: int) -> None:
    assert decode_id(encode_id("d", row_id)) == row_id
    assert matches(DISCREPANCIES_CURSOR, encode_id("d", row_id))


@given(cursor=st.from_regex(ORDERS_CURSOR))
def test_every_text_of_the_pattern_is_a_position(cursor: str) -> None:
    if matches(ORDERS_CURSOR, cursor):
        moment, order_id = decode_time(cursor)
        assert order_id
        assert moment is None or moment.tzinfo is UTC


def test_defaults_and_types() -> None:
    asked = parse_query(NotificationsParameters, MultiDict())
    assert (asked.limit, asked.cursor, asked.verified) == (50, None, None)
    asked = parse_query(
        NotificationsParameters, MultiDict(verified="false", limit="200", since="2026-01-02T03:04:05-03:00")
    )
    assert (asked.verified, asked.limit) == (False, 200)
    assert asked.since == datetime(2026, 1, 2, 6, 4, 5, tzinfo=UTC)
    assert parse_query(DiscrepanciesParameters, MultiDict()).state == "open"


def test_every_wrong_parameter_is_named() -> None:
    query = MultiDict([("limit", "0"), ("what", "x"), ("status", "\0"), ("type", "a"), ("type", "b"), ("cursor", "zz")])
    with pytest.raises(BadParameters) as caught:
        parse_query(OrdersParameters, query)
    assert sorted(one["field"] for one in caught.value.details) == ["cursor", "limit", "status", "type", "what"]
    assert caught.value.status == 400


@given(
    name=st.sampled_from(["limit", "cursor", "account", "reason"]),
    value=st.text() | st.integers().map(str) | st.just("\ud800"),
)
def test_a_value_is_taken_or_named(name: str, value: str) -> None:
    named = [name]
    try:
        asked = parse_query(QuarantineParameters, MultiDict({name: value}))
    except BadParameters as error:
        named = [one["field"] for one in error.details]
    else:
        assert 1 <= asked.limit <= 200
        assert "\0" not in (asked.account or "") + (asked.reason or "")
    assert named == [name]


@given(moment=_MOMENTS, offset=st.integers(-14 * 60, 14 * 60))
def test_times_with_any_offset_mean_the_same(moment: datetime, offset: int) -> None:
    sign, minutes = "-" if offset < 0 else "+", abs(offset)
    try:
        local = (moment + timedelta(minutes=offset)).replace(tzinfo=None)
    except OverflowError:
        return
    text = f"{local.isoformat()}{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    assert parse_query(OrdersParameters, MultiDict(updated_since=text)).updated_since == moment
    assert parse_query(OrdersParameters, MultiDict(updated_since=time_text(moment))).updated_since == moment


@given(amount=st.decimals(allow_nan=False, allow_infinity=False, places=None))
def test_amounts_have_no_exponent_and_lose_no_digit(amount: object) -> None:
    from decimal import Decimal

    assert isinstance(amount, Decimal)
    text = amount_text(amount)
    assert re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text)
    assert Decimal(text) == amount


def test_names_of_ours_are_refused_where_there_are_none_such() -> None:
    assert set(COMMAND_STATUSES) == OPEN_STATUSES | SETTLED_STATUSES
    for rule in RULES:
        assert parse_query(DiscrepanciesParameters, MultiDict(rule=rule)).rule == rule
    wrong: list[tuple[type[Parameters], str]] = [
        (DiscrepanciesParameters, "rule"),
        (CommandsParameters, "status"),
        (CommandsParameters, "kind"),
        (NotificationsParameters, "verification"),
    ]
    for model, name in wrong:
        assert getattr(parse_query(model, MultiDict({name: ""})), name) == ""
        for value in ("nope", "Done", "done ", "\0"):
            with pytest.raises(BadParameters) as caught:
                parse_query(model, MultiDict({name: value}))
            assert [one["field"] for one in caught.value.details] == [name]
    # The provider may invent a status tomorrow.
    assert parse_query(OrdersParameters, MultiDict(status="nope", type="nope")).status == "nope"
