"""The pixels of components, kept for as long as these may have to be split.

Components are laid out side by side in one image, split there all together, and traced.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.inference.tracing.pixel_corners import corners_between, outlined
from rhm.inference.tracing.watershed import Watershed

_LARGEST = 1 << 22
"""Pixels of the box of a component. A larger one is no row of houses: it stays whole, so that it
takes neither memory nor minutes."""

_LAID_OUT = 1 << 18
"""About how many pixels are laid out at a time: so many fit into a core's cache."""

_SHELF_PX = 512

Numbers = NDArray[np.intp]


@dataclass(frozen=True)
class SplitParts:
    """What became of the components that were split; P parts, component by component.

    Attributes:
        component: (P,) ascending numbers of the components.
        polygons: (P,) valid shapely polygons in pixel coordinates.
        scores: (P,) mean probabilities.
    """

    component: Numbers
    polygons: NDArray[Any]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class ComponentPixels:
    """The pixels of C components; of those that are too large, none.

    Attributes:
        owner: (K,) the component that each is of.
        row, col: (K,) where; row by row within each component.
        probability: (K,) there.
        box: (C, 4) the first row and column of each component, and the negative row and column
            behind the last, so that the least of two boxes holds both.
    """

    owner: Numbers
    row: Numbers
    col: Numbers
    probability: NDArray[Any]
    box: Numbers

    @classmethod
    def none(cls) -> "ComponentPixels":
        """Return no pixels of no components."""
        numbers = np.empty(0, np.intp)
        return cls(numbers, numbers, numbers, np.empty(0, np.float32), numbers.reshape(0, 4))

    def and_found(self, other: "ComponentPixels") -> "ComponentPixels":
        """Return these and those of more components, whose numbers go on from here."""
        return ComponentPixels(
            np.concatenate([self.owner, other.owner]),
            np.concatenate([self.row, other.row]),
            np.concatenate([self.col, other.col]),
            np.concatenate([self.probability, other.probability]),
            np.concatenate([self.box, other.box]),
        )

    def united(self, number: Numbers, count: int) -> "ComponentPixels":
        """Return the pixels of ``count`` components, of which (C,) numbers tell the parts."""
        box = np.full((count, 4), np.iinfo(np.intp).max)
        np.minimum.at(box, number, self.box)
        small = _sides(box).prod(axis=1) <= _LARGEST
        owner = number[self.owner]
        return self._kept(small[owner], owner, box)

    def only(self, chosen: Numbers) -> "ComponentPixels":
        """Return the pixels of some components, renumbered in the order in which they are given."""
        number = np.full(len(self.box), -1)
        number[chosen] = np.arange(len(chosen))
        owner = number[self.owner]
        return self._kept(owner >= 0, owner, self.box[chosen])

    def _kept(self, kept: NDArray[np.bool_], owner: Numbers, box: Numbers) -> "ComponentPixels":
        return ComponentPixels(
            owner[kept], self.row[kept], self.col[kept], self.probability[kept], box
        )

    def split(self, watershed: Watershed) -> SplitParts:
        """Split the components that have several parts."""
        found = [_split(self.only(chosen), chosen, watershed) for chosen in self._helpings()]
        component, polygons, scores = map(np.concatenate, zip(*found, strict=True))
        order = np.argsort(component, kind="stable")
        return SplitParts(component[order], polygons[order], scores[order])

    def _helpings(self) -> Iterator[Numbers]:
        """Yield the numbers of components to lay out together; none at all as one empty helping."""
        held = np.flatnonzero(np.bincount(self.owner, minlength=len(self.box)))
        # Of one height side by side: little room between them is lost.
        held = held[np.argsort(-_sides(self.box[held])[:, 0], kind="stable")]
        filled = np.cumsum(_sides(self.box[held]).prod(axis=1)) // _LAID_OUT
        yield from np.split(held, np.flatnonzero(np.diff(filled)) + 1)


def _split(
    pixels: ComponentPixels, numbers: Numbers, watershed: Watershed
) -> tuple[Numbers, NDArray[Any], NDArray[np.float64]]:
    """Return the parts of components: their component's number, polygons, and scores."""
    moved, shape = _laid_out(_sides(pixels.box))
    moved -= pixels.box[:, :2]
    place = tuple(np.stack([pixels.row, pixels.col]) + moved[pixels.owner].T)
    building, probability = np.zeros(shape, bool), np.zeros(shape, pixels.probability.dtype)
    building[place], probability[place] = True, pixels.probability
    labels = watershed.parts(building, probability)
    part = labels[place] - 1
    component = np.zeros(labels.max(initial=0), dtype=np.intp)
    component[part] = pixels.owner
    several = np.bincount(component, minlength=len(numbers))[component] > 1
    # Numbers of the parts that there are several of, from 1; the background has a number as well.
    renumbered = np.append(0, np.cumsum(several) * several)
    labels = renumbered[labels]
    component, kept = component[several], several[part]
    corners = corners_between(labels, labels - 1, (1, 0))
    corners = corners.moved(-moved[component][corners.owner])
    of = labels[place][kept] - 1
    total = np.bincount(of, pixels.probability[kept], len(component))
    scores = np.clip(total / np.bincount(of, minlength=len(component)), 0.0, 1.0)
    return numbers[component], outlined(corners, len(component)), scores


def _laid_out(sides: Numbers) -> tuple[Numbers, tuple[int, int]]:
    """Lay boxes out on shelves, a pixel apart.

    Args:
        sides: (C, 2) heights, descending, and widths.

    Returns:
        (C, 2) rows and columns of the boxes' first pixels, and the rows and columns of it all.
    """
    if not len(sides):
        return np.empty((0, 2), np.intp), (2, 2)
    height, width = sides.T
    start = np.cumsum(width + 1) - width - 1
    shelf = start // _SHELF_PX
    first = np.flatnonzero(np.diff(shelf, prepend=-1))
    which = np.cumsum(np.diff(shelf, prepend=-1) > 0) - 1
    col = 1 + start - start[first][which]
    bottom = np.cumsum(height[first] + 1)
    row = 1 + (bottom - height[first] - 1)[which]
    return np.stack([row, col], axis=1), (int(bottom[-1]) + 1, int((col + width).max()) + 1)


def _sides(box: Numbers) -> Numbers:
    sides: Numbers = -box[:, 2:] - box[:, :2]
    return sides
