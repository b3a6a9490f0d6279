"""What varies a chip in training, held against the transform and the tables that it is made of."""

import pickle
from typing import Any

import numpy as np
import pytest

from rhm.augmentation.chip_augmentation import ChipAugmentation
from rhm.augmentation.colours import COLOUR, FROM_BANK
from rhm.augmentation.randomized_matching import RandomizedHistogramMatching
from rhm.colour.baselines import mean_std
from rhm.colour.histogram import Histogram
from rhm.colour.lookup import PixelMap
from rhm.errors import BankError, ConfigError
from tests.augmentation.chips import (
    RANGES,
    SIDE,
    Image,
    augmentation,
    chip,
    configured,
    dim_bank,
    ends,
    hole,
    noise,
    normalization,
    varied,
)


@pytest.mark.parametrize("dtype", sorted(RANGES))
@pytest.mark.parametrize("bands", [1, 3, 4, 8, 32])
def test_without_colour_a_chip_is_turned_and_normalised(dtype: str, bands: int) -> None:
    image = chip(dtype, bands)
    augment = augmentation("none", dtype, bands)
    orientations = set()
    for seed in range(60 if bands == 3 else 4):
        seen, mask = varied(augment, image, hole(), seed=seed)
        np.testing.assert_array_equal(seen, normalization(dtype, bands).apply(image), strict=True)
        orientations.add(mask.tobytes())
    assert len(orientations) == 8 or bands != 3


@pytest.mark.parametrize("dtype", sorted(RANGES))
@pytest.mark.parametrize("bands", [1, 3, 8])
@pytest.mark.parametrize("settings", [{}, {"per_band": False}, {"blend": (0.3, 0.3)}], ids=str)
def test_one_table_is_the_match_and_then_the_normalisation(
    dtype: str, bands: int, settings: dict[str, Any]
) -> None:
    image, valid, bank = chip(dtype, bands), hole(), dim_bank(dtype, bands, count=1)
    normalize = normalization(dtype, bands)
    plain = normalize.apply(image)
    transform = RandomizedHistogramMatching(bank, p=1.0, **settings)
    expected = normalize.apply(transform(image=image, valid=valid)["image"])
    np.testing.assert_array_equal(expected[valid == 0], plain[valid == 0])
    assert (expected[valid > 0] != plain[valid > 0]).any()
    seen, _ = varied(augmentation("rhm", dtype, bands, bank=bank, **settings), image, valid)
    np.testing.assert_array_equal(seen, expected, strict=True)
    never, _ = varied(augmentation("rhm", dtype, bands, bank=bank, p=0.0, **settings), image, valid)
    np.testing.assert_array_equal(never, plain, strict=True)


@pytest.mark.parametrize("colour", ["rhm", "mean-std"])
def test_every_target_is_drawn_and_p_is_the_share_of_chips_that_change(colour: str) -> None:
    image, valid, bank = chip("uint16"), hole(), dim_bank("uint16")
    normalize, (low, high) = normalization("uint16"), ends("uint16", 3)
    source = Histogram.of(image, valid=valid)
    maps = [
        PixelMap.matching(source, each) if colour == "rhm" else mean_std(source, each, low, high)
        for each in bank.histograms
    ]
    expected = [each.then(normalize).apply(image)[valid > 0].tobytes() for each in maps]
    plain = normalize.apply(image)[valid > 0].tobytes()
    augment = augmentation(colour, "uint16", bank=bank, p=0.6)
    seen = [varied(augment, image, valid, seed=seed)[0][valid > 0].tobytes() for seed in range(200)]
    assert set(seen) == {plain, *expected}
    # A binomial of mean 80 and standard deviation 7.
    assert abs(seen.count(plain) - 80) < 28


