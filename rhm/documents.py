"""Documents of unknown origin, JSON and YAML, read within limits on size, nesting and numbers.

Python's readers accept far more than any file of rhm contains: text that is nested until the
stack ends, numbers of thousands of digits, a few aliases that stand for millions of values. Here,
such a document raises a ``ValueError`` of one line, like any other mistake in a document.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from rhm.errors import one_line

MOST_BYTES = 1 << 25
"""Largest document. The scores of a domain take about 50 kB, and 1 MB if its pictures show hundreds
of buildings."""

DEEPEST = 64
"""Most collections inside each other. The files of rhm have ten."""

MOST_VALUES = 100_000
"""Most values of a YAML document, where each alias counts as all that it stands for."""

LARGEST_WHOLE = 1 << 64
"""Absolute value that no whole number may exceed; every integer type ends below it."""

# The exceptions that PyYAML raises for malformed values besides its own.
_UNREADABLE = (
    yaml.YAMLError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)

_TEXT, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("str", "merge"))
_INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("int", "float"))
_NUMBERS = {
    _INT: re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-9_]*|[1-9][0-9_]*)$"),
    _FLOAT: re.compile(
        r"[-+]?[0-9][0-9_]*\.[0-9_]*([eE][-+][0-9]+)?$|\.[0-9][0-9_]*([eE][-+][0-9]+)?$"
        r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
}
"""What YAML takes for numbers, without those to the base 60, as which 1:30 would be 90."""

_PLAIN = re.compile(r"tag:yaml\.org,2002:(null|bool|int|float|str|seq|map)")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the content of a JSON file; NaN and infinities, which JSON lacks, become None.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not JSON, or exceeds a limit; the message has one line.
    """
    return parse_json(read_text(path), constant=lambda _: None)


def parse_json(text: str, *, constant: Callable[[str], Any] | None = None) -> Any:
    """Return the value of a JSON text.

    Args:
        text: JSON.
        constant: function that returns the value of ``NaN``, ``Infinity`` and ``-Infinity``, which
            JSON lacks; by default, they are refused.

    Raises:
        ValueError: the text is not JSON, or exceeds a limit; the message has one line.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"it is longer than {MOST_BYTES >> 20} MB")
    try:
        value = json.loads(text, parse_constant=constant or _no_constant, parse_int=_whole)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(one_line(error)) from None
    if any(depth > DEEPEST for _, depth in _collections(value)):
        raise ValueError(_TOO_DEEP)
    return value


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text: dicts with text keys, lists, text, numbers, booleans, None.

    Dates and times are text, and 010 is ten, as in YAML 1.2. Aliases and merge keys are allowed,
    other tags are not.

    Raises:
        ValueError: the text is not YAML of this kind, a key occurs twice, or the text exceeds a
            limit; the message has one line.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"it is longer than {MOST_BYTES >> 20} MB")
    try:
        _check_size(text)
        value = yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - safer than SafeLoader
    except _UNREADABLE as error:
        raise ValueError(one_line(error)) from None
    for collection, _ in _collections(value):
        for each in _numbers(collection):
            _check_whole(each)
    return value


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is larger than ``MOST_BYTES``, or not UTF-8.
    """
    with Path(path).open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES >> 20} MB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None


_TOO_DEEP = f"it has more than {DEEPEST} levels of nesting"


def _no_constant(name: str) -> Any:
    raise ValueError(f"it has {name}, which is no JSON number")


def _whole(digits: str) -> int:
    # Before the conversion, whose time grows with the square of the number of digits.
    if len(digits) > 20:
        raise ValueError(f"it has a whole number of {len(digits)} digits")
    return _check_whole(int(digits))


def _check_whole(value: int) -> int:
    if abs(value) > LARGEST_WHOLE:
        raise ValueError("it has a whole number beyond 64 bits")
    return value


def _numbers(collection: Any) -> Iterator[int]:
    values = collection.values() if isinstance(collection, dict) else collection
    return (value for value in values if isinstance(value, int))


def _collections(value: Any) -> Iterator[tuple[Any, int]]:
    """Yield every list and dict of a value with its depth, without recursion."""
    waiting: list[tuple[list[Any] | dict[Any, Any], int]] = [([value], 0)]
    while waiting:
        collection, depth = waiting.pop()
        yield collection, depth
        inner = collection.values() if isinstance(collection, dict) else collection
        waiting += [(each, depth + 1) for each in inner if isinstance(each, list | dict)]


def _check_size(text: str) -> None:
    """Check nesting and number of values by the events of a YAML text, before it is built.

    Raises:
        ValueError: the text exceeds a limit, or a value contains itself.
    """
    # Number of values inside each open collection, and inside each finished anchor.
    open_sizes, anchors = [0], [""]
    finished: dict[str, int] = {}
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_sizes.append(0)
            anchors.append(event.anchor or "")
            if len(open_sizes) > DEEPEST + 1:
                raise ValueError(_TOO_DEEP)
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            size, anchor = open_sizes.pop() + 1, anchors.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in anchors:
                raise ValueError(f"the value of anchor '{event.anchor}' contains itself")
            size, anchor = finished.get(event.anchor or "", 1), ""
        elif isinstance(event, yaml.ScalarEvent):
            size, anchor = 1, event.anchor or ""
        else:
            continue
        open_sizes[-1] += size
        if anchor:
            finished[anchor] = size
        if open_sizes[-1] > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES} values, aliases counted in full")


class _PlainLoader(yaml.SafeLoader):
    """Loader of plain values only, whose keys are text and occur once."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return the node of a mapping after checking its keys."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag not in (_TEXT, _MERGE):
                raise ValueError(f"the key in line {line} is not text: put it in quotes")
            if key.value in seen and key.tag == _TEXT:
                raise ValueError(f"the key '{key.value}' in line {line} occurs twice")
            seen.add(key.value)
        return node


def _yaml_whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    digits = str(loader.construct_scalar(node)).replace("_", "")
    # PyYAML would read digits after a zero to the base 8.
    return int(digits, 0 if digits.lstrip("+-").startswith(("0b", "0x")) else 10)


_PlainLoader.yaml_constructors = {
    tag: build
    for tag, build in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or _PLAIN.fullmatch(tag)  # None: what reports an unknown tag
} | {_INT: _yaml_whole}
_PlainLoader.yaml_implicit_resolvers = {
    first: [
        (tag, _NUMBERS.get(tag, pattern))
        for tag, pattern in resolvers
        if not tag.endswith(":timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
