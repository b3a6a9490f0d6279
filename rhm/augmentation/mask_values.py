"""The values of a chip's mask, as it is read and augmented.

Zero is background and 255 is unknown. Buildings have numbers from 1, so that two of them that touch
can be told apart; in a mask that does not tell them apart, all buildings are 1. Two numbers mean
classes that a label already marks.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMBERS = 252
"""Largest number of a building; a label with more buildings repeats numbers."""

MARKED_BOUNDARY = 253
"""Value of pixels that a label marks as boundary: part of a building."""

MARKED_CONTACT = 254
"""Value of pixels that a label marks as contact: background between near buildings."""


def is_building(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a mask shows buildings, bool of the same shape."""
    return np.asarray((mask != 0) & (mask <= MARKED_BOUNDARY))


def numbered(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the number of the building of each value, from 1 to ``NUMBERS``.

    Args:
        values: integers that tell buildings apart, of any shape.
    """
    return (np.asarray(values) % NUMBERS + 1).astype(np.uint8)
