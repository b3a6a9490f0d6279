"""Outlines of components of pixels, from the corners at which they turn.

Every outline runs along the edges of pixels and has a corner wherever it turns. Corners are found
by looking at four pixels at a time; outlines come of sorting them. A component's corners may be
gathered from many parts of an image, in any order.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray


@dataclass(frozen=True)
class Corners:
    """Corners of components.

    Attributes:
        owner: (K,) the component that each is of.
        row, col: (K,) where on the grid between pixels: 0, 0 is the image's own corner.
        right: (K,) whether the outline's horizontal edge leads to the right from here.
        down: (K,) whether the vertical one leads down.
        below: (K,) whether the component is below the horizontal edge.
    """

    owner: NDArray[np.intp]
    row: NDArray[np.intp]
    col: NDArray[np.intp]
    right: NDArray[np.bool_]
    down: NDArray[np.bool_]
    below: NDArray[np.bool_]

    def __getitem__(self, index: NDArray[Any]) -> "Corners":
        return Corners(*(getattr(self, each.name)[index] for each in fields(self)))

    def __len__(self) -> int:
        return len(self.owner)

    def moved(self, by: NDArray[np.intp]) -> "Corners":
        """Return corners moved by (K, 2) rows and columns."""
        return replace(self, row=self.row + by[:, 0], col=self.col + by[:, 1])

    @classmethod
    def none(cls) -> "Corners":
        """Return no corners."""
        numbers, answers = np.empty(0, np.intp), np.empty(0, bool)
        return cls(numbers, numbers, numbers, answers, answers, answers)

    @classmethod
    def joined(cls, *parts: "Corners") -> "Corners":
        """Return the corners of several parts."""
        columns = ([getattr(part, each.name) for part in parts] for each in fields(cls))
        return cls(*map(np.concatenate, columns))


def corners_between(
    kinds: NDArray[Any], components: NDArray[np.integer[Any]], place: tuple[int, int]
) -> Corners:
    """Find the corners on the grid lines between rows of pixels.

    Args:
        kinds: (R, W) bool or integers; 0 where there is no component. Pixels next to each other
            are of the same component if they are of the same kind.
        components: (R, W) the component that each pixel is of, where there is one.
        place: row and column of the image from which the second row goes on; the first one is
            only there to be looked at.

    Returns:
        The corners on the R - 1 lines between the rows.
    """
    row, col = place
    seen = np.pad(kinds, ((0, 0), (1, 1)))
    beside, under = seen[:, 1:] == seen[:, :-1], seen[1:] == seen[:-1]
    # Of the four pixels around a place on the grid, which two next to each other are the same.
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
        # A pixel that is alone has its edges on its own side, one between two on the other.
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
    """Return the polygons of components, from all of their corners.

    Args:
        corners: of components 0 to ``count``, at least four of each, in any order.
        count: of components.

    Returns:
        (count,) valid polygons in pixel coordinates, (column, row), which depend on the pixels
        alone. They have a vertex where they turn and nowhere else; shells run counter-clockwise
        where rows count downwards.
    """
    if not count:
        return np.empty(0, dtype=object)
    height, width = corners.row.max() + 1, corners.col.max() + 1
    line = corners.owner * height + corners.row
    corners = corners[np.argsort(line * (2 * width) + 2 * corners.col + corners.right)]
    # Where a component touches itself at a corner, the outline changes over from one of its pixels
    # to the other, so that no ring meets itself: what was one ring is a shell and a hole.
    touching = np.zeros(len(corners), dtype=bool)
    touching[:-1] = (
        (corners.owner[1:] == corners.owner[:-1])
        & (corners.row[1:] == corners.row[:-1])
        & (corners.col[1:] == corners.col[:-1])
    )
    touching[1:] |= touching[:-1]
    down = corners.down ^ touching
    # Corners 2 i and 2 i + 1 are now the ends of a horizontal edge; these of a vertical one.
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
    # The first corner of a component is on its shell, which so comes first.
    polygon_offsets = np.searchsorted(corners.owner[path[ring_offsets[:-1]]], np.arange(count + 1))
    places = np.column_stack([corners.col[path], corners.row[path]]).astype(np.float64)
    polygons: NDArray[Any] = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, places, (ring_offsets, polygon_offsets)
    )
    return polygons


def _walked(following: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Follow a permutation around its cycles; return the order, and the size of each cycle."""
    after = following.tolist()  # nothing in numpy walks; a list does ten million steps a second
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
