"""The identity of a scene changes with every file that GDAL reads for it, and with no other."""

import gzip
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from rhm.data.rasters.raster import Raster
from rhm.data.rasters.scene_identity import scene_identity
from tests.data.imagery import noise, write_raster

VRT = """<VRTDataset rasterXSize="40" rasterYSize="40">
  <GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform>
  <VRTRasterBand dataType="Byte" band="1"><SimpleSource>
    <SourceFilename relativeToVRT="1">{source}</SourceFilename><SourceBand>1</SourceBand>
  </SimpleSource></VRTRasterBand>
</VRTDataset>
"""
STATISTICS = """<PAMDataset><PAMRasterBand band="1"><Metadata>
  <MDI key="STATISTICS_MAXIMUM">255</MDI><MDI key="STATISTICS_MEAN">12.5</MDI>
</Metadata></PAMRasterBand></PAMDataset>
"""
NODATA = """<PAMDataset><PAMRasterBand band="1"><NoDataValue>7</NoDataValue></PAMRasterBand>
</PAMDataset>
"""


@pytest.fixture
def tif(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "x.tif", noise(40, 40))


def rewritten(path: Path) -> None:
    """Write other pixels in as many bytes, at another time."""
    write_raster(path, noise(40, 40, seed=9))
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


def virtual(path: Path, source: str) -> Path:
    path.write_text(VRT.format(source=source))
    return path


def zipped(tif: Path) -> Path:
    archive = tif.with_name("a.zip")
    with zipfile.ZipFile(archive, "w") as opened:
        opened.write(tif, "in/x.tif")
    return archive


def tarred(tif: Path) -> Path:
    archive = tif.with_name("a.tar.gz")
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(tif, "in/x.tif")
    return archive


def compressed(tif: Path) -> Path:
    archive = tif.with_name("x.tif.gz")
    archive.write_bytes(gzip.compress(tif.read_bytes()))
    return archive


