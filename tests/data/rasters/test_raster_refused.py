"""What is no raster, or is damaged, or of another type: refused in one line that names it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from rhm.data.rasters.raster import Raster, describe
from rhm.data.rasters.windows import Window
from rhm.errors import RasterError
from tests.data.imagery import HALF_METRE, UNDECODABLE, noise, write_raster


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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_messages_of_gdal_may_quote_any_bytes(tmp_path: Path) -> None:
    path = tmp_path / "mosaic.vrt"
    path.write_bytes(UNDECODABLE)
    with pytest.raises(RasterError, match="is not a raster that GDAL can open") as error:
        Raster(path)
    _one_line(error, path)


@pytest.mark.parametrize("places", [[(0, 0)], [(0, 0), (4, 4), (8, 8)]])
def test_points_that_determine_no_place_are_as_good_as_none(
    tmp_path: Path, places: list[tuple[int, int]]
) -> None:
    path = write_raster(tmp_path / "x.tif", noise(8, 8), crs=None, transform=Affine.identity())
    points = [GroundControlPoint(row, col, 500_000 + col, 5e6 - row) for row, col in places]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as raster:
            raster.gcps = (points, rasterio.crs.CRS.from_epsg(32636))
    with Raster(path) as raster:
        info = raster.info
    assert (info.crs, info.transform, info.gcps) == (None, Affine.identity(), ())
    assert info.gsd_m is None


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


@pytest.mark.parametrize("dtype", ["float64", "int8", "int32", "uint32"])
def test_other_types_are_described_but_not_read(tmp_path: Path, dtype: str) -> None:
    path = write_raster(tmp_path / "x.tif", np.ones((3, 3), dtype))
    with Raster(path) as raster:
        assert raster.info.dtype == dtype
        with pytest.raises(RasterError, match=f"is {dtype}: rhm reads uint8, ") as error:
            raster.read()
        _one_line(error, path)
        with pytest.raises(RasterError, match=f"is {dtype}: rhm reads uint8, "):
            raster.read_decimated(4)


@pytest.mark.parametrize("dtype", ["complex_int16", "complex64", "complex128"])
def test_complex_pixels_are_refused_when_a_raster_is_opened(tmp_path: Path, dtype: str) -> None:
    """NumPy has no name for complex integers, in which radar images come."""
    path = tmp_path / "x.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=3, height=3, count=1, dtype=dtype, transform=HALF_METRE
    ):
        pass
    for opening in (Raster, describe):
        with pytest.raises(RasterError, match=rf"complex pixels \({dtype}\)") as error:
            opening(path)
        _one_line(error, path)


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


@pytest.mark.parametrize("driver", ["GTiff", "PNG"])
def test_numbers_of_colours_are_not_taken_for_values(tmp_path: Path, driver: str) -> None:
    table = write_raster(tmp_path / "table.tif", noise(20, 20, 1), crs=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(table, "r+") as dataset:
            dataset.write_colormap(1, {value: (value, 0, 99, 255) for value in range(256)})
        path = tmp_path / "x.image"
        rasterio.shutil.copy(table, path, driver=driver)
    with pytest.raises(RasterError, match=r"a palette.*gdal_translate -expand rgb") as error:
        Raster(path)
    _one_line(error, path)
    # The colours of classes are how masks are often stored.
    with Raster(path, categorical=True) as raster:
        assert raster.read().values.shape == (20, 20, 1)
