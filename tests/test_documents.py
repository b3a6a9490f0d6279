"""Documents of unknown origin; law: the plain value, or a ValueError of one printable line."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rhm.documents import DEEPEST, MOST_BYTES, parse_json, parse_yaml, read_json, read_text

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), 1 << 63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)

BOMB = "\n".join(
    [
        "l0: &l0 {x: 1}",
        *(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10)),
    ]
)
MERGE_BOMB = "\n".join(
    [
        "l0: &l0 {x: 1}",
        *(
            f"l{n}: &l{n}\n  <<: [{', '.join([f'*l{n - 1}'] * 9)}]\n  y{n}: {n}"
            for n in range(1, 10)
        ),
    ]
)


@given(PLAIN)
def test_plain_values_are_read_as_they_were_written(value: object) -> None:
    assert parse_json(json.dumps(value)) == value


@given(PLAIN)
def test_yaml_of_plain_values_is_read_as_pyyaml_reads_it(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value)) == value


def test_what_json_does_not_have_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "values.json"
    path.write_text('{"a": NaN, "b": [-Infinity, 1]}')
    assert read_json(path) == {"a": None, "b": [None, 1]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, "levels of nesting"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "levels of nesting"),
        ('{"a":' * 900 + "1" + "}" * 900, "levels of nesting"),
        ("9" * 5000, "5000 digits"),
        ("[1, 99999999999999999999]", "beyond 64 bits"),
        ("", "Expecting value"),
        ("{'a': 1}", "Expecting property name"),
    ],
)
def test_json_beyond_the_limits_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        parse_json(text)
    assert str(refused.value).isprintable()


def test_the_deepest_document_is_read() -> None:
    text = "[" * DEEPEST + "]" * DEEPEST
    assert parse_json(text) == parse_yaml(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 5000, "levels of nesting"),
        ("- " * 5000 + "1", "levels of nesting"),
        ("{a: " * 2000 + "1" + "}" * 2000, "levels of nesting"),
        (BOMB, "aliases counted in full"),
        (MERGE_BOMB, "aliases counted in full"),
        ("a: &a [*a]", "contains itself"),
        ("a: 1" + "0" * 6000, "."),
        ("a: 100000000000000000000000", "beyond 64 bits"),
        ("a: !!timestamp 2024-99-99", "could not determine a constructor"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: !!binary AAAA", "could not determine a constructor"),
        ("a: !!set {b, c}", "could not determine a constructor"),
        ("a: !!int ''", "."),
        ("a: !!float x", "."),
        ("a: !!bool x", "."),
        ("1: a", "line 1 is not text: put it in quotes"),
        ("b: {yes: a}", "line 1 is not text"),
        ("? [a, b]\n: c", "line 1 is not text"),
        ("a: 1\nb: 2\na: 3", "'a' in line 3 occurs twice"),
        ("a: [1", "."),
        ("a: *b", "undefined alias"),
        ("a: \x00", "."),
        ("a: 1\n---\nb: 2", "single document"),
    ],
)
def test_yaml_beyond_the_limits_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        parse_yaml(text)
    assert str(refused.value).isprintable()
    assert not isinstance(refused.value, UnicodeError)


def test_aliases_and_merge_keys_keep_their_meaning() -> None:
    text = """
base: &base {x: 1, y: 2}
more: &more {<<: *base, y: 3}
most: {<<: *more, z: [*base, *base]}
"""
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-0_17", -17),
        ("0x1F", 31),
        ("+0b11", 3),
        ("1_000", 1000),
        ("!!int 010", 10),
        ("1.5e+3", 1500.0),
        ("-.5", "-.5"),
        ("08", 8),
        ("1:30", "1:30"),
        ("1:30.5", "1:30.5"),
        (":".join(["59"] * 40), ":".join(["59"] * 40)),
    ],
)
def test_numbers_are_decimal_and_times_are_text(text: str, value: object) -> None:
    assert parse_yaml(f"a: {text}") == {"a": value}


def test_dates_are_text() -> None:
    assert parse_yaml("{name: 2024-01-01, at: 2024-99-99}") == {
        "name": "2024-01-01",
        "at": "2024-99-99",
    }


def test_files_of_bytes_or_of_any_size_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "document"
    path.write_bytes(b"name: \xff")
    with pytest.raises(ValueError, match="byte 6 is not UTF-8"):
        read_text(path)
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: it takes no room
    with pytest.raises(ValueError, match=f"larger than {MOST_BYTES >> 20} MB"):
        read_json(path)
