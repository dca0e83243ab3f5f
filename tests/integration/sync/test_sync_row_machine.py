"""The `sync` row as a state machine against a model (invariants I2 and I7): random notifications, claims, outcomes,
lost leases and stale workers, on the real statements. No mark is lost, and nobody serves an order twice at once."""

import asyncio
from collections import defaultdict
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from service.database.pool import Database
from service.intake.record import NotificationRecorder
from service.sync.apply import Look, apply_looks
from service.sync.claims import Claim, Lane, claim_due, release
from service.sync.settle import Failure
from tests.support.deliveries import delivery
from tests.support.looking import look
from tests.support.orders import order, order_id

NUMBERS = st.integers(1, 3)
LANES = [Lane("default", known=True, room=2), Lane("default", known=False, room=2)]
FAILURES = st.sampled_from([
    Failure("timeout", "no answer", counts=False),
    Failure("not_found", "404", counts=True),
    Failure("bad_request", "400", counts=True),
    Failure("unreadable", "an amount is no number", counts=True),
])  # fmt: skip


TRUNCATE = """
truncate cuadre.sync, cuadre.orders, cuadre.payments, cuadre.notifications, cuadre.order_versions, cuadre.fetches,
    cuadre.events, cuadre.unreadable_payloads
"""


class SyncRows(RuleBasedStateMachine):
    """The model: how often each order was marked, who holds which claim, and what generation was read last."""

    dsn = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.database = self.do(Database.connect(self.dsn, max_size=3))
        self.do(self.database.execute(TRUNCATE))
        self.recorder = NotificationRecorder(self.database, on_committed=lambda: None)
        self.marks: dict[str, int] = defaultdict(int)
        self.read: dict[str, int] = defaultdict(int)
        self.held: dict[str, Claim] = {}
        self.stale: list[Claim] = []
        self.copies = 0

    def do(self, work: Any) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.drain()
        finally:
            self.do(self.recorder.close())
            self.do(self.database.close())
            self.runner.close()

    def drain(self) -> None:
        for claim in [*self.held.values(), *self.stale]:
            self.read_by(claim)
        for _ in range(12):
            self.time_passes()
            for claim in self.do(claim_due(self.database, LANES, lease_seconds=30)):
                self.read_by(claim)
        for row in self.rows():
            # Invariant I2: a look that started after the last mark has been applied.
            assert row["fetched"] >= row["requested"] == self.marks[row["order_id"]]
            assert self.read[row["order_id"]] >= self.marks[row["order_id"]]
            assert row["quarantined_at"] is None

    def rows(self) -> list[Any]:
        return list(self.do(self.database.fetch("select *, leased_until > now() as leased from cuadre.sync")))

    def read_by(self, claim: Claim) -> None:
        number = int(claim.order_id[3:])
        self.do(apply_looks(self.database, [look(claim, order(number))]))
        self.read[claim.order_id] = max(self.read[claim.order_id], claim.generation)
        if self.held.get(claim.order_id) is claim:
            del self.held[claim.order_id]

    @rule(number=NUMBERS, verified=st.booleans(), same=st.booleans())
    def notified(self, number: int, verified: bool, same: bool) -> None:
        self.copies += 0 if same else 1
        self.do(self.recorder.record(delivery(order_id(number), verified=verified, version=self.copies)))
        self.marks[order_id(number)] += 1

    @rule()
    def claimed(self) -> None:
        for claim in self.do(claim_due(self.database, LANES, lease_seconds=30)):
            assert claim.order_id not in self.held, "two workers hold one order"
            assert claim.generation == self.marks[claim.order_id]
            self.held[claim.order_id] = claim

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def read_well(self, data: st.DataObject) -> None:
        self.read_by(self.held[data.draw(st.sampled_from(sorted(self.held)))])

    @precondition(lambda self: self.held)
    @rule(data=st.data(), failure=FAILURES)
    def failed(self, data: st.DataObject, failure: Failure) -> None:
        claim = self.held.pop(data.draw(st.sampled_from(sorted(self.held))))
        self.do(apply_looks(self.database, [Look(claim, failure=failure)]))
        row = next(row for row in self.rows() if row["order_id"] == claim.order_id)
        if not failure.counts:
            assert row["attempts"] == claim.attempts - 1, "provider trouble burned an attempt"

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def given_back(self, data: st.DataObject) -> None:
        claim = self.held.pop(data.draw(st.sampled_from(sorted(self.held))))
        self.do(release(self.database, [claim]))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def worker_frozen_past_its_lease(self, data: st.DataObject) -> None:
        claim = self.held.pop(data.draw(st.sampled_from(sorted(self.held))))
        self.stale.append(claim)
        self.do(
            self.database.execute(
                "update cuadre.sync set leased_until = now() - interval '1 s' where order_id = $1", claim.order_id
            )
        )

    @precondition(lambda self: self.stale)
    @rule(data=st.data(), works=st.booleans())
    def frozen_worker_wakes_up(self, data: st.DataObject, works: bool) -> None:
        claim = self.stale.pop(data.draw(st.integers(0, len(self.stale) - 1)))
        before = {row["order_id"]: (row["lease_token"], row["attempts"]) for row in self.rows()}
        taken_over = before[claim.order_id][0] != claim.lease_token
        served = (
            look(claim, order(int(claim.order_id[3:]))) if works else Look(claim, failure=Failure("timeout", "", False))
        )
        self.do(apply_looks(self.database, [served]))
        after = {row["order_id"]: (row["lease_token"], row["attempts"]) for row in self.rows()}
        if taken_over:
            assert after[claim.order_id] == before[claim.order_id], "a stale worker settled another one's claim"

    @rule()
    def time_passes(self) -> None:
        self.do(self.database.execute("update cuadre.sync set due_at = now() where due_at is not null"))

    @invariant()
    def nothing_owed_is_forgotten(self) -> None:
        for row in self.rows():
            assert row["requested"] == self.marks[row["order_id"]]
            assert row["fetched"] <= row["requested"]
            owed = row["fetched"] < row["requested"]
            assert not owed or row["due_at"] is not None, "a look is owed and not scheduled"
            assert bool(row["leased"]) == (row["order_id"] in self.held)


def test_no_mark_is_lost(database_dsn: str) -> None:
    machine = type("SyncRowsHere", (SyncRows,), {"dsn": database_dsn})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=30, deadline=None))
