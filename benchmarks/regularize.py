"""Regularising traced footprints on one core, compared with other methods.

    OMP_NUM_THREADS=1 python benchmarks/regularize.py --data ../shared/data
    OMP_NUM_THREADS=1 python benchmarks/regularize.py --data ../shared/data --jitter 0.5

Footprints are rasterised with ragged outlines and rounded corners, traced in the same way as
predictions, and cleaned with several methods. The results are compared with the original
footprints. ``buildingregulariser`` is included if it is installed.
"""

import argparse
import importlib.util
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from machine import machine, medians_ms
from numpy.typing import NDArray
from scipy.special import ndtri
from shapely import affinity

from rhm.data.footprints import burn, metric_crs
from rhm.inference.regularization import regularize
from rhm.inference.tracing.components import trace

PEER = "buildingregulariser"
TOLERANCE_PX = 2.5  # the manual of buildingregulariser recommends two to three pixels
ROUNDING_PX = 1.5  # standard deviation of the blur that rounds the corners
GRAINS_PX = (1.2, 4.0)  # length scales of the deviations of an outline
SUBPIXELS = 4
MARGIN_PX = 8

Polygons = NDArray[Any]


class Sample(NamedTuple):
    """Buildings at one pixel size: (N,) true, (N,) as traced, and the metres per pixel."""

    truth: Polygons
    traced: Polygons
    gsd_m: float


def rectangles(rng: np.random.Generator, count: int) -> Polygons:
    """Return rectangles with sides of 6 to 30 m, rotated at random."""
    short = rng.uniform(6, 18, count)
    return turned(rng, shapely.box(0, 0, short, rng.uniform(short, 30)))


def letters(rng: np.random.Generator, count: int) -> Polygons:
    """Return L, U and T shapes with sides of 9 to 30 m, rotated at random."""
    width, height = rng.uniform(9, 30, (2, count))
    left = rng.uniform(0.33, 0.45, count) * width
    right = width - rng.uniform(0.33, 0.45, count) * width
    low = height * rng.uniform(0.35, 0.65, count)
    corner = shapely.box(left, low, width, height)
    court = shapely.box(left, low, right, height)
    shoulders = shapely.union(
        shapely.box(0, low, left / 1.2, height),
        shapely.box(width - left / 1.2, low, width, height),
    )
    kind = np.arange(count) % 3
    taken = np.where(kind == 0, corner, np.where(kind == 1, court, shoulders))
    return turned(rng, shapely.difference(shapely.box(0, 0, width, height), taken))


def turned(rng: np.random.Generator, buildings: Polygons) -> Polygons:
    """Rotate each building at random and shift it relative to the pixels."""
    placed = np.empty(len(buildings), dtype=object)
    for index, building in enumerate(buildings):
        there = affinity.translate(building, *rng.uniform(0, 1000, 2))
        placed[index] = affinity.rotate(there, rng.uniform(0, 360))
    return placed


def mapped(data: Path) -> Polygons:
    """Return the mapped footprints of Banepa, in metres."""
    frame = gpd.read_file(data / "oam_banepa/footprints/all.geojson").geometry
    return frame.to_crs(metric_crs(frame)).to_numpy()


def sampled(
    rng: np.random.Generator, buildings: Polygons, gsds_m: tuple[float, ...], jitter_px: float
) -> list[Sample]:
    """Rasterise and trace buildings, an equal share of them at each pixel size."""
    samples = []
    for index, gsd_m in enumerate(gsds_m):
        truth = buildings[index :: len(gsds_m)]
        outlines = np.array([drawn(rng, each, gsd_m, jitter_px) for each in truth], dtype=object)
        samples.append(Sample(truth, outlines, gsd_m))
    return samples


def drawn(rng: np.random.Generator, building: Any, gsd_m: float, jitter_px: float) -> Any:
    """Return the outline of a building as a network might see it."""
    left, bottom, right, top = building.bounds
    width = int(np.ceil((right - left) / gsd_m)) + 2 * MARGIN_PX
    height = int(np.ceil((top - bottom) / gsd_m)) + 2 * MARGIN_PX
    corner = Affine.translation(left - MARGIN_PX * gsd_m, top + MARGIN_PX * gsd_m)
    grid = corner @ Affine.scale(gsd_m, -gsd_m)
    fine = burn(
        [building], grid @ Affine.scale(1 / SUBPIXELS), height * SUBPIXELS, width * SUBPIXELS
    )
    cover = cv2.resize(fine.astype(np.float64), (width, height), interpolation=cv2.INTER_AREA)
    blurred = np.clip(cv2.GaussianBlur(cover, (0, 0), ROUNDING_PX), 1e-6, 1 - 1e-6)
    depth = ROUNDING_PX * ndtri(blurred)  # pixels behind the outline, if that is straight
    for grain in GRAINS_PX:
        noise = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), grain)
        depth += jitter_px * noise * 2 * np.sqrt(np.pi) * grain / np.sqrt(len(GRAINS_PX))
    outlines = trace(1 / (1 + np.exp(-depth)), np.ones((height, width), bool)).polygons
    return affinity.affine_transform(outlines[np.argmax(shapely.area(outlines))], grid.to_shapely())


