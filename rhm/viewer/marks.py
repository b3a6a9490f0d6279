"""Marks that a user gives footprints: right or wrong, in a file of their own beside the results.

The file is a GeoPackage with the marked footprints. It stays when the footprints are predicted
again, with other options or another model, and QGIS opens it like any other layer. What others have
added to it, rows, columns or marks, stays as well.
"""

import os
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyogrio
import pyogrio.errors
import pyproj
import pyproj.exceptions
import shapely
from numpy.typing import NDArray

from rhm.data.vectors.antimeridian import whole_in
from rhm.data.vectors.side_files import no_side_files, read_exactly
from rhm.errors import OutputError, VectorError, one_line, printable
from rhm.files import atomic_path
from rhm.inference.layers.vector_files import check_closed, make_way
from rhm.viewer.predictions import read_vectors_alone

MARKS = ("keep", "wrong")
"""The marks: a building whose footprint is right, and a footprint that is none."""

LAYER = "marks"

_COLUMN = "mark"
_FAILED = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.FieldError,
    pyogrio.errors.FeatureError,
    pyproj.exceptions.ProjError,
    ValueError,
    OSError,
)


@dataclass(frozen=True, slots=True)  # a town has a million
class MarkedFootprint:
    """A footprint with a mark.

    Attributes:
        polygon: its outline, in the CRS of its file.
        mark: one of ``MARKS``; empty if it has none yet.
        score: its score; nan if unknown.
        area_m2: its area; nan if unknown.
    """

    polygon: shapely.Geometry
    mark: str
    score: float = float("nan")
    area_m2: float = float("nan")


class Marks:
    """The marks of one scene, written to their file as soon as they change.

    The file is read again before it is written, because another program may have changed it.

    Args:
        path: file of the marks, which need not exist.
        crs: CRS of the footprints, or None.

    Raises:
        VectorError: the file exists, but cannot be read, or holds no marks.
    """

    def __init__(self, path: Path, crs: Any) -> None:
        self._path = path
        self._crs = None if crs is None else pyproj.CRS.from_user_input(crs)
        self._lock = threading.Lock()
        self._marked = self._indexed(self._read())

    def of(self, polygon: shapely.Geometry) -> str | None:
        """Return the mark of a footprint, or None."""
        found = self._marked.get(shapely.to_wkb(polygon))
        return None if found is None else found.mark

    def all(self) -> list[MarkedFootprint]:
        """Return all marked footprints, in the CRS of the footprints."""
        return list(self._marked.values())

    def counts(self) -> dict[str, int]:
        """Return how many footprints have each mark."""
        marks = [each.mark for each in self._marked.values()]
        return {mark: marks.count(mark) for mark in MARKS}

    def set(self, footprint: MarkedFootprint, mark: str | None) -> None:
        """Mark a footprint, or take its mark away, and write the file.

        Raises:
            ValueError: the mark is none of ``MARKS``.
            VectorError: the file has been changed, and cannot be read any more.
            OutputError: the file cannot be written; the marks are then as before.
        """
        if mark is not None and mark not in MARKS:
            raise ValueError(f"no mark '{mark}': choose {', '.join(MARKS)}")
        with self._lock:
            frame = self._read()
            outline = shapely.to_wkb(footprint.polygon)
            others = np.array(
                [each != outline for each in shapely.to_wkb(frame.geometry.to_numpy())], dtype=bool
            )
            if mark is not None and not others.all():
                # What else stands in the row, which somebody may have added, stays.
                for name, value in _values(frame, footprint, mark).items():
                    frame.loc[~others, name] = value
            else:
                frame = frame[others].reset_index(drop=True)
                if mark is not None:
                    frame = _with_row(frame, footprint, mark)
            self._write(frame)
            self._marked = self._indexed(frame)

    def _read(self) -> gpd.GeoDataFrame:
        """Return all rows of the file, in the CRS of the footprints."""
        frame = _rows(self._path)
        if frame is None:
            text, number = pd.ArrowDtype(pa.string()), pd.ArrowDtype(pa.float64())
            types = {_COLUMN: text, "score": number, "area_m2": number}
            columns = {name: pd.Series([], dtype=kind) for name, kind in types.items()}
            return gpd.GeoDataFrame(columns, geometry=[], crs=self._crs)
        for name in ("score", "area_m2"):
            if name not in frame:
                frame[name] = np.nan
        if self._crs is None or frame.crs is None or frame.crs == self._crs:
            return frame
        try:
            placed = whole_in(frame.geometry.to_numpy(), frame.crs, self._crs)
            return frame.set_geometry(gpd.GeoSeries(placed, frame.index, crs=self._crs))
        except pyproj.exceptions.ProjError as error:
            raise VectorError(f"{self._path}: {one_line(error)}") from error

    @staticmethod
    def _indexed(frame: gpd.GeoDataFrame) -> dict[bytes, MarkedFootprint]:
        return {shapely.to_wkb(each.polygon): each for each in _marked(frame)}

    def _write(self, frame: gpd.GeoDataFrame) -> None:
        check_closed(self._path)
        with atomic_path(self._path) as temporary:
            try:
                kind = {"geometry_type": "Polygon"} if frame.empty else {}
                with warnings.catch_warnings():
                    # A scene without a place on Earth has footprints without CRS.
                    warnings.filterwarnings("ignore", message="'crs' was not provided")
                    how = {"engine": "pyogrio", "use_arrow": True, **kind}
                    frame.to_file(temporary, driver="GPKG", layer=LAYER, **how)
            except _FAILED as error:
                raise OutputError(f"cannot write {self._path}: {one_line(error)}") from error
            make_way(self._path)


