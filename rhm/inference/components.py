"""Tracing the buildings of an image that is seen a few rows at a time.

A building is a connected component (4 neighbours) of building pixels, or what a watershed makes of
one. Those inside a band of rows are traced at once; those that reach its last row are kept, as the
outlines of their pieces, until a band does not continue them. What comes out does not depend on how
the image was cut.
"""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import cv2
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rhm.inference.watershed import Watershed

_LARGEST_SPLIT = 1 << 24
"""Pixels of the box of a component; a larger one stays whole, so that none fills the memory."""

# Probabilities are added up in steps of this, exactly, so that the order does not matter.
_STEPS = 2.0**24


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


@dataclass
class _Pixels:
    """The pixels of a component that may have to be split.

    Attributes:
        held: rows, columns and probabilities, band by band; empty of a component that is too large.
        top, left, bottom, right: the box around them.
    """

    held: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[Any]]]
    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def of(
        cls, rows: NDArray[np.intp], cols: NDArray[np.intp], probability: NDArray[Any]
    ) -> "_Pixels":
        """Hold the (K,) pixels of one band, in the order of their rows."""
        box = int(rows[0]), int(cols.min()), int(rows[-1]) + 1, int(cols.max()) + 1
        return cls([(rows, cols, probability)], *box)._if_small()

    def add(self, other: "_Pixels") -> None:
        self.top, self.left = min(self.top, other.top), min(self.left, other.left)
        self.bottom, self.right = max(self.bottom, other.bottom), max(self.right, other.right)
        self.held = self.held + other.held if self.held and other.held else []
        self._if_small()

    def _if_small(self) -> "_Pixels":
        if (self.bottom - self.top) * (self.right - self.left) > _LARGEST_SPLIT:
            self.held = []
        return self

    def image(self) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Return the box: where the component is, and the probability there."""
        shape = (self.bottom - self.top, self.right - self.left)
        building = np.zeros(shape, dtype=bool)
        probability = np.zeros(shape, dtype=self.held[0][2].dtype)
        for rows, cols, values in self.held:
            place = (rows - self.top, cols - self.left)
            building[place], probability[place] = True, values
        return building, probability


@dataclass
class _Open:
    """A component that may go on in the next band.

    Attributes:
        pieces: outlines of what was seen of it, band by band.
        steps: sum of its probabilities.
        count: how many pixels it has.
        last: its last pixel, counted through the image.
        pixels: if components are to be split.
    """

    pieces: list[Any]
    steps: float
    count: int
    last: int
    pixels: _Pixels | None = None

    def add(self, other: "_Open") -> None:
        """Join a component that turned out to be the same."""
        self.pieces += other.pieces
        self.steps += other.steps
        self.count += other.count
        self.last = max(self.last, other.last)
        if self.pixels is not None and other.pixels is not None:
            self.pixels.add(other.pixels)


class Tracer:
    """Is fed an image from top to bottom, and gives the components that have ended.

    Args:
        width: columns of the image.
        watershed: how components are split, if they are.
    """

    def __init__(self, width: int, watershed: Watershed | None = None) -> None:
        self._watershed = watershed
        self._row = 0
        self._open: list[_Open] = []
        # For every column, the open component that reaches the last row seen; -1: none.
        self._bottom = np.full(width, -1, dtype=np.intp)

    def feed(self, building: NDArray[np.bool_], probability: NDArray[Any]) -> Outlines:
        """Take the next rows.

        Args:
            building: (rows, width), where the image shows building.
            probability: (rows, width) floating-point, in [0, 1] where it does.

        Returns:
            The components that the image does not continue.
        """
        count, found_labels = cv2.connectedComponents(building.astype(np.uint8), connectivity=4)
        labels = np.asarray(found_labels, dtype=np.int32)
        held = self._watershed is not None
        found = _components(labels, count - 1, building, probability, self._row, held=held)
        labels -= 1  # the background is -1 now
        ended = self._join(found, labels[0], labels[-1])
        self._row += len(building)
        return _outlines(ended, self._watershed)

    def finish(self) -> Outlines:
        """Return the components that reach the image's last row."""
        ended, self._open = self._open, []
        return _outlines(ended, self._watershed)

    def _join(
        self, found: list[_Open], top: NDArray[np.int32], bottom: NDArray[np.int32]
    ) -> list[_Open]:
        """Join what a band shows to what is open; return the components that have ended.

        Args:
            found: components of the band.
            top: the one that its first row shows in every column; -1: none.
            bottom: of its last row.
        """
        opened = len(self._open)
        touching = (self._bottom >= 0) & (top >= 0)
        pairs = np.unique(np.stack([self._bottom[touching], top[touching] + opened]), axis=1)
        size = opened + len(found)
        graph = coo_array((np.ones(pairs.shape[1], dtype=np.int8), tuple(pairs)), (size, size))
        groups, group = connected_components(graph, directed=False)
        merged: list[_Open | None] = [None] * groups
        for index, component in zip(group, [*self._open, *found], strict=True):
            known = merged[index]
            if known is None:
                merged[index] = component
            else:
                known.add(component)
        own = group[opened:]
        goes_on = np.zeros(groups, dtype=bool)
        goes_on[own[bottom[bottom >= 0]]] = True
        number = np.cumsum(goes_on) - 1
        self._bottom = np.full(len(bottom), -1, dtype=np.intp)
        self._bottom[bottom >= 0] = number[own[bottom[bottom >= 0]]]
        components = [component for component in merged if component is not None]
        self._open = [each for each, more in zip(components, goes_on, strict=True) if more]
        return [each for each, more in zip(components, goes_on, strict=True) if not more]


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
    ended = tracer.feed(np.asarray(valid, dtype=bool) & (probability >= threshold), probability)
    rest = tracer.finish()
    return Outlines(
        np.concatenate([ended.polygons, rest.polygons]),
        np.concatenate([ended.scores, rest.scores]),
    )


