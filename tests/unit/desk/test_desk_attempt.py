"""One attempt: what it makes of a client that will not call, and of words that quote a card token."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from service.desk.attempt import attempt
from service.desk.intents import CommandRow
from service.desk.legacy import UNKNOWN_DELETE, send_delete
from service.desk.outcomes import Outcome, Verdict
from service.desk.work import Executor, Tools, Work
from service.mercadopago.account import Account
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.errors import BadRequest
from service.mercadopago.json_text import dumps
from service.mercadopago.pacing import AccountGate

NOW = datetime(2026, 9, 14, 12, 0, tzinfo=UTC)
ACCOUNT = Account("default", user_id="2100457788", access_token="APP_USR-simulator")
TOOLS: Any = Tools(database=None, client=None)  # type: ignore[arg-type]  # nothing here calls anybody
ABSENT: dict[str, Any] = dict.fromkeys(CommandRow.__slots__)
COMMAND = CommandRow(
    **ABSENT
    | {
        "command_id": "CMD01JSA8Q0000000000000000AA",
        "account": "default",
        "kind": "create",
        "status": "sending",
        "attempts": 1,
        "provider_key": "key",
        "maybe_sent_at": NOW,
        "attempted_at": NOW,
        "reserved": {},
        "options": {},
        "refund_ids": (),
    }
)
WORK = Work(
    command=COMMAND,
    body=None,
    lease_token=UUID(int=1),
    is_first=True,
    is_past=False,
    is_newest=True,
    was_unknown=False,
    age_seconds=0.0,
    order_age_seconds=None,
)


async def attempted(work: Work, said: ProviderAnswer | Outcome | Exception) -> tuple[Outcome, str | None]:
    """What becomes of `work` where a call, or a comparison, ends like this."""

    async def ends(*_arguments: object) -> Any:
        if isinstance(said, Exception):
            raise said
        return said

    gate = AccountGate(50, random=lambda: 0.0)
    gate.take(0.0, known=1)
    return await attempt(Executor(ends, ends), TOOLS, ACCOUNT, work, gate, lambda: 0.0)


@pytest.mark.parametrize("is_past", [False, True])
async def test_what_the_client_will_not_send_is_not_tried_again_at_once(is_past: bool) -> None:
    will_not = BadRequest("the account has no user_id")
    outcome, _ = await attempted(replace(WORK, was_unknown=True, is_first=False, is_past=is_past), will_not)
    assert (outcome.verdict, outcome.unknown) == (Verdict.COMPARE, True)
    assert outcome.wait_seconds >= 1
    never_sent, _ = await attempted(WORK, will_not)
    assert (never_sent.verdict, never_sent.code) == (Verdict.REFUSED, "unsendable")


TOKEN = "ff8080814c11e237014c1ff593b57b4d"
BODY = {
    "total_amount": "123.00",
    "transactions": {"payments": [{"amount": "123.00", "payment_method": {"token": TOKEN, "security_code": "123"}}]},
}


@pytest.mark.parametrize(
    "words",
    [
        f"token '{TOKEN}' is not valid",
        f"card_token_{TOKEN}_expired",
        "a" * 200 + f" {TOKEN[:-1]}…",
        "the security code 123 is wrong",
    ],
)
async def test_the_providers_words_do_not_carry_card_data_out_of_a_body(words: str) -> None:
    document: dict[str, object] = {"errors": [{"code": "invalid_card_token_id", "message": words}], "amount": "123.00"}
    said = ProviderAnswer(400, "invalid_card_token_id", words, document, dumps(document), None)
    outcome, kept = await attempted(replace(WORK, body=dumps(BODY)), said)
    assert outcome.verdict is Verdict.REFUSED
    assert outcome.message is not None
    assert "***" in outcome.message
    assert kept is not None
    for secret in (TOKEN, TOKEN[:-1], "code 123"):
        assert secret not in outcome.message
    assert TOKEN[:-1] not in kept
    # All else is what was said.
    assert '"123.00"' in kept
    assert outcome.code == "invalid_card_token_id"


async def test_words_that_quote_nothing_stay_as_they_are() -> None:
    document: dict[str, object] = {"errors": [{"code": "new", "message": "No cards on Sundays"}], "rate": 1}
    said = ProviderAnswer(400, "new", "No cards on Sundays", document, dumps(document), None)
    for body in (None, "", "no json", dumps(BODY)):
        outcome, kept = await attempted(replace(WORK, body=body), said)
        assert outcome.message is not None
        assert "No cards on Sundays" in outcome.message
        assert kept == dumps(document)


class EmptyPlace:
    """A client whose deletion is answered like this, of a point of sale that shows nothing."""

    def __init__(self, deleted: ProviderAnswer) -> None:
        self.deleted = deleted

    async def delete_legacy_order(self, *_arguments: object, **_named: object) -> ProviderAnswer:
        return self.deleted

    async def get_legacy_current(self, *_arguments: object) -> None:
        return None


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"message": "In store order not found"}, Verdict.DONE),
        ({"message": "nothing here", "status": 404, "cause": []}, Verdict.DONE),
        ({"message": "no Route matched with those values"}, Verdict.REFUSED),
        (None, Verdict.REFUSED),
    ],
)
async def test_a_deletions_404_is_the_providers_by_any_word_of_its_errors(
    document: dict[str, object] | None, expected: Verdict
) -> None:
    message = None if document is None else str(document["message"])
    client = EmptyPlace(ProviderAnswer(404, None, message, document, "", None))
    tools = Tools(database=None, client=client)  # type: ignore[arg-type]  # no database, and a client of two calls
    command = replace(COMMAND, kind="legacy_delete", point_of_sale="CAJA01", options={"generation": "v2"})
    work = replace(WORK, command=command, is_newest=False)
    outcome = await send_delete(tools, replace(ACCOUNT, legacy_store_id="TIENDA1"), work)
    assert isinstance(outcome, Outcome)
    assert (outcome.verdict, outcome.message == UNKNOWN_DELETE) == (expected, expected is Verdict.REFUSED)
