"""Random pixel-wise shifts of imagery, such as a new sensor, season or processing chain causes.

Shifts *test* a model: imagery is shifted before it is predicted, and the drop of the scores shows
how sensitive the model is (the controlled shifts of Yaras et al., JSTARS 17, 2024). Every family
draws its maps from a random generator, so that a seed and the name of an image determine its
shift.
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
    """Draw a gain in [0.5, 1.5] and an offset in +-0.2 of the range for each band."""
    gain = rng.uniform(0.5, 1.5, bands)
    offset = rng.uniform(-0.2, 0.2, bands) * high
    return PixelMap.gain_offset(gain, offset, dtype, bands, high=high)


def gamma(*, dtype: np.dtype[Any], bands: int, high: float, rng: np.random.Generator) -> PixelMap:
    """Draw a gamma between 1/3 and 3 for each band, uniform in its logarithm."""
    exponents = np.exp(rng.uniform(-np.log(3.0), np.log(3.0), bands))
    return PixelMap.gamma(exponents, dtype, bands, high=high)


def monotone(
    *, dtype: np.dtype[Any], bands: int, high: float, rng: np.random.Generator
) -> PixelMap:
    """Draw a rising piecewise-linear map through random heights for each band.

    The map has five evenly spaced knots. The rises between them are drawn from a flat Dirichlet
    distribution and together span a random part of the range, at least half of it.
    """
    rises = rng.dirichlet(np.ones(4), size=bands)
    span = rng.uniform(0.5, 1.0, (bands, 1))
    floor = rng.uniform(0.0, 1.0, (bands, 1)) * (1.0 - span)
    heights = floor + span * np.cumsum(np.pad(rises, ((0, 0), (1, 0))), axis=1)
    return PixelMap.through(heights, dtype, high=high)


@dataclass(frozen=True)
class HsvShift:
    """A rotation of the hue, and factors of saturation and value; the map mixes three bands.

    Attributes:
        degrees: angle that is added to the hue.
        saturation: factor of the saturation.
        value: factor of the value.
        high: white of the imagery, in value units.
    """

    degrees: float
    saturation: float
    value: float
    high: float

    def apply(self, image: NDArray[Any], *, valid: NDArray[Any] | None = None) -> NDArray[Any]:
        """Shift the colours of an image.

        Args:
            image: (H, W, 3) red, green and blue of one of ``rhm.colour.levels.DTYPES``.
            valid: (H, W) validity; pixels where it is zero keep their values.

        Returns:
            A new array with the shape and dtype of the image.
        """
        white = np.float32(min(self.high, values_of(image.dtype)[-1]))
        shares = np.clip(image.astype(np.float32) / white, 0.0, 1.0)
        hue, saturation, value = cv2.split(cv2.cvtColor(shares, cv2.COLOR_RGB2HSV))
        turned = (hue + np.float32(self.degrees)) % np.float32(360.0)
        shifted = (saturation * np.float32(self.saturation), value * np.float32(self.value))
        colours = cv2.merge([turned, *(np.clip(plane, 0.0, 1.0) for plane in shifted)])
        moved = white * cv2.cvtColor(colours, cv2.COLOR_HSV2RGB)
        rounded = moved if image.dtype.kind == "f" else np.rint(moved)
        result: NDArray[Any] = rounded.astype(image.dtype)
        if valid is not None:
            result[valid == 0] = image[valid == 0]
        return result


def hsv(*, dtype: np.dtype[Any], bands: int, high: float, rng: np.random.Generator) -> HsvShift:
    """Draw a hue rotation of up to 40 degrees, and factors from 0.5 to 1.5 of saturation and value.

    Raises:
        ConfigError: the imagery does not have three bands.
    """
    if bands != 3:
        raise ConfigError(
            f"shift 'hsv' needs red, green and blue, but the imagery has {bands} bands"
        )
    return HsvShift(rng.uniform(-40.0, 40.0), rng.uniform(0.5, 1.5), rng.uniform(0.5, 1.5), high)


SHIFTS: dict[str, Callable[..., PixelMap | HsvShift]] = {
    "affine": affine,
    "gamma": gamma,
    "monotone": monotone,
    "hsv": hsv,
}
"""Families of random pixel-wise shifts, by name."""

BAND_SHIFTS = tuple(name for name in SHIFTS if name != "hsv")
"""Families that change each band by itself, and can therefore be applied to histograms, too."""


def check_band_shift(family: str) -> None:
    """Check that a family changes each band by itself.

    Raises:
        ConfigError: it does not, or is unknown.
    """
    if family not in BAND_SHIFTS:
        fault = f"unknown shift '{family}'"
        if family in SHIFTS:
            fault = f"shift '{family}' mixes bands, but a bank holds histograms of single bands"
        raise ConfigError(f"{fault}: choose {', '.join(BAND_SHIFTS)}")


def shift_of(
    family: str, name: str, *, dtype: np.dtype[Any], bands: int, high: float, seed: int
) -> PixelMap | HsvShift:
    """Return the shift of an image, which its name and the seed determine.

    Args:
        family: one of ``SHIFTS``.
        name: name of the image.
        dtype: dtype of the image, one of ``rhm.colour.levels.DTYPES``.
        bands: number of bands.
        high: white of the imagery, in value units.
        seed: seed of the experiment.

    Raises:
        ConfigError: the family is unknown.
    """
    if family not in SHIFTS:
        raise ConfigError(f"unknown shift '{family}': choose {', '.join(SHIFTS)}")
    # File names need not be UTF-8; Python represents other bytes as surrogates.
    rng = np.random.default_rng([seed, zlib.crc32(name.encode(errors="surrogateescape"))])
    return SHIFTS[family](dtype=dtype, bands=bands, high=high, rng=rng)
