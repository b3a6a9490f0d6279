"""All footprints of all scenes: their numbers in memory, their polygons on disk."""

import hashlib
import mmap
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from rhm.data.vectors.antimeridian import FullTurn, placed_near, turns_from
from rhm.mapping.merging.scene_parts import ScenePart, read_part

_CLOSE = 1e-4
"""Part of a full turn, four kilometres at the equator: farther apart than pieces of a building."""


@dataclass(eq=False)
class FootprintHeap:
    """All footprints of all scenes, numbered scene by scene; use it as a context manager.

    If the coordinates repeat after a full turn, all bounds, polygons and regions are in one turn
    that begins where no scene shows anything, so that neighbours across the 180th meridian are
    neighbours here. The stored polygons, :meth:`wkb`, are in the principal turn.

    Attributes:
        scene: (N,) number of the scene of each footprint.
        score: (N,) scores; NaN where a file has none.
        area_m2: (N,) areas in square metres.
        size: (N,) areas in the unit of the CRS.
        sight: (N,) how well the scene sees each footprint; see ``valid_regions``.
        bounds: (N, 4) left, bottom, right, top.
        regions: (scenes,) what each scene shows, as polygons, or None.
        pixels: (scenes,) side of a pixel in the unit of the CRS.
        digest: hash of everything.
        turn: full turn after which the coordinates of the CRS repeat, or None.
    """

    scene: NDArray[np.int32]
    score: NDArray[np.float64]
    area_m2: NDArray[np.float64]
    size: NDArray[np.float64]
    sight: NDArray[np.int8]
    bounds: NDArray[np.float64]
    regions: NDArray[Any]
    pixels: NDArray[np.float64]
    digest: str
    turn: FullTurn | None
    _shift: NDArray[np.float64]
    _ends: NDArray[np.int64]
    _path: Path
    _bytes: bytes | mmap.mmap = b""
    _open: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def of(cls, parts: Sequence[Path], path: Path) -> "FootprintHeap":
        """Collect the footprints of parts, and write their polygons to a file.

        Raises:
            OutputError: a part is damaged.
            OSError: the file cannot be written.
        """
        digest = hashlib.sha256()
        regions = np.full(len(parts), None, dtype=object)
        pixels = np.zeros(len(parts))
        turn: FullTurn | None = None
        collected: list[list[NDArray[Any]]] = []
        with path.open("wb") as file:
            for number, part_file in enumerate(parts):
                part = read_part(part_file)
                regions[number], pixels[number], turn = part.region, part.pixel, part.turn
                lengths = _append(part, file, digest)
                scene = np.full(len(lengths), number, dtype=np.int32)
                columns = [part.numbers(each) for each in ("score", "area_m2", "size", "sight")]
                bounds = part.numbers("left", "bottom", "right", "top")
                collected.append([scene, *columns, bounds.reshape(-1, 4), lengths])
        joined: list[Any] = [np.concatenate(pieces) for pieces in zip(*collected, strict=True)]
        lengths = joined.pop()
        for column in joined:
            digest.update(np.ascontiguousarray(column).data)
        shift = _to_one_turn(joined[-1], regions, turn)
        joined += [regions, pixels, digest.hexdigest(), turn, shift, np.cumsum(lengths), path]
        return cls(*joined)

    def __len__(self) -> int:
        return len(self.scene)

    def __enter__(self) -> Self:
        file = self._open.enter_context(self._path.open("rb"))
        if len(self._ends) and self._ends[-1]:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._bytes = self._open.enter_context(mapped)
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def wkb(self, number: int) -> bytes:
        """Return the polygon of a footprint, in the principal turn, as WKB."""
        first = self._ends[number - 1] if number else 0
        return bytes(self._bytes[first : self._ends[number]])

    def polygons(self, numbers: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Return the polygons of footprints, (N,)."""
        stored = [self.wkb(number) for number in numbers.tolist()]
        found = np.asarray(shapely.from_wkb(np.array(stored, dtype=object)), dtype=object)
        return _shifted(found, self._shift[numbers])

    def in_principal_turn(self, polygon: Any) -> Any:
        """Return a polygon that was made of those of footprints, in the principal turn."""
        if self.turn is None:
            return polygon
        placed = np.array([polygon], dtype=object)
        return placed_near(placed, self.turn.middle, self.turn.length)[0]


def _to_one_turn(
    bounds: NDArray[np.float64], regions: NDArray[Any], turn: FullTurn | None
) -> NDArray[np.float64]:
    """Move bounds (N, 4) and regions by full turns, so that the meridian divides no neighbours.

    Returns:
        (N,) by how much each footprint is moved.
    """
    if turn is None:
        return np.zeros(len(bounds))
    shown = shapely.bounds(regions).reshape(-1, 4)
    known = np.isfinite(shown).all(axis=1)
    first = _beginning(np.concatenate([bounds, shown[known]]), turn)
    shift = -turn.length * turns_from(bounds, first, turn.length)
    bounds[:, [0, 2]] += shift[:, None]
    moved = -turn.length * turns_from(shown[known], first, turn.length)
    regions[known] = _shifted(regions[known], moved)
    return shift


def _beginning(bounds: NDArray[np.float64], turn: FullTurn) -> float:
    """Return x at the beginning of a turn in which all boxes (M, 4) lie as wholes.

    That is the beginning of the principal turn, unless there is something close to it; then, the
    middle of the widest gap round the Earth.
    """
    principal = turn.middle - turn.length / 2
    left, right = np.sort(bounds[:, 0]) - principal, bounds[:, 2] - principal
    close = _CLOSE * turn.length
    if not len(bounds) or (left[0] > close and right.max() < turn.length - close):
        return principal
    order = np.argsort(bounds[:, 0], kind="stable")
    # How far everything up to each box reaches; what goes on beyond the end begins at the start.
    reached = np.maximum.accumulate(right[order])
    reached = np.maximum(reached, reached[-1] - turn.length)
    gaps = np.append(left[1:], left[0] + turn.length) - reached
    widest = int(np.argmax(gaps))
    if gaps[widest] <= 0:
        return principal
    return float(principal + reached[widest] + gaps[widest] / 2)


def _shifted(geometries: NDArray[Any], by: NDArray[np.float64]) -> NDArray[Any]:
    """Move geometries (N,) along x."""
    moved = np.flatnonzero(by)
    if len(moved):
        points, owner = shapely.get_coordinates(geometries[moved], return_index=True)
        points[:, 0] += by[moved][owner]
        geometries[moved] = shapely.set_coordinates(geometries[moved], points)
    return geometries


def _append(part: ScenePart, file: Any, digest: Any) -> NDArray[np.int64]:
    """Append the polygons of a part to a file; return the length of each, (N,)."""
    lengths = [np.empty(0, np.int64)]
    for chunk in part.table.column("geometry").chunks:
        stored = chunk.to_pylist()
        data = b"".join(stored)
        file.write(data)
        digest.update(data)
        lengths.append(np.fromiter(map(len, stored), np.int64, len(stored)))
    if part.region is not None:
        digest.update(shapely.to_wkb(part.region))
    return np.concatenate(lengths)
