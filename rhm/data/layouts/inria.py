"""The Inria Aerial Image Labeling dataset, in its official layout.

    AerialImageDataset/train/images/austin1.tif   train/gt/austin1.tif
    AerialImageDataset/test/images/sfo1.tif       (its labels are not published)

Maggiori, Tarabalka, Charpiat, Alliez, IGARSS 2017. As its authors recommend, tiles 1 to 5 of
each training city form the validation split. The five test cities have no labels.
"""

import os
import re
from pathlib import Path

from rhm.data.catalog import Source
from rhm.data.layouts.layout import DatasetLayout
from rhm.errors import CatalogError

_NAME = re.compile(r"(?P<city>[a-z]+(?:-[a-z])?)(?P<number>\d+)")
_VALIDATION_TILES = range(1, 6)
_GSD_M = 0.3


def find_inria(folder: str | os.PathLike[str]) -> list[Source]:
    """Find the tiles of the dataset.

    Args:
        folder: folder that contains ``train``, ``test`` or both, or the parent of that folder.

    Returns:
        One source per tile, sorted; its domain is the city.

    Raises:
        CatalogError: the folder lacks this layout, or a training tile has no label.
    """
    root = Path(folder)
    nested = root / "AerialImageDataset"
    root = nested if nested.is_dir() else root
    sources = [*_training(root / "train"), *_testing(root / "test")]
    if not sources:
        raise CatalogError(
            f"no Inria tiles under {folder}: expected train/images/austin1.tif and train/gt/"
            "austin1.tif (for other layouts use `rhm data index folder`)"
        )
    return sources


def _training(part: Path) -> list[Source]:
    sources = []
    for image, city, number in _tiles(part / "images"):
        label = part / "gt" / image.name
        if not label.is_file():
            raise CatalogError(f"{image} has no label at {label}")
        split = "val" if number in _VALIDATION_TILES else "train"
        sources.append(Source(image, label, city, image.stem, split, _GSD_M))
    return sources


def _testing(part: Path) -> list[Source]:
    return [
        Source(image, None, city, image.stem, "test", _GSD_M)
        for image, city, _ in _tiles(part / "images")
    ]


def _tiles(folder: Path) -> list[tuple[Path, str, int]]:
    found = []
    for image in folder.glob("*.tif"):
        match = _NAME.fullmatch(image.stem)
        if match:
            found.append((image, match["city"], int(match["number"])))
    return sorted(found, key=lambda tile: tile[1:])


LAYOUT = DatasetLayout(
    "the Inria Aerial Image Labeling dataset, by its official folders", find_inria
)
