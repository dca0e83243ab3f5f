"""Every documented status and code, for every kind of command, at a first attempt and after one of unknown outcome.

What is expected is written here a second time, kind by kind; whatever is not named is a refusal.
"""

import pytest

from service.desk.outcome_table import TABLE, Meaning, meaning_of
from service.desk.outcomes import Verdict
from tests.unit.desk.desk_answers import KINDS, ORDER_ID, answer, documented, judged

RETRY, UNSENT, REFUSED = "retry", "unsent", "refused"
DONE, ACCEPTED, COMPARE = "done", "accepted", "compare"

# (first attempt, after an attempt of unknown outcome) by code: whatever kind and status.
ANY = {
    "processor_communication_error": (RETRY, RETRY),
    "post_processing_operation_pending": (RETRY, RETRY),
    "movement_operations_pending": (RETRY, RETRY),
    "refund_in_progress": (RETRY, RETRY),
    "order_refund_already_in_process": (RETRY, RETRY),
    "unprocessable_entity": (RETRY, RETRY),
    "idempotency_key_already_used": (COMPARE, COMPARE),
    "4295": (COMPARE, COMPARE),
    "4296": (COMPARE, COMPARE),
    "PA_UNAUTHORIZED_RESULT_FROM_POLICIES": (UNSENT, RETRY),
}
BUSY = dict.fromkeys(
    [
        "already_queued_order_on_terminal",
        "already_queued_order_for_terminal",
        "already_queued_order_for_device",
    ],
    (REFUSED, COMPARE),
)
NO_MORE_TO_REFUND = dict.fromkeys(
    [
        "cannot_refund_order",
        "refund_amount_exceeds",
        "payment_not_refundable",
        "amount_not_refundable",
        "max_refunds_exceeded",
        "action_not_allowed_for_current_state",
        "2063",
    ],
    (REFUSED, COMPARE),
)
OF_KIND: dict[str, dict[str, tuple[str, str]]] = {
    "create": {**BUSY},
    "cancel": {
        "order_already_canceled": (ACCEPTED, ACCEPTED),
        "order_already_cancelled": (ACCEPTED, ACCEPTED),
        "cannot_cancel_order": (REFUSED, COMPARE),
        "order_not_found": (RETRY, RETRY),
        "2000": (RETRY, RETRY),
        "user_not_authorized": (REFUSED, COMPARE),
    },
    "refund": {
        **NO_MORE_TO_REFUND,
        "order_already_refunded": (REFUSED, ACCEPTED),
        "order_not_found": (RETRY, RETRY),
        "2000": (RETRY, RETRY),
        "user_not_authorized": (REFUSED, COMPARE),
    },
    "legacy_put": {"invalid_access_token": (UNSENT, RETRY)},
    "legacy_delete": {
        "invalid_access_token": (UNSENT, RETRY),
        "point_of_sale_in_store_order_not_found": (DONE, DONE),
        "in_store_order_delete_error": (RETRY, RETRY),
        "pos_obtainment_by_external_id_error": (REFUSED, COMPARE),
        **dict.fromkeys(["pos_not_found", "marketplace_fee_not_allowed", "order_not_found"], (RETRY, RETRY)),
        **dict.fromkeys(["transaction_not_found", "2000"], (RETRY, RETRY)),
    },
}
# By status, where the code is not named above.
OF_STATUS = {
    401: (UNSENT, RETRY),
    423: (RETRY, RETRY),
    425: (RETRY, RETRY),
    429: (UNSENT, RETRY),
    **dict.fromkeys([500, 502, 503, 504], (RETRY, RETRY)),
}
# By kind, for a 404 without a code.
BARE_404 = {"cancel": (RETRY, RETRY), "refund": (RETRY, RETRY), "legacy_delete": (RETRY, RETRY)}


def expected(kind: str, status: int, code: str | None) -> tuple[str, str]:
    """The verdicts of a first attempt, and of one after an attempt of unknown outcome.

    A creation is repeated for a while before it is compared: had one been heard, its own answer would come back.
    """
    first, again = _expected(kind, status, code)
    return first, RETRY if kind == "create" and first == REFUSED and again == COMPARE else again


def _expected(kind: str, status: int, code: str | None) -> tuple[str, str]:
    known = OF_KIND[kind].get(code or "") or ANY.get(code or "")
    if status in (423, 425, 429) or status >= 500 or (status == 401 and known is None):
        return OF_STATUS[status]
    if known is not None:
        return known
    if code is None and status == 403:
        return RETRY, RETRY
    if code is None and status == 404:
        return BARE_404.get(kind, (REFUSED, COMPARE))
    if (kind, status) == ("create", 402):
        # Without the order nobody knows whether it has failed.
        return RETRY, RETRY
    # Who refuses after an attempt of unknown outcome may know nothing of it.
    return REFUSED, COMPARE


@pytest.mark.parametrize("kind", KINDS)
def test_every_documented_answer_has_its_verdict(kind: str) -> None:
    for status, code in documented():
        first = judged(kind, answer(status, code))
        again = judged(kind, answer(status, code), attempts=2, age=5.0, unknown_before=True)
        found = (first.verdict.value, again.verdict.value)
        assert found == expected(kind, status, code), f"{kind} {status} {code}"
        is_open = meaning_of(kind, status, code, "words") in (Meaning.OUTAGE, Meaning.STILL_RUNNING)
        is_open = is_open or (kind, status) == ("create", 402)
        assert first.unknown == (is_open or first.verdict is Verdict.COMPARE)
        assert again.unknown == (again.verdict in (Verdict.RETRY, Verdict.COMPARE))