def read_marks(path: Path) -> list[MarkedFootprint]:
    """Return the marked footprints of a file, in its CRS; none if the file is not there.

    Raises:
        VectorError: the file cannot be read, or holds no marks.
    """
    frame = _rows(path)
    return [] if frame is None else _marked(frame)


def _rows(path: Path) -> gpd.GeoDataFrame | None:
    """Return all rows of a file of marks; None if it is not there."""
    if not os.path.lexists(path):
        return None
    if not path.is_file():
        raise VectorError(f"{path} is no file")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="More than one layer")
        frame = read_vectors_alone(path, read_exactly)
    with no_side_files():
        layers = len(pyogrio.list_layers(path))
    if layers != 1:
        raise VectorError(
            f"{path} has {layers} layers, of which others than the marks would be lost"
        )
    if _COLUMN not in frame:
        raise VectorError(f"{path} has no column '{_COLUMN}': it is no file of marks")
    unknown = [str(mark) for mark in frame[_COLUMN].dropna() if mark not in MARKS]
    if unknown:
        raise VectorError(
            f"{path} has the mark '{printable(unknown[0])[:40]}': choose {', '.join(MARKS)}"
        )
    # As QGIS adds it, the column may be of any type as long as it is empty.
    frame[_COLUMN] = frame[_COLUMN].astype(pd.ArrowDtype(pa.string()))
    return frame


def _marked(frame: gpd.GeoDataFrame) -> list[MarkedFootprint]:
    frame = frame[frame[_COLUMN].notna() & frame.geometry.notna()]
    scores, areas = (numbers_of(frame, name) for name in ("score", "area_m2"))
    columns = (frame.geometry, frame[_COLUMN], scores, areas)
    return [MarkedFootprint(*each) for each in zip(*columns, strict=True)]


def _with_row(frame: gpd.GeoDataFrame, footprint: MarkedFootprint, mark: str) -> gpd.GeoDataFrame:
    """Return a frame with one more row, in which the columns of others have no value."""
    last = len(frame)
    # Joining two frames would give columns that only one of them has another type.
    longer = frame.reindex(range(last + 1))
    for name, value in _values(frame, footprint, mark).items():
        longer.loc[last, name] = value
    outlines = [*frame.geometry, footprint.polygon]
    geometry = gpd.GeoSeries(outlines, longer.index, crs=frame.crs)
    return longer.set_geometry(geometry.rename(frame.geometry.name))


def _values(frame: gpd.GeoDataFrame, footprint: MarkedFootprint, mark: str) -> dict[str, Any]:
    """Return what is known of a marked footprint, by column."""
    values = {"score": footprint.score, "area_m2": footprint.area_m2}
    known = {
        name: value
        for name, value in values.items()
        if np.isfinite(value) and pd.api.types.is_float_dtype(frame[name].dtype)
    }
    return {_COLUMN: mark, **known}


def numbers_of(frame: gpd.GeoDataFrame, name: str) -> NDArray[np.float64]:
    """Return a column of numbers as float64, nan where it has none."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    try:
        return np.asarray(frame[name].to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError):
        return np.full(len(frame), np.nan)
