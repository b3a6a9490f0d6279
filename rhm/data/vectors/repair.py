"""Repair of invalid polygons, in time and memory that grow with their size.

The usual repair takes minutes and gigabytes for a polygon of a few hundred vertices that crosses
itself everywhere. Crossings are therefore counted first, which is quick. Buildings digitised by
hand cross themselves a few times; more than ``MOST_CROSSINGS`` mean that something else is wrong.
"""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

MOST_CROSSINGS = 400
"""Most places in which a polygon may meet itself to be repaired."""

MOST_CROSSINGS_IN_ALL = 40_000
"""The same for all polygons that are repaired together."""

_AT_ONCE = 64  # segments, so that counting ends soon after the limit


class TangledError(ValueError):
    """A polygon crosses itself too often to be repaired.

    Attributes:
        index: index of the polygon.
    """

    def __init__(self, index: int, vertices: int) -> None:
        super().__init__(
            f"it has {vertices} vertices and crosses itself too often to be repaired: correct or "
            "remove it"
        )
        self.index = index


def repaired(polygons: NDArray[Any]) -> NDArray[Any]:
    """Make polygons valid; they may become multipolygons or collections.

    Args:
        polygons: (N,) polygons with finite coordinates.

    Returns:
        (N,) geometries; those of valid polygons are the same.

    Raises:
        TangledError: a polygon meets itself in more than ``MOST_CROSSINGS`` places, or all together
            in more than ``MOST_CROSSINGS_IN_ALL``.
    """
    broken = np.flatnonzero(~shapely.is_valid(polygons))
    left = MOST_CROSSINGS_IN_ALL
    for index in broken:
        most = min(MOST_CROSSINGS, left)
        found = crossings(polygons[index], most)
        if found > most:
            raise TangledError(int(index), int(shapely.get_num_coordinates(polygons[index])))
        left -= found
    result = polygons.copy()
    result[broken] = shapely.make_valid(polygons[broken])
    return result


def crossings(polygon: shapely.Polygon, most: int) -> int:
    """Count the pairs of segments of a polygon that meet although they are not neighbours.

    Args:
        polygon: polygon, valid or not.
        most: number above which counting ends.

    Returns:
        The number, or one above ``most`` if there are more.
    """
    points, ring = shapely.get_coordinates(shapely.get_rings(polygon), return_index=True)
    ends = np.flatnonzero(ring[1:] == ring[:-1])
    segments = shapely.linestrings(np.stack([points[ends], points[ends + 1]], axis=1))
    tree = shapely.STRtree(segments)
    # The first and last segment of a ring are neighbours, too.
    found = -len(np.unique(ring))
    for first in range(0, len(segments), _AT_ONCE):
        one, other = tree.query(segments[first : first + _AT_ONCE], predicate="intersects")
        found += int(np.count_nonzero(other > one + first + 1))
        if found > most:
            return found
    return max(found, 0)
