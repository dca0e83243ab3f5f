"""The report: it says what it says at any width, and what may be pasted is never broken."""

from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from service.cli.demo.compare import compare_discrepancies, compare_orders
from service.cli.demo.faults import Dealt, count_dealt
from service.cli.demo.household import Household, Ports
from service.cli.demo.report import Report, print_report
from service.cli.demo.settle import Settled
from service.cli.demo.stored import Discrepancy
from tests.unit.demo.demo_samples import ORDER_ID, at_provider, stored

EXPLANATION = "Refunds of payment PAY01 come to 62.28 ARS, but only 47.28 ARS were paid: 15.00 ARS too much."
KEY = (ORDER_ID, "refunds_exceed_paid", "PAY01")


def report(*, found: bool = True, lost: bool = False, **tampered: Any) -> Report:
    ledger = {ORDER_ID: at_provider(lost=lost)}
    rows = [Discrepancy(*KEY, EXPLANATION, resolved=False)] if found else []
    return Report(
        settled=Settled(
            compare_orders(ledger, {ORDER_ID: stored(**tampered)}),
            ledger,
            {"x": timedelta(minutes=9.2)} if lost else {},
        ),
        discrepancies=compare_discrepancies({KEY}, set(), rows),
        dealt=Dealt(10, 1, 2, 3, 4, 11, {"200": 30, "503": 2}),
        deliveries={"valid": 8, "missing": 3},
        seconds=12.3,
    )


def printed(it: Report, tmp_path: Path, *, width: int = 80, once: bool = False) -> str:
    household = Household(tmp_path)
    household.ports = Ports(8080, 9090, 8090)
    out = StringIO()
    print_report(Console(file=out, width=width, highlight=False), it, household, once=once)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_it_says_that_all_adds_up_and_why_a_refund_does_not(width: int, tmp_path: Path) -> None:
    text = printed(report(), tmp_path, width=width)
    assert "Everything adds up: stored orders equal to the provider's 1, planted" in text
    assert EXPLANATION in " ".join(text.split())
    assert "refund_stuck (opens after 24 hours" in text


def test_what_may_be_pasted_is_on_one_line(tmp_path: Path) -> None:
    lines = printed(report(), tmp_path, width=40).splitlines()
    assert any(line.endswith(f". {tmp_path}/demo/environment.sh") for line in lines)
    assert any('"http://127.0.0.1:9090/api/v1/orders?limit=3"' in line and "curl -H" in line for line in lines)
    assert any(f"orders show {ORDER_ID}" in line for line in lines)


def test_no_secret_is_printed(tmp_path: Path) -> None:
    household = Household(tmp_path)
    assert household.secrets.api_key not in printed(report(), tmp_path) + repr(household.secrets)


@pytest.mark.parametrize(
    ("it", "said"),
    [
        (report(found=False), "planted discrepancies not found 1"),
        (report(status="refunded"), "orders that differ from the provider's 1"),
    ],
)
def test_it_says_what_does_not_add_up(it: Report, said: str, tmp_path: Path) -> None:
    text = printed(it, tmp_path)
    assert not it.holds
    assert f"It does not add up: {said}" in text
    assert ORDER_ID in text


def test_late_orders_are_owned_up_to(tmp_path: Path) -> None:
    assert "A scheduled look within 10 min" in " ".join(printed(report(lost=True), tmp_path).split())


def test_once_offers_nothing_that_is_gone(tmp_path: Path) -> None:
    text = printed(report(), tmp_path, once=True)
    assert "http://" not in text
    assert str(tmp_path) in text


def entry(number: int, version: int, **members: Any) -> dict[str, Any]:
    usual = {"order_id": ORDER_ID, "outcome": "delivered", "sign": "lowercase", "duplicate": False}
    return {"notification": number, "version": version, **usual, **members}


def test_faults_are_counted_from_the_log_of_deliveries() -> None:
    log = [
        entry(1, 2),
        entry(2, 3, outcome="dropped"),
        entry(4, 5, sign="none"),
        entry(3, 4),
        entry(5, 5, duplicate=True),
        entry(6, 6, outcome="refused"),
    ]
    dealt = count_dealt(log, {"503": 1, "200": 7, "429": 2})
    assert (dealt.announced, dealt.dropped, dealt.doubled, dealt.overtaken, dealt.unsigned) == (5, 1, 1, 1, 1)
    assert dealt.delivered == 4
    assert dealt.failed_reads == 3
