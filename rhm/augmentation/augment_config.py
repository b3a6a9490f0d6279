"""The section ``augment`` of a configuration: what varies training chips."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rhm.augmentation.colours import ColourConfig
from rhm.augmentation.geometry import GEOMETRY, read_geometry


@dataclass(frozen=True)
class AugmentConfig(ColourConfig):
    """What varies training chips, in colour and in geometry.

    The settings of ``ColourConfig`` stand beside this one.

    Attributes:
        geometry: the geometric augmentations by name, each with its value; None turns one off,
            and one that is not named has its default. ``flips``: whether chips are mirrored and
            turned by quarters, true by default. ``scale``: a range of ground sampling distances
            around the model's to read chips at, as factors of it: ``[0.6, 1.6]`` is from finer
            to coarser, drawn log-uniformly. ``paste``: probability of pasting buildings of
            another chip of the same domain and type of imagery.
    """

    geometry: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "geometry", read_geometry(self.geometry))

    @property
    def names(self) -> tuple[str, ...]:
        """What a report calls the augmentation: its colour, if any, and unusual geometry."""
        return (*([] if self.colour == "none" else [self.colour]), *self.unusual_geometry)

    @property
    def unusual_geometry(self) -> tuple[str, ...]:
        """The geometric augmentations that are on and usually are not; ``no``: the other way."""
        usual = read_geometry({})
        return tuple(
            name if value is not None else f"no {name}"
            for name, value in self.geometry.items()
            if value != usual[name]
        )

    @property
    def mixing(self) -> tuple[str, ...]:
        """The geometric augmentations that bring pixels of several images together in a chip."""
        chosen = (name for name, value in self.geometry.items() if value is not None)
        return tuple(name for name in chosen if GEOMETRY[name].mixes_images)
