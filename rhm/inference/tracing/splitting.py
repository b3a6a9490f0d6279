"""The pixels of components, kept as long as the components may have to be split.

Components are laid out side by side in one image, split there together, and traced.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.inference.tracing.pixel_corners import corners_between, outlined
from rhm.inference.tracing.watershed import Splitting

_LARGEST = 1 << 23
"""Maximum number of pixels in the bounding box of a component: 870 m along each side at 0.3 m. A
larger one is not split, so that memory has a bound."""

_LAID_OUT = 1 << 18
"""Approximate number of pixels that are laid out at a time: they fit into the cache of a core."""

_SHELF_PX = 512

Numbers = NDArray[np.intp]


@dataclass(frozen=True)
class SplitParts:
    """The P parts of the components that were split, component by component.

    Attributes:
        component: (P,) number of the component of each part, ascending.
        polygons: (P,) valid shapely polygons in pixel coordinates.
        scores: (P,) mean probability of each part.
    """

    component: Numbers
    polygons: NDArray[Any]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class ComponentPixels:
    """The pixels of C components; no pixels are kept of components that are too large.

    Attributes:
        owner: (K,) int32 number of the component of each pixel.
        row, col: (K,) int32 position of each pixel, row by row within each component.
        probability: (K,) probability of each pixel.
        height: (K,) height of each pixel, by which components are split; mostly its probability.
        box: (C, 4) first row and column of each component, and the negated row and column after
            the last, so that the minimum of two boxes contains both.
    """

    owner: NDArray[Any]
    row: NDArray[Any]
    col: NDArray[Any]
    probability: NDArray[Any]
    height: NDArray[Any]
    box: Numbers

    @classmethod
    def none(cls) -> "ComponentPixels":
        """Return an empty set of components, without pixels."""
        numbers = np.empty(0, np.int32)
        none = np.empty(0, np.float32)
        return cls(numbers, numbers, numbers, none, none, np.empty((0, 4), np.intp))

    def and_found(self, other: "ComponentPixels") -> "ComponentPixels":
        """Return these pixels and those of further components, which are numbered after these."""
        return ComponentPixels(
            np.concatenate([self.owner, other.owner]),
            np.concatenate([self.row, other.row]),
            np.concatenate([self.col, other.col]),
            np.concatenate([self.probability, other.probability]),
            np.concatenate([self.height, other.height]),
            np.concatenate([self.box, other.box]),
        )

    def united(self, number: Numbers, count: int) -> "ComponentPixels":
        """Return the pixels of ``count`` united components, by the (C,) new number of each."""
        box = np.full((count, 4), np.iinfo(np.intp).max)
        np.minimum.at(box, number, self.box)
        small = _sides(box).prod(axis=1) <= _LARGEST
        owner = number[self.owner]
        return self._kept(small[owner], owner, box)

    def only(self, chosen: Numbers) -> "ComponentPixels":
        """Return the pixels of the chosen components, renumbered in the given order."""
        number = np.full(len(self.box), -1)
        number[chosen] = np.arange(len(chosen))
        owner = number[self.owner]
        return self._kept(owner >= 0, owner, self.box[chosen])

    def _kept(
        self, kept: NDArray[np.bool_], owner: NDArray[Any], box: Numbers
    ) -> "ComponentPixels":
        return ComponentPixels(
            owner[kept].astype(np.int32),
            self.row[kept],
            self.col[kept],
            self.probability[kept],
            self.height[kept],
            box,
        )

    def held(self) -> NDArray[np.bool_]:
        """Return which components (C,) have their pixels, because they are not too large."""
        return np.bincount(self.owner, minlength=len(self.box)) > 0

    def split(self, watershed: Splitting) -> SplitParts:
        """Split the components that consist of several parts."""
        found = [_split(self.only(chosen), chosen, watershed) for chosen in self._helpings()]
        component, polygons, scores = map(np.concatenate, zip(*found, strict=True))
        order = np.argsort(component, kind="stable")
        return SplitParts(component[order], polygons[order], scores[order])

    def _helpings(self) -> Iterator[Numbers]:
        """Yield groups of components to lay out together; one empty group if none has pixels."""
        held = np.flatnonzero(self.held())
        # Components of similar height lie side by side, so that little space is lost.
        held = held[np.argsort(-_sides(self.box[held])[:, 0], kind="stable")]
        filled = np.cumsum(_sides(self.box[held]).prod(axis=1)) // _LAID_OUT
        yield from np.split(held, np.flatnonzero(np.diff(filled)) + 1)


def _split(
    pixels: ComponentPixels, numbers: Numbers, watershed: Splitting
) -> tuple[Numbers, NDArray[Any], NDArray[np.float64]]:
    """Return the parts of components: numbers of their components, polygons, and scores."""
    moved, shape = _laid_out(_sides(pixels.box))
    moved -= pixels.box[:, :2]
    place = tuple(np.stack([pixels.row, pixels.col]) + moved[pixels.owner].T)
    building, height = np.zeros(shape, bool), np.zeros(shape, pixels.height.dtype)
    building[place], height[place] = True, pixels.height
    labels = watershed.parts(building, height)
    part = labels[place] - 1
    component = np.zeros(labels.max(initial=0), dtype=np.intp)
    component[part] = pixels.owner
    several = np.bincount(component, minlength=len(numbers))[component] > 1
    # Numbers from 1 for the parts of components with several parts; 0 for all others and for the
    # background, which comes first.
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
    """Lay out boxes on shelves, one pixel apart.

    Args:
        sides: (C, 2) heights, in descending order, and widths.

    Returns:
        (C, 2) row and column of the first pixel of each box, and the rows and columns in total.
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
