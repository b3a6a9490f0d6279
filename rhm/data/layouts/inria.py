"""The Inria Aerial Image Labeling dataset, in its official layout.

    AerialImageDataset/train/images/austin1.tif   train/gt/austin1.tif
    AerialImageDataset/test/images/sfo1.tif       (its labels are not published)

Maggiori, Tarabalka, Charpiat, Alliez, IGARSS 2017. As its authors recommend, tiles 1 to 5 of
each training city form the validation split. The five test cities have no labels.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from rhm.data.catalog import Source
from rhm.data.indexing import counted_names
from rhm.data.layouts.layout import DatasetLayout, silent
from rhm.errors import CatalogError

_NAME = re.compile(r"(?P<city>[a-z]+(?:-[a-z])?)(?P<number>\d+)")
_SUFFIXES = (".tif", ".tiff")
_VALIDATION_TILES = range(1, 6)
_GSD_M = 0.3


def find_inria(
    folder: str | os.PathLike[str], *, tell: Callable[[str], None] = silent
) -> list[Source]:
    """Find the tiles of the dataset. Capital letters in their names make no difference.

    Args:
        folder: folder that contains ``train``, ``test`` or both, or the parent of that folder.
        tell: called with a sentence on images and labels that are left out.

    Returns:
        One source per tile, sorted; its domain is the city.

    Raises:
        CatalogError: the folder lacks this layout, a training tile has no label, or two images are
            the same tile.
    """
    root = Path(folder)
    nested = root / "AerialImageDataset"
    root = nested if nested.is_dir() else root
    sources = [*_training(root / "train", tell), *_testing(root / "test", tell)]
    if not sources:
        raise CatalogError(
            f"no Inria tiles under {folder}: expected train/images/austin1.tif and train/gt/"
            "austin1.tif (for other layouts use `rhm data index folder`)"
        )
    return sources


def _training(part: Path, tell: Callable[[str], None]) -> list[Source]:
    tiles, labels = _tiles(part / "images", tell), _tiles(part / "gt", tell)
    sources = []
    for (city, number), image in tiles.items():
        label = labels.get((city, number))
        if label is None:
            raise CatalogError(f"{image} has no label at {part / 'gt' / image.name}")
        split = "val" if number in _VALIDATION_TILES else "train"
        sources.append(Source(image, label, city, f"{city}{number}", split, _GSD_M))
    unused = [str(label) for key, label in labels.items() if key not in tiles]
    if unused:
        tell(f"{counted_names(unused)} has no image of the same name, and is left out")
    return sources


def _testing(part: Path, tell: Callable[[str], None]) -> list[Source]:
    return [
        Source(image, None, city, f"{city}{number}", "test", _GSD_M)
        for (city, number), image in _tiles(part / "images", tell).items()
    ]


def _tiles(folder: Path, tell: Callable[[str], None]) -> dict[tuple[str, int], Path]:
    """Return the files of a folder by city and number, sorted."""
    found: dict[tuple[str, int], Path] = {}
    others = []
    # Hidden files, such as "._austin1.tif", are left behind by other operating systems.
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
            continue
        match = _NAME.fullmatch(path.stem.lower())
        if match is None:
            others.append(str(path))
            continue
        key = (match["city"], int(match["number"]))
        other = found.setdefault(key, path)
        if other != path:
            raise CatalogError(f"{other} and {path} are both tile {key[0]}{key[1]}: keep one")
    if others:
        tell(f"{counted_names(others)} is not named like austin1.tif, and is left out")
    return dict(sorted(found.items()))


LAYOUT = DatasetLayout(
    "the Inria Aerial Image Labeling dataset, by its official folders", find_inria
)
