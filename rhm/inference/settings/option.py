"""Options: values that a user can choose, with defaults, limits and help texts.

Options are fields of frozen dataclasses. The dataclass checks them, a Python function takes them as
keyword arguments (``keywords.taking``), and the command line offers them as flags
(``rhm.cli.flags``).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

from rhm.errors import ConfigError

T = TypeVar("T")

_KEY = "option"
_SAME: Any = object()


@dataclass(frozen=True)
class Option:
    """Properties of an option, besides its name, its type and its default.

    Attributes:
        help: sentence for ``--help``, in which ``{choices}`` stands for the choices.
        least: smallest number that is allowed.
        most: largest number that is allowed.
        choices: function that returns the allowed words, so that an option can be declared
            without importing what they stand for.
        noun: name of the option in messages; by default the name of the field.
        flag: name on the command line; by default derived from the name of the field.
        command: default on the command line, if it differs from that in Python.
        depends: description of the default on the command line, if it depends on something else;
            the value is then None.
        parse: function that converts a word from the command line to the value; by default the
            value is the word.
    """

    help: str
    least: float | None = None
    most: float | None = None
    choices: Callable[[], Iterable[str]] | None = None
    noun: str = ""
    flag: str = ""
    command: Any = _SAME
    depends: str = ""
    parse: Callable[[str], Any] | None = None

    def command_default(self, default: Any) -> Any:
        """Return the default on the command line, given the default in Python."""
        if self.depends:
            return None
        return default if self.command is _SAME else self.command

    def told(self) -> str:
        """Return the help text with the choices filled in."""
        if self.choices is None:
            return self.help
        *first, last = self.choices()
        return self.help.format(choices=f"{', '.join(first)} or {last}" if first else last)

    def read(self, name: str, word: Any) -> Any:
        """Return the value of a word from the command line.

        Raises:
            ConfigError: the word is not one of the choices, or cannot be parsed.
        """
        if self.parse is None or word is None:
            return word
        self._check_word(name, word)
        return self.parse(word)

    def check(self, name: str, value: Any) -> None:
        """Check a value.

        Raises:
            ConfigError: the value is not allowed.
        """
        if self.parse is None:
            self._check_word(name, value)
        if self.least is None or isinstance(value, str):
            return
        most = math.inf if self.most is None else self.most
        if not (self.least <= value <= most and math.isfinite(value)):
            limits = f"at least {self.least:g}"
            if self.most is not None:
                limits = f"between {self.least:g} and {self.most:g}"
            elif not math.isfinite(value):
                limits = f"a finite number of {limits}"
            raise ConfigError(f"{name} must be {limits}, got {value}")

    def _check_word(self, name: str, word: Any) -> None:
        if self.choices is not None and word not in (known := list(self.choices())):
            raise ConfigError(f"unknown {self.noun or name} '{word}': choose {', '.join(known)}")


def option(default: T, help: str, *, repr: bool = True, **known: Any) -> T:
    """Declare a field of a dataclass as an option.

    Args:
        default: default in Python.
        help: sentence for ``--help``.
        repr: whether the option is part of the text of its dataclass, and so of fingerprints.
        known: other attributes of :class:`Option`.
    """
    return field(default=default, repr=repr, metadata={_KEY: Option(help, **known)})


def options_of(config: Any) -> dict[str, Option]:
    """Return the options of a dataclass or of an instance of it, by name."""
    declared = (member for member in fields(config) if _KEY in member.metadata)
    return {member.name: member.metadata[_KEY] for member in declared}


def check_options(config: Any) -> None:
    """Check the options of an instance of a dataclass, except those that are None.

    Raises:
        ConfigError: a value is not allowed.
    """
    for name, known in options_of(config).items():
        value = getattr(config, name)
        if value is not None:
            known.check(name, value)


def part_of(config: Any, kind: type[T]) -> T:
    """Return the part of a dataclass that it inherits, as an instance of the parent class."""
    members = fields(cast(Any, kind))
    return kind(**{member.name: getattr(config, member.name) for member in members})
