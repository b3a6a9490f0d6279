"""Which layers of a vector file are read: those that may contain polygons, and never one at random.

A file of several layers, such as a GeoPackage of a whole project, does not say which of them has
the buildings. Reading the first one would lose those of the others without a word.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray

from rhm.data.vectors.databases import views_of
from rhm.data.vectors.json_files import check_crs_taken
from rhm.data.vectors.side_files import no_side_files
from rhm.errors import VectorError, printable

_POLYGONAL = ("Polygon", "Surface")
_UNDECLARED = ("Unknown", "Collection")  # types whose features may be polygons
_OWN_LAYER, _OWN_STAMP = "buildings", "RHM"  # of the GeoPackages that predictions and merges write
_MOST_NAMES = 5


@no_side_files()
def polygon_layers(
    path: Path, drivers: Sequence[str], *, together: bool = False
) -> tuple[str, ...]:
    """Return the names of the layers whose polygons are those of a file.

    Of a GeoPackage that rhm wrote, this is its own layer, whatever was added to it since. In other
    files, layers without polygons are passed over.

    Args:
        path: vector file.
        drivers: drivers of GDAL that may read it.
        together: whether layers are only parts of the content, such as the folders of a KML file,
            so that all that may contain polygons are read. Otherwise, it is one layer.

    Raises:
        VectorError: no layer may contain polygons, several do, and none of them is meant more than
            the others, or the content is of another format than the name of the file says.
    """
    kinds = {str(name): kind or "" for name, kind in pyogrio.list_layers(path)}
    possible = {
        name: _is_one_of(kind, _POLYGONAL)
        for name, kind in kinds.items()
        if _is_one_of(kind, _POLYGONAL + _UNDECLARED)
    }
    if not possible:
        raise VectorError(f"{path} has no polygon layer; choose a file that has one")
    if together or len(possible) == 1:
        return tuple(possible)
    facts_of_layer(path, next(iter(possible)), drivers)
    facts = path.stat()
    return (_only_one(path, tuple(possible.items()), (facts.st_ino, facts.st_mtime_ns)),)


def selection(layers: Sequence[str]) -> dict[str, str]:
    """Return the arguments with which the functions of pyogrio read layers one after another."""
    if len(layers) == 1:
        return {"layer": layers[0]}
    # GDAL parses a KML file again for every layer that is opened by itself.
    names = (name.replace("\\", "\\\\").replace('"', '\\"') for name in layers)
    tables = [f'SELECT * FROM "{name}"' for name in names]  # noqa: S608 (names are quoted)
    return {"sql": " UNION ALL ".join(tables)}


@no_side_files()
def facts_of_layer(path: Path, layer: str, drivers: Sequence[str]) -> dict[str, Any]:
    """Return what GDAL says about a layer, such as its CRS and the names of its attributes.

    Args:
        path: vector file.
        layer: name of the layer.
        drivers: drivers of GDAL that may read the file.

    Raises:
        VectorError: the content is of another format than the name of the file says, or has a CRS
            that GDAL does not see.
    """
    facts: dict[str, Any] = pyogrio.read_info(path, layer=layer)
    driver = facts.get("driver", drivers[0])
    if driver not in drivers:
        raise VectorError(f"{path} is {driver}, not what its name says: rename or convert it")
    check_crs_taken(path, facts["crs"])
    return facts


# Images are opened again and again, and each time the file of their labels.
@lru_cache(maxsize=64)
def _only_one(path: Path, possible: tuple[tuple[str, bool], ...], version: Any) -> str:
    """Return the one layer that is read; ``version`` changes with the file.

    Args:
        path: vector file.
        possible: names of layers, and whether all of their features are polygons.
        version: anything that differs when the file has changed.
    """
    names = [name for name, _ in possible]
    if _OWN_LAYER in names:
        about_file = pyogrio.read_info(path, layer=_OWN_LAYER).get("dataset_metadata")
        if _OWN_STAMP in (about_file or {}):
            return _OWN_LAYER
    filled = [name for name, polygonal in possible if _has_polygons(path, name, polygonal)]
    if len(filled) > 1:
        # A view shows the rows of other layers once more.
        views = views_of(path)
        filled = [name for name in filled if name not in views] or filled
    if len(filled) > 1:
        told = ", ".join(printable(name) for name in filled[:_MOST_NAMES])
        more = f" and {len(filled) - _MOST_NAMES} more" if len(filled) > _MOST_NAMES else ""
        raise VectorError(
            f"{path} has several layers with polygons ({told}{more}): write the one that you mean "
            "to a file of its own (ogr2ogr one.gpkg FILE LAYER)"
        )
    return (filled or names)[0]


def _has_polygons(path: Path, layer: str, polygonal: bool) -> bool:
    """Return whether a layer contains a polygon; ``polygonal`` if it contains nothing else."""
    if polygonal:
        return bool(pyogrio.read_info(path, layer=layer, force_feature_count=True)["features"])
    with pyogrio.open_arrow(path, layer=layer, columns=[], use_pyarrow=True) as (meta, reader):
        geometry = meta["geometry_name"] or "wkb_geometry"
        return any(_is_area(batch.column(geometry)).any() for batch in reader)


def _is_area(stored: Any) -> NDArray[np.bool_]:
    """Return which geometries of a column of Arrow are polygons, or contain some."""
    found = shapely.from_wkb(stored.to_numpy(zero_copy_only=False), on_invalid="ignore")
    return np.asarray(shapely.get_dimensions(found) == 2)


def _is_one_of(kind: str, words: Sequence[str]) -> bool:
    return any(word in kind for word in words)
