"""Indexers: functions that turn a folder of a known layout into a catalog."""

import os
from collections.abc import Callable
from typing import Any

from rhm.data.catalog import Catalog, Source
from rhm.data.layouts.folder import find_in_folder
from rhm.data.layouts.inria import find_inria
from rhm.data.layouts.spacenet import find_spacenet

INDEXERS: dict[str, Callable[..., list[Source]]] = {
    "inria": find_inria,
    "spacenet": find_spacenet,
    "folder": find_in_folder,
}
"""Functions that find images and labels, by the name of the layout."""


def index_inria(folder: str | os.PathLike[str]) -> Catalog:
    """Catalogue the Inria dataset in its official layout; see ``rhm.data.layouts.inria``.

    Raises:
        CatalogError: the folder lacks this layout, or a training tile has no label.
        RasterError: an image or mask cannot be read, or their sizes differ.
    """
    return Catalog.build(find_inria(folder))


def index_spacenet(folder: str | os.PathLike[str], **options: Any) -> Catalog:
    """Catalogue SpaceNet 1, 2 or 7 by its official file names; see ``rhm.data.layouts.spacenet``.

    Args:
        folder: of the download.
        options: those of ``rhm.data.layouts.spacenet.find_spacenet``.

    Raises:
        CatalogError: no image has an official name, or two labels belong to one image.
        RasterError: an image cannot be read.
        VectorError: footprints cannot be read.
    """
    return Catalog.build(find_spacenet(folder, **options))


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
    return Catalog.build(find_in_folder(folder, **options))
