"""Every documented code has a sentence of its own for the person at the till; an unknown one is quoted."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.desk.sentences import NO_ORDER_ID, REFUND_FAILED, SUPERSEDED, UNKNOWN, sentence
from tests.unit.desk.desk_answers import KINDS, documented

CODES = sorted({code for status, code in documented() if code is not None and status < 500})
# Reasons of declined payments (fact sheet of the Orders API, §4.2, §4.3).
DECLINES = (
    *("bad_filled_card_data", "high_risk", "rejected_by_issuer", "required_call_for_authorize", "card_disabled"),
    *("insufficient_amount", "amount_limit_exceeded", "processing_error", "invalid_installments", "in_review"),
    *("max_attempts_exceeded", "rejected_other_reason", "card_insufficient_amount", "invalid_card_token"),
)


@pytest.mark.parametrize("code", [*CODES, *DECLINES, "failed", REFUND_FAILED, UNKNOWN, "timeout", "connection"])
def test_every_code_has_one_plain_sentence(code: str) -> None:
    for kind in KINDS:
        said = sentence(kind, code, None if code in ("timeout", UNKNOWN) else 409, "words of the provider")
        assert re.fullmatch(r"[A-Z][^.\n]*\.", said), said
        assert 30 < len(said) < 200
        assert "words of the provider" not in said
        assert "_" not in said
        assert said.isprintable()


@pytest.mark.parametrize(
    "code",
    ["already_queued_order_on_terminal", "already_queued_order_for_terminal", "already_queued_order_for_device"],
)
def test_the_busy_terminal_says_what_to_do_however_it_is_spelt(code: str) -> None:
    assert sentence("create", code, 409) == (
        "The terminal already has an order waiting: cancel it on the terminal or below, then try again."
    )


def test_an_unknown_code_is_quoted_with_the_providers_words() -> None:
    assert sentence("refund", "brand_new", 409, "No refunds on Sundays") == (
        'Mercado Pago refused the refund (409 brand_new), saying "No refunds on Sundays": '
        "look at the order before you try again."
    )
    assert sentence("create", None, 418) == (
        "Mercado Pago refused the order (418): look at the order before you try again."
    )


@pytest.mark.parametrize("code", [*CODES, *DECLINES, "failed", REFUND_FAILED, "connection", "rate_limited"])
def test_what_is_refused_is_not_said_to_be_tried_again(code: str) -> None:
    for kind in KINDS:
        waits, ended = sentence(kind, code, 409), sentence(kind, code, 409, is_refused=True)
        assert "by itself" not in ended
        assert "nothing has happened yet" not in ended
        assert ("ask for it again later" in ended) == ("tried again by itself" in waits)
        assert re.fullmatch(r"[A-Z][^.\n]*\.", ended), ended
        assert len(ended) < 200


def test_trouble_is_no_refusal() -> None:
    for code, status in (("internal_error", 500), (None, 503), ("timeout", None), (NO_ORDER_ID, None), (None, None)):
        said = sentence("refund", code, status, "An internal error occurred")
        assert said.startswith("Mercado Pago gave no usable answer to the refund")
        assert "refused" not in said


def test_a_superseded_order_is_told_apart_from_a_superseded_removal() -> None:
    assert sentence("legacy_put", SUPERSEDED, None) != sentence("legacy_delete", SUPERSEDED, None)


@given(st.sampled_from([*KINDS, "other"]), st.none() | st.text(), st.none() | st.integers(), st.none() | st.text())
def test_there_is_always_a_sentence(kind: str, code: str | None, status: int | None, words: str | None) -> None:
    assert sentence(kind, code, status, words).endswith(".")


def test_a_status_alone_says_something_where_it_can() -> None:
    assert sentence("cancel", None, 404) == sentence("cancel", "order_not_found", 404)
    assert sentence("create", None, 404).startswith("Mercado Pago refused the order (404)")
    assert sentence("refund", None, 401) == sentence("refund", "unauthorized", 401)
    assert sentence("refund", None, 403) == sentence("refund", "forbidden", 403)
    assert "access token" not in sentence("refund", None, 403)
    assert sentence("refund", None, 429) == sentence("refund", "too_many_requests", 429)
