"""Resampling of windows to another number of pixels, by the rules of ``Raster``.

Pixels are averaged if a window shrinks and interpolated if it grows. Classes are never mixed.
Nodata pixels do not influence others, and remain nodata.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rhm.data.rasters.pixels import Pixels

_TOGETHER = 4
"""Number of bands that OpenCV can resize at once, whatever their dtype."""


_ROUNDING = 1e-5
"""Largest rounding error of a sum of weights of 1."""


def resize_pixels(pixels: Pixels, side: int) -> Pixels:
    """Return a window of imagery with ``side`` pixels along each axis.

    Args:
        pixels: (H, W) pixels of one of ``rhm.colour.levels.DTYPES``.
        side: number of rows and columns of the result.

    Returns:
        (side, side) pixels of the same dtype. A pixel is valid if the nearest pixel of the window
        is valid, and is then a mean of valid pixels only. An invalid pixel has the value of the
        nearest pixel, which preserves nodata values.
    """
    values, valid = pixels
    if valid.all():
        return Pixels(_resized(values, side), np.ones((side, side), dtype=bool))
    rows_of, cols_of = (_nearest(length, side) for length in valid.shape)
    kept = valid[np.ix_(rows_of, cols_of)]
    known = values.copy()
    known[~valid] = 0
    result = _resized(known, side)
    rows, cols = np.nonzero(~kept)
    result[rows, cols] = values[rows_of[rows], cols_of[cols]]
    weights = _resized(valid[..., None].astype(np.float32), side)[..., 0]
    beside = kept & (weights < 1.0 - _ROUNDING)
    # float32 represents 16-bit integers exactly.
    sums = _resized(known.astype(np.float32), side)[beside]
    means = sums / weights[beside, None]
    result[beside] = means if values.dtype.kind == "f" else np.rint(means)
    return Pixels(result, kept)


def resize_classes(classes: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return a window of classes with ``side`` pixels along each axis.

    Args:
        classes: (H, W) uint8 classes.
        side: number of rows and columns of the result.

    Returns:
        (side, side) uint8 classes. If the window shrinks, a pixel has the class with the largest
        area in it; if the window grows along both axes, it has the class of the nearest pixel.
    """
    if side >= max(classes.shape):
        return classes[np.ix_(*(_nearest(length, side) for length in classes.shape))]
    largest = np.zeros((side, side), np.float32)
    result = np.zeros((side, side), np.uint8)
    for present in np.flatnonzero(np.bincount(classes.reshape(-1), minlength=256)):
        area = _resized((classes == present)[..., None].astype(np.float32), side)[..., 0]
        result[area > largest] = present
        np.maximum(largest, area, out=largest)
    return result


def _resized(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    if min(height, width) < side < max(height, width):
        # OpenCV averages along both axes or along none.
        first = (side, width) if height > width else (height, side)
        return _resized_alike(_resized_alike(pixels, *first), side, side)
    return _resized_alike(pixels, side, side)


def _resized_alike(pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Resize pixels that shrink along no axis, or grow along none."""
    shrinks = height < pixels.shape[0] or width < pixels.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    bands = [
        cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=how)
        for part in np.split(pixels, range(_TOGETHER, pixels.shape[-1], _TOGETHER), axis=-1)
    ]
    parts = [part.reshape(height, width, -1) for part in bands]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _nearest(length: int, side: int) -> NDArray[np.intp]:
    """Return the indices of the pixels that are nearest to those of a resized axis."""
    return ((np.arange(side) + 0.5) * (length / side)).astype(np.intp)
