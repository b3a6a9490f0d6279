"""Prediction of many scenes, sequentially or in parallel; one failure does not stop the others."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rhm.errors import RhmError, one_line
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.runtime.tta import Network
from rhm.inference.scenes import Prediction, predict_scene
from rhm.inference.tiling.strips import Workers


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
    scenes: Sequence[str],
    dst: Path,
    config: PredictionConfig,
    *,
    workers: Workers | None = None,
    side_by_side: int = 1,
    on_progress: Callable[[int], None] | None = None,
    on_result: Callable[[SceneResult], None] | None = None,
) -> list[SceneResult]:
    """Predict scenes; if one of them fails, the error is reported and the others continue.

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
    stopped = threading.Event()

    def advance(pixels: int) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        if on_progress is not None:
            on_progress(pixels)

    def predict(scene: str) -> SceneResult:
        try:
            prediction = predict_scene(
                model, scene, dst, config, workers=workers, on_progress=advance
            )
        except Exception as error:  # noqa: BLE001 (whatever it is, the others are predicted)
            return SceneResult(scene, None, error)
        return SceneResult(scene, prediction, None)

    results = (
        map(predict, scenes)
        if side_by_side == 1
        else _side_by_side(predict, scenes, side_by_side, stopped)
    )
    found = {}
    for result in results:
        found[result.scene] = result
        if on_result is not None:
            on_result(result)
    return [found[scene] for scene in scenes]


def _side_by_side(
    predict: Callable[[str], SceneResult],
    scenes: Sequence[str],
    count: int,
    stopped: threading.Event,
) -> Iterator[SceneResult]:
    """Yield results as they complete; an exception stops all running scenes at their next strip."""
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(predict, scene) for scene in scenes]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
