"""Random gamma, gain and offset of chips: ranges are filled and kept, and follow the match."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rhm.augmentation.chip_augmentation import ChipAugmentation
from rhm.augmentation.randomized_matching import RandomizedHistogramMatching
from tests.augmentation.chips import RANGES, SIDE, Image, augmentation, chip, dim_bank, ends, varied


def shares_of(image: Image) -> NDArray[np.float64]:
    """The shares of the range from black to white, of each band of a chip."""
    low, high = (np.array(each) for each in ends(image.dtype.name, image.shape[-1]))
    return np.asarray(np.clip((image - low) / (high - low), 0.0, 1.0))


def seen_shares(augment: ChipAugmentation, image: Image, *, seed: int) -> NDArray[np.float64]:
    seen, _ = varied(augment, image, np.ones((SIDE, SIDE), np.uint8), seed=seed)
    return np.asarray(seen.astype(np.float64) * 0.2 + 0.4)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
@pytest.mark.parametrize("name", ["gamma", "gain", "offset"])
def test_a_range_of_the_jitter_is_filled_and_kept(dtype: str, name: str) -> None:
    image = chip(dtype)
    shares = shares_of(image)
    first, last = {"gamma": (0.4, 2.5), "gain": (0.6, 1.5), "offset": (-0.2, 0.3)}[name]
    settings: dict[str, Any] = {"gamma": (1.0, 1.0)} | {name: (first, last)}
    augment = augmentation("jitter", dtype, **settings)
    drawn = []
    for seed in range(80):
        seen = seen_shares(augment, image, seed=seed)
        free = (shares > 0.1) & (shares < 0.9) & (seen > 0.05) & (seen < 0.95)
        found = {
            "gamma": lambda s, t: np.log(t) / np.log(s),
            "gain": lambda s, t: t / s,
            "offset": lambda s, t: t - s,
        }[name](shares[free], seen[free])
        # One draw for all bands: rounding alone tells its pixels apart.
        assert np.ptp(found) < 0.05
        drawn.append(np.median(found))
    assert first - 0.01 < min(drawn) < first + 0.15 * (last - first)
    assert last + 0.01 > max(drawn) > last - 0.15 * (last - first)


def test_colour_gamma_draws_exponents_between_half_and_double() -> None:
    image = chip("uint16")
    shares = shares_of(image)
    inner = (shares > 0.2) & (shares < 0.8)
    augment = augmentation("gamma", "uint16")
    drawn = [
        np.median(np.log(seen_shares(augment, image, seed=seed)[inner]) / np.log(shares[inner]))
        for seed in range(200)
    ]
    assert 0.49 < min(drawn) < 0.55
    assert 1.8 < max(drawn) < 2.01
    # As often darker as brighter.
    assert 70 < np.sum(np.array(drawn) < 1.0) < 130


@pytest.mark.parametrize("dtype", sorted(RANGES))
def test_the_jitter_follows_the_match(dtype: str) -> None:
    image, bank = chip(dtype), dim_bank(dtype, count=1)
    settings: dict[str, Any] = {"gamma": (0.5, 0.5), "gain": (0.8, 0.8), "offset": (0.1, 0.1)}
    matched = RandomizedHistogramMatching(bank, p=1.0)(image=image)["image"]
    expected = np.clip(0.8 * shares_of(matched) ** 0.5 + 0.1, 0.0, 1.0)
    seen = seen_shares(augmentation("rhm", dtype, bank=bank, **settings), image, seed=0)
    # Integers are rounded on the way, floats to half precision, before the root and after it.
    low, high = RANGES[dtype]
    assert np.abs(seen - expected).max() < (0.002 if dtype == "float32" else 0.7 / (high - low))
    before = np.clip(0.8 * shares_of(image) ** 0.5 + 0.1, 0.0, 1.0)
    assert np.abs(seen - before).max() > 0.1
