"""Levels: the numbered values, at most 65,536, by which the pixels of a type are told apart.

Levels are numbered by rising value, so that a pixel-wise map of any supported imagery is a table
with an entry per level. The levels of uint8 and uint16 are their values, those of int16 its
values from -32768 up. float32 imagery is binned: a pixel's level is its value rounded to half
precision (IEEE 754 binary16: 11 significant bits, a step of at most 1/1024 of values from 6e-5
up), which needs no range to be known beforehand. Values beyond +-65504 belong to the outermost
bins, and what is no number belongs to the lowest.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

DTYPES = tuple(np.dtype(each) for each in (np.uint8, np.uint16, np.int16, np.float32))
"""The types of imagery that have levels."""

LARGEST_HALF = 65504.0
"""The largest finite value of half precision."""

_SIGN = np.uint16(0x8000)


def levels_of(dtype: DTypeLike) -> int:
    """Return the number of levels of imagery of ``dtype``: 256 or 65536.

    Raises:
        TypeError: the type has no levels.
    """
    dtype = np.dtype(dtype)
    if dtype not in DTYPES:
        raise TypeError(f"expected imagery of {', '.join(map(str, DTYPES))}, got {dtype}")
    return 256 if dtype == np.uint8 else 65536


def to_levels(image: NDArray[Any]) -> NDArray[Any]:
    """Return each pixel's level, in the image's shape: uint8 for uint8, otherwise uint16.

    The result of uint8 and uint16 is the image itself.

    Raises:
        TypeError: the image's type has no levels.
    """
    levels_of(image.dtype)
    if image.dtype.kind == "u":
        return image
    if image.dtype == np.int16:
        return np.ascontiguousarray(image).view(np.uint16) ^ _SIGN
    # fmin and fmax answer with the number where one of the two is none.
    halves = np.fmin(np.fmax(image, -LARGEST_HALF), LARGEST_HALF).astype(np.float16)
    bits = np.ascontiguousarray(halves).view(np.uint16)
    # Sign and magnitude become a rising count: negatives mirrored, both zeros and the positives
    # above them.
    return np.asarray(np.where(bits > _SIGN, ~bits, bits | _SIGN))


def values_of(dtype: DTypeLike) -> NDArray[Any]:
    """Return the value of every level, (levels,) of ``dtype``, rising and read-only.

    float32's levels beyond its largest and lowest bin, which no pixel has, repeat those.

    Raises:
        TypeError: the type has no levels.
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
