import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyproj import Geod
from rasterio.crs import CRS
from rasterio.transform import Affine

from rhm.data.rasters.raster import Raster, describe
from rhm.data.rasters.windows import Window, partition
from rhm.errors import RasterError
from tests.data.imagery import HALF_METRE, noise, write_raster

HOLE = np.s_[3:9, 2:7]


def _with_hole(dtype: str = "uint8") -> tuple[Any, Any]:
    pixels = noise(20, 30, dtype=dtype)
    valid = np.ones((20, 30), dtype=bool)
    pixels[HOLE], valid[HOLE] = 0, False
    return pixels, valid


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("declared", ["nodata", "mask", "alpha", "black", "nothing"])
def test_pixels_and_validity_come_back(tmp_path: Path, dtype: str, declared: str) -> None:
    pixels, valid = _with_hole(dtype)
    path = tmp_path / "image.tif"
    if declared == "alpha":
        opaque = np.where(valid, np.iinfo(dtype).max, 0).astype(dtype)
        write_raster(path, np.dstack([pixels, opaque]), alpha=True)
    elif declared == "mask":
        write_raster(path, pixels, mask=valid)
    else:
        write_raster(path, pixels, nodata=0 if declared == "nodata" else None)
    with Raster(path, black_is_nodata=declared == "black") as raster:
        read, found = raster.read()
        assert raster.info.masked == (declared != "nothing")
        assert raster.info.bands == (1, 2, 3)
        assert raster.info.nodata == (0 if declared == "nodata" else None)
    np.testing.assert_array_equal(read, pixels)
    assert read.dtype == dtype
    np.testing.assert_array_equal(found, True if declared == "nothing" else valid)


def test_a_zero_in_some_bands_is_data(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 3), dtype=np.uint8)
    pixels[0, 0, 1] = 7
    expected = [[True, False], [False, False]]
    path = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    with Raster(path) as raster:
        np.testing.assert_array_equal(raster.read()[1], expected)
    with Raster(write_raster(tmp_path / "b.tif", pixels), black_is_nodata=True) as raster:
        np.testing.assert_array_equal(raster.read()[1], expected)


def test_bands_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    pixels = noise(6, 5, 4)
    path = write_raster(tmp_path / "image.tif", pixels)
    with Raster(path, bands=[3, 1]) as raster:
        assert raster.info.bands == (3, 1)
        np.testing.assert_array_equal(raster.read()[0], pixels[..., [2, 0]])
    for band in (0, 5):
        with pytest.raises(RasterError, match=f"has 4 bands, so no band {band}"):
            Raster(path, bands=[1, band])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    row=st.integers(-12, 25), col=st.integers(-12, 35), height=st.integers(1, 40), width=st.just(9)
)
def test_beyond_the_edges_there_is_no_data(
    tmp_path: Path, row: int, col: int, height: int, width: int
) -> None:
    pixels = noise(20, 30)
    path = tmp_path / "image.tif"
    if not path.exists():
        write_raster(path, pixels)
    with Raster(path) as raster:
        read, valid = raster.read(Window(row, col, height, width))
    rows, cols = np.mgrid[row : row + height, col : col + width]
    inside = (rows >= 0) & (rows < 20) & (cols >= 0) & (cols < 30)
    np.testing.assert_array_equal(valid, inside)
    expected = pixels[rows.clip(0, 19), cols.clip(0, 29)] * inside[..., None]
    np.testing.assert_array_equal(read, expected)


def _by_windows(raster: Raster, size: int) -> tuple[Any, Any]:
    pixels, valid = (np.zeros_like(each) for each in raster.read())
    for window in partition(raster.info.height, raster.info.width, size):
        place = np.s_[
            window.row : window.row + window.height, window.col : window.col + window.width
        ]
        pixels[place], valid[place] = raster.read(window)
    return pixels, valid


@pytest.mark.parametrize("overviews", [(), (2, 4)])
@pytest.mark.parametrize("size", [32, 61])
@pytest.mark.parametrize("scale", [0.24, 0.5, 0.613, 0.9, 0.985, 1.05, 1.7, 2.0])
def test_windows_of_a_resampled_raster_join_without_seams(
    tmp_path: Path, scale: float, size: int, overviews: tuple[int, ...]
) -> None:
    pixels = noise(211, 193, dtype="uint16")
    hole = np.zeros(pixels.shape[:2], dtype=bool)
    hole[40:90, 30:150] = True
    pixels[hole] = 0
    path = write_raster(
        tmp_path / "image.tif", pixels, nodata=0, overviews=overviews, tiled=True, blockxsize=64,
        blockysize=64,
    )  # fmt: skip
    with Raster(path, scale=scale) as raster:
        whole, valid = raster.read()
        joined, joined_valid = _by_windows(raster, size)
    np.testing.assert_array_equal(joined_valid, valid)
    # Only rounding may differ: GDAL adds the same weights in another order.
    off = np.abs(joined.astype(int) - whole)[valid].max(axis=-1) > 1
    assert off.mean() < 2e-4


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


