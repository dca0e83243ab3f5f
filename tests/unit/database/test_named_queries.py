"""Named SQL: what is read, and what is refused."""

from pathlib import Path

import pytest

import service
from service.database.queries import Queries, QueryFileError, load, parse

FILE = """\
-- What this file is about.

-- name: claim_due_orders
-- Takes the orders whose look is due,
-- oldest first.
select 1
-- a remark within
from due;

-- name: settle
-- Ends a claim.
update sync set leased_until = null;
"""


def test_statements_by_name(tmp_path: Path) -> None:
    path = tmp_path / "queries.sql"
    path.write_text(FILE, encoding="utf-8")
    queries = load(path)
    assert list(queries) == ["claim_due_orders", "settle"]
    assert queries.claim_due_orders == queries["claim_due_orders"] == "select 1\n-- a remark within\nfrom due"
    assert queries.purpose("claim_due_orders") == "Takes the orders whose look is due, oldest first."
    assert queries.settle == "update sync set leased_until = null"


def test_an_unknown_name_says_so() -> None:
    queries = parse(FILE, source="queries.sql")
    with pytest.raises(AttributeError, match="no query named claim_orders"):
        _ = queries.claim_orders
    with pytest.raises(KeyError, match=r"queries\.sql has no query named claim_orders"):
        _ = queries["claim_orders"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no query in it"),
        ("select 1;", "no query in it"),
        ("select 1;\n-- name: a\n-- For a.\nselect 2;", "SQL before the first"),
        ("-- name: a\nselect 1;", "lacks the comment line"),
        ("-- name: a\n--\nselect 1;", "lacks the comment line"),
        ("-- name: a\n-- For a.\n", "has no statement"),
        ("-- name: a\n-- For a.\n\n;\n", "has no statement"),
        ("-- name: a\n-- For a.\n\n-- nothing but a remark\n", "has no statement"),
        ("-- name: a\n-- For a.\nselect 1;\n-- name: a\n-- Again.\nselect 2;", "the name a is taken"),
        ("-- name: items\n-- Hides a method.\nselect 1;", "the name items is taken"),
        ("-- name: two words\n-- For a.\nselect 1;", "no name for a query"),
        ("-- name:\n-- For a.\nselect 1;", "no name for a query"),
    ],
)
def test_what_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(QueryFileError, match=complaint) as caught:
        parse(text, source="queries.sql")
    assert "\n" not in str(caught.value)


def test_windows_line_ends() -> None:
    assert parse("-- name: a\r\n-- For a.\r\nselect 1;\r\n", source="x").a == "select 1"


@pytest.mark.parametrize("path", sorted(Path(service.__file__).parent.rglob("queries.sql")), ids=str)
def test_every_file_of_this_house_is_well_formed(path: Path) -> None:
    queries = load(path)
    assert isinstance(queries, Queries)
    assert len(queries) > 0
