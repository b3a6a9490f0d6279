"""Neighbouring footprints; law: buildings do not overlap, however their outlines are cleaned."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from rhm.data.rasters.raster import describe
from rhm.inference.polygons import (
    Ground,
    PolygonConfig,
    PredictedRows,
    footprints,
    polygonize,
)

SIDE = 260
TRANSFORMS = {
    "EPSG:32633": Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000),
    "EPSG:4326": Affine(8e-6, 0, 13.0, 0, -4.5e-6, 52.0),
    "EPSG:3857": Affine(0.35, 0.35, 1_400_000, 0.35, -0.35, 6_900_000),
}


@pytest.fixture(scope="module")
def probability() -> NDArray[Any]:
    """A dense quarter: hundreds of houses that touch."""
    rng = np.random.default_rng(1)
    image = np.zeros((SIDE, SIDE), dtype=np.float32)
    for row, col in np.ndindex(SIDE // 13, SIDE // 13):
        middle = (13 * col + rng.uniform(5, 8), 13 * row + rng.uniform(5, 8))
        box = (middle, tuple(rng.uniform(9, 14, 2)), rng.uniform(-30, 30))
        corners = cv2.boxPoints(box)
        house = np.zeros_like(image)
        cv2.fillPoly(house, [corners.astype(np.int32)], 1.0)
        image = np.maximum(image, cv2.GaussianBlur(house, (0, 0), 1.0))
    return np.clip(image, 0.0, 1.0)


def written(folder: Path, probability: NDArray[Any], crs: str) -> Path:
    path = folder / "probability.tif"
    profile: dict[str, Any] = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 1}
    profile |= {"dtype": "float32", "crs": CRS.from_string(crs), "transform": TRANSFORMS[crs]}
    with rasterio.open(path, "w", **profile) as target:
        target.write(probability, 1)
    return path


def overlaps(polygons: NDArray[Any]) -> int:
    """How many pairs overlap by more than rounding errors."""
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    once = first < second
    first, second = polygons[first[once]], polygons[second[once]]
    assert len(first) > 100
    smaller = np.minimum(shapely.area(first), shapely.area(second))
    return int((shapely.area(shapely.intersection(first, second)) > 1e-5 * smaller).sum())


@pytest.mark.parametrize("crs", TRANSFORMS)
@pytest.mark.parametrize(
    "options",
    [{"simplify_m": 0.0}, {"simplify_m": 0.7}, {"simplify_m": 2.0}, {"regularize_m": 1.5}],
)
def test_neighbours_do_not_overlap(
    tmp_path: Path, probability: NDArray[Any], crs: str, options: dict[str, float]
) -> None:
    frame = polygonize(written(tmp_path, probability, crs), split_m=2.0, **options)
    polygons = frame.geometry.to_numpy()
    assert len(polygons) > 150
    assert shapely.is_valid(polygons).all()
    assert overlaps(polygons) == 0


def test_borders_are_simplified_together(tmp_path: Path, probability: NDArray[Any]) -> None:
    path = written(tmp_path, probability, "EPSG:32633")
    traced = polygonize(path, split_m=2.0, simplify_m=0.0).geometry.to_numpy()
    simple = polygonize(path, split_m=2.0, simplify_m=0.7).geometry.to_numpy()
    assert len(simple) == len(traced)
    assert (
        shapely.get_num_coordinates(simple).sum() < 0.6 * shapely.get_num_coordinates(traced).sum()
    )
    # No gaps either: what is one component stays one.
    parts = shapely.get_num_geometries(shapely.union_all(simple))
    assert parts == shapely.get_num_geometries(shapely.union_all(traced))
    common = shapely.area(shapely.intersection(simple, traced))
    assert np.median(common / shapely.area(shapely.union(simple, traced))) > 0.93


@pytest.mark.parametrize("options", [{"regularize_m": 1.5}, {"simplify_m": 1.5}])
@pytest.mark.parametrize("rows", [7, 64])
def test_clean_outlines_do_not_depend_on_the_bands(
    tmp_path: Path, probability: NDArray[Any], rows: int, options: dict[str, float]
) -> None:
    path = written(tmp_path, probability, "EPSG:32633")
    config = PolygonConfig(threshold=0.5, split_m=2.0, **options)
    bands = [probability[row : row + rows] for row in range(0, SIDE, rows)]
    rows_of = [PredictedRows(band >= 0.5, band) for band in bands]
    batches = list(footprints(rows_of, SIDE, Ground(describe(path)), config))
    found = np.concatenate([batch.polygons for batch in batches])
    expected = polygonize(path, threshold=0.5, split_m=2.0, **options).geometry.to_numpy()
    assert len(found) == len(expected)
    assert shapely.equals_exact(found, expected, tolerance=0.0).all()
