"""Regularised outlines do not depend on frame, order or neighbours of what was traced."""

from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from shapely import Polygon, affinity

from rhm.inference.regularization import regularize_frame
from tests.inference.regularization.buildings import (
    PIXEL,
    TOLERANCE,
    UTM,
    array,
    clean,
)


def test_what_was_regularised_hardly_moves_again(
    rectangles: tuple[NDArray[Any], NDArray[Any]], houses: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    once = clean(np.concatenate([rectangles[1], houses[1]]))
    away = shapely.hausdorff_distance(clean(once), once)
    assert (away < 1e-6).mean() > 0.8
    assert away.max() < 2 * TOLERANCE


@pytest.mark.parametrize("angle", [90.0, 200.0, 33.3, 1.0])
def test_turned_outlines_turn_the_result(
    rectangles: tuple[NDArray[Any], NDArray[Any]],
    houses: tuple[NDArray[Any], NDArray[Any]],
    angle: float,
) -> None:
    def turned(polygons: NDArray[Any], by: float) -> NDArray[Any]:
        return array(*(affinity.rotate(each, by, origin=(0, 0)) for each in polygons))

    traced = np.concatenate([rectangles[1], houses[1]])
    away = shapely.hausdorff_distance(turned(clean(turned(traced, angle)), -angle), clean(traced))
    assert np.median(away) < 1e-9
    assert (away < 0.001).mean() > 0.97  # equal alternatives may be taken in another order
    assert away.max() < 2 * TOLERANCE


@pytest.mark.parametrize("offset", [(500_000.0, 5_000_000.0), (-12_000_000.7, 3_000_000.3)])
def test_moved_outlines_move_the_result(
    rectangles: tuple[NDArray[Any], NDArray[Any]],
    houses: tuple[NDArray[Any], NDArray[Any]],
    offset: tuple[float, float],
) -> None:
    traced = np.concatenate([rectangles[1], houses[1]])
    moved = clean(shapely.transform(traced, lambda points: points + offset))
    back = shapely.transform(moved, lambda points: points - offset)
    assert shapely.hausdorff_distance(back, clean(traced)).max() < 1e-5


def test_scaled_outlines_scale_the_result(houses: tuple[NDArray[Any], NDArray[Any]]) -> None:
    feet = clean(shapely.transform(houses[1], lambda points: points * 4), tolerance_m=4 * TOLERANCE)
    back = shapely.transform(feet, lambda points: points / 4)
    assert shapely.hausdorff_distance(back, clean(houses[1])).max() < 1e-9


def test_where_a_ring_begins_and_which_way_it_runs_hardly_matters(
    rectangles: tuple[NDArray[Any], NDArray[Any]], houses: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    def rolled(polygon: Any, by: int) -> Any:
        points = shapely.get_coordinates(polygon.exterior)[:-1]
        return Polygon(np.roll(points, by, axis=0), polygon.interiors)

    traced = np.concatenate([rectangles[1], houses[1]])
    expected = clean(traced)
    by = np.random.default_rng(4).integers(1, 1000, len(traced))
    others = array(*map(rolled, traced, by)), shapely.reverse(traced)
    for other in others:
        away = shapely.hausdorff_distance(clean(other), expected)
        assert (away < 1e-9).mean() > 0.97
        assert away.max() < 2 * TOLERANCE


def test_buildings_do_not_know_of_each_other(houses: tuple[NDArray[Any], NDArray[Any]]) -> None:
    together = clean(houses[1])
    alone = np.concatenate([clean(houses[1][index : index + 1]) for index in range(60)])
    assert shapely.equals_exact(together, alone, 1e-9).all()
    assert shapely.equals_exact(together, clean(houses[1]), 0).all()


def _in_utm(polygons: NDArray[Any], grid_m: float = PIXEL) -> gpd.GeoSeries:
    """Outlines on the grid of an image in UTM, where ties abound."""
    origin = (353_861.2, 3_057_000.4)
    snapped = shapely.transform(
        polygons, lambda points: np.round(points / grid_m) * grid_m + origin
    )
    return gpd.GeoSeries(snapped[shapely.is_valid(snapped)], crs=UTM)


def test_the_same_in_degrees_and_in_metres(
    rectangles: tuple[NDArray[Any], NDArray[Any]], houses: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    metres = _in_utm(np.concatenate([rectangles[1], houses[1]]))
    assert len(metres) > 170
    expected = regularize_frame(metres, tolerance_m=TOLERANCE)
    for crs in ("EPSG:4326", "EPSG:3857", "EPSG:32644"):
        found = regularize_frame(metres.to_crs(crs), tolerance_m=TOLERANCE)
        assert found.crs == crs
        assert found.is_valid.all()
        back = found.to_crs(UTM).to_numpy()
        assert shapely.hausdorff_distance(back, expected.to_numpy()).max() < 0.01


def test_frames_keep_rows_columns_and_kind(houses: tuple[NDArray[Any], NDArray[Any]]) -> None:
    series = _in_utm(houses[1][:5]).set_axis(list("abcde")).rename("roof")
    frame = gpd.GeoDataFrame({"score": np.arange(5.0)}, geometry=series, index=series.index)
    frame = frame.rename_geometry("roof")
    before = frame.copy()
    found = regularize_frame(frame, tolerance_m=TOLERANCE)
    assert list(found.columns) == list(frame.columns)
    assert found.index.equals(frame.index)
    assert found.geometry.name == "roof"
    assert found["score"].equals(frame["score"])
    assert frame.equals(before)
    alone = regularize_frame(series, tolerance_m=TOLERANCE)
    assert isinstance(alone, gpd.GeoSeries)
    assert alone.name == "roof"
    assert alone.geom_equals(found.geometry).all()
    plane = series.set_crs(None, allow_override=True)
    unplaced = regularize_frame(plane, tolerance_m=TOLERANCE)
    assert unplaced.crs is None
    assert shapely.equals_exact(unplaced.to_numpy(), clean(plane.to_numpy()), 0).all()


@pytest.mark.parametrize("crs", [None, UTM])
def test_nothing_gives_nothing(crs: str | None) -> None:
    assert len(clean(np.empty(0, dtype=object))) == 0
    empty = gpd.GeoDataFrame({"score": []}, geometry=[], crs=crs)
    found = regularize_frame(empty, tolerance_m=TOLERANCE)
    assert len(found) == 0
    assert found.crs == crs
    assert list(found.columns) == list(empty.columns)
