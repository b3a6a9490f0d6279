"""The colours by name: what each draws, what it needs, and what it does not take."""

import pickle
from typing import Any

import albumentations as A
import numpy as np
import pytest

from rhm.augmentation.colours import (
    COLOUR,
    FROM_BANK,
    REFERENCES,
    ColourConfig,
    Imagery,
    draw_match,
)
from rhm.colour.baselines import mean_std
from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.lookup import PixelMap
from rhm.errors import BankError, ConfigError
from tests.augmentation.chips import chip, dim_bank, ends, noise

FILTERS = [name for name, each in COLOUR.items() if each.filter is not None]
TABLES = [name for name, each in COLOUR.items() if each.table is not None]
MIXERS = [name for name, each in COLOUR.items() if each.mixer is not None]
TABLES_FROM_BANK = [name for name in FROM_BANK if name in TABLES]


def imagery(dtype: str, bank: HistogramBank | None = None) -> Imagery:
    low, high = ends(dtype, 3)
    return Imagery(np.dtype(dtype), low, high, bank)


def needed(colour: str) -> ColourConfig:
    """The least configuration that a colour takes."""
    entry = COLOUR[colour]
    return ColourConfig(
        colour,
        bank="target.bank" if entry.from_bank else None,
        targets=("there",) if entry.from_targets else (),
        gamma=(0.5, 2.0) if colour == "jitter" else (1.0, 1.0),
    )


def test_a_colour_is_of_one_kind() -> None:
    """What acts one after another is written as a chain, whose order can be read."""
    kinds = [set(TABLES), set(FILTERS), set(MIXERS)]
    assert sum(map(len, kinds)) == len(set.union(*kinds))
    assert set(FROM_BANK) <= set(TABLES) | set(MIXERS)
    # Filters of photographs know three bands; the others treat any number.
    assert {COLOUR[name].bands for name in FILTERS} == {3}
    assert {COLOUR[name].bands for name in (*TABLES, *MIXERS)} == {None}


@pytest.mark.parametrize("colour", COLOUR)
def test_every_colour_takes_what_it_needs_and_nothing_more(colour: str) -> None:
    config = needed(colour)
    assert config.jitters == (colour == "jitter")
    if not COLOUR[colour].from_bank:
        with pytest.raises(ValueError, match=f"{colour} uses no bank: choose rhm or mean-std"):
            ColourConfig(colour, bank="target.bank", targets=config.targets, gamma=config.gamma)


@pytest.mark.parametrize(
    ("values", "jitters"),
    [
        ({}, False),
        ({"gamma": (1.0, 1.5)}, True),
        ({"gain": (0.9, 1.0)}, True),
        ({"offset": (0.0, 0.1)}, True),
        # A range of one value varies every chip alike.
        ({"gain": (0.9, 0.9)}, True),
        ({"gain": (1.0, 1.0), "offset": (0.0, 0.0)}, False),
    ],
    ids=str,
)
def test_any_range_beside_the_one_that_changes_nothing_is_jitter(
    values: dict[str, Any], jitters: bool
) -> None:
    assert ColourConfig("rhm", bank="b", **values).jitters == jitters


@pytest.mark.parametrize(
    "values",
    [
        {"gamma": (1e-3, 999.0)},
        {"gain": (0.0, 0.0)},
        {"offset": (-1.0, 1.0)},
        {"p": 0.0},
        {"p": 1.0, "blend": (0.0, 0.0)},
    ],
    ids=str,
)
def test_the_ends_of_the_ranges_belong_to_them(values: dict[str, Any]) -> None:
    ColourConfig("rhm", bank="b", **values)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("per_band", [True, False])
def test_a_match_is_drawn_and_then_its_blend(dtype: str, per_band: bool) -> None:
    bank, source = dim_bank(dtype), Histogram.of(chip(dtype))
    for seed in range(6):
        drawn = draw_match(bank, (0.2, 0.9), per_band, source, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        target = bank.sample(dtype=np.dtype(dtype), rng=rng)
        weight = rng.uniform(0.2, 0.9)
        pair = (source, target) if per_band else (source.pool_bands(), target.pool_bands())
        expected = PixelMap.matching(*pair).blend(weight)
        np.testing.assert_array_equal(drawn.tables, expected.tables, strict=True)
        assert len({table.tobytes() for table in drawn.tables}) == (3 if per_band else 1)


def test_the_mean_and_spread_are_those_of_a_drawn_image() -> None:
    bank, source = dim_bank("uint16"), Histogram.of(chip("uint16"))
    known = imagery("uint16", bank)
    table = COLOUR["mean-std"].table
    assert table is not None
    drawn = table(needed("mean-std"), known)(source, np.random.default_rng(4))
    target = bank.sample(dtype=np.dtype(np.uint16), rng=np.random.default_rng(4))
    expected = mean_std(source, target, known.low, known.high)
    np.testing.assert_array_equal(drawn.tables, expected.tables, strict=True)


@pytest.mark.parametrize("colour", TABLES_FROM_BANK)
def test_draws_go_to_the_workers_of_a_loader(colour: str) -> None:
    table = COLOUR[colour].table
    assert table is not None
    draw = table(needed(colour), imagery("uint8", dim_bank("uint8")))
    source = Histogram.of(chip("uint8"))
    again = pickle.loads(pickle.dumps(draw))  # noqa: S301
    for seed in range(4):
        one, other = (each(source, np.random.default_rng(seed)) for each in (draw, again))
        np.testing.assert_array_equal(one.tables, other.tables, strict=True)


@pytest.mark.parametrize("colour", TABLES_FROM_BANK)
def test_a_bank_that_is_lacking_or_of_other_imagery_is_told(colour: str) -> None:
    table = COLOUR[colour].table
    assert table is not None
    with pytest.raises(ConfigError, match=f"augment.colour '{colour}' needs a bank"):
        table(needed(colour), imagery("uint8"))
    draw = table(needed(colour), imagery("uint8", dim_bank("uint8", bands=4)))
    rng = np.random.default_rng(0)
    with pytest.raises(BankError, match="bank has 4 bands of uint8, the images have 3 of uint8"):
        draw(Histogram.of(chip("uint8")), rng)
    with pytest.raises(BankError, match="no target for uint16"):
        draw(Histogram.of(chip("uint16")), rng)


@pytest.mark.parametrize("colour", FILTERS)
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_filter_changes_the_configured_share_of_images(colour: str, p: float) -> None:
    build = COLOUR[colour].filter
    assert build is not None
    config = ColourConfig(colour, p=p, targets=needed(colour).targets)
    transform = A.Compose([build(config)])
    image, changed = noise(), 0
    for seed in range(10):
        transform.set_random_seed(seed)
        seen = transform(image=image, **{REFERENCES: [noise(seed=seed + 1)]})["image"]
        assert (seen.shape, seen.dtype) == (image.shape, image.dtype)
        changed += bool((seen != image).any())
    # A beta of zero, which the Fourier swap may draw, changes nothing.
    assert changed == 0 if p == 0.0 else changed >= 8
