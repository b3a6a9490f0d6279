import warnings
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Geod
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin
from shapely import box

from rhm.data.footprints import burn
from rhm.data.rasters.cog import writing_cog
from rhm.errors import ConfigError, RasterError
from rhm.inference.layers.vector_files import Footprints, write_footprints
from rhm.inference.polygons import polygonize

UTM = "EPSG:32633"
GRID = Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)


def _write(
    path: Path,
    values: NDArray[Any],
    *,
    crs: str | None = UTM,
    transform: Affine = GRID,
    nodata: float | None = None,
    scale: float = 1.0,
) -> Path:
    bands = values if values.ndim == 3 else values[None]
    profile = {"driver": "GTiff", "height": bands.shape[1], "width": bands.shape[2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            count=len(bands),
            dtype=bands.dtype,
            crs=crs,
            transform=transform,
            nodata=nodata,
            **profile,
        ) as raster:
            raster.write(bands)
            raster.scales = (scale,) * len(bands)
    return path


def _two_houses() -> NDArray[np.float32]:
    """A courtyard house of 24 + 8 pixels, and a hut of 2 x 3 pixels."""
    probability = np.full((20, 30), 0.1, np.float32)
    probability[2:8, 3:9] = 0.8
    probability[4:6, 5:7] = 0.2
    probability[12:14, 20:23] = 0.6
    return probability


def test_polygonize_measures_score_and_area(tmp_path: Path) -> None:
    frame = polygonize(_write(tmp_path / "p.tif", _two_houses()))
    assert list(frame.columns) == ["score", "area_m2", "geometry"]
    assert frame.crs == UTM
    np.testing.assert_allclose(frame["score"], [0.8, 0.6], atol=1e-6)
    courtyard_house, hut = frame.geometry
    assert courtyard_house.equals(
        box(500_001.5, 4_999_996, 500_004.5, 4_999_999).difference(
            box(500_002.5, 4_999_997, 500_003.5, 4_999_998)
        )
    )
    assert hut.equals(box(500_010, 4_999_993, 500_011.5, 4_999_994))
    # A UTM map's squares are (0.9996)^2 of the ground's on the central meridian.
    np.testing.assert_allclose(frame["area_m2"] * 0.9996**2, [8.0, 1.5], rtol=1e-6)


def test_eight_bit_levels_are_read_through_their_scale(tmp_path: Path) -> None:
    values = np.full((6, 9), 20, np.uint8)
    values[1:3, 1:3], values[1:3, 5:7], values[4, 1:8], values[5] = 254, 127, 126, 255
    path = tmp_path / "levels.tif"
    with writing_cog(
        path,
        height=6,
        width=9,
        dtype="uint8",
        nodata=255,
        crs=rasterio.crs.CRS.from_string(UTM),
        transform=GRID,
        scale=1 / 254,
    ) as raster:
        raster.write(values, 1)
    frame = polygonize(path)  # level 127 is one half, nodata is nothing
    assert frame["score"].tolist() == [1.0, 0.5]


@pytest.mark.parametrize("nodata", [np.nan, -1.0])
def test_nodata_belongs_to_no_building(tmp_path: Path, nodata: float) -> None:
    probability = _two_houses()
    probability[:, :6] = nodata
    frame = polygonize(_write(tmp_path / "p.tif", probability, nodata=nodata))
    assert frame.geometry[0].bounds[0] == 500_003
    np.testing.assert_allclose(frame["score"], [0.8, 0.6], atol=1e-6)


@pytest.mark.parametrize("crs", [UTM, None])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_nothing_to_see_gives_an_empty_frame(tmp_path: Path, crs: str | None, value: float) -> None:
    values = np.full((4, 5), value, np.float32)
    path = _write(tmp_path / "p.tif", values, crs=crs, nodata=np.nan)
    frame = polygonize(path, simplify_m=1.0, min_area_m2=1.0)
    full = polygonize(_write(tmp_path / "full.tif", _two_houses(), crs=crs))
    assert len(frame) == 0
    assert frame.crs == full.crs == crs
    assert frame.dtypes.to_dict() == full.dtypes.to_dict()
    assert list(frame.columns) == list(full.columns)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:2263", UTM])
def test_areas_are_square_metres_in_any_crs(tmp_path: Path, crs: str) -> None:
    # The same pixel of about half a metre in Manhattan, in degrees, stretched metres and feet.
    centre = gpd.GeoSeries.from_xy([-73.97], [40.78], crs="EPSG:4326").to_crs(crs)
    step = {"EPSG:4326": 5e-6, "EPSG:2263": 1.6}.get(crs, 0.6)
    transform = Affine(step, 0, centre.x[0], 0, -step, centre.y[0])
    frame = polygonize(_write(tmp_path / "p.tif", _two_houses(), crs=crs, transform=transform))
    on_globe = frame.to_crs("EPSG:4326")
    geod = Geod(ellps="WGS84")
    expected = [abs(geod.geometry_area_perimeter(house)[0]) for house in on_globe.geometry]
    np.testing.assert_allclose(frame["area_m2"], expected, rtol=1e-4)
    between = (expected[0] + expected[1]) / 2
    assert len(polygonize(tmp_path / "p.tif", min_area_m2=between)) == 1


def test_rotated_raster(tmp_path: Path) -> None:
    transform = Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(2, -1)
    path = _write(tmp_path / "p.tif", _two_houses(), transform=transform)
    frame = polygonize(path)
    corners = [transform @ (x, y) for x, y in ((20, 12), (23, 12), (23, 14), (20, 14))]
    assert shapely.equals_exact(
        frame.geometry[1].normalize(), shapely.Polygon(corners).normalize(), tolerance=1e-6
    )
    np.testing.assert_array_equal(burn(frame, transform, 20, 30) > 0, _two_houses() >= 0.5)


def test_raster_without_crs_is_measured_in_pixels(tmp_path: Path) -> None:
    transform = Affine(10, 0, 100, 0, -10, 200)
    path = _write(tmp_path / "p.tif", _two_houses(), crs=None, transform=transform)
    frame = polygonize(path, min_area_m2=7, simplify_m=0.1)
    assert frame.crs is None
    assert frame["area_m2"].tolist() == [32.0]
    assert frame.geometry[0].bounds == (130, 120, 190, 180)
    plain = polygonize(
        _write(tmp_path / "plain.tif", _two_houses(), crs=None, transform=Affine.identity())
    )
    assert plain.geometry[1].bounds == (20, 12, 23, 14)


def test_faint_buildings_are_left_out(tmp_path: Path) -> None:
    path = _write(tmp_path / "p.tif", _two_houses())
    assert len(polygonize(path, min_score=0.7)) == 1
    assert len(polygonize(path, threshold=0.7)) == 1
    assert len(polygonize(path, threshold=0.05)) == 1  # all of the scene is one


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 5.0))
def test_simplified_outlines_are_valid_and_near(
    tmp_path_factory: pytest.TempPathFactory, seed: int, tolerance_m: float
) -> None:
    rng = np.random.default_rng(seed)
    rough = np.kron(rng.random((12, 12)), np.ones((3, 3))) * rng.uniform(0.8, 1, (36, 36))
    path = _write(tmp_path_factory.mktemp("simple") / "p.tif", rough.astype(np.float32))
    exact, simple = polygonize(path), polygonize(path, simplify_m=tolerance_m)
    assert simple.is_valid.all()
    assert set(simple.geom_type) <= {"Polygon"}
    corners = simple.geometry.count_coordinates().sum()
    assert corners <= exact.geometry.count_coordinates().sum()
    assert simple.union_all().hausdorff_distance(exact.union_all()) <= 2 * tolerance_m + 1e-3


