"""Labels made of marked footprints, to train or adapt a model with.

Where a user has marked footprints, the ground around them was looked at, too. A label is therefore
known within a distance of marked footprints: building inside those that are right, background
elsewhere, and unknown inside footprints without a mark. Everything farther away is unknown, and so
is what was not predicted of the scene.
"""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.windows import Window

from rhm.data.labels import IGNORE
from rhm.data.rasters.gdal_options import GDAL_ERRORS, quiet_about_georeference
from rhm.data.rasters.raster_info import describe_dataset
from rhm.errors import ConfigError, OutputError, one_line
from rhm.files import atomic_path, write_text
from rhm.inference.pixel_grid import PixelGrid
from rhm.remote_files import is_address
from rhm.viewer.footprint_layer import on_raster
from rhm.viewer.marks import MARKS, read_marks
from rhm.viewer.predictions import PredictionFiles, find_predictions, read_vectors_alone

TABLE = "labels.csv"
"""File name of the table of labels, which ``rhm data index folder --table`` reads."""

_ROWS = 512  # of a label that are drawn at a time; a multiple of the side of a block
_BLOCK = 256
_FARTHEST_M = 1e6


@dataclass(frozen=True)
class MarkedLabel:
    """A label that was made of marks.

    Attributes:
        label: its raster, on the pixels of the scene: 1 for building, 0 for background, 255 where
            nothing is known.
        image: the scene.
        keep: number of footprints that were marked as right.
        wrong: number of those that were marked as wrong.
    """

    label: Path
    image: str
    keep: int
    wrong: int


def write_marked_labels(
    folder: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    scenes: Iterable[str] = (),
    asset: str | None = None,
    around_m: float = 10.0,
    overwrite: bool = False,
) -> tuple[list[MarkedLabel], list[str]]:
    """Write a label for every scene with marks, and the table that lists them with their scenes.

    Args:
        folder: folder of the results of ``rhm predict``, with marks of ``rhm view``.
        dst: folder for the labels.
        scenes: the predicted scenes; see ``find_predictions``.
        asset: name of the asset of STAC items that is the scene; by default, the image.
        around_m: distance from marked footprints within which the label is known, in metres, or in
            pixels if a scene has no georeference.
        overwrite: whether to replace files that exist.

    Returns:
        The labels in the order of their names, and notes about what was left out.

    Raises:
        ConfigError: no scene has marks, or the folder has no results.
        CatalogError: a scene does not exist, or the asset of a STAC item is to be chosen.
        VectorError: marks or footprints cannot be read.
        RasterError: a result cannot be read.
        OutputError: a label exists, or cannot be written.
    """
    if not 0.0 <= around_m < _FARTHEST_M:
        raise ConfigError(f"around_m must be from 0 to {_FARTHEST_M:g}, got {around_m}")
    predictions, notes = find_predictions(folder, scenes, asset=asset)
    target = Path(dst)
    if not overwrite:
        _check_free([target / TABLE, *(_label_of(each, target) for each in predictions)])
    labels, left_out = [], []
    for prediction in predictions:
        marked = read_marks(prediction.marks)
        if not marked:
            continue
        missing = _why_unusable(prediction.image)
        if prediction.image is None or missing:
            left_out.append(f"{prediction.name} has marks, but {missing}")
            continue
        label = _label_of(prediction, target)
        if not _write_label(prediction, label, around_m):
            notes.append(f"the marks of {prediction.name} lie outside what was predicted")
        marks = [each.mark for each in marked]
        labels.append(MarkedLabel(label, prediction.image, *(marks.count(m) for m in MARKS)))
    if not labels:
        why = f"no scene in {os.fspath(folder)} has marks: make some in `rhm view`"
        raise ConfigError("; ".join(left_out or [why]))
    _write_table(labels, target / TABLE)
    return labels, [*notes, *left_out]


def _why_unusable(image: str | None) -> str:
    """Return why labels of a scene could not be used; empty if they can."""
    if image is None:
        return "its scene was not found: name it with --scene"
    if is_address(image) or image.startswith("/vsi"):
        return "catalogs hold images on this machine only: download its scene, and name the copy"
    return ""


def _label_of(prediction: PredictionFiles, folder: Path) -> Path:
    return folder / f"{prediction.name}_label.tif"


