"""What was tried before, time and the answer's document decide together with the table."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.desk.outcomes import MadeRefund, Verdict
from service.mercadopago.answers import ProviderAnswer
from service.mercadopago.errors import (
    AccountRefused,
    ConnectionTrouble,
    MercadoPagoError,
    NonsenseAnswer,
    RateLimited,
    ServerTrouble,
    Timeout,
)
from tests.unit.desk.desk_answers import KINDS, ORDER_ID, PAYMENT_ID, answer, documented, judged
from tests.unit.desk.desk_bodies import ANY_JSON

HOUR = 3600.0
CREATED = {"id": ORDER_ID, "status": "created", "type": "qr"}
REFUND = {
    "id": ORDER_ID,
    "status": "processed",
    "transactions": {
        "refunds": [{"id": "REF1", "transaction_id": PAYMENT_ID, "amount": "24.90", "status": "processing"}]
    },
}


def test_a_creation_is_done_with_its_order() -> None:
    outcome = judged("create", answer(201, document=CREATED))
    assert (outcome.verdict, outcome.order_id, outcome.order_status) == (Verdict.DONE, ORDER_ID, "created")
    assert (outcome.message, outcome.wait_seconds, outcome.unknown) == (None, 0.0, False)


def test_a_declined_creation_is_refused_and_its_order_exists() -> None:
    document = {
        "errors": [{"code": "failed", "message": "The following transactions failed"}],
        "data": {
            "id": ORDER_ID,
            "status": "failed",
            "transactions": {"payments": [{"id": PAYMENT_ID, "status_detail": "rejected_by_issuer"}]},
        },
    }
    outcome = judged("create", answer(402, "failed", document))
    assert (outcome.verdict, outcome.code) == (Verdict.REFUSED, "failed")
    assert (outcome.order_id, outcome.order_status) == (ORDER_ID, "failed")
    assert outcome.message == (
        "The card was declined by its bank: ask for another card or another way to pay, with a new order."
    )


def of_402(status: str | None, payment: str | None) -> dict[str, Any]:
    """A 402 whose order and payment say this of themselves."""
    payments = [{"id": PAYMENT_ID, "status": payment, "status_detail": "in_review"}]
    order = {"id": ORDER_ID, "status": status, "transactions": {"payments": payments}}
    return {"errors": [{"code": "failed"}], "data": order}


@pytest.mark.parametrize(("status", "payment"), [("failed", "failed"), ("failed", None), (None, "failed")])
def test_a_402_is_final_where_order_or_payment_say_that_it_failed(status: str | None, payment: str | None) -> None:
    for unknown_before in (False, True):
        outcome = judged("create", answer(402, "failed", of_402(status, payment)), unknown_before=unknown_before)
        assert (outcome.verdict, outcome.order_id) == (Verdict.REFUSED, ORDER_ID)


@pytest.mark.parametrize(
    ("status", "payment"),
    [
        ("processing", "processing"),
        ("action_required", None),
        ("processed", "failed"),
        (None, None),
        ("processed", "processed"),
    ],
)
def test_a_402_whose_order_has_not_failed_asks_for_no_other_card(status: str | None, payment: str | None) -> None:
    outcome = judged("create", answer(402, "failed", of_402(status, payment)))
    assert (outcome.verdict, outcome.unknown, outcome.order_id) == (Verdict.COMPARE, True, ORDER_ID)
    assert outcome.message is not None
    assert "another card" not in outcome.message
    assert outcome.wait_seconds > 0


@pytest.mark.parametrize("document", [None, {}, {"errors": [{"code": "failed"}]}, {"data": {"id": "x"}}])
def test_a_402_that_tells_no_order_is_asked_again_and_then_looked_for(document: dict[str, Any] | None) -> None:
    outcome = judged("create", answer(402, "failed", document))
    assert (outcome.verdict, outcome.unknown, outcome.order_id) == (Verdict.RETRY, True, None)
    later = judged("create", answer(402, "failed", document), attempts=30, age=600.0, unknown_before=True)
    assert (later.verdict, later.unknown) == (Verdict.COMPARE, True)


@pytest.mark.parametrize("document", [None, {}, {"id": None}, {"id": ""}, {"id": "a b"}, {"status": "created"}])
def test_a_creation_that_names_no_order_is_asked_again(document: dict[str, Any] | None) -> None:
    outcome = judged("create", answer(201, document=document))
    assert (outcome.verdict, outcome.unknown, outcome.code) == (Verdict.RETRY, True, "no_order_id")


def test_no_error_names_an_order_but_a_402() -> None:
    assert judged("create", answer(400, "bad_request", {"id": "abc"})).order_id is None
    assert judged("legacy_put", answer(200, document={"id": "123-uuid"})).order_id is None


def test_a_cancellation_is_accepted() -> None:
    outcome = judged("cancel", answer(200, document=CREATED | {"status": "at_terminal"}))
    assert (outcome.verdict, outcome.order_status, outcome.message) == (Verdict.ACCEPTED, "at_terminal", None)


def test_a_refund_is_accepted_with_what_it_made() -> None:
    outcome = judged("refund", answer(201, document=REFUND))
    assert outcome.verdict is Verdict.ACCEPTED
    assert outcome.refunds == (MadeRefund("REF1", PAYMENT_ID, Decimal("24.90"), "processing"),)


def test_a_refund_of_the_payments_api_is_accepted_with_what_it_made() -> None:
    document = {"id": 1234567, "payment_id": 92937960454, "amount": Decimal("5.00"), "status": "approved"}
    outcome = judged("refund", answer(201, document=document))
    assert (outcome.verdict, outcome.order_id) == (Verdict.ACCEPTED, None)
    assert outcome.refunds == (MadeRefund("1234567", "92937960454", Decimal("5.00"), "processed"),)


def test_a_refund_without_a_readable_answer_is_accepted() -> None:
    outcome = judged("refund", answer(201, document={"transactions": {"refunds": [{"amount": "x"}, None]}}))
    assert (outcome.verdict, outcome.refunds) == (Verdict.ACCEPTED, ())


@pytest.mark.parametrize(
    "document",
    [
        {"transactions": {"refunds": [{"id": "REF1", "status": "failed"}]}},
        {"id": 1, "payment_id": 2, "status": "rejected"},
        {"id": 1, "payment_id": 2, "status": "cancelled"},
    ],
)
def test_a_refund_that_failed_at_once_is_refused(document: dict[str, Any]) -> None:
    outcome = judged("refund", answer(201, document=document))
    assert (outcome.verdict, outcome.code) == (Verdict.REFUSED, "refund_failed")
    assert len(outcome.refunds) == 1


@pytest.mark.parametrize("kind", ["legacy_put", "legacy_delete"])
@pytest.mark.parametrize("status", [200, 204])
def test_a_legacy_success_is_done(kind: str, status: int) -> None:
    assert judged(kind, answer(status)).verdict is Verdict.DONE


@pytest.mark.parametrize("status", [400, 404])
def test_nothing_to_take_off_is_done_and_said(status: int) -> None:
    outcome = judged("legacy_delete", answer(status, "point_of_sale_in_store_order_not_found"))
    assert (outcome.verdict, outcome.message) == (
        Verdict.DONE,
        "No order was on this QR: there was nothing to take off.",
    )


@pytest.mark.parametrize("told", [answer(404), answer(404, "not_found"), answer(400, "in_store_order_delete_error")])
def test_what_may_be_said_of_a_sale_that_is_still_there_is_not_believed(told: Any) -> None:
    outcome = judged("legacy_delete", told)
    assert (outcome.verdict, outcome.unknown) == (Verdict.RETRY, True)
    assert outcome.message is not None
    assert outcome.message.startswith("It is not known yet")


TROUBLES: list[tuple[MercadoPagoError, bool]] = [
    (Timeout("no answer in 10 s"), True),
    (ConnectionTrouble("broke off"), True),
    (ServerTrouble("503"), True),
    (NonsenseAnswer("a portal page"), True),
    (RateLimited("429"), False),
    (ConnectionTrouble("no connection", sent=False), False),
    (Timeout("no connection in 3 s", sent=False), False),
    (AccountRefused("no token"), False),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("trouble", "may_have_arrived"), TROUBLES)
def test_without_an_answer_only_what_never_left_is_unsent(
    kind: str, trouble: MercadoPagoError, may_have_arrived: bool
) -> None:
    first = judged(kind, trouble)
    assert (first.verdict, first.unknown) == ((Verdict.RETRY, True) if may_have_arrived else (Verdict.UNSENT, False))
    assert first.code == trouble.outcome
    assert first.message is not None
    # Once an attempt may have arrived, no later one makes that undone.
    again = judged(kind, trouble, attempts=2, age=5.0, unknown_before=True)
    assert (again.verdict, again.unknown) == (Verdict.RETRY, True)
    assert first.pause_account == again.pause_account == isinstance(trouble, AccountRefused)


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_on_the_way_that_is_forbidden_pauses_no_account(kind: str) -> None:
    outcome = judged(kind, AccountRefused("403 without a readable reason", outcome="forbidden", status=403))
    assert (outcome.verdict, outcome.unknown, outcome.pause_account) == (Verdict.RETRY, False, False)
    refused = judged(kind, AccountRefused("401 unauthorized", outcome="unauthorized", status=401))
    assert (refused.verdict, refused.pause_account) == (Verdict.UNSENT, True)


def test_not_yet_is_believed_for_ten_minutes() -> None:
    told = answer(422, "unprocessable_entity")
    waits = [judged("refund", told, attempts=n, age=n * 10.0).wait_seconds for n in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert judged("refund", told, attempts=30, age=599.0).verdict is Verdict.RETRY
    ended = judged("refund", told, attempts=31, age=600.0)
    assert (ended.verdict, ended.code) == (Verdict.REFUSED, "unprocessable_entity")
    # Nobody waits for what is over.
    assert ended.message == (
        "Mercado Pago is not done with this payment yet: nothing has happened, and it is not tried any more; "
        "ask for it again later."
    )
    # After an attempt of unknown outcome nobody can be sure.
    assert judged("refund", told, age=600.0, unknown_before=True).verdict is Verdict.COMPARE


@pytest.mark.parametrize(("status", "code"), [(423, "resource_locked"), (500, "idempotency_validation_failed")])
def test_what_may_still_run_is_never_refused(status: int, code: str) -> None:
    outcome = judged("refund", answer(status, code), age=599.0)
    assert (outcome.verdict, outcome.unknown) == (Verdict.RETRY, True)
    assert judged("refund", answer(status, code), age=600.0).verdict is Verdict.COMPARE


def test_outages_are_waited_out_longer_and_longer() -> None:
    waits = [judged("create", answer(503), attempts=n).wait_seconds for n in (1, 2, 3, 10, 11, 1000)]
    assert waits == [1, 2, 4, 512, 900, 900]


@pytest.mark.parametrize(
    ("asked", "attempts", "wait"), [(7.0, 1, 7.0), (0.0, 1, 1.0), (86_400.0, 1, 900.0), (2.0, 4, 8.0)]
)
def test_retry_after_is_honoured(asked: float, attempts: int, wait: float) -> None:
    assert judged("create", answer(429, retry_after=asked), attempts=attempts).wait_seconds == wait
    assert judged("create", answer(503, retry_after=asked), attempts=attempts).wait_seconds == wait
    assert judged("refund", answer(425, retry_after=asked), attempts=attempts).wait_seconds == wait


def test_a_paused_account_is_not_asked_at_once() -> None:
    assert judged("create", answer(401, "unauthorized")).wait_seconds == 30.0


@pytest.mark.parametrize("kind", ["cancel", "refund"])
def test_an_unknown_order_may_be_lag_for_a_minute(kind: str) -> None:
    told = answer(404, "order_not_found")
    assert judged(kind, told, age=59.0).verdict is Verdict.RETRY
    assert judged(kind, told, age=59.0, order_age=59.0).verdict is Verdict.RETRY
    assert judged(kind, told, age=60.0).verdict is Verdict.REFUSED
    assert judged(kind, told, age=0.0, order_age=HOUR).verdict is Verdict.REFUSED
    assert judged(kind, told, age=60.0, unknown_before=True).verdict is Verdict.COMPARE


@pytest.mark.parametrize("told", [answer(503), answer(429), answer(401), Timeout("no answer"), RateLimited("429")])
def test_no_key_is_used_that_may_be_forgotten(told: Any) -> None:
    assert judged("create", told, age=20 * HOUR - 1, unknown_before=True).verdict is Verdict.RETRY
    outcome = judged("create", told, age=20 * HOUR, unknown_before=True)
    assert (outcome.verdict, outcome.unknown) == (Verdict.COMPARE, True)
    assert outcome.wait_seconds > 0


def test_whoever_might_ask_twice_is_told_not_to() -> None:
    for told in (answer(409, "idempotency_key_already_used"), answer(423, "resource_locked")):
        message = judged("refund", told).message
        assert message is not None
        assert "do not repeat it" in message


@pytest.mark.parametrize("told", [answer(503), Timeout("no answer"), answer(423)])
def test_a_put_is_not_repeated_over_a_newer_one(told: Any) -> None:
    assert judged("legacy_put", told).verdict is Verdict.RETRY
    outcome = judged("legacy_put", told, newest=False)
    assert (outcome.verdict, outcome.code, outcome.unknown) == (Verdict.COMPARE, "superseded", True)


@pytest.mark.parametrize("told", [answer(429), answer(425), answer(401), ConnectionTrouble("none", sent=False)])
def test_a_put_that_never_arrived_is_given_up_for_a_newer_one(told: Any) -> None:
    outcome = judged("legacy_put", told, newest=False)
    assert (outcome.verdict, outcome.code, outcome.unknown) == (Verdict.REFUSED, "superseded", False)
    assert outcome.message == "A newer order has taken this QR, so this one is no longer put there."


@pytest.mark.parametrize("told", [answer(503), answer(429), answer(401), Timeout("no answer"), answer(423)])
def test_a_deletion_is_repeated_until_it_is_answered_whatever_came_later(told: Any) -> None:
    outcome = judged("legacy_delete", told, newest=False)
    assert outcome.verdict in (Verdict.RETRY, Verdict.UNSENT)
    assert outcome == judged("legacy_delete", told)


@pytest.mark.parametrize("told", [answer(503), Timeout("no answer"), answer(423), answer(403)])
def test_a_deletion_that_is_not_answered_holds_up_what_is_newer_for_a_minute(told: Any) -> None:
    assert judged("legacy_delete", told, newest=False, age=59.0).verdict is Verdict.RETRY
    assert judged("legacy_delete", told, newest=False, age=60.0).verdict is Verdict.COMPARE
    assert judged("legacy_delete", told, age=60.0).verdict is Verdict.RETRY


def test_what_is_settled_stays_so_when_something_newer_came() -> None:
    assert judged("legacy_put", answer(204), newest=False).verdict is Verdict.DONE
    assert judged("legacy_put", answer(400, "invalid_items"), newest=False).code == "invalid_items"
    assert judged("create", answer(503), newest=False).verdict is Verdict.RETRY


@given(
    st.sampled_from(KINDS),
    st.sampled_from([(201, None), (200, None), (204, None), *documented()]),
    ANY_JSON,
    st.integers(1, 10**6),
    st.floats(0, 10**7),
    st.booleans(),
    st.booleans(),
    st.none() | st.floats(0, 10**7),
    st.none() | st.floats(0, 10**7),
)
def test_whatever_comes_a_verdict_keeps_its_promises(
    kind: str,
    said: tuple[int, str | None],
    document: object,
    attempts: int,
    age: float,
    unknown_before: bool,
    newest: bool,
    order_age: float | None,
    retry_after: float | None,
) -> None:
    status, code = said
    found = document if isinstance(document, dict) else None
    told = ProviderAnswer(status, code, "words", found, "{}", retry_after)
    outcome = judged(
        kind, told, attempts=attempts, age=age, unknown_before=unknown_before, newest=newest, order_age=order_age
    )
    assert 0 <= outcome.wait_seconds <= 900
    if outcome.verdict is Verdict.UNSENT:
        assert not outcome.unknown
        assert not unknown_before
    if outcome.verdict in (Verdict.RETRY, Verdict.COMPARE) and unknown_before:
        assert outcome.unknown
    if outcome.verdict is Verdict.RETRY and outcome.unknown:
        assert age < 20 * HOUR
    if outcome.verdict is Verdict.ACCEPTED:
        assert kind in ("cancel", "refund")
    if outcome.verdict is Verdict.DONE:
        assert kind not in ("cancel", "refund")
        assert kind != "create" or outcome.order_id is not None
    if outcome.verdict is Verdict.REFUSED and status < 300:
        assert outcome.code == "refund_failed"
    assert status < 500 or outcome.verdict is not Verdict.REFUSED
