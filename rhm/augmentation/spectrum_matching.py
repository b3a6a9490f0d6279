"""Spectrum matching: Fourier domain adaptation from a bank instead of images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.augmentation.random_convolution import to_dtype
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.levels import without_nodata
from rhm.colour.spectra.amplitude_swap import swap_amplitudes
from rhm.errors import BankError


class SpectrumMatching:
    """Gives a chip the low-frequency amplitudes of a random image of a bank.

    The highest frequency is drawn uniformly from a range, as in FDA (Yang, Soatto, CVPR 2020).
    Where the bank does not know an amplitude, the chip keeps its own: that of the longest waves if
    the images of the bank cover less ground than a chip (see ``Spectrum.at``).

    Args:
        bank: bank with spectra of the target domain.
        beta: range of the highest frequency, in cycles per pixel.
        gsd_m: metres per pixel of the chips, or None if unknown.
    """

    def __init__(
        self, bank: HistogramBank, beta: tuple[float, float], gsd_m: float | None = None
    ) -> None:
        self._bank = bank
        self._beta = beta
        self._gsd_m = gsd_m

    def __call__(
        self, image: NDArray[Any], valid: NDArray[np.uint8], *, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Return the image (H, W, bands) with other amplitudes, in its dtype.

        Args:
            image: stored values.
            valid: (H, W) validity; pixels where it is zero count as the mean of the others.
            rng: random generator.

        Raises:
            BankError: the bank holds no spectra, or none of this dtype and number of bands.
        """
        target = self._bank.sample_spectrum(dtype=image.dtype, rng=rng)
        beta = rng.uniform(*self._beta)
        height, width, bands = image.shape
        if target.bands != bands:
            raise BankError(
                f"the bank has {target.bands} bands of {image.dtype}, the images have {bands} of "
                f"{image.dtype}: build the bank from imagery of the same kind"
            )
        known = valid > 0
        if not known.any():
            return image
        # Single precision holds the values of all dtypes that a bank can have.
        filled = without_nodata(image.astype(np.float32), known)
        reach = int(np.floor(min(height, width) * beta))
        amplitudes = target.at(height, width, reach, gsd_m=self._gsd_m)
        return to_dtype(swap_amplitudes(filled, amplitudes), image.dtype)
