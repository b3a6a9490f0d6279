"""Datasets of rasterio, opened and read with the settings that imagery needs."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import rasterio
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from rhm.errors import RasterError

_OPENING = threading.Lock()

# GDAL's shortcut for whole PNGs answers truncated ones with noise, unless told at both times.
_OPENING_AND_READING = {"GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO"}

_MAPPED = {"GTIFF_VIRTUAL_MEM_IO": "YES"}


def open_dataset(
    path: str | os.PathLike[str], *, mapped: bool = False, overviews: bool = True
) -> DatasetReader:
    """Open a raster.

    Args:
        path: anything GDAL opens.
        mapped: whether to copy the pixels of an uncompressed GeoTIFF straight from the system's
            file cache: less work than GDAL's cache of blocks, no memory of ours, and shared by
            processes. Not for resampling, where GDAL then is a pixel off.
        overviews: whether resampling may read overviews instead.

    Raises:
        RasterError: the file is missing or not a raster.
    """
    name = os.fspath(path)
    local = not name.startswith("/vsi") and "://" not in name
    if local and not os.path.exists(name):
        raise RasterError(f"no such file: {name}")
    config = _OPENING_AND_READING | (_MAPPED if mapped else {})
    options = {} if overviews else {"OVERVIEW_LEVEL": "NONE"}
    try:
        with quiet_about_georeference(), rasterio.Env(**config):
            return rasterio.open(name, **options)
    except (RasterioError, UnicodeEncodeError) as error:
        raise RasterError(f"{name} is not a raster that GDAL can open") from error


class _Cache:
    """GDAL's cache of decoded blocks, which all rasters of the process share."""

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
    """Keep GDAL's cache of decoded blocks small in this block of code.

    By default it grows to a twentieth of the machine's memory. Where several threads ask at once,
    the largest limit holds; what the environment variable GDAL_CACHEMAX says holds always.

    Args:
        limit: in bytes.
    """
    return nullcontext() if "GDAL_CACHEMAX" in os.environ else _CACHE.limited(limit)


def mappable(dataset: DatasetReader) -> bool:
    """Return whether the file's bytes are its pixels, and the system lets GDAL map them."""
    plain = dataset.driver == "GTiff" and dataset.compression is None
    return plain and os.name == "posix" and os.path.isfile(dataset.name)


def reading(dataset: DatasetReader) -> AbstractContextManager[object]:
    """Return the context in which to read from a dataset of ``open_dataset``."""
    # An environment costs as much as a small read, and GeoTIFFs do not need one.
    return nullcontext() if dataset.driver == "GTiff" else rasterio.Env(**_OPENING_AND_READING)


@contextmanager
def quiet_about_georeference() -> Iterator[None]:
    """Keep rasterio from warning of rasters without georeference; open them in this block."""
    # A raster without georeference is ordinary here, and said so in RasterInfo. Warning filters
    # belong to the process, so threads that open rasters take turns.
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
