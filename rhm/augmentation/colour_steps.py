"""The steps by which the colours of a chip are changed, one after another."""

from collections.abc import Callable, Sequence
from typing import Any

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from rhm.augmentation.colours import COLOUR, REFERENCES, ColourConfig, Draw, Imagery, Mixer
from rhm.colour.baselines import jitter
from rhm.colour.histogram import Histogram
from rhm.colour.levels import without_nodata
from rhm.colour.lookup import PixelMap
from rhm.errors import ConfigError

_OWN_JITTER = ("jitter", "gamma")


class ChipColours:
    """A chip while its colours are changed.

    Tables are kept and composed, so that several in a row still touch each pixel once.

    Args:
        image: (H, W, bands) stored values.
        valid: (H, W) validity; pixels where it is zero keep their values.
        scene: histogram that the first table matches, if it is not that of the chip.
        reference: (H', W', 3) uint8 image of the target domain, for filters that use its pixels.
    """

    def __init__(
        self,
        image: NDArray[Any],
        valid: NDArray[np.uint8],
        scene: Histogram | None = None,
        reference: NDArray[np.uint8] | None = None,
    ) -> None:
        self.valid = valid
        self.reference = reference
        self._image = image
        self._scene = scene
        self._table: PixelMap | None = None

    def histogram(self) -> Histogram:
        """Return the histogram of the scene or chip, with the colours that it has by now."""
        before = self._scene or Histogram.of(self._image, valid=self.valid)
        return before if self._table is None else self._table.push(before)

    def map(self, table: PixelMap) -> None:
        """Change the colours by a table."""
        self._table = table if self._table is None else self._table.then(table)

    def pixels(self) -> NDArray[Any]:
        """Return the chip with the colours that it has by now, in its dtype."""
        if self._table is not None:
            self._image = self._table.apply(self._image, valid=self.valid)
            self._table = None
        return self._image

    def replace(self, image: NDArray[Any]) -> None:
        """Replace the valid pixels."""
        self._image = np.where(self.valid[..., None] > 0, image, self.pixels())
        self._scene = None

    def normalized(self, normalize: PixelMap) -> NDArray[np.float32]:
        """Return the input of the network."""
        if self._table is None:
            return normalize.apply(self._image)
        table = self._table.then(normalize)
        return table.apply(self._image, valid=self.valid, elsewhere=normalize)


ColourStep = Callable[[ChipColours, np.random.Generator], None]
"""Function that changes the colours of a chip at random."""


def steps_of(chain: Sequence[str], config: ColourConfig, imagery: Imagery) -> list[ColourStep]:
    """Return the steps of augmentations that act one after another.

    The configured gamma, gain and offset vary the result of the last of them.

    Args:
        chain: names of the augmentations.
        config: settings of the augmentation.
        imagery: properties of the chips.

    Raises:
        ConfigError: an augmentation does not support the imagery, or lacks its bank.
    """
    steps: list[ColourStep] = []
    for number, name in enumerate(chain):
        colour = COLOUR[name]
        _check_bands(name, len(imagery.low))
        last = number == len(chain) - 1 and not set(chain) & {"none", *_OWN_JITTER}
        vary = None
        if name in _OWN_JITTER or (last and config.jitters):
            vary = _Jitter(config, imagery, colour.gamma or config.gamma)
        if colour.filter is not None:
            steps.append(_Filter(colour.filter(config), imagery))
        if colour.mixer is not None:
            steps.append(_Mixing(colour.mixer(config, imagery), config.p))
        draw = None if colour.table is None else colour.table(config, imagery)
        if draw is not None or vary is not None:
            steps.append(_Tables(draw, vary, config.p))
    return steps


def _check_bands(name: str, bands: int) -> None:
    if COLOUR[name].bands in (None, bands):
        return
    any_bands = ", ".join(name for name, entry in COLOUR.items() if entry.bands is None)
    raise ConfigError(
        f"augment.colour '{name}' needs {COLOUR[name].bands} bands, but the imagery has {bands}: "
        f"choose one of {any_bands}"
    )


class _Tables:
    """A table that is drawn for the histogram of a chip, and then varied."""

    def __init__(self, draw: Draw | None, vary: "_Jitter | None", p: float) -> None:
        self._draw = draw
        self._vary = vary
        self._p = p

    def __call__(self, colours: ChipColours, rng: np.random.Generator) -> None:
        if rng.random() >= self._p:
            return
        if self._draw is not None:
            colours.map(self._draw(colours.histogram(), rng))
        if self._vary is not None:
            colours.map(self._vary(rng))


class _Jitter:
    """A random gamma, gain and offset."""

    def __init__(self, config: ColourConfig, imagery: Imagery, gamma: tuple[float, float]) -> None:
        self._config = config
        self._imagery = imagery
        self._gamma = gamma

    def __call__(self, rng: np.random.Generator) -> PixelMap:
        return jitter(
            self._imagery.dtype,
            self._imagery.low,
            self._imagery.high,
            # Uniform in the logarithm, so that halving and doubling are equally likely.
            gamma=np.exp(rng.uniform(*np.log(self._gamma))),
            gain=rng.uniform(*self._config.gain),
            offset=rng.uniform(*self._config.offset),
        )


class _Mixing:
    """A change of the pixels, with a probability."""

    def __init__(self, mixer: Mixer, p: float) -> None:
        self._mixer = mixer
        self._p = p

    def __call__(self, colours: ChipColours, rng: np.random.Generator) -> None:
        if rng.random() < self._p:
            colours.replace(self._mixer(colours.pixels(), colours.valid, rng=rng))


class _Filter:
    """A transform of albumentations that mixes bands or pixels, and takes 8-bit images."""

    def __init__(self, transform: A.BasicTransform, imagery: Imagery) -> None:
        self._transform = A.Compose([transform])
        self._bytes: tuple[PixelMap, PixelMap] | None = None
        if imagery.dtype != np.uint8:
            low, high, dtype = imagery.low, imagery.high, imagery.dtype
            black, white = (0.0,) * len(low), (255.0,) * len(low)
            self._bytes = (
                PixelMap.stretch(low, high, dtype, to_low=black, to_high=white, to_dtype=np.uint8),
                PixelMap.stretch(black, white, np.uint8, to_low=low, to_high=high, to_dtype=dtype),
            )

    def __call__(self, colours: ChipColours, rng: np.random.Generator) -> None:
        self._transform.set_random_seed(int(rng.integers(1 << 31)))
        # The transform mixes pixels, and must not mix the values of nodata into others.
        image = without_nodata(colours.pixels(), colours.valid > 0)
        borrowed = {} if colours.reference is None else {REFERENCES: [colours.reference]}
        if self._bytes is None:
            colours.replace(np.asarray(self._transform(image=image, **borrowed)["image"]))
            return
        to_bytes, from_bytes = self._bytes
        given = to_bytes.apply(image)
        seen = self._transform(image=given.copy(), **borrowed)["image"]
        # A chip that the transform leaves as it is must not be rounded to bytes.
        if not np.array_equal(seen, given):
            colours.replace(from_bytes.apply(seen))
