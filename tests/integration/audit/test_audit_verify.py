"""Comparisons with the provider: what was changed behind our back is found, named, mended; nothing else is said."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from service.audit.compare import PART_BOOKKEEPING, PARTS
from service.audit.fresh import FreshReader, ProviderAway
from service.audit.repair import write_anew
from service.audit.runs import QUERIES, TakenOver, Wish, begin
from service.audit.stored import read_states
from service.database.pool import Database
from service.mercadopago.client import MercadoPagoClient
from service.mercadopago.reader import read_order
from service.sync.claims import claim_one
from service.sync.rows import part_rows
from tests.integration.audit.verify_support import (
    ACCOUNT,
    TAMPERINGS,
    Books,
    everything_stored,
    provider_books,
    rich_order,
    store,
    tamper,
    varied_order,
    verify,
)
from tests.support.looking import open_discrepancies, see
from tests.support.orders import order_id, paid_order, raw, refunded_order


@pytest.fixture
async def books() -> AsyncIterator[Books]:
    async with provider_books() as served:
        yield served


async def stored_books(database: Database, books: Books, *bodies: dict[str, Any]) -> None:
    books.put(*bodies)
    await store(database, bodies)


async def check_tampered(database: Database, books: Books, orders: int) -> None:
    """Of so many stored orders 37 are changed, each in another way: exactly those are found and mended."""
    assert len(TAMPERINGS) == 37
    await stored_books(database, books, *(varied_order(number) for number in range(orders)))
    before, open_before = await everything_stored(database), await open_discrepancies(database)
    clean = await verify(database, books)
    assert (clean.run.checked, clean.run.equal, clean.found) == (orders, orders, [])

    step = orders // 37 // 3 * 3
    ways = await tamper(database, range(0, 37 * step, step))
    assert len(ways) == 37
    found = await verify(database, books)
    assert found.ids == sorted(ways)
    assert (found.run.equal, found.run.drifted, found.run.repaired, found.run.unanswered) == (orders - 37, 37, 0, 0)
    assert {one.kind for one in found.found} == {"drift"}
    for changed, way in ways.items():
        assert all(name.startswith(way.split()[0].partition(".")[0]) for name in found.fields[changed]), way

    # The payers are stored, and neither comparison above was shown them; what is written anew has them again.
    keeping = replace(ACCOUNT, keep_payer=True)
    mended = await verify(database, books, Wish("full", repair=True), accounts=[keeping])
    assert mended.ids == sorted(ways)
    assert mended.verification.remarks.unrepaired == {}
    assert (mended.run.drifted, mended.run.repaired) == (37, 37)
    assert all(one.repaired_at is not None for one in mended.found)
    again = await verify(database, books)
    assert (again.run.equal, again.found) == (orders, [])
    # All is as it was, but that each was written once more, with its reason.
    assert await everything_stored(database) == before
    assert await open_discrepancies(database) == open_before
    versions = await database.fetch("select order_id, version from cuadre.order_versions where cause = 'repair'")
    assert {row["order_id"]: row["version"] for row in versions} == dict.fromkeys(ways, 2)
    events = await database.fetchval("select count(*) from cuadre.events where version = 2 and position is not null")
    assert events == 37
    owed = await database.fetchval("select count(*) from cuadre.sync where leased_until is not null or due_at is null")
    assert owed == 0


@pytest.mark.timeout(600)
async def test_exactly_what_was_tampered_with_is_found_and_mended(database: Database, books: Books) -> None:
    """As many orders as `CUADRE_TEST_VERIFY_ORDERS` says, 740 by default; 10,000 take a minute and a half."""
    await check_tampered(database, books, int(os.environ.get("CUADRE_TEST_VERIFY_ORDERS", "740")))


async def test_every_column_of_a_part_is_compared(database: Database, books: Books) -> None:
    await stored_books(database, books, rich_order(1))
    read = read_order(raw(rich_order(1)), order_id(1))
    for (table, _), rows in zip(PARTS, part_rows([read.snapshot]), strict=True):
        row = await database.fetchrow(f"select * from cuadre.{table}")
        assert row is not None
        assert set(row.keys()) - PART_BOOKKEEPING <= rows[0].keys(), table


async def test_a_row_that_should_not_be_is_marked_vanished_and_opens_nothing(database: Database, books: Books) -> None:
    await stored_books(database, books, rich_order(1))
    open_before = await open_discrepancies(database)
    await database.execute(TAMPERINGS["refunds invented"], order_id(1))
    mended = await verify(database, books, Wish("full", repair=True))
    assert mended.fields == {order_id(1): ["refunds[REF-invented]"]}
    rows = await database.fetch("select refund_id, vanished_at is not null as vanished from cuadre.refunds")
    assert {tuple(row) for row in rows} == {("REF-invented", True), (f"REF{100:026d}", False)}
    assert await open_discrepancies(database) == open_before


async def test_what_the_provider_moved_on_from_is_stale_and_mended_like_the_rest(
    database: Database, books: Books
) -> None:
    await stored_books(database, books, paid_order(1), paid_order(2))
    books.put(refunded_order(1, "30.00", seconds=120))
    found = await verify(database, books)
    assert [(one.order_id, one.kind) for one in found.found] == [(order_id(1), "stale")]
    assert "updated_at" in found.fields[order_id(1)]
    mended = await verify(database, books, Wish("full", repair=True))
    assert [one.kind for one in mended.found] == ["stale"]
    assert mended.run.repaired == 1
    assert await database.fetchval("select status_detail from cuadre.orders where order_id = $1", order_id(1)) == (
        "partially_refunded"
    )
    assert (await verify(database, books)).found == []


async def test_an_order_that_changes_while_it_is_compared_is_no_drift(database: Database, books: Books) -> None:
    await stored_books(database, books, paid_order(1))
    changed = refunded_order(1, "30.00", seconds=120)
    asked, stored = asyncio.Event(), asyncio.Event()

    def mishap(_order: str, nth: int) -> web.StreamResponse | None:
        if nth == 1:
            books.put(changed)
            asked.set()
        return None

    async def look() -> None:
        """A worker's look, which began after the stored row was read and ends after the comparison's answer."""
        await asked.wait()
        await see(database, changed)
        stored.set()

    books.mishap = mishap
    # The claim below keeps the look under way until it is applied.
    claimed = await claim_one(database, order_id(1), lease_seconds=0.5)
    assert claimed is not None
    task = asyncio.create_task(look_when_free(asked, look))
    result = await verify(database, books)
    await task
    assert stored.is_set()
    assert (result.run.equal, result.found) == (1, [])


async def look_when_free(asked: asyncio.Event, look: Any) -> None:
    await asked.wait()
    while True:
        try:
            await look()
        except AssertionError:
            await asyncio.sleep(0.01)
        else:
            return


async def test_a_replica_of_the_provider_that_lags_once_is_no_drift(database: Database, books: Books) -> None:
    await stored_books(database, books, refunded_order(1, "30.00", seconds=120))
    books.mishap = lambda _order, nth: web.json_response(paid_order(1)) if nth == 1 else None
    assert (await verify(database, books)).found == []


OLDER = "the provider answers an older state than is stored"


async def test_a_replica_that_lags_on_proves_nothing_and_is_never_written(database: Database, books: Books) -> None:
    await stored_books(database, books, refunded_order(1, "30.00", seconds=120))
    before = await everything_stored(database)
    books.put(paid_order(1))
    result = await verify(database, books, Wish("full", repair=True))
    assert (result.run.equal, result.run.drifted, result.run.repaired, result.run.unanswered) == (0, 0, 0, 1)
    assert [(one.kind, one.drifts[0].provider) for one in result.found] == [("unanswered", OLDER)]
    assert await everything_stored(database) == before
    assert await database.fetchval("select max(version) from cuadre.order_versions") == 1


async def test_what_was_tampered_with_is_not_mended_with_an_older_state(database: Database, books: Books) -> None:
    newer, older = refunded_order(1, "30.00", seconds=120), paid_order(1)
    await stored_books(database, books, newer)
    before = await everything_stored(database)
    await database.execute(
        "update cuadre.orders set total_amount = 1000, updated_at = updated_at - interval '1 day' where order_id = $1",
        order_id(1),
    )
    books.put(older)
    left = await verify(database, books, Wish("full", repair=True))
    assert left.fields == {order_id(1): ["total_amount", "updated_at"]}
    assert {one.kind for one in left.found} == {"drift"}
    assert left.run.repaired == 0
    assert left.verification.remarks.unrepaired == {order_id(1): OLDER}
    row = await database.fetchrow(
        "select o.version, o.refunded_amount, length(o.payload_hash), s.leased_until from cuadre.orders as o "
        "join cuadre.sync as s using (order_id)"
    )
    assert row is not None
    assert tuple(row) == (1, 30, 32, None)
    books.put(newer)
    assert (await verify(database, books, Wish("full", repair=True))).run.repaired == 1
    assert await everything_stored(database) == before


async def test_a_repair_never_undoes_a_look_that_ended_after_the_difference_was_found(
    database: Database, books: Books
) -> None:
    """The repair's own answer is of a replica that lags behind that look, though not behind the difference."""
    first, middle, last = (refunded_order(1, "30.00", seconds=seconds) for seconds in (60, 120, 180))
    await stored_books(database, books, first)
    await see(database, last)
    books.put(middle)
    async with MercadoPagoClient(books.url, total_timeout_seconds=5) as client:
        reader = FreshReader(client, [ACCOUNT], share=1.0)
        assert await write_anew(database, reader, order_id(1), "default") == OLDER
    stored = (await read_states(database, [order_id(1)]))[order_id(1)]
    assert (stored.order["version"], stored.order["updated_at"]) == (
        2,
        read_order(raw(last), order_id(1)).snapshot.updated_at,
    )


