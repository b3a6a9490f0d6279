"""Outlines of connected components, built from the corners at which they turn.

An outline runs along the edges of pixels and has a corner wherever it turns. Corners are found by
comparing four pixels at a time, and outlines by sorting the corners. The corners of a component
may come from many parts of an image, in any order.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray


@dataclass(frozen=True)
class Corners:
    """Corners of the outlines of components.

    Attributes:
        owner: (K,) number of the component that each corner belongs to.
        row, col: (K,) position on the grid lines between pixels; (0, 0) is the upper-left corner
            of the image.
        right: (K,) whether the horizontal edge at the corner leads to the right.
        down: (K,) whether the vertical edge at the corner leads down.
        below: (K,) whether the component is below the horizontal edge.
    """

    owner: NDArray[np.intp]
    row: NDArray[np.intp]
    col: NDArray[np.intp]
    right: NDArray[np.bool_]
    down: NDArray[np.bool_]
    below: NDArray[np.bool_]

    def __getitem__(self, index: NDArray[Any]) -> "Corners":
        return Corners(*(getattr(self, field.name)[index] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.owner)

    def moved(self, by: NDArray[np.intp]) -> "Corners":
        """Return the corners, moved by (K, 2) rows and columns."""
        return replace(self, row=self.row + by[:, 0], col=self.col + by[:, 1])

    @classmethod
    def none(cls) -> "Corners":
        """Return no corners."""
        numbers, answers = np.empty(0, np.intp), np.empty(0, bool)
        return cls(numbers, numbers, numbers, answers, answers, answers)

    @classmethod
    def joined(cls, *parts: "Corners") -> "Corners":
        """Return the corners of several parts."""
        columns = ([getattr(part, field.name) for part in parts] for field in fields(cls))
        return cls(*map(np.concatenate, columns))


def corners_between(
    kinds: NDArray[Any], components: NDArray[np.integer[Any]], place: tuple[int, int]
) -> Corners:
    """Find the corners on the grid lines between rows of pixels.

    Args:
        kinds: (R, W) bool or integers; 0 where there is no component. Adjacent pixels belong to
            the same component if they are of the same kind.
        components: (R, W) number of the component of each pixel that belongs to one.
        place: row and column in the image at which the second row begins; the first row is only
            compared with it.

    Returns:
        The corners on the R - 1 lines between the rows.
    """
    row, col = place
    seen = np.pad(kinds, ((0, 0), (1, 1)))
    beside, under = seen[:, 1:] == seen[:, :-1], seen[1:] == seen[:-1]
    # Which adjacent pixels, of the four around each grid point, are of the same kind.
    top, bottom, left, right = beside[:-1], beside[1:], under[:, :-1], under[:, 1:]
    places = np.flatnonzero((top != bottom) | (left != right) | ~(top | left))
    line, first = np.divmod(places, top.shape[1])
    same_row = top.ravel()[places], bottom.ravel()[places]
    same_col = left[line, first], right[line, first]
    found = []
    for low, far in ((0, 0), (0, 1), (1, 0), (1, 1)):
        kind = seen[line + low, first + far]
        across = seen[line + 1 - low, first + 1 - far]
        alone = ~same_row[low] & ~same_col[far]
        between = same_row[low] & same_col[far] & (kind != across)
        has = np.flatnonzero((alone | between) & (kind != 0))
        # A pixel that differs from both neighbours has its edges on its own side, a pixel between
        # two equal ones on the opposite side.
        away = between[has]
        found.append(
            Corners(
                components[line[has] + low, first[has] + far - 1].astype(np.intp),
                line[has] + row,
                first[has] + col,
                right=away ^ bool(far),
                down=away ^ bool(low),
                below=np.full(len(has), bool(low)),
            )
        )
    return Corners.joined(*found)


def outlined(corners: Corners, count: int) -> NDArray[Any]:
    """Return the polygons of components, built from all of their corners.

    Args:
        corners: corners of components 0 to ``count`` - 1, at least four of each, in any order.
        count: number of components.

    Returns:
        (count,) valid polygons in pixel coordinates, (column, row), which depend only on the
        pixels. They have a vertex where they turn and nowhere else; shells run counter-clockwise
        if rows count downwards.
    """
    if not count:
        return np.empty(0, dtype=object)
    height, width = corners.row.max() + 1, corners.col.max() + 1
    line = corners.owner * height + corners.row
    corners = corners[np.argsort(line * (2 * width) + 2 * corners.col + corners.right)]
    # Where a component touches itself at a corner, the outline passes from one of the two pixels to
    # the other, so that no ring touches itself: the ring becomes a shell and a hole.
    touching = np.zeros(len(corners), dtype=bool)
    touching[:-1] = (
        (corners.owner[1:] == corners.owner[:-1])
        & (corners.row[1:] == corners.row[:-1])
        & (corners.col[1:] == corners.col[:-1])
    )
    touching[1:] |= touching[:-1]
    down = corners.down ^ touching
    # Corners 2 i and 2 i + 1 are now the ends of a horizontal edge; ``above`` and ``beneath`` are
    # the ends of a vertical edge.
    line = corners.owner * width + corners.col
    vertical = np.argsort(line * (2 * height) + 2 * corners.row + down)
    above, beneath = vertical[0::2], vertical[1::2]
    opposite = np.empty(len(corners), dtype=np.intp)
    opposite[above], opposite[beneath] = beneath, above
    edges = np.arange(len(corners) // 2)
    start, stop = 2 * edges + corners.below[::2], 2 * edges + 1 - corners.below[::2]
    order, sizes = _walked(opposite[stop] // 2)
    path = np.column_stack([start[order], stop[order]]).ravel()
    ends = np.cumsum(2 * sizes)
    begins = ends - 2 * sizes
    path = np.insert(path, ends, path[begins])  # rings are closed
    ring_offsets = np.concatenate([[0], np.cumsum(2 * sizes + 1)])
    # The first corner of a component is on its shell, so the shell is the first ring.
    polygon_offsets = np.searchsorted(corners.owner[path[ring_offsets[:-1]]], np.arange(count + 1))
    places = np.column_stack([corners.col[path], corners.row[path]]).astype(np.float64)
    polygons: NDArray[Any] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, places, (ring_offsets, polygon_offsets)
    )
    return polygons


def _walked(following: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Follow the cycles of a permutation; return the order, and the size of each cycle."""
    after = following.tolist()  # numpy has no such function; lists take ten million steps a second
    order: list[int] = []
    ends: list[int] = []
    for first in range(len(after)):
        if after[first] < 0:
            continue
        step = first
        while after[step] >= 0:
            order.append(step)
            after[step], step = -1, after[step]
        ends.append(len(order))
    return np.array(order, dtype=np.intp), np.diff(ends, prepend=0)
