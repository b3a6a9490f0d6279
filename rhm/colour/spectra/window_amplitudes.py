"""Amplitudes of the low frequencies of windows, averaged over those of an image."""

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_SHARE = 0.1
"""Highest frequency that a spectrum keeps, in cycles per pixel; FDA calls it beta."""

SHARES = (2, 4)
"""Parts along each axis into which windows are divided, to know shorter waves than they keep."""

LARGEST_FACTOR = 16
"""Side of the largest windows, as a multiple of that of the windows that are divided."""

LONG_WAVES = 2
"""Cycles that are kept of larger windows: smaller ones know all waves that are shorter."""

_LEAST_VALID = 0.5

ROUNDING = 1e-9
"""Relative error of frequencies at the ends of what is known."""

FloatArray = NDArray[np.float64]
Window = tuple[NDArray[Any], NDArray[np.bool_]]


class MeanAmplitudes:
    """The mean of the amplitudes of windows.

    Args:
        side: side of the windows in pixels.
        reach: highest frequency that is kept, in cycles per window.
    """

    def __init__(self, side: int, reach: int) -> None:
        self._side, self._reach = side, reach
        self._sums: dict[bool, Any] = {True: 0.0, False: 0.0}
        self._weights = {True: 0, False: 0}

    def add(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Count a window of at most ``side`` pixels along each axis."""
        count = int(valid.sum())
        if count:
            full = count >= _LEAST_VALID * self._side**2
            filled = _filled(values, valid, self._side)
            found = _amplitudes(np.moveaxis(filled, -1, 0), self._side, self._reach)
            self._sums[full] = self._sums[full] + count * found
            self._weights[full] += count

    def add_parts(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Count the windows of ``side`` pixels of a larger window."""
        rows, cols = (size // self._side for size in valid.shape)
        if rows * cols == 0 or not valid.all():
            for part in windows_of(values, valid, self._side):
                self.add(*part)
            return
        # All at once, which takes half the time.
        inside = values[: rows * self._side, : cols * self._side].astype(np.float64)
        parts = inside.reshape(rows, self._side, cols, self._side, -1).transpose(0, 2, 4, 1, 3)
        found = _amplitudes(parts, self._side, self._reach)
        self._sums[True] = self._sums[True] + self._side**2 * found.sum(axis=(0, 1))
        self._weights[True] += rows * cols * self._side**2

    def result(self) -> NDArray[np.float32] | None:
        """Return (bands, 2 reach + 1, reach + 1) float32 amplitudes, or None without pixels."""
        full = self._weights[True] > 0
        if not self._weights[full]:
            return None
        return np.asarray((self._sums[full] / self._weights[full]).astype(np.float32))

    def waves(self) -> NDArray[np.float32] | None:
        """Return the same, without the mean."""
        found = self.result()
        if found is not None:
            found[:, self._reach, 0] = 0.0
        return found


def reach_of(side: int) -> int:
    """Return the highest frequency that is kept of windows, in cycles per window."""
    return int(np.floor(side * MOST_SHARE + ROUNDING))


def windows_of(
    image: NDArray[Any], valid: NDArray[Any], side: int
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield an image in windows of at most ``side`` pixels, without overlap.

    Remainders at the edges are left out, unless the image is smaller than a window.
    """
    height, width = valid.shape
    for row in range(0, max(1, height - side + 1), side):
        for col in range(0, max(1, width - side + 1), side):
            part = np.s_[row : row + side, col : col + side]
            yield image[part], valid[part]


def blocks_of(image: NDArray[Any], valid: NDArray[np.bool_], side: int) -> Iterator[Window]:
    """Yield an image in blocks that are as large as the largest windows, or less at its edges."""
    size = LARGEST_FACTOR * side
    for row in range(0, valid.shape[0], size):
        for col in range(0, valid.shape[1], size):
            part = np.s_[row : row + size, col : col + size]
            yield image[part], valid[part]


def other_sides(side: int) -> tuple[list[int], list[int]]:
    """Return the sides of the smaller and of the larger windows beside those of a side.

    There are none that could not tell apart the waves that are kept of them.
    """
    smaller = [side // parts for parts in SHARES if 0 < reach_of(side) <= side // parts // 2]
    powers = range(1, LARGEST_FACTOR.bit_length()) if side > 2 * LONG_WAVES else ()
    return smaller, [side << power for power in powers]


def shape_of_other(side: int, base: int) -> tuple[int, int]:
    """Return the shape of the amplitudes of windows beside those of a side of ``base``."""
    most = LONG_WAVES if side > base else reach_of(base)
    return 2 * most + 1, most + 1


def larger_windows(
    image: NDArray[Any], valid: NDArray[np.bool_], side: int
) -> Iterator[tuple[int, Window]]:
    """Yield the larger windows of an image of which at least half is valid.

    Args:
        image: (height, width, bands) pixels.
        valid: (height, width) validity.
        side: side of the windows that these are larger than.

    Yields:
        Side of the window; and the window, reduced to ``side`` pixels along each axis. Each of
        these is the mean of the valid pixels in it, and valid if there are any.
    """
    sums = image.astype(np.float32)
    sums[~valid] = 0.0
    counts = valid.astype(np.float32)
    for size in other_sides(side)[1]:
        if size > min(valid.shape):
            return
        sums, counts = _halved(sums), _halved(counts)
        means = sums / np.maximum(counts, 1.0)[..., None]
        for values, known in windows_of(means, counts, side):
            if known.sum(dtype=np.float64) >= _LEAST_VALID * size**2:
                yield size, (values, known > 0.0)


def fft() -> ModuleType:
    """Return ``scipy.fft``, whose loading takes as long as reading a bank, which needs it not."""
    return import_module("scipy.fft")


def _halved(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sums of 2 x 2 pixels."""
    height, width = (size // 2 * 2 for size in image.shape[:2])
    rows = image[0:height:2] + image[1:height:2]
    return np.asarray(rows[:, 0:width:2] + rows[:, 1:width:2])


def _filled(values: NDArray[Any], valid: NDArray[np.bool_], side: int) -> FloatArray:
    """Return a window of ``side`` pixels along each axis without nodata."""
    filled = values.astype(np.float64)
    if not valid.all():
        filled[~valid] = filled[valid].mean(axis=0)
    height, width = valid.shape
    if (height, width) != (side, side):
        filled = np.pad(filled, ((0, side - height), (0, side - width), (0, 0)), mode="symmetric")
    return filled


def _amplitudes(windows: FloatArray, side: int, reach: int) -> FloatArray:
    """Return the amplitudes of windows (..., bands, side, side), as ``Spectrum.amplitudes``."""
    whole = fft().rfft2(windows)[..., np.arange(-reach, reach + 1), : reach + 1]
    found = np.abs(whole)
    found[..., reach, 0] = whole[..., reach, 0].real
    return np.asarray(found / side**2)
