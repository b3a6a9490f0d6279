"""What commands print: results on standard output, everything else on standard error."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.cli.output import be_quiet, complain, counted, duration, emit, progress, say, size, table

Capture = pytest.CaptureFixture[str]
CELLS = st.none() | st.integers() | st.floats(allow_nan=False) | st.text("abc -", max_size=9)


@pytest.fixture(autouse=True)
def _speaking() -> Iterator[None]:
    """Whatever a test asks for, the next one is not quiet."""
    yield
    be_quiet(False)


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n))))
def test_a_table_is_aligned(rows: list[list[object]]) -> None:
    header = [f"column {number}" for number in range(len(rows[0]) if rows else 2)]
    lines = table(header, rows)
    assert len(lines) == len(rows) + 1
    assert not any(line.endswith(" ") for line in lines)
    # Cut where the columns end, every piece holds its cell and no other.
    numeric = [
        all(isinstance(row[k], int | float | None) for row in rows) for k in range(len(header))
    ]
    texts = [header, *([_text(value) for value in row] for row in rows)]
    widths = [max(len(text[k]) for text in texts) for k in range(len(header))]
    for line, cells in zip(lines, texts, strict=True):
        start = 0
        for cell, width, right in zip(cells, widths, numeric, strict=True):
            piece = line.ljust(10_000)[start : start + width]
            assert piece == (cell.rjust(width) if right else cell.ljust(width))
            start += width + 2


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def test_results_are_lines_or_json(capsys: Capture) -> None:
    values = {"path": "a", "count": 3, "missing": None}
    emit(values, ["first", "second"], as_json=False)
    assert capsys.readouterr() == ("first\nsecond\n", "")
    emit(values, ["first"], as_json=True)
    printed, said = capsys.readouterr()
    assert (json.loads(printed), said) == (values, "")


def test_numbers_that_json_lacks_are_null(capsys: Capture) -> None:
    nan, inf = float("nan"), float("inf")
    values = {"a": nan, "b": [{"c": (1.5, inf, -inf)}], "d": Path("x"), "e": "nan"}
    emit(values, [], as_json=True)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    printed = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert printed == {"a": None, "b": [{"c": [1.5, None, None]}], "d": "x", "e": "nan"}


def test_quiet_silences_notes_and_not_errors(capsys: Capture) -> None:
    say("a note")
    be_quiet(True)
    say("another")
    complain("an error")
    assert capsys.readouterr() == ("", "a note\nan error\n")


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "quiet", "shown"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_a_bar_is_drawn_for_a_person_only(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, quiet: bool, shown: bool
) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress("counting", 4.0, unit="Mpx", per_unit=2.0, quiet=quiet) as advance:
        for _ in range(4):
            advance(1.0)
    assert ("counting" in stream.getvalue()) == shown


def test_the_title_of_a_bar_cannot_command_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "200")
    with progress("x\x1b]0;PWNED\x07\x1b[31m[bold]y[/] :bug:\n\udcff.tif", 1.0) as advance:
        advance(1.0)
    drawn = stream.getvalue()
    for command in ("\x07", "\x1b]", "\x1b[31m"):
        assert command not in drawn
    assert "x\ufffd]0;PWNED\ufffd\ufffd[31m[bold]y[/] :bug:\ufffd\ufffd.tif" in drawn


@pytest.mark.parametrize("columns", [50, 79])
def test_rows_become_paragraphs_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    header = ["run", "domain", "images", "IoU", "object F1", "boundary 1 m"]
    rows: list[list[object]] = [
        ["none-0", "x" * 33, 4, 0.929, None, 0.5],
        ["rhm-0", "y", 1, 0.1, 1, 2],
    ]
    whole = table(header, rows)
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", str(len(whole[0])))
    assert table(header, rows) == whole
    monkeypatch.setenv("COLUMNS", str(columns))
    narrow = table(header, rows)
    assert max(map(len, narrow)) <= columns
    titles = [line for line in narrow if not line.startswith(" ")]
    assert titles == [f"none-0  {'x' * 33}", "rhm-0  y"]
    first = " ".join(line.strip() for line in narrow[1 : narrow.index(titles[1])])
    assert first == "images 4, IoU 0.929, object F1 -, boundary 1 m 0.500"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (59, "59 s"), (59.7, "1 min"), (3599, "1 h 00 min"), (9000, "2 h 30 min")],
)
def test_times_are_short(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_sizes_have_units() -> None:
    assert [size(count) for count in (0, 640e6, 999.7e6, 12.34e9)] == [
        "0 MB",
        "640 MB",
        "1.0 GB",
        "12.3 GB",
    ]


def test_one_is_singular() -> None:
    assert [counted(number, "building") for number in (0, 1, 2)] == [
        "0 buildings",
        "1 building",
        "2 buildings",
    ]


def test_names_cannot_command_a_terminal(capsys: Capture) -> None:
    be_quiet(False)
    hostile = "a\x1b]0;owned\x07b\u202ec"
    shown = "a\ufffd]0;owned\ufffdb\ufffdc\n"
    emit({"file": hostile}, [hostile], as_json=False)
    say(hostile)
    complain(hostile)
    assert capsys.readouterr() == (shown, 2 * shown)
    emit({"file": hostile}, [hostile], as_json=True)
    assert "\x1b" not in (printed := capsys.readouterr().out)
    assert json.loads(printed) == {"file": hostile}
