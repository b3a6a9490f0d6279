"""An option: something that a user may choose, with its default, its limits and its help.

Options are fields of frozen dataclasses. The dataclass checks them, a Python function takes them as
keywords (``keywords.taking``), and the command line makes flags of them (``rhm.cli.flags``).
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
    """What is known of an option besides its name, its type and its default.

    Attributes:
        help: a sentence for ``--help``; ``{choices}`` in it stands for the choices.
        least: the smallest number that is allowed.
        most: the largest number that is allowed.
        choices: returns the words that are allowed. It is a function so that an option can be
            declared without importing what its words name.
        noun: what messages call the option; by default its name.
        flag: its name on the command line; by default made from its name.
        command: its default on the command line where that differs from Python's.
        depends: what its default on the command line is, in words, where that depends on something
            else; the option is then left open, None.
        parse: turns the word from the command line into the value; by default they are the same.
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
        """Return the default on the command line, given that of Python."""
        if self.depends:
            return None
        return default if self.command is _SAME else self.command

    def told(self) -> str:
        """Return the help with the choices filled in."""
        if self.choices is None:
            return self.help
        *first, last = self.choices()
        return self.help.format(choices=f"{', '.join(first)} or {last}" if first else last)

    def read(self, name: str, word: Any) -> Any:
        """Return the value that a word on the command line means.

        Raises:
            ConfigError: it is none of the choices, or cannot be parsed.
        """
        if self.parse is None or word is None:
            return word
        self._check_word(name, word)
        return self.parse(word)

    def check(self, name: str, value: Any) -> None:
        """Check a value.

        Raises:
            ConfigError: it is not allowed.
        """
        if self.parse is None:
            self._check_word(name, value)
        if self.least is None:
            return
        most = math.inf if self.most is None else self.most
        if not (self.least <= value <= most and math.isfinite(value)):
            limits = f"from {self.least:g} up"
            if self.most is not None:
                limits = f"between {self.least:g} and {self.most:g}"
            raise ConfigError(f"{name} must be a number {limits}, not {value}")

    def _check_word(self, name: str, word: Any) -> None:
        if self.choices is not None and word not in (known := list(self.choices())):
            raise ConfigError(f"unknown {self.noun or name} '{word}': choose {', '.join(known)}")


def option(default: T, help: str, **known: Any) -> T:
    """Declare a field of a dataclass to be an option; ``known`` is what :class:`Option` takes."""
    return field(default=default, metadata={_KEY: Option(help, **known)})


def options_of(config: Any) -> dict[str, Option]:
    """Return the options of a dataclass, or of a value of it, by name."""
    declared = (member for member in fields(config) if _KEY in member.metadata)
    return {member.name: member.metadata[_KEY] for member in declared}


def check_options(config: Any) -> None:
    """Check the values of a dataclass's options; those that are None are left open.

    Raises:
        ConfigError: a value is not allowed.
    """
    for name, known in options_of(config).items():
        value = getattr(config, name)
        if value is not None:
            known.check(name, value)


def part_of(config: Any, kind: type[T]) -> T:
    """Return what a dataclass inherits from another one, as a value of the other."""
    members = fields(cast(Any, kind))
    return kind(**{member.name: getattr(config, member.name) for member in members})
