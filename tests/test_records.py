"""Records: what is written is read back, and any other JSON is refused with its place."""

import json
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.errors import printable
from rhm.records import (
    LARGEST_NUMBER,
    Flag,
    MalformedError,
    Number,
    Text,
    Whole,
    as_read,
    parse,
    plain,
    to_json,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
NUMBERS = st.floats(-LARGEST_NUMBER, LARGEST_NUMBER)
TEXTS = st.text(st.characters(exclude_categories=("C", "Z")))


@dataclass(frozen=True)
class Point:
    at: tuple[Number, Number]
    name: Text


@dataclass(frozen=True, kw_only=True)
class Track:
    title: Text = "untitled"
    count: Whole
    length: Number | None
    closed: Flag = False
    points: tuple[Point, ...]
    marks: dict[Text, Point]


POINT = {"at": [1, 2.5], "name": "start"}
TRACK = {"count": 3, "length": None, "points": [POINT, POINT], "marks": {"end": POINT}}

POINTS = st.builds(Point, st.tuples(NUMBERS, NUMBERS), TEXTS)


@given(
    st.builds(
        Track,
        title=TEXTS,
        count=st.integers(-(10**15), 10**15),
        length=st.none() | NUMBERS,
        closed=st.booleans(),
        points=st.lists(POINTS).map(tuple),
        marks=st.dictionaries(TEXTS, POINTS),
    )
)
def test_what_is_written_is_read_back(track: Track) -> None:
    assert parse(Track, json.loads(to_json(track, indent=1))) == track


def test_fields_are_written_in_their_order_as_json_has_them() -> None:
    point = Point((1.0, 1e-5), "h\u00fctte")
    assert list(plain(parse(Track, TRACK))) == [
        "title", "count", "length", "closed", "points", "marks",
    ]  # fmt: skip
    assert json.loads(to_json(point, indent=1)) == {"at": [1.0, 1e-5], "name": "h\u00fctte"}
    assert to_json(point, indent=1) == '{\n "at": [1.0, 1e-05],\n "name": "h\\u00fctte"\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(Point((1.0, float("nan")), "a"), indent=1)


def test_a_row_of_numbers_takes_one_line() -> None:
    """Histograms and outlines have thousands: with a line for each, files were three times as
    large."""

    @dataclass(frozen=True)
    class Drawn:
        rings: tuple[tuple[tuple[Number, ...], ...], ...]
        points: tuple[Point, ...]
        empty: tuple[Number, ...] = ()

    rings = (((1.5, 2.0), (3.0, 4.0)), ((5.0,),))
    lines = to_json(Drawn(rings, (Point((0.0, 1.0), "a, [1]"),)), indent=1).splitlines()
    assert lines == [
        "{",
        ' "rings": [',
        "  [[1.5, 2.0], [3.0, 4.0]],",
        "  [[5.0]]",
        " ],",
        ' "points": [',
        "  {",
        '   "at": [0.0, 1.0],',
        '   "name": "a, [1]"',
        "  }",
        " ],",
        ' "empty": []',
        "}",
    ]


def test_defaults_may_be_missing_and_unknown_keys_are_ignored() -> None:
    track = parse(Track, TRACK | {"colour": "red"})
    assert (track.title, track.closed) == ("untitled", False)
    assert track.marks["end"] == Point((1.0, 2.5), "start")


@pytest.mark.parametrize(
    ("change", "place", "problem"),
    [
        ({"count": "3"}, "count", "expected a whole number"),
        ({"count": 3.0}, "count", "expected a whole number"),
        ({"count": True}, "count", "expected a whole number"),
        ({"count": 10**400}, "count", "expected a whole number"),
        ({"length": "long"}, "length", "expected a number"),
        ({"length": True}, "length", "expected a number"),
        ({"length": 1e16}, "length", "expected a number"),
        ({"length": 10**400}, "length", "expected a number"),
        ({"length": float("inf")}, "length", "expected a number"),
        ({"title": 3}, "title", "expected text"),
        ({"title": None}, "title", "expected text"),
        ({"closed": 1}, "closed", "expected true or false"),
        ({"points": {}}, "points", "expected a list"),
        ({"points": "ab"}, "points", "expected a list"),
        ({"points": [POINT, []]}, "points[1]", "expected an object"),
        ({"points": [POINT | {"at": [1]}]}, "points[0].at[1]", "missing"),
        ({"points": [{"at": [1, 2]}]}, "points[0].name", "missing"),
        ({"marks": []}, "marks", "expected an object"),
        ({"marks": {"a\u202e": POINT | {"name": 1}}}, "marks.a\ufffd.name", "expected text"),
    ],
)
def test_the_place_of_a_wrong_value_is_told(
    change: dict[str, object], place: str, problem: str
) -> None:
    with pytest.raises(MalformedError) as caught:
        parse(Track, TRACK | change)
    assert (caught.value.place, caught.value.problem) == (place, problem)
    assert str(caught.value) == f"{place}: {problem}"


def test_a_tuple_that_is_too_long_is_refused() -> None:
    with pytest.raises(MalformedError, match=r"^points\[0\]\.at: .*at most 2 items"):
        parse(Track, TRACK | {"points": [POINT | {"at": [1, 2, 3]}]})


@given(JSON)
def test_any_json_is_parsed_or_refused_in_one_line(values: object) -> None:
    with pytest.raises(MalformedError) as caught:
        parse(Track, values)
    assert "\n" not in str(caught.value)


@given(st.text(st.characters()))
def test_text_of_any_letters_is_read_as_what_can_be_printed(text: str) -> None:
    track = parse(Track, TRACK | {"title": text, "marks": {text: POINT}})
    assert track.title == printable(text)
    assert list(track.marks) == [printable(text)]


def test_a_key_that_no_text_has_is_refused_in_one_line() -> None:
    with pytest.raises(MalformedError) as caught:
        parse(Track, TRACK | {"\ud800": 1})
    assert str(caught.value).isprintable()


@given(st.text(st.characters()))
def test_printable_text_can_be_written_and_keeps_its_length(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert shown.isprintable()
    shown.encode("utf-8")


def test_a_record_is_as_it_is_read_back() -> None:
    track = parse(Track, TRACK)
    assert as_read(track) == track
    assert as_read(replace(track, title="a\nb")) == replace(track, title="a\ufffdb")
