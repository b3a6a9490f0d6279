"""Laws of resized windows; oracles: means and areas in blocks of pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rhm.data.rasters.georeference import GridScale
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.resampling import resize_classes, resize_pixels
from rhm.data.rasters.windows import Window
from tests.data.imagery import noise, write_raster

EVERYWHERE = np.ones((60, 60), dtype=bool)


def smooth(seed: int, dtype: str = "uint8", bands: int = 3, side: int = 60) -> NDArray[Any]:
    """Pixels of slowly changing brightness."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0.1, 0.9, (7, 7, bands))
    at = np.linspace(0, 5.999, side)
    low, share = at.astype(int), (at % 1)[:, None, None]
    rows = coarse[low] * (1 - share) + coarse[low + 1] * share
    share = share.transpose(1, 0, 2)
    shares = rows[:, low] * (1 - share) + rows[:, low + 1] * share
    high = {"uint8": 255, "uint16": 2000, "int16": 900, "float32": 3.0}[dtype]
    return np.asarray(shares * high - (high / 2 if dtype == "int16" else 0)).astype(dtype)


def blocks(array: NDArray[Any], factor: int) -> NDArray[Any]:
    """(H, W, ...) as (H / factor, W / factor, factor ** 2, ...)."""
    side = len(array) // factor
    parts = array.reshape(side, factor, side, factor, *array.shape[2:]).swapaxes(1, 2)
    return parts.reshape(side, side, factor * factor, *array.shape[2:])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 4, 5, 9])
def test_a_shrunk_window_holds_the_means_of_its_pixels(dtype: str, bands: int) -> None:
    pixels = smooth(1, dtype, bands)
    seen, valid = resize_pixels(Pixels(pixels, EVERYWHERE), 20)
    assert (seen.shape, seen.dtype.name) == ((20, 20, bands), dtype)
    assert valid.all()
    means = blocks(pixels.astype(np.float64), 3).mean(axis=2)
    np.testing.assert_allclose(seen, means, atol=1e-5 if dtype == "float32" else 0.501)


