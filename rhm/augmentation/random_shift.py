"""Random shifts as an augmentation: the maps that test a model, drawn anew for each chip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.colour.shifts import BAND_SHIFTS, SHIFTS
from rhm.errors import ConfigError


class RandomShift:
    """Applies a random map of one of several families of shifts to a chip.

    Its maps are drawn as those of ``rhm evaluate --shift``, between 0 and the white of the training
    imagery (there, of each image): an augmentation that knows the kind of shift, with which others
    can be compared (Yaras et al., JSTARS 17, 2024, first experiment).

    Args:
        families: names of ``rhm.colour.shifts.SHIFTS``; one of them is drawn for each chip.
        high: white of each band, in value units.

    Raises:
        ConfigError: a family needs three bands, and the imagery has another number, or its white
            is not above 0.
    """

    def __init__(self, families: Sequence[str], high: Sequence[float]) -> None:
        if "hsv" in families and len(high) != 3:
            others = ", ".join(BAND_SHIFTS)
            raise ConfigError(
                f"augment.shifts: 'hsv' needs red, green and blue, but the imagery has {len(high)} "
                f"bands: choose from {others}"
            )
        self._families = tuple(families)
        self._high = float(max(high))
        if not self._high > 0.0:
            raise ConfigError(
                f"augment.colour 'shift' needs values above 0, and white is {self._high:g}"
            )

    def __call__(
        self, image: NDArray[Any], valid: NDArray[np.uint8], *, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Return the shifted image (H, W, bands), in its dtype.

        Args:
            image: stored values.
            valid: (H, W) validity; pixels where it is zero keep their values.
            rng: random generator.
        """
        family = self._families[int(rng.integers(len(self._families)))]
        moved = SHIFTS[family](dtype=image.dtype, bands=image.shape[-1], high=self._high, rng=rng)
        return moved.apply(image, valid=valid)
