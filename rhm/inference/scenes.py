"""Prediction of a scene: from its raster to probabilities, a mask and footprints."""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from rasterio.io import DatasetWriter

from rhm.data.rasters.cog import BLOCK_PX
from rhm.data.rasters.gdal_options import limited_cache
from rhm.data.rasters.georeference import ONE
from rhm.data.rasters.windows import in_bands
from rhm.errors import printable
from rhm.files import staged_paths
from rhm.inference.layers.stamps import Stamp
from rhm.inference.layers.vector_files import (
    count_footprints,
    make_way,
    stamp_of_footprints,
    write_footprints,
)
from rhm.inference.plan import Outputs, Plan, plan_prediction
from rhm.inference.polygons import Ground, PredictedRows, footprints, inside_of
from rhm.inference.prediction import Prediction
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.runtime.identity import NetworkIdentity
from rhm.inference.runtime.tta import Network
from rhm.inference.settings.keywords import taking
from rhm.inference.settings.polygon_config import chosen_threshold
from rhm.inference.suitability import domain_note
from rhm.inference.tiling.journal import StripJournal, discard
from rhm.inference.tiling.regrid import Rows, expectation_of, on_scene_grid, rows_of
from rhm.inference.tiling.result_rasters import writing_results
from rhm.inference.tiling.scene_area import blanked_rows, cut_rows
from rhm.inference.tiling.storage import (
    DATE,
    FINGERPRINT,
    MASK_NODATA,
    NOTE,
    ORIGIN,
    PROBABILITIES,
    RUNTIME,
    SCORES_ARE,
    STORAGES,
    THRESHOLD,
    fingerprint_of,
    maps_in,
    recorded_threshold,
)
from rhm.inference.tiling.strips import LEAST_CACHE, ThisProcess, Workers
from rhm.models.expected_iou import ExpectedIoU
from rhm.models.score_calibration import SCORES, kind_of_scores

TOO_LARGE = "groups of touching buildings that are too large to be separated, and stay whole"

TOO_FEW_BUILDINGS = (
    "the probabilities imply too few buildings to choose a threshold by: it is that of the model"
)
"""Note on a scene whose probabilities were to choose the threshold."""

