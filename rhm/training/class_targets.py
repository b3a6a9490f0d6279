"""The classes of buildings, drawn from a mask in which buildings have numbers."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from rhm.augmentation.mask_values import MARKED_BOUNDARY, MARKED_CONTACT, is_building
from rhm.data.chips import DataConfig
from rhm.data.labels import IGNORE
from rhm.models.building_classes import BACKGROUND, BOUNDARY, BUILDING, CLASSES, CONTACT


@dataclass(frozen=True)
class ClassTargets:
    """Draws classes from masks.

    Attributes:
        contact: whether there is a class for background between near buildings.
        boundary_px: width of the boundary, inside the building, in pixels.
        contact_px: a background pixel is contact if two buildings are at most this far from it,
            in pixels.
    """

    contact: bool
    boundary_px: int = DataConfig.boundary_px
    contact_px: int = DataConfig.contact_px

    @classmethod
    def of(cls, classes: tuple[str, ...], data: DataConfig | None = None) -> "ClassTargets | None":
        """Return the targets of a network, or None if it has no classes but building.

        Args:
            classes: classes of the network.
            data: configuration of its chips; by default, widths are the default ones.
        """
        if len(classes) <= BOUNDARY:
            return None
        if data is None:
            return cls(CLASSES[CONTACT] in classes)
        return cls(CLASSES[CONTACT] in classes, data.boundary_px, data.contact_px)

    def __call__(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the classes of a mask, (H, W) uint8, with ``IGNORE`` where the truth is unknown.

        Connected pixels of one number are a building (4 neighbours). There is no boundary where a
        building meets unknown pixels or the edge of the mask. Classes that the label marks are
        kept, and none are drawn.

        Args:
            mask: (H, W) with the values of ``rhm.augmentation.mask_values``.
        """
        classes = np.where(is_building(mask), np.uint8(BUILDING), np.uint8(BACKGROUND))
        marked = mask == MARKED_BOUNDARY, mask == MARKED_CONTACT
        if any(where.any() for where in marked):
            boundary, contact = marked
        else:
            boundary, contact = self._drawn(mask, classes == BUILDING)
        classes[boundary] = BOUNDARY
        if self.contact:
            classes[contact] = CONTACT
        classes[mask == IGNORE] = IGNORE
        return classes

    def _drawn(
        self, mask: NDArray[np.uint8], building: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return where boundary and contact are."""
        numbers = label(np.where(building, mask, 0), background=0, connectivity=1)  # type: ignore[no-untyped-call]
        number = numbers.astype(np.float32)  # exact up to 2^24 buildings
        known = mask != IGNORE
        here, around = _disc(self.boundary_px), _disc(self.contact_px)
        # Beyond the edge of the mask, OpenCV lets nothing count.
        highest = cv2.dilate(np.where(known, number, -1.0), here)
        lowest = cv2.erode(np.where(known, number, np.inf), here)
        boundary = building & ((highest != number) | (lowest != number))
        if not self.contact:
            return boundary, np.zeros_like(boundary)
        highest = cv2.dilate(number, around)
        lowest = cv2.erode(np.where(building, number, np.inf), around)
        return boundary, ~building & (highest > 0) & (lowest != highest)


def _disc(radius: int) -> NDArray[np.uint8]:
    """Return a disc of pixels whose centres are at most ``radius`` from the middle one's."""
    rows, cols = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(rows**2 + cols**2 <= radius**2).astype(np.uint8)
