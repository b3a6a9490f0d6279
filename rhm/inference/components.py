"""Tracing the buildings of an image that is seen a few rows at a time.

A building is a connected component (4 neighbours) of building pixels, or what a watershed makes of
one. A component that reaches the last row seen is kept, as the corners of its outline, until the
image does not continue it. What comes out does not depend on how the image was cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rhm.inference.corners import Corners, corners_between, outlined
from rhm.inference.watershed import Watershed

_LARGEST_SPLIT = 1 << 24
"""Pixels of the box of a component; a larger one stays whole, so that none fills the memory."""

# Probabilities are added up in steps of this, exactly, so that the order does not matter.
_STEPS = 2.0**24

Numbers = NDArray[np.intp]


@dataclass(frozen=True)
class Outlines:
    """Traced buildings, in the order of their components' last pixels, row by row.

    Attributes:
        polygons: (N,) valid shapely polygons in pixel coordinates, (column, row), holes kept, with
            a vertex at every corner and nowhere else.
        scores: (N,) float64, the mean probability of each building's pixels.
    """

    polygons: NDArray[Any]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.polygons)

    @classmethod
    def joined(cls, *parts: "Outlines") -> "Outlines":
        """Return the buildings of several parts, one after another."""
        return cls(
            np.concatenate([part.polygons for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )


class Tracer:
    """Is fed an image from top to bottom, and gives the components that have ended.

    Args:
        width: columns of the image.
        watershed: how components are split, if they are.
    """

    def __init__(self, width: int, watershed: Watershed | None = None) -> None:
        self._watershed = watershed
        self._row = 0
        self._open = _Components.none(with_pixels=watershed is not None)
        # For every column, the open component that reaches the last row seen; -1: none.
        self._bottom = np.full(width, -1, dtype=np.int32)

    def feed(self, building: NDArray[np.bool_], probability: NDArray[Any]) -> Outlines:
        """Take the next rows.

        Args:
            building: (rows, width), where the image shows building.
            probability: (rows, width) floating-point, in [0, 1] where it does.

        Returns:
            The components that the image does not continue.
        """
        # With the last row of the rows before: their corners with these are still to be found.
        seen = np.concatenate([self._bottom[None] >= 0, building])
        labels = np.empty(seen.shape, dtype=np.int32)
        _, labels[1:], found, _ = cv2.connectedComponentsWithStats(
            seen[1:].view(np.uint8), labels=labels[1:], connectivity=4
        )
        # Where there is building: numbers of the open components, and then of those found.
        labels += len(self._open) - 1
        labels[0] = self._bottom
        components = self._open.and_found(
            labels, seen, probability, np.asarray(found[1:], dtype=np.int64), self._row
        )
        number, components = components.united(labels[:2, seen[0] & seen[1]])
        bottom = number[labels[-1, seen[-1]]]
        goes_on = np.zeros(len(components), dtype=bool)
        goes_on[bottom] = True
        self._open = components.only(np.flatnonzero(goes_on))
        self._bottom = np.full_like(self._bottom, -1)
        self._bottom[seen[-1]] = (np.cumsum(goes_on) - 1)[bottom]
        self._row += len(building)
        ended = np.flatnonzero(~goes_on)
        ended = ended[np.argsort(components.last[ended], kind="stable")]
        return components.only(ended).outlines(self._watershed)

    def finish(self) -> Outlines:
        """Return the components that reach the image's last row."""
        nothing = np.zeros((1, len(self._bottom)), dtype=bool)
        return self.feed(nothing, nothing.astype(np.float32))


def trace(
    probability: NDArray[Any],
    valid: NDArray[np.bool_],
    *,
    threshold: float = 0.5,
    watershed: Watershed | None = None,
) -> Outlines:
    """Trace the buildings of a whole image where the probability is at least the threshold.

    Args:
        probability: (H, W) floating-point probabilities.
        valid: (H, W); where False, a pixel belongs to no component.
        threshold: least probability of a building pixel.
        watershed: how components are split, if they are.
    """
    tracer = Tracer(probability.shape[1], watershed)
    building = np.asarray(valid, dtype=bool) & (probability >= threshold)
    return Outlines.joined(tracer.feed(building, probability), tracer.finish())


