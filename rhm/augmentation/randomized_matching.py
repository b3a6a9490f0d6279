"""Randomized histogram matching as an albumentations transform, for any pipeline."""

from collections.abc import Mapping
from typing import Any

import albumentations as A
from numpy.typing import NDArray

from rhm.augmentation.colours import draw_match
from rhm.colour.histogram import Histogram, valid_pixels
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.lookup import PixelMap
from rhm.errors import ConfigError

VALID = "valid"
"""Name of the target with the validity of the pixels, (H, W), zero for nodata."""


class RandomizedHistogramMatching(A.ImageOnlyTransform):
    """Match each image to the histogram of a random image from the target domain.

    A new target is drawn for each image and step, among the bank's images of the same dtype
    (Yaras, Kassaw, Huang, Bradbury, Malof, IEEE JSTARS 17, 2024). Labels remain valid, because a
    pixel-wise map moves no pixel.

    Nodata pixels are neither counted nor changed. They are the pixels with the value ``nodata``,
    those of float images with a band that is not finite, and, if the transform is called with a
    target named ``valid`` (H, W), those where it is zero.

    Args:
        bank: histograms of the target domain, or the mapping that ``HistogramBank.to_dict``
            returns.
        p: probability that an image is matched.
        blend: range in [0, 1] from which the blend of each image is drawn; 1 is the full match, 0
            the unchanged image, and values in between their weighted mean.
        nodata: value of nodata pixels; a pixel is nodata if all its bands have it.
        per_band: whether every band is matched separately, as in the paper; otherwise one map,
            computed from the values of all bands together, is applied to all of them.

    Targets:
        image

    Image types:
        uint8, uint16, int16, float32
    """

    def __init__(
        self,
        bank: HistogramBank | Mapping[str, Any],
        p: float = 0.5,
        blend: tuple[float, float] = (1.0, 1.0),
        nodata: float | None = None,
        per_band: bool = True,
    ) -> None:
        super().__init__(p=p)
        low, high = blend
        if not 0.0 <= low <= high <= 1.0:
            raise ConfigError(f"blend must be a rising pair in [0, 1], got {blend}")
        self.bank = bank if isinstance(bank, HistogramBank) else HistogramBank.from_dict(bank)
        self.blend = (float(low), float(high))
        self.nodata = nodata
        self.per_band = per_band

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw a target and build the table of an image.

        Raises:
            BankError: the bank holds no image of this dtype and number of bands.
            TypeError: the dtype of the image is not supported, or it is a masked array.
        """
        image = data["image"]
        valid = valid_pixels(image, self.nodata, data.get(VALID))
        source = Histogram.of(image, valid=valid)
        table = draw_match(self.bank, self.blend, self.per_band, source, self.random_generator)
        return {"table": table, VALID: valid}

    def apply(self, img: NDArray[Any], table: PixelMap, **params: Any) -> NDArray[Any]:
        """Return the image mapped by its table, with nodata pixels unchanged."""
        return table.apply(img, valid=params[VALID])

    @classmethod
    def get_class_fullname(cls) -> str:
        """Return the name of the class in saved pipelines, which does not depend on its module."""
        return "rhm.augmentation.RandomizedHistogramMatching"

    def get_transform_init_args(self) -> dict[str, Any]:
        """Return the arguments, including the bank, as JSON-ready values."""
        return {
            "bank": self.bank.to_dict(),
            "blend": list(self.blend),
            "nodata": self.nodata,
            "per_band": self.per_band,
        }

    def __repr__(self) -> str:
        # The inherited method would print the whole bank.
        return (
            f"RandomizedHistogramMatching(bank of {len(self.bank)}, p={self.p}, "
            f"blend={self.blend}, nodata={self.nodata}, per_band={self.per_band})"
        )
