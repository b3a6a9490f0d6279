"""Laws of the training augmentations; oracle of a full match: scikit-image.

What varies a chip in training is held against the transform and the tables that it is made of.
"""

import json
import pickle
from typing import Any

import albumentations as A
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.exposure import match_histograms as skimage_match

from rhm.augmentation.augment_config import AugmentConfig
from rhm.augmentation.chip_augmentation import ChipAugmentation
from rhm.augmentation.colours import COLOUR, FROM_BANK
from rhm.augmentation.randomized_matching import RandomizedHistogramMatching
from rhm.colour.alternatives import mean_std
from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.lookup import PixelMap
from rhm.errors import BankError, ConfigError

Image = NDArray[Any]
LEVELS = (10, 60, 110, 160, 210)


def noise(*, bands: int = 3, dtype: type = np.uint8, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 250, (24, 31, bands)).astype(dtype)


def flat_bank(*, bands: int = 3, dtype: type = np.uint8) -> HistogramBank:
    """A bank whose every target turns an image into one value, which says what was drawn."""
    return HistogramBank.from_images(np.full((4, 4, bands), level, dtype=dtype) for level in LEVELS)


def target_bank(*, bands: int = 3, dtype: type = np.uint8) -> HistogramBank:
    return HistogramBank.from_images(
        [noise(bands=bands, dtype=dtype, seed=seed) // 2 + 40 for seed in (11, 12, 13)]
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize("bands", [1, 3, 4, 8, 32])
def test_a_full_match_is_scikit_images(dtype: type, bands: int) -> None:
    image, target = (noise(bands=bands, dtype=dtype, seed=seed) for seed in (0, 1))
    target = target // 3 + 20
    transform = RandomizedHistogramMatching(HistogramBank.from_images([target]), p=1.0)
    np.testing.assert_array_equal(
        transform(image=image)["image"],
        skimage_match(image, target, channel_axis=-1),
        strict=True,
    )


def test_floats_are_matched_by_bins_of_half_precision() -> None:
    rng = np.random.default_rng(3)
    image, target = (rng.normal(size=(24, 31, 3)).astype(np.float32) for _ in range(2))
    image[:4] = np.nan
    transform = RandomizedHistogramMatching(HistogramBank.from_images([target * 3 + 9]), p=1.0)
    seen = transform(image=image)["image"]
    assert np.isnan(seen[:4]).all()
    expected = skimage_match(image[4:], target * 3 + 9, channel_axis=-1)
    # The target spreads over 20: its bins, and pixels that share one, make a small difference.
    assert np.abs(seen[4:] - expected).mean() < 0.005
    assert np.abs(seen[4:] - expected).max() < 0.15


def test_one_map_for_all_bands_keeps_grays_gray_and_the_order_of_bands() -> None:
    target = noise(seed=5)
    target[..., 0] //= 4
    bank = HistogramBank.from_images([target])
    transform = RandomizedHistogramMatching(bank, p=1.0, per_band=False)
    gray = np.repeat(noise(bands=1), 3, axis=2)
    seen = transform(image=gray)["image"]
    assert (seen == seen[..., :1]).all()
    assert (seen != gray).any()
    image = noise()
    once = transform(image=image)["image"]
    np.testing.assert_array_equal(
        once.reshape(-1, 1),
        skimage_match(image.reshape(-1, 1), target.reshape(-1, 1), channel_axis=-1),
    )


def test_a_gray_image_keeps_its_two_dimensions() -> None:
    image = noise()[..., 0]
    transform = A.Compose([RandomizedHistogramMatching(flat_bank(bands=1), p=1.0)])
    matched = transform(image=image)["image"]
    assert matched.shape == image.shape
    assert matched.min() == matched.max()


def test_the_same_seed_draws_the_same_and_every_target_is_drawn() -> None:
    image = noise()

    def drawn(seed: int) -> list[int]:
        transform = A.Compose([RandomizedHistogramMatching(flat_bank(), p=1.0)])
        transform.set_random_seed(seed)
        return [int(transform(image=image)["image"].max()) for _ in range(60)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert set(drawn(1)) == set(LEVELS)


def test_probability_is_the_share_of_images_that_change() -> None:
    image = noise()
    for p, lowest, highest in ((0.0, 0, 0), (0.3, 60, 120), (1.0, 300, 300)):
        transform = RandomizedHistogramMatching(flat_bank(), p=p)
        transform.set_random_seed(0)
        changed = sum((transform(image=image)["image"] != image).any() for _ in range(300))
        assert lowest <= changed <= highest


def test_a_blend_lies_between_the_image_and_its_match() -> None:
    image = noise().astype(np.int64)

    def blended(low: float, high: float) -> NDArray[np.int64]:
        bank = HistogramBank.from_images([noise(seed=5) // 4 + 180])
        transform = RandomizedHistogramMatching(bank, p=1.0, blend=(low, high))
        transform.set_random_seed(0)
        blend: NDArray[np.int64] = transform(image=image.astype(np.uint8))["image"].astype(np.int64)
        return blend

    full = blended(1.0, 1.0)
    np.testing.assert_array_equal(blended(0.0, 0.0), image)
    np.testing.assert_array_equal(blended(0.25, 0.25), np.rint(0.25 * full + 0.75 * image))
    between = blended(0.2, 0.8)
    assert (between >= np.minimum(image, full)).all()
    assert (between <= np.maximum(image, full)).all()
    assert (between != image).any()
    assert (between != full).any()


@pytest.mark.parametrize("blend", [(-0.1, 1.0), (0.9, 0.1), (0.0, 1.5), (float("nan"), 1.0)])
def test_an_impossible_blend_is_refused(blend: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="rising pair"):
        RandomizedHistogramMatching(flat_bank(), blend=blend)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nodata_neither_counts_nor_changes(dtype: type) -> None:
    image, target = noise(dtype=dtype), noise(dtype=dtype, seed=1) // 2 + 9
    bank = HistogramBank.from_images([target])
    valid = np.ones(image.shape[:2], dtype=np.uint8)
    valid[:7] = 0
    image[7:9] = 0
    both = RandomizedHistogramMatching(bank, p=1.0, nodata=0)(image=image, valid=valid)
    np.testing.assert_array_equal(both["image"][:9], image[:9])
    np.testing.assert_array_equal(
        both["image"][9:], skimage_match(image[9:], target, channel_axis=-1)
    )
    np.testing.assert_array_equal(both["valid"], valid)


def test_a_validity_target_is_respected_within_a_composition() -> None:
    image = noise()
    valid = np.zeros(image.shape[:2], dtype=np.uint8)
    valid[5:, 5:] = 255
    steps = [RandomizedHistogramMatching(flat_bank(), p=1.0)]
    seen = A.Compose(steps, additional_targets={"valid": "mask"})(image=image, valid=valid)
    np.testing.assert_array_equal(seen["image"][valid == 0], image[valid == 0])
    assert len(np.unique(seen["image"][valid > 0])) == 1
    blank = A.Compose(steps)(image=image, valid=np.zeros_like(valid))
    np.testing.assert_array_equal(blank["image"], image)


def test_labels_do_not_change() -> None:
    mask = noise()[..., 0]
    seen = RandomizedHistogramMatching(flat_bank(), p=1.0)(image=noise(), mask=mask.copy())
    np.testing.assert_array_equal(seen["mask"], mask)


def results(transform: Any, *, dtype: type = np.uint8) -> list[Image]:
    transform.set_random_seed(7)
    images = [noise(dtype=dtype, seed=seed) for seed in range(8)]
    for image in images:
        image[:5] = 0
    return [transform(image=image)["image"] for image in images]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_a_transform_survives_json_and_pickle(dtype: type) -> None:
    transform = RandomizedHistogramMatching(
        target_bank(dtype=dtype), p=0.7, blend=(0.2, 0.9), nodata=0, per_band=False
    )
    pipeline = A.Compose([transform])
    for original in (transform, pipeline):
        through_json = A.from_dict(json.loads(json.dumps(A.to_dict(original))))
        pickled = pickle.loads(pickle.dumps(original))  # noqa: S301
        for again in (through_json, pickled):
            for one, two in zip(
                results(original, dtype=dtype), results(again, dtype=dtype), strict=True
            ):
                np.testing.assert_array_equal(one, two, strict=True)
    assert len(repr(transform)) < 200


def test_an_image_of_another_kind_than_the_bank_is_refused() -> None:
    transform = RandomizedHistogramMatching(flat_bank(), p=1.0)
    with pytest.raises(BankError, match="uint16"):
        transform(image=noise(dtype=np.uint16))
    with pytest.raises(BankError, match="bank has 3 bands of uint8, the images have 4 of uint8"):
        transform(image=noise(bands=4))
    with pytest.raises(TypeError, match="expected imagery of uint8, uint16, int16, float32"):
        transform(image=noise().astype(np.float64))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_mixed_bank_gives_each_type_its_own_targets(dtype: type) -> None:
    mixed = flat_bank().merge(flat_bank(dtype=np.uint16))
    transform = RandomizedHistogramMatching(mixed, p=1.0)
    seen = {int(transform(image=noise(dtype=dtype))["image"].max()) for _ in range(80)}
    assert seen == set(LEVELS)


RANGES = {
    "uint8": (0.0, 255.0),
    "uint16": (100.0, 2000.0),
    "int16": (-300.0, 500.0),
    "float32": (-0.5, 0.75),
}
SIDE = 16


def ends(dtype: str, bands: int) -> tuple[list[float], list[float]]:
    """Black and white of each band; other than 8-bit bands differ."""
    low, high = RANGES[dtype]
    spread = 0.0 if dtype == "uint8" else 0.01 * (high - low)
    return [low + band * spread for band in range(bands)], [
        high - band * spread for band in range(bands)
    ]


def chip(dtype: str, bands: int = 3, *, seed: int = 0) -> Image:
    """Random pixels, a few of them beyond black and white."""
    low, high = RANGES[dtype]
    shares = np.random.default_rng(seed).uniform(-0.05, 1.05, (SIDE, SIDE, bands))
    return np.clip(low + shares * (high - low), *limits(dtype)).astype(dtype)


def limits(dtype: str) -> tuple[float, float]:
    if dtype == "float32":
        return -np.inf, np.inf
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def dim_bank(dtype: str, bands: int = 3, *, count: int = 3) -> HistogramBank:
    """Darker targets, each other than the rest."""
    low, high = RANGES[dtype]
    darker = (
        low + (0.4 + 0.1 * seed) * (chip(dtype, bands, seed=20 + seed).astype(np.float64) - low)
        for seed in range(count)
    )
    return HistogramBank.from_images(np.clip(each, low, high).astype(dtype) for each in darker)


def normalization(dtype: str, bands: int = 3) -> PixelMap:
    low, high = ends(dtype, bands)
    return PixelMap.normalize(low, high, dtype, mean=(0.4,), std=(0.2,))


def configured(colour: str, **settings: Any) -> AugmentConfig:
    needed: dict[str, Any] = {"p": 1.0}
    if colour in FROM_BANK:
        needed["bank"] = "target.bank"
    if colour == "fda":
        needed["targets"] = ("there",)
    if colour == "jitter":
        needed["gamma"] = (0.5, 2.0)
    return AugmentConfig(colour=colour, **(needed | settings))


def augmentation(
    colour: str, dtype: str, bands: int = 3, *, bank: HistogramBank | None = None, **settings: Any
) -> ChipAugmentation:
    low, high = ends(dtype, bands)
    if bank is None and colour in FROM_BANK:
        bank = dim_bank(dtype, bands)
    config = configured(colour, **settings)
    return ChipAugmentation(config, dtype=np.dtype(dtype), low=low, high=high, bank=bank)


def hole() -> NDArray[np.uint8]:
    """Validity of a chip with a corner of nodata."""
    valid = np.ones((SIDE, SIDE), dtype=np.uint8)
    valid[:5, :9] = 0
    return valid


def varied(
    augment: ChipAugmentation,
    image: Image,
    valid: NDArray[np.uint8],
    *,
    seed: int = 0,
    **options: Any,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Vary a chip and turn the result back; a mask of places tells how it was turned."""
    places = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
    normalize = normalization(image.dtype.name, image.shape[-1])
    rng = np.random.default_rng(seed)
    before = image.copy()
    seen, mask, known = augment(image, places, valid, normalize=normalize, rng=rng, **options)
    np.testing.assert_array_equal(image, before)
    assert (seen.shape, seen.dtype.name) == (image.shape, "float32")
    order = np.argsort(mask, axis=None)
    back = seen.reshape(-1, image.shape[-1])[order].reshape(image.shape)
    np.testing.assert_array_equal(known.reshape(-1)[order].reshape(SIDE, SIDE), valid)
    return back, mask


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


@pytest.mark.parametrize("colour", FROM_BANK)
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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colour": "sepia"}, "unknown colour 'sepia': choose none, rhm, .*fda"),
        ({"statistics": "world"}, "unknown statistics 'world': choose chip, scene"),
        ({"sampling": "best"}, "unknown sampling 'best': choose uniform, domain, distance"),
        ({"colour": "rhm"}, "needs a bank"),
        ({"colour": "mean-std"}, "needs a bank"),
        ({"colour": "fda"}, "needs images of the target"),
        ({"colour": "jitter"}, "jitter needs a range"),
        ({"gamma": (0.5, 2.0)}, "none uses no gamma, gain or offset: choose jitter"),
        ({"colour": "gamma", "gamma": (0.9, 1.1)}, "gamma has a fixed range"),
        ({"p": 1.5}, "probability"),
        ({"p": float("nan")}, "probability"),
        ({"blend": (0.8, 0.2)}, "blend must be a rising pair"),
        ({"colour": "jitter", "gamma": (0.0, 1.0)}, "gamma must be a rising pair"),
        ({"colour": "jitter", "gain": (1.2, 0.8)}, "gain must be a rising pair"),
        ({"colour": "jitter", "gain": (-0.1, 0.8)}, "gain must be a rising pair"),
        ({"colour": "jitter", "offset": (0.0, float("nan"))}, "offset must be a rising pair"),
    ],
    ids=str,
)
def test_an_impossible_configuration_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**values)
