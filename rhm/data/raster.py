"""Rasters, read by windows together with the mask that says where they have data.

A raster may be read on a grid of its own resolution or, through ``scale``, of another: all
windows and sizes are then in that grid's pixels, and nothing else needs to know.
"""

import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow

from rhm.data.ground import ground_sampling_distance
from rhm.data.windows import Window
from rhm.errors import OutputError, RasterError
from rhm.files import atomic_path
from rhm.histogram import DTYPES

_OPENING = threading.Lock()

# GDAL's shortcut for whole PNGs answers truncated ones with noise, unless told at both times.
_OPENING_AND_READING = {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}

# GDAL leaves windows of few pixels unresampled, so it is asked for at least this many.
_RESAMPLED_PX = 128


@dataclass(frozen=True)
class RasterInfo:
    """What a raster file says of itself.

    Attributes:
        path: as given.
        height: rows.
        width: columns.
        bands: 1-based indices of the bands that carry imagery; alpha is not among them.
        dtype: the bands' type, by numpy's name.
        crs: coordinate reference system, or None.
        transform: pixel (col, row) to coordinates; the identity where the file has none.
        gsd_m: ground sampling distance in metres at the centre, or None without a CRS.
        nodata: the declared nodata value, or None.
        masked: whether the file declares nodata by a value, a mask or an alpha band.
        block_shape: (rows, columns) of a stored block.
        overviews: decimation factors of the stored overviews.
    """

    path: str
    height: int
    width: int
    bands: tuple[int, ...]
    dtype: str
    crs: CRS | None
    transform: Affine
    gsd_m: float | None
    nodata: float | None
    masked: bool
    block_shape: tuple[int, int]
    overviews: tuple[int, ...]


