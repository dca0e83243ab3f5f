"""An answer under a command's own key is proof; what was found by looking is not, and gives way to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from service.database.pool import Database
from service.desk.intents import QUERIES, CommandRow
from service.desk.outcomes import MadeRefund, Outcome, Verdict
from service.desk.settle import commit_outcome
from service.desk.work import work_of
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.errors import Timeout
from tests.support.desk import ACCOUNT, Shop, qr, shop

LOST_BEFORE = {"body": "disconnect", "count": 1, "when": "before"}
GATEWAY = {"status": 400, "code": "bad_request", "count": 1, "when": "before"}


async def refund(here: Shop, order_id: str, amount: str, key: str) -> CommandRow:
    return await here.desk.refund(order_id, payment_id=None, amount=amount, key=key, asked_by="till-1")


class Slow:
    """A client whose writes end when they are told to: what they did is there before anybody here hears of it."""

    def __init__(self, here: Shop) -> None:
        self.here = here
        self.made, self.goes_on = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.here.client, name)

    async def _slowly(self, answer: Any) -> Any:
        answered = await answer
        self.made.set()
        await self.goes_on.wait()
        return answered

    async def refund_order(self, *arguments: Any) -> Any:
        return await self._slowly(self.here.client.refund_order(*arguments))

    async def create_order(self, *arguments: Any) -> Any:
        return await self._slowly(self.here.client.create_order(*arguments))


@asynccontextmanager
async def being_answered(here: Shop) -> AsyncIterator[None]:
    """What is due now is done at the provider, and its answer arrives when the block ends."""
    slow = Slow(here)
    runner = here.another_runner()
    runner._tools = type(runner._tools)(here.database, slow)  # type: ignore[arg-type]  # a client, but slower
    await runner._round()
    await slow.made.wait()
    yield
    slow.goes_on.set()
    await asyncio.wait(runner._held)


async def put_off(here: Shop, command: CommandRow, seconds: float) -> None:
    later = "update cuadre.commands set due_at = now() + make_interval(secs => $2) where command_id = $1"
    await here.database.execute(later, command.command_id, seconds)


async def steps(here: Shop) -> None:
    """One round of the runner, to its end."""
    await here.runner._round()
    if here.runner._held:
        await asyncio.wait(here.runner._held)


async def lost_refund(here: Shop, order_id: str, key: str) -> CommandRow:
    """It never arrives, and a gateway refuses its repeat: from then on it is looked for."""
    await here.provider.faults(refund=[LOST_BEFORE, GATEWAY])
    asked = await refund(here, order_id, "20.00", key)
    await steps(here)
    await put_off(here, asked, 0)
    await steps(here)
    await here.provider.faults()
    found = await here.becomes(asked, status="unknown")
    assert "must_compare" in found.options
    return found


async def test_no_two_refund_commands_are_done_by_one_refund(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        never = await lost_refund(here, order_id, "r-1")
        await put_off(here, never, 3600)
        made = await refund(here, order_id, "20.00", "r-2")
        async with being_answered(here):
            await here.know(order_id)
            await put_off(here, never, 0)
            await steps(here)
            adopted = await here.becomes(never, status="accepted")
            # Nothing was known that could tell them apart.
            assert len(adopted.refund_ids) == 1
            await put_off(here, never, 0)
            await steps(here)
            assert (await here.becomes(never, status="done")).refund_ids == adopted.refund_ids
        given_back = await here.desk.find(never.command_id)
        assert given_back is not None
        assert (given_back.status, given_back.refund_ids, given_back.settled_at) == ("unknown", (), None)
        assert "made by another command" in (given_back.message or "")
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        done, refused = await here.settled(made), await here.settled(never)
        assert (done.status, done.refund_ids) == ("done", adopted.refund_ids)
        assert (refused.status, refused.provider_code, refused.refund_ids) == ("refused", "not_found", ())
        assert [one["id"] for one in await here.provider.refunds(order_id)] == list(done.refund_ids)


async def test_a_refund_that_was_accepted_namelessly_waits_again_for_its_own(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        nameless = await refund(here, order_id, "20.00", "r-1")
        # Mercado Pago said yes and told no id; nothing of it shows.
        await database.execute(
            "update cuadre.commands set status = 'accepted', accepted_at = now(), maybe_sent_at = now(), "
            "attempted_at = now(), provider_status = 201, due_at = now() + interval '1 hour'"
        )
        named = await refund(here, order_id, "20.00", "r-2")
        async with being_answered(here):
            await here.know(order_id)
            await put_off(here, nameless, 0)
            await steps(here)
            assert (await here.becomes(nameless, status="done")).refund_ids
        again = await here.desk.find(nameless.command_id)
        assert again is not None
        assert (again.status, again.refund_ids) == ("accepted", ())
        assert again.accepted_at is not None
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        assert len((await here.settled(named)).refund_ids) == 1


async def test_a_refund_that_was_given_back_and_found_its_own_is_plainly_done(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        nameless = await refund(here, order_id, "20.00", "r-1")
        await database.execute(
            "update cuadre.commands set status = 'accepted', accepted_at = now(), maybe_sent_at = now(), "
            "attempted_at = now(), provider_status = 201, due_at = now() + interval '1 hour'"
        )
        await refund(here, order_id, "20.00", "r-2")
        async with being_answered(here):
            await here.know(order_id)
            await put_off(here, nameless, 0)
            await steps(here)
            await here.becomes(nameless, status="done")
        await here.becomes(nameless, status="accepted", provider_code="taken")
        # Its own shows after all.
        await here.provider.tell(f"orders/{order_id}/refund", {"amount": "20.00"})
        await here.know(order_id)
        await put_off(here, nameless, 0)
        await steps(here)
        done = await here.becomes(nameless, status="done")
        assert len(done.refund_ids) == 1
        assert (done.provider_code, done.message, done.last_error) == (None, None, None)


async def test_what_was_found_by_looking_is_not_taken_from_whoever_was_answered_meanwhile(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        never = await lost_refund(here, order_id, "r-1")
        await put_off(here, never, 0)
        (row,) = await database.fetch(QUERIES.claim_due_commands, [ACCOUNT.name], [1], 1, 60.0, 72_000.0)
        looking = work_of(row)
        assert looking.is_past
        other = await refund(here, order_id, "20.00", "r-2")
        await steps(here)
        (theirs,) = (await here.becomes(other, status="accepted")).refund_ids
        found = Outcome(Verdict.ACCEPTED, refunds=(MadeRefund(theirs, None, None, "processed"),))
        settled = await commit_outcome(database, looking, found, None)
        assert settled is not None
        assert (settled.status, settled.refund_ids, settled.provider_code) == ("unknown", (), "taken")


async def test_an_answered_creation_keeps_its_order_and_a_searcher_gives_it_back(database: Database) -> None:
    async with shop(database, runner=False) as here:
        await here.provider.faults(create=LOST_BEFORE)
        never = await here.desk.create(ACCOUNT, at_till("CAJA1"), key="k-1", asked_by="till-1")
        await steps(here)
        await here.provider.faults()
        # Its sale is over, so it is looked for.
        await database.execute("update cuadre.commands set valid_until = now(), due_at = now() + interval '1 hour'")
        made = await here.desk.create(ACCOUNT, at_till("CAJA2"), key="k-2", asked_by="till-2")
        async with being_answered(here):
            await put_off(here, never, 0)
            await steps(here)
            adopted = await here.becomes(never, status="done")
        done = await here.desk.find(made.command_id)
        given_back = await here.desk.find(never.command_id)
        assert done is not None
        assert given_back is not None
        assert (done.status, done.order_id) == ("done", adopted.order_id)
        assert (given_back.status, given_back.order_id, given_back.settled_at) == ("unknown", None, None)
        assert "made by another command" in (given_back.message or "")
        # It is looked for again, and nothing is sent.
        await put_off(here, never, 0)
        await steps(here)
        looked = await here.desk.find(never.command_id)
        assert looked is not None
        assert (looked.status, looked.order_id) == ("unknown", None)
        assert list(await here.provider.orders()) == [done.order_id]


def at_till(name: str) -> dict[str, Any]:
    """The same sale, rung up at one of two tills."""
    return qr(config={"qr": {"external_pos_id": name, "mode": "static"}})


async def test_a_persons_word_gives_way_to_an_answer(database: Database) -> None:
    async with shop(database, runner=False) as here:
        await here.provider.faults(create=LOST_BEFORE)
        never = await here.desk.create(ACCOUNT, at_till("CAJA1"), key="k-1", asked_by="till-1")
        await steps(here)
        await here.provider.faults()
        await put_off(here, never, 3600)
        made = await here.desk.create(ACCOUNT, at_till("CAJA2"), key="k-2", asked_by="till-2")
        async with being_answered(here):
            (order_id,) = await here.provider.orders()
            said = await here.desk.settle_by_hand(
                never.command_id, status="done", note="in the panel", asked_by="ana", order_id=order_id
            )
            assert (said.status, said.order_id) == ("done", order_id)
        done = await here.desk.find(made.command_id)
        assert done is not None
        assert (done.status, done.order_id) == ("done", order_id)
        assert (await here.becomes(never, status="unknown")).order_id is None


async def test_a_refund_is_not_given_up_by_a_look_from_during_its_last_attempt(database: Database) -> None:
    async with shop(database, runner=False) as here:
        order_id = await here.sell()
        calls: list[tuple[Any, ...]] = []

        class Late:
            """The first call arrives while the second one is under way, after a look; a gateway refuses the second."""

            def __getattr__(self, name: str) -> Any:
                return getattr(here.client, name)

            async def refund_order(self, *arguments: Any) -> ProviderAnswer:
                calls.append(arguments)
                if len(calls) == 1:
                    raise Timeout("no whole answer within 10 s")
                await here.know(order_id)
                await here.provider.faults(get_order={"status": 503})
                await here.client.refund_order(*calls[0])
                return ProviderAnswer(400, "bad_request", "gateway", {}, "{}", None)

        here.runner._tools = type(here.runner._tools)(database, Late())  # type: ignore[arg-type]  # a client but for one call
        asked = await refund(here, order_id, "30.00", "r-1")
        for _ in range(4):
            await put_off(here, asked, 0)
            await steps(here)
        assert len(calls) == 2
        still = await here.desk.find(asked.command_id)
        assert still is not None
        assert (still.status, still.message) == (
            "unknown",
            "Mercado Pago never answered: the order is being read again to find out.",
        )
        await here.provider.faults()
        here.tasks["desk"] = asyncio.create_task(here.runner.run())
        done = await here.settled(asked)
        assert done.status == "done"
        assert [one["id"] for one in await here.provider.refunds(order_id)] == list(done.refund_ids)
