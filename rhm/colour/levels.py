"""Levels: numbers for the values of pixels, at most 65,536 for each dtype.

Levels are numbered by rising value, so that a pixel-wise map of any supported imagery is a table
with one entry per level. The levels of uint8 and uint16 are their values, and those of int16 count
from its lowest value, -32768. float32 imagery is binned: the level of a pixel is its value rounded
to half precision (IEEE 754 binary16), which has 11 significant bits (steps of at most 1/1024 of
values of 6e-5 and more) and requires no known range. Values beyond +-65504 belong to the outermost
bins, and NaN belongs to the lowest.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

DTYPES = tuple(np.dtype(kind) for kind in (np.uint8, np.uint16, np.int16, np.float32))
"""The dtypes of imagery that are supported."""

LARGEST_HALF = 65504.0
"""The largest finite value of half precision."""

_SIGN = np.uint16(0x8000)


def levels_of(dtype: DTypeLike) -> int:
    """Return the number of levels of a dtype: 256 or 65536.

    Raises:
        TypeError: the dtype is not supported.
    """
    dtype = np.dtype(dtype)
    if dtype not in DTYPES:
        raise TypeError(f"expected imagery of {', '.join(map(str, DTYPES))}, got {dtype}")
    return 256 if dtype == np.uint8 else 65536


def without_nodata(image: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Return an image with the mean of its valid pixels where nothing is known.

    Filters that mix pixels then mix nothing into the valid ones. Without any valid pixel, the image
    is returned as it is.

    Args:
        image: (H, W, bands) image of one of ``DTYPES``.
        valid: (H, W) bool validity.
    """
    if valid.all() or not valid.any():
        return image
    mean = image[valid].mean(axis=0, dtype=np.float64)
    filled = image.copy()
    filled[~valid] = mean if image.dtype.kind == "f" else np.rint(mean)
    return filled


def check_unmasked(image: NDArray[Any]) -> None:
    """Check that an image is no masked array, because what its mask hides would be counted.

    Raises:
        TypeError: it is one.
    """
    if np.ma.isMA(image):
        raise TypeError("masked arrays are not supported: pass image.data and valid=~image.mask")


def to_levels(image: NDArray[Any]) -> NDArray[Any]:
    """Return the level of each pixel, in the shape of the image.

    Returns:
        uint8 for uint8 images, otherwise uint16. For uint8 and uint16 it is the image itself.

    Raises:
        TypeError: the dtype of the image is not supported, or it is a masked array.
    """
    levels_of(image.dtype)
    check_unmasked(image)
    if image.dtype.kind == "u":
        return image
    if image.dtype == np.int16:
        return np.ascontiguousarray(image).view(np.uint16) ^ _SIGN
    # fmin and fmax return the limit where the image is NaN.
    halves = np.fmin(np.fmax(image, -LARGEST_HALF), LARGEST_HALF).astype(np.float16)
    bits = np.ascontiguousarray(halves).view(np.uint16)
    # Sign and magnitude become a rising number: negative values are mirrored, and both zeros and
    # the positive values follow them.
    return np.asarray(np.where(bits > _SIGN, ~bits, bits | _SIGN))


def values_of(dtype: DTypeLike) -> NDArray[Any]:
    """Return the value of every level, (levels,) in ``dtype``, rising and read-only.

    The levels of float32 beyond the outermost bins, which no pixel has, repeat the values of
    those bins.

    Raises:
        TypeError: the dtype is not supported.
    """
    return _values(np.dtype(dtype))


@lru_cache
def _values(dtype: np.dtype[Any]) -> NDArray[Any]:
    levels = levels_of(dtype)
    numbers = np.arange(levels, dtype=np.int64)
    if dtype == np.float32:
        bits = np.where(numbers < levels // 2, ~numbers, numbers ^ int(_SIGN)).astype(np.uint16)
        halves = bits.view(np.float16).astype(np.float32)
        middle = levels // 2
        beyond = ~np.isfinite(halves)
        halves[beyond] = np.where(numbers[beyond] < middle, -LARGEST_HALF, LARGEST_HALF)
        values = halves
    else:
        values = (numbers + np.iinfo(dtype).min).astype(dtype)
    values.flags.writeable = False
    return values
