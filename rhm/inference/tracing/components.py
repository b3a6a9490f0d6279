"""Tracing the buildings of an image that is read a few rows at a time.

A building is a connected component (4 neighbours) of building pixels, or a part of one that was
split by a watershed. A component that reaches the last row read so far stays open: the corners of
its outline are kept until the component ends. The result does not depend on how the image was
divided into bands of rows.
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
from rhm.inference.tracing.watershed import Splitting

# Steps per unit of probability. Whole steps are added exactly, so that the order does not matter.
_STEPS = 2.0**24

Numbers = NDArray[np.intp]


@dataclass(frozen=True)
class Outlines:
    """Traced buildings, in the order of the last pixels of their components, row by row.

    Attributes:
        polygons: (N,) valid shapely polygons in pixel coordinates, (column, row). Holes are kept,
            and there is a vertex at every corner and nowhere else.
        scores: (N,) float64, the mean probability of the pixels of each building.
        split: (N,) bool, True for parts of a component that was split, which share borders.
        component: (N,) number of the component of each building, ascending.
        too_large: (N,) bool, True for components that were to be split, but are too large.
    """

    polygons: NDArray[Any]
    scores: NDArray[np.float64]
    split: NDArray[np.bool_]
    component: Numbers
    too_large: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.polygons)

    @classmethod
    def joined(cls, *parts: "Outlines") -> "Outlines":
        """Return the buildings of several parts, one part after another."""
        counts = [int(part.component.max(initial=-1)) + 1 for part in parts]
        offsets = np.cumsum([0, *counts[:-1]])
        return cls(
            np.concatenate([part.polygons for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.split for part in parts]),
            np.concatenate(
                [part.component + first for part, first in zip(parts, offsets, strict=True)]
            ),
            np.concatenate([part.too_large for part in parts]),
        )


class Tracer:
    """Traces an image that is fed from top to bottom, and returns components as they end.

    Args:
        width: number of columns of the image.
        watershed: how components are split; None if they are not.
    """

    def __init__(self, width: int, watershed: Splitting | None = None) -> None:
        self._watershed = watershed
        self._row = 0
        self._open = _Components.none(with_pixels=watershed is not None)
        # For every column, the open component that reaches the last row read; -1 if there is none.
        self._bottom = np.full(width, -1, dtype=np.int32)

    def feed(
        self,
        building: NDArray[np.bool_],
        probability: NDArray[Any],
        inside: NDArray[Any] | None = None,
    ) -> Outlines:
        """Trace the next rows.

        Args:
            building: (rows, width) bool, True where the image shows a building.
            probability: (rows, width) floating-point, in [0, 1] on buildings.
            inside: (rows, width) floating-point probability of the inside of a building, if the
                watershed is a learned one.

        Returns:
            The components that have ended, because these rows do not continue them.
        """
        # Begins with the last row of the previous band: the corners between the two bands are
        # still to be found.
        seen = np.concatenate([self._bottom[None] >= 0, building])
        labels = np.empty(seen.shape, dtype=np.int32)
        _, labels[1:], found, _ = cv2.connectedComponentsWithStats(
            seen[1:].view(np.uint8), labels=labels[1:], connectivity=4
        )
        # On buildings, labels are now numbers of components: the open ones, then the new ones.
        labels += len(self._open) - 1
        labels[0] = self._bottom
        learned = self._watershed is not None and self._watershed.learned
        height = inside if learned and inside is not None else probability
        new = np.asarray(found[1:], dtype=np.int64)
        components = self._open.and_found(labels, seen, probability, height, new, self._row)
        number, components = components.united(labels[:2, seen[0] & seen[1]])
        bottom = number[labels[-1, seen[-1]]]
        still_open = np.zeros(len(components), dtype=bool)
        still_open[bottom] = True
        self._open = components.only(np.flatnonzero(still_open))
        self._bottom = np.full_like(self._bottom, -1)
        self._bottom[seen[-1]] = (np.cumsum(still_open) - 1)[bottom]
        self._row += len(building)
        ended = np.flatnonzero(~still_open)
        ended = ended[np.argsort(components.last[ended], kind="stable")]
        return components.only(ended).outlines(self._watershed)

    @property
    def open_row(self) -> int:
        """The first row of the components that have not ended yet, or the next row to come."""
        return int(self._open.corners.row.min(initial=self._row))

    def finish(self) -> Outlines:
        """Return the components that reach the last row of the image."""
        nothing = np.zeros((1, len(self._bottom)), dtype=bool)
        return self.feed(nothing, nothing.astype(np.float32))


def trace(
    probability: NDArray[Any],
    valid: NDArray[np.bool_],
    *,
    threshold: float = 0.5,
    watershed: Splitting | None = None,
    inside: NDArray[Any] | None = None,
) -> Outlines:
    """Trace the buildings of a complete image, where the probability reaches the threshold.

    Args:
        probability: (H, W) floating-point probabilities.
        valid: (H, W) bool; a pixel belongs to no component where it is False.
        threshold: minimum probability of a building pixel.
        watershed: how components are split; None if they are not.
        inside: (H, W) probability of the inside of a building, if the watershed is a learned one.
    """
    tracer = Tracer(probability.shape[1], watershed)
    building = np.asarray(valid, dtype=bool) & (probability >= threshold)
    return Outlines.joined(tracer.feed(building, probability, inside), tracer.finish())


@dataclass(frozen=True)
class _Components:
    """Properties of C components.

    Attributes:
        steps: (C,) sums of the probabilities of their pixels, in steps.
        count: (C,) numbers of pixels.
        last: (C,) positions of their last pixels, counted row by row through the image.
        corners: corners of their outlines.
        pixels: pixels of the components that may have to be split; None if none is split.
    """

    steps: NDArray[np.float64]
    count: NDArray[np.int64]
    last: NDArray[np.int64]
    corners: Corners
    pixels: ComponentPixels | None

    @classmethod
    def none(cls, *, with_pixels: bool) -> "_Components":
        """Return an empty set of components, which does or does not keep pixels."""
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
        height: NDArray[Any],
        found: NDArray[np.int64],
        row: int,
    ) -> "_Components":
        """Return these components and those found in a band of rows.

        Args:
            labels: (1 + rows, width) numbers of components: of these components in the row
                above the band, of new ones in the band.
            seen: (1 + rows, width) bool, True where the image shows a building.
            probability: (rows, width) probabilities.
            height: (rows, width) heights by which components are split.
            found: (F, 5) first column and first row in the band, number of columns, number of
                rows, and number of pixels of each new component.
            row: row of the image at which the band begins.
        """
        size = len(self) + len(found)
        building = seen[1:]
        owner = labels[1:][building].astype(np.intp)
        # Integers of at most 24 bits, of which float64 can add half a billion exactly.
        steps = np.rint(probability[building].astype(np.float64) * _STEPS)
        last = np.concatenate([self.last, np.zeros(len(found), dtype=np.int64)])
        # Of repeated assignments, the last one stays.
        last[owner] = np.flatnonzero(building) + row * building.shape[1]
        pixels = self.pixels
        if pixels is not None:
            rows, cols = np.nonzero(building)
            left, top, across, down, _ = found.T
            box = np.stack([top, left, -(top + down), -(left + across)], axis=1)
            box[:, ::2] += (row, -row)
            pixels = pixels.and_found(
                ComponentPixels(
                    owner.astype(np.int32),
                    (rows + row).astype(np.int32),
                    cols.astype(np.int32),
                    probability[building],
                    height[building],
                    box,
                )
            )
        return _Components(
            np.concatenate([self.steps, np.bincount(owner, steps, size)[len(self) :]]),
            np.concatenate([self.count, found[:, 4]]),
            last,
            Corners.joined(self.corners, corners_between(seen, labels, (row, 0))),
            pixels,
        )

    def united(self, pairs: NDArray[np.int32]) -> tuple[Numbers, "_Components"]:
        """Unite components that touch.

        Args:
            pairs: (2, P) numbers of pairs of components that touch.

        Returns:
            The new number of each component, and the united components.
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
        """Return the chosen components, renumbered in the given order."""
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

    def outlines(self, watershed: Splitting | None) -> Outlines:
        """Return the buildings of these components, split if there is a watershed."""
        polygons = outlined(self.corners, len(self))
        scores = np.clip(self.steps / _STEPS / self.count, 0.0, 1.0)
        if watershed is None or self.pixels is None:
            none = np.zeros(len(self), dtype=bool)
            return Outlines(polygons, scores, none, np.arange(len(self)), none)
        parts = self.pixels.split(watershed)
        whole = np.setdiff1d(np.arange(len(self)), parts.component)
        component = np.concatenate([whole, parts.component])
        order = np.argsort(component, kind="stable")
        return Outlines(
            np.concatenate([polygons[whole], parts.polygons])[order],
            np.concatenate([scores[whole], parts.scores])[order],
            np.repeat([False, True], [len(whole), len(parts.polygons)])[order],
            component[order],
            ~self.pixels.held()[component[order]],
        )
