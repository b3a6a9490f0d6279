"""A layout of a dataset's folders, as it declares itself to whoever indexes it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, get_type_hints

from rhm.data.catalog import Source


@dataclass(frozen=True)
class LayoutOption:
    """An option of a layout: what annotates the keyword of its finder that takes it.

    Attributes:
        help: a sentence for the command line.
        kind: type of its value there: ``str``, ``Path``, ``float``, or ``list[str]`` for an
            option that may be repeated.
        flag: its name there; by default the keyword's, as in ``--group-pattern``.
        minimum: the least that a number may be.
    """

    help: str
    kind: Any = str
    flag: str = ""
    minimum: float | None = None


@dataclass(frozen=True)
class DatasetLayout:
    """A layout.

    Attributes:
        summary: a line that tells it from the others.
        find: returns the images and labels in a folder. Its keywords that are annotated with a
            ``LayoutOption`` are the layout's options.
    """

    summary: str
    find: Callable[..., list[Source]]

    @cached_property
    def options(self) -> dict[str, LayoutOption]:
        """The options, by the finder's keyword."""
        return {
            name: replace(option, flag=option.flag or f"--{name.replace('_', '-')}")
            for name, hint in get_type_hints(self.find, include_extras=True).items()
            for option in getattr(hint, "__metadata__", ())
            if isinstance(option, LayoutOption)
        }

    def sources(
        self, folder: str | os.PathLike[str], *, black_is_nodata: bool = False, **options: Any
    ) -> list[Source]:
        """Find images and labels in a folder.

        Args:
            folder: of the dataset.
            black_is_nodata: whether pixels that are zero in all bands have no data, in all images.
            options: those of the layout.

        Raises:
            CatalogError: the folder does not have this layout.
        """
        found = self.find(folder, **options)
        return [replace(each, black_is_nodata=True) for each in found] if black_is_nodata else found
