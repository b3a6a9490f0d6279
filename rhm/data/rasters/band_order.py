"""Bands first, (bands, H, W), as rasterio reads and networks take them, and bands last."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rhm.colour.histogram import OPENCV_CHANNELS


def any_differs(planes: NDArray[Any], value: int) -> NDArray[np.bool_]:
    """Return where a pixel differs from ``value`` in some band, of (bands, H, W) -> (H, W)."""
    # Much faster than any(axis=...) over a few bands.
    differs = planes[0] != value
    for plane in planes[1:]:
        differs |= plane != value
    return np.asarray(differs)


def bands_last(planes: NDArray[Any]) -> NDArray[Any]:
    """Return (bands, H, W) as a contiguous (H, W, bands)."""
    pixels = planes.transpose(1, 2, 0)
    if pixels.flags.c_contiguous or not 1 < len(planes) <= OPENCV_CHANNELS:
        return np.ascontiguousarray(pixels)
    # Ten times as fast as numpy's copy.
    return np.asarray(cv2.merge(tuple(planes)))


def bands_first(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return (H, W, bands) as a contiguous (bands, H, W)."""
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
