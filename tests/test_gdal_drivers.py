"""GDAL never uses drivers that do more than read: no file is written, nothing is asked for."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rhm.gdal_drivers import REFUSED, refuse_drivers
from tests.data.imagery import noise, write_raster

MRF = """<MRF_META><CachedSource><Source>{source}</Source></CachedSource>
<Raster><Size x="64" y="64" c="1"/><PageSize x="64" y="64" c="1"/><Compression>NONE</Compression>
<DataType>Byte</DataType><DataFile>{data}</DataFile><IndexFile>{data}.index</IndexFile></Raster>
<GeoTags/></MRF_META>"""

VRT = """<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1">
<SimpleSource><SourceFilename relativeToVRT="1">{source}</SourceFilename></SimpleSource>
</VRTRasterBand></VRTDataset>"""

COUNT = """
import sys, rasterio, geopandas  # imported first, as programs may
from rhm.data.radiometry import histogram_of
from rhm.data.rasters.raster import Raster
from rhm.errors import RasterError
try:
    with Raster(sys.argv[1]) as raster:
        histogram_of(raster)
except RasterError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(
    ("before", "kept"),
    [("", []), ("netCDF MRF", ["netCDF"]), ("ESRI Shapefile, WMS", ["ESRI Shapefile", "WMS"])],
)
def test_what_the_user_refuses_stays_refused(before: str, kept: list[str]) -> None:
    environment = {"GDAL_SKIP": before} if before else {}
    refuse_drivers(environment)
    refuse_drivers(environment)
    names = environment["GDAL_SKIP"].split(",")
    assert sorted(names) == sorted([*REFUSED, *kept])


def test_no_such_driver_is_registered() -> None:
    program = (
        "import logging\n"
        "logging.basicConfig(level='WARNING')\n"
        "import rasterio, rhm, pyogrio\n"
        "with rasterio.Env() as environment:\n"
        "    print(*environment.drivers(), *pyogrio.list_drivers(), sep='\\n')"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert finished.stderr == ""  # not even of drivers that this GDAL does not have
    names = set(finished.stdout.splitlines())
    assert {"GTiff", "GPKG", "VRT"} <= names
    assert not names & set(REFUSED)


@pytest.mark.parametrize("way", ["itself", "of a virtual raster", "as a mask", "as overviews"])
def test_a_cache_that_is_called_a_raster_writes_nothing(tmp_path: Path, way: str) -> None:
    written = tmp_path / "home" / "profile"
    written.parent.mkdir()
    write_raster(tmp_path / "source.tif", noise(64, 64, 1))
    text = MRF.format(source=tmp_path / "source.tif", data=written)
    scene = tmp_path / ("x.vrt" if "virtual" in way else "x.tif")
    if way == "itself":
        scene.write_text(text)
    elif "virtual" in way:
        (tmp_path / "y.tif").write_text(text)
        scene.write_text(VRT.format(source="y.tif"))
    else:
        write_raster(scene, np.ones((64, 64), np.uint8))
        Path(f"{scene}.{'msk' if 'mask' in way else 'ovr'}").write_text(text)
    finished = subprocess.run(
        [sys.executable, "-c", COUNT, str(scene)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    assert not list(written.parent.iterdir())
