"""Polygons of vector files, opened only in known formats and read once if they have no index.

GDAL opens any format whatever the name of a file, also formats that read other files or fetch
from the network. Here, the suffix names the format, and the content must agree.
"""

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray

from rhm.data.vectors.contents import check_content
from rhm.data.vectors.geoparquet import read_geoparquet
from rhm.data.vectors.json_files import is_json
from rhm.data.vectors.layer_choice import facts_of_layer, polygon_layers, selection
from rhm.data.vectors.repair import TangledError, repaired
from rhm.data.vectors.side_files import no_side_files
from rhm.errors import VectorError

Bounds = tuple[float, float, float, float]
"""(left, bottom, right, top)."""

CACHED_BYTES = 1 << 29
"""Memory for the polygons of whole files that were read last: some ten million vertices."""

_POLYGON, _FIRST_COLLECTION = 3, 4  # shapely's type ids; every collection is 4 or more
_BYTES_PER_VERTEX = 48
_BYTES_PER_POLYGON = 400
_HEAD = 4096


@dataclass(frozen=True)
class VectorFormat:
    """A format of vector files.

    Attributes:
        drivers: drivers of GDAL that may read it; empty for GeoParquet, which pyarrow reads.
        begins: whether the first bytes of a file are those of the format.
        indexed: whether the polygons in a box are found without reading the whole file.
        together: whether layers are parts of one document, which are read together.
    """

    drivers: tuple[str, ...]
    begins: Callable[[bytes], bool]
    indexed: bool = False
    together: bool = False


# What may stand before the first element of an XML document.
_BEFORE_ROOT = rb"(?:\s|<\?(?:(?!\?>).)*\?>|<!--(?:(?!-->).)*-->|<!DOCTYPE[^\[>]*>)*"
_KML = re.compile(rb"(?:\xef\xbb\xbf)?" + _BEFORE_ROOT + rb"<(?:\w+:)?kml[\s/>]", re.DOTALL)


def _is_kml(head: bytes) -> bool:
    return _KML.match(head) is not None


_LINES = VectorFormat(("GeoJSONSeq",), is_json)
_JSON = VectorFormat(("GeoJSON", "ESRIJSON", "TopoJSON", "GeoJSONSeq"), is_json)

VECTOR_FORMATS: dict[str, VectorFormat] = {
    ".gpkg": VectorFormat(("GPKG",), lambda head: head.startswith(b"SQLite format 3\0"), True),
    ".fgb": VectorFormat(("FlatGeobuf",), lambda head: head.startswith(b"fgb"), True),
    ".shp": VectorFormat(("ESRI Shapefile",), lambda head: head.startswith(b"\0\0\x27\x0a"), True),
    ".parquet": VectorFormat((), lambda head: head.startswith(b"PAR1")),
    ".geojson": _JSON,
    ".json": _JSON,
    ".geojsonl": _LINES,
    ".geojsons": _LINES,
    ".kml": VectorFormat(("KML", "LIBKML"), _is_kml, together=True),
}
"""Formats of footprints that are read, by suffix."""

_OTHERS = """
    .gml .csv .kmz .gpx .dxf .dgn .dwg .tab .mif .gdb .sqlite .osm .pbf .vrt .zip .wkt .topojson
    .ndjson .geoparquet .feather
"""

OTHER_VECTOR_SUFFIXES = frozenset(_OTHERS.split())
"""Suffixes of other vector files: a label with one of them is refused by name."""


@dataclass(frozen=True, eq=False)
class VectorLayer:
    """The polygons of a vector file.

    Attributes:
        polygons: (N,) valid polygons in the order of the file, without heights.
        features: (N,) number of the feature that each belongs to.
        crs: coordinate reference system, or None.
    """

    polygons: NDArray[Any]
    features: NDArray[np.int64]
    crs: Any

    def within(self, box: Bounds | None) -> "VectorLayer":
        """Return the polygons whose extent meets a box in the CRS of the file."""
        if box is None:
            return self
        chosen = np.sort(self._tree.query(shapely.box(*box)))
        return VectorLayer(self.polygons[chosen], self.features[chosen], self.crs)

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.polygons)

    @property
    def nbytes(self) -> int:
        """Approximate memory."""
        vertices = int(shapely.get_num_coordinates(self.polygons).sum())
        return _BYTES_PER_VERTEX * vertices + _BYTES_PER_POLYGON * len(self.polygons)