@pytest.mark.parametrize("overviews", [(), (2, 4, 8)])
@pytest.mark.parametrize("wanted", [1, 100, 2_000, 30_000])
def test_few_pixels_of_a_raster_are_its_own(
    tmp_path: Path, wanted: int, overviews: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).choice([7, 90, 200], (400, 300, 3)).astype(np.uint8)
    pixels[:, 200:] = 0
    path = write_raster(
        tmp_path / "x.tif", pixels, nodata=0, overviews=overviews, resampling="nearest"
    )
    with Raster(path) as raster:
        few, valid = raster.read_decimated(wanted)
    assert few.dtype == np.uint8
    assert 0.9 * wanted <= valid.size <= wanted
    assert few.shape == (*valid.shape, 3)
    assert set(np.unique(few[valid])) <= {7, 90, 200}
    np.testing.assert_array_equal(valid, few.any(axis=-1))
    if wanted > 1:
        assert valid.shape[0] / valid.shape[1] == pytest.approx(4 / 3, rel=0.15)
        assert valid.mean() == pytest.approx(2 / 3, abs=0.05)


def test_no_more_pixels_than_there_are(tmp_path: Path) -> None:
    pixels = noise(40, 30)
    with Raster(write_raster(tmp_path / "x.tif", pixels)) as raster:
        np.testing.assert_array_equal(raster.read_decimated(10**9)[0], pixels)


def test_few_pixels_come_from_the_overviews(tmp_path: Path) -> None:
    # A checkerboard whose averages are none of its values tells the two apart.
    rows, cols = np.mgrid[:512, :512]
    board = ((rows + cols) % 2 * 200).astype(np.uint8)
    path = write_raster(tmp_path / "x.tif", board, overviews=(2, 4, 8, 16))
    # Neither the scale of the grid nor its way around overviews matters.
    for scale in (1.0, 0.3):
        with Raster(path, scale=scale) as raster:
            few, _ = raster.read_decimated(1100)
        assert few.shape == (33, 33, 1)
        assert set(np.unique(few)) == {100}


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (3, 2000)])
def test_few_pixels_of_a_thin_raster(tmp_path: Path, shape: tuple[int, int]) -> None:
    with Raster(write_raster(tmp_path / "x.tif", noise(*shape))) as raster:
        few, valid = raster.read_decimated(300)
    assert 100 <= valid.size <= 300
    assert valid.all()
    assert few.shape[:2] == valid.shape


def test_few_pixels_of_a_damaged_file_are_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", noise(300, 200))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RasterError, match="damaged or truncated") as error, Raster(path) as raster:
        raster.read_decimated(10_000)
    _one_line(error, path)


def _one_line(error: pytest.ExceptionInfo[RasterError], path: Path) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("name", ["none.tif", "x" * 300, "folder", "empty.tif", "text.tif"])
def test_what_is_not_a_raster_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name in ("empty.tif", "text.tif"):
        path.write_text("hello" * 50 if name == "text.tif" else "")
    with pytest.raises(RasterError) as error:
        Raster(path)
    _one_line(error, path)


