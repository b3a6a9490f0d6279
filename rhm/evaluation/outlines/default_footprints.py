"""The footprints that ``rhm predict`` traces by default, from a prediction in memory."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rhm.inference.polygons import inside_of
from rhm.inference.settings.option import options_of
from rhm.inference.settings.polygon_config import PolygonConfig
from rhm.inference.tracing.components import trace
from rhm.inference.tracing.watershed import LearnedSeparation, Splitting, Watershed
from rhm.training.metrics import FloatArray

ASSUMED_PIXEL_M = 1.0
"""Size of a pixel in metres where it is unknown, as for ``rhm predict``."""


def default_footprints(
    maps: NDArray[np.float32],
    valid: NDArray[np.bool_],
    *,
    threshold: float,
    gsd_m: float | None,
) -> tuple[NDArray[Any], FloatArray]:
    """Trace footprints with the options that the command line has by default.

    Outlines are not simplified, which changes their area by little.

    Args:
        maps: (M, H, W) maps of a model, see ``rhm.models.building_classes``.
        valid: (H, W) bool validity.
        threshold: minimum probability of a building pixel.
        gsd_m: ground sampling distance in metres; None if unknown, so that a pixel counts as
            ``ASSUMED_PIXEL_M``.

    Returns:
        (N,) polygons in pixel coordinates, and (N,) their mean probabilities.
    """
    pixel_m, inside = gsd_m or ASSUMED_PIXEL_M, inside_of(maps[0], maps[1:])
    splitting: Splitting = Watershed(_by_default("split_m") / pixel_m, threshold)
    if inside is not None:
        splitting = LearnedSeparation(_by_default("separate"))
    outlines = trace(maps[0], valid, threshold=threshold, watershed=splitting, inside=inside)
    large = shapely.area(outlines.polygons) * pixel_m**2 >= _by_default("min_area_m2")
    return outlines.polygons[large], outlines.scores[large]


def _by_default(name: str) -> float:
    """Return the default of an option of footprints on the command line."""
    value = options_of(PolygonConfig)[name].command_default(getattr(PolygonConfig, name))
    return float(value)
