"""The colour augmentation of a run, as a configuration says it.

Apart from ``rhm.colour.augmentation``, which does it, so that a configuration is read without
importing albumentations.
"""

from dataclasses import dataclass
from typing import ClassVar

from rhm.colour.histogram_bank import SAMPLING

COLOUR = ("none", "rhm", "mean-std", "jitter", "gamma", "color-jitter", "hsv", "fda")
"""Colour augmentations by the name that a configuration gives."""

FROM_BANK = ("rhm", "mean-std")
"""Those that draw their targets from a bank."""

SOURCES_BANK = "sources"
"""In the place of a bank's path: a bank of the training images themselves."""

STATISTICS = ("chip", "scene")
"""Whose histogram is the source of a match: the training chip's, or its whole image's."""


@dataclass(frozen=True)
class AugmentConfig:
    """The colour augmentation of a run; flips and quarter turns are always drawn.

    Attributes:
        colour: one of ``COLOUR``. ``rhm``: randomized histogram matching. ``mean-std``: the
            mean and spread of a random target. ``jitter``: only what the three ranges below
            say. ``gamma``: exponents between 1/2 and 2. ``color-jitter``, ``hsv``: those of
            albumentations. ``fda``: Fourier domain adaptation (Yang, Soatto, CVPR 2020).
        bank: path of the target domain's histogram bank, for ``rhm`` and ``mean-std``; or
            ``sources``, for a bank of the training images themselves.
        targets: domains of the catalog whose images ``fda`` borrows its amplitudes from.
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
    gamma: tuple[float, float] = (1.0, 1.0)
    gain: tuple[float, float] = (1.0, 1.0)
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
        if self.bank and self.colour not in FROM_BANK:
            raise ValueError(f"a bank is for colour {' or '.join(FROM_BANK)}, not {self.colour}")
        if self.colour in FROM_BANK and not self.bank:
            raise ValueError(f"colour {self.colour} needs a bank: give augment.bank or --bank FILE")
        if self.colour == "fda" and not self.targets:
            raise ValueError("colour fda needs images of the target: give augment.targets")
        if not 0.0 <= self.p <= 1.0:
            raise ValueError("p is a probability in [0, 1]")
        if not 0.0 <= self.blend[0] <= self.blend[1] <= 1.0:
            raise ValueError("blend is a rising pair in [0, 1]")
        self._check_ranges()

    def _check_ranges(self) -> None:
        for name, lowest in (("gamma", 1e-3), ("gain", 0.0), ("offset", -1.0)):
            first, last = getattr(self, name)
            if not lowest <= first <= last < 1e3:
                raise ValueError(f"{name} is a rising pair from {lowest:g}")
        if self.colour == "none" and self.jitters:
            raise ValueError("colour none varies nothing: choose jitter for gamma, gain and offset")
        if self.colour == "jitter" and not self.jitters:
            raise ValueError("colour jitter needs a range: give augment.gamma, gain or offset")
        if self.colour == "gamma" and self.gamma != (1.0, 1.0):
            raise ValueError("colour gamma has its own range: choose jitter for another")

    @property
    def jitters(self) -> bool:
        """Whether any of gamma, gain and offset varies brightness."""
        return (self.gamma, self.gain, self.offset) != ((1.0, 1.0), (1.0, 1.0), (0.0, 0.0))
