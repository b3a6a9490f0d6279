"""Random pixel-wise shifts of imagery: what a new sensor, season or processing chain does.

They *test* a model: imagery is shifted before it is predicted, and the fall of the scores is the
model's sensitivity (the controlled shifts of Yaras et al., JSTARS 17, 2024). Every family draws
per-band maps from a generator, so that a seed and an image's name decide its shift.
"""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from rhm.errors import ConfigError
from rhm.lookup import PixelMap


def affine(*, dtype: np.dtype[Any], bands: int, high: float, rng: np.random.Generator) -> PixelMap:
    """Gain in [0.5, 1.5] and offset in +-0.2 of the range, drawn per band, clipped at white."""
    gain = rng.uniform(0.5, 1.5, bands)
    offset = rng.uniform(-0.2, 0.2, bands) * high
    return PixelMap.gain_offset(gain, offset, dtype, bands, high=high)


def gamma(*, dtype: np.dtype[Any], bands: int, high: float, rng: np.random.Generator) -> PixelMap:
    """Exponents between 1/3 and 3, uniform in their logarithm, drawn per band."""
    exponents = np.exp(rng.uniform(-np.log(3.0), np.log(3.0), bands))
    return PixelMap.gamma(exponents, dtype, bands, high=high)


def monotone(
    *, dtype: np.dtype[Any], bands: int, high: float, rng: np.random.Generator
) -> PixelMap:
    """Rising piecewise-linear maps through random heights, drawn per band.

    Five evenly spaced knots; the rises between them are drawn from a flat Dirichlet
    distribution and span a random part, at least half, of the range.
    """
    rises = rng.dirichlet(np.ones(4), size=bands)
    span = rng.uniform(0.5, 1.0, (bands, 1))
    floor = rng.uniform(0.0, 1.0, (bands, 1)) * (1.0 - span)
    heights = floor + span * np.cumsum(np.pad(rises, ((0, 0), (1, 0))), axis=1)
    return PixelMap.through(heights, dtype, high=high)


SHIFTS: dict[str, Callable[..., PixelMap]] = {
    "affine": affine,
    "gamma": gamma,
    "monotone": monotone,
}
"""Families of random pixel-wise shifts by name."""


def shift_of(
    family: str, name: str, *, dtype: np.dtype[Any], bands: int, high: float, seed: int
) -> PixelMap:
    """Return the shift of ``family`` that ``seed`` gives to the image called ``name``.

    Args:
        family: one of ``SHIFTS``.
        name: the image's name, part of the seed.
        dtype: uint8 or uint16.
        bands: the number of bands.
        high: the imagery's white, in value units.
        seed: the experiment's seed.

    Raises:
        ConfigError: the family is unknown.
    """
    if family not in SHIFTS:
        raise ConfigError(f"unknown shift '{family}': choose {', '.join(SHIFTS)}")
    # File names need not be UTF-8; Python shows what is not as surrogates.
    rng = np.random.default_rng([seed, zlib.crc32(name.encode(errors="surrogateescape"))])
    return SHIFTS[family](dtype=dtype, bands=bands, high=high, rng=rng)
