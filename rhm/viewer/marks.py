"""Marks that a user gives footprints: right or wrong, in a file of their own beside the results.

The file is a GeoPackage with the marked footprints. It stays when the footprints are predicted
again, with other options or another model, and QGIS opens it like any other layer.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyproj
import shapely
from numpy.typing import NDArray

from rhm.errors import VectorError, printable
from rhm.inference.layers.vector_files import write_table
from rhm.viewer.predictions import read_vectors_alone

MARKS = ("keep", "wrong")
"""The marks: a building whose footprint is right, and a footprint that is none."""

_COLUMN = "mark"
_SCHEMA = pa.schema(
    [
        (_COLUMN, pa.string()),
        ("score", pa.float64()),
        ("area_m2", pa.float64()),
        ("geometry", pa.binary()),
    ]
)


@dataclass(frozen=True)
class MarkedFootprint:
    """A footprint with a mark.

    Attributes:
        polygon: its outline, in the CRS of its file.
        mark: one of ``MARKS``.
        score: its score; nan if unknown.
        area_m2: its area; nan if unknown.
    """

    polygon: shapely.Geometry
    mark: str
    score: float = float("nan")
    area_m2: float = float("nan")


class Marks:
    """The marks of one scene, written to their file as soon as they change.

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
        self._marked = {shapely.to_wkb(each.polygon): each for each in read_marks(path, crs)[0]}

    def of(self, polygon: shapely.Geometry) -> str | None:
        """Return the mark of a footprint, or None."""
        found = self._marked.get(shapely.to_wkb(polygon))
        return None if found is None else found.mark

    def counts(self) -> dict[str, int]:
        """Return how many footprints have each mark."""
        marks = [each.mark for each in self._marked.values()]
        return {mark: marks.count(mark) for mark in MARKS}

    def set(self, footprint: MarkedFootprint, mark: str | None) -> None:
        """Mark a footprint, or take its mark away, and write the file.

        Raises:
            ValueError: the mark is none of ``MARKS``.
            OutputError: the file cannot be written; the marks are then as before.
        """
        if mark is not None and mark not in MARKS:
            raise ValueError(f"no mark '{mark}': choose {', '.join(MARKS)}")
        with self._lock:
            marked = dict(self._marked)
            marked.pop(shapely.to_wkb(footprint.polygon), None)
            if mark is not None:
                new = MarkedFootprint(footprint.polygon, mark, footprint.score, footprint.area_m2)
                marked[shapely.to_wkb(footprint.polygon)] = new
            self._write(marked)
            self._marked = marked

    def _write(self, marked: dict[bytes, MarkedFootprint]) -> None:
        rows = [
            {
                _COLUMN: each.mark,
                "score": _known(each.score),
                "area_m2": _known(each.area_m2),
                "geometry": outline,
            }
            for outline, each in marked.items()
        ]
        batch = pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)
        write_table([batch], _SCHEMA, self._crs, self._path)


def read_marks(path: Path, crs: Any = None) -> tuple[list[MarkedFootprint], Any]:
    """Return the marked footprints of a file, and their CRS; none if the file is not there.

    Args:
        path: file that ``Marks`` wrote.
        crs: CRS to return if there is no file.

    Raises:
        VectorError: the file cannot be read, or holds no marks.
    """
    if not path.exists():
        return [], crs
    frame = read_vectors_alone(path)
    if _COLUMN not in frame:
        raise VectorError(f"{path} has no column '{_COLUMN}': it is no file of marks")
    frame = frame[frame[_COLUMN].notna() & frame.geometry.notna()]
    unknown = [str(mark) for mark in frame[_COLUMN] if mark not in MARKS]
    if unknown:
        raise VectorError(
            f"{path} has the mark '{printable(unknown[0])[:40]}': choose {', '.join(MARKS)}"
        )
    columns = (
        frame.geometry,
        frame[_COLUMN],
        *(numbers_of(frame, n) for n in ("score", "area_m2")),
    )
    return [MarkedFootprint(*each) for each in zip(*columns, strict=True)], frame.crs


def numbers_of(frame: gpd.GeoDataFrame, name: str) -> NDArray[np.float64]:
    """Return a column of numbers as float64, nan where it has none."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    try:
        return np.asarray(frame[name].to_numpy(), dtype=np.float64)
    except (TypeError, ValueError):
        return np.full(len(frame), np.nan)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
