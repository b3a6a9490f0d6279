"""Functions that take the fields of a dataclass as keyword arguments."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from rhm.inference.settings.option import options_of

P = ParamSpec("P")
Config = TypeVar("Config")
Result = TypeVar("Result")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


class Taking(Generic[P, Config]):
    """Decorator of functions whose last argument is a dataclass; see :func:`taking`."""

    def __init__(self, make: Callable[P, Config]) -> None:
        self._make = make

    @overload
    def __call__(
        self, function: Callable[[A, Config], Result]
    ) -> Callable[Concatenate[A, P], Result]: ...

    @overload
    def __call__(
        self, function: Callable[[A, B, C, Config], Result]
    ) -> Callable[Concatenate[A, B, C, P], Result]: ...

    def __call__(self, function: Callable[..., Result]) -> Callable[..., Result]:
        """Return the function with keyword arguments in place of its last argument."""
        before = inspect.signature(function)
        own = list(before.parameters.values())[:-1]
        keywords = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(self._make).parameters.values()
        ]
        signature = before.replace(parameters=[*own, *keywords])

        @functools.wraps(function)
        def with_keywords(*arguments: Any, **named: Any) -> Result:
            given = signature.bind(*arguments, **named).arguments
            positional = [given.pop(parameter.name) for parameter in own]
            return function(*positional, self._make(**given))  # type: ignore[call-arg]

        with_keywords.__signature__ = signature  # type: ignore[attr-defined]
        helps = (f"    {name}: {known.told()}" for name, known in options_of(self._make).items())
        with_keywords.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Options:", *helps])
        return with_keywords


def taking(make: Callable[P, Config]) -> Taking[P, Config]:
    """Replace the last argument of a function, a dataclass, by one keyword argument per field.

    The signature of the decorated function lists them with their types and defaults. For type
    checkers, the other arguments are positional.

    Args:
        make: dataclass of the last argument.
    """
    return Taking(make)