def test_simplification_straightens_a_staircase(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:40, :40]
    frame = polygonize(
        _write(tmp_path / "p.tif", (columns <= rows).astype(np.float32)), simplify_m=0.6
    )
    assert len(frame.geometry[0].exterior.coords) <= 6
    np.testing.assert_allclose(frame["area_m2"], frame.area / 0.9996**2, rtol=1e-6)


@pytest.mark.parametrize("crs", ["EPSG:4326", UTM, None])
def test_regularised_footprints_are_right_angled(tmp_path: Path, crs: str | None) -> None:
    # A house of 13 by 8 m, turned by 25 degrees, half a metre a pixel wherever that is on Earth.
    pixel = Affine.scale(0.5, -0.5)
    if crs == "EPSG:4326":
        at_45_degrees = Affine.scale(1 / 78_847, 1 / 111_132)
        pixel = Affine.translation(15, 45) @ at_45_degrees @ pixel
    elif crs == UTM:
        pixel = Affine.translation(500_000, 5_000_000) @ pixel
    rows, columns = np.mgrid[:60, :60] - 29.5
    cos, sin = np.cos(np.radians(25)), np.sin(np.radians(25))
    house = (np.abs(columns * cos + rows * sin) < 13) & (np.abs(rows * cos - columns * sin) < 8)
    path = _write(tmp_path / "p.tif", house.astype(np.float32) * 0.9, crs=crs, transform=pixel)
    tolerance = 2.5 if crs is None else 1.25
    traced, clean = polygonize(path), polygonize(path, regularize_m=tolerance, simplify_m=9.0)
    assert clean.crs == crs
    in_metres = clean.to_crs(clean.estimate_utm_crs()) if crs else clean
    corners = np.asarray(in_metres.geometry[0].exterior.coords)
    assert len(corners) == 5
    walls = np.diff(corners, axis=0)
    np.testing.assert_allclose((walls * np.roll(walls, 1, axis=0)).sum(axis=1), 0, atol=0.05)
    np.testing.assert_allclose(clean["area_m2"], traced["area_m2"], rtol=0.02)
    assert clean["score"].equals(traced["score"])


