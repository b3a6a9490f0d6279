"""Pixels of an image together with their validity mask."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rhm.colour.histogram import Histogram
from rhm.data.rasters.windows import Window


class Pixels(NamedTuple):
    """Pixels of an image and their validity mask; ``values, valid = pixels`` unpacks them.

    Attributes:
        values: (H, W, bands) stored values.
        valid: (H, W) bool validity, False for nodata; may be read-only.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_]

    @classmethod
    def blank(cls, height: int, width: int, bands: int, dtype: DTypeLike) -> "Pixels":
        """Return pixels that are zero and not valid."""
        return cls(np.zeros((height, width, bands), dtype), np.zeros((height, width), dtype=bool))

    @classmethod
    def everywhere(cls, values: NDArray[Any]) -> "Pixels":
        """Return pixels that are all valid, with a mask that takes no memory."""
        return cls(values, _everywhere(*values.shape[:2]))

    @property
    def is_everywhere(self) -> bool:
        """Whether ``everywhere`` made these pixels; others may be entirely valid, too."""
        # An array that is broadcast from a single value has no strides.
        return not any(self.valid.strides)

    @property
    def nbytes(self) -> int:
        """Memory that values and mask take, in bytes."""
        return self.values.nbytes + (0 if self.is_everywhere else self.valid.nbytes)

    def part(self, window: Window) -> "Pixels":
        """Return the pixels of a window inside these, as views of the same memory."""
        return Pixels(self.values[window.slices], self.valid[window.slices])

    def put(self, part: "Pixels", window: Window) -> None:
        """Overwrite the pixels of a window with others of its size."""
        self.values[window.slices], self.valid[window.slices] = part

    def histogram(self) -> Histogram:
        """Count the values of the valid pixels.

        Raises:
            TypeError: the dtype is not one of ``rhm.colour.levels.DTYPES``.
        """
        return Histogram.of(self.values, valid=self.valid)


@lru_cache(maxsize=64)
def _everywhere(height: int, width: int) -> NDArray[np.bool_]:
    # numpy takes as long to broadcast as to copy a chip.
    return np.broadcast_to(np.True_, (height, width))
