"""Regularised outlines; oracle: the buildings that they were traced from."""

from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import Polygon, affinity, box

from rhm.data.footprints import metric_crs, read_footprints
from rhm.errors import ConfigError, VectorError
from rhm.inference.regularization import regularize, regularize_frame
from rhm.inference.regularization.regularize import _regular
from rhm.inference.tracing.components import trace
from tests.examples import examples
from tests.inference.regularization.buildings import (
    COURT,
    CUT_CORNER,
    L_SHAPE,
    LEANING,
    TOLERANCE,
    U_SHAPE,
    array,
    as_traced,
    assert_acceptable,
    clean,
    corner_angles,
    heading,
    overlap,
)


def test_ragged_rectangles_become_rectangles(
    rectangles: tuple[NDArray[Any], NDArray[Any]],
) -> None:
    truth, traced = rectangles
    found = clean(traced)
    assert shapely.get_num_coordinates(traced).mean() > 80
    four = shapely.get_num_coordinates(found) == 5
    assert four.mean() > 0.97
    for polygon in found[four]:
        np.testing.assert_allclose(corner_angles(polygon), 90, atol=1e-6)
    assert overlap(found, truth).mean() > overlap(traced, truth).mean() + 0.02
    assert overlap(found, truth).mean() > 0.955


def test_directions_are_known_to_less_than_a_degree(
    rectangles: tuple[NDArray[Any], NDArray[Any]],
) -> None:
    found = [heading(polygon) for polygon in clean(rectangles[1])]
    true = [heading(polygon) for polygon in rectangles[0]]
    away = np.abs((np.subtract(found, true) + 45) % 90 - 45)
    assert away.mean() < 0.6
    assert np.quantile(away, 0.9) < 1.2


def test_houses_keep_their_shapes(houses: tuple[NDArray[Any], NDArray[Any]]) -> None:
    truth, traced = houses
    found = clean(traced)
    assert overlap(found, truth).mean() > 0.94
    extra = shapely.get_num_coordinates(found) - shapely.get_num_coordinates(truth)
    assert np.abs(extra).mean() < 0.5
    np.testing.assert_array_equal(
        shapely.get_num_interior_rings(found), shapely.get_num_interior_rings(truth)
    )


def test_sizes_are_kept_on_average(
    rectangles: tuple[NDArray[Any], NDArray[Any]], houses: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    for _, traced in (rectangles, houses):
        ratio = shapely.area(clean(traced)) / shapely.area(traced)
        assert abs(ratio.mean() - 1) < 0.005
        assert np.abs(ratio - 1).max() < 0.1


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([box(0, 0, 6, 9), L_SHAPE, U_SHAPE, COURT, CUT_CORNER, LEANING]),
    st.floats(0, 360),
    st.floats(0.3, 1.5),
)
def test_what_is_clean_stays_as_it_is(building: Any, angle: float, tolerance_m: float) -> None:
    turned = affinity.rotate(building, angle)
    found = regularize(array(turned), tolerance_m=tolerance_m)[0]
    assert shapely.hausdorff_distance(found, turned) < 1e-6
    assert shapely.get_num_coordinates(found) == shapely.get_num_coordinates(turned)


@pytest.mark.parametrize("angle", [0, 17, 45, 80])
def test_oblique_walls_stay_oblique(angle: int) -> None:
    rng = np.random.default_rng(angle)
    for building, oblique in ((CUT_CORNER, 45.0), (LEANING, np.degrees(np.arctan2(10, 5)))):
        found = clean(array(as_traced(affinity.rotate(building, angle), rng, jitter_px=0.3)))[0]
        angles = np.sort(corner_angles(found))
        right = np.isclose(angles, 90, atol=1e-6)
        assert right.sum() == len(angles) - 2
        np.testing.assert_allclose(angles[~right].min(), min(oblique, 180 - oblique), atol=5)


def test_walls_beyond_the_angle_tolerance_stay(houses: tuple[NDArray[Any], NDArray[Any]]) -> None:
    slanting = Polygon([(0, 0), (20, 0), (20, 10), (0, 14)])  # by 11 degrees
    strict = clean(array(slanting), angle_tolerance_deg=5)[0]
    assert shapely.hausdorff_distance(strict, slanting) < 1e-6
    loose = clean(array(slanting), angle_tolerance_deg=20)[0]
    np.testing.assert_allclose(corner_angles(loose), 90, atol=1e-6)
    coarse = clean(array(slanting), tolerance_m=2.0)[0]  # its ends differ by two tolerances
    np.testing.assert_allclose(corner_angles(coarse), 90, atol=1e-6)
    all_square = clean(houses[1], angle_tolerance_deg=45, min_iou=0.0)
    angles = np.concatenate([corner_angles(each) for each in all_square])
    np.testing.assert_allclose(angles, 90, atol=1e-6)