@pytest.mark.parametrize(
    ("crs", "pixel"), [("EPSG:4326", 0.3 / 111_132), ("EPSG:2263", 0.3 / 0.3048), (None, 1.0)]
)
def test_buildings_are_split_at_necks_measured_in_metres(
    tmp_path: Path, crs: str | None, pixel: float
) -> None:
    # Two houses of 6 by 6 m and a passage of 1.2 m, at 0.3 m a pixel.
    probability = np.zeros((30, 60), np.float32)
    probability[5:25, 5:25] = probability[5:25, 33:53] = probability[13:17, 25:33] = 0.9
    degrees = crs == "EPSG:4326"
    transform = Affine(pixel, 0, 0.0 if degrees else 983_000, 0, -pixel, 0 if degrees else 199_000)
    path = _write(tmp_path / "p.tif", probability, crs=crs, transform=transform)
    unit = 1.0 if crs else 1 / 0.3
    assert len(polygonize(path)) == 1
    assert len(polygonize(path, split_m=2.2 * unit)) == 2
    assert len(polygonize(path, split_m=2.8 * unit)) == 1
    houses = polygonize(path, split_m=2.0 * unit, regularize_m=0.7 * unit)
    np.testing.assert_allclose(houses["area_m2"], 36 * unit**2, rtol=0.05)


def test_rows_follow_the_last_pixels(tmp_path: Path) -> None:
    probability = np.random.default_rng(0).random((60, 60)).astype(np.float32)
    frame = polygonize(_write(tmp_path / "p.tif", probability, transform=Affine.scale(1, 1)))
    bottoms = frame.bounds["maxy"].to_numpy()
    assert (np.diff(bottoms) >= 0).all()
    again = polygonize(tmp_path / "p.tif")
    assert frame.equals(again)


@pytest.mark.parametrize("pixels", [1, 37 * 3, 37 * 16])
@pytest.mark.parametrize("cleaning", [{"simplify_m": 0.4}, {"regularize_m": 1.0, "split_m": 1.0}])
def test_bands_of_any_height_give_the_same_frame(
    tmp_path: Path, pixels: int, cleaning: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    probability = np.random.default_rng(1).random((50, 37)).astype(np.float32)
    path = _write(tmp_path / "p.tif", probability)
    options = {"min_area_m2": 0.5, "min_score": 0.6, **cleaning}
    whole = polygonize(path, **options)
    monkeypatch.setattr("rhm.data.rasters.windows.BAND_PIXELS", pixels)
    banded = polygonize(path, **options)
    assert banded.equals(whole)
    assert len(whole) > 20


def test_footprints_of_ground_control_points(tmp_path: Path) -> None:
    """Control points on the corners of a rotated grid place outlines as its transform does."""
    turned = GRID @ Affine.rotation(30.0)
    placed = polygonize(_write(tmp_path / "turned.tif", _two_houses(), transform=turned))
    corners = [(0, 0), (20, 0), (0, 30), (20, 30)]
    points = [GroundControlPoint(row, col, *(turned @ (col, row))) for row, col in corners]
    path = _write(tmp_path / "points.tif", _two_houses(), crs=None, transform=Affine.identity())
    with rasterio.open(path, "r+") as raster:
        raster.gcps = (points, rasterio.crs.CRS.from_string(UTM))
    frame = polygonize(path)
    assert frame.crs == UTM
    assert frame.geometry.hausdorff_distance(placed.geometry).max() < 1e-3
    np.testing.assert_allclose(frame["area_m2"], placed["area_m2"], rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((4, 4), 200, np.uint8), "not probabilities"),
        (np.full((4, 4), -0.5, np.float32), "not probabilities"),
        (np.zeros((3, 4, 4), np.uint8), "has 3 bands"),
    ],
)
def test_other_rasters_are_refused(tmp_path: Path, values: NDArray[Any], message: str) -> None:
    with pytest.raises(RasterError, match=message):
        polygonize(_write(tmp_path / "p.tif", values))