class RecentFiles:
    """The files that were read last, as long as they fit into memory and do not change.

    Args:
        limit: memory in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._layers: OrderedDict[tuple[Any, ...], VectorLayer] = OrderedDict()

    def get(self, path: Path, read: Callable[[Path], VectorLayer]) -> VectorLayer:
        """Return the polygons of a file, which ``read`` reads if it is not among the last."""
        facts = path.stat()
        key = (os.path.abspath(path), facts.st_ino, facts.st_size, facts.st_mtime_ns)
        with self._lock:
            layer = self._layers.get(key)
            if layer is None:
                layer = self._layers[key] = read(path)
            self._layers.move_to_end(key)
            while sum(each.nbytes for each in self._layers.values()) > self._limit:
                self._layers.popitem(last=False)
        return layer


_RECENT = RecentFiles(CACHED_BYTES)


def read_layer(path: str | os.PathLike[str], box_in: Callable[[Any], Bounds | None]) -> VectorLayer:
    """Read the polygons of a vector file, at least those that meet a box.

    Args:
        path: file in one of ``VECTOR_FORMATS``. Of several layers, the one with polygons is read;
            the folders of a KML file are read together.
        box_in: function that returns the box in a CRS, or None for everything.

    Raises:
        VectorError: the suffix is not one of ``VECTOR_FORMATS``, the content is of another format,
            there is no polygon layer or more than one, or a polygon cannot be repaired.
        OSError: the file cannot be read.
        ValueError: the file is damaged; GDAL's own errors also occur.
    """
    path = Path(path)
    kind = checked_format(path)
    if not kind.indexed:
        layer = _RECENT.get(path, lambda path: _read(path, kind, None))
        return layer.within(box_in(layer.crs) if layer.crs is not None else None)
    return _read(path, kind, box_in)


def checked_format(path: Path) -> VectorFormat:
    """Return the format of a vector file, by its suffix, after checking its content.

    Raises:
        VectorError: the suffix is not one of ``VECTOR_FORMATS``, the content is of another format,
            or GDAL would read more than this file, or without end.
        OSError: the file cannot be read.
    """
    kind = VECTOR_FORMATS.get(path.suffix.lower())
    if path.is_dir() and (kind is None or not kind.drivers):
        raise VectorError(
            f"{path} is a folder: name a file of footprints, or make one of the results in it with "
            "`rhm merge-footprints`"
        )
    if kind is None:
        raise VectorError(
            f"{path} is in a format of footprints that is not read: convert it to GeoPackage "
            "(ogr2ogr labels.gpkg FILE)"
        )
    with path.open("rb") as file:
        if not kind.begins(file.read(_HEAD)):
            raise VectorError(f"{path} does not have the format that its name says")
    check_content(path)
    return kind


@no_side_files()
def count_features(path: str | os.PathLike[str]) -> int:
    """Return the number of features in the layer that ``read_layer`` reads.

    Raises:
        VectorError: see ``read_layer``.
    """
    path = Path(path)
    kind = checked_format(path)
    if not kind.indexed:
        return len(_RECENT.get(path, lambda path: _read(path, kind, None)).polygons)
    (layer,) = polygon_layers(path, kind.drivers)
    return int(pyogrio.read_info(path, layer=layer, force_feature_count=True)["features"])


def simple_parts(geometries: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Split (nested) collections into simple geometries; return these and their sources."""
    source = np.arange(len(geometries))
    parts = geometries
    while True:
        parts, index = shapely.get_parts(parts, return_index=True)
        source = source[index]
        if not (shapely.get_type_id(parts) >= _FIRST_COLLECTION).any():
            return parts, source


def valid_polygons(geometries: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Split geometries into polygons, repaired where necessary.

    Args:
        geometries: (N,) geometries of any type, or None.

    Returns:
        (M,) valid polygons with a finite area above 0, and (M,) the index of the geometry that each
        belongs to. Other types, and geometries with a coordinate that is not finite, are left out.

    Raises:
        TangledError: a polygon cannot be repaired; its index is that of its geometry.
    """
    parts, source = simple_parts(geometries)
    keep = (shapely.get_type_id(parts) == _POLYGON) & is_finite(parts)
    parts, source = parts[keep], source[keep]
    try:
        fixed = repaired(parts)
    except TangledError as error:
        error.index = int(source[error.index])
        raise
    pieces, index = simple_parts(fixed)
    keep = (shapely.get_type_id(pieces) == _POLYGON) & (shapely.area(pieces) > 0)
    return pieces[keep], source[index[keep]]


def is_finite(geometries: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which geometries are present and have only finite coordinates, (N,)."""
    coordinates, index = shapely.get_coordinates(geometries, return_index=True)
    finite: NDArray[np.bool_] = ~shapely.is_missing(geometries)
    finite[index[~np.isfinite(coordinates).all(axis=1)]] = False
    return finite


def _read(
    path: Path, kind: VectorFormat, box_in: Callable[[Any], Bounds | None] | None
) -> VectorLayer:
    if kind.drivers:
        found, numbers = _by_gdal(path, kind, box_in)
    else:
        found = read_geoparquet(path, only_geometry=True).geometry
        numbers = np.arange(len(found))
    try:
        # Multipolygons are split before they are checked, so that each part is judged by itself.
        polygons, source = valid_polygons(shapely.force_2d(found.to_numpy()))
    except TangledError as error:
        raise VectorError(f"{path}: feature {numbers[error.index]}: {error}") from error
    return VectorLayer(polygons, numbers[source], found.crs)


@no_side_files()
def _by_gdal(
    path: Path, kind: VectorFormat, box_in: Callable[[Any], Bounds | None] | None
) -> tuple[Any, NDArray[np.int64]]:
    """Return the geometries of the layers with polygons, and their feature numbers."""
    layers = polygon_layers(path, kind.drivers, together=kind.together)
    facts = facts_of_layer(path, layers[0], kind.drivers)
    box = box_in(facts["crs"]) if box_in is not None and facts["crs"] else None
    # Geometries that cannot be built, such as rings of two points, are returned as missing.
    frame = pyogrio.read_dataframe(
        path, **selection(layers), columns=[], bbox=box, on_invalid="ignore", fid_as_index=True
    )
    return frame.geometry, frame.index.to_numpy()
