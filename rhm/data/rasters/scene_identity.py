"""Identity of a scene: a hash that changes whenever anything that GDAL reads for it changes.

The pixels of a scene may come from many files: the sources of a virtual raster, an archive behind
``/vsizip/``, objects on a server, a world file, a mask or an ``.aux.xml`` beside the image.
"""

import ctypes
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import rasterio
import rasterio._env
from rasterio.io import DatasetReader

from rhm.data.rasters.gdal_options import open_dataset
from rhm.errors import RasterError
from rhm.files import SIDE_FILES
from rhm.gdal_drivers import SERVICES

_ARCHIVE = re.compile(r"/?vsi(?:zip|tar|7z|rar)/")
_ARCHIVE_SUFFIX = re.compile(r".*?\.(?:zip|kmz|tar|tgz|tar\.gz|7z|rar)(?=/|$)", re.IGNORECASE)
_COMPRESSED = re.compile(r"/?vsigzip/")
_HEADERS = {"etag", "last-modified", "content-length"}
# Programs that show a raster write statistics beside it, which do not change how it is read.
_STATISTICS = re.compile(
    r'<MDI key="STATISTICS_[^"]*">[^<]*</MDI>|<Histograms>.*?</Histograms>', re.DOTALL
)
_EMPTY = re.compile(r"<(\w+)[^<>]*>\s*</\1>|<\w+[^<>]*/>")


@dataclass(frozen=True)
class SceneIdentity:
    """Identity of a scene.

    Attributes:
        digest: hash of the files that GDAL reads and of the georeferencing that they give.
        unknown: first file whose changes cannot be noticed, such as an object on a server that
            gives neither ETag nor date; None if every change is noticed.
    """

    digest: str
    unknown: str | None


def scene_identity(scene: str | os.PathLike[str]) -> SceneIdentity:
    """Return the identity of a scene as it is now.

    Local files are told apart by path, size and time of modification (in nanoseconds), objects on a
    server by the headers ``ETag``, ``Last-Modified`` and ``Content-Length``.

    Args:
        scene: anything that GDAL opens.

    Raises:
        RasterError: the scene is missing or not a raster.
    """
    with open_dataset(scene) as dataset:
        digest = hashlib.sha256(repr(_facts(dataset)).encode())
        service = dataset.driver in SERVICES
        files = dict.fromkeys(_files_of(dataset))
    unknown = os.fspath(scene) if service or not files else None
    for file in files:
        state = _state_of(file)
        if state is None:
            unknown = unknown or file
        digest.update(repr((file, state)).encode())
    return SceneIdentity(digest.hexdigest(), unknown)


def _facts(dataset: DatasetReader) -> tuple[Any, ...]:
    """Return what a dataset says about its pixels, from whichever file."""
    gcps, gcps_crs = dataset.gcps
    return (
        dataset.driver,
        dataset.shape,
        dataset.dtypes,
        dataset.nodatavals,
        dataset.colorinterp,
        dataset.mask_flag_enums,
        dataset.crs and dataset.crs.to_wkt(),
        tuple(dataset.transform),
        [(gcp.row, gcp.col, gcp.x, gcp.y, gcp.z) for gcp in gcps],
        gcps_crs and gcps_crs.to_wkt(),
        sorted(dataset.tags(ns="RPC").items()),
    )


def _files_of(dataset: DatasetReader) -> Iterator[str]:
    """Yield the files that a dataset consists of, including those of virtual rasters inside it."""
    seen = set()
    waiting = list(dataset.files)
    while waiting:
        file = waiting.pop()
        file = file if file.startswith("/vsi") or "://" in file else os.path.abspath(file)
        if file in seen:
            continue
        seen.add(file)
        if not _is_statistics(file):
            yield file
        # Virtual rasters list their sources, but not what lies beside these.
        beside = [file + suffix for suffix in SIDE_FILES]
        waiting += [other for other in beside if os.path.isfile(other)]
        if _may_be_virtual(file):
            waiting += _sources_of(file)


def _may_be_virtual(file: str) -> bool:
    """Return whether a file may name other files."""
    if file.lower().endswith((".vrt", ".wms")):
        return True
    try:
        with Path(file).open("rb") as opened:
            return not file.endswith(".aux.xml") and opened.read(64).lstrip().startswith(b"<")
    except OSError:
        return False


