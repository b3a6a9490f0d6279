"""Footprints in pixel coordinates of their raster, searched by the visible part of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow
import pyogrio.errors
import pyproj.exceptions
import shapely
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from rasterio.transform import GCPTransformer

from rhm.errors import VectorError
from rhm.inference.layers.vector_files import FORMATS
from rhm.viewer.predictions import PredictionFiles

MOST = 3000
"""Maximum number of footprints in view; more could not be distinguished on the screen."""


class FootprintLayer:
    """The footprints of a prediction.

    Args:
        prediction: a prediction with footprints.

    Raises:
        VectorError: the footprints cannot be read.
        RasterError: the raster that defines the pixel coordinates cannot be read.
    """

    def __init__(self, prediction: PredictionFiles) -> None:
        if prediction.buildings is None:
            raise VectorError(f"{prediction.name} has no footprints")
        frame = _read(prediction.buildings)
        with prediction.open_probability() as raster:
            crs = raster.crs or raster.gcps[1]
            if crs is not None and frame.crs is not None:
                try:
                    frame = frame.to_crs(crs)
                except pyproj.exceptions.ProjError as error:
                    raise VectorError(f"{prediction.buildings}: {error}") from error
            self._polygons = _in_pixels(frame.geometry.to_numpy(), raster)
        self._scores, self._areas = (_numbers(frame, name) for name in ("score", "area_m2"))
        self._tree = shapely.STRtree(self._polygons)

    def __len__(self) -> int:
        return len(self._polygons)

    def within(self, left: float, top: float, right: float, bottom: float) -> bytes:
        """Return the footprints that touch a part of the raster, as JSON.

        Args:
            left: first column, in pixels.
            top: first row.
            right: end of the columns, exclusive.
            bottom: end of the rows, exclusive.

        Returns:
            ``{"count": n, "footprints": [{"score", "area_m2", "rings"}, ...]}`` with the outer and
            inner rings of each footprint in pixels, (column, row). If there are more than ``MOST``
            footprints, they are counted but not returned.
        """
        found = np.sort(self._tree.query(shapely.box(left, top, right, bottom)))
        shown = found if len(found) <= MOST else found[:0]
        footprints = [
            {
                "score": _known(self._scores[index]),
                "area_m2": _known(self._areas[index]),
                "rings": [ring for part in _parts(self._polygons[index]) for ring in part],
            }
            for index in shown
        ]
        return json.dumps({"count": len(found), "footprints": footprints}).encode()


def _read(path: Path) -> gpd.GeoDataFrame:
    """Read footprints only in the format of the file's suffix.

    A file with such a name may be virtual and could show any file of the machine.
    """
    kind = FORMATS[path.suffix]
    try:
        with path.open("rb") as file:
            if not file.read(64).lstrip().startswith(kind.begins):
                raise VectorError(f"{path} is not {kind.driver}")
        frame = kind.read(path)
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        pyarrow.ArrowException,
        ValueError,
        OSError,
    ) as error:
        raise VectorError(f"{path} cannot be read: {error}") from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise VectorError(f"{path} contains no geometry")
    return frame


def _in_pixels(geometries: NDArray[Any], raster: DatasetReader) -> NDArray[Any]:
    points: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    gcps, _ = raster.gcps
    if gcps:
        with GCPTransformer(gcps) as transformer:

            def points(places: NDArray[np.float64]) -> NDArray[np.float64]:
                rows, cols = transformer.rowcol(*places.T, op=lambda value: value)
                return np.column_stack([cols, rows])

            return np.asarray(shapely.transform(geometries, points), dtype=object)
    inverse = ~raster.transform
    turn = np.array([[inverse.a, inverse.b], [inverse.d, inverse.e]])
    origin = np.array([inverse.c, inverse.f])
    moved = shapely.transform(geometries, lambda places: places @ turn.T + origin)
    return np.asarray(moved, dtype=object)


def _parts(geometry: Any) -> list[list[list[list[float]]]]:
    """Return the rings of each polygon of a geometry, rounded to a hundredth of a pixel."""
    polygons = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"]
    return [
        [np.round(shapely.get_coordinates(ring), 2).tolist() for ring in (p.exterior, *p.interiors)]
        for p in polygons
    ]


def _numbers(frame: gpd.GeoDataFrame, name: str) -> NDArray[np.float64]:
    if name not in frame:
        return np.full(len(frame), np.nan)
    try:
        return np.asarray(frame[name].to_numpy(), dtype=np.float64)
    except (TypeError, ValueError):
        return np.full(len(frame), np.nan)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
