"""The training log: curves of ``metrics.csv``, in which Lightning logs losses and scores."""

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

from rhm.errors import ConfigError, printable
from rhm.records import LARGEST_NUMBER

FILE = "metrics.csv"
"""Name of the file in the folder of a run."""

_FEATURES = re.compile(r"nc[123]|(compression|discrimination)/.{1,100}")
_ENCODER = re.compile(r"encoder\[(\d{1,4})\]")

LogPoints = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class TrainingLog:
    """Points (step, value) of the curves of a run, in order of the step.

    Attributes:
        train_loss: loss of training batches.
        val_iou: IoU of validation chips.
        features: recorded statistics of the features, by name: ``nc1`` to ``nc3``, and
            ``compression/STAGE`` and ``discrimination/STAGE`` in the order of the stages.
    """

    train_loss: LogPoints = ()
    val_iou: LogPoints = ()
    features: dict[str, LogPoints] = field(default_factory=dict)


def read_log(folder: Path) -> TrainingLog:
    """Read ``metrics.csv`` from a folder; its rows are empty in most columns.

    Invalid numbers are left out, and a missing file gives an empty log.

    Raises:
        ConfigError: the file cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return TrainingLog()
    curves: dict[str, dict[int, float]] = {"train_loss": {}, "val_iou": {}}
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = csv.DictReader(line.replace("\0", "") for line in file)
            curves |= {name: {} for name in rows.fieldnames or () if _FEATURES.fullmatch(name)}
            for row in rows:
                for name, points in curves.items():
                    step, value = _number(row.get("step")), _number(row.get(name))
                    if step is not None and value is not None:
                        points[int(step)] = value
    except (OSError, csv.Error) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}): move it away or train again"
        ) from error
    sorted_curves = {name: tuple(sorted(points.items())) for name, points in curves.items()}
    loss, iou = sorted_curves.pop("train_loss"), sorted_curves.pop("val_iou")
    recorded = {
        printable(name): sorted_curves[name]
        for name in sorted(sorted_curves, key=_stage_order)
        if sorted_curves[name]
    }
    return TrainingLog(loss, iou, recorded)


def _stage_order(name: str) -> tuple[int, int]:
    """Return the place of a stage: encoder, blocks of the decoder as in the file, and decoder.

    Earlier versions wrote the columns in the order of their names, the last stage first.
    """
    stage = name.partition("/")[2]
    if found := _ENCODER.fullmatch(stage):
        return 0, int(found[1])
    return (2, 0) if stage == "decoder" else (1, 0)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) <= LARGEST_NUMBER else None
