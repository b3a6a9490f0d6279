"""The colour augmentations of training chips, by the names that a configuration gives.

To add one, add an entry to ``COLOUR`` and, above it, what the entry builds; a setting of its own
is a field of ``ColourConfig``. There are two kinds. A *table* treats bands one by one: it is drawn
for each chip as a lookup table and composed with the network's normalisation, so that colour
touches each pixel once. A *filter* mixes bands or places and is a transform of albumentations,
which is imported where it is built.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from rhm.colour.alternatives import mean_std
from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import SAMPLING, HistogramBank
from rhm.colour.lookup import PixelMap
from rhm.errors import BankError, ConfigError

SOURCES_BANK = "sources"
"""In the place of a bank's path: a bank of the training images themselves."""

STATISTICS = ("chip", "scene")
"""Whose histogram is the source of a match: the training chip's, or its whole image's."""

REFERENCES = "references"
"""The name under which a filter is given images of the target domain."""

_AS_IT_IS = (1.0, 1.0)


@dataclass(frozen=True)
class ColourConfig:
    """What varies the colours of training chips.

    Attributes:
        colour: one of ``COLOUR``.
        bank: path of the target domain's histogram bank, for the colours that draw from one; or
            ``sources``, for a bank of the training images themselves.
        targets: domains of the catalog whose pixels are borrowed from, for ``fda``.
        p: probability of changing a chip's colours.
        blend: range of the blend between no match (0) and full match (1), for ``rhm``.
        per_band: whether ``rhm`` matches each band to its own.
        statistics: one of ``STATISTICS``.
        sampling: one of ``histogram_bank.SAMPLING``: how a bank's images are drawn; ``uniform``
            leaves a bank its own weights, which are equal unless it was saved with others.
        gamma: range of exponents by which brightness is varied after the match.
        gain: range of factors after that.
        offset: range of summands after that, in shares of the range from black to white.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    colour: str = "none"
    bank: str | None = None
    targets: tuple[str, ...] = ()
    p: float = 0.5
    blend: tuple[float, float] = (1.0, 1.0)
    per_band: bool = True
    statistics: str = "chip"
    sampling: str = "uniform"
    gamma: tuple[float, float] = _AS_IT_IS
    gain: tuple[float, float] = _AS_IT_IS
    offset: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name, choices in (
            ("colour", COLOUR),
            ("statistics", STATISTICS),
            ("sampling", SAMPLING),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"unknown {name} '{getattr(self, name)}': choose {', '.join(choices)}"
                )
        chosen = COLOUR[self.colour]
        if self.bank and not chosen.from_bank:
            raise ValueError(f"a bank is for colour {' or '.join(FROM_BANK)}, not {self.colour}")
        if chosen.from_bank and not self.bank:
            raise ValueError(f"colour {self.colour} needs a bank: give augment.bank or --bank FILE")
        if chosen.from_targets and not self.targets:
            raise ValueError(
                f"colour {self.colour} needs images of the target: give augment.targets"
            )
        self._check_ranges()
        complaint = chosen.complaint(self) if chosen.complaint else None
        if complaint:
            raise ValueError(f"colour {self.colour} {complaint}")

    def _check_ranges(self) -> None:
        if not 0.0 <= self.p <= 1.0:
            raise ValueError("p is a probability in [0, 1]")
        if not 0.0 <= self.blend[0] <= self.blend[1] <= 1.0:
            raise ValueError("blend is a rising pair in [0, 1]")
        for name, lowest in (("gamma", 1e-3), ("gain", 0.0), ("offset", -1.0)):
            first, last = getattr(self, name)
            if not lowest <= first <= last < 1e3:
                raise ValueError(f"{name} is a rising pair from {lowest:g}")

    @property
    def jitters(self) -> bool:
        """Whether any of gamma, gain and offset varies brightness."""
        return (self.gamma, self.gain, self.offset) != (_AS_IT_IS, _AS_IT_IS, (0.0, 0.0))


@dataclass(frozen=True)
class Imagery:
    """The chips whose colours are varied.

    Attributes:
        dtype: their type.
        low: black of each band, in value units.
        high: white of each band.
        bank: of the target domain, for the colours that draw from one.
    """

    dtype: np.dtype[Any]
    low: Sequence[float]
    high: Sequence[float]
    bank: HistogramBank | None = None


Draw = Callable[[Histogram, np.random.Generator], PixelMap]
"""Draws the table of one chip, given its histogram or that of the scene that it was cut from."""


@dataclass(frozen=True)
class Colour:
    """A colour augmentation.

    Attributes:
        text: what it does, in a line.
        table: builds what draws its tables, of configuration and imagery; it can be pickled.
        filter: builds its transform of albumentations, for ``bands`` bands of uint8.
        from_bank: whether it draws its targets from a bank.
        from_targets: whether it borrows from pixels of the target domain, which the filter finds
            under the name ``REFERENCES``.
        bands: the only number of bands that it treats; None for any.
        gamma: its own range of exponents, in the place of the configured one.
        complaint: says what is wrong with a configuration, if anything is.
    """

    text: str
    table: Callable[[ColourConfig, Imagery], Draw] | None = None
    filter: Callable[[ColourConfig], Any] | None = None
    from_bank: bool = False
    from_targets: bool = False
    bands: int | None = None
    gamma: tuple[float, float] | None = None
    complaint: Callable[[ColourConfig], str | None] | None = None


def draw_match(
    bank: HistogramBank,
    blend: tuple[float, float],
    per_band: bool,
    source: Histogram,
    rng: np.random.Generator,
) -> PixelMap:
    """Return the map of an image to a random image of a bank.

    Args:
        bank: the target domain.
        blend: range from which the blend is drawn.
        per_band: whether each band is matched to its own.
        source: histogram of the image, or of the scene that it was cut from.
        rng: the source of the draw.

    Raises:
        BankError: the bank holds no image of this dtype and bands.
    """
    target = _drawn(bank, source, rng)
    weight = rng.uniform(*blend)
    if not per_band:
        source, target = source.pool_bands(), target.pool_bands()
    return PixelMap.matching(source, target).blend(weight)


def _rhm(config: ColourConfig, imagery: Imagery) -> Draw:
    return partial(draw_match, _bank(config, imagery), config.blend, config.per_band)


def _mean_std(config: ColourConfig, imagery: Imagery) -> Draw:
    return partial(_draw_mean_std, _bank(config, imagery), imagery.low, imagery.high)


def _draw_mean_std(
    bank: HistogramBank,
    low: Sequence[float],
    high: Sequence[float],
    source: Histogram,
    rng: np.random.Generator,
) -> PixelMap:
    return mean_std(source, _drawn(bank, source, rng), low, high)


def _bank(config: ColourConfig, imagery: Imagery) -> HistogramBank:
    if imagery.bank is None:
        raise ConfigError(
            f"augment.colour is {config.colour}, which needs a bank: give --bank FILE"
        )
    return imagery.bank


def _drawn(bank: HistogramBank, source: Histogram, rng: np.random.Generator) -> Histogram:
    target = bank.sample(dtype=source.dtype, rng=rng)
    if source.bands != target.bands:
        raise BankError(
            f"a bank of {target.bands} x {target.dtype} cannot recolour images of "
            f"{source.bands} x {source.dtype}: build it from imagery of the same kind"
        )
    return target


def _color_jitter(config: ColourConfig) -> Any:
    import albumentations as A

    ranges = dict.fromkeys(("brightness", "contrast", "saturation"), (0.7, 1.3))
    return A.ColorJitter(**ranges, hue=(-0.1, 0.1), p=config.p)


def _hsv(config: ColourConfig) -> Any:
    import albumentations as A

    return A.HueSaturationValue(
        hue_shift_limit=20, sat_shift_limit=60, val_shift_limit=60, p=config.p
    )


def _fda(config: ColourConfig) -> Any:
    import albumentations as A

    return A.FDA(beta_limit=(0.0, 0.1), metadata_key=REFERENCES, p=config.p)


def _needs_no_range(config: ColourConfig) -> str | None:
    varied = "varies nothing: choose jitter for gamma, gain and offset"
    return varied if config.jitters else None


def _needs_a_range(config: ColourConfig) -> str | None:
    return None if config.jitters else "needs a range: give augment.gamma, gain or offset"


def _has_its_range(config: ColourConfig) -> str | None:
    own = "has its own range: choose jitter for another"
    return own if config.gamma != _AS_IT_IS else None


COLOUR = {
    "none": Colour("colours stay as they are", complaint=_needs_no_range),
    "rhm": Colour(
        "randomized histogram matching: the histogram of a random image of the bank",
        table=_rhm,
        from_bank=True,
    ),
    "mean-std": Colour(
        "the mean and spread of a random image of the bank",
        table=_mean_std,
        from_bank=True,
    ),
    "jitter": Colour("random gamma, gain and offset, as configured", complaint=_needs_a_range),
    "gamma": Colour("a random gamma between 1/2 and 2", gamma=(0.5, 2.0), complaint=_has_its_range),
    "color-jitter": Colour(
        "random brightness, contrast, saturation and hue", filter=_color_jitter, bands=3
    ),
    "hsv": Colour("random shifts of hue, saturation and value", filter=_hsv, bands=3),
    "fda": Colour(
        "Fourier domain adaptation: low frequencies of a target image (Yang, Soatto, CVPR 2020)",
        filter=_fda,
        from_targets=True,
        bands=3,
    ),
}
"""Colour augmentations by the name that a configuration gives."""

FROM_BANK = tuple(name for name, each in COLOUR.items() if each.from_bank)
"""Those that draw their targets from a bank."""
