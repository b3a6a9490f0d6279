"""How probabilities become footprints."""

from dataclasses import dataclass

from rhm.inference.settings.option import check_options, option


@dataclass(frozen=True)
class PolygonConfig:
    """How probabilities become footprints.

    Lengths and areas are metres and square metres on the ground. See
    :func:`rhm.inference.regularization.regularize` for straight walls and ``watershed.Watershed``
    for necks. Python's defaults leave outlines as they were traced; those of the command line make
    footprints for maps.

    Raises:
        ConfigError: a number is not allowed.
    """

    threshold: float = option(
        0.5,
        "Probability from which a pixel is building.",
        least=0,
        most=1,
        depends="the model's",
    )
    min_area_m2: float = option(
        0.0,
        "Drop footprints smaller than this, measured after simplification.",
        least=0,
        command=5.0,
    )
    simplify_m: float = option(
        0.0,
        "Tolerance of Douglas-Peucker simplification; 0 keeps every corner of every pixel.",
        least=0,
        command=0.5,
    )
    min_score: float = option(
        0.0, "Drop footprints whose mean probability is lower.", least=0, most=1
    )
    regularize_m: float = option(
        0.0,
        "Tolerance of straight walls at right angles, instead of simplification: try 2 or 3 "
        "pixels; 0 leaves outlines as they were traced.",
        least=0,
    )
    split_m: float = option(
        0.0,
        "Split buildings at necks narrower than either part by this on both sides; 0 never splits.",
        least=0,
        command=3.0,
    )

    def __post_init__(self) -> None:
        check_options(self)
