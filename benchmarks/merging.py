"""Time and memory of merging the footprints of many scenes into one layer.

    python benchmarks/merging.py --buildings 1000000

A town of boxes is seen by overlapping scenes, so that a third of the buildings are seen twice or
more, and some are cut by every scene. The oracle is the town itself: every box must be found once.
For comparison, the footprints of the same scenes are overlaid with geopandas as users do it today.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas
import numpy as np
import pandas
import rasterio
import shapely
from machine import machine
from rasterio.transform import from_origin

from rhm.inference.layers.vector_files import Footprints, write_footprints
from rhm.mapping.merged_layer import merge_layers
from rhm.mapping.scene_layers import find_layers
from rhm.system import peak_memory_bytes

UTM = "EPSG:32633"
SPACING_M, GSD_M, OVERLAP_M = 20.0, 1.0, 80.0
EAST, NORTH = 300_000.0, 6_000_000.0


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--buildings", type=int, default=1_000_000)
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--overlay-up-to", type=int, default=50_000)
    parser.add_argument("--run", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        run(*asked.run)
        return
    print(machine("shapely", "geopandas", "pyogrio"), end="\n\n")
    print("| way | buildings | footprints | found | seconds | CPU seconds | peak MB |")
    print("|---|---|---|---|---|---|---|")
    for way in ("rhm", "folder", "geopandas"):
        count = min(asked.buildings, asked.overlay_up_to) if way == "geopandas" else asked.buildings
        with TemporaryDirectory() as folder:
            footprints = write_town(Path(folder), count, asked.scenes)
            # In a process of its own, whose peak memory is that of merging alone.
            words = [sys.executable, __file__, "--run", way, folder]
            said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        print(f"| {way} | {count} | {footprints} | {said} |", flush=True)


def write_town(folder: Path, count: int, scenes: int) -> int:
    """Write the footprints and masks of scenes; return the number of footprints."""
    side = round(np.sqrt(count))
    rng = np.random.default_rng(0)
    x, y = (each.ravel() * SPACING_M for each in np.meshgrid(np.arange(side), np.arange(side)))
    width, height = rng.uniform(6, 14, (2, side * side))
    left, bottom = EAST + x + 2, NORTH + y + 2
    boxes = shapely.box(left, bottom, left + width, bottom + height)
    tree = shapely.STRtree(boxes)
    across = round(np.sqrt(scenes))
    step = side * SPACING_M / across
    total = 0
    for row in range(across):
        for col in range(across):
            extent = shapely.box(
                EAST + col * step - OVERLAP_M / 2,
                NORTH + row * step - OVERLAP_M / 2,
                EAST + (col + 1) * step + OVERLAP_M / 2,
                NORTH + (row + 1) * step + OVERLAP_M / 2,
            )
            seen = shapely.intersection(boxes[np.sort(tree.query(extent))], extent)
            total += write_scene(folder, f"scene{row:03}{col:03}", extent, seen)
    return total


def write_scene(folder: Path, name: str, extent: shapely.Polygon, seen: np.ndarray) -> int:
    """Write the mask and the footprints of a scene; return how many there are."""
    left, bottom, right, top = extent.bounds
    shape = round((top - bottom) / GSD_M), round((right - left) / GSD_M)
    with rasterio.open(
        folder / f"{name}_mask.tif", "w", driver="GTiff", height=shape[0], width=shape[1],
        count=1, dtype="uint8", nodata=255, crs=UTM, compress="deflate", tiled=True,
        transform=from_origin(left, top, GSD_M, GSD_M),
    ) as mask:  # fmt: skip
        mask.write(np.zeros((1, *shape), np.uint8))
    seen = seen[shapely.area(seen) > 0]
    scores = np.full(len(seen), 0.8)
    write_footprints(
        [Footprints(seen, scores, shapely.area(seen))], UTM, folder / f"{name}_buildings.gpkg"
    )
    return len(seen)


def run(way: str, folder: str) -> None:
    """Merge in one of three ways, and print what was found, the seconds and the peak memory."""
    begun, busy_before = time.perf_counter(), time.process_time()
    target = Path(folder) / ("merged" if way == "folder" else "merged.gpkg")
    if way == "geopandas":
        found = overlaid(Path(folder), target)
    else:
        found = merge_layers(find_layers([folder]), target).count
    seconds = time.perf_counter() - begun
    # On a busy machine, the time of the processor says more than that of the clock.
    busy = time.process_time() - busy_before
    print(f"{found} | {seconds:.0f} | {busy:.0f} | {(peak_memory_bytes() or 0) / 1e6:.0f}")


def overlaid(folder: Path, target: Path) -> int:
    """Read all footprints, and unite those that overlap."""
    frames = [geopandas.read_file(path) for path in sorted(folder.glob("*_buildings.gpkg"))]
    together = geopandas.GeoDataFrame(pandas.concat(frames, ignore_index=True), crs=UTM)
    united = geopandas.GeoDataFrame(geometry=[together.union_all()], crs=UTM).explode()
    united.to_file(target)
    return len(united)


if __name__ == "__main__":
    main()
