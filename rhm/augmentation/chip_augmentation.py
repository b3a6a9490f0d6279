"""The augmentation of a training chip: geometry, then colour and normalisation in one look-up."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.augmentation.augment_config import AugmentConfig
from rhm.augmentation.colour_steps import ChipColours, steps_of
from rhm.augmentation.colours import Imagery
from rhm.augmentation.geometry import Another, ChipGeometry, Sample
from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.lookup import PixelMap


class ChipAugmentation:
    """The augmentation of training chips: geometry, then colour and normalisation in one look-up.

    Args:
        config: settings of the augmentation.
        dtype: dtype of the chips.
        low: black of each band, in value units.
        high: white of each band, in value units.
        bank: histograms of the target domain, for colour augmentations that draw from a bank.
        gsd_m: metres per pixel of the chips, or None if unknown.

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
        gsd_m: float | None = None,
    ) -> None:
        imagery = Imagery(dtype, tuple(low), tuple(high), bank, gsd_m)
        self._whole_scene = config.statistics == "scene"
        self._alternatives = [steps_of(chain, config, imagery) for chain in config.chains]
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
        several = len(self._alternatives)
        # A single one is not drawn, so that earlier configurations draw what they always drew.
        steps = self._alternatives[int(rng.integers(several)) if several > 1 else 0]
        colours = ChipColours(image, valid, scene if self._whole_scene else None, reference)
        for step in steps:
            step(colours, rng)
        return colours.normalized(normalize)
