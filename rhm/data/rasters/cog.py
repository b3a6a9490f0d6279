"""Writing a raster by windows as a cloud-optimised GeoTIFF (COG), completely or not at all."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import rasterio
import rasterio.shutil
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import RasterioIOError
from rasterio.rpc import RPC
from rasterio.transform import Affine

from rhm.data.rasters.gdal_options import GDAL_ERRORS, quiet_about_georeference
from rhm.errors import OutputError
from rhm.files import atomic_path

COMPRESSIONS = ("deflate", "zstd")
"""Lossless compressions that readers of cloud-optimised GeoTIFFs can be expected to support."""

BLOCK_PX = 512
"""Number of rows, and of columns, of a block."""


@contextmanager
def writing_cog(
    path: str | os.PathLike[str],
    *,
    height: int,
    width: int,
    dtype: str,
    nodata: float,
    crs: CRS | None,
    transform: Affine,
    gcps: Sequence[GroundControlPoint] = (),
    rpcs: RPC | None = None,
    compress: str = "deflate",
    scale: float = 1.0,
    description: str = "",
    further: Sequence[str] = (),
    overview_resampling: str = "average",
) -> Iterator[rasterio.io.DatasetWriter]:
    """Yield a dataset to write windows into; it becomes a cloud-optimised GeoTIFF.

    The file appears under its final name, with overviews, only if the block of code succeeds.

    Args:
        path: path of the result.
        height: number of rows.
        width: number of columns.
        dtype: data type of the pixels, by its numpy name.
        nodata: value of nodata pixels.
        crs: coordinate reference system, or None.
        transform: affine transform from (column, row) of pixels to coordinates.
        gcps: ground control points; if there are any, they are written instead of the transform.
        rpcs: rational polynomial coefficients, or None.
        compress: one of ``COMPRESSIONS``.
        scale: factor by which stored values must be multiplied, written as the GDAL scale of all
            bands.
        description: name of the band.
        further: names of further bands; by default, there is one band.
        overview_resampling: resampling method of the overviews, by its GDAL name.

    Raises:
        OutputError: the file cannot be written, or not completely.
    """
    with atomic_path(path) as temporary:
        plain = temporary.with_name("plain.tif")
        profile = {
            "driver": "GTiff",
            "height": height,
            "width": width,
            "count": 1 + len(further),
            "dtype": dtype,
            "nodata": nodata,
            "crs": crs,
            "tiled": True,
            "blockxsize": BLOCK_PX,
            "blockysize": BLOCK_PX,
            "compress": "deflate",
            "zlevel": 1,
            "bigtiff": "if_safer",
        }
        if further:
            # Three bands of bytes would otherwise be taken for red, green and blue.
            profile |= {"photometric": "minisblack", "interleave": "band"}
        profile |= {"gcps": list(gcps)} if gcps else {"transform": transform}
        try:
            with quiet_about_georeference():
                dataset = rasterio.open(plain, "w", **profile)
            with dataset:
                for number, name in enumerate((description, *further), 1):
                    dataset.set_band_description(number, name)
                dataset.scales = (scale,) * dataset.count
                if rpcs is not None:
                    dataset.rpcs = rpcs
                yield dataset
            _check_complete(plain)
            rasterio.shutil.copy(
                plain,
                temporary,
                driver="COG",
                compress=compress,
                predictor="yes",
                bigtiff="if_safer",
                overview_resampling=overview_resampling,
                num_threads="all_cpus",
            )
            _check_complete(temporary)
            plain.unlink()
        except (*GDAL_ERRORS, SystemError) as error:
            # rasterio raises the last one for unknown failures of GDAL during a copy.
            reason = " ".join(str(error).split())
            raise OutputError(f"cannot write {path} (disk full?): {reason}") from error


def _check_complete(path: Path) -> None:
    """Check that every block of a GeoTIFF lies within its file.

    GDAL writes the last blocks while it closes a file, and does not report if that fails.
    """
    size = path.stat().st_size
    with quiet_about_georeference():
        dataset = rasterio.open(path)
    with dataset:
        for band, ((row, col), _) in product(dataset.indexes, dataset.block_windows(1)):
            offset, length = (
                dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band)
                for what in ("OFFSET", "SIZE")
            )
            if offset is None or int(offset) + int(length) > size:
                raise RasterioIOError(f"block {row}, {col} is missing")