def peer(sample: Sample, **options: float) -> Polygons:
    """Return a sample cleaned by the other library; None where it drops a building."""
    from buildingregulariser import regularize_geodataframe

    frame = gpd.GeoDataFrame(
        {"row": np.arange(len(sample.traced))}, geometry=sample.traced, crs="EPSG:32645"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = regularize_geodataframe(frame, num_cores=1, **options)
    whole = result if result["row"].is_unique else result.dissolve("row", as_index=False)
    return whole.set_index("row").geometry.reindex(frame["row"]).to_numpy()


def candidates() -> dict[str, Callable[[Sample], Polygons]]:
    """Return the methods that clean a sample."""
    ways: dict[str, Callable[[Sample], Polygons]] = {
        "as traced": lambda sample: sample.traced,
        "Douglas-Peucker": lambda sample: shapely.simplify(
            sample.traced, TOLERANCE_PX * sample.gsd_m
        ),
        "rhm": lambda sample: regularize(sample.traced, tolerance_m=TOLERANCE_PX * sample.gsd_m),
    }
    if importlib.util.find_spec(PEER):
        ways[PEER] = lambda sample: peer(sample, simplify_tolerance=TOLERANCE_PX * sample.gsd_m)
        ways[f"{PEER}, defaults"] = peer
    return ways


def scores(samples: list[Sample], way: Callable[[Sample], Polygons]) -> tuple[float, float, float]:
    """Return the mean IoU with the truth, mean number of vertices, and share of valid polygons."""
    truth = np.concatenate([sample.truth for sample in samples])
    found = np.concatenate([way(sample) for sample in samples])
    rings = shapely.get_num_interior_rings(found) + 1
    vertices = shapely.get_num_coordinates(found) - rings
    valid = shapely.is_valid(found) & ~shapely.is_empty(found)
    mended = shapely.make_valid(np.where(shapely.is_missing(found), shapely.Polygon(), found))
    common = shapely.area(shapely.intersection(mended, truth))
    iou = common / (shapely.area(mended) + shapely.area(truth) - common)
    return float(iou.mean()), float(vertices.mean()), float(valid.mean())


def report(name: str, samples: list[Sample], runs: int) -> None:
    """Print the table of one set of buildings."""
    ways = candidates()
    truth = np.concatenate([sample.truth for sample in samples])
    count = len(truth)
    timed = medians_ms(
        {
            label: partial(lambda way: [way(sample) for sample in samples], way)
            for label, way in ways.items()
            if label != "as traced"
        },
        runs,
    )
    corners = shapely.get_num_coordinates(truth).mean() - 1
    print(f"{name}: {count} buildings with {corners:.2f} vertices on average")
    for label, way in ways.items():
        iou, vertices, valid = scores(samples, way)
        speed = f"{1000 * count / timed[label]:7.0f} per second" if label in timed else ""
        print(f"  {label:<30} IoU {iou:.4f} {vertices:7.2f} vertices, {valid:6.1%} valid {speed}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--buildings", type=int, default=2000, help="number of buildings of each synthetic kind"
    )
    parser.add_argument(
        "--jitter", type=float, default=1.0, help="standard deviation of the outlines, in pixels"
    )
    parser.add_argument("--data", type=Path, help="folder of the real imagery")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    sets = {
        "rectangles, 0.3 to 0.5 m per pixel": (rectangles(rng, options.buildings), (0.3, 0.4, 0.5)),
        "L, U and T shapes, 0.3 to 0.5 m per pixel": (
            letters(rng, options.buildings),
            (0.3, 0.4, 0.5),
        ),
    }
    if options.data:
        sets["Banepa, 0.15 and 0.3 m per pixel"] = (mapped(options.data), (0.15, 0.3))
    missing = importlib.util.find_spec(PEER) is None
    print(machine("numpy", "shapely", *([] if missing else [PEER])))
    print(f"deviation of the outlines: {options.jitter} pixels (standard deviation)")
    if missing:
        print(f"{PEER} is not installed, so it is not compared")
    for name, (buildings, gsds_m) in sets.items():
        report(name, sampled(rng, buildings, gsds_m, options.jitter), options.runs)


if __name__ == "__main__":
    main()