@pytest.mark.parametrize("judged", ["before the later look", "after it"])
async def test_what_a_later_look_wrote_stands_against_a_slow_repair(
    database: Database, books: Books, judged: str
) -> None:
    await stored_books(database, books, rich_order(1))
    states = [(await read_states(database, [order_id(1)]))[order_id(1)]]
    repair = await claim_one(database, order_id(1), lease_seconds=0.01)
    assert repair is not None
    asked = asyncio.Event()
    asked.set()
    # The repair's lease has run out, another worker takes the order, and its look commits first.
    await look_when_free(asked, lambda: see(database, rich_order(1, description="three coffees")))
    states.append((await read_states(database, [order_id(1)]))[order_id(1)])
    before = await everything_stored(database)
    state = states[judged == "after it"]
    await database.execute(QUERIES.clear_for_repair, order_id(1), repair.claimed_at, state.claimed_at, None)
    assert await everything_stored(database) == before
    assert await database.fetchval("select cause from cuadre.sync") != "repair"


async def test_a_row_that_was_written_since_it_was_judged_is_not_cleared(database: Database, books: Books) -> None:
    """The other look was claimed before the repair and commits after the repair has compared."""
    await stored_books(database, books, rich_order(1))
    judged = (await read_states(database, [order_id(1)]))[order_id(1)]
    await see(database, rich_order(1, description="three coffees"))
    repair = await claim_one(database, order_id(1), lease_seconds=30)
    assert repair is not None
    before = await everything_stored(database)
    await database.execute(QUERIES.clear_for_repair, order_id(1), repair.claimed_at, judged.claimed_at, None)
    assert await everything_stored(database) == before


