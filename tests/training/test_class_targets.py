"""Classes drawn from masks: against distances between pixel centres, computed one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.ndimage import label

from rhm.augmentation.mask_values import MARKED_BOUNDARY, MARKED_CONTACT, is_building
from rhm.data.chips import DataConfig
from rhm.data.labels import IGNORE
from rhm.models.building_classes import (
    BACKGROUND,
    BOUNDARY,
    BUILDING,
    CLASSES,
    CONTACT,
    SEPARATIONS,
)
from rhm.training.class_targets import ClassTargets

MASKS = hnp.arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 0, 0, 1, 2, IGNORE]))


def buildings_of(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Numbers of the connected pixels of one value, for each value separately."""
    found = np.zeros(mask.shape, dtype=np.int64)
    for value in np.unique(mask[is_building(mask)]):
        each, _ = label(mask == value)
        found += np.where(each > 0, each + found.max(), 0)
    return found


def one_by_one(mask: NDArray[np.uint8], boundary_px: int, contact_px: int) -> NDArray[np.uint8]:
    numbers = buildings_of(mask)
    rows, cols = np.indices(mask.shape)
    found = np.zeros(mask.shape, dtype=np.uint8)
    for row, col in np.ndindex(mask.shape):
        away = (rows - row) ** 2 + (cols - col) ** 2
        near = {*numbers[(away <= contact_px**2) & (numbers > 0)].tolist()}
        around = {*numbers[(away <= boundary_px**2) & (mask != IGNORE)].tolist()}
        if numbers[row, col]:
            found[row, col] = BUILDING if around == {numbers[row, col]} else BOUNDARY
        elif len(near) > 1:
            found[row, col] = CONTACT
    found[mask == IGNORE] = IGNORE
    return found


@settings(deadline=None, max_examples=40)
@given(MASKS, st.integers(1, 3), st.integers(1, 4))
def test_classes_follow_from_distances_to_other_buildings(
    mask: NDArray[np.uint8], boundary_px: int, contact_px: int
) -> None:
    found = ClassTargets(True, boundary_px, contact_px)(mask)
    np.testing.assert_array_equal(found, one_by_one(mask, boundary_px, contact_px))
    without = ClassTargets(False, boundary_px, contact_px)(mask)
    np.testing.assert_array_equal(without, np.where(found == CONTACT, BACKGROUND, found))


def test_buildings_that_touch_have_a_boundary_between_them_if_their_numbers_differ() -> None:
    mask = np.zeros((20, 40), dtype=np.uint8)
    mask[4:16, 4:20], mask[4:16, 20:36] = 1, 2
    drawn = ClassTargets(True, 2, 4)(mask)
    assert (drawn[6:14, 18:22] == BOUNDARY).all()
    merged = ClassTargets(True, 2, 4)(np.minimum(mask, 1))
    assert (merged[6:14, 6:34] == BUILDING).all()


def test_the_edge_of_a_chip_is_no_boundary() -> None:
    assert (ClassTargets(True, 3, 4)(np.ones((16, 16), dtype=np.uint8)) == BUILDING).all()


def test_classes_that_a_label_marks_are_kept() -> None:
    mask = np.zeros((12, 12), dtype=np.uint8)
    mask[2:10, 2:6], mask[2:10, 5], mask[2:10, 6] = 1, MARKED_BOUNDARY, MARKED_CONTACT
    drawn = ClassTargets(True)(mask)
    expected = np.select(
        [mask == MARKED_BOUNDARY, mask == MARKED_CONTACT],
        [np.uint8(BOUNDARY), np.uint8(CONTACT)],
        mask,
    )
    np.testing.assert_array_equal(drawn, expected)
    assert (ClassTargets(False)(mask)[:, 6] == BACKGROUND).all()


@pytest.mark.parametrize("name", SEPARATIONS)
def test_targets_have_the_classes_of_their_network(name: str) -> None:
    targets = ClassTargets.of(SEPARATIONS[name], DataConfig("c", boundary_px=1, contact_px=7))
    if name == "none":
        assert targets is None
        return
    assert targets is not None
    assert (targets.boundary_px, targets.contact_px) == (1, 7)
    assert targets.contact == (SEPARATIONS[name] == CLASSES)
    assert ClassTargets.of(SEPARATIONS[name]) == ClassTargets(targets.contact)
