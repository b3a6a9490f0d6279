"""Randomized histogram matching as a transform of albumentations, for any pipeline."""

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
"""Name of the target that says which pixels hold data, (H, W), zero where they do not."""


class RandomizedHistogramMatching(A.ImageOnlyTransform):
    """Give each image the histogram of one image drawn at random from the target domain.

    Yaras, Kassaw, Huang, Bradbury, Malof, IEEE JSTARS 17, 2024: one fresh draw per sample and
    step; labels are untouched, because a pixel-wise map moves nothing.

    The draw is among the bank's images of the training image's dtype. Nodata pixels neither
    count nor change: those of value ``nodata``, floats that are no finite numbers, and, when
    the transform is called with a target named ``valid`` (H, W), those where it is zero.

    Args:
        bank: the target domain; also the mapping that ``HistogramBank.to_dict`` returns.
        p: probability of matching an image at all.
        blend: range in [0, 1] from which each image's blend is drawn: 1 is the full match,
            0 the image as it was, between them the mean of both weighted so.
        nodata: pixels all of whose bands equal this are nodata.
        per_band: match each band to its own (the paper's way); otherwise one map for all
            bands, from the values of all together.

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
        """Draw a target and build this image's table.

        Raises:
            BankError: the bank holds no image of this image's dtype and bands.
            TypeError: the image is of a type that has no levels.
        """
        image = data["image"]
        valid = valid_pixels(image, self.nodata, data.get(VALID))
        source = Histogram.of(image, valid=valid)
        table = draw_match(self.bank, self.blend, self.per_band, source, self.random_generator)
        return {"table": table, VALID: valid}

    def apply(self, img: NDArray[Any], table: PixelMap, **params: Any) -> NDArray[Any]:
        """Map the image through its table, leaving nodata as it is."""
        return table.apply(img, valid=params[VALID])

    @classmethod
    def get_class_fullname(cls) -> str:
        """Return the name that saved pipelines give, wherever this class moves."""
        return "rhm.augmentation.RandomizedHistogramMatching"

    def get_transform_init_args(self) -> dict[str, Any]:
        """Return the arguments as JSON-ready values, the bank included."""
        return {
            "bank": self.bank.to_dict(),
            "blend": list(self.blend),
            "nodata": self.nodata,
            "per_band": self.per_band,
        }

    def __repr__(self) -> str:
        # The inherited one spells out the arguments, and with them the whole bank.
        return (
            f"RandomizedHistogramMatching(bank of {len(self.bank)}, p={self.p}, "
            f"blend={self.blend}, nodata={self.nodata}, per_band={self.per_band})"
        )
