"""Many scenes, one after another or side by side, of which none takes the others down."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rhm.errors import RhmError
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.runtime.tta import Network
from rhm.inference.scenes import Prediction, predict_scene
from rhm.inference.tiling.strips import Workers


@dataclass(frozen=True)
class SceneResult:
    """What came of a scene: a prediction, or why there is none."""

    scene: str
    prediction: Prediction | None
    error: RhmError | None


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
    """Predict scenes; one that fails is reported and the others go on.

    Args:
        model: see ``predict_raster``.
        scenes: of different names.
        dst: folder of the results.
        config: how they are predicted.
        workers: who predicts strips; by default this process.
        side_by_side: scenes in hand at a time, so that workers are not idle while one of them is
            written; 1 without workers.
        on_progress: called with the number of pixels just finished, of any scene.
        on_result: called with each scene's result as it comes.

    Returns:
        The results in the scenes' order.
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
        except RhmError as error:
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
    """Yield results as they come; whatever ends this ends what is in hand at its next strip."""
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(predict, scene) for scene in scenes]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
