"""Tracing the buildings of an image that is seen a few rows at a time.

A building is a connected component (4 neighbours) of building pixels, or what a watershed makes of
one. A component that reaches the last row seen is kept, as the corners of its outline, until the
image does not continue it. What comes out does not depend on how the image was cut.
"""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rhm.inference.tracing.pixel_corners import Corners, corners_between, outlined
from rhm.inference.tracing.splitting import ComponentPixels
from rhm.inference.tracing.watershed import Watershed

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
    pixels: ComponentPixels | None

    @classmethod
    def none(cls, *, with_pixels: bool) -> "_Components":
        """Return none; such as have pixels, or have none."""
        numbers = np.empty(0, np.int64)
        pixels = ComponentPixels.none() if with_pixels else None
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
            pixels = pixels.and_found(
                ComponentPixels(owner, rows + row, cols, probability[building], box)
            )
        return _Components(
            np.concatenate([self.steps, np.bincount(owner, steps, size)[len(self) :]]),
            np.concatenate([self.count, found[:, 4]]),
            last,
            Corners.joined(self.corners, corners_between(seen, labels, (row, 0))),
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
            None if self.pixels is None else self.pixels.only(chosen),
        )

    def outlines(self, watershed: Watershed | None) -> Outlines:
        """Return the buildings that these are."""
        polygons = outlined(self.corners, len(self))
        scores = np.clip(self.steps / _STEPS / self.count, 0.0, 1.0)
        if watershed is None or self.pixels is None:
            return Outlines(polygons, scores)
        parts = self.pixels.split(watershed)
        whole = np.setdiff1d(np.arange(len(self)), parts.component)
        order = np.argsort(np.concatenate([whole, parts.component]), kind="stable")
        return Outlines(
            np.concatenate([polygons[whole], parts.polygons])[order],
            np.concatenate([scores[whole], parts.scores])[order],
        )