def test_the_statistics_are_the_chips_or_its_scenes() -> None:
    image, valid, bank = chip("uint8"), hole(), dim_bank("uint8", count=1)
    scene = Histogram.of(chip("uint8", seed=9) // 2)
    normalize = normalization("uint8")

    def matched(source: Histogram) -> Image:
        table = PixelMap.matching(source, bank.histograms[0]).then(normalize)
        return table.apply(image, valid=valid, elsewhere=normalize)

    of_chip = matched(Histogram.of(image, valid=valid))
    of_scene = matched(scene)
    assert (of_chip != of_scene).any()
    for statistics, given, expected in (
        ("chip", scene, of_chip),
        ("scene", scene, of_scene),
        ("scene", None, of_chip),
    ):
        augment = augmentation("rhm", "uint8", bank=bank, statistics=statistics)
        seen, _ = varied(augment, image, valid, scene=given)
        np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("colour", COLOUR)
def test_a_seed_decides_a_chip_whatever_was_drawn_before(colour: str) -> None:
    reference = noise(seed=77)

    def seen(augment: ChipAugmentation, seed: int) -> bytes:
        back, mask = varied(augment, chip("uint8"), hole(), seed=seed, reference=reference)
        return back.tobytes() + mask.tobytes()

    first, second = (augmentation(colour, "uint8", p=0.8) for _ in range(2))
    rising = [seen(first, seed) for seed in range(12)]
    falling = [seen(second, seed) for seed in reversed(range(12))]
    assert rising == falling[::-1]
    again = pickle.loads(pickle.dumps(first))  # noqa: S301
    assert [seen(again, seed) for seed in (7, 7, 2)] == [rising[7], rising[7], rising[2]]
    assert len(set(rising)) > 5


@pytest.mark.parametrize("colour", COLOUR)
def test_pixels_without_data_are_only_normalised(colour: str) -> None:
    image, valid = chip("uint8"), hole()
    image[valid == 0] = 0
    plain = normalization("uint8").apply(image)
    augment = augmentation(colour, "uint8")
    changed = False
    for seed in range(8):
        seen, _ = varied(augment, image, valid, seed=seed, reference=noise(seed=77))
        np.testing.assert_array_equal(seen[valid == 0], plain[valid == 0])
        changed |= bool((seen != plain).any())
    assert changed == (colour != "none")
    blank, _ = varied(augment, image, np.zeros_like(valid), reference=noise(seed=77))
    np.testing.assert_array_equal(blank, plain)


def test_nothing_links_the_turn_of_a_chip_with_its_colours() -> None:
    image, valid = chip("uint8"), np.ones((SIDE, SIDE), np.uint8)
    augment = augmentation("hsv", "uint8", p=0.5)
    plain = normalization("uint8").apply(image)
    pairs = []
    for seed in range(300):
        seen, mask = varied(augment, image, valid, seed=seed)
        # Only a mirrored chip goes against the clock from its first place to its second.
        corners = [*mask[0, [0, -1]], *mask[-1, [-1, 0]]]
        clockwise = (corners.index(SIDE - 1) - corners.index(0)) % 4 == 1
        pairs.append((clockwise, bool((seen != plain).any())))
    table = np.array([[pairs.count((a, b)) for a in (False, True)] for b in (False, True)])
    assert table.sum() == 300
    # Each of four is a binomial of mean 75 and standard deviation 7.5.
    assert np.abs(table - 75).max() < 33


@pytest.mark.parametrize("colour", ["color-jitter", "hsv", "fda"])
@pytest.mark.parametrize(("dtype", "bands"), [("uint16", 4), ("uint8", 4), ("uint8", 1)])
def test_augmentations_that_mix_the_bands_of_photographs_refuse_other_imagery(
    colour: str, dtype: str, bands: int
) -> None:
    with pytest.raises(ConfigError, match=f"needs 3 bands, but the imagery has {bands}") as caught:
        augmentation(colour, dtype, bands)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("colour", ["color-jitter", "hsv"])
def test_11_bit_imagery_has_its_bands_mixed_like_8_bit(colour: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    mask, valid = np.zeros((16, 16), np.uint8), np.ones((16, 16), np.uint8)
    results = []
    for dtype, white in ((np.uint8, 255), (np.uint16, 2040)):
        augment = ChipAugmentation(
            configured(colour), dtype=np.dtype(dtype), low=[0] * 3, high=[white] * 3
        )
        scaled = (image.astype(np.int64) * (white // 255)).astype(dtype)
        normalize = PixelMap.normalize([0] * 3, [white] * 3, dtype)
        rng = np.random.default_rng(1)
        results.append(augment(scaled, mask, valid, normalize=normalize, rng=rng)[0])
    np.testing.assert_allclose(results[1], results[0], atol=1e-6)
    plain = PixelMap.normalize([0] * 3, [255] * 3, np.uint8).apply(image)
    assert sorted(results[0].ravel().tolist()) != sorted(plain.ravel().tolist())


@pytest.mark.parametrize("colour", FROM_BANK)
def test_a_bank_is_needed_and_has_to_fit(colour: str) -> None:
    config = configured(colour)
    with pytest.raises(ConfigError, match="give --bank FILE"):
        ChipAugmentation(config, dtype=np.dtype(np.uint8), low=[0] * 3, high=[255] * 3)
    other = augmentation(colour, "uint8", bank=dim_bank("uint8", bands=4))
    with pytest.raises(BankError, match="bank has 4 bands of uint8, the images have 3 of uint8"):
        varied(other, chip("uint8"), hole())
