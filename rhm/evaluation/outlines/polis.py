"""PoLiS, a distance between polygons (Avbelj, Müller and Bamler, IEEE GRSL 12(1), 2015).

It is the mean distance of the vertices of each polygon from the outline of the other, averaged over
both directions. Unlike the Hausdorff distance, it does not depend on a single vertex, and unlike
IoU, it has a length's unit.
"""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray


def polis_distances(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Return the PoLiS distances (N,) of pairs of polygons.

    As in the paper's equation (3), only outer outlines count.

    Args:
        one: (N,) polygons.
        other: (N,) polygons, each compared with that of the same number.
    """
    outlines = [shapely.get_exterior_ring(polygons) for polygons in (one, other)]
    return (_mean_distance(*outlines) + _mean_distance(*outlines[::-1])) / 2


def _mean_distance(vertices_of: NDArray[Any], outlines: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean distance of the vertices of rings from other rings."""
    coordinates, owner = shapely.get_coordinates(vertices_of, return_index=True)
    if not len(owner):
        return np.empty(0)
    # Rings repeat their first vertex at the end.
    last = np.append(owner[1:] != owner[:-1], True)
    coordinates, owner = coordinates[~last], owner[~last]
    distances = shapely.distance(shapely.points(coordinates), outlines[owner])
    counts = np.bincount(owner, minlength=len(outlines))
    return np.asarray(np.bincount(owner, distances, len(outlines)) / counts)