@pytest.mark.parametrize(
    "name", ["image.tif", "tiled.tif", "lzw.tif", "image.png", "image.jpg", "grey.png"]
)
def test_a_truncated_file_is_named_with_the_window(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = noise(300, 200, 1 if name == "grey.png" else 3)
    layouts: dict[str, dict[str, Any]] = {
        "lzw.tif": {"compress": "lzw"},
        "tiled.tif": {"tiled": True},
    }
    path = write_raster(tmp_path / name, pixels, crs=None, **layouts.get(name, {}))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for window in (None, Window(0, 0, 300, 200), Window(260, 10, 40, 50)):
        with pytest.raises(RasterError) as error, Raster(path) as raster:
            raster.read(window)
        rows = "row 260, column 10, 40 x 50" if window and window.row else "row 0, column 0"
        assert rows in _one_line(error, path)
    # GDAL says nothing of its own.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", ["float64", "int8", "int32", "uint32", "complex64"])
def test_other_types_are_described_but_not_read(tmp_path: Path, dtype: str) -> None:
    path = write_raster(tmp_path / "x.tif", np.ones((3, 3), dtype))
    with Raster(path) as raster:
        assert raster.info.dtype == dtype
        with pytest.raises(RasterError, match=f"is {dtype}: rhm reads uint8, ") as error:
            raster.read()
        _one_line(error, path)
        with pytest.raises(RasterError, match=f"is {dtype}: rhm reads uint8, "):
            raster.read_decimated(4)


@pytest.mark.parametrize("compress", [None, "deflate"])
@pytest.mark.parametrize("nodata", [None, -9999.0, np.nan])
def test_what_is_not_finite_in_some_band_has_no_data(
    tmp_path: Path, nodata: float | None, compress: str | None
) -> None:
    pixels = np.random.default_rng(0).normal(0, 1e3, (20, 30, 3)).astype(np.float32)
    valid = np.ones((20, 30), dtype=bool)
    for place, value in (((3, 4, 0), np.nan), ((5, 6, 1), np.inf), ((7, 8, 2), -np.inf)):
        pixels[place], valid[place[:2]] = value, False
    if nodata is not None:
        pixels[HOLE], valid[HOLE] = nodata, False
    path = write_raster(tmp_path / "x.tif", pixels, nodata=nodata, compress=compress)
    with Raster(path) as raster:
        read, found = raster.read()
    np.testing.assert_array_equal(read, pixels)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(found, valid)


@pytest.mark.parametrize("nodata", [-32768, -1, 0])
def test_signed_imagery_has_negative_values_and_nodata(tmp_path: Path, nodata: int) -> None:
    pixels = np.random.default_rng(0).integers(-900, 900, (20, 30, 3)).astype(np.int16)
    pixels[pixels == nodata] = 5
    valid = np.ones((20, 30), dtype=bool)
    pixels[HOLE], valid[HOLE] = nodata, False
    # In one band only it is data.
    pixels[12, 12, 1] = nodata
    with Raster(write_raster(tmp_path / "x.tif", pixels, nodata=nodata)) as raster:
        read, found = raster.read()
    np.testing.assert_array_equal(read, pixels)
    assert read.dtype == np.int16
    np.testing.assert_array_equal(found, valid)


@pytest.mark.parametrize("bands", [None, (3, 1, 2), (2,), (1, 3)])
@pytest.mark.parametrize("nodata", [0, 1, 255])
def test_validity_is_gdals(tmp_path: Path, nodata: int, bands: tuple[int, ...] | None) -> None:
    pixels = np.random.default_rng(0).choice([0, 1, 255], (40, 50, 3)).astype(np.uint8)
    path = write_raster(tmp_path / "x.tif", pixels, nodata=nodata)
    window = Window(5, 7, 20, 30)
    with rasterio.open(path) as dataset:
        expected = dataset.dataset_mask(window=((5, 25), (7, 37))) > 0
    with Raster(path, bands=bands) as raster:
        np.testing.assert_array_equal(raster.read(window)[1], expected)


LAYOUTS = [
    {"interleave": interleave, "compress": compress, **tiles}
    for interleave in ("pixel", "band")
    for compress in (None, "lzw", "deflate")
    for tiles in ({}, {"tiled": True, "blockxsize": 32, "blockysize": 16})
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: " ".join(map(str, layout.values())))
@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_every_layout_is_read_alike(
    tmp_path: Path, dtype: str, bands: int, layout: dict[str, Any]
) -> None:
    pixels = noise(90, 110, bands, dtype=dtype)
    path = write_raster(tmp_path / "x.tif", pixels, **layout)
    with Raster(path) as raster:
        for window in (Window(0, 0, 90, 110), Window(13, 29, 40, 50), Window(89, 3, 1, 1)):
            read, _ = raster.read(window)
            place = np.s_[window.row :, window.col :]
            expected = pixels[place][: window.height, : window.width]
            np.testing.assert_array_equal(read, expected)
            assert read.flags.c_contiguous
            assert read.flags.writeable


def test_more_bands_than_opencv_has_channels(tmp_path: Path) -> None:
    pixels = noise(9, 8, 140)
    with Raster(write_raster(tmp_path / "x.tif", pixels, compress="lzw")) as raster:
        np.testing.assert_array_equal(raster.read()[0], pixels)


def test_bands_of_several_types_must_be_chosen_from(tmp_path: Path) -> None:
    write_raster(tmp_path / "x.tif", noise(4, 4))
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{band}"><SimpleSource><SourceFilename '
        f'relativeToVRT="1">x.tif</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource>'
        "</VRTRasterBand>"
        for band, kind in ((1, "Byte"), (2, "UInt16"))
    )
    path = tmp_path / "mixed.vrt"
    path.write_text(f'<VRTDataset rasterXSize="4" rasterYSize="4">{bands}</VRTDataset>')
    with pytest.raises(RasterError, match="bands of uint16, uint8"):
        Raster(path)
    with Raster(path, bands=[2]) as raster:
        assert raster.read()[0].dtype == np.uint16


def test_opening_from_threads_leaves_no_warning_filter(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", noise(8, 8), crs=None)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        infos = list(pool.map(describe, [path] * 200))
    assert len(set(infos)) == 1
    assert warnings.filters == before


@pytest.mark.shared
def test_odd_files_are_read_or_refused_in_one_line(shared_data: Path) -> None:
    refused = {}
    for path in sorted((shared_data / "odd").glob("*.tif")):
        try:
            with Raster(path) as raster:
                pixels, valid = raster.read()
            assert pixels.shape == (raster.info.height, raster.info.width, len(raster.info.bands))
            assert valid.any()
        except RasterError as error:
            refused[path] = str(error)
    assert {path.name for path in refused} == {"corrupt.tif"}
    for path, message in refused.items():
        assert "\n" not in message
        assert str(path) in message
