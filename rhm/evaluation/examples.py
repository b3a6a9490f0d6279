"""Pictures of the best, the median and the worst image of a domain."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from rhm.evaluation.tile_scores import Shift, TileScores, see
from rhm.files import atomic_path
from rhm.inference.runtime.backends import DescribedNetwork
from rhm.inference.tiling.stream import Tiling

MAX_SIDE_PX = 512
"""Larger images are shown by their upper left part of this size."""

Rings = list[list[list[float]]]


@dataclass(frozen=True)
class Example:
    """An image with outlines of truth and prediction.

    Attributes:
        kind: best, median or worst.
        name: of the image.
        image: path of the picture, relative to the evaluation's folder.
        iou: of the image, or None where it has neither true nor predicted buildings.
        pixels: (H, W, 3) uint8, red first.
        truth: polygons as lists of rings of [x, y], in pixels.
        prediction: likewise.
    """

    kind: str
    name: str
    image: str
    iou: float | None
    pixels: NDArray[np.uint8]
    truth: list[Rings]
    prediction: list[Rings]

    def to_dict(self) -> dict[str, Any]:
        """Return the example as ``scores.json`` has it."""
        height, width = self.pixels.shape[:2]
        return {
            "kind": self.kind,
            "name": self.name,
            "iou": self.iou,
            "image": self.image,
            "width": width,
            "height": height,
            "truth": self.truth,
            "prediction": self.prediction,
        }

    def save(self, folder: Path) -> None:
        """Write the picture as PNG below ``folder``."""
        with atomic_path(folder / self.image) as temporary:
            cv2.imwrite(str(temporary), np.ascontiguousarray(self.pixels[..., ::-1]))


def choose_examples(
    model: DescribedNetwork,
    scored: list[TileScores],
    shift: Shift | None,
    tiling: Tiling,
    *,
    picks: Mapping[str, str] | None = None,
) -> list[Example]:
    """Return the images of highest, median and lowest IoU among those with buildings.

    They are predicted again, so that an evaluation need not hold every image.

    Args:
        model: in ``eval`` mode.
        scored: the images of one domain.
        shift: under which they were seen.
        tiling: how they were cut.
        picks: by kind, the name of the image to show instead.
    """
    if picks:
        named = {each.tile.name: each for each in scored}
        return [
            _example(model, named[name], kind, shift, tiling)
            for kind, name in picks.items()
            if name in named
        ]
    ranked = sorted(
        (each for each in scored if each.pixels.true_positives + each.pixels.false_negatives),
        key=lambda each: each.pixels.iou,
        reverse=True,
    )
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    chosen: dict[int, str] = {}
    for kind, place in places.items():
        if 0 <= place < len(ranked):
            chosen.setdefault(place, kind)
    return [_example(model, ranked[place], kind, shift, tiling) for place, kind in chosen.items()]


def _example(
    model: DescribedNetwork, scores: TileScores, kind: str, shift: Shift | None, tiling: Tiling
) -> Example:
    seen = see(model, scores.tile, shift=shift, tiling=tiling)
    height, width = (min(length, MAX_SIDE_PX) for length in seen.valid.shape)
    suffix = "" if shift is None else f"-{shift.family}"
    return Example(
        kind=kind,
        name=scores.tile.name,
        image=f"examples/{_safe(scores.tile.domain)}{suffix}-{kind}.png",
        iou=None if np.isnan(scores.pixels.iou) else scores.pixels.iou,
        pixels=_rgb(seen.pixels[:height, :width]),
        truth=_rings(seen.true_objects, height, width),
        prediction=_rings(seen.objects, height, width),
    )


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    bands = pixels.shape[-1]
    return pixels[..., :3] if bands >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)


def _rings(polygons: NDArray[Any], height: int, width: int) -> list[Rings]:
    """Return polygons inside a picture, simplified to what can be seen."""
    clipped = shapely.intersection(polygons, shapely.box(0, 0, width, height))
    parts = shapely.get_parts(shapely.simplify(clipped, 0.7))
    shown = parts[(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON)]
    return [
        [
            np.asarray(ring.coords)[:, :2].round(1).tolist()
            for ring in (polygon.exterior, *polygon.interiors)
        ]
        for polygon in shown
        if not polygon.is_empty
    ]


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
