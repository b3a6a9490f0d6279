"""The colour augmentations of training chips, by their names in a configuration.

To add an augmentation, write the function that builds it and add an entry to ``COLOUR``; a new
setting is a field of ``ColourConfig``. There are three kinds. A *table* treats the bands one by
one. It is drawn for each chip as a lookup table and composed with the normalisation of the network,
so that each pixel is touched once. A *filter* mixes bands or pixels. It is a transform of
albumentations, which is imported only when the filter is built. A *mixer* also does so, for imagery
of any dtype and number of bands.

Augmentations can be combined: ``rhm + spectrum`` applies both in this order, and ``rhm | fda``
draws one of the two for each chip.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from rhm.augmentation.random_convolution import RandomConvolution
from rhm.augmentation.random_shift import RandomShift
from rhm.augmentation.spectrum_matching import SpectrumMatching
from rhm.colour.baselines import mean_std
from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import SAMPLING, HistogramBank
from rhm.colour.lookup import PixelMap
from rhm.colour.shifts import SHIFTS
from rhm.colour.spectra.window_amplitudes import MOST_SHARE
from rhm.errors import BankError, ConfigError

SOURCES_BANK = "sources"
"""Name in place of the path of a bank: the bank consists of the training images themselves."""

STATISTICS = ("chip", "scene")
"""The histogram that is matched: that of the training chip, or that of its whole image."""

REFERENCES = "references"
"""Name of the argument that passes images of the target domain to a filter."""

_AS_IT_IS = (1.0, 1.0)


@dataclass(frozen=True)
class ColourConfig:
    """The colour augmentation of training chips.

    Attributes:
        colour: name of the augmentation, one of ``COLOUR``. Names with ``+`` between them act one
            after another, and one of several alternatives with ``|`` between them is drawn for
            each chip with equal probability: ``rhm + spectrum | none``.
        bank: path of the histogram bank of the target domain, for augmentations that draw from a
            bank; ``sources`` stands for a bank of the training images themselves, which are the
            unlabelled ones where there are no others.
        targets: domains of the catalog whose pixels ``fda`` uses.
        p: probability that an augmentation changes the colours of a chip. With ``rhm``, matching
            only half of the chips costs nearly half of the gain in other places.
        blend: range of the blend between no match (0) and the full match (1), for ``rhm``.
        per_band: whether ``rhm`` matches every band separately.
        statistics: histogram that is matched, one of ``STATISTICS``.
        beta: range of the highest frequency whose amplitudes ``fda`` and ``spectrum`` replace, in
            cycles per pixel.
        sampling: how images are drawn from the bank, one of ``histogram_bank.SAMPLING``;
            ``domain`` draws each of its domains equally often, and ``uniform`` keeps the weights
            of the bank, which are equal unless it was saved with others.
        shifts: families of maps from which ``shift`` draws, names of ``rhm.colour.shifts.SHIFTS``.
        gamma: range of the exponents that vary the brightness, after the match.
        gain: range of the factors that are applied after ``gamma``.
        offset: range of the offsets that are added after ``gain``, as shares of the range from
            black to white.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    colour: str = "none"
    bank: str | None = None
    targets: tuple[str, ...] = ()
    p: float = 1.0
    blend: tuple[float, float] = (1.0, 1.0)
    per_band: bool = True
    statistics: str = "chip"
    beta: tuple[float, float] = (0.0, MOST_SHARE)
    sampling: str = "domain"
    shifts: tuple[str, ...] = tuple(SHIFTS)
    gamma: tuple[float, float] = _AS_IT_IS
    gain: tuple[float, float] = _AS_IT_IS
    offset: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name, choices in (("statistics", STATISTICS), ("sampling", SAMPLING)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"unknown {name} '{getattr(self, name)}': choose {', '.join(choices)}"
                )
        strange = [family for family in self.shifts if family not in SHIFTS]
        if strange or not self.shifts:
            fault = f"unknown shift '{strange[0]}'" if strange else "no shifts"
            raise ValueError(f"{fault}: choose from {', '.join(SHIFTS)}")
        object.__setattr__(self, "colour", " | ".join(" + ".join(each) for each in self.chains))
        if self.bank and not self.uses("from_bank"):
            raise ValueError(
                f"colour {self.colour} uses no bank: choose {' or '.join(FROM_BANK)}, or leave out "
                "the bank"
            )
        if self.uses("from_bank") and not self.bank:
            raise ValueError(f"colour {self.colour} needs a bank: give augment.bank or --bank FILE")
        if self.uses("from_targets") and not self.targets:
            raise ValueError(
                f"colour {self.colour} needs images of the target: give augment.targets"
            )
        self._check_ranges()
        for name in dict.fromkeys(name for chain in self.chains for name in chain):
            complaint = COLOUR[name].complaint
            told = complaint(self) if complaint else None
            if told and (self.chains == ((name,),) or name != "none"):
                raise ValueError(f"colour {name} {told}")

    @property
    def chains(self) -> tuple[tuple[str, ...], ...]:
        """The alternatives, each as the names of the augmentations that act one after another.

        Raises:
            ValueError: a name is unknown, or ``none`` is combined with another.
        """
        chains = tuple(
            tuple(name.strip() for name in alternative.split("+"))
            for alternative in self.colour.split("|")
        )
        for name in (name for chain in chains for name in chain):
            if name not in COLOUR:
                raise ValueError(f"unknown colour '{name}': choose {', '.join(COLOUR)}")
        if any(len(chain) > 1 and "none" in chain for chain in chains):
            raise ValueError("colour none changes nothing: leave it out beside others")
        return chains

    def uses(self, what: str) -> bool:
        """Return whether an augmentation has a true attribute of ``Colour``."""
        return any(getattr(COLOUR[name], what) for chain in self.chains for name in chain)

    def _check_ranges(self) -> None:
        if not 0.0 <= self.p <= 1.0:
            raise ValueError(f"p must be a probability in [0, 1], got {self.p}")
        if not 0.0 <= self.blend[0] <= self.blend[1] <= 1.0:
            raise ValueError(f"blend must be a rising pair in [0, 1], got {list(self.blend)}")
        if not 0.0 <= self.beta[0] <= self.beta[1] <= MOST_SHARE:
            raise ValueError(
                f"beta must be a rising pair in [0, {MOST_SHARE}], got {list(self.beta)}"
            )
        for name, lowest in (("gamma", 1e-3), ("gain", 0.0), ("offset", -1.0)):
            first, last = getattr(self, name)
            if not lowest <= first <= last < 1e3:
                raise ValueError(
                    f"{name} must be a rising pair of numbers of at least {lowest:g}, "
                    f"got [{first}, {last}]"
                )

    @property
    def jitters(self) -> bool:
        """Whether gamma, gain or offset varies the brightness."""
        return (self.gamma, self.gain, self.offset) != (_AS_IT_IS, _AS_IT_IS, (0.0, 0.0))


