"""Buildings of a layer, whoever made it: rhm, Overture Maps, OpenStreetMap, or a national map."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from rhm.data.vectors.antimeridian import whole_in
from rhm.data.vectors.streamed_layer import PolygonBatch, StreamedLayer, streamed
from rhm.data.vectors.vector_layer import is_finite
from rhm.errors import VectorError

_IDENTIFIERS = ("id", "@id", "osm_id", "osm_way_id", "full_id", "fid_1", "gml_id")
"""Attributes that identify a building, in Overture's schema, in extracts of OpenStreetMap by
various tools, and elsewhere; the first that a feature has counts."""

_BUILDING, _TYPE, _SUBTYPE = "building", "type", "theme"
_NOT_BUILDINGS = frozenset({"no", "", "0", "false"})
_COLUMNS = (*_IDENTIFIERS, _BUILDING, _TYPE, _SUBTYPE, "score", "height", "num_floors", "scene")


@dataclass(frozen=True)
class MapBuildings:
    """The buildings of a layer.

    Attributes:
        polygons: (N,) polygons in the CRS of the layer.
        ids: (N,) identifiers, str or None.
        score: (N,) scores; NaN where the layer has none.
        height: (N,) heights in metres; NaN where the layer has none.
        floors: (N,) numbers of floors; NaN where the layer has none.
        crs: coordinate reference system.
    """

    polygons: NDArray[Any]
    ids: NDArray[Any]
    score: NDArray[np.float64]
    height: NDArray[np.float64]
    floors: NDArray[np.float64]
    crs: pyproj.CRS

    def __len__(self) -> int:
        return len(self.polygons)

    def __getitem__(self, chosen: NDArray[Any]) -> "MapBuildings":
        return MapBuildings(
            self.polygons[chosen],
            self.ids[chosen],
            self.score[chosen],
            self.height[chosen],
            self.floors[chosen],
            self.crs,
        )

    def in_crs(self, crs: Any) -> NDArray[Any]:
        """Return the polygons (N,) in another CRS; those without a place there are empty."""
        moved = whole_in(self.polygons, self.crs, crs)
        moved = np.where(is_finite(moved), moved, shapely.Polygon())
        broken = ~shapely.is_valid(moved)
        moved[broken] = shapely.buffer(moved[broken], 0.0)
        return moved


def read_map(path: str | os.PathLike[str]) -> MapBuildings:
    """Read the buildings of a layer.

    Of a layer with the attribute ``building``, as extracts of OpenStreetMap have it, only features
    that are buildings by it are taken; of a layer in Overture's schema, only features of the type
    ``building``.

    Args:
        path: file in one of ``vector_layer.VECTOR_FORMATS``.

    Raises:
        VectorError: the file cannot be read, has no CRS, or a polygon cannot be repaired.
    """
    with streamed(path, _COLUMNS) as layer:
        if layer.crs is None:
            raise VectorError(
                f"{Path(path)} has no CRS; assign one to it (ogr2ogr -a_srs), then retry"
            )
        batches = [_buildings(batch, layer) for batch in layer.batches]
        crs = layer.crs
    if not batches:
        batches = [_of(PolygonBatch(np.empty(0, dtype=object), {}), crs)]
    return MapBuildings(
        np.concatenate([each.polygons for each in batches]),
        np.concatenate([each.ids for each in batches]),
        np.concatenate([each.score for each in batches]),
        np.concatenate([each.height for each in batches]),
        np.concatenate([each.floors for each in batches]),
        crs,
    )


def _buildings(batch: PolygonBatch, layer: StreamedLayer) -> MapBuildings:
    assert layer.crs is not None  # noqa: S101 (checked by the caller)
    found = _of(batch, layer.crs)
    keep = np.ones(len(found), dtype=bool)
    if _BUILDING in layer.names:
        keep &= [_is_building(value) for value in batch.texts(_BUILDING)]
    if {_TYPE, _SUBTYPE} <= set(layer.names):  # Overture's schema, with parts of buildings
        keep &= batch.texts(_TYPE) == "building"
    return found[keep]


def _of(batch: PolygonBatch, crs: pyproj.CRS) -> MapBuildings:
    ids = np.full(len(batch.polygons), None, dtype=object)
    for name in reversed(_IDENTIFIERS):
        known = batch.texts(name)
        ids = np.where(known == None, ids, known)  # noqa: E711 (element by element)
    score, height, floors = (batch.numbers(name) for name in ("score", "height", "num_floors"))
    return MapBuildings(batch.polygons, ids, score, height, floors, crs)


def _is_building(value: Any) -> bool:
    return value is not None and str(value).strip().lower() not in _NOT_BUILDINGS
