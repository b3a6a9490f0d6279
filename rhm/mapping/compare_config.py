"""The options of comparing buildings with a map."""

from dataclasses import dataclass

from rhm.inference.settings.option import check_options, option


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """The options of comparing buildings with a map.

    Raises:
        ConfigError: a value is not allowed.
    """

    same: float = option(0.5, "Buildings with at least this IoU are matched.", least=0.05, most=1)
    touching: float = option(
        0.2,
        "A building that is not matched is changed, and neither new nor gone, if a building of "
        "the other layer covers more than this share of it, or the reverse.",
        least=0,
        most=1,
    )
    most_shift_m: float = option(
        15.0,
        "Longest shift between the layers to look for, in metres; 0 compares them as they are.",
        least=0,
        most=100,
    )
    overwrite: bool = option(
        False, "Replace results even if they were edited or were not written by this command."
    )

    def __post_init__(self) -> None:
        check_options(self)
