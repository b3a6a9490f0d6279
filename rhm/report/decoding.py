"""Decoding: parsed JSON of unknown origin into frozen dataclasses, or the place where it fails."""

from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from rhm.errors import printable

LARGEST_NUMBER = 1e15
"""Beyond it a number is taken for damage: sums of such numbers might overflow."""


class MalformedError(Exception):
    """A value does not fit its field; ``path`` grows on the way out of the nesting."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = ""


def decode(kind: Any, value: object) -> Any:
    """Turn parsed JSON into ``kind``: scalar, ``X | None``, tuple, dict or dataclass of these.

    Keys that a dataclass does not have are ignored, those that it has a default for may be missing;
    text is made printable.

    Raises:
        MalformedError: the value does not fit; its ``path`` says where.
    """
    origin = get_origin(kind)
    if origin is UnionType:
        if value is None:
            return None
        return decode(next(k for k in get_args(kind) if k is not NoneType), value)
    if origin is tuple:
        return _decode_tuple(get_args(kind), value)
    if origin is dict:
        return _decode_mapping(get_args(kind)[1], value)
    if is_dataclass(kind):
        return _decode_object(kind, value)
    if kind is str and isinstance(value, str):
        return printable(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if kind is float and abs(value) <= LARGEST_NUMBER:
            return float(value)
        if kind is int and isinstance(value, int) and abs(value) <= LARGEST_NUMBER:
            return value
    expected = {str: "text", int: "a whole number", float: "a number"}[kind]
    raise MalformedError(f"expected {expected}")


def _decode_tuple(kinds: tuple[Any, ...], value: object) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise MalformedError("expected a list")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise MalformedError(f"expected {len(kinds)} values")
    items = []
    for index, (kind, item) in enumerate(zip(kinds, value, strict=True)):
        try:
            items.append(decode(kind, item))
        except MalformedError as error:
            error.path = f"[{index}]{error.path}"
            raise
    return tuple(items)


def _decode_mapping(kind: Any, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedError("expected an object")
    items = {}
    for name, item in value.items():
        try:
            items[printable(name)] = decode(kind, item)
        except MalformedError as error:
            error.path = f".{printable(name)}{error.path}"
            raise
    return items


def _decode_object(kind: Any, value: object) -> Any:
    if not isinstance(value, dict):
        raise MalformedError("expected an object")
    values = {}
    for name, field_kind in _field_kinds(kind).items():
        if name not in value and name in _optional(kind):
            continue
        try:
            if name not in value:
                raise MalformedError("missing")
            values[name] = decode(field_kind, value[name])
        except MalformedError as error:
            error.path = f".{name}{error.path}"
            raise
    return kind(**values)


@cache
def _optional(kind: Any) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind) if field.default is not MISSING)


@cache
def _field_kinds(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}