class Raster:
    """An open raster; use it as a context manager.

    Args:
        path: anything GDAL opens.
        bands: 1-based indices of the bands to read, in this order; all but alpha by default.
        black_is_nodata: whether pixels that are zero in all read bands have no data.
        scale: pixels of the grid to read on per pixel of the file, along an axis.
        categorical: whether values are classes, which must not be averaged.

    Raises:
        RasterError: the file is missing, not a raster, or lacks a band; or its bands differ in
            type.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        bands: Sequence[int] | None = None,
        black_is_nodata: bool = False,
        scale: float = 1.0,
        categorical: bool = False,
    ) -> None:
        self._dataset = _open(path)
        try:
            stored = _describe(self._dataset, path, bands)
        except RasterError:
            self.close()
            raise
        height = max(1, round(stored.height * scale))
        width = max(1, round(stored.width * scale))
        # The file's pixels per pixel of the grid, by axis: what rounding left of 1 / scale.
        self._step = (stored.height / height, stored.width / width)
        self._resampling = _resampling(self._step, categorical)
        self._black_is_nodata = black_is_nodata
        if stored.overviews and max(self._step) > 1.0:
            # GDAL would choose an overview window by window, and windows would not join.
            self.close()
            self._dataset = _open(path, OVERVIEW_LEVEL="NONE")
        across = sqrt(self._step[0] * self._step[1])
        self.info = replace(
            stored,
            height=height,
            width=width,
            transform=stored.transform @ Affine.scale(self._step[1], self._step[0]),
            gsd_m=None if stored.gsd_m is None else stored.gsd_m * across,
            masked=stored.masked or black_is_nodata,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The pixels' type."""
        return np.dtype(self.info.dtype)

    def read(self, window: Window | None = None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window's pixels and where they hold data.

        Args:
            window: in this raster's grid, the whole raster by default; what lies beyond the
                edges is zero and without data.

        Returns:
            pixels (height, width, bands) of the file's dtype, and valid (height, width) bool.

        Raises:
            RasterError: the type is not uint8 or uint16, or a block cannot be read.
        """
        info = self.info
        if self.dtype not in DTYPES:
            raise RasterError(
                f"{info.path} is {info.dtype}: rhm reads uint8 and uint16 imagery; convert it first"
            )
        window = window or Window(0, 0, info.height, info.width)
        pixels = np.zeros((window.height, window.width, len(info.bands)), dtype=self.dtype)
        valid = np.zeros((window.height, window.width), dtype=bool)
        top, left = max(0, window.row), max(0, window.col)
        bottom = min(info.height, window.row + window.height)
        right = min(info.width, window.col + window.width)
        if top < bottom and left < right:
            inside = Window(top, left, bottom - top, right - left)
            rows = slice(top - window.row, bottom - window.row)
            cols = slice(left - window.col, right - window.col)
            pixels[rows, cols], valid[rows, cols] = self._read_inside(inside)
        return pixels, valid

    def _read_inside(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        if self._step == (1.0, 1.0):
            return self._read_grown(window)
        row, height = _grown(window.row, window.height, self.info.height)
        col, width = _grown(window.col, window.width, self.info.width)
        rows = slice(window.row - row, window.row - row + window.height)
        cols = slice(window.col - col, window.col - col + window.width)
        pixels, valid = self._read_grown(Window(row, col, height, width))
        return pixels[rows, cols], valid[rows, cols]

    def _read_grown(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        step_row, step_col = self._step
        source = RasterioWindow(
            window.col * step_col,
            window.row * step_row,
            window.width * step_col,
            window.height * step_row,
        )
        shape = (window.height, window.width)
        options: dict[str, Any] = {"window": source}
        if self._step != (1.0, 1.0):
            options["out_shape"] = (len(self.info.bands), *shape)
            options["resampling"] = self._resampling
        try:
            with rasterio.Env(**_OPENING_AND_READING):
                pixels = self._dataset.read(list(self.info.bands), **options)
                valid = self._read_mask(source, shape)
        except (RasterioError, ValueError) as error:
            raise RasterError(
                f"{self.info.path} cannot be read at row {window.row}, column {window.col}, "
                f"{window.height} x {window.width} pixels (a damaged or truncated file?)"
            ) from error
        pixels = np.moveaxis(pixels, 0, -1)
        if self._black_is_nodata:
            valid &= pixels.any(axis=-1)
        return pixels, valid

    def _read_mask(self, source: RasterioWindow, shape: tuple[int, int]) -> NDArray[np.bool_]:
        if all(MaskFlags.all_valid in flags for flags in self._dataset.mask_flag_enums):
            return np.ones(shape, dtype=bool)
        mask = self._dataset.dataset_mask(window=source, out_shape=shape)
        return np.asarray(mask > 0)


def describe(path: str | os.PathLike[str]) -> RasterInfo:
    """Return what the raster at ``path`` says of itself, without reading pixels.

    Raises:
        RasterError: the file is missing or not a raster.
    """
    with _open(path) as dataset:
        return _describe(dataset, path)


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
    scale: float = 1.0,
    description: str = "",
    overview_resampling: str = "average",
) -> Iterator[rasterio.io.DatasetWriter]:
    """Yield a one-band dataset to write windows into; it becomes a cloud-optimised GeoTIFF.

    The file appears under its name, with overviews, only when the block ends well.

    Args:
        path: of the result.
        height: rows.
        width: columns.
        dtype: numpy's name of the pixels' type.
        nodata: the value of pixels without data.
        crs: coordinate reference system, or None.
        transform: pixel (col, row) to coordinates.
        scale: what to multiply stored values by; written as the band's GDAL scale.
        description: the band's name.
        overview_resampling: GDAL's name of the method that makes the overviews.

    Raises:
        OutputError: the file cannot be written, or not all of it.
    """
    with atomic_path(path) as temporary:
        plain = temporary.with_name("plain.tif")
        profile = {
            "driver": "GTiff",
            "height": height,
            "width": width,
            "count": 1,
            "dtype": dtype,
            "nodata": nodata,
            "crs": crs,
            "transform": transform,
            "tiled": True,
            "blockxsize": 512,
            "blockysize": 512,
            "compress": "deflate",
            "zlevel": 1,
            "bigtiff": "if_safer",
        }
        try:
            with quiet_about_georeference():
                dataset = rasterio.open(plain, "w", **profile)
            with dataset:
                dataset.set_band_description(1, description)
                dataset.scales = (scale,)
                yield dataset
            _check_complete(plain)
            rasterio.shutil.copy(
                plain,
                temporary,
                driver="COG",
                compress="deflate",
                predictor="yes",
                bigtiff="if_safer",
                overview_resampling=overview_resampling,
                num_threads="all_cpus",
            )
            _check_complete(temporary)
            plain.unlink()
        except (RasterioError, CPLE_BaseError, SystemError) as error:
            # The last two are rasterio's for GDAL's failures inside a copy, known and unknown.
            reason = " ".join(str(error).split())
            raise OutputError(f"cannot write {path} (disk full?): {reason}") from error


def _check_complete(path: Path) -> None:
    """Check that every block of a GeoTIFF lies inside its file.

    GDAL writes its last blocks while it closes a file, and says nothing when that fails.
    """
    size = path.stat().st_size
    with quiet_about_georeference():
        dataset = rasterio.open(path)
    with dataset:
        for (row, col), _ in dataset.block_windows(1):
            offset, length = (
                dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=1)
                for what in ("OFFSET", "SIZE")
            )
            if offset is None or int(offset) + int(length) > size:
                raise RasterioIOError(f"block {row}, {col} is missing")


def _resampling(step: tuple[float, float], categorical: bool) -> Resampling:
    shrinking = step[0] * step[1] > 1.0
    if categorical:
        return Resampling.mode if shrinking else Resampling.nearest
    return Resampling.average if shrinking else Resampling.bilinear


@contextmanager
def quiet_about_georeference() -> Iterator[None]:
    """Keep rasterio from warning of rasters without georeference; open them in this block."""
    # A raster without georeference is ordinary here, and said so in RasterInfo. Warning filters
    # belong to the process, so threads that open rasters take turns.
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _grown(first: int, length: int, limit: int) -> tuple[int, int]:
    """Return the first and the number of enough pixels around some, inside of ``limit``."""
    enough = min(limit, max(length, _RESAMPLED_PX))
    return min(first, limit - enough), enough


def _open(path: str | os.PathLike[str], **options: str) -> rasterio.io.DatasetReader:
    name = os.fspath(path)
    local = not name.startswith("/vsi") and "://" not in name
    if local and not os.path.exists(name):
        raise RasterError(f"no such file: {name}")
    try:
        with quiet_about_georeference(), rasterio.Env(**_OPENING_AND_READING):
            return rasterio.open(name, **options)
    except RasterioError as error:
        raise RasterError(f"{name} is not a raster that GDAL can open") from error


def _describe(
    dataset: rasterio.io.DatasetReader,
    path: str | os.PathLike[str],
    chosen: Sequence[int] | None = None,
) -> RasterInfo:
    imagery = (
        index
        for index, meaning in enumerate(dataset.colorinterp, start=1)
        if meaning is not ColorInterp.alpha
    )
    bands = tuple(chosen or imagery)
    if not bands:
        raise RasterError(f"{path} has no band of imagery")
    missing = [band for band in bands if not 1 <= band <= dataset.count]
    if missing:
        raise RasterError(f"{path} has {dataset.count} bands, so no band {missing[0]}")
    dtypes = {dataset.dtypes[band - 1] for band in bands}
    if len(dtypes) > 1:
        raise RasterError(f"{path} has bands of {', '.join(sorted(dtypes))}: choose bands of one")
    flags = dataset.mask_flag_enums
    rows, cols = dataset.block_shapes[0]
    crs = dataset.crs if dataset.crs else None
    size = (dataset.height, dataset.width)
    return RasterInfo(
        path=os.fspath(path),
        height=dataset.height,
        width=dataset.width,
        bands=bands,
        dtype=dataset.dtypes[bands[0] - 1],
        crs=crs,
        transform=dataset.transform,
        gsd_m=ground_sampling_distance(crs, dataset.transform, *size) if crs else None,
        nodata=dataset.nodatavals[bands[0] - 1],
        masked=not all(MaskFlags.all_valid in each for each in flags),
        block_shape=(rows, cols),
        overviews=tuple(dataset.overviews(1)),
    )
