"""Indexers: functions that turn a folder of a known layout into a catalog."""

import os
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import rhm.data.layouts
from rhm.data.catalog import Catalog
from rhm.data.layouts.layout import DatasetLayout
from rhm.errors import ConfigError


def _found_here() -> dict[str, DatasetLayout]:
    """Return the layouts of this folder: each module that defines a ``LAYOUT`` is one."""
    names = {f"{__package__}.{module.name}" for module in iter_modules(rhm.data.layouts.__path__)}
    modules = map(import_module, sorted(names - {__name__}))
    return {
        module.__name__.rpartition(".")[2]: module.LAYOUT
        for module in modules
        if hasattr(module, "LAYOUT")
    }


LAYOUTS: dict[str, DatasetLayout] = _found_here()
"""Layouts, by the names of their modules."""


def index_dataset(layout: str, folder: str | os.PathLike[str], **options: Any) -> Catalog:
    """Catalogue a dataset in one of the ``LAYOUTS``; its notes name what was left out.

    Args:
        layout: name of the layout.
        folder: folder of the dataset.
        options: options of the layout, and ``black_is_nodata``; see ``DatasetLayout.sources``.

    Raises:
        ConfigError: the layout is unknown.
        CatalogError: the folder lacks this layout, or an option does not fit.
        RasterError: an image or mask cannot be read, or their sizes differ.
        VectorError: footprints cannot be read, or cannot be placed on their image.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"unknown layout '{layout}': choose {', '.join(LAYOUTS)}")
    notes: list[str] = []
    sources = LAYOUTS[layout].sources(folder, tell=notes.append, **options)
    return Catalog.build(sources, notes=notes)


def index_inria(folder: str | os.PathLike[str]) -> Catalog:
    """Catalogue the Inria dataset in its official layout; see ``rhm.data.layouts.inria``.

    Raises:
        CatalogError: the folder lacks this layout, or a training tile has no label.
        RasterError: an image or mask cannot be read, or their sizes differ.
    """
    return index_dataset("inria", folder)


def index_spacenet(folder: str | os.PathLike[str], **options: Any) -> Catalog:
    """Catalogue SpaceNet 1, 2 or 7 by its official file names; see ``rhm.data.layouts.spacenet``.

    Args:
        folder: folder of the download.
        options: options of ``rhm.data.layouts.spacenet.find_spacenet``.

    Raises:
        CatalogError: no image has an official name, or two labels belong to one image.
        RasterError: an image cannot be read.
        VectorError: footprints cannot be read.
    """
    return index_dataset("spacenet", folder, **options)


def index_folder(folder: str | os.PathLike[str], **options: Any) -> Catalog:
    """Catalogue imagery in folders of your own; see ``rhm.data.layouts.folder``.

    Args:
        folder: holds the images.
        options: those of ``rhm.data.layouts.folder.find_in_folder``.

    Raises:
        CatalogError: nothing is found, or the table or pattern does not fit.
        RasterError: an image or mask cannot be read, or their sizes differ.
        VectorError: footprints cannot be read, or cannot be placed on their image.
    """
    return index_dataset("folder", folder, **options)
