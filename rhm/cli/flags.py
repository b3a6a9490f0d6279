"""Flags: command-line options that are generated from the options of dataclasses.

The dataclass that declares an option determines the name, the type, the default and the help text
of its flag (``rhm.inference.settings.option``).
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperOption

from rhm.inference.settings.option import Option, options_of

C = TypeVar("C")

_OPTIONS = "rhm_options"


class Chosen:
    """The values that a user chose for the options of several dataclasses.

    Args:
        values: values by name of the option; None if the user left out an option whose default
            depends on something else.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def make(self, config: type[C], **known: Any) -> C:
        """Return an instance of a dataclass with the chosen values.

        Args:
            config: dataclass.
            known: values of fields that are not flags, and defaults of options that the user left
                out.

        Raises:
            ConfigError: a value is not allowed.
        """
        chosen = {name: self._values.get(name) for name in options_of(config)}
        given = {name: value for name, value in chosen.items() if value is not None}
        return config(**known | given)


def flag(config: type[Any], name: str) -> Any:
    """Return the typer option for an option of a dataclass, for commands that use only this one."""
    known = options_of(config)[name]
    word = known.flag or f"--{name.replace('_', '-')}"
    # A word that is parsed need not be a number, and has no range to show.
    least, most = (None, None) if known.parse else (known.least, known.most)
    return typer.Option(
        word,
        help=known.help,
        min=least,
        max=most,
        show_default=known.depends or True,
    )


def choosing(*configs: type[Any]) -> Callable[[Callable[..., C]], Callable[..., C]]:
    """Let a command take the options of dataclasses as flags, and receive them as one ``Chosen``.

    In ``--help``, the flags take the position of the parameter of that type.

    Args:
        configs: dataclasses; if several of them have an option of the same name, the first counts.
    """
    options: dict[str, Option] = {}
    flags: dict[str, inspect.Parameter] = {}
    for config in configs:
        for name, known in options_of(config).items():
            options.setdefault(name, known)
            flags.setdefault(name, _parameter(config, name, known))

    def expand(command: Callable[..., C]) -> Callable[..., C]:
        signature = inspect.signature(command)
        own = signature.parameters.values()
        (place,) = (parameter.name for parameter in own if parameter.annotation is Chosen)
        parameters: list[inspect.Parameter] = []
        for parameter in own:
            parameters += flags.values() if parameter.name == place else [parameter]

        @functools.wraps(command)
        def run(**values: Any) -> C:
            chosen = {name: known.read(name, values.pop(name)) for name, known in options.items()}
            return command(**values, **{place: Chosen(chosen)})

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        setattr(run, _OPTIONS, options)
        return run

    return expand


class ChoosingCommand(TyperCommand):
    """A command that looks up its choices only when its help is shown, to start quickly.

    A word that turns an option off has no column of its own if the help text names it, so that the
    names of all options fit into a terminal of 80 columns.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help text with the choices filled in."""
        options: Mapping[str, Option] = getattr(self.callback, _OPTIONS, {})
        for parameter in self.params:
            if not isinstance(parameter, TyperOption):
                continue
            if parameter.name in options:
                parameter.help = options[parameter.name].told()
            told = parameter.help or ""
            parameter.secondary_opts = [w for w in parameter.secondary_opts if w not in told]
        super().format_help(ctx, formatter)


def _parameter(config: type[Any], name: str, known: Option) -> inspect.Parameter:
    """Return an option as a parameter for typer."""
    default = known.command_default(getattr(config, name))
    kind: Any = str if known.parse else _without_none(get_type_hints(config)[name])
    if default is None:
        kind = kind | None
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=default,
        annotation=Annotated[kind, flag(config, name)],
    )


def _without_none(kind: Any) -> Any:
    """Return the type of an option, without the None of an option that may be left out."""
    if get_origin(kind) is not UnionType:
        return kind
    (value,) = (member for member in get_args(kind) if member is not NoneType)
    return value
