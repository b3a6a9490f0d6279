"""Colours in combination; oracle: the single ones, one after another with the same draws."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rhm.augmentation.augment_config import AugmentConfig
from rhm.augmentation.chip_augmentation import ChipAugmentation
from rhm.augmentation.colour_steps import ChipColours, steps_of
from rhm.augmentation.colours import COLOUR, ColourConfig, Imagery
from rhm.colour.histogram import Histogram
from rhm.colour.lookup import PixelMap
from rhm.errors import ConfigError
from tests.augmentation.chips import (
    Image,
    augmentation,
    chip,
    configured,
    dim_bank,
    ends,
    hole,
    normalization,
    varied,
)

ANY_IMAGERY = ["rhm", "mean-std", "gamma", "spectrum", "random-convolution"]


def imagery(dtype: str, bands: int) -> Imagery:
    low, high = ends(dtype, bands)
    return Imagery(np.dtype(dtype), low, high, dim_bank(dtype, bands))


def config_of(colour: str, **settings: Any) -> ColourConfig:
    bank = "a bank" if any(name in colour for name in ("rhm", "mean-std", "spectrum")) else None
    return ColourConfig(colour, bank=bank, **({"p": 1.0} | settings))


def changed(
    colour: str, image: Image, valid: NDArray[np.uint8], rng: np.random.Generator, **settings: Any
) -> Image:
    """The stored values after a chain of augmentations."""
    config = config_of(colour, **settings)
    colours = ChipColours(image, valid)
    for step in steps_of(config.chains[0], config, imagery(image.dtype.name, image.shape[-1])):
        step(colours, rng)
    return colours.pixels()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("first", ANY_IMAGERY)
@pytest.mark.parametrize("second", ANY_IMAGERY)
def test_a_chain_is_one_augmentation_after_another(dtype: str, first: str, second: str) -> None:
    image, valid = chip(dtype, 4), hole()
    together = changed(f"{first} + {second}", image, valid, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    apart = changed(second, changed(first, image, valid, rng), valid, rng)
    assert together.dtype == image.dtype
    np.testing.assert_array_equal(together, apart)
    np.testing.assert_array_equal(together[valid == 0], image[valid == 0])
    assert (together[valid > 0] != image[valid > 0]).mean() > 0.5


@pytest.mark.parametrize("colour", COLOUR)
def test_an_alternative_is_drawn_for_each_chip(colour: str) -> None:
    image, valid = chip("uint8"), hole()
    if colour in ("none", "fda", "jitter"):
        pytest.skip("needs more than a chip, or changes nothing")
    low, high = ends("uint8", 3)
    config = AugmentConfig(
        colour=f"{colour} | none", bank="a bank" if COLOUR[colour].from_bank else None, p=1.0
    )
    bank = dim_bank("uint8", count=1)
    either = ChipAugmentation(config, dtype=image.dtype, low=low, high=high, bank=bank)
    plain = normalization("uint8").apply(image)
    seen = [varied(either, image, valid, seed=seed)[0] for seed in range(120)]
    share = np.mean([np.array_equal(each, plain) for each in seen])
    # A binomial of mean 60 and standard deviation 5.5; a few draws of a filter change nothing.
    assert 0.3 < share < 0.7


@pytest.mark.parametrize("colour", ["hsv", "color-jitter"])
def test_a_chip_that_a_filter_leaves_as_it_is_is_not_rounded_to_bytes(colour: str) -> None:
    image, valid = chip("uint16"), hole()
    seen = [changed(colour, image, valid, np.random.default_rng(s), p=0.5) for s in range(40)]
    share = np.mean([np.array_equal(each, image) for each in seen])
    # A binomial of mean 20 and standard deviation 3.2.
    assert 0.1 < share < 0.9


def test_ranges_vary_the_end_of_a_chain_only_once() -> None:
    image, valid = chip("uint8"), hole()
    ranges = {"gain": (0.5, 0.5)}
    rng = np.random.default_rng(2)
    found = changed("rhm + random-convolution", image, valid, rng, **ranges)
    rng = np.random.default_rng(2)
    before = changed("rhm + random-convolution", image, valid, rng)
    rng.random()
    expected = np.where(valid[..., None] > 0, np.rint(before * 0.5), image)
    np.testing.assert_array_equal(found, expected)
    own = changed("jitter + rhm", image, valid, np.random.default_rng(2), **ranges)
    again = np.random.default_rng(2)
    darker = changed("jitter", image, valid, again, **ranges)
    np.testing.assert_array_equal(own, changed("rhm", darker, valid, again))


def test_a_scene_is_matched_as_the_tables_before_have_left_it() -> None:
    image, valid, scene = chip("uint8"), hole(), Histogram.of(chip("uint8", seed=8) // 2)
    table = PixelMap.matching(Histogram.of(image), Histogram.of(image // 3))
    colours = ChipColours(image, valid, scene)
    assert colours.histogram() is scene
    colours.map(table)
    np.testing.assert_array_equal(colours.histogram().counts, table.push(scene).counts)
    # Pixels that were mixed are no longer those of the scene.
    colours.replace(image // 2)
    expected = Histogram.of(colours.pixels(), valid=valid)
    np.testing.assert_array_equal(colours.histogram().counts, expected.counts)


@pytest.mark.parametrize(
    ("colour", "told"),
    [
        ("rhm + magic", "unknown colour 'magic': choose none, rhm"),
        ("rhm + none", "leave it out beside others"),
        ("hsv | gamma", "uses no bank"),
        ("rhm | jitter", "colour jitter needs a range"),
        ("rhm |", "unknown colour ''"),
    ],
)
def test_mistakes_in_a_combination_are_told(colour: str, told: str) -> None:
    with pytest.raises(ValueError, match=told.replace("|", r"\|")):
        ColourConfig(colour, bank="a bank")


def test_what_a_combination_needs_is_told() -> None:
    with pytest.raises(ValueError, match=r"hsv \| fda needs images of the target"):
        ColourConfig("hsv | fda")
    with pytest.raises(ValueError, match=r"hsv \+ rhm needs a bank"):
        ColourConfig("hsv + rhm")
    with pytest.raises(ConfigError, match="'hsv' needs 3 bands, but the imagery has 4"):
        augmentation("gamma + hsv", "uint8", 4)


def test_combinations_are_written_in_one_way_and_named_in_reports() -> None:
    config = AugmentConfig(colour="rhm+ spectrum|none", bank="a bank", mixstyle=0.5)
    assert config.colour == "rhm + spectrum | none"
    assert config.names == ("rhm + spectrum | none", "mixstyle")
    assert AugmentConfig(colour="rhm + gamma | none", bank="b", gain=(0.9, 1.0)).jitters


@pytest.mark.parametrize("colour", sorted(COLOUR))
def test_the_values_of_nodata_have_no_influence(colour: str) -> None:
    """Law: whatever a file stores where nothing is known, the valid pixels become the same."""
    valid = hole()
    seen = []
    for value in (0, 255):
        image = chip("uint8")
        image[valid == 0] = value
        reference = chip("uint8", seed=7)
        colours = ChipColours(image, valid, reference=reference)
        config = configured(colour)
        rng = np.random.default_rng(3)
        for step in steps_of(config.chains[0], config, imagery("uint8", 3)):
            step(colours, rng)
        seen.append(colours.pixels()[valid > 0])
    np.testing.assert_array_equal(seen[0], seen[1])
