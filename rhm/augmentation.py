"""Training augmentations, as albumentations transforms.

The one file that imports albumentations.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

# albumentations asks the network for a newer version when it is imported, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from rhm.bank import HistogramBank
from rhm.errors import BankError, ConfigError
from rhm.histogram import Histogram, valid_pixels
from rhm.lookup import PixelMap

VALID = "valid"
"""Name of the target that says which pixels hold data, (H, W), zero where they do not."""


class RandomizedHistogramMatching(A.ImageOnlyTransform):
    """Give each image the histogram of one image drawn at random from the target domain.

    Yaras, Kassaw, Huang, Bradbury, Malof, IEEE JSTARS 17, 2024: one fresh draw per sample and
    step; labels are untouched, because a pixel-wise map moves nothing.

    The draw is among the bank's images of the training image's dtype. Nodata pixels neither
    count nor change: those of value ``nodata``, and, when the transform is
    called with a target named ``valid`` (H, W), those where it is zero.

    Args:
        bank: the target domain; also the mapping that ``HistogramBank.to_dict`` returns.
        p: probability of matching an image at all.
        blend: range in [0, 1] from which each image's blend is drawn: 1 is the full match,
            0 the image as it was, between them the mean of both weighted so.
        nodata: pixels all of whose bands equal this are nodata.

    Targets:
        image

    Image types:
        uint8, uint16
    """

    def __init__(
        self,
        bank: HistogramBank | Mapping[str, Any],
        p: float = 0.5,
        blend: tuple[float, float] = (1.0, 1.0),
        nodata: float | None = None,
    ) -> None:
        super().__init__(p=p)
        low, high = blend
        if not 0.0 <= low <= high <= 1.0:
            raise ConfigError(f"blend must be a rising pair in [0, 1], got {blend}")
        self.bank = bank if isinstance(bank, HistogramBank) else HistogramBank.from_dict(bank)
        self.blend = (float(low), float(high))
        self.nodata = nodata

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw a target and build this image's table.

        Raises:
            BankError: the bank holds no image of this image's dtype and bands.
            TypeError: the image is neither uint8 nor uint16.
        """
        image = data["image"]
        valid = valid_pixels(image, self.nodata, data.get(VALID))
        source = Histogram.of(image, valid=valid)
        target = self.bank.sample(dtype=image.dtype, rng=self.random_generator)
        weight = self.random_generator.uniform(*self.blend)
        return {
            "table": _blended_match(source, target, weight),
            VALID: valid,
        }

    def apply(self, img: NDArray[Any], table: PixelMap, **params: Any) -> NDArray[Any]:
        """Map the image through its table, leaving nodata as it is."""
        return table.apply(img, valid=params[VALID])

    def get_transform_init_args(self) -> dict[str, Any]:
        """Return the arguments as JSON-ready values, the bank included."""
        return {"bank": self.bank.to_dict(), "blend": list(self.blend), "nodata": self.nodata}

    def __repr__(self) -> str:
        # The inherited one spells out the arguments, and with them the whole bank.
        return (
            f"RandomizedHistogramMatching(bank of {len(self.bank)}, p={self.p}, "
            f"blend={self.blend}, nodata={self.nodata})"
        )


def _blended_match(source: Histogram, target: Histogram, weight: float) -> PixelMap:
    if source.bands != target.bands:
        raise BankError(
            f"a bank of {target.bands} x {target.dtype} cannot recolour images of "
            f"{source.bands} x {source.dtype}: build it from imagery of the same kind"
        )
    match = PixelMap.matching(source, target)
    if weight == 1.0:
        return match
    identity = PixelMap.identity(source.dtype, source.bands)
    mixed = weight * match.tables.astype(np.float64) + (1.0 - weight) * identity.tables
    return PixelMap(np.rint(mixed).astype(source.dtype))


def _color_jitter(p: float) -> A.BasicTransform:
    return A.ColorJitter(
        brightness=(0.7, 1.3), contrast=(0.7, 1.3), saturation=(0.7, 1.3), hue=(-0.1, 0.1), p=p
    )


def _random_gamma(p: float) -> A.BasicTransform:
    return A.RandomGamma(gamma_limit=(50, 200), p=p)


COLOUR: dict[str, Callable[[float], A.BasicTransform] | None] = {
    "none": None,
    "rhm": None,
    "color-jitter": _color_jitter,
    "gamma": _random_gamma,
}
"""Colour augmentations by the name a configuration gives; ``rhm`` is built from a bank."""


@dataclass(frozen=True)
class AugmentConfig:
    """The colour augmentation of a run; flips and quarter turns are always drawn.

    Attributes:
        colour: one of ``COLOUR``.
        bank: path of the target domain's histogram bank, for ``rhm``.
        p: probability of changing a chip's colours.
        blend: range of the blend between no match (0) and full match (1), for ``rhm``.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    colour: str = "none"
    bank: str | None = None
    p: float = 0.5
    blend: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if self.colour not in COLOUR:
            raise ValueError(f"unknown colour '{self.colour}': choose {', '.join(COLOUR)}")
        if self.colour == "rhm" and not self.bank:
            raise ValueError("colour rhm needs a bank: give augment.bank or --bank FILE")
        if not 0.0 <= self.p <= 1.0:
            raise ValueError("p is a probability in [0, 1]")
        if not 0.0 <= self.blend[0] <= self.blend[1] <= 1.0:
            raise ValueError("blend is a rising pair in [0, 1]")


def training_transform(
    config: AugmentConfig,
    *,
    dtype: np.dtype[Any],
    bands: int,
    bank: HistogramBank | None = None,
) -> A.Compose:
    """Return the augmentation of training chips: flips, quarter turns, then colour.

    The result takes ``image`` (H, W, bands), ``mask`` (H, W) and ``valid`` (H, W), the last two
    uint8, and is seeded with its ``set_random_seed``.

    Raises:
        ConfigError: the colour augmentation cannot treat such imagery, or ``rhm`` is chosen
            without a bank.
    """
    steps: list[A.BasicTransform] = [A.HorizontalFlip(p=0.5), A.RandomRotate90(p=1.0)]
    make = COLOUR[config.colour]
    if config.colour == "rhm":
        if bank is None:
            raise ConfigError("augment.colour is rhm, which needs a bank: give --bank FILE")
        steps.append(RandomizedHistogramMatching(bank, p=config.p, blend=config.blend))
    elif make is not None:
        if dtype != np.uint8 or bands != 3:
            raise ConfigError(
                f"augment.colour '{config.colour}' treats 3 bands of uint8, not {bands} of "
                f"{dtype}: choose rhm or none"
            )
        steps.append(make(config.p))
    return A.Compose(steps, additional_targets={VALID: "mask"})
