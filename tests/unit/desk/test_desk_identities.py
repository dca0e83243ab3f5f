"""Names of commands sort by time; the key at the provider follows from the caller's alone."""

import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.desk.errors import InvalidRequest
from service.desk.identities import COMMAND_ID, check_key, command_id, new_command_id, provider_key, request_hash
from tests.unit.desk.desk_bodies import ANY_JSON

KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=128)


def test_an_id_is_a_ulid_after_its_prefix() -> None:
    # The example of the ULID specification's own test: time 1469918176385, then 80 bits.
    assert command_id(1469918176385, bytes(10)) == "CMD01ARYZ6S41" + "0" * 16
    assert command_id((1 << 48) - 1, b"\xff" * 10) == "CMD7" + "Z" * 25


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_ids_sort_by_time(earlier: int, later: int, chance: bytes) -> None:
    first, second = sorted((earlier, later))
    assert COMMAND_ID.fullmatch(command_id(first, chance))
    assert command_id(first, chance) <= command_id(second, chance)
    assert (first == second) == (command_id(first, chance) == command_id(second, chance))


@pytest.mark.parametrize(("at", "chance"), [(-1, bytes(10)), (1 << 48, bytes(10)), (0, bytes(9)), (0, bytes(11))])
def test_an_id_is_made_of_48_and_80_bits(at: int, chance: bytes) -> None:
    with pytest.raises(ValueError, match="48 bits"):
        command_id(at, chance)


def test_new_ids_are_new() -> None:
    ids = {new_command_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(COMMAND_ID.fullmatch(one) for one in ids)


def test_the_providers_key_never_changes() -> None:
    # Written down once: another value would make a second effect of a request that is repeated after an update.
    assert provider_key("default", "sale-1001") == "85e524c2-6bd3-5048-ada8-bd0cc1788706"


@given(st.sampled_from(["default", "shop", "shop\n1"]), KEYS, st.sampled_from(["default", "shop"]), KEYS)
def test_the_providers_key_tells_accounts_and_keys_apart(account: str, key: str, other: str, other_key: str) -> None:
    assert str(uuid.UUID(provider_key(account, key))) == provider_key(account, key)
    same = (account, key) == (other, other_key)
    assert (provider_key(account, key) == provider_key(other, other_key)) == same


@given(KEYS)
def test_a_callers_key_is_taken_as_it_is(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", [None, "", " ", "a b", "a\n", "\n", "ñ", "a" * 129, 5, b"key", ["key"]])
def test_a_bad_key_is_named(key: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_key(key)
    assert [fault.path for fault in refused.value.faults] == ["Idempotency-Key"]


def test_equal_requests_have_equal_hashes() -> None:
    first = {"amount": "5.00", "payment_id": "PAY1"}
    assert request_hash("refund", "ORD1", first) == request_hash("refund", "ORD1", dict(reversed(first.items())))
    others = [
        request_hash("refund", "ORD2", first),
        request_hash("cancel", "ORD1", first),
        request_hash("refund", None, first),
        request_hash("refund", "ORD1", first | {"amount": "5.0"}),
        request_hash("refund", "ORD1", {}),
        request_hash("refund", "ORD1", {"unit_price": Decimal("5.0")}),
        request_hash("refund", "ORD1", {"unit_price": Decimal("5.00")}),
    ]
    assert len({request_hash("refund", "ORD1", first), *others}) == 1 + len(others)


@given(ANY_JSON)
def test_anything_is_hashed_or_refused(request: object) -> None:
    try:
        assert len(request_hash("create", None, request)) == 32
    except InvalidRequest as refused:
        told = refused
    else:
        return
    assert told.faults


def test_endless_nesting_is_refused() -> None:
    nested: object = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(InvalidRequest):
        request_hash("create", None, nested)
