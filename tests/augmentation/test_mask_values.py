"""Values of masks: what is building, and numbers that tell buildings apart."""

import numpy as np

from rhm.augmentation.mask_values import (
    MARKED_BOUNDARY,
    MARKED_CONTACT,
    NUMBERS,
    is_building,
    numbered,
)
from rhm.data.labels import IGNORE


def test_numbers_and_marked_boundaries_are_building_and_nothing_else_is() -> None:
    values = np.arange(256, dtype=np.uint8)
    expected = [1 <= value <= NUMBERS or value == MARKED_BOUNDARY for value in range(256)]
    np.testing.assert_array_equal(is_building(values), expected)
    assert not is_building(np.array([0, MARKED_CONTACT, IGNORE])).any()


def test_values_that_follow_each_other_have_different_numbers_of_buildings() -> None:
    found = numbered(np.arange(1000))
    assert is_building(found).all()
    assert found.max() == NUMBERS
    assert (found[1:] != found[:-1]).all()