@pytest.mark.parametrize("kind", KINDS)
def test_every_documented_answer_is_told_in_full(kind: str) -> None:
    for status, code in documented():
        for unknown_before in (False, True):
            outcome = judged(kind, answer(status, code), attempts=2, age=5.0, unknown_before=unknown_before)
            assert (outcome.code, outcome.status) == (code, status)
            assert outcome.message is not None
            assert outcome.message.endswith(".")
            waits = outcome.verdict in (Verdict.RETRY, Verdict.UNSENT, Verdict.COMPARE)
            assert (outcome.wait_seconds > 0) == waits
            assert outcome.pause_account == (meaning_of(kind, status, code) is Meaning.ACCOUNT_REFUSED)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", [None, "a_code_of_tomorrow"])
def test_every_status_has_a_verdict_that_is_safe(kind: str, code: str | None) -> None:
    for status in range(100, 600):
        first = judged(kind, answer(status, code, {"id": ORDER_ID, "status": "created"}))
        again = judged(kind, answer(status, code, {"id": ORDER_ID}), attempts=9, age=100.0, unknown_before=True)
        if 200 <= status < 300:
            assert first.verdict in (Verdict.DONE, Verdict.ACCEPTED)
        elif not 400 <= status < 500 or status == 408:
            assert (first.verdict, first.unknown) == (Verdict.RETRY, True)
        elif code is not None:
            not_final = status in (401, 423, 425, 429) or (kind, status) in (("legacy_delete", 404), ("create", 402))
            assert not_final or first.verdict is Verdict.REFUSED
            # The same request is refused in the same way; all else may have to do with what was tried before.
            assert status in (400, 402, 403, 404) or again.verdict in (Verdict.COMPARE, Verdict.RETRY)


def test_the_last_row_of_the_table_catches_what_no_other_does() -> None:
    assert TABLE[-1].kinds is None
    assert TABLE[-1].codes is None
    assert meaning_of("create", 1000, None) is Meaning.OUTAGE


def test_every_row_of_the_table_decides_something() -> None:
    found = set()
    codes = {code for _, code in documented()} | {"new", "unauthorized", "not_found", None}
    for kind in KINDS:
        for status in range(100, 600):
            for code in codes:
                for place, row in enumerate(TABLE):
                    if (
                        row.statuses[0] <= status <= row.statuses[1]
                        and (row.kinds is None or kind in row.kinds)
                        and (row.codes is None or code in row.codes)
                    ):
                        found.add(place)
                        break
    assert found == set(range(len(TABLE)))


@pytest.mark.parametrize("code", ["any_code", "blocked_by_PolicyAgent", None])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gateways_403_is_told_by_its_words(kind: str, code: str | None) -> None:
    outcome = judged(kind, answer(403, code, message="At least one policy returned UNAUTHORIZED."))
    assert (outcome.verdict, outcome.pause_account) == (Verdict.UNSENT, True)


@pytest.mark.parametrize(
    "code",
    [
        "forbidden_checking_terminal_owner",
        "partial_refund_forbidden_with_tips",
        "new",
        "forbidden",
        "unauthorized",
        None,
    ],
)
def test_a_403_to_one_call_pauses_no_account(code: str | None) -> None:
    for kind in KINDS:
        assert not judged(kind, answer(403, code, message=None)).pause_account


@pytest.mark.parametrize("code", ["forbidden", "unauthorized", None])
@pytest.mark.parametrize("kind", KINDS)
def test_a_403_without_a_reason_is_repeated_like_a_not_yet_and_then_believed(kind: str, code: str | None) -> None:
    told = answer(403, code, message=None)
    first = judged(kind, told)
    assert (first.verdict, first.unknown, first.wait_seconds) == (Verdict.RETRY, False, 1.0)
    assert judged(kind, told, attempts=30, age=599.0).verdict is Verdict.RETRY
    last = judged(kind, told, attempts=31, age=600.0)
    assert last.verdict is Verdict.REFUSED
    assert last.message is not None
    assert "access token" not in last.message
    assert "not tried any more" in last.message
    assert judged(kind, told, attempts=31, age=600.0, unknown_before=True).verdict is Verdict.COMPARE


@pytest.mark.parametrize("kind", KINDS)
def test_a_400_in_nobodys_words_is_no_refusal(kind: str) -> None:
    told = answer(400, message=None)
    for unknown_before in (False, True):
        first = judged(kind, told, unknown_before=unknown_before)
        assert (first.verdict, first.unknown, first.wait_seconds) == (Verdict.RETRY, True, 1.0)
        assert first.message is not None
        assert "do not" in first.message
    if kind != "legacy_delete":
        # A page that stays has what became of it found out by looking.
        assert judged(kind, told, attempts=31, age=600.0, unknown_before=True).verdict is Verdict.COMPARE
    # The provider's words are believed, without a code as well.
    assert judged(kind, answer(400)).verdict is Verdict.REFUSED


@pytest.mark.parametrize("kind", KINDS)
def test_a_403_without_a_reason_is_the_accounts_where_its_token_is_refused_elsewhere(kind: str) -> None:
    outcome = judged(kind, answer(403, message=None), age=600.0, token_refused=True)
    assert (outcome.verdict, outcome.pause_account) == (Verdict.UNSENT, True)
    # What has a reason of its own is not.
    told = answer(403, "partial_refund_forbidden_with_tips")
    assert judged(kind, told, token_refused=True).verdict is Verdict.REFUSED
