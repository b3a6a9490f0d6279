"""Response times of the viewer's server: map tiles at all zoom levels, and views of footprints.

    python benchmarks/viewer.py

The raster contains noise, which is the slowest to decode, and footprints spread evenly over it.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas
import numpy as np
import shapely
from machine import machine
from rasterio.transform import from_origin

from rhm.data.rasters.cog import writing_cog
from rhm.viewer.footprint_layer import FootprintLayer
from rhm.viewer.map_tiles import Place, probability_tile
from rhm.viewer.predictions import find_predictions

UTM = "EPSG:32633"
GRID = from_origin(500_000, 5_000_000, 0.5, 0.5)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--footprints", type=int, default=200_000)
    asked = parser.parse_args()
    print(machine("rasterio", "shapely"), end="\n\n")
    with TemporaryDirectory() as name:
        write(Path(name), asked.side, asked.footprints)
        (found,), _ = find_predictions(name)
        print(f"| raster of {asked.side} x {asked.side} pixels | ms, median of 9 |\n|---|---|")
        for level in (0, 2, 4, 6):
            tiles = max(1, asked.side // (256 << level))
            places = [Place(level, 7 * each % tiles, 3 * each % tiles) for each in range(9)]
            print(f"| tile, 1 : {1 << level} | {median_ms(probability_tile, found, places):.1f} |")
        begun = time.perf_counter()
        layer = FootprintLayer(found)
        seconds = time.perf_counter() - begun
        print(f"| reading {len(layer)} footprints, once | {1e3 * seconds:.0f} |")
        boxes = [(k * 500, k * 500, k * 500 + 2200, k * 500 + 2200) for k in range(9)]
        found_ms = median_ms(within, layer, boxes)
        print(f"| footprints in a view of 2200 x 2200 pixels | {found_ms:.0f} |")


def write(folder: Path, side: int, count: int) -> None:
    """Write a raster of noise and footprints of 20 x 20 pixels."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 255, (512, side), dtype=np.uint8)
    with writing_cog(
        folder / "noise_probability.tif",
        height=side, width=side, dtype="uint8", nodata=255, scale=1 / 254, crs=UTM,
        transform=GRID, gcps=(), compress="deflate", description="probability",
    ) as raster:  # fmt: skip
        for first in range(0, side, 512):
            last = min(first + 512, side)
            raster.write(rows[: last - first], 1, window=((first, last), (0, side)))
    east, south = rng.uniform(0, side / 2 - 10, (2, count))
    boxes = shapely.box(5e5 + east, 5e6 - south - 10, 5e5 + east + 10, 5e6 - south)
    frame = geopandas.GeoDataFrame({"score": rng.random(count), "area_m2": 100.0}, geometry=boxes)
    frame.set_crs(UTM).to_parquet(folder / "noise_buildings.parquet")


def within(layer: FootprintLayer, box: tuple[int, int, int, int]) -> bytes:
    """Return the footprints in a view as the page receives them."""
    return layer.within(*box)


def median_ms(function: Callable[..., object], first: object, others: list[object]) -> float:
    """Return the median time in milliseconds of calls with each of ``others``."""
    times = []
    for other in others:
        begun = time.perf_counter()
        function(first, other)
        times.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(times)


if __name__ == "__main__":
    main()
