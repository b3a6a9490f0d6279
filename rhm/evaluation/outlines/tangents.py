"""Maximum tangent angle error (Girard et al., Polygonal Building Extraction, CVPR 2021).

The outline of a predicted polygon is sampled, and the samples are projected to the nearest true
outline. The error of the polygon is the largest angle between an edge of the sampled outline and
the same edge after the projection: wobbles and cut corners show, wherever the polygon lies.
"""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rhm.evaluation.outlines.covered_area import covered_areas

SPACING_PX = 2.0
"""Distance of the samples in pixels, as in the authors' evaluation of CrowdAI."""

LEAST_PRECISION = 0.5
"""Polygons of which the truth covers no more than this share are left out: they are wrong."""

MOST_STRETCH = 2.0
"""Edges that the projection stretches or shrinks by more are left out: they jump to another part
of an outline."""


def tangent_errors(
    predicted: NDArray[Any], true: NDArray[Any], spacing: float = SPACING_PX
) -> NDArray[np.float64]:
    """Return the maximum tangent angle error, in degrees, of every polygon that the truth covers.

    Args:
        predicted: (N,) valid polygons.
        true: (M,) valid polygons.
        spacing: distance of the samples.

    Returns:
        (K,) degrees in [0, 180], for polygons with edges that can be compared.
    """
    if not len(predicted) or not len(true):
        return np.empty(0)
    parts = shapely.get_parts(shapely.union_all(true))
    covered = covered_areas(predicted, parts)
    right = predicted[covered > LEAST_PRECISION * shapely.area(predicted)]
    outlines = shapely.STRtree(shapely.get_rings(parts))
    found = [_tangent_error(polygon, outlines, spacing) for polygon in right]
    return np.array([each for each in found if each is not None], dtype=np.float64)


def _tangent_error(polygon: Any, outlines: shapely.STRtree, spacing: float) -> float | None:
    rings = [
        _sampled(shapely.get_coordinates(ring), spacing) for ring in shapely.get_rings(polygon)
    ]
    cosines = np.concatenate([_cosines(points, outlines) for points in rings])
    if not len(cosines):
        return None
    return float(np.degrees(np.arccos(np.clip(cosines.min(), -1.0, 1.0))))


def _sampled(points: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
    """Return a ring with as many equal parts of each edge as come closest to a spacing."""
    lengths = np.hypot(*np.diff(points, axis=0).T)
    counts = np.maximum(1, np.rint(lengths / spacing).astype(int))
    parts = [
        np.linspace(start, end, count, endpoint=False)
        for start, end, count in zip(points[:-1], points[1:], counts, strict=True)
    ]
    return np.concatenate([*parts, points[-1:]])


def _cosines(points: NDArray[np.float64], outlines: shapely.STRtree) -> NDArray[np.float64]:
    """Return the cosines of the angles between edges and their projections."""
    samples = shapely.points(points)
    _, chosen = outlines.query_nearest(samples, all_matches=False)
    lines = shapely.shortest_line(samples, outlines.geometries[chosen])
    nearest = shapely.get_coordinates(lines)[1::2]
    edges, projected = np.diff(points, axis=0), np.diff(nearest, axis=0)
    lengths = np.hypot(*edges.T), np.hypot(*projected.T)
    present = (lengths[0] > 0) & (lengths[1] > 0)
    edges, projected = edges[present], projected[present]
    before, after = (each[present] for each in lengths)
    stretch = after / before
    kept = (stretch > 1 / MOST_STRETCH) & (stretch < MOST_STRETCH)
    dots = (edges[kept] * projected[kept]).sum(axis=1)
    return np.asarray(dots / (before[kept] * after[kept]))