def test_unreadable_rasters_are_errors_of_one_line(tmp_path: Path) -> None:
    whole = _write(tmp_path / "whole.tif", np.random.default_rng(0).random((64, 64)))
    (tmp_path / "cut.tif").write_bytes(whole.read_bytes()[:9000])
    (tmp_path / "text.tif").write_text("not a raster")
    for name in ("cut.tif", "text.tif", "missing.tif"):
        with pytest.raises(RasterError, match=name) as caught:
            polygonize(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "option",
    [
        {"threshold": 1.5},
        {"min_score": -0.1},
        {"min_area_m2": -1},
        {"simplify_m": np.nan},
        {"regularize_m": -0.1},
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, option: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        polygonize(tmp_path / "p.tif", **option)


@pytest.mark.parametrize("straight", [{"simplify_m": 1.0}, {"regularize_m": 2.0}], ids=str)
@pytest.mark.parametrize(
    ("crs", "left", "top", "pixel"),
    [
        ("EPSG:4326", 179.9995, 10.0, 1e-5),
        ("EPSG:4326", -180.0005, 10.0, 1e-5),
        ("EPSG:3857", 20_037_508.34 - 50, 1e6, 1.0),
        ("EPSG:3857", -20_037_508.34 - 50, 1e6, 1.0),
    ],
)
def test_a_building_across_the_180th_meridian_stays_whole(
    tmp_path: Path, straight: dict[str, float], crs: str, left: float, top: float, pixel: float
) -> None:
    path = tmp_path / "probability.tif"
    probability = np.zeros((1, 60, 90), np.float32)
    probability[0, 10:40, 20:70] = 1.0  # the meridian is in column 50
    profile = {"driver": "GTiff", "height": 60, "width": 90, "count": 1, "dtype": "float32"}
    transform = from_origin(left, top, pixel, pixel)
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as raster:
        raster.write(probability)
    (traced,) = polygonize(path).itertuples()
    (made,) = polygonize(path, **straight).itertuples()
    expected = np.array([20, -40, 70, -10]) * pixel + [left, top, left, top]
    assert traced.geometry.bounds == pytest.approx(expected, abs=1e-3 * pixel)
    assert made.geometry.bounds == pytest.approx(traced.geometry.bounds, abs=0.01 * pixel)
    assert made.area_m2 == pytest.approx(traced.area_m2, rel=1e-4)
    moved = made.geometry.symmetric_difference(traced.geometry).area
    assert moved < 1e-4 * traced.geometry.area


def test_geojson_of_a_utm_scene_across_the_180th_meridian(tmp_path: Path) -> None:
    box = gpd.GeoSeries([shapely.box(179.9999, 0.0, 180.0001, 0.0002)], crs="EPSG:4326")
    house = box.to_crs("EPSG:32660").to_numpy()
    path = tmp_path / "buildings.geojson"
    batch = Footprints(house, np.array([0.9]), np.array([490.0]))
    write_footprints([batch], "EPSG:32660", path)
    (read,) = gpd.read_file(path).geometry
    # RFC 7946, section 3.1.9: cut there, so that no part is as wide as the Earth.
    parts = sorted(part.bounds for part in shapely.get_parts(read))
    assert [part[2] - part[0] for part in parts] == pytest.approx([1e-4, 1e-4], abs=1e-6)
    assert (parts[0][0], parts[1][2]) == pytest.approx((-180.0, 180.0))
