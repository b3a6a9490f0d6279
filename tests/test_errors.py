"""The errors that a user can cause: one line each, whatever stands in it."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

import rhm.errors
from rhm.errors import RhmError, one_line, printable

ERRORS = [each for each in vars(rhm.errors).values() if isinstance(each, type)]
TEXTS = st.text(st.characters(codec=None))


@given(TEXTS)
def test_what_is_printable_cannot_move_the_cursor_or_turn_the_text(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    for before, after in zip(text, shown, strict=True):
        kind = unicodedata.category(before)
        if kind in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            assert after == "\ufffd"
        else:
            assert after in (before, "\ufffd")
    shown.encode()
    assert printable(shown) == shown


@given(st.text("abc éü東 01.,:/-"))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_what_is_kept_is_kept() -> None:
    assert printable("a\nb\tc", keep="\n") == "a\nb\ufffdc"


def test_every_error_is_caught_as_one() -> None:
    assert len(ERRORS) > 5
    for error in ERRORS:
        assert issubclass(error, RhmError)
        assert str(error("what, where, what next")) == "what, where, what next"


def test_a_bare_key_is_said_to_be_missing() -> None:
    assert one_line(KeyError("rank")) == "'rank' is missing"
    assert one_line(KeyError("no tensor named rank")) == "no tensor named rank"
    assert one_line(KeyError()) == "KeyError"


def test_messages_of_other_packages_are_one_line_of_limited_length() -> None:
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(ValueError()) == "ValueError"
    long = one_line(ValueError("x" * 3000), 50)
    assert len(long) == 50
    assert long.endswith("\u2026")
