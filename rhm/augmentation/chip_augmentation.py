"""The augmentation of a training chip: geometry, then colour and normalisation in one look-up."""

from collections.abc import Sequence
from typing import Any

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from rhm.augmentation.augment_config import AugmentConfig
from rhm.augmentation.colours import COLOUR, REFERENCES, Imagery
from rhm.augmentation.geometry import Another, ChipGeometry, Sample
from rhm.colour.baselines import jitter
from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.lookup import PixelMap
from rhm.errors import ConfigError


class ChipAugmentation:
    """The augmentation of training chips: geometry, then colour and normalisation in one look-up.

    Args:
        config: settings of the augmentation.
        dtype: dtype of the chips.
        low: black of each band, in value units.
        high: white of each band, in value units.
        bank: histograms of the target domain, for colour augmentations that draw from a bank.

    Raises:
        ConfigError: the colour augmentation does not support the imagery, or lacks its bank.
    """

    def __init__(
        self,
        config: AugmentConfig,
        *,
        dtype: np.dtype[Any],
        low: Sequence[float],
        high: Sequence[float],
        bank: HistogramBank | None = None,
    ) -> None:
        colour = COLOUR[config.colour]
        imagery = Imagery(dtype, tuple(low), tuple(high), bank)
        self._config = config
        self._low, self._high = imagery.low, imagery.high
        self._gamma = colour.gamma or config.gamma
        self._jitters = config.jitters or colour.gamma is not None
        self._recolour = None if colour.table is None else colour.table(config, imagery)
        if colour.bands not in (None, len(low)):
            any_bands = ", ".join(name for name, entry in COLOUR.items() if entry.bands is None)
            raise ConfigError(
                f"augment.colour '{config.colour}' needs {colour.bands} bands, but the imagery has "
                f"{len(low)}: choose one of {any_bands}"
            )
        self._filter = None if colour.filter is None else _Filter(colour.filter(config), imagery)
        self._geometry = ChipGeometry(config.geometry)

    def __call__(
        self,
        image: NDArray[Any],
        mask: NDArray[np.uint8],
        valid: NDArray[np.uint8],
        *,
        normalize: PixelMap,
        rng: np.random.Generator,
        scene: Histogram | None = None,
        reference: NDArray[np.uint8] | None = None,
        another: Another | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]:
        """Return a randomly augmented chip, its mask and its validity.

        Args:
            image: (H, W, bands) stored values of the chip.
            mask: (H, W) mask of the buildings.
            valid: (H, W) validity; pixels where it is zero are only normalised.
            normalize: map from stored values to the input of the network.
            rng: random generator.
            scene: histogram of the image that the chip was cut from, for ``statistics: scene``.
            reference: (H', W', 3) image of the target domain, for colour augmentations that use
                its pixels.
            another: function that reads a second chip, for geometric augmentations that use one;
                by default it returns this chip.

        Returns:
            Input of the network (H, W, bands) float32, mask and validity.
        """
        read = Sample(image, mask, valid)
        image, mask, valid = self._geometry.vary(read, rng=rng, another=another or (lambda: read))
        colours = self.recolour(
            image, valid, normalize=normalize, rng=rng, scene=scene, reference=reference
        )
        return colours, mask, valid

    def recolour(
        self,
        image: NDArray[Any],
        valid: NDArray[np.uint8],
        *,
        normalize: PixelMap,
        rng: np.random.Generator,
        scene: Histogram | None = None,
        reference: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.float32]:
        """Return a chip in random colours, without a change of its geometry.

        The arguments are those of a call; the result is the input of the network.
        """
        if self._filter is not None:
            filtered = self._filter(image, reference, rng=rng)
            image = np.where(valid[..., None] > 0, filtered, image)
        table = self._draw(image, valid, scene, rng)
        if table is None:
            return normalize.apply(image)
        return table.then(normalize).apply(image, valid=valid, elsewhere=normalize)

    def _draw(
        self,
        image: NDArray[Any],
        valid: NDArray[np.uint8],
        scene: Histogram | None,
        rng: np.random.Generator,
    ) -> PixelMap | None:
        """Return the colour table of this chip before normalisation, or None for no change."""
        if not (self._recolour or self._jitters) or rng.random() >= self._config.p:
            return None
        if self._recolour is None:
            return self._jitter(image.dtype, rng)
        whole = scene if self._config.statistics == "scene" else None
        table = self._recolour(whole or Histogram.of(image, valid=valid), rng)
        return table.then(self._jitter(image.dtype, rng)) if self._jitters else table

    def _jitter(self, dtype: np.dtype[Any], rng: np.random.Generator) -> PixelMap:
        config = self._config
        return jitter(
            dtype,
            self._low,
            self._high,
            # Uniform in the logarithm, so that halving and doubling are equally likely.
            gamma=np.exp(rng.uniform(*np.log(self._gamma))),
            gain=rng.uniform(*config.gain),
            offset=rng.uniform(*config.offset),
        )


class _Filter:
    """A transform of albumentations that mixes bands or pixels, and takes 8-bit images."""

    def __init__(self, transform: A.BasicTransform, imagery: Imagery) -> None:
        self._transform = A.Compose([transform])
        self._bytes: tuple[PixelMap, PixelMap] | None = None
        if imagery.dtype != np.uint8:
            low, high, dtype = imagery.low, imagery.high, imagery.dtype
            black, white = (0.0,) * len(low), (255.0,) * len(low)
            self._bytes = (
                PixelMap.stretch(low, high, dtype, to_low=black, to_high=white, to_dtype=np.uint8),
                PixelMap.stretch(black, white, np.uint8, to_low=low, to_high=high, to_dtype=dtype),
            )

    def __call__(
        self,
        image: NDArray[Any],
        reference: NDArray[np.uint8] | None,
        *,
        rng: np.random.Generator,
    ) -> NDArray[Any]:
        self._transform.set_random_seed(int(rng.integers(1 << 31)))
        borrowed = {} if reference is None else {REFERENCES: [reference]}
        if self._bytes is None:
            return np.asarray(self._transform(image=image, **borrowed)["image"])
        to_bytes, from_bytes = self._bytes
        return from_bytes.apply(self._transform(image=to_bytes.apply(image), **borrowed)["image"])
