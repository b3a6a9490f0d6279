"""The options of a prediction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rhm.errors import ConfigError
from rhm.inference.settings.option import option, part_of
from rhm.inference.settings.polygon_config import PolygonConfig
from rhm.inference.settings.tile_config import Tiling

# Imported when choices are looked at: listing the options of a command costs none of this.


def _formats() -> Iterable[str]:
    from rhm.inference.vector_files import format_names

    return format_names()


def _dtypes() -> Iterable[str]:
    from rhm.inference.tiling.storage import STORAGES

    return STORAGES


def _compressions() -> Iterable[str]:
    from rhm.data.rasters.cog import COMPRESSIONS

    return COMPRESSIONS


def band_numbers(text: str) -> tuple[int, ...]:
    """Read ``3,2,1``.

    Raises:
        ConfigError: the text is not a list of numbers from 1.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise ConfigError(f"'{text}' is not a list of band numbers such as 3,2,1")
    return numbers


@dataclass(frozen=True, kw_only=True)
class PredictionConfig(Tiling):
    """How a scene is predicted.

    An option that is added here, to ``Tiling`` or to ``PolygonConfig`` is one of ``predict_raster``
    or ``polygonize`` and of ``rhm predict``. Footprints are made as ``polygons`` says, by default
    at the model's threshold and no more.

    Raises:
        ConfigError: a value is not allowed.
    """

    suffix: str = option(
        ".gpkg",
        "Format of the footprints: {choices}.",
        choices=_formats,
        noun="format",
        flag="--format",
        command="gpkg",
        parse=lambda name: f".{name}",
    )
    bands: Sequence[int] | None = option(
        None, "Bands to read, from 1, as 3,2,1; by default all but alpha.", parse=band_numbers
    )
    black_is_nodata: bool = option(False, "Pixels that are zero in all bands have no data.")
    resample: bool = option(
        False, "Predict at the model's metres per pixel; the results are on the scene's own grid."
    )
    dtype: str = option(
        "float32",
        "Type of the probability raster: {choices}.",
        choices=_dtypes,
        command="uint8",
    )
    compress: str = option(
        "deflate",
        "Compression of the rasters: {choices}.",
        choices=_compressions,
        noun="compression",
    )
    skip_errors: bool = option(False, "Damaged blocks of a scene are nodata.")
    resume: bool = option(
        False,
        "Go on where an earlier run was cut short, leave results that are there, and make other "
        "footprints of probabilities that are there.",
    )
    polygons: PolygonConfig | None = None

    @property
    def tiling(self) -> Tiling:
        """How the scene is cut."""
        return part_of(self, Tiling)
