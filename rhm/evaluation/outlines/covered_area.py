"""How much of polygons others cover, in a time that grows with what is near each of them."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray


def covered_areas(polygons: NDArray[Any], parts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the area (N,) of polygons that other polygons cover.

    Cutting each polygon with a union of all parts would take a time that grows with the product of
    their numbers, which is minutes for a town.

    Args:
        polygons: (N,) valid polygons.
        parts: (M,) valid polygons that do not overlap each other.
    """
    one, other = shapely.STRtree(parts).query(polygons, predicate="intersects")
    common = shapely.area(shapely.intersection(polygons[one], parts[other]))
    return np.asarray(np.bincount(one, common, len(polygons)), dtype=np.float64)
