"""What was taken away from a real map and added to it, and how much of it a comparison finds again.

    python benchmarks/map_changes.py ../shared/data/oam_banepa/footprints

A fifth of the buildings is taken away from the existing map, and a twentieth of false ones added.
The new buildings are those of the whole map, shifted as imagery is, and with outlines that wobble
as those of a network do. Found again means: the status of the building in the layer of changes.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import geopandas
import numpy as np
import pandas
import shapely
from machine import machine

from rhm.mapping.map_changes import compare_maps

SHIFTS_M = ((0.0, 0.0), (3.0, -2.0), (8.0, 5.0))
WOBBLES_M = (0.0, 0.5, 1.0)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    print(machine("shapely", "geopandas"), end="\n\n")
    town = read(asked.folder)
    print(f"{len(town)} buildings\n")
    print(
        "| shift, m | wobble, m | estimated, m | taken away, found | false, found | matched | s |"
    )
    print("|---|---|---|---|---|---|---|")
    for shift in SHIFTS_M:
        for wobble in WOBBLES_M:
            print(row(town, shift, wobble), flush=True)


def read(folder: Path) -> geopandas.GeoDataFrame:
    """Return the buildings of all files, in metres, without those that overlap another."""
    frames = [geopandas.read_file(path) for path in sorted(folder.glob("*.g*"))]
    metric = frames[0].estimate_utm_crs()
    shapes = pandas.concat([frame.geometry.to_crs(metric) for frame in frames], ignore_index=True)
    shapes = shapes[shapes.area > 10].reset_index(drop=True)
    one, other = shapes.sindex.query(shapes, predicate="intersects")
    return geopandas.GeoDataFrame(geometry=shapes.drop(np.unique(one[one > other])), crs=metric)


def row(town: geopandas.GeoDataFrame, shift: tuple[float, float], wobble: float) -> str:
    """Return the row of the table for a shift and a wobble of outlines."""
    rng = np.random.default_rng(0)
    shapes = town.geometry.to_numpy()
    missing = rng.random(len(shapes)) < 0.2
    false = strangers(shapes, round(0.05 * len(shapes)), rng)

    def seen(points: np.ndarray) -> np.ndarray:
        # The first and last vertex of a ring are the same.
        _, vertex = np.unique(points, axis=0, return_inverse=True)
        return points + shift + rng.normal(0, wobble, points.shape)[vertex.ravel()]

    moved = shapely.transform(shapes, seen)
    moved = shapely.make_valid(moved)
    with TemporaryDirectory() as folder:
        new, existing = Path(folder) / "new.gpkg", Path(folder) / "map.gpkg"
        write(new, moved, town.crs)
        write(existing, np.concatenate([shapes[~missing], false]), town.crs)
        begun = time.perf_counter()
        found = compare_maps(new, existing, Path(folder) / "changes.gpkg")
        seconds = time.perf_counter() - begun
        layer = geopandas.read_file(found.path)
    told_new = set(layer.loc[layer["status"] == "new", "id"].astype(int))
    told_gone = set(layer.loc[layer["status"] == "gone", "existing_id"].astype(int))
    right = len(told_new & set(np.flatnonzero(missing).tolist()))
    first = int(np.count_nonzero(~missing))
    wrong = len(told_gone & set(range(first, first + len(false))))
    estimated = f"{found.shift.east_m:+.2f}, {found.shift.north_m:+.2f}"
    return (
        f"| {shift[0]:+g}, {shift[1]:+g} | {wobble:g} | {estimated} | {right} of {missing.sum()} "
        f"({len(told_new)} told) | {wrong} of {len(false)} ({len(told_gone)} told) | "
        f"{found.matched} of {first} | {seconds:.1f} |"
    )


def strangers(shapes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return houses where none are, on the same ground, at least two metres from all others."""
    tree = shapely.STRtree(shapes)
    ground = shapely.convex_hull(shapely.GeometryCollection(list(shapes))).buffer(-20.0)
    houses: list[shapely.Polygon] = []
    while len(houses) < count:
        centre = shapely.get_coordinates(shapes[rng.integers(len(shapes))].centroid)[0]
        x, y = centre + rng.uniform(-60, 60, 2)
        house = shapely.box(x, y, x + rng.uniform(6, 14), y + rng.uniform(6, 14))
        around = house.buffer(2.0)
        if not ground.contains(house):
            continue
        if not len(tree.query(around, predicate="intersects")) and not any(
            around.intersects(other) for other in houses
        ):
            houses.append(house)
    return np.array(houses, dtype=object)


def write(path: Path, shapes: np.ndarray, crs: object) -> None:
    """Write polygons with their numbers as identifiers."""
    ids = [str(number) for number in range(len(shapes))]
    geopandas.GeoDataFrame({"id": ids}, geometry=shapes, crs=crs).to_file(path)


if __name__ == "__main__":
    main()
