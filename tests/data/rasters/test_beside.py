"""Files beside a raster and names that mislead; laws: nodata is never lost in silence."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling

from rhm.data.rasters.raster import Raster, describe
from rhm.data.rasters.raster_info import MOST_PX
from rhm.data.rasters.windows import Window
from rhm.errors import RasterError
from tests.data.imagery import noise, write_raster

VALID = 40 * 90


def masked_beside(path: Path) -> Path:
    """A raster of 90 x 90 pixels, of which the file of its mask calls the first rows valid."""
    write_raster(path, noise(90, 90, 1))
    mask = np.zeros((90, 90), bool)
    mask[:40] = True
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    assert Path(f"{path}.msk").is_file()
    return path


def valid_pixels(path: Path) -> int:
    with Raster(path) as raster:
        return int(raster.read().valid.sum())


def overviews_beside(path: Path) -> Path:
    write_raster(path, noise(600, 600, 1))
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.nearest)
    assert Path(f"{path}.ovr").is_file()
    return path


def test_files_beside_a_raster_are_read(tmp_path: Path) -> None:
    path = masked_beside(tmp_path / "x.tif")
    assert valid_pixels(path) == VALID
    with Raster(path, scale=0.5) as raster:
        assert raster.read().valid.sum() == pytest.approx(VALID / 4, rel=0.05)
    assert describe(overviews_beside(tmp_path / "y.tif")).overviews == (2, 4)
    inside = write_raster(tmp_path / "z.tif", noise(90, 90, 1), mask=np.eye(90, dtype=bool))
    assert valid_pixels(inside) == 90
    # A file of overviews that those inside the raster make superfluous does no harm.
    within = write_raster(tmp_path / "w.tif", noise(600, 600, 1), overviews=(2, 4))
    shutil.copy(tmp_path / "y.tif.ovr", f"{within}.ovr")
    assert describe(within).overviews == (2, 4)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "zeros", "virtual"])
@pytest.mark.parametrize("suffix", ["msk", "ovr"])
def test_a_damaged_file_beside_a_raster_is_named(tmp_path: Path, suffix: str, damage: str) -> None:
    make = masked_beside if suffix == "msk" else overviews_beside
    path = make(tmp_path / "x.tif")
    beside = Path(f"{path}.{suffix}")
    content = beside.read_bytes()
    beside.write_bytes(
        {
            "cut": content[:150],
            "empty": b"",
            "text": b"hello",
            "zeros": bytes(len(content)),
            "virtual": b'<VRTDataset rasterXSize="90" rasterYSize="90"/>',
        }[damage]
    )
    with pytest.raises(RasterError, match="cannot be read, so that") as error:
        valid_pixels(path)
    assert str(beside) in str(error.value)


def test_who_wants_no_file_beside_a_raster_gets_none(tmp_path: Path) -> None:
    path = masked_beside(tmp_path / "x.tif")
    Path(f"{path}.msk").write_bytes(b"hello")
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        assert valid_pixels(path) == 90 * 90


def test_damaged_facts_beside_a_raster_are_named(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.png", noise(30, 30, 1), crs=None)
    text = (
        "<PAMDataset><PAMRasterBand band='1'><NoDataValue>7</NoDataValue></PAMRasterBand>"
        "</PAMDataset>"
    )
    facts = Path(f"{path}.aux.xml")
    facts.write_text(text)
    assert describe(path).nodata == 7
    facts.write_text(text[:-20])
    with pytest.raises(RasterError, match=r"aux\.xml cannot be read, so that nodata"):
        describe(path)


def test_facts_in_any_encoding_are_read(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", noise(30, 30, 1))
    tags = b'<PAMDataset><Metadata><MDI key="D">K\xf8benhavn\x02</MDI></Metadata></PAMDataset>'
    for mark in (b"", b"\xef\xbb\xbf"):
        # As GDAL writes the tags of a file that are in another encoding.
        Path(f"{path}.aux.xml").write_bytes(mark + tags)
        assert describe(path).width == 30


@pytest.mark.parametrize(
    "facts", ['<MDI key="LINE_OFF">nan</MDI>', '<MDI key="LINE_OFF">far</MDI>', ""]
)
def test_damaged_coefficients_are_one_line(tmp_path: Path, facts: str) -> None:
    path = write_raster(tmp_path / "x.tif", noise(30, 30, 1))
    Path(f"{path}.aux.xml").write_text(
        f'<PAMDataset><Metadata domain="RPC"><MDI key="A">1</MDI>{facts}</Metadata></PAMDataset>'
    )
    with pytest.raises(RasterError, match="is damaged") as error:
        describe(path)
    assert len(str(error.value).splitlines()) == 1


def test_a_virtual_raster_is_called_one(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", noise(30, 30, 1))
    text = (
        '<VRTDataset rasterXSize="30" rasterYSize="30"><VRTRasterBand dataType="Byte" band="1">'
        '<SimpleSource><SourceFilename relativeToVRT="1">a.tif</SourceFilename></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    for name in ("x.vrt", "x.VRT", "x.tif"):
        (tmp_path / name).write_text(text)
    assert valid_pixels(tmp_path / "x.vrt") == valid_pixels(tmp_path / "x.VRT") == 900
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.tif", text)
    for name in (str(tmp_path / "x.tif"), f"/vsizip/{tmp_path}/a.zip/x.tif"):
        with pytest.raises(RasterError, match=r"rename it to \.vrt"):
            Raster(name)


def test_a_service_is_not_called_an_image(tmp_path: Path) -> None:
    text = (
        "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:1/${z}/${x}/${y}</ServerUrl>"
        "</Service><DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>9</UpperLeftY>"
        "<LowerRightX>9</LowerRightX><LowerRightY>0</LowerRightY><SizeX>64</SizeX>"
        "<SizeY>64</SizeY></DataWindow><BandsCount>3</BandsCount></GDAL_WMS>"
    )
    for name in ("x.xml", "x.png"):
        (tmp_path / name).write_text(text)
    assert describe(tmp_path / "x.xml").width == 64
    with pytest.raises(RasterError, match=r"WMS, .* rename it to \.xml"):
        Raster(tmp_path / "x.png")


def test_a_virtual_raster_of_nothing_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="30" rasterYSize="30"><VRTRasterBand dataType="Byte" band="1">'
        "<SimpleSource><SourceFilename>none.tif</SourceFilename></SimpleSource></VRTRasterBand>"
        "</VRTDataset>"
    )
    with pytest.raises(RasterError) as error, Raster(path) as raster:
        raster.read()
    assert len(str(error.value).splitlines()) == 1


def test_a_raster_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.vrt"
    band = '<VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    path.write_text(f'<VRTDataset rasterXSize="{MOST_PX}" rasterYSize="9">{band}')
    with Raster(path) as raster:
        assert not raster.read(Window(0, MOST_PX - 8, 8, 8)).values.any()
    path.write_text(f'<VRTDataset rasterXSize="2147483647" rasterYSize="9">{band}')
    with pytest.raises(RasterError, match="said to have 9 x 2147483647 pixels"):
        Raster(path)