async def test_what_is_not_answered_for_is_said_and_nothing_is_proved(database: Database, books: Books) -> None:
    recent = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    await stored_books(database, books, *(paid_order(number, created_date=recent) for number in range(4)))
    books.put(paid_order(2, total_amount="-1", created_date=recent))
    statuses = {order_id(0): 400, order_id(1): 503}
    books.mishap = lambda asked, _nth: web.Response(status=statuses[asked]) if asked in statuses else None
    result = await verify(database, books)
    assert (result.run.checked, result.run.equal, result.run.drifted, result.run.unanswered) == (4, 1, 0, 3)
    assert [(one.order_id, one.kind) for one in result.found] == [
        (order_id(number), "unanswered") for number in range(3)
    ]
    reasons = [one.drifts[0].provider or "" for one in result.found]
    assert [reason.partition(":")[0] for reason in reasons] == ["bad_request", "server_error", "unreadable"]
    assert books.calls[order_id(1)] == 4


async def test_an_order_older_than_get_is_documented_for_is_checked_by_its_payments(
    database: Database, books: Books
) -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=100)).isoformat().replace("+00:00", "Z")
    await stored_books(database, books, *(rich_order(number, created_date=long_ago) for number in range(3)))
    await stored_books(database, books, paid_order(3, created_date=long_ago))
    books.orders.clear()
    payment = {"id": 9000000000, "status": "approved", "transaction_amount": 100, "transaction_amount_refunded": 30}
    books.payments = {
        "9000000000": payment,
        "9000000001": payment | {"id": 9000000001, "status": "refunded"},
    }
    result = await verify(database, books, Wish("full", repair=True))
    assert result.fields == {
        order_id(1): [f"payments[PAY{1:026d}].status"],
        order_id(2): ["unanswered"],
        order_id(3): ["unanswered"],
    }
    assert result.verification.remarks.by_payments == 2
    assert "cannot be written anew" in result.verification.remarks.unrepaired[order_id(1)]
    assert (result.run.equal, result.run.drifted, result.run.repaired, result.run.unanswered) == (1, 1, 0, 2)


