"""The geometric augmentations of training chips, by their names in a configuration.

To add an augmentation, write its ``Step`` and add an entry to ``GEOMETRY``. Steps act in the order
of that dict and before the colours, so that all pixels they combine go through the same table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rhm.augmentation.mask_values import is_building


class Sample(NamedTuple):
    """A chip with stored values.

    Attributes:
        image: (H, W, bands) pixels.
        mask: (H, W) uint8 with the values of ``rhm.augmentation.mask_values``.
        valid: (H, W) uint8 validity, zero for nodata.
    """

    image: NDArray[Any]
    mask: NDArray[np.uint8]
    valid: NDArray[np.uint8]


Another = Callable[[], Sample]
"""Function that reads another chip of the same domain, dtype and resolution.

The chip contains buildings if the domain has any."""


class Step:
    """A geometric augmentation; by default neither method changes anything.

    Attributes:
        zooms: whether chips are read at other ground sampling distances than the model's.
    """

    zooms: ClassVar[bool] = False

    def distance(self, *, rng: np.random.Generator) -> float:
        """Draw the ground sampling distance of a chip, as a factor of the model's."""
        return 1.0

    def vary(self, sample: Sample, *, rng: np.random.Generator, another: Another) -> Sample:
        """Return a randomly augmented chip, without changing the arguments.

        Args:
            sample: chip to augment.
            rng: random generator.
            another: function that reads a second chip, which ``rng`` also determines.
        """
        return sample


class Scale(Step):
    """Scale jitter: chips are read at ground sampling distances drawn log-uniformly from a range.

    Args:
        factors: ends of the range, as factors of the model's ground sampling distance.
    """

    zooms = True

    def __init__(self, factors: tuple[float, float]) -> None:
        self._low, self._high = factors

    def distance(self, *, rng: np.random.Generator) -> float:
        """Draw a factor; halving and doubling are equally likely."""
        return exp(rng.uniform(log(self._low), log(self._high)))


class Paste(Step):
    """Copy-paste: buildings of another chip, with their pixels, replace parts of this one.

    A random half of the other chip's buildings, but at least one, is pasted at the same position
    (Ghiasi et al., "Simple copy-paste is a strong data augmentation method for instance
    segmentation", CVPR 2021). ClassMix (Olsson et al., WACV 2021) pastes whole classes instead.

    Args:
        p: probability of pasting into a chip.
    """

    def __init__(self, p: float) -> None:
        self._p = p

    def vary(self, sample: Sample, *, rng: np.random.Generator, another: Another) -> Sample:
        """Paste buildings where both chips have data; nodata pixels of this chip remain nodata."""
        if rng.random() >= self._p:
            return sample
        donor = another()
        buildings = is_building(donor.mask) & (donor.valid > 0)
        at = some_of(buildings, rng=rng) & (sample.valid > 0)
        image, mask = sample.image.copy(), sample.mask.copy()
        image[at], mask[at] = donor.image[at], donor.mask[at]
        return Sample(image, mask, sample.valid)


def some_of(buildings: NDArray[np.bool_], *, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the pixels of a random half of the connected buildings, but at least one of them."""
    count, numbers = cv2.connectedComponents(buildings.view(np.uint8))
    chosen = rng.random(count) < 0.5
    if count > 1:
        chosen[rng.integers(1, count)] = True
    chosen[0] = False  # the background
    return np.asarray(chosen[numbers])


class Flips(Step):
    """Flips and quarter turns: the eight symmetries of a square are equally likely."""

    def __init__(self, _: bool = True) -> None:
        import albumentations as A

        turns = [A.HorizontalFlip(p=0.5), A.RandomRotate90(p=1.0)]
        self._turns = A.Compose(turns, additional_targets={"valid": "mask"})

    def vary(self, sample: Sample, *, rng: np.random.Generator, another: Another) -> Sample:
        """Return the chip with image, mask and validity flipped and turned in the same way."""
        self._turns.set_random_seed(int(rng.integers(1 << 31)))
        return Sample(**self._turns(**sample._asdict()))


@dataclass(frozen=True)
class Geometric:
    """A geometric augmentation that a configuration can name.

    Attributes:
        text: description of the augmentation and its value, in one line.
        read: function that checks a configured value and returns it in its final form, or None if
            it turns the augmentation off. It raises ValueError.
        build: function that builds the picklable step from a value of ``read``.
        default: value if the configuration does not name the augmentation.
        mixes_images: whether a chip combines pixels of several images.
    """

    text: str
    read: Callable[[Any], Any]
    build: Callable[[Any], Step]
    default: Any = None
    mixes_images: bool = False


def _flag(value: Any) -> bool | None:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {value!r}")
    return value or None


def _probability(value: Any) -> float | None:
    if not _is_number(value) or not 0.0 <= value <= 1.0:
        raise ValueError(f"must be a probability in [0, 1], got {value!r}")
    return float(value) or None


def _factors(value: Any) -> tuple[float, float] | None:
    pair = value if isinstance(value, list | tuple) else ()
    numbers = [float(factor) for factor in pair if _is_number(factor)]
    if len(numbers) != 2 or len(pair) != 2 or not 0.1 <= numbers[0] <= numbers[1] <= 10.0:
        raise ValueError("must be a rising pair of factors from 0.1 to 10, such as [0.6, 1.6]")
    return None if numbers == [1.0, 1.0] else (numbers[0], numbers[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


GEOMETRY = {
    "scale": Geometric(
        "scale jitter: a range of ground sampling distances, as factors of the model's",
        read=_factors,
        build=Scale,
    ),
    "paste": Geometric(
        "probability of pasting buildings of another chip of the same domain",
        read=_probability,
        build=Paste,
        mixes_images=True,
    ),
    "flips": Geometric("flips and quarter turns, true or false", _flag, Flips, default=True),
}
"""Geometric augmentations, by their names in a configuration, in the order in which they act."""


def read_geometry(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the configured values, and return the value of every entry of ``GEOMETRY``.

    Args:
        given: configured values by name; None turns an augmentation off, and one that is not
            named has its default.

    Returns:
        Value of every augmentation by name; None if it is off.

    Raises:
        ValueError: a name is unknown, or a value is invalid.
    """
    for name in given:
        if name not in GEOMETRY:
            raise ValueError(f"unknown geometry '{name}': choose {', '.join(GEOMETRY)}")
    values = {name: given.get(name, entry.default) for name, entry in GEOMETRY.items()}
    return {name: _read(name, value) for name, value in values.items()}


def _read(name: str, value: Any) -> Any:
    try:
        return None if value is None else GEOMETRY[name].read(value)
    except ValueError as error:
        raise ValueError(f"geometry.{name} {error}") from error


class ChipGeometry:
    """The geometric augmentations of a run.

    Args:
        chosen: values that ``read_geometry`` returned.
    """

    def __init__(self, chosen: Mapping[str, Any]) -> None:
        self._steps = [
            entry.build(chosen[name])
            for name, entry in GEOMETRY.items()
            if chosen[name] is not None
        ]

    @property
    def zooms(self) -> bool:
        """Whether chips are read at other ground sampling distances than the model's."""
        return any(step.zooms for step in self._steps)

    def distance(self, *, rng: np.random.Generator) -> float:
        """Draw the ground sampling distance of a chip, as a factor of the model's."""
        factor = 1.0
        for step in self._steps:
            factor *= step.distance(rng=rng)
        return factor

    def vary(self, sample: Sample, *, rng: np.random.Generator, another: Another) -> Sample:
        """Return the chip after all steps."""
        for step in self._steps:
            sample = step.vary(sample, rng=rng, another=another)
        return sample
