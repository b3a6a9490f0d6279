"""Random shifts as an augmentation: the maps that test a model, drawn anew for each chip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.colour.shifts import SHIFTS
from rhm.errors import ConfigError


class RandomShift:
    """Applies a random map of one of several families of shifts to a chip.

    Its maps are those of ``rhm evaluate --shift``, so a family has the same range in training and
    in a test: an augmentation that knows the shift exactly, with which others can be compared
    (Yaras et al., JSTARS 17, 2024, first experiment).

    Args:
        families: names of ``rhm.colour.shifts.SHIFTS``; one of them is drawn for each chip.
        high: white of each band, in value units.

    Raises:
        ConfigError: a family needs three bands, and the imagery has another number.
    """

    def __init__(self, families: Sequence[str], high: Sequence[float]) -> None:
        if "hsv" in families and len(high) != 3:
            others = ", ".join(name for name in SHIFTS if name != "hsv")
            raise ConfigError(
                f"augment.shifts: 'hsv' needs red, green and blue, but the imagery has {len(high)} "
                f"bands: choose from {others}"
            )
        self._families = tuple(families)
        self._high = float(max(high))

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
