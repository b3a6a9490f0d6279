"""Places with real labelled imagery, on which several benchmarks train and test.

    python benchmarks/places.py

prints what their labels are like at the ground sampling distance of these benchmarks.
"""

import argparse
import itertools
import os
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from rhm.data.catalog import Catalog, Tile
from rhm.data.labels import IGNORE
from rhm.data.layouts.folder import find_in_folder
from rhm.data.sources import Source
from rhm.inference.tiling.stream import Tiling

PLACES: dict[str, tuple[str, ...]] = {
    "massachusetts": ("massachusetts",),
    "inria": ("inria_austin", "inria_chicago"),
    "dubai": ("dubai",),
    "vegas": ("spacenet2_vegas",),
}
"""The domains of each source or target."""

PAIRS = tuple(itertools.permutations(PLACES, 2))
"""All pairs of a source and a target."""

GSD_M = 1.0
TEST_SHARE = 0.4
TEST_PIXELS = 6e6
"""Pixels per place to test on, approximately; larger places are thinned to evenly spaced images."""

TILING = Tiling(tile=576)

_BLACK_BORDERS = ("spacenet1_rio",)  # undeclared


def find_sources(data: Path, wanted: Collection[str] | None = None) -> list[Source]:
    """Return the images of some domains of a folder, or of all; black borders are nodata.

    Args:
        data: folder of real imagery, with ``manifest.csv``.
        wanted: names of domains; None for all.
    """
    return [
        source
        for black in (False, True)
        for source in find_in_folder(data, table=data / "manifest.csv", black_is_nodata=black)
        if (source.domain in _BLACK_BORDERS) == black
        and (wanted is None or source.domain in wanted)
    ]


def main() -> None:
    """Print one row for each place."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("RHM_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    asked = parser.parse_args()
    print("| place | images | building | connected areas | half of it is wider than |")
    print("|---|---|---|---|---|")
    for place, domains in PLACES.items():
        tiles = Catalog.build(find_sources(asked.data, set(domains))).tiles
        share, count, widths = widths_of(tiles)
        middle = np.median(widths)
        print(f"| {place} | {len(tiles)} | {share:.0%} | {count} | {middle:.0f} m |")


def widths_of(tiles: Iterable[Tile]) -> tuple[float, int, NDArray[np.float64]]:
    """Return the share of building, its connected areas, and the width at each of its pixels.

    The width of a connected area is the diameter in metres of the largest disc inside it.
    """
    widths, known, total = [], 0, 0
    for tile in tiles:
        scale = tile.scale_to(GSD_M)
        with tile.open(scale) as raster, tile.open_label(raster) as label:
            valid, labels = raster.read().valid, label.read()
        known += int((valid & (labels != IGNORE)).sum())
        building = np.pad(valid & (labels == 1), 1)
        areas, count = ndimage.label(building)
        total += count
        inside = ndimage.distance_transform_edt(building)
        radii = ndimage.maximum(inside, areas, np.arange(1, count + 1))
        pixel_m = tile.gsd_at(GSD_M) or GSD_M
        widths.append((2.0 * np.asarray(radii) - 1.0)[areas[building] - 1] * pixel_m)
    together = np.concatenate(widths)
    return len(together) / known, total, together


if __name__ == "__main__":
    main()
