"""Random convolutions: every chip is filtered by small kernels that are drawn for it."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

KERNELS_PX = (1, 3, 5, 7)
"""Sides of the kernels, of which one is drawn."""


class RandomConvolution:
    """Mixes a chip with a random convolution of it; outlines remain, colours and textures do not.

    Xu, Liu, Yang, Raffel, Niethammer, "Robust and generalizable visual representation learning via
    random convolutions", ICLR 2021, in the form that mixes at random shares. Kernels mix the bands.
    The chip is convolved about its mean, so that its brightness stays.

    Args:
        low: black of each band, in value units.
        high: white of each band, in value units.
    """

    def __init__(self, low: Sequence[float], high: Sequence[float]) -> None:
        self._low = np.asarray(low, dtype=np.float32)
        self._range = np.asarray(high, dtype=np.float32) - self._low

    def __call__(
        self, image: NDArray[Any], valid: NDArray[np.uint8], *, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Return the image (H, W, bands) mixed with a convolution, in its dtype.

        Args:
            image: stored values.
            valid: (H, W) validity; pixels where it is zero have no influence.
            rng: random generator.
        """
        bands = image.shape[-1]
        side = int(rng.choice(KERNELS_PX))
        spread = 1.0 / np.sqrt(side * side * bands)
        kernels = rng.normal(0.0, spread, (bands, bands, side, side)).astype(np.float32)
        share = np.float32(rng.random())
        shares = (image.astype(np.float32) - self._low) / self._range
        known = valid > 0
        if not known.any():
            return image
        means = shares[known].mean(axis=0)
        about = np.where(known[..., None], shares - means, np.float32(0.0))
        mixed = share * about + (1.0 - share) * convolved(about, kernels)
        return to_dtype(self._low + self._range * np.clip(mixed + means, 0.0, 1.0), image.dtype)


def convolved(image: NDArray[np.float32], kernels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the correlation of an image with kernels, mirrored at its edges.

    Args:
        image: (H, W, bands).
        kernels: (outputs, bands, side, side).

    Returns:
        (H, W, outputs) float32.
    """
    outputs = [
        sum(
            cv2.filter2D(np.ascontiguousarray(image[..., band]), cv2.CV_32F, kernel)
            for band, kernel in enumerate(of_output)
        )
        for of_output in kernels
    ]
    return np.stack(outputs, axis=-1).astype(np.float32)


def to_dtype(values: NDArray[np.floating[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values in a dtype of imagery, rounded and clipped to its range if it is an integer.

    The result is in C order.
    """
    if dtype.kind == "f":
        return values.astype(dtype, order="C")
    ends = np.iinfo(dtype)
    rounded = np.rint(values)
    np.clip(rounded, ends.min, ends.max, out=rounded)
    return np.asarray(rounded.astype(dtype, order="C"))