@dataclass(frozen=True)
class Imagery:
    """Properties of the chips whose colours are augmented.

    Attributes:
        dtype: dtype of the chips.
        low: black of each band, in value units.
        high: white of each band, in value units.
        bank: histograms of the target domain, for augmentations that draw from a bank.
        gsd_m: metres per pixel of the chips, or None if unknown.
    """

    dtype: np.dtype[Any]
    low: Sequence[float]
    high: Sequence[float]
    bank: HistogramBank | None = None
    gsd_m: float | None = None


Draw = Callable[[Histogram, np.random.Generator], PixelMap]
"""Function that draws the table of a chip, given its histogram or that of its whole image."""


class Mixer(Protocol):
    """Function that changes the pixels of a chip at random, in its dtype."""

    def __call__(
        self, image: NDArray[Any], valid: NDArray[np.uint8], *, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Return the chip (H, W, bands); values of pixels that are not valid have no meaning."""


@dataclass(frozen=True)
class Colour:
    """A colour augmentation.

    Attributes:
        text: description of the augmentation, in one line.
        table: function that builds the picklable function drawing the tables.
        filter: function that builds the transform of albumentations, for uint8 images with
            ``bands`` bands.
        mixer: function that builds the picklable function changing the pixels.
        from_bank: whether targets are drawn from a bank.
        from_spectra: whether the targets are the spectra of the bank.
        from_targets: whether pixels of the target domain are used, which the filter receives
            under the name ``REFERENCES``.
        bands: only number of bands that is supported; None for any number.
        gamma: fixed range of exponents that replaces the configured one.
        complaint: function that returns what is wrong with a configuration, or None.
    """

    text: str
    table: Callable[[ColourConfig, Imagery], Draw] | None = None
    filter: Callable[[ColourConfig], Any] | None = None
    mixer: Callable[[ColourConfig, Imagery], Mixer] | None = None
    from_bank: bool = False
    from_spectra: bool = False
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
    """Return the map that matches an image to a random image of a bank.

    Args:
        bank: histograms of the target domain.
        blend: range from which the blend is drawn.
        per_band: whether every band is matched separately.
        source: histogram of the image, or of the scene that it was cut from.
        rng: random generator.

    Raises:
        BankError: the bank holds no image of this dtype and number of bands.
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
        raise ConfigError(f"augment.colour '{config.colour}' needs a bank: give --bank FILE")
    return imagery.bank


def _drawn(bank: HistogramBank, source: Histogram, rng: np.random.Generator) -> Histogram:
    target = bank.sample(dtype=source.dtype, rng=rng)
    if source.bands != target.bands:
        raise BankError(
            f"the bank has {target.bands} bands of {target.dtype}, the images have {source.bands} "
            f"of {source.dtype}: build the bank from imagery of the same kind"
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

    return A.FDA(beta_limit=config.beta, metadata_key=REFERENCES, p=config.p)


def _spectrum(config: ColourConfig, imagery: Imagery) -> Mixer:
    bank = _bank(config, imagery)
    # An image that is nodata nearly everywhere may have a histogram, but no spectrum.
    known = [number for number, each in enumerate(bank.spectra) if each is not None]
    if not known:
        raise ConfigError(
            "augment.bank holds histograms only, and augment.colour 'spectrum' needs spectra too: "
            "build the bank with `rhm bank build`, without --no-spectrum"
        )
    if len(known) < len(bank):
        bank = HistogramBank(
            [bank.entries[number] for number in known],
            [bank.names[number] for number in known],
            weights=bank.weights[known],
            spectra=[bank.spectra[number] for number in known],
        )
        if config.sampling == "domain":
            bank = bank.weighted(config.sampling)  # among the images that are left
    return SpectrumMatching(bank, config.beta, imagery.gsd_m)


def _needs_no_range(config: ColourConfig) -> str | None:
    varied = "uses no gamma, gain or offset: choose jitter to vary them"
    return varied if config.jitters else None


def _needs_a_range(config: ColourConfig) -> str | None:
    return None if config.jitters else "needs a range: give augment.gamma, gain or offset"


def _has_its_range(config: ColourConfig) -> str | None:
    own = "has a fixed range: choose jitter to set another one"
    return own if config.gamma != _AS_IT_IS else None


COLOUR = {
    "none": Colour("colours stay as they are", complaint=_needs_no_range),
    "rhm": Colour(
        "randomized histogram matching: the histogram of a random image from the bank",
        table=_rhm,
        from_bank=True,
    ),
    "mean-std": Colour(
        "the mean and standard deviation of a random image from the bank",
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
    "spectrum": Colour(
        "Fourier domain adaptation with the low frequencies of a random image from the bank",
        mixer=_spectrum,
        from_bank=True,
        from_spectra=True,
    ),
    "random-convolution": Colour(
        "a random convolution, mixed with the chip (Xu et al., ICLR 2021)",
        mixer=lambda config, imagery: RandomConvolution(imagery.low, imagery.high),
    ),
    "shift": Colour(
        "random maps of known families (augment.shifts), those of rhm evaluate --shift",
        mixer=lambda config, imagery: RandomShift(config.shifts, imagery.high),
    ),
}
"""Colour augmentations, by their names in a configuration."""

FROM_BANK = tuple(name for name, entry in COLOUR.items() if entry.from_bank)
"""Colour augmentations that draw their targets from a bank."""
