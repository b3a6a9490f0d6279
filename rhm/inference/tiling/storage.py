"""How probabilities are stored in a raster, and what is building in one."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.data.rasters.gdal_options import open_dataset
from rhm.errors import RasterError

_BYTE_WHITE = 254


@dataclass(frozen=True)
class Storage:
    """A way to store probabilities.

    Attributes:
        dtype: numpy's name of the stored values' type.
        nodata: the stored value of pixels without data.
        scale: what stored values are multiplied by to become probabilities.
    """

    dtype: str
    nodata: float
    scale: float

    def encode(
        self, probability: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32] | NDArray[np.uint8]:
        """Return stored values of probabilities, nodata where they are not valid."""
        # Blending weights add up to one only to the last bit.
        stored = np.minimum(probability, np.float32(1.0))
        if self.scale != 1.0:
            stored = np.rint(stored * np.float32(_BYTE_WHITE))
        encoded = stored.astype(self.dtype)
        encoded[~valid] = self.nodata
        return encoded

    def decode(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probabilities of stored values; meaningless where they are nodata."""
        if self.scale == 1.0:
            return stored.astype(np.float32, copy=False)
        return np.asarray(self._levels()[stored])

    def mask(self, stored: NDArray[Any], threshold: float) -> NDArray[np.uint8]:
        """Return 1 where stored values are building, 0 where they are not, 255 for nodata."""
        if self.scale != 1.0:
            table = (self._levels() >= threshold).astype(np.uint8)
            table[int(self.nodata)] = MASK_NODATA
            return np.asarray(table[stored])
        building = (self.decode(stored) >= threshold).astype(np.uint8)
        building[stored == self.nodata] = MASK_NODATA
        return building

    def _levels(self) -> NDArray[np.float32]:
        """Return the probability of every byte."""
        # In float64 first: 127 of 254 levels is then exactly 0.5.
        return (np.arange(256) * np.float64(self.scale)).astype(np.float32)


MASK_NODATA = 255
"""Nodata of a mask of 0 and 1."""

STORAGES = {
    "uint8": Storage("uint8", nodata=255.0, scale=1.0 / _BYTE_WHITE),
    "float32": Storage("float32", nodata=-1.0, scale=1.0),
}
"""By dtype. A byte holds 0 to 254 for 0 to 1; 255 is nodata."""

FINGERPRINT = "RHM_FINGERPRINT"
"""The tag of a raster that says which prediction wrote it."""

PROBABILITIES = "RHM_PROBABILITIES"
"""The tag that says so of all that decides its probabilities, whatever became of them."""


THRESHOLD = "RHM_THRESHOLD"
"""The tag of a mask that says from which probability a pixel is building in it."""


def fingerprint_of(raster: str | os.PathLike[str], tag: str = FINGERPRINT) -> str | None:
    """Return the fingerprint of the prediction that wrote a raster.

    Empty for a raster that no prediction wrote, None where there is no raster.
    """
    try:
        with open_dataset(raster) as dataset:
            return str(dataset.tags().get(tag, ""))
    except RasterError:
        return None
