"""Laws of the matching transform in any pipeline; oracle of a full match: scikit-image."""

import json
import pickle
from typing import Any

import albumentations as A
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.exposure import match_histograms as skimage_match

from rhm.augmentation.randomized_matching import RandomizedHistogramMatching
from rhm.colour.histogram_bank import HistogramBank
from rhm.errors import BankError, ConfigError
from tests.augmentation.chips import (
    Image,
    noise,
)

LEVELS = (10, 60, 110, 160, 210)


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
