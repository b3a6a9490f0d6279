"""Gains and costs of splitting and regularising footprints predicted by a real model.

    python benchmarks/footprints.py runs/massachusetts-rhm tiles.parquet --domains spacenet2_vegas

Predicted buildings are matched with the true ones as in the SpaceNet challenges, at two IoU
thresholds. Tolerances are in metres; if the ground sampling distance is unknown, a pixel counts as
one metre.
"""

import argparse
from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from machine import machine, thinned
from numpy.typing import NDArray

from rhm.data.catalog import Catalog, Tile
from rhm.evaluation.tile_scores import MIN_OBJECT_PX, Seen, see
from rhm.inference.regularization import regularize
from rhm.inference.tiling.stream import Tiling
from rhm.inference.tracing.components import Outlines, trace
from rhm.inference.tracing.watershed import Watershed
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model
from rhm.training.metrics import object_scores

IOUS = (0.5, 0.7)
PIXELS = 1.2e7

Polygons = NDArray[Any]
CLEANED: dict[str, Callable[[Polygons, float], Polygons]] = {
    "as traced": lambda polygons, pixel_m: polygons,
    "simplified, 0.5 m": lambda polygons, pixel_m: shapely.simplify(polygons, 0.5 / pixel_m),
    "regularised, 1 m": lambda polygons, pixel_m: regularize(polygons, tolerance_m=1 / pixel_m),
    "regularised, 2 m": lambda polygons, pixel_m: regularize(polygons, tolerance_m=2 / pixel_m),
}
WAYS = (
    *((split_m, "as traced") for split_m in (None, 1.5, 3.0, 6.0)),
    *((3.0, name) for name in list(CLEANED)[1:]),
)
"""The neck width at which buildings are split, and how their outlines are cleaned."""


def main() -> None:
    """Print a table for each domain."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--domains", nargs="+", required=True)
    asked = parser.parse_args()
    model, catalog = load_model(asked.model), Catalog.load(asked.catalog)
    print(machine("torch", "shapely", "scikit-image"))
    for domain in asked.domains:
        trained = domain in model.spec.sources
        tiles = [
            tile
            for tile in catalog.tiles
            if tile.domain == domain and tile.label and not (trained and tile.split == "train")
        ]
        report(model, domain, thinned(tiles, PIXELS))


def report(model: SegmentationModel, domain: str, tiles: list[Tile]) -> None:
    """Print one domain's table."""
    seen = [see(model, tile, shift=None, tiling=Tiling()) for tile in tiles]
    sizes = [tile.gsd_at(model.spec.gsd_m) or 1.0 for tile in tiles]
    true = sum(len(each.true_objects) for each in seen)
    gsd_m = np.mean(sizes)
    print(f"\n{domain}: {len(tiles)} images, {true} true buildings, {gsd_m:.2f} m per pixel")
    print(
        "| split at | outlines | buildings | vertices | "
        + " | ".join(f"F1 at {i}" for i in IOUS)
        + " |"
    )
    print("|---" * (4 + len(IOUS)) + "|")
    for split_m, name in WAYS:
        outlines = [
            traced(image, model.spec.threshold, split_m, pixel_m)
            for image, pixel_m in zip(seen, sizes, strict=True)
        ]
        found = [
            CLEANED[name](each.polygons, pixel_m)
            for each, pixel_m in zip(outlines, sizes, strict=True)
        ]
        cells = [
            "never" if split_m is None else f"{split_m} m",
            name,
            str(sum(map(len, found))),
            f"{np.mean(shapely.get_num_coordinates(np.concatenate(found))) - 1:.1f}",
            *(f"{score(seen, outlines, found, iou):.3f}" for iou in IOUS),
        ]
        print("| " + " | ".join(cells) + " |")


def traced(image: Seen, threshold: float, split_m: float | None, pixel_m: float) -> Outlines:
    """Trace the buildings of a predicted image."""
    watershed = None if split_m is None else Watershed(split_m / pixel_m, threshold)
    return trace(image.probability, image.valid, threshold=threshold, watershed=watershed)


def score(seen: list[Seen], outlines: list[Outlines], found: list[Polygons], iou: float) -> float:
    """Return the object F1, pooled over all images."""
    compared = partial(object_scores, iou=iou, min_area=MIN_OBJECT_PX)
    each = [
        compared(image.true_objects, polygons, scores=outline.scores)
        for image, outline, polygons in zip(seen, outlines, found, strict=True)
    ]
    return reduce(lambda one, other: one + other, each).f1


if __name__ == "__main__":
    main()