@pytest.mark.parametrize(
    ("way", "payments", "found"),
    [
        ("total_amount", True, ["total_amount"]),
        ("refunds deleted", True, [f"refunds[REF{100:026d}]"]),
        ("payments deleted", True, [f"payments[PAY{1:026d}]"]),
        ("payments.status", True, [f"payments[PAY{1:026d}].status"]),
        ("payload_hash", True, ["payload_hash"]),
        ("total_amount", False, ["total_amount"]),
    ],
)
async def test_an_order_checked_by_its_payments_is_held_against_its_own_payload_too(
    database: Database, books: Books, way: str, payments: bool, found: list[str]
) -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=100)).isoformat().replace("+00:00", "Z")
    await stored_books(database, books, rich_order(1, created_date=long_ago))
    books.orders.clear()
    payment = {"status": "in_mediation", "transaction_amount": 100, "transaction_amount_refunded": 30}
    books.payments = {"9000000001": payment | {"id": 9000000001}} if payments else {}
    clean = await verify(database, books)
    assert (clean.run.equal, clean.run.unanswered) == ((1, 0) if payments else (0, 1))
    await database.execute(TAMPERINGS[way], order_id(1))
    result = await verify(database, books)
    assert result.fields == {order_id(1): found}
    assert {one.kind for one in result.found} == {"drift"}


async def test_an_account_that_is_not_configured_is_said(database: Database, books: Books) -> None:
    books.put(paid_order(1))
    await store(database, [paid_order(1)], account="gone")
    result = await verify(database, books)
    assert result.verification.remarks.not_asked == {"account gone is not configured": 1}
    assert result.run.unanswered == 1


async def test_a_provider_that_is_away_ends_the_run_where_it_stands(database: Database, books: Books) -> None:
    await stored_books(database, books, *(paid_order(number) for number in range(40)))
    books.mishap = lambda _asked, _nth: web.Response(status=503)
    with pytest.raises(ProviderAway, match="the same command goes on"):
        await verify(database, books, patience_seconds=0.1)
    row = await database.fetchrow("select checked, finished_at from cuadre.verifications")
    assert row is not None
    assert tuple(row) == (0, None)


class Interrupted(Exception):  # noqa: N818 - what happens to the run, not a fault
    pass


