"""Optional filters: which lines of a query stand, and what its parameters are numbered."""

import itertools
import re

import pytest

from service.web.statements import QUERIES, compose

TEMPLATE = """select a::text from t
where true
    and a = :a  -- if a
    and (b, c) < (:b, :a)  -- if b
    and d is null -- if flag
limit :row_limit"""


def test_lines_stand_where_their_filter_is_given() -> None:
    assert compose(TEMPLATE, {"row_limit": 5, "a": None}) == ("select a::text from t\nwhere true\nlimit $1", [5])
    text, arguments = compose(TEMPLATE, {"row_limit": 5, "a": "x", "b": "y", "flag": True})
    assert text.splitlines()[2:] == ["    and a = $1", "    and (b, c) < ($2, $1)", "    and d is null", "limit $3"]
    assert arguments == ["x", "y", 5]


def test_false_and_zero_are_given() -> None:
    assert compose(TEMPLATE, {"row_limit": 0, "a": False})[1] == [False, 0]


def test_a_parameter_that_nobody_gives_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        compose(TEMPLATE, {})


def test_a_value_never_becomes_part_of_the_text() -> None:
    text, _ = compose(TEMPLATE, {"row_limit": 1, "a": "'; drop table t; -- if flag :b"})
    assert "drop" not in text


FILTERS = ["account", "external_reference", "status", "type", "updated_since", "in_any_account"]


def test_every_combination_of_filters_is_a_whole_statement() -> None:
    positions: list[dict[str, object]] = [{}, {"after_time": 1, "after_id": 2}, {"after_undated_id": 3}]
    for count in range(len(FILTERS) + 1):
        for chosen in itertools.combinations(FILTERS, count):
            for position in positions:
                given: dict[str, object] = {name: name for name in chosen}
                text, arguments = compose(QUERIES.list_orders, given | position | {"row_limit": 1})
                assert "-- if" not in text
                assert text.count("(") == text.count(")")
                assert {int(n) for n in re.findall(r"\$(\d+)", text)} == set(range(1, len(arguments) + 1))
