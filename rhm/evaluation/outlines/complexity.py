"""Complexity-aware IoU and the ratio of vertices (Zorzi et al., PolyWorld, CVPR 2022).

The complexity-aware IoU is the IoU of an image, times ``1 - |N - M| / (N + M)`` for N predicted and
M true vertices: outlines of ten times as many vertices are not as good as the true ones.
"""

from typing import Any

import shapely
from numpy.typing import NDArray


def vertex_count(polygons: NDArray[Any]) -> int:
    """Return the number of vertices of polygons (N,), of their outer outlines as in the paper."""
    rings = shapely.get_exterior_ring(polygons)
    # Rings repeat their first vertex at the end.
    return int((shapely.get_num_coordinates(rings) - 1).sum()) if len(rings) else 0


def complexity_iou(iou: float, predicted: int, true: int) -> float:
    """Return the complexity-aware IoU of an image.

    Args:
        iou: IoU of the image; 1 without any building, as in the authors' program.
        predicted: number of vertices of the predicted polygons.
        true: number of vertices of the true polygons.
    """
    difference = abs(predicted - true) / (predicted + true) if predicted + true else 0.0
    return iou * (1.0 - difference)