@dataclass(frozen=True)
class _Components:
    """What is known of components.

    Attributes:
        steps: (C,) sums of their probabilities.
        count: (C,) how many pixels they have.
        last: (C,) their last pixels, counted through the image.
        corners: of their outlines.
        pixels: of those that may have to be split.
    """

    steps: NDArray[np.float64]
    count: NDArray[np.int64]
    last: NDArray[np.int64]
    corners: Corners
    pixels: "_Pixels | None"

    @classmethod
    def none(cls, *, with_pixels: bool) -> "_Components":
        """Return none; such as have pixels, or have none."""
        numbers = np.empty(0, np.int64)
        pixels = _Pixels.none() if with_pixels else None
        return cls(np.empty(0), numbers, numbers, Corners.none(), pixels)

    def __len__(self) -> int:
        return len(self.count)

    def and_found(
        self,
        labels: NDArray[np.int32],
        seen: NDArray[np.bool_],
        probability: NDArray[Any],
        found: NDArray[np.int64],
        row: int,
    ) -> "_Components":
        """Return these and those of a band of rows that begins at a row of the image.

        Args:
            labels: (1 + rows, width) numbers of the components: of these in the row before the
                band, of new ones in the band.
            seen: (1 + rows, width), where the image shows building.
            probability: (rows, width).
            found: (F, 5) of each new one its first column and row in the band, how many columns
                and rows, and how many pixels.
            row: that the band begins with.
        """
        size = len(self) + len(found)
        building = seen[1:]
        owner = labels[1:][building].astype(np.intp)
        # Integers of at most 24 bits, of which float64 adds up half a thousand million exactly.
        steps = np.rint(probability[building].astype(np.float64) * _STEPS)
        last = np.concatenate([self.last, np.zeros(len(found), dtype=np.int64)])
        # The last of repeated assignments stands.
        last[owner] = np.flatnonzero(building) + row * building.shape[1]
        pixels = self.pixels
        if pixels is not None:
            rows, cols = np.nonzero(building)
            left, top, width, height, _ = found.T
            box = np.stack([top, left, -(top + height), -(left + width)], axis=1)
            box[:, ::2] += (row, -row)
            pixels = pixels.and_found(owner, rows + row, cols, probability[building], box)
        return _Components(
            np.concatenate([self.steps, np.bincount(owner, steps, size)[len(self) :]]),
            np.concatenate([self.count, found[:, 4]]),
            last,
            Corners.joined(self.corners, corners_between(labels, seen, (row, 0))),
            pixels,
        )

    def united(self, pairs: NDArray[np.int32]) -> tuple[Numbers, "_Components"]:
        """Unite components that are the same.

        Args:
            pairs: (2, P) numbers of two that are.

        Returns:
            The new number of each component, and the united ones.
        """
        pairs = np.unique(pairs, axis=1)
        touching = np.ones(pairs.shape[1], dtype=np.int8)
        graph = coo_array((touching, tuple(pairs)), (len(self), len(self)))
        count, number = connected_components(graph, directed=False)
        last = np.zeros(count, dtype=np.int64)
        np.maximum.at(last, number, self.last)
        return number, _Components(
            np.bincount(number, self.steps, count).astype(np.float64, copy=False),
            np.bincount(number, self.count, count).astype(np.int64, copy=False),
            last,
            replace(self.corners, owner=number[self.corners.owner]),
            None if self.pixels is None else self.pixels.united(number, count),
        )

    def only(self, chosen: Numbers) -> "_Components":
        """Return some of these, renumbered in the order in which they are given."""
        number = np.full(len(self), -1)
        number[chosen] = np.arange(len(chosen))
        corners = self.corners[number[self.corners.owner] >= 0]
        return _Components(
            self.steps[chosen],
            self.count[chosen],
            self.last[chosen],
            replace(corners, owner=number[corners.owner]),
            None if self.pixels is None else self.pixels.only(chosen, number),
        )

    def outlines(self, watershed: Watershed | None) -> Outlines:
        """Return the buildings that these are."""
        polygons = outlined(self.corners, len(self))
        whole = Outlines(polygons, np.clip(self.steps / _STEPS / self.count, 0.0, 1.0))
        if watershed is None or self.pixels is None or not len(self):
            return whole
        buildings = []
        for number, image in enumerate(self.pixels.images()):
            parts = None if image is None else _split(*image, watershed)
            alone = slice(number, number + 1)
            buildings.append(parts or Outlines(polygons[alone], whole.scores[alone]))
        return Outlines.joined(*buildings)


