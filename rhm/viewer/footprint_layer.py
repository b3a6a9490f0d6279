"""Footprints in pixel coordinates of their raster, searched by the visible part of it."""

import json
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj.exceptions
import shapely
from numpy.typing import NDArray
from rasterio.io import DatasetReader

from rhm.data.rasters.georeference import to_pixels
from rhm.data.vectors.antimeridian import whole_in
from rhm.data.vectors.vector_layer import is_finite
from rhm.errors import VectorError
from rhm.viewer.marks import MarkedFootprint, Marks, numbers_of
from rhm.viewer.predictions import PredictionFiles, read_vectors_alone

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
        frame = read_vectors_alone(prediction.buildings)
        scores, areas = (numbers_of(frame, name) for name in ("score", "area_m2"))
        columns = (frame.geometry, scores, areas)
        self._footprints = [MarkedFootprint(p, "", s, a) for p, s, a in zip(*columns, strict=True)]
        self._count = len(self._footprints)
        self._marks = Marks(prediction.marks, frame.crs)
        # Marks stay when the footprints are predicted again, and belong to none of them then.
        marked = self._marks.all()
        if marked:
            known = {shapely.to_wkb(each.polygon) for each in self._footprints}
            self._footprints += [
                each for each in marked if shapely.to_wkb(each.polygon) not in known
            ]
        outlines = gpd.GeoSeries([each.polygon for each in self._footprints], crs=frame.crs)
        self._polygons = on_raster(gpd.GeoDataFrame(geometry=outlines), prediction)
        self._tree = shapely.STRtree(self._polygons)

    def __len__(self) -> int:
        return self._count

    def within(self, left: float, top: float, right: float, bottom: float) -> bytes:
        """Return the footprints that touch a part of the raster, as JSON.

        Args:
            left: first column, in pixels.
            top: first row.
            right: end of the columns, exclusive.
            bottom: end of the rows, exclusive.

        Returns:
            ``{"count": n, "footprints": [{"id", "mark", "old", "score", "area_m2", "rings"}]}``
            with the outer and inner rings of each footprint in pixels, (column, row). ``old`` ones
            have a mark, but the footprints were predicted again since. If there are more than
            ``MOST``, they are counted but not returned.
        """
        found = np.sort(self._tree.query(shapely.box(left, top, right, bottom)))
        marks = {int(index): self._marks.of(self._footprints[index].polygon) for index in found}
        present = [each for each in marks if each < self._count or marks[each] is not None]
        footprints = [
            {
                "id": index,
                "mark": marks[index],
                "old": index >= self._count,
                "score": _known(self._footprints[index].score),
                "area_m2": _known(self._footprints[index].area_m2),
                "rings": [ring for part in _parts(self._polygons[index]) for ring in part],
            }
            for index in (present if len(present) <= MOST else [])
        ]
        return _json({"count": len(present), "footprints": footprints})

    def mark(self, number: int, mark: str | None) -> bytes:
        """Mark a footprint, or take its mark away, and return the number of each mark as JSON.

        Args:
            number: ``id`` of the footprint.
            mark: one of ``rhm.viewer.marks.MARKS``, or None.

        Raises:
            LookupError: there is no such footprint.
            ValueError: there is no such mark.
            OutputError: the marks cannot be written.
        """
        self._marks.set(self._footprints[number], mark)
        return self.counts()

    def counts(self) -> bytes:
        """Return the number of each mark as JSON."""
        return _json(self._marks.counts())


def on_raster(frame: gpd.GeoDataFrame, prediction: PredictionFiles) -> NDArray[Any]:
    """Return polygons as (column, row) of the pixels of a prediction.

    A polygon whose place is not finite is None: it can be neither drawn nor searched for.

    Raises:
        VectorError: they cannot be placed in the CRS of the prediction.
        RasterError: the prediction cannot be read.
    """
    polygons = _finite(frame.geometry.to_numpy())
    with prediction.open_probability() as raster:
        crs = raster.crs or raster.gcps[1]
        if crs is not None and frame.crs is not None:
            try:
                middle = None if raster.gcps[0] else (raster.bounds.left + raster.bounds.right) / 2
                polygons = _finite(whole_in(polygons, frame.crs, crs, middle))
            except pyproj.exceptions.ProjError as error:
                raise VectorError(f"{prediction.buildings}: {error}") from error
        return _finite(in_pixels(polygons, raster))


def _finite(polygons: NDArray[Any]) -> NDArray[Any]:
    """Return polygons (N,), with None in the place of those whose coordinates are not finite."""
    kept = polygons.copy()
    kept[~is_finite(kept)] = None
    return kept


def in_pixels(geometries: NDArray[Any], raster: DatasetReader) -> NDArray[Any]:
    """Return geometries in the CRS of a raster as (column, row) of its pixels."""
    gcps, _ = raster.gcps
    return to_pixels(geometries, raster.transform, gcps)


def _parts(geometry: Any) -> list[list[list[list[float]]]]:
    """Return the rings of each polygon of a geometry, rounded to a hundredth of a pixel."""
    polygons = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon"]
    return [
        [np.round(shapely.get_coordinates(ring), 2).tolist() for ring in (p.exterior, *p.interiors)]
        for p in polygons
    ]


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, allow_nan=False).encode()


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