NAMES: dict[str, Callable[[Path], str]] = {
    "plain": str,
    "file://": lambda tif: f"file://{tif}",
    "vrt": lambda tif: str(virtual(tif.with_name("a.vrt"), "x.tif")),
    "vrt of vrt": lambda tif: str(
        virtual(tif.with_name("b.vrt"), virtual(tif.with_name("a.vrt"), "x.tif").name)
    ),
    "vrt of one without suffix": lambda tif: str(
        virtual(tif.with_name("b.vrt"), virtual(tif.with_name("a"), "x.tif").name)
    ),
    "vsizip": lambda tif: f"/vsizip/{zipped(tif)}/in/x.tif",
    "vsizip with braces": lambda tif: f"/vsizip/{{{zipped(tif)}}}/in/x.tif",
    "zip://": lambda tif: f"zip://{zipped(tif)}!in/x.tif",
    "vsitar": lambda tif: f"/vsitar/{tarred(tif)}/in/x.tif",
    "vsigzip": lambda tif: f"/vsigzip/{compressed(tif)}",
    "vrt of an archive": lambda tif: str(
        virtual(tif.with_name("a.vrt"), f"/vsizip/{zipped(tif)}/in/x.tif").resolve()
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_other_pixels_are_another_scene_however_it_is_named(tif: Path, name: str) -> None:
    scene = NAMES[name](tif)
    if name == "vrt of an archive":
        text = Path(scene).read_text().replace('relativeToVRT="1"', 'relativeToVRT="0"')
        Path(scene).write_text(text)
    before = scene_identity(scene)
    assert before.unknown is None
    assert scene_identity(scene) == before
    virtual_raster = Path(scene).is_file() and Path(scene).suffix == ".vrt"
    own = Path(scene).stat() if virtual_raster else None
    rewritten(tif)
    NAMES[name](tif)
    if own is not None:
        if name == "vrt of an archive":
            Path(scene).write_text(text)
        for path in tif.parent.glob("[ab]*"):
            if path.suffix in ("", ".vrt"):
                os.utime(path, ns=(own.st_atime_ns, own.st_mtime_ns))
    assert scene_identity(scene) != before


def test_an_equal_copy_under_another_time_is_another_scene_and_looking_changes_nothing(
    tif: Path,
) -> None:
    before = scene_identity(tif)
    with Raster(tif) as raster:
        raster.read()
    assert scene_identity(tif) == before
    os.utime(tif, ns=(1, 1))
    assert scene_identity(tif) != before


def world_file(tif: Path) -> None:
    tif.with_suffix(".tfw").write_text("2\n0\n0\n-2\n100\n100\n")


def side_file(tif: Path) -> None:
    tif.with_name("x.tif.aux.xml").write_text(NODATA)


def mask(tif: Path) -> None:
    alone = write_raster(tif.with_name("mask.tif"), np.eye(40, dtype=np.uint8) * 255)
    alone.rename(tif.with_name("x.tif.msk"))


@pytest.mark.parametrize("change", [world_file, side_file, mask], ids=lambda each: each.__name__)
def test_what_lies_beside_an_image_belongs_to_it(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    tif = write_raster(tmp_path / "x.tif", noise(40, 40), crs=None)
    before = scene_identity(tif)
    change(tif)
    assert scene_identity(tif) != before


def test_what_lies_beside_the_source_of_a_virtual_raster_belongs_to_it(tif: Path) -> None:
    scene = virtual(tif.with_name("a.vrt"), "x.tif")
    before = scene_identity(scene)
    mask(tif)
    assert scene_identity(scene) != before


def test_statistics_that_a_viewer_leaves_beside_an_image_change_nothing(tif: Path) -> None:
    before = scene_identity(tif)
    side = tif.with_name("x.tif.aux.xml")
    side.write_text(STATISTICS)
    assert scene_identity(tif) == before
    side.write_text(NODATA)
    with_nodata = scene_identity(tif)
    both = STATISTICS.replace("<Metadata>", "<NoDataValue>7</NoDataValue><Metadata>")
    side.write_text(both)
    with rasterio.open(tif) as opened:
        assert opened.nodatavals[0] == 7
        assert opened.colorinterp[0] is not ColorInterp.alpha
    assert scene_identity(tif) == with_nodata != before


def test_pixels_of_a_service_cannot_be_identified(tmp_path: Path) -> None:
    scene = tmp_path / "x.xml"
    scene.write_text(
        "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:1/${z}/${x}/${y}</ServerUrl>"
        "</Service><DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>9</UpperLeftY>"
        "<LowerRightX>9</LowerRightX><LowerRightY>0</LowerRightY><SizeX>64</SizeX>"
        "<SizeY>64</SizeY></DataWindow><BandsCount>3</BandsCount></GDAL_WMS>"
    )
    assert scene_identity(scene).unknown == str(scene)
    over = virtual(tmp_path / "a.vrt", "x.xml")
    assert scene_identity(over).unknown is not None


SERVER = """
import http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def send_header(self, name, value):
        if name != "Last-Modified" or sys.argv[2] == "dated":
            super().send_header(name, value)
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(
    ("127.0.0.1", 0), lambda *args: Handler(*args, directory=sys.argv[1])
)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(params=["dated", "undated"])
def server(request: pytest.FixtureRequest, tif: Path) -> Iterator[tuple[str, bool]]:
    """Serve the folder of the image from another process, with dates or without."""
    words = [sys.executable, "-c", SERVER, str(tif.parent), request.param]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", request.param == "dated"
        process.kill()


@pytest.mark.skipif(os.name != "posix", reason="needs the symbols of GDAL's library")
def test_objects_on_a_server_are_told_apart_by_their_headers(
    tif: Path, server: tuple[str, bool]
) -> None:
    address, dated = server
    archive = zipped(tif)
    for name, file in (
        (f"{address}/x.tif", tif),
        (f"/vsizip//vsicurl/{address}/a.zip/in/x.tif", archive),
    ):
        before = scene_identity(name)
        assert (before.unknown is None) == dated
        assert scene_identity(name) == before
        hour = time.time() - 3600
        os.utime(file, (hour, hour))
        assert (scene_identity(name) != before) == dated
