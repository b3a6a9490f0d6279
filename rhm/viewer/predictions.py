"""The predictions in a folder: which files belong together, and which are safe to show."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import pyarrow
import pyogrio.errors
import rasterio
from rasterio.io import DatasetReader

from rhm.data.rasters.gdal_options import GDAL_ERRORS, open_dataset, quiet_about_georeference
from rhm.data.rasters.raster_info import describe_dataset
from rhm.data.vectors.side_files import driver_of
from rhm.errors import ConfigError, RasterError, VectorError
from rhm.inference.inputs import find_named_scenes
from rhm.inference.layers.footprint_choice import (
    FootprintChoice,
    choose_footprints,
    notes_on_choices,
)
from rhm.inference.layers.vector_files import FORMATS
from rhm.inference.pixel_grid import PixelGrid
from rhm.inference.tiling.storage import (
    FINGERPRINT,
    PROBABILITIES,
    THRESHOLD,
    recorded_threshold,
)
from rhm.required_files import require_predictions

_PROBABILITY = "_probability.tif"
_IMAGES = (".tif", ".tiff")

# A GeoTIFF may have sidecar files that refer to further files.
_ALONE = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}


@dataclass(frozen=True)
class PredictionFiles:
    """The files of a predicted scene.

    Attributes:
        name: name of the scene.
        probability: raster of probabilities.
        height: height in pixels.
        width: width in pixels.
        pixel_m: side of a pixel in metres on the ground; None without georeference.
        threshold: probability from which pixels were predicted as building.
        buildings: file of footprints, if it exists. Of several formats, the one that belongs to the
            mask.
        image: the scene itself, if it was found.
        image_corner: row and column of the scene at which the prediction begins, which was cut to
            an area of interest if it does not cover the whole scene.
        image_inside: whether the scene was found in the folder, in which case it is not trusted.
        marks: file of the marks of footprints, which need not exist.
    """

    name: str
    probability: Path
    height: int
    width: int
    pixel_m: float | None
    threshold: float
    buildings: Path | None
    image: str | None
    image_corner: tuple[int, int]
    image_inside: bool
    marks: Path

    def open_probability(self) -> DatasetReader:
        """Open the raster of probabilities.

        Raises:
            RasterError: it cannot be read.
        """
        return open_alone(self.probability)

    def open_image(self) -> DatasetReader:
        """Open the scene.

        Raises:
            RasterError: the scene was not found, or cannot be read.
        """
        if self.image is None:
            raise RasterError(f"the scene of {self.name} was not found")
        return open_alone(Path(self.image)) if self.image_inside else open_dataset(self.image)


def open_alone(path: Path) -> DatasetReader:
    """Open a GeoTIFF without opening any other file that it refers to.

    A file named like a GeoTIFF may be a virtual raster, which can show any file of the machine.

    Raises:
        RasterError: the file is not a GeoTIFF.
    """
    try:
        with quiet_about_georeference(), rasterio.Env(**_ALONE):
            return rasterio.open(path, driver="GTiff")
    except GDAL_ERRORS as error:
        raise RasterError(f"{path} is not a GeoTIFF") from error


def read_vectors_alone(
    path: Path, read: Callable[[Path], gpd.GeoDataFrame] | None = None
) -> gpd.GeoDataFrame:
    """Read a vector file only in the format of its suffix.

    A file with such a name may be virtual and could show any file of the machine.

    Args:
        path: file in one of ``vector_files.FORMATS``.
        read: function that reads it; by default that of the format.

    Raises:
        VectorError: it cannot be read, or GDAL would read more than this file, or without end.
    """
    kind = FORMATS[path.suffix]
    try:
        with path.open("rb") as file:
            if not file.read(64).lstrip().startswith(kind.begins):
                raise VectorError(f"{path} is not {kind.driver}")
        if kind.by_gdal and (driver := driver_of(path)) != kind.driver:
            raise VectorError(f"{path} is {driver}, not {kind.driver}")
        frame = (read or kind.read)(path)
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        pyarrow.ArrowException,
        ValueError,
        OSError,
    ) as error:
        raise VectorError(f"{path} cannot be read: {error}") from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise VectorError(f"{path} contains no geometry")
    return frame


def find_predictions(
    folder: str | os.PathLike[str], scenes: Iterable[str] = (), *, asset: str | None = None
) -> tuple[list[PredictionFiles], list[str]]:
    """Find the results of ``rhm predict`` in a folder.

    Args:
        folder: folder of the results. Nothing outside it is opened, whatever links it contains.
        scenes: the predicted scenes, specified as for ``rhm predict``; others are searched for in
            the folder by their name.
        asset: name of the asset of STAC items that is the scene; by default, the image.

    Returns:
        The predictions in the order of their names, and notes about ignored files.

    Raises:
        ConfigError: it is not a folder, or contains no prediction.
        CatalogError: a scene does not exist, or the asset of a STAC item is to be chosen.
    """
    root = Path(folder)
    require_predictions(root)
    root = root.resolve()
    images = {scene.name: scene.path for scene in find_named_scenes(scenes, asset=asset)}
    found: list[PredictionFiles] = []
    choices: list[FootprintChoice] = []
    notes, alone = [], 0
    for path in sorted(root.glob(f"*{_PROBABILITY}")):
        if not _within(path, root):
            notes.append(f"{path.name} is a link that leads out of the folder, so it is ignored")
            continue
        try:
            prediction, choice, more = _prediction(path, root, images)
        except RasterError as error:
            notes.append(str(error))
            continue
        choices += [choice] if choice is not None else []
        found.append(prediction)
        notes += more
        alone += prediction.image is None and not more
    if not found:
        raise ConfigError("; ".join([f"{folder} contains no results of `rhm predict`", *notes]))
    notes += notes_on_choices(choices)
    if alone:
        who = f"the scene of {found[0].name} is" if len(found) == 1 else f"{alone} scenes are"
        notes.append(
            f"{who} not in the folder: name the predicted scenes with --scene to show them"
        )
    return found, notes


def _prediction(
    path: Path, root: Path, images: dict[str, str]
) -> tuple[PredictionFiles, FootprintChoice | None, list[str]]:
    name = path.name.removesuffix(_PROBABILITY)
    with open_alone(path) as raster:
        shape = (raster.height, raster.width)
        grid = PixelGrid.of(raster)
        # Of models with classes, further bands hold their other maps.
        ours = raster.count == 1 or PROBABILITIES in raster.tags()
        if not ours or raster.dtypes[0].startswith("complex"):
            raise RasterError(f"{path} contains no probabilities")
        pixel_m = describe_dataset(raster, str(path)).gsd_m
    image = images.get(name) or _beside(root, name)
    notes, corner = [], (0, 0)
    if image is not None:
        try:
            opened = open_dataset(image) if name in images else open_alone(Path(image))
            with opened as raster:
                found = PixelGrid.of(raster).corner_of(grid)
            problem = f"{image} is not what was predicted: its pixels are others"
            if found is not None:
                problem, corner = "", found
        except RasterError as error:
            problem = str(error)
        if problem:
            image = None
            notes.append(f"{name}: {problem}; its scene is not shown")
    tags = _tags_of(root / f"{name}_mask.tif", root)
    suffixes = (root / f"{name}_buildings{suffix}" for suffix in FORMATS)
    layers = [each for each in suffixes if each.is_file() and _within(each, root)]
    choice = choose_footprints(layers, tags.get(FINGERPRINT)) if layers else None
    marks = root / f"{name}_marks.gpkg"
    if not _within(marks, root):
        choice = None
        notes.append(f"{marks.name} is a link that leads out of the folder: move it away")
    files = PredictionFiles(
        name,
        path,
        *shape,
        pixel_m,
        _threshold(tags),
        None if choice is None else choice.path,
        image,
        corner,
        name not in images,
        marks,
    )
    return files, choice, notes


def _beside(root: Path, name: str) -> str | None:
    files = (root / f"{name}{suffix}" for suffix in _IMAGES)
    return next((str(each) for each in files if each.is_file() and _within(each, root)), None)


def _tags_of(mask: Path, root: Path) -> dict[str, str]:
    """Return the tags of a mask; none if it is not there, or cannot be read."""
    if not mask.is_file() or not _within(mask, root):
        return {}
    try:
        with open_alone(mask) as raster:
            return dict(raster.tags())
    except RasterError:
        return {}


def _threshold(tags: Mapping[str, str]) -> float:
    """Return the threshold in the tags of a mask, or one half if there is none."""
    found = recorded_threshold(tags.get(THRESHOLD))
    return 0.5 if found is None else found


def _within(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root)