RESULTS_EXISTED = "the results already existed"
PROBABILITIES_EXISTED = "the probabilities already existed"
EXISTED = RESULTS_EXISTED, PROBABILITIES_EXISTED
"""Notes on what was not made again."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Call(PredictionConfig):
    """The keyword arguments of ``predict_raster``: all options, and two for programs only."""

    workers: Workers | None = None
    on_progress: Callable[[int], None] | None = None


@taking(_Call)
def predict_raster(
    model: Network, src: str | os.PathLike[str], dst: str | os.PathLike[str], call: _Call
) -> Prediction:
    """Predict a scene ``x.tif`` into ``x_probability.tif``, ``x_mask.tif``, ``x_buildings.gpkg``.

    Every file appears under its name only when it is complete. An earlier prediction of the scene
    is replaced, but a file that was edited since, or that another scene or no prediction gave, is
    replaced only with ``overwrite``. The finished parts of an interrupted prediction
    are kept in a hidden folder beside the results, where ``resume`` finds them. The results of a
    resumed prediction are identical to the last bit.

    Args:
        model: network that returns logits (N, 1, H, W) for normalised images (N, bands, H, W)
            float32. If it has a ``spec``, as models from ``load_model`` do, its classes, bands,
            scaling and resolution apply; otherwise the values of an image are scaled by its range
            to [0, 1].
        src: path of the scene, or anything else that GDAL opens.
        dst: folder for the results.
        call: the fields of :class:`~rhm.inference.prediction_config.PredictionConfig` as keyword
            arguments, and in addition ``workers``, which predict strips (by default this process),
            and ``on_progress``, which is called with the number of pixels of the scene that were
            just finished.

    Raises:
        RasterError: the scene cannot be read, or changed while it was read.
        OutsideAreaError: the scene lies outside the area of interest.
        ModelFileError: the scene does not have the bands that the model takes.
        ConfigError: an option is not allowed.
        OutputError: a result cannot be written or must not be replaced, a program has it open, or
            another run is predicting this scene.
    """
    return predict_scene(model, src, dst, call, workers=call.workers, on_progress=call.on_progress)


def predict_scene(
    model: Network,
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    config: PredictionConfig,
    *,
    workers: Workers | None = None,
    identity: NetworkIdentity | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Prediction:
    """Predict a scene like ``predict_raster``, with the options as one object.

    The identity of the model saves time if there are many small scenes; its weights must not change
    as long as it is used.
    """
    plan = plan_prediction(model, src, dst, config, identity=identity)
    grid = plan.grid
    size = (grid.width, grid.height, len(grid.strips), grid.tiling.tile)
    _LOG.info("%s: %d x %d pixels, %d strips of tiles of %d", plan.scene.path, *size)
    scene_pixels = plan.scene.height * plan.scene.width
    share = scene_pixels / (plan.grid.height * plan.grid.width)

    def advance(pixels: int) -> None:
        if on_progress is not None:
            on_progress(round(pixels * share))

    if plan.resuming and is_finished(plan):
        discard(plan.outputs.unfinished)
        advance(plan.grid.height * plan.grid.width)
        return _prediction(plan, _found(plan.outputs), RESULTS_EXISTED)
    plan.check_free()
    with (
        limited_cache(LEAST_CACHE),
        StripJournal(
            plan.outputs.unfinished,
            plan.task_fingerprint,
            dtype=config.dtype,
            width=len(plan.maps) * plan.grid.width,
            strips=[plan.grid.strip(index) for index in plan.grid.strips],
            resume=plan.resuming,
            runtime=plan.runtime,
        ) as parts,
    ):
        if plan.resuming and _has_probabilities(plan):
            advance(plan.grid.height * plan.grid.width)
            stored = plan.outputs.probability
            damage = printable(fingerprint_of(stored, NOTE) or "")
            found = _finish(plan, Ground(plan.scene), lambda _: rows_of(stored), lambda: damage)
            return _prediction(plan, found, PROBABILITIES_EXISTED)
        advance(parts.pixels // len(plan.maps))
        with _finishing(plan, parts) as finished:
            for strip in (workers or ThisProcess(model)).predict(plan.task, parts.missing()):
                parts.store(strip.index, strip.packed, strip.damaged)
                advance(strip.pixels)
                _LOG.debug("strip %d is stored", strip.index)
                if finished.done():
                    break  # writing the results has failed
        return _prediction(plan, finished.result())


@contextmanager
def _finishing(plan: Plan, parts: StripJournal) -> "Iterator[Future[_Finished]]":
    """Write the results in a thread while strips are stored, and yield its future.

    The files appear under their names after the last strip, but not if the block raises.
    """
    # Not in the new thread, for which pyproj would make anew what other scenes have needed before.
    ground = Ground(plan.scene)
    with ThreadPoolExecutor(1) as thread:
        rows, damage = partial(_rows, plan, parts), partial(_about_damage, parts)
        finished = thread.submit(_finish, plan, ground, rows, damage)
        try:
            yield finished
        except BaseException:
            parts.give_up()
            raise


def is_finished(plan: Plan) -> bool:
    """Return whether the results of exactly this prediction exist."""
    outputs = plan.outputs
    # The mask appears under its name last.
    if not plan.identified or fingerprint_of(outputs.mask) != plan.fingerprint:
        return False
    stamp = stamp_of_footprints(outputs.buildings)
    is_ours = stamp is not None and stamp.fingerprint == plan.fingerprint
    if not is_ours or fingerprint_of(outputs.probability) != plan.fingerprint:
        return False
    # What the mask records beside it could have been changed.
    threshold, scores = (fingerprint_of(outputs.mask, tag) for tag in (THRESHOLD, SCORES_ARE))
    return recorded_threshold(threshold) is not None and (not scores or scores in SCORES)


@dataclass(frozen=True)
class _Finished:
    """The number of footprints in finished results, and what the results record besides."""

    count: int
    threshold: float
    expected: ExpectedIoU | None = None
    scores: str | None = None
    notes: tuple[str, ...] = ()


def _found(outputs: Outputs) -> _Finished:
    """Return what existing results record."""
    threshold = recorded_threshold(fingerprint_of(outputs.mask, THRESHOLD))
    notes = [fingerprint_of(outputs.probability, NOTE)]
    notes += (fingerprint_of(outputs.mask, NOTE) or "").split("; ")
    return _Finished(
        count_footprints(outputs.buildings),
        0.5 if threshold is None else threshold,
        scores=fingerprint_of(outputs.mask, SCORES_ARE),
        notes=tuple(printable(note) for note in notes if note),
    )


def _prediction(plan: Plan, found: _Finished, *existed: str) -> Prediction:
    outputs, expected = plan.outputs, found.expected
    warning = domain_note(plan.expected_iou_at_home, expected) if expected else None
    files = (outputs.probability, outputs.mask, outputs.buildings)
    notes = [*plan.notes, *found.notes, *existed]
    if found.scores == "uncertain":
        notes.append(f"the scores are {SCORES[found.scores]}")
    if earlier := outputs.earlier_buildings:
        suffixes = ", ".join(path.suffix for path in earlier)
        notes.append(
            f"footprints of an earlier prediction stay in another format ({suffixes}); `rhm view` "
            "and `rhm merge-footprints` use those of this one"
        )
    scores = found.scores or "mean probability"
    return Prediction(*files, found.count, found.threshold, expected, warning, tuple(notes), scores)


def _about_damage(parts: StripJournal) -> str:
    if not parts.damaged:
        return ""
    row, col, height, width = min(parts.damaged)
    return (
        f"{len(parts.damaged)} damaged parts of the scene are nodata, the first one at row {row}, "
        f"column {col} with {height} x {width} pixels"
    )


def _has_probabilities(plan: Plan) -> bool:
    """Return whether the existing probabilities are those of this prediction."""
    return fingerprint_of(plan.outputs.probability, PROBABILITIES) == plan.task_fingerprint


def _finish(
    plan: Plan, ground: Ground, rows: Callable[[Path], Rows], damage: Callable[[], str]
) -> _Finished:
    """Write the results.

    Args:
        plan: plan of the prediction.
        ground: location of the scene.
        rows: function that yields all stored probabilities on the grid of the scene, in whole rows
            of blocks; it can use the path that it is given as a temporary file. It is called a
            second time if they choose the threshold.
        damage: function that returns the note on damaged parts of the scene, empty if there are
            none; it is called when all rows are read.
    """
    outputs, scene = plan.outputs, plan.scene
    targets = [outputs.buildings, outputs.probability, outputs.mask]
    path = Path(scene.path)
    expected = ExpectedIoU(plan.own_threshold)
    # In the folder of the parts, with which they are removed if this process is killed.
    with staged_paths(targets, within=outputs.unfinished) as (buildings, probability, mask):
        scratch = buildings.with_name("predicted.tif")
        polygons, unsure = plan.polygons, False
        if isinstance(polygons.threshold, str):
            storage = STORAGES[plan.config.dtype]
            counted = expectation_of(rows(scratch), storage, len(plan.maps), plan.own_threshold)
            chosen = chosen_threshold(counted, polygons.threshold)
            unsure = chosen is None
            chosen = plan.own_threshold if chosen is None else chosen
            polygons = replace(polygons, threshold=chosen)
        threshold, kind = polygons.fixed_threshold, None
        too_large: list[int] = []
        with _rasters(plan, probability, mask, threshold) as rasters:
            bands = _written(rows(scratch), rasters, plan, threshold, expected)
            count = write_footprints(
                footprints(
                    bands,
                    scene.width,
                    ground,
                    polygons,
                    learned=len(plan.maps) > 1,
                    calibration=plan.calibration,
                    on_too_large=too_large.append,
                ),
                scene.crs,
                buildings,
                modified=path.stat().st_mtime if path.is_file() else 0.0,
                stamp=Stamp(plan.fingerprint, plan.origin, threshold=threshold),
            )
            if plan.calibration is not None:
                kind = kind_of_scores(plan.expected_iou_at_home, expected)
                rasters[1].update_tags(**{SCORES_ARE: kind})
            whole = f"{TOO_LARGE}: {sum(too_large)}" if too_large else ""
            notes = [damage()], [TOO_FEW_BUILDINGS * unsure, whole]
            for raster, of_raster in zip(rasters, notes, strict=True):
                if note := "; ".join(filter(None, of_raster)):
                    raster.update_tags(**{NOTE: note})
        plan.check_unchanged()
        # Predicting may have taken long enough for somebody to edit the earlier results.
        plan.check_free()
        make_way(outputs.buildings)
    return _Finished(count, threshold, expected, kind, tuple(filter(None, [*notes[0], *notes[1]])))


def _rows(plan: Plan, parts: StripJournal, scratch: Path) -> Rows:
    """Yield the rows of a prediction as its strips are stored, cut to the area of interest."""
    area, nodata = plan.area, STORAGES[plan.config.dtype].nodata
    stored = parts.rows(BLOCK_PX)
    if plan.task.source.scale == ONE:
        cut = area and cut_rows(
            stored, area, plan.grid.origin, nodata, BLOCK_PX, maps=len(plan.maps)
        )
        yield from cut or stored
        return
    with plan.task.source.on_own_grid().open() as raster:
        rows = on_scene_grid(
            stored,
            raster,
            STORAGES[plan.config.dtype],
            scratch,
            shape=plan.grid.image,
            count=BLOCK_PX,
            origin=plan.grid.origin,
            part=None if area is None else area.window,
            maps=len(plan.maps),
        )
        yield from blanked_rows(rows, area, nodata) if area else rows


def _written(
    all_rows: Rows,
    rasters: tuple[DatasetWriter, DatasetWriter],
    plan: Plan,
    threshold: float,
    expected: ExpectedIoU,
) -> Iterator[PredictedRows]:
    """Write rows to both rasters, and yield what footprints are traced from.

    The expected IoU is updated with every row.
    """
    probabilities, masks = rasters
    storage = STORAGES[plan.config.dtype]
    for first, all_maps in all_rows:
        maps = maps_in(all_maps, len(plan.maps))
        stored = maps[0]
        place = ((first, first + len(stored)), (0, stored.shape[1]))
        mask = storage.mask(stored, threshold)
        probabilities.write(np.ascontiguousarray(maps), window=place)
        masks.write(mask, 1, window=place)
        for rows in in_bands(*stored.shape):
            probability = storage.decode(stored[rows])
            expected.add(probability, mask[rows] != MASK_NODATA)
            further = [storage.decode(each[rows]) for each in maps[1:]]
            yield PredictedRows(mask[rows] == 1, probability, inside_of(probability, further))


def _rasters(
    plan: Plan, probability: Path, mask: Path, threshold: float
) -> AbstractContextManager[tuple[DatasetWriter, DatasetWriter]]:
    """Return the probability raster and the mask, open for writing."""
    tags = {FINGERPRINT: plan.fingerprint, ORIGIN: plan.origin}
    if plan.date is not None:
        tags[DATE] = plan.date
    told = {} if plan.runtime is None else {RUNTIME: plan.runtime}
    return writing_results(
        probability,
        mask,
        plan.scene,
        STORAGES[plan.config.dtype],
        maps=[f"{each} probability" for each in plan.maps],
        compress=plan.config.compress,
        probability_tags=tags | told | {PROBABILITIES: plan.task_fingerprint},
        mask_tags=tags | {THRESHOLD: str(threshold)},
    )
