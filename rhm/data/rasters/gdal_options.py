"""Opening and reading rasterio datasets with the GDAL options that imagery needs."""

import errno
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from xml.parsers import expat

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import Interleaving
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from rhm.data.rasters.windows import Window
from rhm.errors import RasterError, one_line, printable
from rhm.gdal_drivers import DESCRIPTIONS, REFUSED
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

# GDAL passes over the files beside a raster that it cannot open.
_BESIDE = {
    ".msk": "which pixels are nodata would be unknown",
    ".ovr": "resampled pixels would be others",
    ".aux.xml": "nodata and georeference would be unknown",
}
_ALONE = ("EMPTY_DIR", "TRUE")
_HEAD, _XML_BLOCK = 64, 1 << 20
_BOM = b"\xef\xbb\xbf"
_NO_CONTROLS = bytes(32 if byte < 32 and byte not in b"\t\r\n" else byte for byte in range(256))


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
        RasterError: the file is missing or not a raster, it is virtual and not called so, or a file
            beside it, such as a mask, cannot be read.
    """
    name = os.fspath(path)
    require_raster(name)
    _check_pixels_beside(name)
    config = _OPENING_AND_READING | (_MAPPED if mapped else {})
    options = {} if overviews else {"OVERVIEW_LEVEL": "NONE"}
    try:
        with quiet_about_georeference(), rasterio.Env(**config):
            dataset = rasterio.open(name, **options)
            try:
                _check_driver(name, dataset.driver)
                # Without its overviews, GDAL does not list what else it reads.
                if overviews:
                    _check_beside(name, dataset)
            except BaseException:
                dataset.close()
                raise
            return dataset
    except GDAL_ERRORS as error:
        raise RasterError(_why_not(name, error)) from error


def _check_driver(name: str, driver: str) -> None:
    """Refuse a file that leads to others, unless it is called by a name that says so.

    Raises:
        RasterError: it is refused.
    """
    # If rasterio was used before rhm was imported, GDAL has these drivers all the same.
    if driver in REFUSED:
        raise RasterError(f"{printable(name)} is {driver}, which is not read")
    suffixes = DESCRIPTIONS.get(driver, ())
    # In archives and on servers, too; an address may have a query. WMS:https://... is plain.
    ends = (name.lower(), name.lower().partition("?")[0])
    plain = name.lower().startswith(f"{driver.lower()}:")
    if suffixes and not plain and not any(end.endswith(suffixes) for end in ends):
        raise RasterError(
            f"{printable(name)} is no image but {driver}, which can lead to any file or server: if "
            f"you trust it, rename it to {suffixes[0]}"
        )


def _check_beside(name: str, dataset: DatasetReader) -> None:
    """Check that GDAL could read the files beside a local raster, such as its mask.

    Raises:
        RasterError: it could not.
    """
    if not is_local(name) or get_gdal_config("GDAL_DISABLE_READDIR_ON_OPEN") in _ALONE:
        return
    beside = [suffix for suffix in _BESIDE if os.path.isfile(name + suffix)]
    read = {os.path.abspath(each) for each in dataset.files} if beside else set()
    for suffix in beside:
        path = name + suffix
        ignored = _is_not_xml(path) if suffix == ".aux.xml" else os.path.abspath(path) not in read
        if ignored:
            raise _unreadable(path, suffix)


def _check_pixels_beside(name: str) -> None:
    """Check, before GDAL opens them, that files beside a raster do not lead to others.

    Raises:
        RasterError: one does.
    """
    for suffix in (".msk", ".ovr"):
        if is_local(name) and os.path.isfile(name + suffix):
            with open(name + suffix, "rb") as file:
                if file.read(_HEAD).lstrip().startswith((b"<", b"{")):
                    raise _unreadable(name + suffix, suffix)


def _unreadable(path: str, suffix: str) -> RasterError:
    return RasterError(
        f"{printable(path)} cannot be read, so that {_BESIDE[suffix]}: restore it, or move it away"
    )


def _is_not_xml(path: str) -> bool:
    # GDAL copies tags of any encoding byte by byte. The structure is ASCII all the same.
    parser = expat.ParserCreate("iso-8859-1")
    with open(path, "rb") as file:
        start = file.read(len(_BOM))
        file.seek(len(_BOM) if start == _BOM else 0)
        try:
            while block := file.read(_XML_BLOCK):
                parser.Parse(block.translate(_NO_CONTROLS), False)
            parser.Parse(b"", True)
        except expat.ExpatError:
            return True
    return False


def _why_not(name: str, error: Exception) -> str:
    if is_local(name):
        if os.path.exists(name) and not os.access(name, os.R_OK):
            return f"{name} cannot be opened: {os.strerror(errno.EACCES)}"
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
