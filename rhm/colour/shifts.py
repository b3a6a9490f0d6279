"""Random pixel-wise shifts of imagery: what a new sensor, season or processing chain does.

They *test* a model: imagery is shifted before it is predicted, and the fall of the scores is the
model's sensitivity (the controlled shifts of Yaras et al., JSTARS 17, 2024). Every family draws
per-band maps from a generator, so that a seed and an image's name decide its shift.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rhm.colour.levels import values_of
from rhm.colour.lookup import PixelMap
from rhm.errors import ConfigError


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


@dataclass(frozen=True)
class HsvShift:
    """A turn of the hue, and factors of saturation and value: a map that mixes three bands.

    Attributes:
        degrees: added to the hue.
        saturation: factor.
        value: factor.
        high: the imagery's white, in value units.
    """

    degrees: float
    saturation: float
    value: float
    high: float

    def apply(self, image: NDArray[Any], *, valid: NDArray[Any] | None = None) -> NDArray[Any]:
        """Shift the colours of an image; pixels where ``valid`` is zero keep their values.

        Args:
            image: (H, W, 3) red, green and blue, of one of ``rhm.colour.levels.DTYPES``.
            valid: (H, W), or None.

        Returns:
            A new array of the image's shape and dtype.
        """
        white = np.float32(min(self.high, values_of(image.dtype)[-1]))
        shares = np.clip(image.astype(np.float32) / white, 0.0, 1.0)
        hue, saturation, value = cv2.split(cv2.cvtColor(shares, cv2.COLOR_RGB2HSV))
        turned = (hue + np.float32(self.degrees)) % np.float32(360.0)
        shifted = (saturation * np.float32(self.saturation), value * np.float32(self.value))
        colours = cv2.merge([turned, *(np.clip(each, 0.0, 1.0) for each in shifted)])
        moved = white * cv2.cvtColor(colours, cv2.COLOR_HSV2RGB)
        rounded = moved if image.dtype.kind == "f" else np.rint(moved)
        result: NDArray[Any] = rounded.astype(image.dtype)
        if valid is not None:
            result[valid == 0] = image[valid == 0]
        return result


def hsv(*, dtype: np.dtype[Any], bands: int, high: float, rng: np.random.Generator) -> HsvShift:
    """Hue turned by up to 40 degrees, saturation and value times 0.5 to 1.5.

    Raises:
        ConfigError: the imagery has not three bands.
    """
    if bands != 3:
        raise ConfigError(f"shift 'hsv' is of red, green and blue, not of {bands} bands")
    return HsvShift(rng.uniform(-40.0, 40.0), rng.uniform(0.5, 1.5), rng.uniform(0.5, 1.5), high)


SHIFTS: dict[str, Callable[..., PixelMap | HsvShift]] = {
    "affine": affine,
    "gamma": gamma,
    "monotone": monotone,
    "hsv": hsv,
}
"""Families of random pixel-wise shifts by name."""


def shift_of(
    family: str, name: str, *, dtype: np.dtype[Any], bands: int, high: float, seed: int
) -> PixelMap | HsvShift:
    """Return the shift of ``family`` that ``seed`` gives to the image called ``name``.

    Args:
        family: one of ``SHIFTS``.
        name: the image's name, part of the seed.
        dtype: one of ``rhm.colour.levels.DTYPES``.
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
