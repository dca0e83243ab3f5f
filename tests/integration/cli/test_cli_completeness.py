"""`cuadre completeness`: what an operator reads, and the way around what blocks a certificate for good."""

from datetime import UTC, datetime

import pytest

from service.audit.completeness import QUERIES
from service.database.pool import Database
from tests.integration.cli.cli_support import Cuadre

NOON = datetime(2026, 9, 14, 12, 0, 0, tzinfo=UTC)
BLOCKER = "ORD00000000000000000000000001"


@pytest.fixture
async def certified(database: Database) -> Database:
    await database.execute(QUERIES.begin_certificate, "default", NOON)
    return database


async def block(database: Database) -> None:
    await database.execute("update cuadre.completeness set blocked_by = $1", [BLOCKER])


async def test_without_a_certificate_it_says_who_begins_one(cuadre: Cuadre, database: Database) -> None:
    del database
    result = await cuadre("completeness")
    assert (result.code, result.out) == (
        0,
        "no certificate yet: a running service begins one for each account (see CUADRE_SWEEP)\n",
    )


async def test_a_certificate_that_moves_exits_0_and_a_blocked_one_3(cuadre: Cuadre, certified: Database) -> None:
    result = await cuadre("completeness")
    assert result.code == 0
    assert "orders created from 2026-09-14T12:00:00Z to before 2026-09-14T12:00:00Z" in result.out
    await block(certified)
    result = await cuadre("completeness")
    assert result.code == 3
    assert BLOCKER in result.out
    assert f"cuadre completeness excuse {BLOCKER}" in result.err
    document = (await cuadre("completeness", "--format", "json")).json()
    [one] = document["data"]
    assert (one["blocked_by"], one["is_blocked"], one["excused_orders"]) == ([BLOCKER], True, 0)


async def test_an_order_is_excused_with_a_note_shown_and_recalled(cuadre: Cuadre, certified: Database) -> None:
    await block(certified)
    result = await cuadre("completeness", "excuse", BLOCKER, "ORDX", "--note", "made by the acquirer's own test")
    assert result.code == 1, "one of the two is nowhere"
    assert result.out == f"{BLOCKER}  excused; it is still looked at, and still stored if it can be\n"
    assert result.err == "cuadre: order ORDX is neither stored nor looked for here; nothing was changed\n"
    shown = await cuadre("completeness")
    assert "made by the acquirer's own test" in shown.out
    assert "1 excused orders" in shown.out
    [excused] = (await cuadre("completeness", "--format", "json")).json()["excused"]
    assert (excused["order_id"], excused["account"]) == (BLOCKER, "default")
    assert (await cuadre("completeness", "recall", BLOCKER)).code == 0
    again = await cuadre("completeness", "recall", BLOCKER)
    assert (again.code, again.err) == (1, f"cuadre: order {BLOCKER} was not excused; nothing was changed\n")


@pytest.mark.parametrize("note", ["", "   ", "x" * 501])
async def test_an_excuse_without_a_reason_is_none(cuadre: Cuadre, certified: Database, note: str) -> None:
    await block(certified)
    result = await cuadre("completeness", "excuse", BLOCKER, "--note", note)
    assert result.code == 2
    assert await certified.fetchval("select count(*) from cuadre.excused_orders") == 0
