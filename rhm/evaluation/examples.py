"""Example pictures: the best, the median and the worst image of a domain."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from rhm.data.catalog import Tile
from rhm.errors import printable
from rhm.evaluation.scores import DomainScores, Example, Polygon, Shift, finite
from rhm.evaluation.tile_scores import TileScores, see
from rhm.files import atomic_path
from rhm.inference.runtime.backends import DescribedNetwork
from rhm.inference.tiling.stream import Tiling

MAX_SIDE_PX = 512
"""Maximum side of a picture in pixels; of a larger image, the upper left part is shown."""

_FOLDER = "examples"
_LONGEST_NAME = 50


@dataclass(frozen=True, eq=False)
class ExamplePicture:
    """An example with its picture.

    Attributes:
        example: description in ``scores.json``.
        pixels: (H, W, 3) uint8 red, green and blue.
    """

    example: Example
    pixels: NDArray[np.uint8]

    def save(self, folder: Path) -> None:
        """Write the picture as a PNG file below ``folder``."""
        with atomic_path(folder / self.example.image) as temporary:
            # OpenCV's own writer does not report that it failed.
            _, encoded = cv2.imencode(".png", np.ascontiguousarray(self.pixels[..., ::-1]))
            temporary.write_bytes(encoded.tobytes())


def choose_examples(
    model: DescribedNetwork,
    scored: list[TileScores],
    shift: Shift | None,
    tiling: Tiling,
    *,
    picks: Mapping[str, str] | None = None,
    threshold: float | None = None,
) -> list[ExamplePicture]:
    """Return the images with the highest, median and lowest IoU among those with buildings.

    These images are predicted again, so that an evaluation does not keep all images in memory.

    Args:
        model: model in ``eval`` mode.
        scored: scores of the images of one domain.
        shift: shift under which the images were scored, or None.
        tiling: options of the tiles.
        picks: names of the images to show instead, by kind.
        threshold: minimum probability of a building pixel; by default that of the model.
    """
    show = partial(_example, model, shift=shift, tiling=tiling, threshold=threshold)
    named = dict(zip(_names_of([scores.tile for scores in scored]), scored, strict=True))
    if picks:
        shown = {printable(name): name for name in named}
        found = [(kind, shown[name]) for kind, name in picks.items() if name in shown]
        return [show(named[name], name, kind, picked=True) for kind, name in found]
    ranked = sorted(
        (n for n, s in named.items() if s.pixels.true_positives + s.pixels.false_negatives),
        key=lambda name: named[name].pixels.iou,
        reverse=True,
    )
    places = {"best": 0, "worst": len(ranked) - 1, "median": len(ranked) // 2}
    chosen: dict[int, str] = {}
    for kind, place in places.items():
        if 0 <= place < len(ranked):
            chosen.setdefault(place, kind)
    return [
        show(named[ranked[place]], ranked[place], kind) for place, kind in sorted(chosen.items())
    ]


def save_examples(pictures: Iterable[ExamplePicture], folder: Path) -> tuple[Example, ...]:
    """Write pictures below the folder of an evaluation, and replace none that is there.

    A picture whose name is taken gets a number. Not even the pictures of scores that are to be
    replaced are overwritten, because those scores stay until the new ones are complete.

    Args:
        pictures: pictures with the names that they should have.
        folder: folder of the evaluation.

    Returns:
        The examples with the names of their pictures.

    Raises:
        OutputError: a picture cannot be written.
    """
    taken = {_alike(path.name) for path in (folder / _FOLDER).glob("*")}
    saved = []
    for picture in pictures:
        name = next(each for each in _numbered(picture.example.image) if _alike(each) not in taken)
        taken.add(_alike(name))
        saved.append(replace(picture.example, image=f"{_FOLDER}/{name}"))
        replace(picture, example=saved[-1]).save(folder)
    return tuple(saved)


def pictures_of(domains: Iterable[DomainScores]) -> set[str]:
    """Return the pictures of scores, which are the only files of an evaluation to remove."""
    named = {example.image for domain in domains for example in domain.examples}
    return {name for name in named if re.fullmatch(rf"{_FOLDER}/[\w-]+\.png", name)}


def _names_of(tiles: Sequence[Tile]) -> list[str]:
    """Return the names of images of a domain, with as many of their folders as tell them apart.

    Images that only their suffixes tell apart keep these.
    """
    short = [tile.image.with_suffix("") for tile in tiles]
    times = Counter(short)
    paths = [
        path if times[path] == 1 else tile.image for path, tile in zip(short, tiles, strict=True)
    ]
    names, parts = [path.name for path in paths], 1
    while twice := {name for name, count in Counter(names).items() if count > 1}:
        parts += 1
        longer = [
            Path(*path.parts[-parts:]).as_posix() if name in twice else name
            for name, path in zip(names, paths, strict=True)
        ]
        if longer == names:  # the same image twice
            break
        names = longer
    return names


def _numbered(image: str) -> Iterator[str]:
    """Yield the file name of a picture, then names with the numbers from 2."""
    stem = Path(image).stem
    yield f"{stem}.png"
    yield from (f"{stem}-{number}.png" for number in count(2))


def _alike(name: str) -> str:
    """Return what names have in common that some file systems take for one."""
    return unicodedata.normalize("NFKC", name).casefold()


def _example(
    model: DescribedNetwork,
    scores: TileScores,
    name: str,
    kind: str,
    *,
    picked: bool = False,
    shift: Shift | None,
    tiling: Tiling,
    threshold: float | None,
) -> ExamplePicture:
    seen = see(model, scores.tile, shift=shift, tiling=tiling, threshold=threshold)
    height, width = (min(length, MAX_SIDE_PX) for length in seen.valid.shape)
    suffix = "" if shift is None else f"-{shift.family}"
    example = Example(
        kind=kind,
        name=name,
        iou=finite(scores.pixels.iou),
        image=f"{_FOLDER}/{_safe(scores.tile.domain)}{suffix}-{kind}.png",
        width=width,
        height=height,
        truth=_outlines(seen.true_objects, height, width),
        prediction=_outlines(seen.objects, height, width),
        picked=picked,
    )
    return ExamplePicture(example, _rgb(seen.pixels[:height, :width]))


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    bands = pixels.shape[-1]
    return pixels[..., :3] if bands >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)


def _outlines(polygons: NDArray[Any], height: int, width: int) -> tuple[Polygon, ...]:
    """Return the parts of polygons inside a picture, simplified to visible detail."""
    clipped = shapely.intersection(polygons, shapely.box(0, 0, width, height))
    parts = shapely.get_parts(shapely.simplify(clipped, 0.7))
    shown = parts[(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON)]
    return tuple(
        tuple(
            tuple((x, y) for x, y in np.asarray(ring.coords)[:, :2].round(1).tolist())
            for ring in (polygon.exterior, *polygon.interiors)
        )
        for polygon in shown
        if not polygon.is_empty
    )


def _safe(name: str) -> str:
    """Return a name as part of a file name, which is limited in length."""
    short = name[:_LONGEST_NAME]
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in short)