def along(pixels: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """60 pixels along an axis: means of whole pixels, or interpolated between their centres."""
    length = pixels.shape[axis]
    if length >= 60:
        weights = np.repeat(np.eye(60), length // 60, axis=1) * (60 / length)
    else:
        at = (np.arange(60) + 0.5) * length / 60 - 0.5
        weights = np.array([np.interp(at, np.arange(length), one) for one in np.eye(length)]).T
    return np.moveaxis(np.tensordot(weights, pixels, axes=(1, axis)), 0, axis)


@pytest.mark.parametrize(
    "shape", [(60, 120), (180, 60), (60, 30), (20, 60), (120, 30), (20, 120), (180, 45)]
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_each_axis_of_a_window_is_averaged_or_interpolated(
    dtype: str, shape: tuple[int, int]
) -> None:
    pixels = smooth(4, dtype, side=180)[: shape[0], : shape[1]]
    seen, valid = resize_pixels(Pixels(pixels, np.ones(shape, dtype=bool)), 60)
    assert (seen.shape, seen.dtype.name) == ((60, 60, 3), dtype)
    assert valid.all()
    expected = along(along(pixels.astype(np.float64), 0), 1)
    np.testing.assert_allclose(seen, expected, atol=1e-4 if dtype == "float32" else 1.51)
    classes = (pixels[..., 0] > np.median(pixels[..., 0])).astype(np.uint8)
    shares = along(along(classes.astype(np.float64), 0), 1)
    sure = np.abs(shares - 0.5) > 0.1
    if max(shape) > 60:
        np.testing.assert_array_equal(resize_classes(classes, 60)[sure], (shares > 0.5)[sure])
    blank = np.ones(shape, dtype=bool)
    blank[: shape[0] // 2] = False
    _, known = resize_pixels(Pixels(pixels, blank), 60)
    np.testing.assert_array_equal(known, np.arange(60)[:, None] + np.zeros(60) >= 30)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_nodata_neither_counts_nor_spreads(dtype: str) -> None:
    pixels, valid = smooth(2, dtype), EVERYWHERE.copy()
    valid[10:31, 25:50] = valid[0, 0] = False
    pixels[~valid] = np.nan if dtype == "float32" else -7 if dtype == "int16" else 0
    seen, known = resize_pixels(Pixels(pixels, valid), 20)
    # The pixel in the middle of three is the nearest.
    np.testing.assert_array_equal(known, valid[1::3, 1::3])
    np.testing.assert_array_equal(seen[~known], pixels[1::3, 1::3][~known])
    kept = np.ma.masked_array(
        blocks(pixels.astype(np.float64), 3), blocks(~valid, 3)[..., None] | np.zeros(3, bool)
    )
    np.testing.assert_allclose(
        seen[known], kept.mean(axis=2)[known], atol=1e-5 if dtype == "float32" else 0.501
    )


@pytest.mark.parametrize("side", [20, 37, 60, 90, 133])
def test_a_plain_surface_stays_plain_beside_nodata(side: int) -> None:
    valid = np.random.default_rng(0).random((60, 60)) < 0.6
    pixels = np.where(valid[..., None], 117, 0).astype(np.uint8)
    seen, known = resize_pixels(Pixels(pixels, valid), side)
    np.testing.assert_array_equal(seen[..., 0], np.where(known, 117, 0))
    assert abs(known.mean() - valid.mean()) < 0.1


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("side", [24, 37, 53, 61, 85, 97])
def test_it_is_what_gdal_reads_at_that_scale(tmp_path: Path, dtype: str, side: int) -> None:
    pixels = noise(60, 60, dtype=dtype)
    image = write_raster(tmp_path / "image.tif", pixels)
    with Raster(image, scale=side / 60) as raster:
        expected, _ = raster.read()
    seen, _ = resize_pixels(Pixels(pixels, EVERYWHERE), side)
    assert seen.shape == expected.shape
    # Both round, and OpenCV interpolates bytes in steps of 1/2048.
    assert np.abs(seen.astype(np.int64) - expected).max() <= 1


def test_nodata_of_a_file_stays_where_gdal_has_it(tmp_path: Path) -> None:
    pixels = noise(60, 60) // 2 + 60
    pixels[13:29, 20:47] = 0
    image = write_raster(tmp_path / "image.tif", pixels, nodata=0)
    for side in (24, 41, 85):
        with Raster(image, scale=side / 60) as raster:
            expected, gdals = raster.read()
        seen, known = resize_pixels(Pixels(pixels, (pixels != 0)[..., 0]), side)
        assert (known != gdals).mean() < 0.01
        both = known & gdals
        # GDAL interpolates row by row, which tells at the corners of what is missing.
        off = np.abs(seen[both].astype(int) - expected[both]).max(axis=-1) > 1
        assert off.mean() < (0.002 if side > 60 else 1e-9)
        assert not seen[~known].any()


def test_classes_are_never_mixed_and_the_largest_area_wins() -> None:
    rng = np.random.default_rng(4)
    coarse = rng.choice(np.array([0, 1, 255], np.uint8), (20, 20))
    classes = coarse.repeat(3, axis=0).repeat(3, axis=1)
    np.testing.assert_array_equal(resize_classes(classes, 20), coarse, strict=True)
    # Four of nine pixels of another class change nothing, five do.
    spoilt = classes.copy().reshape(20, 3, 20, 3)
    spoilt[:, 0, :, :], spoilt[:, 1, :, 0] = 1, 1
    np.testing.assert_array_equal(resize_classes(spoilt.reshape(60, 60), 20), coarse)
    spoilt[:, 1, :, 1] = 1
    np.testing.assert_array_equal(resize_classes(spoilt.reshape(60, 60), 20), 1)
    for side in (31, 60, 77):
        seen = resize_classes(classes, side)
        assert (seen.shape, seen.dtype.name) == ((side, side), "uint8")
        assert set(np.unique(seen)) <= {0, 1, 255}
    np.testing.assert_array_equal(resize_classes(coarse, 60), classes)


def largest_areas(classes: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """The class with the largest area in each cell, among equals that in the middle if it is one.

    Areas are whole numbers of parts of a pixel.
    """
    rows, cols = classes.shape
    fine = classes.repeat(height, axis=0).repeat(width, axis=1)
    cells = fine.reshape(height, rows, width, cols)
    present = np.unique(classes)
    areas = np.array([(cells == value).sum(axis=(1, 3)) for value in present])
    places = [
        ((2 * np.arange(n) + 1) * side) // (2 * n) for n, side in ((height, rows), (width, cols))
    ]
    middle = classes[np.ix_(*places)]
    own = np.take_along_axis(areas, np.searchsorted(present, middle)[None], axis=0)[0]
    return np.where(own == areas.max(axis=0), middle, present[np.argmax(areas, axis=0)])


CLASSES = (smooth(5, bands=1)[..., 0] // 100).astype(np.uint8)


@pytest.mark.parametrize("side", [24, 30, 37, 40, 53])
def test_a_pixel_has_the_class_of_most_of_its_area(tmp_path: Path, side: int) -> None:
    """Law: masks are read at another resolution as chips are resized to one."""
    assert len(np.unique(CLASSES)) == 3
    expected = largest_areas(CLASSES, side, side)
    np.testing.assert_array_equal(resize_classes(CLASSES, side), expected)
    mask = write_raster(tmp_path / "mask.tif", CLASSES)
    with Raster(mask, scale=side / 60, categorical=True) as raster:
        np.testing.assert_array_equal(raster.read().values[..., 0], expected)
        part = raster.read(Window(3, 11, 9, 40)).values[..., 0]
    inside = expected[3:12, 11:51]
    np.testing.assert_array_equal(part[:, : inside.shape[1]], inside)


@pytest.mark.parametrize(("down", "across"), [(0.5, 0.8), (0.7, 1.0), (0.6, 1.4)])
def test_classes_keep_their_areas_along_each_axis(
    tmp_path: Path, down: float, across: float
) -> None:
    mask = write_raster(tmp_path / "mask.tif", CLASSES)
    with Raster(mask, scale=GridScale(down, across), categorical=True) as raster:
        seen = raster.read().values[..., 0]
    expected = largest_areas(CLASSES, round(60 * down), round(60 * across))
    np.testing.assert_array_equal(seen, expected)


def test_colours_and_nodata_are_classes(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [0, 0, 255], [0, 255, 0], [9, 9, 9]], np.uint16)
    codes = np.random.default_rng(0).integers(0, 4, (60, 60)).astype(np.uint8)
    mask = write_raster(tmp_path / "mask.tif", colours[codes], nodata=9)
    with Raster(mask, scale=0.4, categorical=True) as raster:
        values, valid = raster.read()
    expected = largest_areas(codes, 24, 24)
    np.testing.assert_array_equal(values, colours[expected])
    np.testing.assert_array_equal(valid, expected != 3)


@pytest.mark.parametrize(("dtype", "bands"), [("uint8", 3), ("uint16", 4), ("uint8", 1)])
def test_masks_may_have_more_colours_than_a_byte_has_values(
    tmp_path: Path, dtype: str, bands: int
) -> None:
    """Law: where a cell has one class, it keeps it, whatever the number of classes."""
    most = np.iinfo(dtype).max
    rng = np.random.default_rng(0)
    colours = rng.integers(0, most, (30, 30, bands), endpoint=True).astype(dtype)
    colours[0, 0], colours[-1, -1] = 0, most
    mask = write_raster(tmp_path / "mask.tif", colours.repeat(2, axis=0).repeat(2, axis=1))
    with Raster(mask, scale=0.5, categorical=True) as raster:
        np.testing.assert_array_equal(raster.read().values, colours)
    mixed = write_raster(tmp_path / "mixed.tif", colours)
    with Raster(mixed, scale=0.4, categorical=True) as raster:
        seen = raster.read().values.reshape(-1, bands)
    known = {tuple(colour) for colour in colours.reshape(-1, bands).tolist()}
    assert {tuple(colour) for colour in seen.tolist()} <= known


@pytest.mark.parametrize("scale", [0.5, 0.25, 1 / 3, 0.6])
def test_buildings_keep_their_area_on_average(tmp_path: Path, scale: float) -> None:
    """Law: where half of a cell is building, it is building as often as not."""
    rng = np.random.default_rng(0)
    truth = np.zeros((1200, 1200), np.uint8)
    for row in range(20, 1150, 50):
        for col in range(20, 1150, 50):
            top, left, height, width = rng.integers((row - 8, col - 8, 16, 16), (row, col, 36, 36))
            truth[top : top + height, left : left + width] = 1
    mask = write_raster(tmp_path / "mask.tif", truth)
    with Raster(mask, scale=scale, categorical=True) as raster:
        seen = raster.read().values[..., 0].mean()
    assert seen == pytest.approx(truth.mean(), rel=0.01)
    assert resize_classes(truth, round(1200 * scale)).mean() == pytest.approx(
        truth.mean(), rel=0.01
    )


def test_groups_come_before_classes(tmp_path: Path) -> None:
    """Three houses and the ground between them: building, and one of the houses."""
    values = np.tile(np.array([[1, 2], [3, 0]], np.uint8), (4, 4))
    mask = write_raster(tmp_path / "mask.tif", values)
    with Raster(mask, scale=0.5, categorical=True) as raster:
        raster.group_of = lambda pixels: (pixels.values[..., 0] > 0).astype(np.uint8)
        assert (raster.read().values > 0).all()


def test_a_mask_says_what_its_image_shows(tmp_path: Path) -> None:
    """Law: the average of an image of two values is nearer to that of the mask."""
    truth = (smooth(6, bands=1)[..., 0] > 128).astype(np.uint8)
    image = write_raster(tmp_path / "image.tif", 200 * truth[..., None].repeat(3, axis=2))
    mask = write_raster(tmp_path / "mask.tif", truth)
    for scale in (0.4, 0.6, 0.75):
        with (
            Raster(image, scale=scale) as raster,
            Raster(mask, scale=scale, categorical=True) as label,
        ):
            shown, told = (each.read().values[..., 0] for each in (raster, label))
        clear = np.abs(shown.astype(float) - 100.0) > 2.0
        np.testing.assert_array_equal(told[clear] == 1, shown[clear] > 100)


def test_a_window_of_that_size_is_itself() -> None:
    pixels = noise(60, 60)
    seen, _ = resize_pixels(Pixels(pixels, EVERYWHERE), 60)
    np.testing.assert_array_equal(seen, pixels, strict=True)
