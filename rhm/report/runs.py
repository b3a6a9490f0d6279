"""Runs: the evaluated run folders that a report is made from.

``rhm evaluate`` leaves ``evaluation/scores.json`` in a run folder. :func:`load_run` reads it,
with the run's training log, cost and configuration beside it, into frozen values. Everything read
is treated as foreign: types are checked, names are kept printable, and no image outside the
evaluation folder is touched.
"""

import base64
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rhm.errors import ConfigError, printable
from rhm.evaluation.scores import Example, Scores, read_scores
from rhm.training.callbacks.cost import Cost, read_cost
from rhm.training.callbacks.training_log import TrainingLog, read_log

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_WEBP_QUALITY = 85


@dataclass(frozen=True)
class EvaluatedRun:
    """An evaluated run: folder, scores, training log, configuration (as text) and cost."""

    folder: Path
    scores: Scores
    log: TrainingLog
    config: str
    cost: Cost | None


def load_run(folder: Path) -> EvaluatedRun:
    """Read an evaluated run folder.

    Args:
        folder: holds ``evaluation/scores.json`` and, optionally, ``metrics.csv``,
            ``config.yaml`` and ``cost.json``.

    Raises:
        ConfigError: the folder has no scores, a file of it is malformed, or an example's image
            lies outside the evaluation folder.
    """
    folder = Path(folder)
    scores = read_scores(folder / "evaluation")
    for domain in scores.domains:
        for example in domain.examples:
            _image_path(folder, example)
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    return EvaluatedRun(
        folder, scores, read_log(folder), printable(text, keep="\n"), read_cost(folder)
    )


def read_image(folder: Path, example: Example) -> str:
    """Return an example's picture as base64 of a WebP file, a tenth of the PNG that it lies in.

    Raises:
        ConfigError: the image is missing, is not a PNG that can be read, is larger than the scores
            say, or lies outside the evaluation folder.
    """
    path = _image_path(folder, example)
    if not path.is_file():
        raise ConfigError(f"{path} is missing: run `rhm evaluate` on {folder} again")
    data = path.read_bytes()
    # Sizes stand at a fixed place of a PNG: one that claims to be huge is not unpacked.
    size = tuple(int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    fits = data.startswith(_PNG_SIGNATURE) and size == (example.width, example.height)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if fits else None
    if pixels is None:
        raise ConfigError(
            f"{path} is not a PNG image of {example.width} x {example.height} pixels: "
            f"run `rhm evaluate` on {folder} again"
        )
    _, packed = cv2.imencode(".webp", pixels, (cv2.IMWRITE_WEBP_QUALITY, _WEBP_QUALITY))
    return base64.b64encode(packed.tobytes()).decode("ascii")


def _image_path(folder: Path, example: Example) -> Path:
    evaluation = (folder / "evaluation").resolve()
    path = (evaluation / example.image).resolve()
    if not path.is_relative_to(evaluation):
        raise ConfigError(
            f"{folder}/evaluation/scores.json: image {example.image!r} lies outside the evaluation "
            "folder: run `rhm evaluate` on this run again"
        )
    return path
