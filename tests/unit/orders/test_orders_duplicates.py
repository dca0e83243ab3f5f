"""`duplicate_sale`: all sales of one reference but the earliest created."""

from datetime import timedelta
from decimal import Decimal
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from service.orders.duplicates import Sale, find_duplicates
from tests.unit.orders.orders_samples import NOW


def sale(order_id: str, minutes: int | None = 0, paid: str = "50.00") -> Sale:
    return Sale(order_id, None if minutes is None else NOW + timedelta(minutes=minutes), Decimal(paid), "ARS")


def subjects(*sales: Sale) -> dict[str, str]:
    return {order_id: finding.subject_id for order_id, finding in find_duplicates("ticket-1", sales).items()}


def test_one_sale_or_none_is_no_duplicate() -> None:
    assert subjects() == {}
    assert subjects(sale("A")) == {}
    assert subjects(sale("A"), sale("A")) == {}


def test_an_empty_reference_is_ignored() -> None:
    assert find_duplicates("", [sale("A"), sale("B")]) == {}


def test_every_sale_but_the_earliest_opens_in_any_order_of_arrival() -> None:
    sales = [sale("C", 0), sale("B", 1), sale("A", 2)]
    for arrived in permutations(sales):
        assert subjects(*arrived) == {"A": "C", "B": "C"}


def test_ties_go_by_order_id_and_missing_times_come_last() -> None:
    for arrived in permutations([sale("B", 5), sale("A", 5), sale("0", None), sale("1", None)]):
        assert subjects(*arrived) == {"B": "A", "0": "A", "1": "A"}
    assert subjects(sale("B", None), sale("A", None)) == {"B": "A"}


def test_finding_tells_the_amounts_and_the_reference() -> None:
    finding = find_duplicates("ticket-1", [sale("A"), sale("B", 1, paid="20.00")])["B"]
    assert (finding.rule, finding.subject_id, finding.amount_at_stake, finding.currency) == (
        "duplicate_sale",
        "A",
        Decimal("20.00"),
        "ARS",
    )
    for word in ("ticket-1", "20.00 ARS", "50.00 ARS", "order A"):
        assert word in finding.explanation


@given(
    st.lists(
        st.builds(
            sale,
            st.sampled_from("ABCDEF"),
            st.sampled_from([None, 0, 1, 2]),
        ),
        unique_by=lambda one: one.order_id,
    )
)
def test_exactly_one_sale_of_a_reference_stays_without_a_finding(sales: list[Sale]) -> None:
    found = subjects(*sales)
    left = {one.order_id for one in sales} - set(found)
    assert len(left) == min(1, len(sales))
    assert set(found.values()) == (left if found else set())
    timed = [one.created_at for one in sales if one.created_at is not None]
    for one in sales:
        if one.order_id in left:
            assert one.created_at == min(timed, default=None)
