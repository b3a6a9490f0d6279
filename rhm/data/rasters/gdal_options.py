"""Opening and reading rasterio datasets with the GDAL options that imagery needs."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import Interleaving
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from rhm.data.rasters.windows import Window
from rhm.errors import RasterError, one_line, printable
from rhm.remote_files import is_address, without_secrets
from rhm.required_files import is_local, require_raster

GDAL_ERRORS = (RasterioError, CPLE_BaseError, UnicodeError)
"""What rasterio raises where GDAL fails: its own errors, those of GDAL where it passes them on, and
errors of decoding the messages of GDAL, which may quote any bytes of a file."""

_OPENING = threading.Lock()

# GDAL's shortcut for whole PNG files returns noise if they are truncated. It must be disabled both
# when a file is opened and when it is read.
_OPENING_AND_READING = {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}

_MAPPED = {"GTIFF_VIRTUAL_MEM_IO": "YES"}


def open_dataset(
    path: str | os.PathLike[str], *, mapped: bool = False, overviews: bool = True
) -> DatasetReader:
    """Open a raster.

    Args:
        path: anything that GDAL opens.
        mapped: whether to copy the pixels of an uncompressed GeoTIFF straight from the system's
            file cache. This is less work than GDAL's block cache, takes no memory of the process,
            and is shared between processes. It must not be combined with resampling, because
            GDAL is then off by one pixel.
        overviews: whether resampling may read from overviews.

    Raises:
        RasterError: the file is missing or not a raster.
    """
    name = os.fspath(path)
    require_raster(name)
    config = _OPENING_AND_READING | (_MAPPED if mapped else {})
    options = {} if overviews else {"OVERVIEW_LEVEL": "NONE"}
    try:
        with quiet_about_georeference(), rasterio.Env(**config):
            return rasterio.open(name, **options)
    except GDAL_ERRORS as error:
        raise RasterError(_why_not(name, error)) from error


def _why_not(name: str, error: Exception) -> str:
    if is_local(name):
        return f"{name} is not a raster that GDAL can open"
    # Of an address, GDAL tells what the server answered, and which credentials are missing. It may
    # repeat the address, with its secrets.
    shown = without_secrets(name) if is_address(name) else name
    reason = " ".join(str(error).split()).replace(name, shown)
    return f"{printable(shown)} cannot be opened: {one_line(RasterError(reason))}"


class _Cache:
    """GDAL's cache of decoded blocks, shared by all rasters of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: list[int] = []
        self._before = 0

    @contextmanager
    def limited(self, limit: int) -> Iterator[None]:
        with self._lock:
            if not self._limits:
                self._before = int(get_gdal_config("GDAL_CACHEMAX"))
            self._limits.append(limit)
            self._set(min(self._before, max(self._limits)))
        try:
            yield
        finally:
            with self._lock:
                self._limits.remove(limit)
                self._set(min(self._before, max(self._limits, default=self._before)))

    def _set(self, limit: int) -> None:
        set_gdal_config("GDAL_CACHEMAX", limit)


_CACHE = _Cache()


def limited_cache(limit: int) -> AbstractContextManager[None]:
    """Limit GDAL's cache of decoded blocks within a block of code.

    By default, the cache grows to a twentieth of the machine's memory. If several threads set a
    limit at the same time, the largest one applies. The environment variable GDAL_CACHEMAX always
    takes precedence.

    Args:
        limit: maximum size in bytes.
    """
    return nullcontext() if "GDAL_CACHEMAX" in os.environ else _CACHE.limited(limit)


def mappable(dataset: DatasetReader) -> bool:
    """Return whether the dataset is an uncompressed GeoTIFF that GDAL can map into memory."""
    plain = dataset.driver == "GTiff" and dataset.compression is None
    return plain and os.name == "posix" and os.path.isfile(dataset.name)


def reading(dataset: DatasetReader) -> AbstractContextManager[object]:
    """Return the context in which to read from a dataset that ``open_dataset`` opened."""
    # Entering an environment takes as long as a small read, and GeoTIFFs do not need one.
    return nullcontext() if dataset.driver == "GTiff" else rasterio.Env(**_OPENING_AND_READING)


def stores_nothing(dataset: DatasetReader, window: Window) -> bool:
    """Return whether a GeoTIFF stores no block under a window, so that it need not be read.

    Blocks that a sparse file lists but does not store are nodata if the dataset has a nodata
    value; otherwise, they are zero.

    Args:
        dataset: open dataset.
        window: window on the grid of the file, inside it.
    """
    if dataset.driver != "GTiff":
        return False
    height, width = dataset.block_shapes[0]
    rows = range(window.row // height, -(-(window.row + window.height) // height))
    cols = range(window.col // width, -(-(window.col + window.width) // width))
    # Bands that are stored apart have blocks of their own.
    together = dataset.interleaving is Interleaving.pixel
    return all(
        dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band) is None
        for band in (dataset.indexes[:1] if together else dataset.indexes)
        for row in rows
        for col in cols
    )


@contextmanager
def quiet_about_georeference() -> Iterator[None]:
    """Suppress rasterio's warning about rasters without georeferencing opened in this block."""
    # A raster without georeferencing is normal here, and RasterInfo reports it. Warning filters
    # apply to the whole process, so threads take turns in opening rasters.
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
