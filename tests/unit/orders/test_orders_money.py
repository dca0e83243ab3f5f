"""Amounts are exact or refused; currencies follow from countries in each of the provider's spellings."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.orders.money import MAX_DIGITS, currency_for_country, less, parse_amount, plain, total_of


@pytest.mark.parametrize(
    ("given_value", "text"),
    [
        ("50.00", "50.00"),
        ("990", "990"),
        ("1e-3", "0.001"),
        ("1E3", "1000"),
        ("+7.5", "7.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("0", "0"),
        ("-0.00", "0.00"),
        ("000012.340", "12.340"),
        (0, "0"),
        (1500, "1500"),
        (Decimal("47.280"), "47.280"),
        ("9" * MAX_DIGITS, "9" * MAX_DIGITS),
        ("0." + "1" * MAX_DIGITS, "0." + "1" * MAX_DIGITS),
        (f"1e{MAX_DIGITS - 1}", "1" + "0" * (MAX_DIGITS - 1)),
        (f"1e-{MAX_DIGITS}", "0." + "0" * (MAX_DIGITS - 1) + "1"),
    ],
)
def test_amounts_keep_every_digit(given_value: object, text: str) -> None:
    amount = parse_amount(given_value)
    assert plain(amount) == text
    assert not amount.is_signed()


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 1.5, 0.0, b"1", [], {}, "", " ", "\n"),
        *("-1", "-0.01", -1, Decimal("-0.01"), "NaN", "sNaN", "Infinity", "-Infinity", "inf"),
        *(Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")),
        *(
            "1,50",
            "1.500,00",
            "1 000",
            " 1",
            "1\n",
            "1_000",
            "$1",
            "0x10",
            "١٢",
            "１",
            "--1",
            "1e",
            "e5",
            ".",
            "1.2.3",
            "ten",
        ),
        *("1" * (MAX_DIGITS + 1), "0." + "0" * MAX_DIGITS + "1", "1e100", "1e-101", "1e999999999", "1e-999999999"),
        *("0e101", "1e99999999999999999999", "0" * 1001, 10**100, 10**5000, -(10**5000), Decimal("1e500")),
        *("\x00", "\ud800", "1\u2028"),
    ],
    ids=lambda value: ascii(value)[:20] if not isinstance(value, int) or value.bit_length() < 64 else "huge",
)
def test_what_is_no_amount_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(ValueError, match=r"^an amount must ") as refused:
        parse_amount(value)
    text = str(refused.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 200
    text.encode()


@given(
    st.one_of(st.text(), st.from_regex(r"[-+0-9.eE_ ]{0,12}", fullmatch=True), st.integers(), st.floats(), st.binary())
)
def test_mangled_values_raise_nothing_but_value_error(value: object) -> None:
    try:
        amount = parse_amount(value)
    except ValueError:
        return
    assert amount >= 0
    assert parse_amount(plain(amount)) == amount


@given(st.decimals())
def test_decimals_are_taken_as_they_are_or_refused(value: Decimal) -> None:
    try:
        amount = parse_amount(value)
    except ValueError:
        _sign, digits, exponent = value.as_tuple()
        assert (
            not isinstance(exponent, int)  # NaN or infinite
            or value < 0
            or len(digits) + exponent > MAX_DIGITS
            or -exponent > MAX_DIGITS
        )
        return
    assert amount == value
    assert amount.as_tuple().digits == value.as_tuple().digits


@given(st.decimals(min_value=0, allow_nan=False, allow_infinity=False, places=2), st.integers(0, 40))
def test_text_of_an_amount_is_read_back_with_its_digits(amount: Decimal, zeros: int) -> None:
    text = plain(amount) + "0" * zeros
    assert plain(parse_amount(text)) == text


def test_sums_and_differences_are_exact() -> None:
    wide, fine = Decimal("9" * MAX_DIGITS), Decimal("0." + "0" * (MAX_DIGITS - 1) + "1")
    assert plain(total_of([wide, None, fine, fine])) == "9" * MAX_DIGITS + "." + "0" * (MAX_DIGITS - 1) + "2"
    assert less(total_of([wide, fine]), wide) == fine
    assert less(fine, wide) < 0
    assert plain(total_of([])) == "0"
    assert plain(total_of([Decimal("10.00"), Decimal(5)])) == "15.00"


COUNTRIES = {
    "ARS": ("AR", "ARG", "MLA"),
    "BRL": ("BR", "BRA", "MLB"),
    "CLP": ("CL", "CHL", "MLC"),
    "COP": ("CO", "COL", "MCO"),
    "MXN": ("MX", "MEX", "MLM"),
    "PEN": ("PE", "PER", "MPE"),
    "UYU": ("UY", "URY", "MLU"),
    "VES": ("VE", "VEN", "MLV"),
    "USD": ("EC", "ECU", "MEC", "SV", "SLV", "MSV"),
    "BOB": ("BO", "BOL", "MBO"),
    "PYG": ("PY", "PRY", "MPY"),
    "CRC": ("CR", "CRI", "MCR"),
    "PAB": ("PA", "PAN", "MPA"),
    "DOP": ("DO", "DOM", "MRD"),
    "GTQ": ("GT", "GTM", "MGT"),
    "HNL": ("HN", "HND", "MHN"),
    "NIO": ("NI", "NIC", "MNI"),
    "CUP": ("CU", "CUB", "MCU"),
}


@pytest.mark.parametrize(("code", "currency"), [(code, cur) for cur, codes in COUNTRIES.items() for code in codes])
def test_currency_of_a_country_in_any_spelling(code: str, currency: str) -> None:
    assert currency_for_country(code) == currency
    assert currency_for_country(code.lower()) == currency
    assert currency_for_country(f" {code.title()} ") == currency


@pytest.mark.parametrize("code", [None, "", "XX", "USA", "ARGENTINA", "A"])
def test_unknown_countries_have_no_currency(code: str | None) -> None:
    assert currency_for_country(code) is None
