"""The section ``augment`` of a configuration: the augmentation of training chips."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rhm.augmentation.colours import SOURCES_BANK, ColourConfig
from rhm.augmentation.geometry import GEOMETRY, read_geometry
from rhm.colour.histogram_bank import HistogramBank
from rhm.errors import BankError

RECIPE: dict[str, Any] = {"colour": "spectrum", "geometry": {"scale": [0.6, 1.6]}}
"""What a bank turns on where no colour is chosen (docs/benchmarks.md, "A new city without
labels")."""

WITHOUT_SPECTRA = {"colour": "rhm"}
"""What replaces the colour of the recipe if the bank has histograms only, if it consists of the
training images, or if the section has a setting that only ``rhm`` reads."""

_OF_RHM = ("blend", "per_band", "statistics")


def with_recipe(augment: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section ``augment`` with the recipe, if it has a bank and chooses no colour.

    Other settings of the section are kept, and so is a geometry that it names.

    Args:
        augment: the section as it was written, which may be wrong.
    """
    bank = augment.get("bank")
    if not isinstance(bank, str) or not bank or "colour" in augment:
        return dict(augment)
    plain = any(name in augment for name in _OF_RHM) or not _has_spectra(bank)
    recipe = RECIPE | WITHOUT_SPECTRA if plain else RECIPE
    given = augment.get("geometry", {})
    if isinstance(given, Mapping):
        augment = {**augment, "geometry": {**recipe["geometry"], **given}}
    return {**recipe, **augment}


def _has_spectra(bank: str) -> bool:
    if bank == SOURCES_BANK:
        return False
    try:
        return any(each is not None for each in HistogramBank.load(bank).spectra)
    except BankError:
        return False  # whoever needs the bank says what is wrong with it


@dataclass(frozen=True)
class AugmentConfig(ColourConfig):
    """The augmentation of training chips: the settings of ``ColourConfig`` and the geometry.

    Attributes:
        geometry: value of each geometric augmentation, by name. None turns an augmentation off,
            and one that is not named has its default. ``flips``: whether chips are mirrored and
            rotated by quarter turns; true by default. ``scale``: range of the ground sampling
            distances at which chips are read, as factors of the model's, such as ``[0.6, 1.6]``
            from finer to coarser; drawn log-uniformly. ``paste``: probability of pasting the
            buildings of another chip of the same domain and dtype.
        mixstyle: probability, for each stage by itself, that the statistics of the features of a
            batch are mixed between its chips; 0 turns this off.
        mixstyle_stages: stages of the encoder whose statistics are mixed.
        mixstyle_alpha: parameter of the Beta distribution of the shares of the mix.
    """

    geometry: Mapping[str, Any] = field(default_factory=dict)
    mixstyle: float = 0.0
    mixstyle_stages: tuple[int, ...] = (1, 2)
    mixstyle_alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.mixstyle <= 1.0:
            raise ValueError(f"mixstyle must be a probability in [0, 1], got {self.mixstyle}")
        if not 0.0 < self.mixstyle_alpha <= 100.0:
            raise ValueError("mixstyle_alpha must be above 0 and at most 100")
        object.__setattr__(self, "geometry", read_geometry(self.geometry))

    @property
    def names(self) -> tuple[str, ...]:
        """Names in reports: the colour augmentation, if any, MixStyle, and unusual geometry."""
        colour = [] if self.colour == "none" else [self.colour]
        return (*colour, *(["mixstyle"] if self.mixstyle else []), *self.unusual_geometry)

    @property
    def unusual_geometry(self) -> tuple[str, ...]:
        """Geometric augmentations with unusual values; ``no`` precedes those turned off."""
        usual = read_geometry({})
        return tuple(
            name if value is not None else f"no {name}"
            for name, value in self.geometry.items()
            if value != usual[name]
        )

    @property
    def mixing(self) -> tuple[str, ...]:
        """Geometric augmentations that combine pixels of several images in one chip."""
        chosen = (name for name, value in self.geometry.items() if value is not None)
        return tuple(name for name in chosen if GEOMETRY[name].mixes_images)

    @property
    def unmixed_geometry(self) -> dict[str, Any]:
        """The values of all geometric augmentations, with those that mix images turned off."""
        return dict(self.geometry) | dict.fromkeys(self.mixing)
