"""Stored probabilities; laws: what comes back is near, order is kept, nodata stays apart."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rhm.inference.tiling.storage import (
    FINGERPRINT,
    MASK_NODATA,
    STORAGES,
    fingerprint_of,
    recorded_threshold,
)
from tests.data.imagery import write_raster

PROBABILITIES = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(0, 1, width=32))
NAMES = pytest.mark.parametrize("name", STORAGES)


@NAMES
@given(probability=PROBABILITIES, seed=st.integers(0, 99))
def test_what_is_stored_comes_back(name: str, probability: np.ndarray, seed: int) -> None:
    storage = STORAGES[name]
    valid = np.random.default_rng(seed).random(probability.shape) < 0.7
    stored = storage.encode(probability, valid)
    assert stored.dtype == name
    np.testing.assert_array_equal(stored == storage.nodata, ~valid)
    step = 0.0 if name == "float32" else 0.5 / 254 + 1e-7
    np.testing.assert_allclose(storage.decode(stored)[valid], probability[valid], atol=step)


@NAMES
@given(probability=PROBABILITIES)
def test_surer_pixels_are_never_stored_as_less_sure(name: str, probability: np.ndarray) -> None:
    ranked = np.sort(probability)
    stored = STORAGES[name].encode(ranked, np.ones(ranked.shape, bool))
    assert (np.diff(stored.astype(np.float64)) >= 0).all()


@NAMES
@given(probability=PROBABILITIES, threshold=st.floats(0, 1))
def test_a_mask_is_what_the_decoded_probabilities_say(
    name: str, probability: np.ndarray, threshold: float
) -> None:
    storage = STORAGES[name]
    valid = np.arange(len(probability)) % 3 > 0
    stored = storage.encode(probability, valid)
    mask = storage.mask(stored, threshold)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask == MASK_NODATA, ~valid)
    expected = storage.decode(stored)[valid] >= threshold
    np.testing.assert_array_equal(mask[valid] == 1, expected)


@NAMES
def test_one_half_is_building_from_one_half_on(name: str) -> None:
    storage = STORAGES[name]
    half = storage.encode(np.array([0.5], np.float32), np.ones(1, bool))
    assert storage.decode(half)[0] == 0.5
    assert storage.mask(half, 0.5)[0] == 1


@NAMES
def test_sums_of_weights_above_one_are_one(name: str) -> None:
    storage = STORAGES[name]
    above = np.nextafter(np.float32(1.0), np.float32(2.0))
    stored = storage.encode(np.array([above], np.float32), np.ones(1, bool))
    assert storage.decode(stored)[0] == 1.0


def test_a_raster_says_which_prediction_wrote_it(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    assert fingerprint_of(path) == ""
    import rasterio

    with rasterio.open(path, "r+") as raster:
        raster.update_tags(**{FINGERPRINT: "abc", "OTHER": "def"})
    assert (fingerprint_of(path), fingerprint_of(path, "OTHER")) == ("abc", "def")
    assert fingerprint_of(tmp_path / "none.tif") is None
    (tmp_path / "text.tif").write_text("not a raster")
    assert fingerprint_of(tmp_path / "text.tif") is None


@given(st.floats(0, 1))
def test_a_threshold_is_read_back(threshold: float) -> None:
    assert recorded_threshold(str(threshold)) == threshold


def test_what_is_no_probability_is_no_threshold() -> None:
    assert [recorded_threshold(tag) for tag in (None, "")] == [0.5, 0.5]
    for tag in ("abc", "nan", "inf", "-inf", "1.1", "-0.1", "0,5", "\x1b[31m"):
        assert recorded_threshold(tag) is None
