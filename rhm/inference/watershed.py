"""Telling buildings apart that a prediction has run together."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

_STEPS = 1024  # in integers, equal heights are equal however they were reached
_SURE = 2.0  # height of certainty over the threshold: half of that is as good as a neck
_FOUR_NEIGHBOURS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)


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

    def split(
        self, building: NDArray[np.bool_], probability: NDArray[Any]
    ) -> tuple[NDArray[np.int32], int]:
        """Number the parts of one component.

        Args:
            building: (H, W), the pixels of a component (4 neighbours); beyond the edges is none.
            probability: (H, W) floating-point, in [0, 1] where building.

        Returns:
            Labels (H, W), 0 outside, each part connected (4 neighbours); and how many parts.
        """
        inside = np.pad(building, 1)
        behind = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[
            1:-1, 1:-1
        ]
        sure = (probability - self.threshold) / max(1.0 - self.threshold, 1e-6)
        height = behind / self.neck_px + _SURE * np.clip(sure, 0.0, 1.0)
        steps = np.where(building, np.rint(height * _STEPS), -1).astype(np.int64)
        lowered = np.where(building, np.maximum(steps - _STEPS, 0), -1)
        tops = reconstruction(  # type: ignore[no-untyped-call]
            lowered, steps, footprint=_FOUR_NEIGHBOURS
        )
        tops = local_maxima(tops, connectivity=1)  # type: ignore[no-untyped-call]
        summits = label(tops & building, connectivity=1)  # type: ignore[no-untyped-call]
        count = int(summits.max(initial=0))
        if count <= 1:
            return building.astype(np.int32), int(building.any())
        parts = watershed(-steps, summits, connectivity=1, mask=building)  # type: ignore[no-untyped-call]
        return parts.astype(np.int32), count
