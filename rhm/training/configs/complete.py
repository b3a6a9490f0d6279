"""Complete configurations: every setting with its value, and above it what it means.

The meanings are those that the docstrings of the settings give under ``Attributes:``.
"""

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import yaml

from rhm.documents import parse_yaml

if TYPE_CHECKING:
    from rhm.training.config import RunConfig

_WIDTH = 100

_LEFT_TO_BANKS = ("colour", "geometry", "blend", "per_band", "statistics")
"""Settings of the section ``augment`` by whose absence a bank turns on its recipe."""

_ENTRY = re.compile(r"^    (\w+): ((?:.|\n {8,})+)", re.MULTILINE)
_NAMED = re.compile(r"``([^`]+)``")


def complete_yaml(config: "RunConfig", text: str) -> str:
    """Return a configuration with all settings, which is read as the same configuration.

    Settings by whose absence a bank turns on its recipe are commented out if they are absent.

    Args:
        config: configuration.
        text: YAML from which it was read; its first comments are kept.
    """
    given = parse_yaml(text)
    augment = given.get("augment") if isinstance(given, dict) else None
    augment = augment if isinstance(augment, Mapping) else {}
    kind = type(config)
    means = meanings(kind)
    lines = [line for line in _heading(text)]
    for name, value in parse_yaml(config.to_yaml()).items():
        section = kind.model_fields[name].annotation
        lines += _comment(means[name])
        if not (isinstance(section, type) and is_dataclass(section)):
            lines += [_setting(name, value), ""]
            continue
        lines.append(f"{name}:")
        inner = meanings(section)
        for key, each in value.items():
            absent = name == "augment" and key in _LEFT_TO_BANKS and key not in augment
            # A geometry that is written out would replace that of the recipe.
            shown = augment["geometry"] if name == "augment" and key in augment and key == "geometry" else each
            lines += _indented([*_comment(inner[key]), ("# " if absent else "") + _setting(key, shown)])
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def meanings(kind: type[Any]) -> dict[str, str]:
    """Return what the settings of a section mean, by name.

    Args:
        kind: class whose docstring, or those of its bases, have a part ``Attributes:``. A constant
            that they name is replaced by its value, and a registry by the names in it.
    """
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        _, _, attributes = (inspect.cleandoc(each.__doc__ or "")).partition("\nAttributes:\n")
        known = vars(sys.modules[each.__module__])
        for name, told in _ENTRY.findall(attributes):
            found[name] = _in_words(" ".join(told.split()), known)
    return found
