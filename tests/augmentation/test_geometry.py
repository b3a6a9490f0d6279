"""Laws of the geometric augmentations: what they may change, how often, and what stays."""

import json
import pickle
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest

from rhm.augmentation.geometry import GEOMETRY, ChipGeometry, Sample, read_geometry

SIDE = 48
OFF = {"flips": False}
IGNORE = 255


def town(seed: int, *, dtype: str = "uint8", bands: int = 3, holes: bool = True) -> Sample:
    """Random pixels with separate rectangular buildings, some unknown truth, and some nodata."""
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 250, (SIDE, SIDE, bands)).astype(dtype)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for row in range(2, SIDE - 10, 12):
        for col in range(2, SIDE - 10, 12):
            if rng.random() < 0.5:
                mask[row : row + rng.integers(3, 9), col : col + rng.integers(3, 9)] = 1
    valid = np.ones((SIDE, SIDE), np.uint8)
    if holes:
        mask[-6:, :9] = IGNORE
        top, left = rng.integers(0, SIDE // 2, 2)
        valid[top : top + 8, left : left + 11] = 0
        image[valid == 0] = 0
    return Sample(image, mask, valid)


def pasted(chip: Sample, donor: Sample, *, p: float = 1.0, seed: int = 0) -> Sample:
    geometry = ChipGeometry(read_geometry(OFF | {"paste": p}))
    return geometry.vary(chip, rng=np.random.default_rng(seed), another=lambda: donor)


def same(one: Sample, other: Sample) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("dtype", "bands"), [("uint8", 3), ("uint16", 8), ("float32", 4)])
@pytest.mark.parametrize("seed", range(6))
def test_pasting_lays_whole_buildings_over_the_chip_and_leaves_the_rest(
    dtype: str, bands: int, seed: int
) -> None:
    chip, donor = (town(number, dtype=dtype, bands=bands) for number in (seed, seed + 100))
    before = Sample(*(each.copy() for each in chip)), Sample(*(each.copy() for each in donor))
    seen = pasted(chip, donor, seed=seed)
    assert same(chip, before[0])
    assert same(donor, before[1])
    # Both images are random, so what moved shows.
    at = (seen.image != chip.image).any(axis=-1)
    assert at.any()
    np.testing.assert_array_equal(seen.image[at], donor.image[at])
    np.testing.assert_array_equal(seen.valid, chip.valid)
    assert seen.image[seen.valid == 0].max() == 0
    assert (donor.mask[at] == 1).all()
    assert (donor.valid[at] > 0).all()
    np.testing.assert_array_equal(seen.mask[at], 1)
    np.testing.assert_array_equal(seen.mask[~at], chip.mask[~at])
    # A building comes as a whole, but for what either chip does not know, or not at all.
    count, numbers = cv2.connectedComponents(((donor.mask == 1) & (donor.valid > 0)).view(np.uint8))
    shares = [at[(numbers == one) & (chip.valid > 0)].mean() for one in range(1, count)]
    # Where both happen to be alike a pixel does not show.
    assert all(share == 0.0 or share > 0.9 for share in shares)


def test_about_half_of_the_buildings_are_pasted_and_never_none() -> None:
    chip, donor = town(0, holes=False), town(100, holes=False)
    count, numbers = cv2.connectedComponents((donor.mask == 1).view(np.uint8))
    taken = []
    for seed in range(200):
        seen = pasted(chip, donor, seed=seed)
        at = (seen.image != chip.image).any(axis=-1)
        taken.append(sum(bool(at[numbers == one].any()) for one in range(1, count)))
    assert min(taken) >= 1
    assert abs(np.mean(taken) / (count - 1) - 0.5) < 0.1


def test_one_building_is_always_pasted_and_none_change_nothing() -> None:
    chip, donor = town(0, holes=False), town(100, holes=False)
    bare = donor._replace(mask=np.zeros_like(donor.mask))
    one = bare.mask.copy()
    one[20:30, 5:11] = 1
    for seed in range(20):
        seen = pasted(chip, donor._replace(mask=one), seed=seed)
        np.testing.assert_array_equal(seen.image[one == 1], donor.image[one == 1])
        assert same(pasted(chip, bare, seed=seed), chip)