@dataclass(frozen=True)
class _Pixels:
    """The pixels of components that may have to be split; of those that are too large, none.

    Attributes:
        owner: (K,) the component that each is of.
        row, col: (K,) where.
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
    def none(cls) -> "_Pixels":
        """Return no pixels of no components."""
        numbers = np.empty(0, np.intp)
        return cls(numbers, numbers, numbers, np.empty(0, np.float32), numbers.reshape(0, 4))

    def and_found(
        self, owner: Numbers, row: Numbers, col: Numbers, probability: NDArray[Any], box: Numbers
    ) -> "_Pixels":
        """Return these, and (K,) pixels of (F, 4) more components."""
        return _Pixels(
            np.concatenate([self.owner, owner]),
            np.concatenate([self.row, row]),
            np.concatenate([self.col, col]),
            np.concatenate([self.probability, probability]),
            np.concatenate([self.box, box]),
        )

    def united(self, number: Numbers, count: int) -> "_Pixels":
        """Return the pixels of ``count`` components, of which (C,) numbers tell the parts."""
        box = np.full((count, 4), np.iinfo(np.intp).max)
        np.minimum.at(box, number, self.box)
        small = (-box[:, 2:] - box[:, :2]).prod(axis=1) <= _LARGEST_SPLIT
        owner = number[self.owner]
        return self._kept(small[owner], owner, box)

    def only(self, chosen: Numbers, number: Numbers) -> "_Pixels":
        """Return the pixels of chosen components, whose new numbers are given for all; -1: none."""
        owner = number[self.owner]
        return self._kept(owner >= 0, owner, self.box[chosen])

    def _kept(self, kept: NDArray[np.bool_], owner: Numbers, box: Numbers) -> "_Pixels":
        return _Pixels(owner[kept], self.row[kept], self.col[kept], self.probability[kept], box)

    def images(self) -> Iterator[tuple[NDArray[np.bool_], NDArray[Any], tuple[int, int]] | None]:
        """Yield each component: where in its box it is, probabilities, and the box's first pixel.

        None for one whose pixels were too many.
        """
        order = np.argsort(self.owner, kind="stable")
        ends = np.cumsum(np.bincount(self.owner, minlength=len(self.box)))
        for box, own in zip(self.box, np.split(order, ends[:-1]), strict=True):
            if not len(own):
                yield None
                continue
            top, left, bottom, right = box * (1, 1, -1, -1)
            shape = (bottom - top, right - left)
            building, probability = np.zeros(shape, bool), np.zeros(shape, self.probability.dtype)
            place = self.row[own] - top, self.col[own] - left
            building[place], probability[place] = True, self.probability[own]
            yield building, probability, (top, left)


def _split(
    building: NDArray[np.bool_],
    probability: NDArray[Any],
    corner: tuple[int, int],
    watershed: Watershed,
) -> Outlines | None:
    """Return the parts of a component, whose box begins at a pixel of the image; None if one."""
    labels, count = watershed.split(building, probability)
    if count < 2:
        return None
    row, col = corner
    corners = []
    for number, box in enumerate(find_objects(labels)):
        part = np.pad(labels[box] == number + 1, ((1, 1), (0, 0)))
        owner = np.full(part.shape, number)
        place = row + box[0].start, col + box[1].start
        corners.append(corners_between(owner, part, place))
    owner = labels[building] - 1
    means = np.bincount(owner, probability[building]) / np.bincount(owner)
    return Outlines(outlined(Corners.joined(*corners), count), means)
