"""Chips of all types, with a range, a bank and a normalisation for each."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.augmentation.augment_config import AugmentConfig
from rhm.augmentation.chip_augmentation import ChipAugmentation
from rhm.augmentation.colours import FROM_BANK
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.lookup import PixelMap

Image = NDArray[Any]

RANGES = {
    "uint8": (0.0, 255.0),
    "uint16": (100.0, 2000.0),
    "int16": (-300.0, 500.0),
    "float32": (-0.5, 0.75),
}
SIDE = 16


def noise(*, bands: int = 3, dtype: type = np.uint8, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 250, (24, 31, bands)).astype(dtype)


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
    images = (np.clip(each, low, high).astype(dtype) for each in darker)
    return HistogramBank.from_images(images, spectrum_px=SIDE)


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
