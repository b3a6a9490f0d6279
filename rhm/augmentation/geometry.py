"""The geometric augmentations of training chips, by the names that a configuration gives.

To add one, write its ``Step`` and add an entry to ``GEOMETRY``. Steps act in the order of that
dict, all of them before colour, so that one table treats whatever they brought together alike.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


class Sample(NamedTuple):
    """A chip as it is stored.

    Attributes:
        image: (H, W, bands) pixels.
        mask: (H, W) uint8, 1 on buildings.
        valid: (H, W) uint8, zero where there is no data.
    """

    image: NDArray[Any]
    mask: NDArray[np.uint8]
    valid: NDArray[np.uint8]


Another = Callable[[], Sample]
"""Reads another chip of the same domain, type and resolution, with buildings if there are any."""


class Step:
    """A geometric augmentation at work; either method leaves alone what it does not change.

    Attributes:
        zooms: whether chips are read at other distances than the model's.
    """

    zooms: ClassVar[bool] = False

    def distance(self, *, rng: np.random.Generator) -> float:
        """Draw a chip's ground sampling distance, as a factor of the model's."""
        return 1.0

    def vary(self, sample: Sample, *, rng: np.random.Generator, another: Another) -> Sample:
        """Return the chip, varied at random; what it is given stays as it is.

        Args:
            sample: the chip.
            rng: decides everything.
            another: reads a second chip, which ``rng`` decides as well.
        """
        return sample


class Scale(Step):
    """Scale jitter: chips are read at distances drawn log-uniformly from a range.

    Args:
        factors: the lowest and the highest, as factors of the model's distance.
    """

    zooms = True

    def __init__(self, factors: tuple[float, float]) -> None:
        self._low, self._high = factors

    def distance(self, *, rng: np.random.Generator) -> float:
        """Draw a factor; half and double are as far from 1 as one another."""
        return exp(rng.uniform(log(self._low), log(self._high)))


class Paste(Step):
    """Copy-paste: buildings of another chip, with their pixels, laid over this one.

    Ghiasi et al., "Simple copy-paste is a strong data augmentation method for instance
    segmentation", CVPR 2021; ClassMix (Olsson et al., WACV 2021) pastes by class. A random half
    of the other chip's buildings, but at least one, keep their places in the chip.

    Args:
        p: probability of pasting into a chip.
    """

    def __init__(self, p: float) -> None:
        self._p = p

    def vary(self, sample: Sample, *, rng: np.random.Generator, another: Another) -> Sample:
        """Paste where both chips have data: what has none in this chip stays without."""
        if rng.random() >= self._p:
            return sample
        donor = another()
        buildings = (donor.mask == 1) & (donor.valid > 0)
        at = _some_of(buildings, rng=rng) & (sample.valid > 0)
        image, mask = sample.image.copy(), sample.mask.copy()
        image[at], mask[at] = donor.image[at], 1
        return Sample(image, mask, sample.valid)


def _some_of(buildings: NDArray[np.bool_], *, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the pixels of a random half of the connected buildings, of at least one."""
    count, numbers = cv2.connectedComponents(buildings.view(np.uint8))
    chosen = rng.random(count) < 0.5
    if count > 1:
        chosen[rng.integers(1, count)] = True
    chosen[0] = False  # what is no building
    return np.asarray(chosen[numbers])


class Flips(Step):
    """Mirrored and turned by quarters: the eight symmetries of a square are equally likely."""

    def __init__(self, _: bool = True) -> None:
        import albumentations as A

        turns = [A.HorizontalFlip(p=0.5), A.RandomRotate90(p=1.0)]
        self._turns = A.Compose(turns, additional_targets={"valid": "mask"})

    def vary(self, sample: Sample, *, rng: np.random.Generator, another: Another) -> Sample:
        """Turn image, mask and validity alike."""
        self._turns.set_random_seed(int(rng.integers(1 << 31)))
        return Sample(**self._turns(**sample._asdict()))


@dataclass(frozen=True)
class Geometric:
    """A geometric augmentation that a configuration can name.

    Attributes:
        text: what it does and what it is given, in a line.
        read: checks what a configuration gives and returns it in its final form, None where it
            turns the augmentation off. It raises ValueError.
        build: makes the step of what ``read`` returned; the step can be pickled.
        default: what holds where a configuration gives nothing.
        mixes_images: whether pixels of several images come together in one chip.
    """

    text: str
    read: Callable[[Any], Any]
    build: Callable[[Any], Step]
    default: Any = None
    mixes_images: bool = False


def _flag(value: Any) -> bool | None:
    if not isinstance(value, bool):
        raise ValueError("is true or false")
    return value or None


def _probability(value: Any) -> float | None:
    if not _is_number(value) or not 0.0 <= value <= 1.0:
        raise ValueError("is a probability in [0, 1]")
    return float(value) or None


def _factors(value: Any) -> tuple[float, float] | None:
    pair = value if isinstance(value, list | tuple) else ()
    numbers = [float(each) for each in pair if _is_number(each)]
    if len(numbers) != 2 or len(pair) != 2 or not 0.1 <= numbers[0] <= numbers[1] <= 10.0:
        raise ValueError("is a rising pair of factors from 0.1 to 10, as [0.6, 1.6]")
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
"""Geometric augmentations by the name that a configuration gives, in the order they act in."""


def read_geometry(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check what a configuration gives and return the value of every entry of ``GEOMETRY``.

    None means off, in what is given and in what is returned; what is not given has its default.

    Raises:
        ValueError: there is no such augmentation, or not with such a value.
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
        chosen: as ``read_geometry`` returned it.
    """

    def __init__(self, chosen: Mapping[str, Any]) -> None:
        self._steps = [
            entry.build(chosen[name])
            for name, entry in GEOMETRY.items()
            if chosen[name] is not None
        ]

    @property
    def zooms(self) -> bool:
        """Whether chips are read at other distances than the model's."""
        return any(step.zooms for step in self._steps)

    def distance(self, *, rng: np.random.Generator) -> float:
        """Draw a chip's ground sampling distance, as a factor of the model's."""
        factor = 1.0
        for step in self._steps:
            factor *= step.distance(rng=rng)
        return factor

    def vary(self, sample: Sample, *, rng: np.random.Generator, another: Another) -> Sample:
        """Return the chip, varied by one step after the other."""
        for step in self._steps:
            sample = step.vary(sample, rng=rng, another=another)
        return sample