def test_a_staircase_of_pixels_is_one_wall() -> None:
    rows, columns = np.mgrid[:40, :40]
    half = (columns <= rows).astype(np.float64)
    (triangle,) = trace(half, np.ones_like(half, bool)).polygons
    found = regularize(array(triangle), tolerance_m=2.5)[0]
    assert shapely.get_num_coordinates(found) == 4
    np.testing.assert_allclose(np.sort(corner_angles(found)), [90, 135, 135], atol=1.5)
    assert abs(found.area / triangle.area - 1) < 0.01


@pytest.mark.parametrize(("depth", "points"), [(0.3, 5), (0.9, 5), (1.5, 7), (3.0, 7)])
def test_steps_below_the_tolerance_disappear(depth: float, points: int) -> None:
    stepped = Polygon([(0, 0), (20, 0), (20, 8), (12, 8), (12, 8 + depth), (0, 8 + depth)])
    found = clean(array(stepped))[0]
    assert shapely.get_num_coordinates(found) == points
    np.testing.assert_allclose(corner_angles(found), 90, atol=1e-6)
    assert abs(found.area / stepped.area - 1) < 0.002
    assert abs(heading(found)) < 1.0  # a step is no slope


def test_holes_are_kept_unless_they_are_small() -> None:
    pierced = box(0, 0, 20, 16) - box(5, 5, 9, 10) - box(14, 3, 15.9, 5)
    found = clean(array(pierced))[0]
    assert shapely.hausdorff_distance(found, box(0, 0, 20, 16) - box(5, 5, 9, 10)) < 1e-6
    finer = regularize(array(pierced), tolerance_m=0.5)[0]
    assert shapely.hausdorff_distance(finer, pierced) < 1e-6


@pytest.mark.parametrize("radius", [7.0, 9.0, 20.0])  # of the smallest, squares may remain
def test_round_buildings_stay_round(radius: float) -> None:
    rng = np.random.default_rng(3)
    circle = shapely.Point(3, 4).buffer(radius, quad_segs=64)
    found = clean(array(circle, as_traced(circle, rng, 0.3)))
    assert (overlap(found, array(circle, circle)) > 0.9).all()
    assert (shapely.get_num_coordinates(found) > 6).all()


@examples(60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 30),
    st.floats(0, 2),
    st.floats(0.05, 12),
    st.floats(0, 45),
    st.floats(0, 1),
)
def test_any_traced_shape_gives_a_valid_near_polygon(
    seed: int, side: int, blur: float, tolerance: float, angle: float, min_iou: float
) -> None:
    values: Any = np.random.default_rng(seed).random((side, side + 2))
    if blur > 0.2:
        values = cv2.GaussianBlur(values, (0, 0), blur)
    # Single pixels, holes, holes that touch the shell, rings joined at corners.
    valid = np.ones(values.shape, bool)
    outlines = trace(values, valid, threshold=float(np.median(values))).polygons
    found = regularize(outlines, tolerance_m=tolerance, angle_tolerance_deg=angle, min_iou=min_iou)
    assert_acceptable(found, outlines, min_iou)


@examples(60)
@example(3053, 3, -0.1953125, -0.1936591917510082)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.floats(-3, 3), st.floats(-3, 0))
def test_any_polygon_gives_a_valid_near_polygon(
    seed: int, corners: int, size: float, flatness: float
) -> None:
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = rng.uniform(0.05, 1, corners) * 10**size
    star = np.stack([np.cos(angle) * radius, np.sin(angle) * radius * 10**flatness], axis=1)
    parts = shapely.get_parts(shapely.make_valid(Polygon(star)))
    parts = parts[(shapely.get_type_id(parts) == 3) & (shapely.area(parts) > 0)]
    assert_acceptable(clean(parts), parts, 0.75)


