"""The plan of a prediction, made before anything is predicted."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rhm
from rhm.data.radiometry import Scaling, histogram_of
from rhm.data.rasters.georeference import scale_between
from rhm.data.rasters.raster import RasterInfo, describe
from rhm.inference.inputs import stem_of
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.runtime.identity import identity_of
from rhm.inference.runtime.tta import Network
from rhm.inference.settings.polygon_config import PolygonConfig
from rhm.inference.suitability import imagery_notes, other_size
from rhm.inference.tiling.stream import Grid
from rhm.inference.tiling.strips import StripSource, Task
from rhm.inference.vector_files import check_format
from rhm.models.spec import ModelSpec


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
        folder, stem = Path(dst), stem_of(os.fspath(src))
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


@dataclass(frozen=True)
class Plan:
    """The plan of a scene's prediction.

    Attributes:
        scene: properties of the scene.
        outputs: files of the results.
        task: settings that determine the probabilities.
        grid: tiles that are predicted.
        config: options of the prediction.
        polygons: options of the footprints, with the threshold filled in.
        expected_iou_at_home: expected IoU of the model on its validation chips; None if it does
            not record it.
        own_threshold: threshold of the model, to which its expected IoU refers.
        notes: facts about this scene that the user should know.
        task_fingerprint: hash of everything that determines the probabilities.
        fingerprint: hash of everything that determines the results.
    """

    scene: RasterInfo
    outputs: Outputs
    task: Task
    grid: Grid
    config: PredictionConfig
    polygons: PolygonConfig
    expected_iou_at_home: float | None
    own_threshold: float
    notes: tuple[str, ...]
    task_fingerprint: str
    fingerprint: str


def plan_prediction(
    model: Network,
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    config: PredictionConfig,
) -> Plan:
    """Inspect a scene and plan its prediction.

    Raises:
        RasterError: the scene cannot be read.
        ModelFileError: the scene does not have the bands that the model takes.
        OutputError: the format of the footprints is unknown, or does not support this scene.
    """
    spec: ModelSpec | None = getattr(model, "spec", None)
    scene = describe(src)
    outputs = Outputs.of(src, dst, config.suffix)
    check_format(outputs.buildings, scene.crs)
    scale, notes = _scale(scene, spec, resample=config.resample)
    bands = tuple(config.bands) if config.bands else None
    source = StripSource(scene.path, bands, config.black_is_nodata, scale, config.skip_errors)
    with source.open() as raster:
        # A network without a description gets values scaled by the range of the image.
        table = spec.table_of(raster) if spec else Scaling.measure(histogram_of(raster)).table()
        grid = Grid(raster.info.height, raster.info.width, config.tiling)
    if spec is not None:
        notes += imagery_notes(spec, scene, bands_given=bands is not None)
    polygons = config.polygons or PolygonConfig(threshold=spec.threshold if spec else 0.5)
    task = Task(source, table, config.tiling, config.dtype)
    inputs = (source, config.tiling, config.dtype)
    return Plan(
        scene,
        outputs,
        task,
        grid,
        config,
        polygons,
        spec.expected_iou if spec else None,
        spec.threshold if spec else polygons.threshold,
        tuple(notes),
        _fingerprint(model, src, inputs),
        _fingerprint(model, src, (*inputs, polygons, config.compress, config.suffix)),
    )


def _scale(info: RasterInfo, spec: ModelSpec | None, *, resample: bool) -> tuple[float, list[str]]:
    """Return the scale at which a raster is read, and notes on its location and resolution."""
    notes = []
    if info.crs is None:
        notes.append("the scene has no coordinate reference system: areas are in square pixels")
    elif info.gsd_m is None:
        notes.append(
            "the coordinates of the scene are not on Earth (wrong coordinate reference system?): "
            "areas are in square pixels"
        )
    if spec is None or spec.gsd_m is None:
        return 1.0, notes
    if info.gsd_m is None:
        expects = (
            f"the model expects {spec.gsd_m:.2g} m per pixel, but the resolution of the scene is "
            "unknown"
        )
        return 1.0, [*notes, expects]
    if resample:
        return scale_between(info.gsd_m, spec.gsd_m), notes
    if other_size(info.gsd_m, spec):
        notes.append(
            f"the scene has {info.gsd_m:.2g} m per pixel, but the model expects {spec.gsd_m:.2g} "
            "m: use --resample to predict at the resolution of the model"
        )
    return 1.0, notes


def _fingerprint(model: Network, src: str | os.PathLike[str], settings: Sequence[Any]) -> str:
    """Return a hash of the version of rhm, the scene, the model and the settings."""
    digest = hashlib.sha256(repr((rhm.__version__, *settings)).encode())
    path = Path(src)
    state = path.stat() if os.path.isfile(path) else None
    digest.update(
        repr((str(path.absolute()), state and (state.st_size, state.st_mtime_ns))).encode()
    )
    digest.update(repr(getattr(model, "spec", None)).encode())
    digest.update(identity_of(model).encode())
    return digest.hexdigest()