def _check_free(paths: Iterable[Path]) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise OutputError(f"{path} exists: choose another folder, or pass --overwrite")


def _write_table(labels: list[MarkedLabel], path: Path) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "label"])
    for each in labels:
        table.writerow([os.path.abspath(each.image), each.label.name])
    write_text(path, text.getvalue())


def _write_label(prediction: PredictionFiles, path: Path, around_m: float) -> bool:
    """Write a label on the grid of the scene, and return whether anything in it is known."""
    known = False
    right, wrong, unmarked = _polygons(prediction)
    with prediction.open_probability() as raster:
        near = _surroundings(np.concatenate([right, wrong]), raster, around_m)
    with prediction.open_image() as image:
        grid = PixelGrid.of(image)
    profile = {
        "driver": "GTiff",
        "width": grid.width,
        "height": grid.height,
        "count": 1,
        "dtype": "uint8",
        "nodata": IGNORE,
        "crs": grid.crs,
        "compress": "deflate",
        "tiled": True,
        "blockxsize": _BLOCK,
        "blockysize": _BLOCK,
        "BIGTIFF": "IF_SAFER",
    }
    if grid.gcps:
        profile["gcps"] = list(grid.gcps)
    elif grid.transform != Affine.identity():
        profile["transform"] = grid.transform
    drawn = ((near, 0), (unmarked, IGNORE), (wrong, 0), (right, 1))
    with atomic_path(path) as temporary:
        try:
            with quiet_about_georeference(), rasterio.open(temporary, "w", **profile) as label:
                for rows in _bands(grid.height):
                    band = _drawn(drawn, prediction, rows, grid.width)
                    known = known or bool((band != IGNORE).any())
                    label.write(band, 1, window=Window(0, rows.start, grid.width, len(rows)))
        except GDAL_ERRORS as error:
            raise OutputError(f"cannot write {path}: {one_line(error)}") from error
    return known


def _polygons(prediction: PredictionFiles) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return right, wrong and unmarked footprints in pixels of the prediction."""
    marked = read_vectors_alone(prediction.marks)
    marked = marked[marked["mark"].notna()]
    marks = marked["mark"].to_numpy()
    placed = on_raster(marked, prediction)
    unmarked = np.array([], dtype=object)
    if prediction.buildings is not None:
        frame = read_vectors_alone(prediction.buildings)
        known = set(shapely.to_wkb(marked.geometry.to_numpy()))
        new = [outline not in known for outline in shapely.to_wkb(frame.geometry.to_numpy())]
        unmarked = on_raster(frame[new], prediction)
    return placed[marks == "keep"], placed[marks == "wrong"], unmarked


def _surroundings(polygons: NDArray[Any], raster: DatasetReader, around_m: float) -> NDArray[Any]:
    """Return polygons with what is around them, in pixels, which need not be square."""
    info = describe_dataset(raster, raster.name)
    along = np.array([info.pixel_aspect or 1.0, 1.0])
    # The side of a pixel is the mean of both; see describe_dataset.
    high = 1.0 if info.gsd_m is None else info.gsd_m / np.sqrt(along[0])
    square = shapely.transform(polygons, lambda points: points * along)
    wide = shapely.buffer(square, around_m / high)
    return np.asarray(shapely.transform(wide, lambda points: points / along), dtype=object)


def _bands(height: int) -> Iterator[range]:
    return (range(first, min(first + _ROWS, height)) for first in range(0, height, _ROWS))


def _drawn(
    drawn: Iterable[tuple[NDArray[Any], int]], prediction: PredictionFiles, rows: range, width: int
) -> NDArray[np.uint8]:
    """Return rows of the scene; what was not predicted is unknown."""
    band = np.full((len(rows), width), IGNORE, np.uint8)
    row, col = prediction.image_corner
    first, last = np.clip([row, row + prediction.height], rows.start, rows.stop).tolist()
    inside = band[first - rows.start : last - rows.start, col : col + prediction.width]
    if not inside.size:
        return band
    part = np.full(inside.shape, IGNORE, np.uint8)
    place = Affine.translation(0, first - row)
    box = shapely.box(0, first - row, prediction.width, last - row)
    for polygons, value in drawn:
        here = polygons[shapely.intersects(polygons, box)]
        if len(here):
            rasterize(here, out=part, transform=place, default_value=value)
    inside[:] = part
    return band