@pytest.mark.parametrize(
    "polygon",
    [
        box(0, 0, 1, 1),
        box(0, 0, 1e-6, 1e-6),
        box(0, 0, 1e6, 1e-3),
        Polygon([(0, 0), (1, 0), (0, 1)]),
        Polygon([(0, 0), (30, 0), (30, 1e-9)]),
        Polygon([(0, 0, 5), (9, 0, 5), (9, 9, 5), (0, 9, 5)]),
        Polygon([(0, 0), (9, 0), (9, 0), (9, 9), (0, 9), (0, 9)]),
        box(0, 0, 9, 9) - Polygon([(0, 0), (5, 2), (5, 5)]),
    ],
    ids=["pixel", "tiny", "sliver", "triangle", "needle", "3D", "repeated points", "touching hole"],
)
def test_odd_polygons(polygon: Any) -> None:
    for tolerance_m in (0.1, 1.0, 50.0):
        found = regularize(array(polygon), tolerance_m=tolerance_m)
        assert_acceptable(found, array(polygon), 0.75)


def test_huge_outlines() -> None:
    rng = np.random.default_rng(5)
    angle = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rough = array(*(Polygon(around * rng.normal(100, 1, (10_000, 1))) for _ in range(12)))
    found = regularize(rough, tolerance_m=5.0)
    assert_acceptable(found, rough, 0.95)
    assert shapely.get_num_coordinates(found).max() < 40
    spikes = array(Polygon(around * rng.uniform(20, 100, (10_000, 1))))
    assert_acceptable(clean(spikes), spikes, 0.75)


def test_the_swept_area_is_a_bound(houses: tuple[NDArray[Any], NDArray[Any]]) -> None:
    rng = np.random.default_rng(6)
    blobs = cv2.GaussianBlur(rng.random((150, 150)), (0, 0), 1.5)
    outlines = trace(blobs, np.ones(blobs.shape, bool), threshold=0.52).polygons
    for polygons, tolerance_m in ((houses[1], 1.0), (houses[1], 3.0), (outlines, 2.5)):
        found, swept = _regular(polygons, tolerance_m, 20.0)
        valid = shapely.is_valid(found)
        assert valid.mean() > 0.8
        apart = shapely.area(shapely.symmetric_difference(found[valid], polygons[valid]))
        assert (apart <= swept[valid] + 1e-9).all()


def test_too_strict_a_bound_gives_the_original(houses: tuple[NDArray[Any], NDArray[Any]]) -> None:
    found = regularize(houses[1], tolerance_m=TOLERANCE, min_iou=1.0)
    np.testing.assert_allclose(overlap(found, houses[1]), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    "odd", [shapely.Point(0, 0), Polygon(), None, shapely.MultiPolygon([COURT])]
)
def test_what_is_no_polygon_is_refused(odd: Any) -> None:
    with pytest.raises(VectorError, match="footprint 1"):
        clean(array(COURT, odd))


@pytest.mark.parametrize(
    "option",
    [
        {"tolerance_m": 0.0},
        {"tolerance_m": np.nan},
        {"tolerance_m": np.inf},
        {"angle_tolerance_deg": 46.0},
        {"angle_tolerance_deg": -1.0},
        {"min_iou": 1.5},
    ],
)
def test_impossible_options_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        regularize(array(COURT), **{"tolerance_m": 1.0, **option})


@pytest.mark.parametrize("middle", [180.0, -180.0])
def test_a_frame_across_the_180th_meridian_is_not_torn(middle: float) -> None:
    shape = box(middle - 1e-4, -17.0, middle + 2e-4, -16.9998)
    frame = gpd.GeoDataFrame({"name": ["a"]}, geometry=[shape.segmentize(1e-5)], crs="EPSG:4326")
    (found,) = regularize_frame(frame, tolerance_m=1.0).geometry
    assert shapely.get_num_coordinates(found) == 5
    assert found.bounds == pytest.approx(shape.bounds, abs=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize(("jitter_px", "gain"), [(0.3, 0.01), (0.7, 0.025)])
def test_mapped_footprints_are_found_again(
    shared_data: Path, jitter_px: float, gain: float
) -> None:
    path = shared_data / "oam_banepa/footprints/all.geojson"
    mapped = read_footprints(path, "EPSG:4326").geometry
    truth = mapped.to_crs(metric_crs(mapped)).to_numpy()[::8]
    rng = np.random.default_rng(7)
    traced = array(*(as_traced(each, rng, jitter_px, pixel=0.2) for each in truth))
    found = regularize(traced, tolerance_m=0.5)
    assert_acceptable(found, traced, 0.75)
    assert len(found) > 175
    assert overlap(found, truth).mean() > overlap(traced, truth).mean() + gain
    points = shapely.get_num_coordinates(found)
    assert points.mean() < shapely.get_num_coordinates(truth).mean() + 0.2
    assert abs(np.mean(shapely.area(found) / shapely.area(traced)) - 1) < 0.005
