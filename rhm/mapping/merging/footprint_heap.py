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

from rhm.mapping.merging.scene_parts import ScenePart, read_part


@dataclass(eq=False)
class FootprintHeap:
    """All footprints of all scenes, numbered scene by scene; use it as a context manager.

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
        collected: list[list[NDArray[Any]]] = []
        with path.open("wb") as file:
            for number, part_file in enumerate(parts):
                part = read_part(part_file)
                regions[number], pixels[number] = part.region, part.pixel
                lengths = _append(part, file, digest)
                scene = np.full(len(lengths), number, dtype=np.int32)
                columns = [part.numbers(each) for each in ("score", "area_m2", "size", "sight")]
                bounds = part.numbers("left", "bottom", "right", "top")
                collected.append([scene, *columns, bounds.reshape(-1, 4), lengths])
        joined: list[Any] = [np.concatenate(pieces) for pieces in zip(*collected, strict=True)]
        lengths = joined.pop()
        for column in joined:
            digest.update(np.ascontiguousarray(column).data)
        joined += [regions, pixels, digest.hexdigest(), np.cumsum(lengths), path]
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
        """Return the polygon of a footprint as WKB."""
        first = self._ends[number - 1] if number else 0
        return bytes(self._bytes[first : self._ends[number]])

    def polygons(self, numbers: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Return the polygons of footprints, (N,)."""
        stored = [self.wkb(number) for number in numbers.tolist()]
        return np.asarray(shapely.from_wkb(np.array(stored, dtype=object)), dtype=object)


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
