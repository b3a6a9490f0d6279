"""What a prediction will do, found out before anything is predicted."""

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
from rhm.inference.suitability import other_size
from rhm.inference.tiling.stream import Grid
from rhm.inference.tiling.strips import StripSource, Task
from rhm.inference.vector_files import check_format
from rhm.models.spec import ModelSpec


@dataclass(frozen=True)
class Outputs:
    """The files of a predicted scene.

    Attributes:
        probability: COG of probabilities, nodata where the scene has none.
        mask: COG of 0 and 1, nodata 255.
        buildings: footprints with ``score`` and ``area_m2``.
    """

    probability: Path
    mask: Path
    buildings: Path

    @classmethod
    def of(cls, src: str | os.PathLike[str], dst: str | os.PathLike[str], suffix: str) -> "Outputs":
        """Name the files of a scene in a folder."""
        folder, stem = Path(dst), stem_of(os.fspath(src))
        return cls(
            folder / f"{stem}_probability.tif",
            folder / f"{stem}_mask.tif",
            folder / f"{stem}_buildings{suffix}",
        )

    @property
    def unfinished(self) -> Path:
        """The hidden folder of what is finished while not all is."""
        stem = self.mask.name.removesuffix("_mask.tif")
        return self.mask.with_name(f".{stem}.rhm-parts")


@dataclass(frozen=True)
class Plan:
    """A prediction of a scene, ready to begin.

    Attributes:
        scene: what the scene says of itself.
        outputs: where the results will be.
        task: what is to be predicted.
        grid: its tiles.
        config: as given, with the footprints' threshold filled in.
        polygons: how footprints are made.
        expected_iou_at_home: that the model promises on its validation chips, if it says so.
        own_threshold: of the model, at which it promises that.
        notes: what the user should know about this scene.
        task_fingerprint: of all that decides the probabilities.
        fingerprint: of all that decides the results.
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
    """Look at a scene and decide how it is predicted.

    Raises:
        RasterError: the scene cannot be read.
        ModelFileError: the scene does not have the bands that the model takes.
        OutputError: the format of the footprints is unknown, or cannot hold this scene's.
    """
    spec: ModelSpec | None = getattr(model, "spec", None)
    scene = describe(src)
    outputs = Outputs.of(src, dst, config.suffix)
    check_format(outputs.buildings, scene.crs)
    scale, notes = _scale(scene, spec, resample=config.resample)
    bands = tuple(config.bands) if config.bands else None
    source = StripSource(scene.path, bands, config.black_is_nodata, scale, config.skip_errors)
    with source.open() as raster:
        # A network without a description wants shares of the image's own range.
        table = spec.table_of(raster) if spec else Scaling.measure(histogram_of(raster)).table()
        grid = Grid(raster.info.height, raster.info.width, config.tiling)
    if spec is not None and spec.known_scaling(scene.dtype) is None:
        notes.append(
            f"the model stores no range for {scene.dtype} imagery; this scene's own was measured"
        )
    polygons = config.polygons or PolygonConfig(threshold=spec.threshold if spec else 0.5)
    task = Task(source, table, config.tiling, config.dtype)
    decides = (source, config.tiling, config.dtype)
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
        _fingerprint(model, src, decides),
        _fingerprint(model, src, (*decides, polygons, config.compress, config.suffix)),
    )


def _scale(info: RasterInfo, spec: ModelSpec | None, *, resample: bool) -> tuple[float, list[str]]:
    """Return the raster's scale, and what to say about its place and resolution."""
    notes = []
    if info.crs is None:
        notes.append("the scene has no coordinate reference system: areas are in square pixels")
    elif info.gsd_m is None:
        notes.append(
            "the scene's coordinates have no place on Earth (a wrong coordinate reference "
            "system?): areas are in square pixels"
        )
    if spec is None or spec.gsd_m is None:
        return 1.0, notes
    if info.gsd_m is None:
        expects = f"the model expects {spec.gsd_m:.2g} m per pixel; the scene does not say its own"
        return 1.0, [*notes, expects]
    if resample:
        return scale_between(info.gsd_m, spec.gsd_m), notes
    if other_size(info.gsd_m, spec):
        notes.append(
            f"the scene has {info.gsd_m:.2g} m per pixel, the model expects {spec.gsd_m:.2g} m: "
            "--resample predicts at the model's"
        )
    return 1.0, notes


def _fingerprint(model: Network, src: str | os.PathLike[str], settings: Sequence[Any]) -> str:
    """Return a hash of all that decides a prediction: program, scene, model and settings."""
    digest = hashlib.sha256(repr((rhm.__version__, *settings)).encode())
    path = Path(src)
    state = path.stat() if path.is_file() else None
    digest.update(
        repr((str(path.absolute()), state and (state.st_size, state.st_mtime_ns))).encode()
    )
    digest.update(repr(getattr(model, "spec", None)).encode())
    digest.update(identity_of(model).encode())
    return digest.hexdigest()
