"""Splitting buildings that a prediction has merged."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

_STEPS = 1024  # steps per unit of height
_SURE = 2.0  # height of certainty above the threshold; half of it counts as much as a neck
_FOUR_NEIGHBOURS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=np.uint8)
_DILATIONS = 64


class Splitting(Protocol):
    """How connected components are split into buildings."""

    @property
    def learned(self) -> bool:
        """Whether ``height`` is the probability of the inside, and not that of building."""

    def parts(self, building: NDArray[np.bool_], height: NDArray[Any]) -> NDArray[np.int32]:
        """Number the parts of all components of an image.

        Args:
            building: (H, W) bool, True where the image shows a building. There are no buildings
                beyond the edges.
            height: (H, W) floating-point probability, in [0, 1] on buildings.

        Returns:
            Labels (H, W) from 1, in the order of the summits, row by row; 0 outside. Each part is
            connected (4 neighbours) and lies in a single component.
        """


@dataclass(frozen=True)
class LearnedSeparation:
    """Separates buildings by what a network has learned: the probability of their inside.

    This is the watershed of the winners of SpaceNet's building challenges: it grows from the
    insides of buildings, and boundaries are the heights at which buildings meet. Two insides are
    two buildings if the probability falls by ``drop`` or more on every path between them.

    Attributes:
        drop: least fall of the probability of the inside between two buildings.
    """

    drop: float
    learned: ClassVar[bool] = True

    def parts(self, building: NDArray[np.bool_], height: NDArray[Any]) -> NDArray[np.int32]:
        """Number the parts of all components of an image; see ``Splitting``."""
        inside = np.pad(building, 1)
        return _summits_grown(np.pad(height, 1) / self.drop, inside)


@dataclass(frozen=True)
class Watershed:
    """Splits buildings at their necks.

    Every pixel has a height: its distance from the outline, in units of the neck, plus twice
    its probability on a scale from the threshold (0) to certainty (1). Two summits belong to two
    buildings if every path between them descends by 1 or more from both; this is the h-maxima
    transform (Soille, Morphological Image Analysis, 2004, section 6.3.5). The buildings meet in
    the valleys between their summits (Vincent and Soille, IEEE PAMI 13(6), 1991).

    Attributes:
        neck_px: how much narrower a neck is than both buildings, on each side, in heights of
            pixels; this applies where the model is equally certain of all pixels.
        threshold: minimum probability of a building pixel.
        pixel_aspect: how many times as wide as high pixels are on the ground.
    """

    neck_px: float
    threshold: float
    pixel_aspect: float = 1.0
    learned: ClassVar[bool] = False

    def parts(self, building: NDArray[np.bool_], height: NDArray[Any]) -> NDArray[np.int32]:
        """Number the parts of all components of an image; see ``Splitting``."""
        inside = np.pad(building, 1)
        sure = (np.pad(height, 1) - self.threshold) / max(1.0 - self.threshold, 1e-6)
        return _summits_grown(self._behind(inside) + _SURE * np.clip(sure, 0.0, 1.0), inside)

    def _behind(self, inside: NDArray[np.bool_]) -> NDArray[Any]:
        """Return the distance of each pixel from the outline, in necks."""
        if self.pixel_aspect == 1.0:
            # Several times as fast, and for square pixels only.
            px = cv2.distanceTransform(inside.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        else:
            px = distance_transform_edt(inside, sampling=(1.0, self.pixel_aspect))
        return np.asarray(px / self.neck_px)


def _summits_grown(height: NDArray[Any], inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the parts around summits that are separated by a descent of 1 or more.

    Args:
        height: (H + 2, W + 2) heights.
        inside: (H + 2, W + 2) where there are buildings, none of them at the edges.

    Returns:
        (H, W) numbers of the parts, from 1.
    """
    # Whole numbers, so that equal heights are equal however they were computed.
    steps = np.where(inside, np.rint(height * _STEPS), -1).astype(np.float32)
    tops = _filled(np.where(inside, np.maximum(steps - _STEPS, 0), -1), steps)
    tops = local_maxima(tops, connectivity=1)  # type: ignore[no-untyped-call]
    _, summits = cv2.connectedComponents((tops & inside).view(np.uint8), connectivity=4)
    return _grown(summits, steps, inside)[1:-1, 1:-1]


def _filled(lowered: NDArray[np.float32], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the morphological reconstruction of heights from lowered ones (4 neighbours).

    A few dilations, which are fast, suffice for most buildings. For the others there is an
    algorithm whose time does not depend on their shape.
    """
    for _ in range(_DILATIONS):
        wider = np.minimum(cv2.dilate(lowered, _FOUR_NEIGHBOURS), steps)
        if np.array_equal(wider, lowered):
            return lowered
        lowered = wider
    return np.asarray(
        reconstruction(lowered, steps, footprint=_FOUR_NEIGHBOURS),  # type: ignore[no-untyped-call]
        dtype=np.float32,
    )


def _grown(
    summits: NDArray[Any], steps: NDArray[np.float32], inside: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Return the parts that grow from numbered summits, each within its component."""
    _, components = cv2.connectedComponents(inside.view(np.uint8), connectivity=4)
    has = summits > 0
    component = np.zeros(summits.max(initial=0) + 1, dtype=np.intp)
    component[summits[has]] = components[has]
    count = np.bincount(component[1:], minlength=components.max() + 1)
    only = np.zeros(len(count), dtype=np.int32)
    only[component] = np.arange(len(component))
    only[count != 1] = 0
    parts: NDArray[np.int32] = only[components]
    several = inside & (parts == 0)
    if several.any():
        split = watershed(-steps, summits, connectivity=1, mask=several)  # type: ignore[no-untyped-call]
        parts[several] = split[several]
    return parts
