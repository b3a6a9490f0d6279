"""Storage of probabilities in a raster, and the building mask of stored values."""

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
        dtype: NumPy name of the dtype of stored values.
        nodata: stored value of nodata pixels.
        scale: factor from stored values to probabilities.
    """

    dtype: str
    nodata: float
    scale: float

    def encode(
        self, probability: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32] | NDArray[np.uint8]:
        """Return the stored values of probabilities, with nodata where they are not valid."""
        # Blending weights add up to one only approximately.
        stored = np.minimum(probability, np.float32(1.0))
        if self.scale != 1.0:
            stored = np.rint(stored * np.float32(_BYTE_WHITE))
        encoded = stored.astype(self.dtype)
        encoded[~valid] = self.nodata
        return encoded

    def decode(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probabilities of stored values; those of nodata are meaningless."""
        if self.scale == 1.0:
            return stored.astype(np.float32, copy=False)
        return np.asarray(self._levels()[stored])

    def mask(self, stored: NDArray[Any], threshold: float) -> NDArray[np.uint8]:
        """Return a mask of stored values: 1 for building, 0 for background, 255 for nodata."""
        if self.scale != 1.0:
            table = (self._levels() >= threshold).astype(np.uint8)
            table[int(self.nodata)] = MASK_NODATA
            return np.asarray(table[stored])
        building = (self.decode(stored) >= threshold).astype(np.uint8)
        building[stored == self.nodata] = MASK_NODATA
        return building

    def _levels(self) -> NDArray[np.float32]:
        """Return the probability of every byte."""
        # In float64 first, so that level 127 of 254 is exactly 0.5.
        return (np.arange(256) * np.float64(self.scale)).astype(np.float32)


def maps_in(stored: NDArray[Any], maps: int) -> NDArray[Any]:
    """Return stored rows, (rows, maps x width), map by map: a view (maps, rows, width)."""
    return stored.reshape(len(stored), maps, -1).swapaxes(0, 1)


MASK_NODATA = 255
"""Nodata value of a mask of 0 and 1."""

STORAGES = {
    "uint8": Storage("uint8", nodata=255.0, scale=1.0 / _BYTE_WHITE),
    "float32": Storage("float32", nodata=-1.0, scale=1.0),
}
"""Storages by dtype. uint8 stores the probabilities 0 to 1 as 0 to 254, and nodata as 255."""

FINGERPRINT = "RHM_FINGERPRINT"
"""Tag of a raster with the fingerprint of the prediction that wrote it."""

PROBABILITIES = "RHM_PROBABILITIES"
"""Tag of a raster with the fingerprint of its probabilities, without options of the footprints."""

RUNTIME = "RHM_RUNTIME"
"""Tag of a probability raster with the runtime that executed the network, if that was prepared by
``network_for``: the last digits depend on it."""

NOTE = "RHM_NOTE"
"""Tag of a raster with a note that the user should know: of probabilities, on damaged parts of the
scene; of a mask, on a threshold that could not be chosen."""

ORIGIN = "RHM_ORIGIN"
"""Tag of a raster with the origin of its scene."""

SCORES_ARE = "RHM_SCORES"
"""Tag of a mask that says what the scores of its footprints are, if they are calibrated."""

THRESHOLD = "RHM_THRESHOLD"
"""Tag of a mask with the minimum probability of its building pixels."""

DATE = "RHM_DATE"
"""Tag of a raster with the day of its scene as YYYY-MM-DD, if the scene has one."""


def fingerprint_of(raster: str | os.PathLike[str], tag: str = FINGERPRINT) -> str | None:
    """Return the fingerprint of the prediction that wrote a raster.

    Returns:
        The fingerprint; empty if no prediction wrote the raster, None if there is no raster.
    """
    try:
        with open_dataset(raster) as dataset:
            return str(dataset.tags().get(tag, ""))
    except RasterError:
        return None


def recorded_threshold(tag: str | None) -> float | None:
    """Return the threshold that a mask records in its tag ``THRESHOLD``.

    Returns:
        The threshold; 0.5 if the mask has no such tag, None if that is not a probability.
    """
    try:
        value = float(tag or 0.5)
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None


def is_raster_as_left(raster: str | os.PathLike[str]) -> bool:
    """Return whether a raster of a prediction has not been edited since.

    GDAL marks cloud-optimised GeoTIFFs that it changes, and they lose their layout.
    """
    try:
        with open_dataset(raster) as dataset:
            return bool(dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG")
    except RasterError:
        return False
