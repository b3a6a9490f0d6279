"""How the layout of a dataset declares what finds its images, and with which options."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

from rhm.data.catalog import Source
from rhm.errors import CatalogError, one_line


def silent(_: str) -> None:
    """Say nothing of what is left out."""


@contextmanager
def listing() -> Iterator[None]:
    """Find files within this block.

    Raises:
        CatalogError: a folder cannot be read, for want of permission or because its disk is gone.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or "a folder"
        raise CatalogError(
            f"{where} cannot be read: {error.strerror or one_line(error)}"
        ) from error


def can_be_listed(folder: Path) -> bool:
    """Return whether this user may see which files a folder contains."""
    try:
        os.scandir(folder).close()
    except PermissionError:
        return False
    return True


@dataclass(frozen=True)
class LayoutOption:
    """An option of a layout; it annotates the keyword of the finder that takes the option.

    Attributes:
        help: sentence for the command line.
        kind: type of the value on the command line: ``str``, ``Path``, ``float``, or
            ``list[str]`` for an option that may be repeated.
        flag: name on the command line; by default that of the keyword, as ``--group-pattern``.
        minimum: smallest value of a number.
    """

    help: str
    kind: Any = str
    flag: str = ""
    minimum: float | None = None


@dataclass(frozen=True)
class DatasetLayout:
    """The layout of a dataset.

    Attributes:
        summary: description in one line.
        find: function that returns the images and labels in a folder. Its keywords that are
            annotated with a ``LayoutOption`` are the options of the layout. The function that its
            keyword ``tell`` takes is called with a sentence on each kind of file that is left out.
    """

    summary: str
    find: Callable[..., list[Source]]

    @cached_property
    def options(self) -> dict[str, LayoutOption]:
        """The options, by keyword of the finder."""
        return {
            name: replace(option, flag=option.flag or f"--{name.replace('_', '-')}")
            for name, hint in get_type_hints(self.find, include_extras=True).items()
            for option in getattr(hint, "__metadata__", ())
            if isinstance(option, LayoutOption)
        }

    def sources(
        self,
        folder: str | os.PathLike[str],
        *,
        black_is_nodata: bool = False,
        tell: Callable[[str], None] = silent,
        **options: Any,
    ) -> list[Source]:
        """Find images and labels in a folder.

        Args:
            folder: folder of the dataset.
            black_is_nodata: whether pixels that are zero in all bands are nodata.
            tell: called with a sentence on each kind of file that is left out.
            options: options of the layout.

        Raises:
            CatalogError: the folder does not have this layout, or cannot be read.
        """
        with listing():
            found = self.find(folder, tell=tell, **options)
        return [replace(each, black_is_nodata=True) for each in found] if black_is_nodata else found
