"""The plan of a prediction, made before anything is predicted."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rhm
from rhm.data.radiometry import Scaling, histogram_of
from rhm.data.rasters.gdal_options import open_dataset
from rhm.data.rasters.georeference import ONE, GridScale, scale_between
from rhm.data.rasters.raster import describe
from rhm.data.rasters.raster_info import RasterInfo
from rhm.data.rasters.scene_identity import SceneIdentity, scene_identity
from rhm.errors import OutputError, RasterError
from rhm.files import check_kind
from rhm.inference.inputs import origin_of
from rhm.inference.layers.vector_files import (
    FORMATS,
    KEEP_IT,
    check_closed,
    check_format,
    check_replaceable,
)
from rhm.inference.pixel_grid import PixelGrid
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.runtime.identity import NetworkIdentity
from rhm.inference.runtime.tta import Network
from rhm.inference.scene_lists.scene_dates import date_of
from rhm.inference.scene_lists.scene_names import NamedScene, name_of
from rhm.inference.settings.polygon_config import AUTO, PolygonConfig
from rhm.inference.suitability import (
    difference,
    imagery_notes,
    resolution_note,
    undeclared_nodata,
)
from rhm.inference.tiling.scene_area import SceneArea, scene_area
from rhm.inference.tiling.storage import ORIGIN, fingerprint_of, is_raster_as_left
from rhm.inference.tiling.stream import Grid, Tiling, classes_of
from rhm.inference.tiling.strips import StripSource, Task
from rhm.models.building_classes import maps_of
from rhm.models.expected_iou import LEAST_IMPLIED
from rhm.models.score_calibration import ScoreCalibration
from rhm.models.spec import ModelSpec
from rhm.required_files import is_local
from rhm.system import memory_bytes

LARGEST_TILE = 1536
"""Largest side of a tile that is chosen for a scene."""

_BYTES_PER_PIXEL = 1000
"""Memory that the usual networks take for a pixel of a batch."""

_SHARE_OF_MEMORY = 0.25


@dataclass(frozen=True)
class Outputs:
    """The files of a predicted scene.

    Attributes:
        probability: cloud-optimised GeoTIFF of probabilities, nodata where the scene is nodata.
        mask: cloud-optimised GeoTIFF of 0 and 1, nodata 255.
        buildings: vector file of footprints with ``score`` and ``area_m2``.
    """

    probability: Path
    mask: Path
    buildings: Path

    @classmethod
    def of(cls, src: str | os.PathLike[str], dst: str | os.PathLike[str], suffix: str) -> "Outputs":
        """Return the files of a scene in a folder."""
        folder, stem = Path(dst), name_of(src)
        return cls(
            folder / f"{stem}_probability.tif",
            folder / f"{stem}_mask.tif",
            folder / f"{stem}_buildings{suffix}",
        )

    @property
    def unfinished(self) -> Path:
        """Hidden folder of the finished parts of an unfinished prediction."""
        stem = self.mask.name.removesuffix("_mask.tif")
        return self.mask.with_name(f".{stem}.rhm-parts")

    @property
    def earlier_buildings(self) -> list[Path]:
        """Existing footprints of the scene in other formats, which earlier predictions wrote."""
        others = (self.buildings.with_suffix(suffix) for suffix in FORMATS)
        return [path for path in others if path != self.buildings and path.is_file()]

    def check_free(self, origin: str, *, part: PixelGrid | None, overwrite: bool) -> None:
        """Check that the files can be written, and that this loses no work of the user.

        Args:
            origin: origin of the scene.
            part: pixels that are predicted, if they are only a part of the scene.
            overwrite: whether to replace files that are not unchanged results of this scene, or
                that cover more than the part.

        Raises:
            OutputError: a folder has the name of a result; a program has a file open; or a file
                would be lost.
        """
        for target in (self.buildings, self.probability, self.mask):
            check_kind(target)
        check_closed(self.buildings)
        if overwrite:
            return
        check_replaceable(self.buildings, origin)
        for target in (self.probability, self.mask):
            _check_replaceable(target, origin, part)


def _check_replaceable(raster: Path, origin: str, part: PixelGrid | None) -> None:
    fingerprint, found = fingerprint_of(raster), fingerprint_of(raster, ORIGIN)
    if fingerprint is None and not (raster.is_file() and raster.stat().st_size):
        return
    if not fingerprint:
        raise OutputError(f"{raster} exists and was not written by a prediction: {KEEP_IT}")
    if found != origin:
        raise OutputError(f"{raster} holds the results of another scene of this name: {KEEP_IT}")
    if not is_raster_as_left(raster):
        raise OutputError(f"{raster} was edited after its prediction: {KEEP_IT}")
    if part is not None:
        with open_dataset(raster) as dataset:
            if not part.contains(PixelGrid.of(dataset)):
                raise OutputError(
                    f"{raster} covers ground outside the area of interest, which would be lost: "
                    f"{KEEP_IT}"
                )


@dataclass(frozen=True)
class Plan:
    """The plan of a scene's prediction.

    Attributes:
        scene: properties of the scene, cut to the area of interest if there is one.
        area: area of interest on the scene; None for all of it.
        outputs: files of the results.
        task: settings that determine the probabilities.
        grid: tiles that are predicted.
        config: options of the prediction.
        polygons: options of the footprints, with the threshold filled in unless it is chosen by
            the probabilities.
        expected_iou_at_home: expected IoU of the model on its validation chips; None if it does
            not record it.
        own_threshold: threshold of the model, to which its expected IoU refers.
        calibration: calibration of the scores of footprints; None if they are mean probabilities.
        maps: names of the maps that are predicted; the first is the building probability.
        notes: facts about this scene that the user should know.
        task_fingerprint: hash of everything that determines the probabilities.
        fingerprint: hash of everything that determines the results.
        identity: identity of the scene before it is read.
        origin: hash of the location of the scene.
        date: day of the scene as YYYY-MM-DD; None if it is unknown.
        runtime: runtime that executes the network; None for a network that none was chosen for.
        identified: whether the fingerprints change with everything that determines the results;
            otherwise nothing can be resumed.
    """

    scene: RasterInfo
    area: SceneArea | None
    outputs: Outputs
    task: Task
    grid: Grid
    config: PredictionConfig
    polygons: PolygonConfig
    expected_iou_at_home: float | None
    own_threshold: float
    calibration: ScoreCalibration | None
    maps: tuple[str, ...]
    notes: tuple[str, ...]
    task_fingerprint: str
    fingerprint: str
    identity: SceneIdentity
    origin: str
    date: str | None
    runtime: str | None
    identified: bool

    @property
    def resuming(self) -> bool:
        """Whether earlier results and finished strips of this prediction are used."""
        return self.config.resume and self.identified

    def check_free(self) -> None:
        """Check that the results can be written, and that this loses no work of the user.

        Raises:
            OutputError: they cannot, or it would.
        """
        part = None if self.area is None else PixelGrid.of_info(self.scene)
        self.outputs.check_free(self.origin, part=part, overwrite=self.config.overwrite)

    def check_unchanged(self) -> None:
        """Check that the scene is the same as before it was read.

        Raises:
            RasterError: it has changed, so that what was read may be a mixture.
        """
        if scene_identity(self.scene.path) != self.identity:
            raise RasterError(
                f"{self.scene.path} changed while it was read: predict it again when no program "
                "writes to it any more"
            )


def plan_prediction(
    model: Network,
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    config: PredictionConfig,
    *,
    identity: NetworkIdentity | None = None,
) -> Plan:
    """Inspect a scene and plan its prediction.

    Args:
        model: network, see ``rhm.inference.predict_raster``.
        src: path of the scene.
        dst: folder for the results.
        config: options of the prediction.
        identity: that of the model, if it is known.

    Raises:
        RasterError: the scene cannot be read.
        OutsideAreaError: the scene lies outside the area of interest.
        ModelFileError: the scene does not have the bands that the model takes.
        OutputError: the format of the footprints is unknown, or does not support this scene.
    """
    spec: ModelSpec | None = getattr(model, "spec", None)
    # First, so that whatever is read from now on is either this scene or known to be another.
    unchanged = scene_identity(src)
    scene = describe(src)
    outputs = Outputs.of(src, dst, config.suffix)
    check_format(outputs.buildings, scene.crs)
    area = None if config.aoi is None else scene_area(scene, config.aoi)
    named = src if isinstance(src, NamedScene) else NamedScene.of(os.fspath(src))
    scale, notes = _scale(scene, spec, resample=config.resample, gsd_m=named.gsd_m)
    bands = tuple(config.bands) if config.bands else None
    # Workers may have another working folder.
    path = os.path.abspath(scene.path) if is_local(scene.path) else scene.path
    black_is_nodata = config.black_is_nodata or named.black_is_nodata
    source = StripSource(path, bands, black_is_nodata, scale, config.skip_errors)
    with source.open() as raster:
        # A network without a description gets values scaled by the range of the image.
        table = spec.table_of(raster) if spec else Scaling.measure(histogram_of(raster)).table()
        shape = raster.info.height, raster.info.width
        tiling = _tiling(config, *shape)
        notes += filter(None, [undeclared_nodata(raster)])
    if spec is not None:
        notes += imagery_notes(spec, scene, bands_given=bands is not None)
    polygons = config.polygons or PolygonConfig(threshold=spec.threshold if spec else 0.5)
    polygon = _on_grid(area, scene, shape)
    task = Task(source, table, tiling, config.dtype, polygon, unchanged.digest)
    identified, unknown = (identity or NetworkIdentity.of(model)).parts, unchanged.unknown
    if config.resume and (identified is None or unknown is not None):
        notes.append(_not_resumed(unknown))
    inputs: tuple[Any, ...] = (unchanged, identified, spec, source, tiling, config.dtype)
    if area is not None:
        inputs += (area,)
    maps = maps_of(classes_of(model))
    calibration = spec.score_calibration if spec else None
    date = date_of(src)
    # What earlier versions did not have is not part of the fingerprints of what they predicted.
    new = [
        *([polygons.separate] if len(maps) > 1 else []),
        *([calibration] if calibration else []),
        *([date] if date else []),
        *([LEAST_IMPLIED] if polygons.threshold == AUTO else []),
    ]
    return Plan(
        scene if area is None else area.cut_info(scene),
        area,
        outputs,
        task,
        Grid(*shape, tiling, polygon),
        config,
        polygons,
        spec.expected_iou if spec else None,
        _own_threshold(spec, polygons),
        calibration,
        maps,
        tuple(notes),
        _fingerprint(inputs),
        _fingerprint((*inputs, polygons, *new, config.compress, config.suffix)),
        unchanged,
        origin_of(src),
        date,
        getattr(model, "runtime", None),
        identified is not None and unknown is None,
    )


def _on_grid(area: SceneArea | None, scene: RasterInfo, shape: tuple[int, int]) -> bytes | None:
    """Return an area in pixels of the grid that is predicted; None if there is no area."""
    if area is None:
        return None
    scale = GridScale(shape[0] / scene.height, shape[1] / scene.width)
    return area.on_grid(scale, resampled=shape != (scene.height, scene.width))


def _tiling(config: PredictionConfig, height: int, width: int) -> Tiling:
    """Return the tiles of a scene. They depend on the machine, but not on what else it does now."""
    if not config.fit_tiles:
        return config.tiling
    memory = memory_bytes()
    most_px = LARGEST_TILE**2
    if memory is not None:
        share = _SHARE_OF_MEMORY * memory / config.batch_size
        most_px = min(most_px, int(share / _BYTES_PER_PIXEL))
    return config.tiling.fitted(height, width, most_px)


def _scale(
    info: RasterInfo, spec: ModelSpec | None, *, resample: bool | None, gsd_m: float | None
) -> tuple[GridScale, list[str]]:
    """Return the scale at which a raster is read, and notes on its location and resolution."""
    notes = []
    if info.crs is None:
        notes.append("the scene has no coordinate reference system: areas are in square pixels")
    elif info.gsd_m is None:
        notes.append(
            "the coordinates of the scene are not on Earth (wrong coordinate reference system?): "
            "areas are in square pixels"
        )
    info = replace(info, assumed_gsd_m=gsd_m)
    notes += filter(None, [resolution_note(info, spec)])
    if info.gsd_m is None:
        return ONE, notes
    wanted_m = None if spec is None else spec.gsd_m
    differs = difference(info, spec)
    # Of a network without a description, nobody knows which pixels it expects.
    if resample or (resample is None and differs and spec is not None):
        if resample is None:
            notes.append(f"{differs}: it is resampled (--no-resample predicts it as it is)")
        return scale_between(info.gsd_m, wanted_m or info.gsd_m, info.pixel_aspect), notes
    if differs:
        notes.append(f"{differs}, and it is predicted as it is: --resample brings it there")
    return ONE, notes


def _own_threshold(spec: ModelSpec | None, polygons: PolygonConfig) -> float:
    if spec is not None:
        return spec.threshold
    return 0.5 if isinstance(polygons.threshold, str) else polygons.threshold


def _not_resumed(unknown: str | None) -> str:
    """Return the note on a prediction that cannot be compared with earlier ones."""
    if unknown is None:
        return "a network that is a Python function cannot be identified: nothing was resumed"
    return f"changes of {unknown} cannot be noticed: nothing was resumed"


def _fingerprint(settings: Sequence[Any]) -> str:
    """Return a hash of the version of rhm and everything else that determines a prediction."""
    return hashlib.sha256(repr((rhm.__version__, *settings)).encode()).hexdigest()
