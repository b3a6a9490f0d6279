"""Prediction of many scenes, sequentially or in parallel; one failure does not stop the others."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial, reduce
from math import ceil
from pathlib import Path

import numpy as np

from rhm.errors import OutsideAreaError, RhmError, one_line
from rhm.inference.plan import Plan, plan_prediction
from rhm.inference.prediction import Prediction
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.runtime.identity import NetworkIdentity
from rhm.inference.runtime.tta import Network
from rhm.inference.scenes import EXISTED, TOO_FEW_BUILDINGS, predict_scene
from rhm.inference.settings.polygon_config import AUTO, chosen_threshold, is_common
from rhm.inference.tiling.calibration import MOST_TILES, CalibrationTile
from rhm.inference.tiling.stream import network_input
from rhm.inference.tiling.strips import Workers
from rhm.models.build import SegmentationModel
from rhm.models.expected_iou import ExpectedIoU

_CALIBRATION_SCENES = 8


@dataclass(frozen=True)
class SceneResult:
    """The result of a scene: its prediction, or the error that prevented it.

    Attributes:
        scene: scene as it was named.
        prediction: its files; None if it failed.
        error: why it failed: an ``RhmError``, or any other exception, which is a defect.
    """

    scene: str
    prediction: Prediction | None
    error: Exception | None

    @property
    def is_outside(self) -> bool:
        """Whether the scene lies outside the area of interest, which is no failure among others."""
        return isinstance(self.error, OutsideAreaError)

    @property
    def failure(self) -> str:
        """Why the scene failed, in one line that names it; empty if it did not fail."""
        if self.error is None:
            return ""
        if isinstance(self.error, RhmError):
            return " ".join(str(self.error).split())
        kind = type(self.error).__name__
        return f"{self.scene}: {kind}: {one_line(self.error, 160)} (a defect of rhm)"


def predict_scenes(
    model: Network,
    scenes: Sequence[str | os.PathLike[str]],
    dst: Path,
    config: PredictionConfig,
    *,
    workers: Workers | None = None,
    side_by_side: int = 1,
    on_progress: Callable[[int], None] | None = None,
    on_result: Callable[[SceneResult], None] | None = None,
) -> list[SceneResult]:
    """Predict scenes; if one of them fails, the error is reported and the others continue.

    With the threshold ``auto-all`` or a share of building pixels, each scene is predicted first,
    and then the mask and the footprints of all of them are made again from the stored
    probabilities, at the threshold that all scenes together imply.

    Any ``Exception`` is the failure of its scene; ``KeyboardInterrupt`` stops all of them.

    Args:
        model: see ``predict_raster``.
        scenes: scenes with different names.
        dst: folder for the results.
        config: options of the prediction.
        workers: workers that predict strips; by default, this process predicts them.
        side_by_side: number of scenes in progress at a time, so that workers are not idle while
            the results of one scene are written; 1 without workers.
        on_progress: called with the number of pixels just finished, of any scene.
        on_result: called with the result of each scene as soon as it is available.

    Returns:
        The results, in the order of the scenes.
    """
    polygons = config.polygons
    if polygons is not None and is_common(polygons.threshold):
        return _together(
            partial(predict_scenes, model, scenes, dst, workers=workers, side_by_side=side_by_side),
            replace(config, polygons=replace(polygons, threshold=AUTO)),
            polygons.threshold,
            spec.threshold if (spec := getattr(model, "spec", None)) else 0.5,
            on_progress,
            on_result,
        )
    stopped = threading.Event()
    identity = cache(partial(NetworkIdentity.of, model))

    def advance(pixels: int) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        if on_progress is not None:
            on_progress(pixels)

    def predict(scene: str | os.PathLike[str]) -> SceneResult:
        try:
            prediction = predict_scene(
                model,
                scene,
                dst,
                config,
                workers=workers,
                identity=identity(),
                on_progress=advance,
            )
        except Exception as error:  # noqa: BLE001 (whatever it is, the others are predicted)
            return SceneResult(os.fspath(scene), None, error)
        return SceneResult(os.fspath(scene), prediction, None)

    results = (
        map(predict, scenes)
        if side_by_side == 1
        else _side_by_side(predict, scenes, side_by_side, partial(_stop, stopped, workers))
    )
    found = {}
    for result in results:
        found[result.scene] = result
        if on_result is not None:
            on_result(result)
    return [found[os.fspath(scene)] for scene in scenes]


def _together(
    predict: Callable[..., list[SceneResult]],
    config: PredictionConfig,
    threshold: float | str,
    usual: float,
    on_progress: Callable[[int], None] | None,
    on_result: Callable[[SceneResult], None] | None,
) -> list[SceneResult]:
    """Predict scenes, and then again at the threshold that all of them together imply.

    Args:
        predict: function that predicts all scenes with some options.
        config: options with a threshold for each scene.
        threshold: ``auto-all``, or a share of building pixels.
        usual: threshold for all scenes if they imply none together.
        on_progress: called with the number of pixels just finished in the first pass.
        on_result: called with the final results.
    """
    first = predict(config, on_progress=on_progress)
    counted = [each.prediction.expectation_of_all() for each in first if each.prediction]
    if not counted or config.polygons is None:
        results = first
    else:
        found = chosen_threshold(reduce(ExpectedIoU.merge, counted), threshold)
        fixed = replace(config.polygons, threshold=usual if found is None else found)
        # The probabilities exist by now; where nothing can be resumed, they are predicted again.
        again = predict(replace(config, polygons=fixed, resume=True))
        results = [
            _with_notes(*pair, unsure=found is None) for pair in zip(first, again, strict=True)
        ]
    if on_result is not None:
        for result in results:
            on_result(result)
    return results


def _with_notes(first: SceneResult, again: SceneResult, *, unsure: bool) -> SceneResult:
    """Return the final result of a scene, with the notes on its prediction.

    Whether its own probabilities would have chosen a threshold does not matter, but whether those
    of all scenes have. What already existed is what the second pass has used, unless the first one
    has just made it.
    """
    if first.prediction is None or again.prediction is None:
        return first if first.prediction is None else again
    notes = [note for note in first.prediction.notes if note not in (TOO_FEW_BUILDINGS, *EXISTED)]
    if not set(EXISTED).isdisjoint(first.prediction.notes):
        notes += [note for note in again.prediction.notes if note in EXISTED]
    notes += [TOO_FEW_BUILDINGS] * unsure
    return replace(again, prediction=replace(again.prediction, notes=tuple(notes)))


def _stop(stopped: threading.Event, workers: Workers | None) -> None:
    """Stop all scenes at their next strip, and whoever predicts these strips."""
    stopped.set()
    if workers is not None:
        workers.stop()


def _side_by_side(
    predict: Callable[[str | os.PathLike[str]], SceneResult],
    scenes: Sequence[str | os.PathLike[str]],
    count: int,
    stop: Callable[[], None],
) -> Iterator[SceneResult]:
    """Yield results as they complete; an exception stops all running scenes."""
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(predict, scene) for scene in scenes]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def samples_of_scenes(
    model: SegmentationModel,
    scenes: Sequence[str | os.PathLike[str]],
    dst: str | os.PathLike[str],
    config: PredictionConfig,
) -> Iterator[CalibrationTile]:
    """Yield tiles that are spread over scenes, as they are predicted.

    Together they have at most as many pixels as ``MOST_TILES`` of 512, unless these are less than
    two tiles. Scenes that cannot be read are left out, because their prediction tells why.

    Args:
        model: model in ``eval`` mode.
        scenes: paths of the scenes.
        dst: folder for the results.
        config: options of the prediction.
    """
    plans = []
    for scene in scenes[:: ceil(len(scenes) / _CALIBRATION_SCENES)]:
        with suppress(RhmError):
            plans.append(plan_prediction(model, scene, dst, config))
    largest = max((plan.grid.tiling.tile for plan in plans), default=config.tile)
    most = min(MOST_TILES, max(2, MOST_TILES * 512**2 // largest**2))
    plans = plans[:: ceil(len(plans) / most) or 1]
    for plan in plans:
        with suppress(RhmError):
            yield from _samples(plan, most // len(plans))


def _samples(plan: Plan, most: int) -> Iterator[CalibrationTile]:
    grid, tile = plan.grid, plan.grid.tiling.tile
    wanted = [
        (row, col)
        for row in range(len(grid.rows))
        for col in range(len(grid.cols))
        if grid.is_wanted(row, col)
    ]
    count = min(most, len(wanted))
    with plan.task.source.open() as raster:
        for index in np.unique(np.linspace(0, len(wanted) - 1, count).round().astype(int)):
            pixels = raster.read(grid.in_image(grid.window(*wanted[index])))
            if pixels.valid.any():
                yield CalibrationTile(
                    network_input(pixels, plan.task.table, tile)[None], pixels.valid
                )
