"""Giving an image the low-frequency amplitudes of another one, with its own phases."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.colour.spectra.window_amplitudes import FloatArray, fft


def swap_amplitudes(image: NDArray[Any], amplitudes: FloatArray) -> NDArray[np.floating[Any]]:
    """Return an image with other amplitudes at low frequencies, and its own phases.

    Args:
        image: (height, width, bands), of which float32 is computed in single precision, which takes
            half as long, and anything else in double precision.
        amplitudes: (bands, 2 reach + 1, reach + 1), as ``Spectrum.at`` returns them; where they are
            NaN, the image keeps its own.

    Returns:
        (height, width, bands) float32 or float64, a view of contiguous bands.
    """
    reach = amplitudes.shape[2] - 1
    transforms = fft()
    height, width = image.shape[:2]
    precision = np.float32 if image.dtype == np.float32 else np.float64
    planes = np.ascontiguousarray(np.moveaxis(image, -1, 0), dtype=precision)
    # The mean is left out of the transform, whose rounding would otherwise be in proportion to it.
    means = planes.mean(axis=(1, 2), dtype=np.float64)
    bands = transforms.rfft2(planes - means[:, None, None].astype(precision), overwrite_x=True)
    rows = np.arange(-reach, reach + 1)
    low = bands[:, rows, : reach + 1]
    low[:, reach, 0] = means * (height * width)
    own = np.abs(low)
    # The phase of nothing is zero, and a mean is replaced with its sign.
    phases = np.divide(low, own, out=np.ones_like(low), where=own > 0.0)
    phases[:, reach, 0] = 1.0
    low = np.where(np.isnan(amplitudes), low, amplitudes * phases)
    means = low[:, reach, 0].real / (height * width)
    low[:, reach, 0] = 0.0
    bands[:, rows, : reach + 1] = low
    swapped = transforms.irfft2(bands, s=(height, width), overwrite_x=True)
    swapped += means[:, None, None].astype(precision)
    return np.moveaxis(swapped, 0, -1)
