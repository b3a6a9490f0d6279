"""Rasters at another resolution: seamless, on the same ground, and classes never averaged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyproj import Geod
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine

from rhm.data.rasters.raster import Raster, describe
from rhm.data.rasters.windows import Window, partition
from tests.data.imagery import HALF_METRE, noise, write_raster


def _by_windows(raster: Raster, size: int) -> tuple[Any, Any]:
    pixels, valid = (np.zeros_like(each) for each in raster.read())
    for window in partition(raster.info.height, raster.info.width, size):
        place = np.s_[
            window.row : window.row + window.height, window.col : window.col + window.width
        ]
        pixels[place], valid[place] = raster.read(window)
    return pixels, valid


@pytest.mark.parametrize("nodata", [None, 0])
@pytest.mark.parametrize("overviews", [(), (2, 4)])
@pytest.mark.parametrize("size", [32, 61])
@pytest.mark.parametrize("scale", [0.24, 0.5, 0.613, 0.9, 0.985, 1.05, 1.7, 2.0])
def test_windows_of_a_resampled_raster_join_without_seams(
    tmp_path: Path, scale: float, size: int, overviews: tuple[int, ...], nodata: int | None
) -> None:
    pixels = noise(211, 193, dtype="uint16")
    hole = np.zeros(pixels.shape[:2], dtype=bool)
    hole[40:90, 30:150] = True
    pixels[hole] = 0
    tiles: dict[str, Any] = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    path = write_raster(tmp_path / "image.tif", pixels, nodata=nodata, overviews=overviews, **tiles)
    with Raster(path, scale=scale) as raster:
        whole, valid = raster.read()
        joined, joined_valid = _by_windows(raster, size)
    np.testing.assert_array_equal(joined_valid, valid)
    if nodata is not None:
        np.testing.assert_array_equal(joined, whole)
        return
    # Only rounding may differ: GDAL adds the same weights in another order.
    off = np.abs(joined.astype(int) - whole)[valid].max(axis=-1) > 1
    assert off.mean() < 2e-4


def _weights(length: int, count: int) -> np.ndarray[Any, Any]:
    """Return the weights (count, length) of area averages, or of linear interpolation."""
    step = length / count
    weights = np.zeros((count, length))
    for each in range(count):
        if step >= 1.0:
            for pixel in range(length):
                both = min((each + 1) * step, pixel + 1) - max(each * step, pixel)
                weights[each, pixel] = max(both, 0.0) / step
        else:
            position = min(max((each + 0.5) * step - 0.5, 0.0), length - 1.0)
            for pixel in range(length):
                weights[each, pixel] = max(0.0, 1.0 - abs(position - pixel))
    return weights


def _hole(kind: str, dtype: str) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """Return pixels and validity, and how a file and a reader are told of the latter."""
    pixels = noise(37, 53, dtype="uint8").astype(dtype)
    valid = np.random.default_rng(0).random((37, 53)) < 0.8
    pixels[5, 7, 1] = pixels[6, 7, 0] = 0  # zero in one band only, which is not nodata
    if kind == "alpha":
        pixels[~valid] = 99
        opacity = np.where(valid, np.array(200, dtype), 0).astype(dtype)
        extra = {"photometric": "RGB", "alpha": "unspecified"}
        return np.dstack([pixels, opacity]), valid, extra, {}
    if kind == "mask":
        pixels[~valid] = 99
        return pixels, valid, {"mask": valid}, {}
    if kind == "nothing":
        return pixels, np.ones((37, 53), bool), {}, {}
    if kind == "not a number":
        pixels[~valid, 2] = np.nan
        return pixels, valid, {}, {}
    pixels[~valid] = 0
    return (
        pixels,
        valid,
        *(({"nodata": 0}, {}) if kind == "value" else ({}, {"black_is_nodata": True})),
    )


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *(("value", dtype) for dtype in ("uint8", "uint16", "int16", "float32")),
        *(("black", dtype) for dtype in ("uint8", "float32")),
        *(("alpha", dtype) for dtype in ("uint8", "uint16", "int16", "float32")),
        ("mask", "uint8"),
        ("nothing", "uint8"),
        ("not a number", "float32"),
    ],
)
@pytest.mark.parametrize("shape", [(37, 53), (16, 19), (12, 53), (37, 21), (55, 101), (60, 20)])
def test_a_resampled_pixel_is_the_mean_of_valid_pixels(
    tmp_path: Path, kind: str, dtype: str, shape: tuple[int, int]
) -> None:
    pixels, valid, profile, how = _hole(kind, dtype)
    path = write_raster(tmp_path / "x.tif", pixels, **profile)
    with Raster(path, shape=shape, **how) as raster:
        found, known = raster.read()
        assert raster.info.masked == (kind not in ("not a number", "nothing"))
    down, across = _weights(37, shape[0]), _weights(53, shape[1])
    rows = ((np.arange(shape[0]) + 0.5) * 37 / shape[0] + 1e-9).astype(int)
    cols = ((np.arange(shape[1]) + 0.5) * 53 / shape[1] + 1e-9).astype(int)
    np.testing.assert_array_equal(known, valid[np.ix_(rows, cols)])
    image = np.where(valid[..., None], pixels[..., :3].astype(float), 0.0)
    sums = np.einsum("ri,ijb,cj->rcb", down, image, across)
    means = sums[known] / np.einsum("ri,ij,cj->rc", down, valid, across)[known][:, None]
    # GDAL, which resamples what has no nodata along both axes in the same way, is less exact.
    both = (shape[0] < 37) == (shape[1] < 53) or 37 in shape or 53 in shape
    rounding = 1.0 if kind == "nothing" and both else 0.5
    tolerance = rounding + 1e-3 if np.dtype(dtype).kind != "f" else 1e-3
    assert np.abs(found[known] - means).max() <= tolerance


@pytest.mark.parametrize("scale", [0.24, 0.41, 0.5])
def test_overviews_change_nothing(tmp_path: Path, scale: float) -> None:
    # Large enough for windows whose overview GDAL would choose differently.
    pixels = noise(800, 700, 1)
    plain = write_raster(tmp_path / "plain.tif", pixels)
    with_overviews = write_raster(tmp_path / "overviews.tif", pixels, overviews=(2, 4))
    assert describe(with_overviews).overviews == (2, 4)
    with Raster(plain, scale=scale) as expected, Raster(with_overviews, scale=scale) as raster:
        assert raster.info.overviews == (2, 4)
        for window in (None, Window(3, 5, 131, 150)):
            np.testing.assert_array_equal(raster.read(window)[0], expected.read(window)[0])


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.97, 1.3])
def test_classes_are_never_averaged(tmp_path: Path, scale: float) -> None:
    classes = np.random.default_rng(0).choice([0, 255], (90, 70)).astype(np.uint8)
    path = write_raster(tmp_path / "mask.png", classes, crs=None)
    with Raster(path, scale=scale, categorical=True) as raster:
        whole, _ = raster.read()
        joined, _ = _by_windows(raster, 32)
    assert set(np.unique(whole)) == {0, 255}
    np.testing.assert_array_equal(joined, whole)


def test_halving_averages_and_doubling_keeps_a_plane(tmp_path: Path) -> None:
    rows, cols = np.mgrid[0:64, 0:48]
    plane = (20 + 2 * cols + rows).astype(np.uint8)
    path = write_raster(tmp_path / "plane.tif", plane)
    blocks = plane.reshape(32, 2, 24, 2).mean(axis=(1, 3))
    with Raster(path, scale=0.5) as raster:
        assert (raster.info.height, raster.info.width) == (32, 24)
        assert np.abs(raster.read()[0][..., 0] - blocks).max() <= 0.5
    with Raster(path, scale=2.0) as raster:
        double = raster.read()[0][..., 0].astype(float)
    expected = 20 + 2 * (np.arange(96) / 2 - 0.25) + (np.arange(128)[:, None] / 2 - 0.25)
    assert np.abs(double - expected)[1:-1, 1:-1].max() <= 0.51


def test_the_grid_of_a_resampled_raster_spans_the_same_ground(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "image.tif", noise(100, 77))
    stored = describe(path)
    assert stored.gsd_m == pytest.approx(0.5, rel=1e-3)
    with Raster(path, scale=0.3) as raster:
        info = raster.info
    assert (info.height, info.width) == (30, 23)
    assert info.gsd_m == pytest.approx(0.5 / 0.3, rel=5e-3)
    assert info.transform @ (info.width, info.height) == pytest.approx(
        stored.transform @ (stored.width, stored.height)
    )


def test_ground_sampling_distance_is_measured_on_the_ground(tmp_path: Path) -> None:
    def gsd(crs: str | CRS, transform: Affine) -> float | None:
        pixels = np.ones((10, 10), np.uint8)
        return describe(
            write_raster(tmp_path / "x.tif", pixels, crs=crs, transform=transform)
        ).gsd_m

    # On the central meridian UTM shrinks lengths to 0.9996.
    assert gsd("EPSG:32633", HALF_METRE) == pytest.approx(0.5 / 0.9996, rel=1e-6)
    turned = HALF_METRE @ Affine.rotation(33)
    assert gsd("EPSG:32633", turned) == pytest.approx(0.5 / 0.9996, rel=1e-6)
    # In degrees, and in Web Mercator, a pixel at 60 degrees north.
    step = 1e-5
    geod = Geod(ellps="WGS84")
    area, _ = geod.polygon_area_perimeter([0, step, step, 0], [60, 60, 60 + step, 60 + step])
    degrees = Affine(step, 0, 10, 0, -step, 60 + 5 * step)
    assert gsd("EPSG:4326", degrees) == pytest.approx(np.sqrt(area), rel=1e-4)
    mercator = Affine(1, 0, 0, 0, -1, 8_399_737.9)
    assert gsd("EPSG:3857", mercator) == pytest.approx(0.5, rel=5e-3)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (None, HALF_METRE),
        (CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]'), HALF_METRE),
        ("EPSG:32633", Affine(1e30, 0, 0, 0, -1, 0)),
        ("EPSG:4326", Affine(1, 0, 500, 0, -1, 500)),
        ("EPSG:32633", Affine(0, 0, 5, 0, -1, 0)),
    ],
    ids=["no CRS", "a local CRS", "far away", "beyond the pole", "no width"],
)
def test_without_a_place_on_earth_there_is_no_distance(
    tmp_path: Path, crs: Any, transform: Affine
) -> None:
    path = write_raster(tmp_path / "x.tif", noise(4, 4), crs=crs, transform=transform)
    assert describe(path).gsd_m is None


def test_control_points_are_those_of_the_grid_that_is_read(tmp_path: Path) -> None:
    corners = [(0, 0), (0, 90), (60, 0), (60, 90)]
    gcps = [GroundControlPoint(row, col, *(HALF_METRE @ (col, row))) for row, col in corners]
    path = write_raster(tmp_path / "x.tif", noise(60, 90), gcps=gcps)
    with Raster(path, scale=1 / 3) as raster:
        found = [(gcp.row, gcp.col, gcp.x, gcp.y) for gcp in raster.info.gcps]
        placed = [raster.info.transform @ (col, row) for row, col, _, _ in found]
    assert found == [(gcp.row / 3, gcp.col / 3, gcp.x, gcp.y) for gcp in gcps]
    assert placed == [pytest.approx((x, y)) for _, _, x, y in found]
    with Raster(path) as raster:
        assert [(gcp.row, gcp.col) for gcp in raster.info.gcps] == corners
