"""Alternatives to histogram matching: simpler treatments of colour, as lookup tables.

There are two kinds. *Standardisations* give every image the same appearance, in training and in
every later prediction, and are therefore part of a model's input. *Draws* vary the appearance of
training images at random. Treatments that mix bands cannot be tables and come from albumentations
(``rhm.augmentation.colours``).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rhm.colour.histogram import Histogram
from rhm.colour.levels import levels_of, values_of
from rhm.colour.lookup import PixelMap

Ends = Sequence[float]
"""The value of black, or of white, in each band."""


def equalize(histogram: Histogram, low: Ends, high: Ends) -> PixelMap:
    """Return the map that equalises a histogram, so that all values are equally frequent.

    For each band ``v -> low + (high - low) * (F(v) - F_min) / (1 - F_min)``, where F(v) is the
    cumulative share of the values up to v, and F_min that of the lowest value.
    """
    first, width = histogram.first, histogram.counts.shape[1]
    shares = np.zeros((histogram.bands, levels_of(histogram.dtype)))
    for band, counts in enumerate(histogram.counts):
        reached = np.cumsum(counts) / max(histogram.pixels, 1)
        least = reached[np.flatnonzero(counts)[0]] if counts.any() else 0.0
        # A constant band cannot be spread.
        spread = (reached - least) / (1.0 - least) if least < 1.0 else np.full(width, 0.5)
        shares[band, first : first + width] = np.clip(spread, 0.0, 1.0)
    shares[:, first + width :] = shares[:, first + width - 1, None]
    lows, highs = _columns(low), _columns(high)
    return _in_range(lows + shares * (highs - lows), histogram.dtype, low, high)


def gray_world(histogram: Histogram, low: Ends, high: Ends) -> PixelMap:
    """Return the gain per band that gives all bands the same mean (gray-world colour constancy).

    Gains apply to values above black. Buchsbaum, "A spatial processor model for object colour
    perception", 1980.
    """
    means, _ = histogram.moments()
    above = np.maximum(means - np.asarray(low), 1e-6 * (np.asarray(high) - np.asarray(low)))
    gains = above.mean() / above
    lows = _columns(low)
    values = values_of(histogram.dtype).astype(np.float64)
    return _in_range(lows + gains[:, None] * (values - lows), histogram.dtype, low, high)


def mean_std(source: Histogram, target: Histogram, low: Ends, high: Ends) -> PixelMap:
    """Return the linear map per band that gives ``source`` the mean and spread of ``target``.

    Reinhard et al., "Color transfer between images", 2001, applied to the stored bands. The
    decorrelated colour space of the paper exists only for three bands, and a histogram per band
    does not determine its statistics.

    Raises:
        ValueError: the histograms differ in dtype or number of bands.
    """
    if source.dtype != target.dtype or source.bands != target.bands:
        raise ValueError(
            f"cannot match {source.bands} x {source.dtype} to {target.bands} x {target.dtype}"
        )
    (mean, std), (wanted_mean, wanted_std) = source.moments(), target.moments()
    gains = wanted_std / np.where(std > 0.0, std, np.inf)
    values = values_of(source.dtype).astype(np.float64)
    moved = _columns(wanted_mean) + gains[:, None] * (values - _columns(mean))
    return _in_range(moved, source.dtype, low, high)


def jitter(
    dtype: DTypeLike, low: Ends, high: Ends, *, gamma: float, gain: float, offset: float
) -> PixelMap:
    """Return the map ``s -> gain * s ** gamma + offset``, clipped to the range of the imagery.

    Here s is 0 at black and 1 at white.
    """
    lows, highs = _columns(low), _columns(high)
    shares = np.clip((values_of(dtype).astype(np.float64) - lows) / (highs - lows), 0.0, 1.0)
    varied = gain * shares**gamma + offset
    return _in_range(lows + varied * (highs - lows), dtype, low, high)


STANDARDIZE: dict[str, Callable[[Histogram, Ends, Ends], PixelMap] | None] = {
    "none": None,
    "equalize": equalize,
    "gray-world": gray_world,
}
"""Standardisations, by their names in a configuration."""


def standardized(name: str, scene: Histogram, low: Ends, high: Ends) -> PixelMap:
    """Return the map that gives a scene its standardised appearance.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in STANDARDIZE:
        raise ValueError(f"unknown standardisation '{name}': choose {', '.join(STANDARDIZE)}")
    made = STANDARDIZE[name]
    return PixelMap.identity(scene.dtype, scene.bands) if made is None else made(scene, low, high)


def _columns(ends: Ends | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(ends, dtype=np.float64)[:, None]


def _in_range(values: NDArray[np.float64], dtype: DTypeLike, low: Ends, high: Ends) -> PixelMap:
    return PixelMap.of_values(np.clip(values, _columns(low), _columns(high)), dtype)
