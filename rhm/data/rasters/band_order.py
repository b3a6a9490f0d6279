"""Conversion between bands last (H, W, bands) and the bands first of rasterio and networks."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rhm.colour.histogram import OPENCV_CHANNELS


def any_differs(planes: NDArray[Any], value: int) -> NDArray[np.bool_]:
    """Return where at least one band of (bands, H, W) differs from ``value``, as (H, W) bool."""
    # For few bands, this is much faster than any(axis=...).
    differs = planes[0] != value
    for plane in planes[1:]:
        differs |= plane != value
    return np.asarray(differs)


def bands_last(planes: NDArray[Any]) -> NDArray[Any]:
    """Return (bands, H, W) pixels as a contiguous array (H, W, bands)."""
    pixels = planes.transpose(1, 2, 0)
    if pixels.flags.c_contiguous or not 1 < len(planes) <= OPENCV_CHANNELS:
        return np.ascontiguousarray(pixels)
    # OpenCV is ten times as fast as a copy by numpy.
    return np.asarray(cv2.merge(tuple(planes)))


def bands_first(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return (H, W, bands) pixels as a contiguous array (bands, H, W)."""
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
