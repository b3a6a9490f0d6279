"""Operations on many rings in one array.

The elements of a ring (its points, pieces or walls) form a run of equal labels; the first one
follows the last. An operation on all rings then takes a few numpy calls.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

TIE = 1e-3
"""Lengths that differ by less are considered equal, and the first of them is chosen.

On a pixel grid, many lengths are equal except for rounding. The choice must not depend on
rounding, because the same outline would then be regularised differently in another CRS.
"""


def runs(labels: Integers) -> Integers:
    """Return the index at which each run of equal labels begins; labels are at least 0."""
    return np.flatnonzero(np.diff(labels, prepend=-1))


def neighbours(labels: Integers) -> tuple[Integers, Integers, Integers]:
    """Return, for each element, the previous index, the next index and the size of its ring."""
    begins = runs(labels)
    sizes = np.diff(begins, append=len(labels))
    ends = begins + sizes - 1
    index = np.arange(len(labels))
    before, after = index - 1, index + 1
    before[begins], after[ends] = ends, begins
    return before, after, np.repeat(sizes, sizes)


def totals(labels: Integers, values: ArrayLike, count: int) -> Floats:
    """Return the (count,) sums of values by label."""
    return np.bincount(labels, np.asarray(values), count).astype(np.float64, copy=False)


def first_maxima(values: Floats, labels: Integers) -> tuple[Floats, Integers]:
    """Return the maximum of each run, and the index of the first value that is not below it."""
    begins = runs(labels)
    maxima = np.maximum.reduceat(values, begins)
    least = np.repeat(maxima, np.diff(begins, append=len(values)))
    top = np.flatnonzero(values >= least - TIE)
    return maxima, top[runs(labels[top])]


def latest(values: Integers, labels: Integers) -> Integers:
    """Replace each -1 by the previous value in its ring; -1 remains if there is no value."""
    begins = runs(labels)
    sizes = np.diff(begins, append=len(labels))
    found = np.maximum.accumulate(np.where(values >= 0, np.arange(len(values)), -1))
    begin, final = np.repeat(begins, sizes), np.repeat(found[begins + sizes - 1], sizes)
    found = np.where(found < begin, final, found)
    return np.where(found < begin, -1, values[found])


def along(direction: Floats, vectors: Floats) -> Floats:
    """Return the (K,) scalar products of (K, 2) directions and (K, 2) vectors."""
    products: Floats = direction[:, 0] * vectors[:, 0] + direction[:, 1] * vectors[:, 1]
    return products


def across(direction: Floats, vectors: Floats) -> Floats:
    """Return the (K,) heights of (K, 2) vectors to the left of (K, 2) unit directions."""
    heights: Floats = direction[:, 0] * vectors[:, 1] - direction[:, 1] * vectors[:, 0]
    return heights


def lengths(vectors: Floats) -> Floats:
    """Return the (K,) lengths of (K, 2) vectors."""
    return np.hypot(vectors[:, 0], vectors[:, 1])


def turned(vectors: Floats, angles: Floats) -> Floats:
    """Return (K, 2) vectors in axes turned counter-clockwise by (K,) angles in radians."""
    cos, sin = np.cos(angles), np.sin(angles)
    x, y = vectors.T
    return np.stack([cos * x + sin * y, cos * y - sin * x], axis=1)