def _sources_of(file: str) -> list[str]:
    """Return the files that a virtual raster names; a service is a file that cannot be found."""
    try:
        with open_dataset(file) as dataset:
            return [f"/vsi{dataset.driver}/"] if dataset.driver in SERVICES else dataset.files
    except RasterError:
        return []  # text about the scene, such as the metadata of a satellite image


def _state_of(file: str) -> Any:
    """Return what changes whenever a file changes, or None if there is no such thing."""
    holder = _holder_of(file)
    if holder is None:
        return None
    if holder.startswith("/vsi") or "://" in holder:
        return _headers_of(holder)
    if holder == file and file.endswith(".aux.xml"):
        return _without_statistics(file)
    try:
        if os.path.isdir(holder):
            return [
                (str(path), _stat(path))
                for path in sorted(Path(holder).rglob("*"))
                if path.is_file()
            ]
        return _stat(Path(holder))
    except OSError:
        return None


def _stat(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _holder_of(name: str) -> str | None:
    """Return the file or object that holds a file: its archive, or itself; None if unknown."""
    while True:
        if in_archive := _ARCHIVE.match(name):
            name = name[in_archive.end() :]
            holder = _braced(name) if name.startswith("{") else _archive_in(name)
            if holder is None:
                return None
            name = holder
        elif compressed := _COMPRESSED.match(name):
            name = name[compressed.end() :]
        else:
            return f"/{name}" if name.startswith("vsi") else name


def _braced(name: str) -> str | None:
    """Return the text between the brace that a name begins with and the one that closes it."""
    depth = 0
    for place, letter in enumerate(name):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return name[1:place]
    return None


def _archive_in(name: str) -> str | None:
    """Return the archive in a path that leads into it."""
    path = Path(name)
    for folder in (path, *path.parents):
        if folder.is_file():
            return str(folder)
    # On a server, or in another archive, only its suffix tells an archive from a folder.
    found = _ARCHIVE_SUFFIX.match(name)
    return found[0] if found and name.lstrip("/").startswith("vsi") else None


def _is_statistics(file: str) -> bool:
    """Return whether a file contains nothing but statistics of the pixels."""
    return file.endswith(".aux.xml") and _without_statistics(file) == ""


def _without_statistics(file: str) -> str | None:
    """Return the text of an ``.aux.xml`` without statistics; None if it cannot be read."""
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    text = _STATISTICS.sub("", re.sub(r"<\?.*?\?>", "", text))
    while text != (emptied := _EMPTY.sub("", text)):
        text = emptied
    return re.sub(r"\s+(?=<)|(?<=>)\s+", "", text.strip())


def _headers_of(name: str) -> list[str] | None:
    """Return the headers that identify an object on a server, or None if it gives none."""
    ask = _metadata_function()
    if ask is None:
        return None
    with rasterio.Env():
        headers = ask(name)
    known = {header.partition("=")[0].lower(): header for header in headers}
    telling = sorted(known[key] for key in known.keys() & _HEADERS)
    return telling if known.keys() & {"etag", "last-modified"} else None


@cache
def _metadata_function() -> Any:
    """Return a function from the name of a remote file to its HTTP headers, or None.

    rasterio has no function for it, but GDAL does, with the same credentials and proxies that it
    reads pixels with. The library of rasterio's module leads to that of GDAL, except on Windows.
    """
    try:
        gdal = ctypes.CDLL(rasterio._env.__file__)
        metadata, destroy = gdal.VSIGetFileMetadata, gdal.CSLDestroy
    except (OSError, AttributeError):
        return None
    metadata.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
    metadata.restype = ctypes.POINTER(ctypes.c_char_p)
    destroy.argtypes = [ctypes.POINTER(ctypes.c_char_p)]

    def headers(name: str) -> list[str]:
        found = metadata(name.encode(), b"HEADERS", None)
        lines: list[str] = []
        while found and (line := found[len(lines)]) is not None:
            lines.append(line.decode(errors="replace"))
        destroy(found)
        return lines

    return headers
