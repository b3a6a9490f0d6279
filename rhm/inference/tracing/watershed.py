"""Telling buildings apart that a prediction has run together."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

_STEPS = 1024  # that heights are counted in
_SURE = 2.0  # height of certainty over the threshold: half of that is as good as a neck
_FOUR_NEIGHBOURS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=np.uint8)
_DILATIONS = 64


@dataclass(frozen=True)
class Watershed:
    """Splits buildings at their necks.

    Every pixel has a height: how far it lies behind the outline, in units of ``neck_px``, plus
    twice how far its probability reaches from the threshold (0) to certainty (1). Two summits are
    two buildings if every way from one to the other leads down by 1 or more from both; that is
    the h-maxima transform (Soille, Morphological Image Analysis, 2004, section 6.3.5). The
    buildings meet in the valleys between (Vincent and Soille, IEEE PAMI 13(6), 1991).

    Attributes:
        neck_px: where the model is equally sure of all pixels, by how much half of a neck's width
            falls short of half of both buildings'.
        threshold: least probability of a building pixel.
    """

    neck_px: float
    threshold: float

    def parts(self, building: NDArray[np.bool_], probability: NDArray[Any]) -> NDArray[np.int32]:
        """Number the parts of all components of an image.

        Args:
            building: (H, W), where the image shows building; beyond the edges is none.
            probability: (H, W) floating-point, in [0, 1] where building.

        Returns:
            Labels (H, W) from 1, row by row of their summits; 0 outside. Each part is connected
            (4 neighbours), and none is of two components.
        """
        inside = np.pad(building, 1)
        behind = cv2.distanceTransform(inside.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        sure = (np.pad(probability, 1) - self.threshold) / max(1.0 - self.threshold, 1e-6)
        height = behind / self.neck_px + _SURE * np.clip(sure, 0.0, 1.0)
        # Whole numbers: equal heights are equal however they were reached.
        steps = np.where(inside, np.rint(height * _STEPS), -1).astype(np.float32)
        tops = _filled(np.where(inside, np.maximum(steps - _STEPS, 0), -1), steps)
        tops = local_maxima(tops, connectivity=1)  # type: ignore[no-untyped-call]
        _, summits = cv2.connectedComponents((tops & inside).view(np.uint8), connectivity=4)
        return _grown(summits, steps, inside)[1:-1, 1:-1]


def _filled(lowered: NDArray[np.float32], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the reconstruction of heights by dilation from lowered ones (4 neighbours).

    Most buildings are done after a few dilations, which are quick; the rest is left to an
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