async def test_an_interrupted_run_is_gone_on_with_and_keeps_what_it_found(database: Database, books: Books) -> None:
    await stored_books(database, books, *(rich_order(number) for number in range(30)))
    await tamper(database, [3, 25])

    def interrupt(_number: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        await verify(database, books, page=10, on_checked=interrupt)
    asked = set(books.calls)
    assert asked == {order_id(number) for number in range(10)}
    result = await verify(database, books, page=10)
    assert (result.run.verification_id, result.run.checked, result.run.equal, result.run.drifted) == (1, 30, 28, 2)
    assert result.ids == [order_id(3), order_id(25)]
    assert all(books.calls[one] == 1 for one in asked - {order_id(3)})


@pytest.mark.parametrize(
    ("wish", "restart"),
    [(Wish("full", repair=True), False), (Wish("full", account="default"), False), (Wish("full"), True)],
)
async def test_another_call_begins_a_run_of_its_own(
    database: Database, books: Books, wish: Wish, restart: bool
) -> None:
    await stored_books(database, books, paid_order(1))
    interrupted = await begin(database, Wish("full"))
    assert (await begin(database, Wish("full"))).verification_id == interrupted.verification_id
    assert (await verify(database, books, wish, restart=restart)).run.verification_id == 2
    if restart:
        assert (await begin(database, Wish("full"))).verification_id == 3


async def test_a_run_that_was_left_for_a_day_is_not_gone_on_with(database: Database, books: Books) -> None:
    await stored_books(database, books, paid_order(1))
    await begin(database, Wish("full"))
    await database.execute("update cuadre.verifications set moved_at = now() - interval '25 hours'")
    assert (await begin(database, Wish("full"))).verification_id == 2


async def test_of_two_processes_with_one_run_the_second_to_commit_ends(database: Database, books: Books) -> None:
    await stored_books(database, books, *(paid_order(number) for number in range(30)))
    results = await asyncio.gather(
        verify(database, books, page=10), verify(database, books, page=10), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in results) == ["Result", "TakenOver"]
    row = await database.fetchrow("select count(*) as runs, sum(checked) as checked from cuadre.verifications")
    assert row is not None
    assert tuple(row) == (1, 30)
    assert any(isinstance(one, TakenOver) for one in results)


async def test_a_repair_that_was_done_but_not_yet_said_is_still_told(
    database: Database, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored_books(database, books, *(rich_order(number) for number in range(3)))
    await tamper(database, [1])

    async def end(*_: object, **__: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr("service.audit.verify.commit_page", end)
        with pytest.raises(Interrupted):
            await verify(database, books, Wish("full", repair=True))
    result = await verify(database, books, Wish("full", repair=True))
    assert (result.run.verification_id, result.run.drifted, result.run.repaired) == (1, 1, 1)
    assert result.ids == [order_id(1)]


@pytest.mark.parametrize("moved_on", [False, True])
async def test_a_repair_that_ends_between_its_two_commits_lets_no_older_state_in(
    database: Database, books: Books, monkeypatch: pytest.MonkeyPatch, moved_on: bool
) -> None:
    await stored_books(database, books, refunded_order(1, "30.00", seconds=120))
    await database.execute("update cuadre.orders set total_amount = 1000")
    if moved_on:
        later = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        # Nobody has looked for a week.
        await database.execute("update cuadre.orders set claimed_at = claimed_at - interval '7 days'")
        books.put(refunded_order(1, "30.00", "20.00", last_updated_date=later))
    [now] = books.orders.values()

    async def end(*_: object, **__: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr("service.audit.repair.apply_looks", end)
        with pytest.raises(Interrupted):
            await verify(database, books, Wish("full", repair=True))
    [lagging] = await see(database, paid_order(1, seconds=60))
    assert lagging.settlement.outcome == "older"
    assert await database.fetchval("select refunded_amount from cuadre.orders") == 30
    [fresh] = await see(database, now)
    assert fresh.settlement.outcome == "applied"
    assert (await verify(database, books)).found == []


async def test_since_takes_what_was_changed_or_looked_at_since(database: Database, books: Books) -> None:
    await stored_books(database, books, *(paid_order(number) for number in range(5)))
    now = await database.fetchval("select now()")
    await database.execute(
        "update cuadre.orders set fetched_at = now() - interval '9 days', changed_at = now() - interval '9 days' "
        "where order_id <> $1",
        order_id(4),
    )
    result = await verify(database, books, Wish("since", since=now - timedelta(days=1)))
    assert (result.run.to_check, result.run.checked) == (1, 1)
    assert set(books.calls) == {order_id(4)}


async def test_a_sample_compares_so_many_different_orders(database: Database, books: Books) -> None:
    await stored_books(database, books, *(paid_order(number) for number in range(50)))
    result = await verify(database, books, Wish("sample", sample=20), page=7)
    assert (result.run.to_check, result.run.checked) == (20, 20)
    assert len(books.calls) == 20
    small = await verify(database, books, Wish("sample", sample=500))
    assert (small.run.to_check, small.run.checked) == (50, 50)


async def test_an_order_held_by_a_dead_worker_is_repaired_after_its_lease(database: Database, books: Books) -> None:
    await stored_books(database, books, rich_order(1))
    await tamper(database, [1])
    assert await claim_one(database, order_id(1), lease_seconds=1.0) is not None
    result = await verify(database, books, Wish("full", repair=True))
    assert result.run.repaired == 1


async def test_an_order_whose_sync_row_was_lost_is_repaired_and_looked_at_again(
    database: Database, books: Books
) -> None:
    await stored_books(database, books, rich_order(1))
    await tamper(database, [1])
    await database.execute("delete from cuadre.sync")
    result = await verify(database, books, Wish("full", repair=True))
    assert result.run.repaired == 1
    row = await database.fetchrow("select due_at > now() as later, trust, cause from cuadre.sync")
    assert row is not None
    assert tuple(row) == (True, 2, None)


async def test_a_repair_that_cannot_be_is_left_with_its_reason(database: Database, books: Books) -> None:
    await stored_books(database, books, rich_order(1))
    await tamper(database, [1])
    books.mishap = lambda _asked, nth: web.Response(status=500) if nth > 1 else None
    result = await verify(database, books, Wish("full", repair=True))
    assert (result.run.drifted, result.run.repaired) == (1, 0)
    assert "server_error" in result.verification.remarks.unrepaired[order_id(1)]
    row = await database.fetchrow(
        "select o.payload_hash, s.leased_until, s.attempts from cuadre.orders as o join cuadre.sync as s "
        "using (order_id)"
    )
    assert row is not None
    assert (len(row["payload_hash"]), row["leased_until"], row["attempts"]) == (32, None, 0)
