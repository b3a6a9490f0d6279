"""Mirrored edges; oracle: numpy's own padding."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rhm.data.rasters.mirrored_edges import mirrored
from tests.data.rasters.test_pixels import PIXELS, VALID, VALUES


@given(*[st.integers(0, 30)] * 4)
def test_around_them_is_their_mirror_image_and_not_valid(
    top: int, bottom: int, left: int, right: int
) -> None:
    height, width = top + 12 + bottom, left + 17 + right
    values, valid = mirrored(PIXELS, height, width, row=top, col=left)
    around = ((top, bottom), (left, right))
    np.testing.assert_array_equal(values, np.pad(VALUES, (*around, (0, 0)), mode="reflect"))
    np.testing.assert_array_equal(valid, np.pad(VALID, around))


def test_where_nothing_is_missing_nothing_is_copied() -> None:
    assert mirrored(PIXELS, 12, 17) is PIXELS
