"""Random shifts of chips; oracle: the shift that tests a model, with the same generator."""

import numpy as np
import pytest

from rhm.augmentation.colours import ColourConfig
from rhm.augmentation.random_shift import RandomShift
from rhm.colour.shifts import SHIFTS
from rhm.errors import ConfigError
from tests.augmentation.chips import chip, ends, hole
from tests.augmentation.test_colour_steps import changed


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("family", SHIFTS)
def test_a_chip_is_shifted_as_images_are_in_a_test(dtype: str, family: str) -> None:
    image, valid = chip(dtype), hole()
    high = ends(dtype, 3)[1]
    for seed in range(5):
        found = RandomShift([family], high)(image, valid, rng=np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        rng.integers(1)
        moved = SHIFTS[family](dtype=image.dtype, bands=3, high=max(high), rng=rng)
        np.testing.assert_array_equal(found, moved.apply(image, valid=valid))
        assert found.dtype == image.dtype
        np.testing.assert_array_equal(found[valid == 0], image[valid == 0])
        assert (found[valid > 0] != image[valid > 0]).any()


def test_each_family_is_drawn_equally_often() -> None:
    image, valid, high = chip("uint8"), hole(), (255.0,) * 3
    drawn = []
    for seed in range(200):
        found = RandomShift(tuple(SHIFTS), high)(image, valid, rng=np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        drawn.append(int(rng.integers(len(SHIFTS))))
        family = tuple(SHIFTS.values())[drawn[-1]]
        moved = family(dtype=image.dtype, bands=3, high=255.0, rng=rng)
        np.testing.assert_array_equal(found, moved.apply(image, valid=valid))
    # A binomial of mean 50 and standard deviation 6.
    assert 30 < min(np.bincount(drawn)) <= max(np.bincount(drawn)) < 70


def test_families_are_chosen_in_the_configuration() -> None:
    image, valid = chip("uint8"), hole()
    found = changed("shift", image, valid, np.random.default_rng(3), shifts=("gamma",))
    rng = np.random.default_rng(3)
    rng.random()
    expected = RandomShift(["gamma"], (255.0,) * 3)(image, valid, rng=rng)
    np.testing.assert_array_equal(found, expected)
    assert ColourConfig("shift").shifts == tuple(SHIFTS)
    for shifts, told in (((), "no shifts"), (("gama",), "unknown shift 'gama'")):
        with pytest.raises(ValueError, match=f"{told}: choose from affine, gamma, monotone, hsv"):
            ColourConfig("shift", shifts=shifts)


def test_values_that_are_all_negative_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs values above 0, and white is -3"):
        RandomShift(["gamma"], (-3.0, -5.0))


def test_a_hue_needs_three_bands() -> None:
    image = chip("uint16", 4)
    with pytest.raises(ConfigError, match="'hsv' needs red, green and blue, but the imagery has 4"):
        changed("shift", image, hole(), np.random.default_rng(0))
    others = ("affine", "gamma", "monotone")
    found = changed("shift", image, hole(), np.random.default_rng(0), shifts=others)
    assert found.shape == image.shape
