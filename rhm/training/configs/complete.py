"""Complete configurations: every setting with its value, and above it what it means.

The meanings are those that the docstrings of the settings give under ``Attributes:``.
"""

import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import yaml

from rhm.documents import parse_yaml

if TYPE_CHECKING:
    from rhm.training.config import RunConfig

_OF_RECIPE = ("colour", "geometry", "blend", "per_band", "statistics")
"""Settings of the section ``augment`` that a bank sets, or by which it chooses what it sets."""

_LEFT_TO_BANKS = "What is commented out is left to the recipe that a bank turns on."

_WIDTH = 98
_ENTRY = re.compile(r"^    (\w+): ((?:.|\n {8,})+)", re.MULTILINE)
_NAMED = re.compile("``([^`]+)``")


def complete_yaml(config: "RunConfig", text: str) -> str:
    """Return a configuration with all settings, which is read as the same configuration.

    If it chooses no colour, so that a bank can turn on its recipe, the settings of the recipe are
    commented out.

    Args:
        config: configuration.
        text: YAML from which it was read; its first comments are kept.
    """
    augment = parse_yaml(text).get("augment", {})
    kind, lines = type(config), list(takewhile(_is_comment, text.splitlines()))
    means = meanings(kind)
    for name, value in parse_yaml(config.to_yaml()).items():
        section = kind.model_fields[name].annotation
        is_open = name == "augment" and "colour" not in augment
        told = [means[name], _LEFT_TO_BANKS] if is_open else [means[name]]
        lines += ["", *_comment(" ".join(told))]
        if isinstance(section, type) and is_dataclass(section):
            inner = _section(section, value, augment if is_open else None)
            lines += [f"{name}:", *(f"  {line}" for line in inner)]
        else:
            lines.append(_setting(name, value))
    return "\n".join(lines).lstrip("\n") + "\n"


def meanings(kind: type[Any]) -> dict[str, str]:
    """Return what the attributes of a class and of its bases mean, by name.

    Args:
        kind: class whose docstring has a part ``Attributes:``. Constants and registries that it
            names in capitals are replaced by their values and by the names in them.
    """
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        attributes = inspect.cleandoc(each.__doc__ or "").partition("\nAttributes:\n")[2]
        known = vars(sys.modules[each.__module__])
        for name, told in _ENTRY.findall(attributes.partition("\n\n")[0]):
            found[name] = _in_words(" ".join(told.split()), known)
    return found


def _section(
    kind: type[Any], values: Mapping[str, Any], left: Mapping[str, Any] | None
) -> Iterator[str]:
    """Yield the lines of a section; ``left`` are the given settings of one left to a bank."""
    means = meanings(kind)
    for name, value in values.items():
        yield from _comment(means[name])
        if left is None or name not in _OF_RECIPE:
            yield _setting(name, value)
        elif name in left:
            # The recipe fills the gaps of a geometry.
            yield _setting(name, left[name])
        else:
            yield f"# {_setting(name, value)}"


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def _comment(told: str) -> Iterable[str]:
    return (f"# {line}" for line in textwrap.wrap(told, _WIDTH, break_on_hyphens=False))


def _setting(name: str, value: Any) -> str:
    # In a list, because a value alone would get a mark of its end.
    listed = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10**6)
    return f"{name}: {listed.strip()[1:-1]}"


def _in_words(told: str, known: Mapping[str, Any]) -> str:
    """Return the meaning of a setting as a sentence without marks of the documentation."""

    def value_of(match: re.Match[str]) -> str:
        name = match[1].rpartition(".")[2]
        value = known.get(name) if name.isupper() else None
        if isinstance(value, int | float):
            return str(value)
        if isinstance(value, Mapping | tuple | list) and all(isinstance(x, str) for x in value):
            *first, last = value
            return f"{', '.join(first)} or {last}" if first else str(last)
        return match[1]

    plain = _NAMED.sub(value_of, told).replace("None", "null")
    # A value at the beginning is written as it is.
    first = plain[0] if told.startswith("``") else plain[0].upper()
    return f"{first}{plain[1:].rstrip('.')}."