def _components(
    labels: NDArray[np.int32],
    count: int,
    building: NDArray[np.bool_],
    probability: NDArray[Any],
    row: int,
    *,
    held: bool,
) -> list[_Open]:
    """Return the components of a band of labels, 1 to ``count``, that begins at a row.

    With their pixels, if these are to be ``held``.
    """
    if not count:
        return []
    inside = labels[building] - 1
    pixels = np.bincount(inside, minlength=count)
    # Integers of at most 24 bits, of which float64 adds up half a thousand million exactly.
    steps = np.rint(probability[building].astype(np.float64) * _STEPS)
    total = np.bincount(inside, weights=steps, minlength=count)
    last = np.empty(count, dtype=np.int64)
    # The last of repeated assignments stands.
    last[inside] = np.flatnonzero(building)
    last += row * labels.shape[1]
    pieces = _polygons(labels, building, (row, 0))
    components = [
        _Open([piece], *numbers)
        for piece, *numbers in zip(
            pieces, total.tolist(), pixels.tolist(), last.tolist(), strict=True
        )
    ]
    if held:
        order = np.argsort(inside, kind="stable")
        rows, cols = np.nonzero(building)
        columns = ((rows + row)[order], cols[order], probability[building][order])
        each = zip(*(np.split(column, np.cumsum(pixels)[:-1]) for column in columns), strict=True)
        for component, own in zip(components, each, strict=True):
            component.pixels = _Pixels.of(*own)
    return components


def _polygons(
    labels: NDArray[np.int32], building: NDArray[np.bool_], corner: tuple[int, int]
) -> NDArray[Any]:
    """Return the (count,) outlines of labels from 1 up, which begin at a pixel of the image."""
    row, col = corner
    place = Affine.translation(col, row)
    traced = shapes(labels, mask=building, connectivity=4, transform=place)
    outlines, values = zip(*traced, strict=True)
    polygons = [outline["coordinates"] for outline in outlines]
    rings = list(chain.from_iterable(polygons))
    # All at once: shapely makes geometries of arrays far faster than of lists.
    points = np.array(list(chain.from_iterable(rings)))
    ring = np.repeat(np.arange(len(rings)), [len(each) for each in rings])
    owner = np.repeat(np.asarray(values, dtype=np.intp) - 1, [len(each) for each in polygons])
    order = np.argsort(owner, kind="stable")
    made = shapely.polygons(shapely.linearrings(points, indices=ring)[order], indices=owner[order])
    # A ring that touches itself at a corner becomes a ring with a hole: the same ground.
    return np.asarray(shapely.make_valid(made))


def _outlines(ended: list[_Open], watershed: Watershed | None) -> Outlines:
    """Return components that have ended, each as one polygon or as its parts."""
    polygons: list[Any] = []
    means: list[float] = []
    for component in sorted(ended, key=lambda component: component.last):
        parts = None if watershed is None else _parts(component, watershed)
        if parts is None:
            pieces = component.pieces
            polygons.append(pieces[0] if len(pieces) == 1 else shapely.union_all(pieces))
            means.append(component.steps / _STEPS / component.count)
        else:
            polygons.extend(parts[0])
            means.extend(parts[1])
    scores = np.clip(np.asarray(means, dtype=float), 0.0, 1.0)
    return Outlines(_corners_only(np.asarray(polygons, dtype=object)), scores)


def _parts(
    component: _Open, watershed: Watershed
) -> tuple[NDArray[Any], NDArray[np.float64]] | None:
    """Return the polygons and mean probabilities of a component's parts; None if it has no two."""
    if component.pixels is None or not component.pixels.held:
        return None
    building, probability = component.pixels.image()
    labels, count = watershed.split(building, probability)
    if count < 2:
        return None
    corner = component.pixels.top, component.pixels.left
    of = labels[building] - 1
    totals = np.bincount(of, weights=probability[building], minlength=count)
    return _polygons(labels, building, corner), totals / np.bincount(of, minlength=count)


def _corners_only(polygons: NDArray[Any]) -> NDArray[Any]:
    """Return polygons of axis-parallel edges in a form that does not tell how they were made.

    They have a vertex where they turn and nowhere else, and begin where ``shapely.normalize``
    has them begin.
    """
    if not len(polygons):
        return polygons
    rings, owner = shapely.get_rings(polygons, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    sizes = np.bincount(ring)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    before, after = np.arange(len(points)) - 1, np.arange(len(points)) + 1
    # A ring's last point is its first again.
    before[starts], after[ends - 1] = ends - 2, starts + 1
    straight = ((points[before] == points) & (points == points[after])).any(axis=1)
    keep = ~straight
    keep[ends - 1] = False
    return np.asarray(
        shapely.normalize(
            shapely.polygons(shapely.linearrings(points[keep], indices=ring[keep]), indices=owner)
        )
    )
