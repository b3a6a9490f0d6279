"""The options of polygonisation: how probabilities become footprints."""

from dataclasses import dataclass

from rhm.errors import ConfigError
from rhm.inference.settings.option import check_options, option

AUTO = "auto"
"""Threshold with the highest expected IoU by the model's own probabilities in each scene."""

AUTO_ALL = "auto-all"
"""The same for all scenes of a run together."""


def threshold_of(text: str) -> float | str:
    """Return the threshold that a text means: a number, ``auto`` or ``auto-all``.

    Raises:
        ConfigError: it is none of these.
    """
    if text in (AUTO, AUTO_ALL):
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            f"threshold must be a number between 0 and 1, {AUTO} or {AUTO_ALL}, got '{text}'"
        ) from None


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
        "Minimum probability of a building pixel: a number, auto for the one that the "
        "probabilities of each scene imply, or auto-all for all scenes together.",
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
