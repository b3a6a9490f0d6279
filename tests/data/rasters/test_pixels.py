"""Pixels with their validity: oracles are numpy's own indexing and padding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.colour.histogram import Histogram
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.windows import Window

RNG = np.random.default_rng(0)
VALUES = RNG.integers(0, 2000, (12, 17, 4)).astype(np.uint16)
VALID = RNG.random((12, 17)) < 0.7
PIXELS = Pixels(VALUES, VALID)


def test_they_come_apart_into_values_and_validity() -> None:
    values, valid = PIXELS
    assert values is VALUES
    assert valid is VALID


def test_blank_pixels_are_zero_and_hold_no_data() -> None:
    values, valid = Pixels.blank(3, 5, 2, np.float32)
    np.testing.assert_array_equal(values, np.zeros((3, 5, 2), np.float32), strict=True)
    np.testing.assert_array_equal(valid, np.zeros((3, 5), dtype=bool), strict=True)


@pytest.mark.parametrize("shape", [(12, 17, 4), (1, 9, 3), (1, 1, 1)])
def test_being_valid_everywhere_takes_no_memory(shape: tuple[int, int, int]) -> None:
    values = np.zeros(shape, np.uint8)
    pixels = Pixels.everywhere(values)
    assert pixels.valid.shape == shape[:2]
    assert pixels.valid.all()
    assert pixels.is_everywhere
    assert pixels.nbytes == values.nbytes
    assert pixels.part(Window(0, 0, 1, shape[1])).is_everywhere
    said = Pixels(values, np.ones(shape[:2], dtype=bool))
    assert not said.is_everywhere
    assert said.nbytes == values.nbytes + shape[0] * shape[1]


@given(st.integers(0, 11), st.integers(0, 16), st.data())
def test_a_part_is_a_view_and_put_puts_it_back(row: int, col: int, data: st.DataObject) -> None:
    window = Window(
        row, col, data.draw(st.integers(1, 12 - row)), data.draw(st.integers(1, 17 - col))
    )
    part = PIXELS.part(window)
    np.testing.assert_array_equal(part.values, VALUES[window.slices])
    np.testing.assert_array_equal(part.valid, VALID[window.slices])
    assert np.shares_memory(part.values, VALUES)
    whole = Pixels.blank(12, 17, 4, np.uint16)
    whole.put(part, window)
    inside = np.zeros((12, 17), dtype=bool)
    inside[window.slices] = True
    np.testing.assert_array_equal(whole.values, VALUES * inside[..., None])
    np.testing.assert_array_equal(whole.valid, VALID & inside)


def test_only_valid_pixels_are_counted() -> None:
    expected = Histogram.of(VALUES[VALID][:, None])
    found = PIXELS.histogram()
    assert found.pixels == VALID.sum()
    np.testing.assert_array_equal(found.counts, expected.counts)
    assert Pixels.everywhere(VALUES).histogram().pixels == VALID.size


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_a_thumbnail_is_grey_or_coloured_with_white_where_there_is_no_data(bands: int) -> None:
    picture = Pixels(VALUES[..., :bands], VALID).thumbnail(24)
    assert picture.shape == (24, 24, 3)
    assert 0.0 <= picture.min() < picture.max() == 1.0
    rows, cols = (np.linspace(0, length - 1, 24).round().astype(int) for length in VALID.shape)
    assert (picture[~VALID[np.ix_(rows, cols)]] == 1.0).all()
    assert (np.ptp(picture, axis=2) == 0.0).all() == (bands < 3)
    assert (Pixels.blank(3, 4, bands, np.uint16).thumbnail(5) == 1.0).all()
