"""Records: frozen dataclasses that pydantic writes to JSON and reads back.

A dataclass is the only description of its file. Files are not trusted, because they may come from
anywhere: their content either becomes the dataclass or raises an error that names the place of
the mistake.

Unknown keys are ignored, and keys with a default may be missing. Fields have one of the types
below or ``bool``, or are tuples, dicts and dataclasses of these. ``X | None`` accepts null.
"""

import json
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from rhm.errors import printable

LARGEST_NUMBER = 1e15
"""Largest absolute value of a number. Larger numbers count as damage, as sums could overflow."""

_PROBLEMS = {
    "missing": "missing",
    "string_type": "expected text",
    "float_type": "expected a number",
    "finite_number": "expected a number",
    "int_type": "expected a whole number",
    "bool_type": "expected true or false",
    "tuple_type": "expected a list",
    "dict_type": "expected an object",
    "dataclass_type": "expected an object",
}

Record = TypeVar("Record")


class MalformedError(Exception):
    """A value does not fit its field.

    Attributes:
        problem: description of the problem.
        place: place of the value in its document, such as ``domains[1].name``; empty for the
            whole document.
    """

    def __init__(self, problem: str, place: str = "") -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.problem = problem
        self.place = place


def _plausible_number(value: float) -> float:
    if abs(value) > LARGEST_NUMBER:
        raise ValueError("expected a number")
    return value


def _plausible_count(value: int) -> int:
    if abs(value) > LARGEST_NUMBER:
        raise ValueError("expected a whole number")
    return value


def _printable(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


Text = Annotated[str, Field(strict=True), BeforeValidator(_printable)]
"""Text, in which unprintable characters are replaced."""

Number = Annotated[
    float, Field(strict=True, allow_inf_nan=False), AfterValidator(_plausible_number)
]
"""A finite number of at most ``LARGEST_NUMBER``."""

Whole = Annotated[int, Field(strict=True), AfterValidator(_plausible_count)]
"""A whole number of at most ``LARGEST_NUMBER``."""

Flag = Annotated[bool, Field(strict=True)]
"""True or false."""


def parse(kind: type[Record], values: object) -> Record:
    """Convert parsed JSON to a dataclass.

    Raises:
        MalformedError: a value does not fit its field; the error names the first one.
    """
    wanted: Any = kind
    try:
        record: Record = _adapter(wanted).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise MalformedError(_problem(first["type"], first["msg"]), _place(first["loc"])) from None
    return record


def plain(record: object) -> dict[str, Any]:
    """Return a dataclass as nested dicts and tuples in the order of its fields, ready for JSON."""
    kind: Any = type(record)
    # mypy has already checked that the values fit the dataclass.
    values: dict[str, Any] = _adapter(kind).dump_python(record, warnings=False)
    return values


def as_read(record: Record) -> Record:
    """Return a dataclass as it is read back from a file: unprintable characters are replaced.

    Raises:
        MalformedError: a value does not fit its field.
    """
    return parse(type(record), plain(record))


def to_json(record: object, *, indent: int) -> str:
    """Return a dataclass as the text of a JSON file, in which a row of numbers takes one line.

    Raises:
        ValueError: a number is not finite, which JSON cannot express.
    """
    return _lines(plain(record), " " * indent, "\n") + "\n"


def _lines(value: Any, step: str, margin: str) -> str:
    """Return a value as JSON; ``margin`` is the line break before it, with its indentation."""
    inner = margin + step
    if isinstance(value, dict) and value:
        rows = [f"{json.dumps(key)}: {_lines(each, step, inner)}" for key, each in value.items()]
        return f"{{{inner}{f',{inner}'.join(rows)}{margin}}}"
    # With a line for each number, histograms and outlines would make files three times as large.
    if isinstance(value, tuple | list) and not _are_numbers(value, deepest=2):
        rows = [_lines(each, step, inner) for each in value]
        return f"[{inner}{f',{inner}'.join(rows)}{margin}]"
    return json.dumps(value, allow_nan=False)


def _are_numbers(values: Sequence[Any], *, deepest: int) -> bool:
    """Return whether values are numbers, or lists of them down to a depth."""
    return all(
        _are_numbers(each, deepest=deepest - 1)
        if isinstance(each, tuple | list) and deepest > 1
        else each is None or isinstance(each, int | float)
        for each in values
    )


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _problem(kind: str, message: str) -> str:
    if kind in _PROBLEMS:
        return _PROBLEMS[kind]
    message = message.removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"


def _place(path: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in path)
    return "".join(parts).removeprefix(".")
