"""The options of polygonisation: how probabilities become footprints."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rhm.errors import ConfigError
from rhm.inference.settings.option import check_options, option

if TYPE_CHECKING:
    from rhm.models.expected_iou import ExpectedIoU

AUTO = "auto"
"""Threshold with the highest expected IoU by the model's own probabilities in each scene."""

AUTO_ALL = "auto-all"
"""The same for all scenes of a run together."""

_SHARE = re.compile(r"(\d{1,2}(?:\.\d{1,6})?) ?%", re.ASCII)


def threshold_of(text: str) -> float | str:
    """Return the threshold that a text means: a number, or text if scenes have to choose it.

    Raises:
        ConfigError: it is neither a number, nor ``auto``, ``auto-all`` or a share such as ``40%``.
    """
    if text in (AUTO, AUTO_ALL) or share_of(text) is not None:
        return text
    try:
        found = float(text)
        if 1.0 < found < 100.0:
            raise ConfigError(
                f"threshold must be between 0 and 1, got {text}; for a share of the "
                f"pixels, write {text}%"
            )
        return found
    except ValueError:
        raise ConfigError(
            f"threshold must be a number between 0 and 1, {AUTO}, {AUTO_ALL} or a share of "
            f"building pixels such as 40%, got '{text}'"
        ) from None


def share_of(threshold: float | str) -> float | None:
    """Return the share of building pixels that a threshold such as ``40%`` asks for, or None."""
    found = _SHARE.fullmatch(threshold) if isinstance(threshold, str) else None
    share = 0.0 if found is None else float(found[1]) / 100.0
    return share if 0.0 < share < 1.0 else None


def is_common(threshold: float | str) -> bool:
    """Return whether all scenes of a run together choose a threshold."""
    return threshold == AUTO_ALL or share_of(threshold) is not None


def chosen_threshold(counted: "ExpectedIoU", threshold: float | str) -> float | None:
    """Return the threshold that counted probabilities imply, or None if they imply too little.

    Args:
        counted: probabilities of a scene, or of all.
        threshold: how to choose it: ``auto``, ``auto-all`` or a share such as ``40%``.
    """
    share = share_of(threshold)
    return counted.implied_threshold() if share is None else counted.threshold_of_share(share)


@dataclass(frozen=True)
class PolygonConfig:
    """The options of polygonisation.

    Lengths are in metres and areas in square metres on the ground. See
    :func:`rhm.inference.regularization.regularize` for straight walls and ``watershed.Watershed``
    for necks. The defaults in Python leave outlines as they were traced; those of the command line
    give footprints for maps.

    Raises:
        ConfigError: a number is not allowed.
    """

    threshold: float | str = option(
        0.5,
        "Minimum probability of a building pixel: a number; auto for the one that the "
        "probabilities of each scene imply, or auto-all for all scenes together; or a share such "
        "as 40% for the one above which so many pixels of all scenes together lie.",
        least=0,
        most=1,
        depends="the threshold of the model",
        parse=threshold_of,
    )
    min_area_m2: float = option(
        0.0,
        "Minimum area of a footprint in square metres, measured after simplification.",
        least=0,
        command=5.0,
    )
    simplify_m: float = option(
        0.0,
        "Tolerance of Douglas-Peucker simplification in metres; 0 keeps the corners of all pixels.",
        least=0,
        command=0.5,
    )
    min_score: float = option(
        0.0,
        "Minimum score of a footprint: its precision at IoU 0.5, as measured in validation, if the "
        "model records that; otherwise its mean probability.",
        least=0,
        most=1,
    )
    regularize_m: float = option(
        0.0,
        "Tolerance in metres of regularisation to straight walls at right angles, which replaces "
        "simplification: try 2 or 3 pixels; 0 turns it off.",
        least=0,
    )
    separate: float = option(
        0.3,
        "Separate buildings between which the probability of their inside falls by this much, if "
        "the model has learned to; 0 turns it off.",
        # Earlier predictions, none of which used it, keep their fingerprints.
        repr=False,
        least=0,
        most=1,
    )
    split_m: float = option(
        0.0,
        "Split buildings at necks that are narrower than both parts by this length, in metres, on "
        "either side; 0 turns it off. Models that separate buildings themselves do not need it.",
        least=0,
        command=3.0,
    )

    def __post_init__(self) -> None:
        check_options(self)
        if isinstance(self.threshold, str):
            threshold_of(self.threshold)

    @property
    def fixed_threshold(self) -> float:
        """The threshold, which must have been chosen.

        Raises:
            ConfigError: it is still to be chosen.
        """
        if isinstance(self.threshold, str):
            raise ConfigError(f"threshold {self.threshold} is for scenes: give a number")
        return self.threshold
