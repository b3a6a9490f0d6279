"""Numbers as the pages write them; law: what is written is the number, rounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.report.numbers import MINUS, MISSING, count, number, signed

VALUES = st.floats(-1e9, 1e9)


def read(text: str) -> float:
    return float(text.replace(MINUS, "-").replace(",", ""))


@given(VALUES, st.integers(0, 5))
def test_a_number_is_rounded_to_its_digits(value: float, digits: int) -> None:
    text = number(value, digits)
    # The second part is the rounding of the float that the text is read as.
    assert read(text) == pytest.approx(value, abs=0.5 * 10.0**-digits + 1e-15 * abs(value))
    assert "-" not in text
    assert len(text.partition(".")[2]) == digits


@given(VALUES)
def test_a_difference_has_its_sign(value: float) -> None:
    text = signed(value)
    assert text[0] in ("+", MINUS)
    assert read(text) == pytest.approx(value, abs=6e-4)


@given(st.integers(0, 10**12))
def test_thousands_are_apart(value: int) -> None:
    text = count(value)
    assert read(text) == value
    assert all(len(group) == 3 for group in text.split(",")[1:])


def test_what_is_missing_is_a_dash() -> None:
    assert {number(None), signed(None), count(None)} == {MISSING}
