"""The options of a prediction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rhm.errors import ConfigError
from rhm.inference.settings.option import option, part_of
from rhm.inference.settings.polygon_config import PolygonConfig
from rhm.inference.settings.tile_config import Tiling
from rhm.required_files import require_area

if TYPE_CHECKING:
    from rhm.data.vectors.area_of_interest import AreaOfInterest
else:
    AreaOfInterest = Any

# The choices are imported when they are needed, so that a command can list its options quickly.


def _formats() -> Iterable[str]:
    from rhm.inference.layers.vector_files import format_names

    return format_names()


def _dtypes() -> Iterable[str]:
    from rhm.inference.tiling.storage import STORAGES

    return STORAGES


def _compressions() -> Iterable[str]:
    from rhm.data.rasters.cog import COMPRESSIONS

    return COMPRESSIONS


def read_area(text: str) -> AreaOfInterest:
    """Return the area that a file or a box describes; see ``area_of_interest.read_area``."""
    require_area(text)  # before imports that take time
    from rhm.data.vectors.area_of_interest import read_area

    return read_area(text)


def band_numbers(text: str) -> tuple[int, ...]:
    """Return the band numbers in a text such as ``3,2,1``.

    Raises:
        ConfigError: the text is not a list of integers of at least 1.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise ConfigError(f"'{text}' is not a list of band numbers, counted from 1, such as 3,2,1")
    return numbers


@dataclass(frozen=True, kw_only=True)
class PredictionConfig(Tiling):
    """The options of a prediction.

    An option that is added here, to ``Tiling`` or to ``PolygonConfig`` becomes an argument of
    ``predict_raster`` or ``polygonize``, and an option of ``rhm predict``. ``polygons`` holds the
    options of the footprints; by default they are traced at the threshold of the model and not
    changed.

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
    aoi: AreaOfInterest | None = option(  # noqa: RUF009 (a field)
        None,
        "Area of interest: a vector file, or a box left,bottom,right,top in degrees. Only what "
        "lies there is predicted.",
        parse=read_area,
    )
    bands: Sequence[int] | None = option(
        None,
        "Bands to read, counted from 1, such as 3,2,1; by default all except alpha.",
        parse=band_numbers,
    )
    black_is_nodata: bool = option(False, "Treat pixels that are zero in all bands as nodata.")
    resample: bool | None = option(
        None,
        "Predict at the resolution of the model, on square pixels, or with --no-resample at that "
        "of the scene; the results are on the grid of the scene.",
        flag="--resample/--no-resample",
        depends="where the pixels of a scene differ from those of the training imagery",
    )
    fit_tiles: bool = option(
        False,
        "Choose the tiles for every scene: at least as large as --tile, and as large as wastes "
        "least and fits into memory.",
    )
    dtype: str = option(
        "float32",
        "Data type of the probability raster: {choices}.",
        choices=_dtypes,
        command="uint8",
    )
    compress: str = option(
        "deflate",
        "Compression of the rasters: {choices}.",
        choices=_compressions,
        noun="compression",
    )
    skip_errors: bool = option(False, "Treat damaged blocks of a scene as nodata.")
    resume: bool = option(
        False,
        "Continue an interrupted run, keep finished results, and reuse existing probabilities for "
        "footprints with other options.",
    )
    overwrite: bool = option(
        False,
        "Replace results even if they were edited, belong to another scene of the same name, or "
        "were not written by a prediction.",
    )
    polygons: PolygonConfig | None = None

    @property
    def tiling(self) -> Tiling:
        """The options of the tiles."""
        return part_of(self, Tiling)
