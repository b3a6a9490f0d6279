"""The options of merging the footprints of scenes into one layer."""

from dataclasses import dataclass

from rhm.inference.settings.option import check_options, option


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """The options of merging the footprints of scenes into one layer.

    Raises:
        ConfigError: a value is not allowed.
    """

    crs: str | None = option(
        None,
        "Coordinate reference system of the merged layer, projected or of longitude and latitude, "
        "such as EPSG:32633.",
        depends="that of the scenes if they share one, otherwise EPSG:4326",
    )
    same: float = option(
        0.5,
        "Footprints of different scenes show the same building if one covers more than this share "
        "of the other.",
        least=0.05,
        most=1,
    )
    readers: int = option(1, "Number of scenes that are read at the same time.", least=1)
    resume: bool = option(False, "Continue an interrupted run.")
    overwrite: bool = option(
        False,
        "Replace the layer even if it was edited or was not written by this command. A folder must "
        "hold nothing but tiles.",
    )

    def __post_init__(self) -> None:
        check_options(self)
