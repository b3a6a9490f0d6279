from functools import partial
from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely import Polygon, affinity, box

from rhm.data.footprints import burn, metric_crs, read_footprints
from rhm.errors import ConfigError, VectorError
from rhm.inference.regularization import regularize, regularize_frame
from rhm.inference.regularization.regularize import _regular
from rhm.inference.tracing.components import trace

UTM = "EPSG:32645"
PIXEL = 0.4
TOLERANCE = 1.0  # two and a half pixels

L_SHAPE = Polygon([(0, 0), (16, 0), (16, 7), (8, 7), (8, 14), (0, 14)])
U_SHAPE = Polygon([(0, 0), (18, 0), (18, 12), (12, 12), (12, 5), (6, 5), (6, 12), (0, 12)])
COURT = box(0, 0, 20, 16) - box(6, 5, 13, 11)
CUT_CORNER = Polygon([(0, 0), (15, 0), (15, 6), (9, 12), (0, 12)])
LEANING = Polygon([(0, 0), (16, 0), (11, 10), (0, 10)])


def _array(*polygons: Any) -> NDArray[Any]:
    array = np.empty(len(polygons), dtype=object)
    array[:] = polygons
    return array


def _iou(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    # Of outlines that differ in the last bit, GEOS may lose the overlay in one of the two orders.
    common = np.maximum(
        shapely.area(shapely.intersection(one, other)),
        shapely.area(shapely.intersection(other, one)),
    )
    iou: NDArray[np.float64] = common / (shapely.area(one) + shapely.area(other) - common)
    return iou


def _corner_angles(polygon: Any) -> NDArray[np.float64]:
    """Degrees between successive walls of a shell."""
    walls = np.diff(shapely.get_coordinates(polygon.exterior), axis=0)
    heading = np.degrees(np.arctan2(walls[:, 1], walls[:, 0]))
    angles: NDArray[np.float64] = np.abs((np.diff(heading, append=heading[0]) + 180) % 360 - 180)
    return angles


def _heading(polygon: Any) -> float:
    """Degrees of the longest wall from an axis, -45 to 45."""
    walls = np.diff(shapely.get_coordinates(polygon.exterior), axis=0)
    x, y = walls[np.argmax(np.hypot(*walls.T))]
    return float((np.degrees(np.arctan2(y, x)) + 45) % 90 - 45)


def _traced(
    building: Any, rng: np.random.Generator, jitter_px: float = 0.5, pixel: float = PIXEL
) -> Any:
    """The outline of a building as traced from pixels: ragged, corners rounded."""
    left, bottom, right, top = building.bounds
    width, height = int((right - left) / pixel) + 13, int((top - bottom) / pixel) + 13
    grid = Affine(pixel, 0, left - 6 * pixel, 0, -pixel, top + 6 * pixel)
    mask = burn([building], grid @ Affine.scale(0.25), 4 * height, 4 * width)
    blurred = cv2.GaussianBlur(mask.astype(np.float64), (0, 0), 6.0)[2::4, 2::4]
    noise = cv2.GaussianBlur(rng.standard_normal(blurred.shape), (0, 0), 1.5)
    # The blur rises by about a quarter a pixel across a wall.
    probability = np.clip(blurred + 0.25 * jitter_px * noise * 3 * np.sqrt(np.pi), 0, 1)
    outlines = trace(probability, np.ones(blurred.shape, bool)).polygons
    return affinity.affine_transform(outlines[np.argmax(shapely.area(outlines))], grid.to_shapely())


def _placed(building: Any, rng: np.random.Generator) -> Any:
    return affinity.rotate(
        affinity.translate(building, *rng.uniform(0, 99, 2)), rng.uniform(0, 360)
    )


@pytest.fixture(scope="module")
def rectangles() -> tuple[NDArray[Any], NDArray[Any]]:
    """120 rectangles, as they are and as traced."""
    rng = np.random.default_rng(1)
    sides = rng.uniform(8, 28, (120, 2))
    truth = _array(*(_placed(box(0, 0, *pair), rng) for pair in sides))
    return truth, _array(*(_traced(each, rng) for each in truth))


@pytest.fixture(scope="module")
def houses() -> tuple[NDArray[Any], NDArray[Any]]:
    """60 houses with wings, courts and oblique walls, as they are and as traced."""
    rng = np.random.default_rng(2)
    kinds = (L_SHAPE, U_SHAPE, COURT, CUT_CORNER, LEANING)
    truth = _array(*(_placed(kinds[index % 5], rng) for index in range(60)))
    return truth, _array(*(_traced(each, rng) for each in truth))


clean = partial(regularize, tolerance_m=TOLERANCE)


def test_ragged_rectangles_become_rectangles(
    rectangles: tuple[NDArray[Any], NDArray[Any]],
) -> None:
    truth, traced = rectangles
    found = clean(traced)
    assert shapely.get_num_coordinates(traced).mean() > 80
    four = shapely.get_num_coordinates(found) == 5
    assert four.mean() > 0.97
    for polygon in found[four]:
        np.testing.assert_allclose(_corner_angles(polygon), 90, atol=1e-6)
    assert _iou(found, truth).mean() > _iou(traced, truth).mean() + 0.02
    assert _iou(found, truth).mean() > 0.955


def test_directions_are_known_to_less_than_a_degree(
    rectangles: tuple[NDArray[Any], NDArray[Any]],
) -> None:
    found = [_heading(polygon) for polygon in clean(rectangles[1])]
    true = [_heading(polygon) for polygon in rectangles[0]]
    away = np.abs((np.subtract(found, true) + 45) % 90 - 45)
    assert away.mean() < 0.6
    assert np.quantile(away, 0.9) < 1.2


def test_houses_keep_their_shapes(houses: tuple[NDArray[Any], NDArray[Any]]) -> None:
    truth, traced = houses
    found = clean(traced)
    assert _iou(found, truth).mean() > 0.94
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
    found = regularize(_array(turned), tolerance_m=tolerance_m)[0]
    assert shapely.hausdorff_distance(found, turned) < 1e-6
    assert shapely.get_num_coordinates(found) == shapely.get_num_coordinates(turned)


@pytest.mark.parametrize("angle", [0, 17, 45, 80])
def test_oblique_walls_stay_oblique(angle: int) -> None:
    rng = np.random.default_rng(angle)
    for building, oblique in ((CUT_CORNER, 45.0), (LEANING, np.degrees(np.arctan2(10, 5)))):
        found = clean(_array(_traced(affinity.rotate(building, angle), rng, jitter_px=0.3)))[0]
        angles = np.sort(_corner_angles(found))
        right = np.isclose(angles, 90, atol=1e-6)
        assert right.sum() == len(angles) - 2
        np.testing.assert_allclose(angles[~right].min(), min(oblique, 180 - oblique), atol=5)


def test_walls_beyond_the_angle_tolerance_stay(houses: tuple[NDArray[Any], NDArray[Any]]) -> None:
    slanting = Polygon([(0, 0), (20, 0), (20, 10), (0, 14)])  # by 11 degrees
    strict = clean(_array(slanting), angle_tolerance_deg=5)[0]
    assert shapely.hausdorff_distance(strict, slanting) < 1e-6
    loose = clean(_array(slanting), angle_tolerance_deg=20)[0]
    np.testing.assert_allclose(_corner_angles(loose), 90, atol=1e-6)
    coarse = clean(_array(slanting), tolerance_m=2.0)[0]  # its ends differ by two tolerances
    np.testing.assert_allclose(_corner_angles(coarse), 90, atol=1e-6)
    all_square = clean(houses[1], angle_tolerance_deg=45, min_iou=0.0)
    angles = np.concatenate([_corner_angles(each) for each in all_square])
    np.testing.assert_allclose(angles, 90, atol=1e-6)


def test_a_staircase_of_pixels_is_one_wall() -> None:
    rows, columns = np.mgrid[:40, :40]
    half = (columns <= rows).astype(np.float64)
    (triangle,) = trace(half, np.ones_like(half, bool)).polygons
    found = regularize(_array(triangle), tolerance_m=2.5)[0]
    assert shapely.get_num_coordinates(found) == 4
    np.testing.assert_allclose(np.sort(_corner_angles(found)), [90, 135, 135], atol=1.5)
    assert abs(found.area / triangle.area - 1) < 0.01


@pytest.mark.parametrize(("depth", "points"), [(0.3, 5), (0.9, 5), (1.5, 7), (3.0, 7)])
def test_steps_below_the_tolerance_disappear(depth: float, points: int) -> None:
    stepped = Polygon([(0, 0), (20, 0), (20, 8), (12, 8), (12, 8 + depth), (0, 8 + depth)])
    found = clean(_array(stepped))[0]
    assert shapely.get_num_coordinates(found) == points
    np.testing.assert_allclose(_corner_angles(found), 90, atol=1e-6)
    assert abs(found.area / stepped.area - 1) < 0.002
    assert abs(_heading(found)) < 1.0  # a step is no slope


def test_holes_are_kept_unless_they_are_small() -> None:
    pierced = box(0, 0, 20, 16) - box(5, 5, 9, 10) - box(14, 3, 15.9, 5)
    found = clean(_array(pierced))[0]
    assert shapely.hausdorff_distance(found, box(0, 0, 20, 16) - box(5, 5, 9, 10)) < 1e-6
    finer = regularize(_array(pierced), tolerance_m=0.5)[0]
    assert shapely.hausdorff_distance(finer, pierced) < 1e-6


@pytest.mark.parametrize("radius", [7.0, 9.0, 20.0])  # of the smallest, squares may remain
def test_round_buildings_stay_round(radius: float) -> None:
    rng = np.random.default_rng(3)
    circle = shapely.Point(3, 4).buffer(radius, quad_segs=64)
    found = clean(_array(circle, _traced(circle, rng, 0.3)))
    assert (_iou(found, _array(circle, circle)) > 0.9).all()
    assert (shapely.get_num_coordinates(found) > 6).all()


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
        return _array(*(affinity.rotate(each, by, origin=(0, 0)) for each in polygons))

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
    others = _array(*map(rolled, traced, by)), shapely.reverse(traced)
    for other in others:
        away = shapely.hausdorff_distance(clean(other), expected)
        assert (away < 1e-9).mean() > 0.97
        assert away.max() < 2 * TOLERANCE


def test_buildings_do_not_know_of_each_other(houses: tuple[NDArray[Any], NDArray[Any]]) -> None:
    together = clean(houses[1])
    alone = np.concatenate([clean(houses[1][index : index + 1]) for index in range(60)])
    assert shapely.equals_exact(together, alone, 1e-9).all()
    assert shapely.equals_exact(together, clean(houses[1]), 0).all()


def _assert_acceptable(found: NDArray[Any], given: NDArray[Any], min_iou: float) -> None:
    assert len(found) == len(given)
    assert (shapely.get_type_id(found) == shapely.GeometryType.POLYGON.value).all()
    assert shapely.is_valid(found).all()
    assert not shapely.is_empty(found).any()
    assert (_iou(found, given) >= min_iou - 1e-5).all()


@settings(max_examples=150, deadline=None)
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
    _assert_acceptable(found, outlines, min_iou)


@settings(max_examples=150, deadline=None)
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
    _assert_acceptable(clean(parts), parts, 0.75)


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
        found = regularize(_array(polygon), tolerance_m=tolerance_m)
        _assert_acceptable(found, _array(polygon), 0.75)


def test_huge_outlines() -> None:
    rng = np.random.default_rng(5)
    angle = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rough = _array(*(Polygon(around * rng.normal(100, 1, (10_000, 1))) for _ in range(45)))
    found = regularize(rough, tolerance_m=5.0)
    _assert_acceptable(found, rough, 0.95)
    assert shapely.get_num_coordinates(found).max() < 40
    spikes = _array(Polygon(around * rng.uniform(20, 100, (10_000, 1))))
    _assert_acceptable(clean(spikes), spikes, 0.75)


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
    np.testing.assert_allclose(_iou(found, houses[1]), 1.0, atol=1e-5)


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


@pytest.mark.parametrize(
    "odd", [shapely.Point(0, 0), Polygon(), None, shapely.MultiPolygon([COURT])]
)
def test_what_is_no_polygon_is_refused(odd: Any) -> None:
    with pytest.raises(VectorError, match="footprint 1"):
        clean(_array(COURT, odd))


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
        regularize(_array(COURT), **{"tolerance_m": 1.0, **option})


@pytest.mark.shared
@pytest.mark.parametrize(("jitter_px", "gain"), [(0.3, 0.01), (0.7, 0.025)])
def test_mapped_footprints_are_found_again(
    shared_data: Path, jitter_px: float, gain: float
) -> None:
    path = shared_data / "oam_banepa/footprints/all.geojson"
    mapped = read_footprints(path, "EPSG:4326").geometry
    truth = mapped.to_crs(metric_crs(mapped)).to_numpy()[::4]
    rng = np.random.default_rng(7)
    traced = _array(*(_traced(each, rng, jitter_px, pixel=0.2) for each in truth))
    found = regularize(traced, tolerance_m=0.5)
    _assert_acceptable(found, traced, 0.75)
    assert len(found) > 350
    assert _iou(found, truth).mean() > _iou(traced, truth).mean() + gain
    points = shapely.get_num_coordinates(found)
    assert points.mean() < shapely.get_num_coordinates(truth).mean() + 0.2
    assert abs(np.mean(shapely.area(found) / shapely.area(traced)) - 1) < 0.005
