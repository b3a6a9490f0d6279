"""Pixels of an image together with where they hold data."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rhm.colour.histogram import Histogram
from rhm.data.rasters.windows import Window


class Pixels(NamedTuple):
    """Pixels of an image and where they hold data; ``values, valid = pixels`` takes them apart.

    Attributes:
        values: (H, W, bands), as they are stored.
        valid: (H, W) bool; it may be read-only.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_]

    @classmethod
    def blank(cls, height: int, width: int, bands: int, dtype: DTypeLike) -> "Pixels":
        """Return pixels that are zero and hold no data."""
        return cls(np.zeros((height, width, bands), dtype), np.zeros((height, width), dtype=bool))

    @classmethod
    def everywhere(cls, values: NDArray[Any]) -> "Pixels":
        """Return pixels that all hold data, which takes no memory to say."""
        return cls(values, _everywhere(*values.shape[:2]))

    @property
    def is_everywhere(self) -> bool:
        """Whether these come from ``everywhere``; others may be valid everywhere as well."""
        # What is broadcast from one value has no strides.
        return not any(self.valid.strides)

    @property
    def nbytes(self) -> int:
        """The memory that they take, in bytes."""
        return self.values.nbytes + (0 if self.is_everywhere else self.valid.nbytes)

    def part(self, window: Window) -> "Pixels":
        """Return the pixels of a window inside these; they share memory."""
        return Pixels(self.values[window.slices], self.valid[window.slices])

    def put(self, part: "Pixels", window: Window) -> None:
        """Write pixels of a window's size into these, at the window."""
        self.values[window.slices], self.valid[window.slices] = part

    def mirrored(self, height: int, width: int, *, row: int = 0, col: int = 0) -> "Pixels":
        """Return (height, width) pixels that show these, and around them their mirror image.

        A network never sees what lies beyond an image, but something must stand there. Black
        would be a sight of its own, which the network learns to live with where training chips
        reach beyond their image, and meets unprepared where they do not.

        Args:
            height: of the result.
            width: of the result.
            row: of the result in which these pixels begin.
            col: of the result in which these pixels begin.

        Returns:
            Pixels of which those of the mirror image are not valid; these themselves where
            nothing is missing.
        """
        rows, cols = self.valid.shape
        if (rows, cols) == (height, width):
            return self
        around = ((row, height - rows - row), (col, width - cols - col))
        values = np.pad(self.values, (*around, (0, 0)), mode="reflect")
        return Pixels(values, np.pad(self.valid, around))

    def histogram(self) -> Histogram:
        """Count the values of the valid pixels.

        Raises:
            TypeError: they are of none of ``rhm.colour.levels.DTYPES``.
        """
        return Histogram.of(self.values, valid=self.valid)


@lru_cache(maxsize=64)
def _everywhere(height: int, width: int) -> NDArray[np.bool_]:
    # Broadcasting takes as long as to copy a chip.
    return np.broadcast_to(np.True_, (height, width))