def test_the_probability_is_the_share_of_chips_that_are_pasted_into() -> None:
    chip, donor = town(0), town(100)
    changed = sum(not same(pasted(chip, donor, p=0.3, seed=seed), chip) for seed in range(300))
    # A binomial of mean 90 and standard deviation 8.
    assert abs(changed - 90) < 33


def test_the_distances_are_log_uniform_and_the_samples_own() -> None:
    geometry = ChipGeometry(read_geometry({"scale": [0.6, 1.6]}))
    assert geometry.zooms
    drawn = [geometry.distance(rng=np.random.default_rng(seed)) for seed in range(400)]
    assert 0.6 <= min(drawn) < 0.62
    assert 1.55 < max(drawn) <= 1.6
    shares = (np.log(drawn) - np.log(0.6)) / np.log(1.6 / 0.6)
    assert kstest(shares, "uniform").pvalue > 1e-3
    assert geometry.distance(rng=np.random.default_rng(7)) == drawn[7]


def test_flips_can_be_left_out() -> None:
    chip = town(3)
    rng = np.random.default_rng(0)
    still = ChipGeometry(read_geometry(OFF)).vary(chip, rng=rng, another=lambda: chip)
    assert same(still, chip)
    # Nor is anything drawn for them.
    assert rng.random() == np.random.default_rng(0).random()


def test_by_default_a_chip_is_turned_to_one_of_eight_symmetries() -> None:
    chip = town(3)
    geometry = ChipGeometry(read_geometry({}))
    assert not geometry.zooms
    symmetries: list[NDArray[Any]] = [
        np.rot90(side, turn) for side in (chip.image, chip.image[:, ::-1]) for turn in range(4)
    ]
    found = set()
    for seed in range(80):
        seen = geometry.vary(chip, rng=np.random.default_rng(seed), another=lambda: chip)
        (which,) = (k for k, each in enumerate(symmetries) if np.array_equal(each, seen.image))
        side, turn = divmod(which, 4)
        for ours, theirs in ((chip.mask, seen.mask), (chip.valid, seen.valid)):
            np.testing.assert_array_equal(np.rot90(ours[:, ::-1] if side else ours, turn), theirs)
        found.add(which)
    assert len(found) == 8


def test_it_travels_to_other_processes_and_a_seed_decides() -> None:
    chip, donor = town(0), town(100)
    geometry = ChipGeometry(read_geometry({"scale": [0.5, 2.0], "paste": 0.5}))
    copy = pickle.loads(pickle.dumps(geometry))  # noqa: S301
    for seed in range(10):
        ours, theirs = (
            each.vary(chip, rng=np.random.default_rng(seed), another=lambda: donor)
            for each in (geometry, copy)
        )
        assert same(ours, theirs)


def test_what_is_read_is_read_again_from_what_is_written() -> None:
    for given in ({}, OFF, {"scale": [0.5, 2], "paste": 0.25}, {"scale": None, "paste": 0}):
        chosen = read_geometry(given)
        assert list(chosen) == list(GEOMETRY)
        assert read_geometry(json.loads(json.dumps(chosen))) == chosen
    assert read_geometry({}) == read_geometry({"scale": [1, 1], "paste": 0.0, "flips": True})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shear": 1}, "unknown geometry 'shear': choose scale, paste, flips"),
        ({"flips": 1}, "geometry.flips must be true or false"),
        ({"scale": 1.5}, "geometry.scale must be a rising pair of factors from 0.1 to 10"),
        ({"scale": [1.6, 0.6]}, "geometry.scale must be a rising pair"),
        ({"scale": [0.0, 1.6]}, "geometry.scale must be a rising pair"),
        ({"scale": [0.5, "2"]}, "geometry.scale must be a rising pair"),
        ({"scale": [0.5, float("nan")]}, "geometry.scale must be a rising pair"),
        ({"scale": [0.5, 1, 2]}, "geometry.scale must be a rising pair"),
        ({"paste": 1.5}, "geometry.paste must be a probability in [0, 1]"),
        ({"paste": True}, "geometry.paste must be a probability in [0, 1]"),
    ],
    ids=str,
)
def test_an_impossible_choice_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="geometry") as caught:
        read_geometry(given)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
