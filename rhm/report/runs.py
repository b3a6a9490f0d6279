"""Runs: the evaluated run folders that a report is made from.

``rhm evaluate`` leaves ``evaluation/scores.json`` in a run folder. :func:`load_run` reads it,
with the run's training log and configuration beside it, into frozen values. Everything read
is treated as foreign: types are checked, names are kept printable, and no image outside the
evaluation folder is touched.
"""

import base64
import csv
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from rhm.errors import ConfigError, printable
from rhm.report.decoding import LARGEST_NUMBER, MalformedError, decode

FORMAT = 2
LEVELS = 256
BOUNDARY_WIDTHS = ("1m", "3m")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_WEBP_QUALITY = 85
_FEATURES = re.compile(r"nc[123]|(compression|discrimination)/.{1,100}")

LogPoints = tuple[tuple[int, float], ...]
Ring = tuple[tuple[float, float], ...]
Polygon = tuple[Ring, ...]
Histogram = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Interval:
    """A score and its bootstrap interval; ``None`` where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PixelScores:
    """Scores of pixels, building against background."""

    iou: Interval
    f1: Interval
    precision: Interval
    recall: Interval


@dataclass(frozen=True)
class ObjectScores:
    """Scores of footprints matched at IoU 0.5."""

    f1: Interval
    precision: Interval
    recall: Interval
    true_positives: int
    false_positives: int
    false_negatives: int


@dataclass(frozen=True)
class CalibrationBin:
    """The pixels whose probability lies in ``[low, high]``."""

    low: float
    high: float
    count: int
    confidence: float | None
    frequency: float | None


@dataclass(frozen=True)
class Levels:
    """Pixels, and those of them that are building, by level of probability of equal width."""

    pixels: tuple[int, ...]
    buildings: tuple[int, ...]


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error, the bins it was computed from, and the finer levels."""

    ece: float | None
    bins: tuple[CalibrationBin, ...]
    levels: Levels


@dataclass(frozen=True)
class Example:
    """A scored tile: its picture's path and polygons in pixels of that picture, x then y."""

    kind: str
    name: str
    iou: float | None
    image: str
    width: int
    height: int
    truth: tuple[Polygon, ...]
    prediction: tuple[Polygon, ...]


@dataclass(frozen=True)
class Shift:
    """A random pixel-wise shift under which images were scored."""

    family: str
    seed: int


@dataclass(frozen=True)
class DomainScores:
    """One run's scores on one domain.

    ``histogram`` holds 256 shares per band; ``distance`` the 1-Wasserstein distance per band to
    the nearest of the model's training domains, as a share of the value range;
    ``boundary_iou`` is by the width of the band, as in ``3m``.
    """

    name: str
    role: str
    images: int
    groups: int
    gsd_m: float | None
    shift: Shift | None
    pixel: PixelScores
    object: ObjectScores
    boundary_iou: dict[str, Interval]
    calibration: Calibration
    histogram: Histogram | None
    distance: tuple[float | None, ...] | None
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class ModelFacts:
    """What the scored model says about itself; ``histograms`` are of its training domains."""

    architecture: str
    encoder: str
    bands: int
    gsd_m: float | None
    sources: tuple[str, ...]
    split_hash: str | None
    parameters: int | None
    rhm_version: str | None
    training_images: int | None
    histograms: dict[str, Histogram]
    licence: str | None = None


@dataclass(frozen=True)
class Scores:
    """The content of ``evaluation/scores.json``."""

    run: str
    method: str
    seed: int
    split: str
    catalog: str
    created: str
    threshold: float
    model: ModelFacts
    domains: tuple[DomainScores, ...]


@dataclass(frozen=True)
class TrainingLog:
    """Points (step, value) of the curves of ``metrics.csv``, in order of the step.

    ``features`` are of what was recorded of the features, by name: ``nc1`` to ``nc3``, and
    ``compression/STAGE`` and ``discrimination/STAGE`` in the order of the stages.
    """

    train_loss: LogPoints
    val_iou: LogPoints
    features: dict[str, LogPoints] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What training took, as ``cost.json`` has it: memory in MB of host and GPU."""

    seconds: float
    steps: int
    images: int
    device: str
    devices: int
    memory_mb: float
    device_memory_mb: float | None


@dataclass(frozen=True)
class Run:
    """An evaluated run: folder, scores, training log, configuration (as text) and cost."""

    folder: Path
    scores: Scores
    log: TrainingLog
    config: str
    cost: Cost | None


def load_run(folder: Path) -> Run:
    """Read an evaluated run folder.

    Args:
        folder: holds ``evaluation/scores.json`` and, optionally, ``metrics.csv``,
            ``config.yaml`` and ``cost.json``.

    Raises:
        ConfigError: the folder has no scores, they are malformed, or an example's image lies
            outside the evaluation folder.
    """
    folder = Path(folder)
    scores = _read_scores(folder)
    for domain in scores.domains:
        for example in domain.examples:
            _image_path(folder, example)
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    return Run(
        folder,
        scores,
        _read_log(folder / "metrics.csv"),
        printable(text, keep="\n"),
        _read_cost(folder / "cost.json"),
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


def _read_scores(folder: Path) -> Scores:
    path = folder / "evaluation" / "scores.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (FileNotFoundError, NotADirectoryError):
        what = "has no evaluation/scores.json" if folder.is_dir() else "is not a run folder"
        raise ConfigError(f"{folder} {what}: run `rhm evaluate` on the run first") from None
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error).splitlines()[0]
        raise ConfigError(
            f"{path} cannot be read ({problem}): run `rhm evaluate` on {folder} again"
        ) from error
    try:
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise MalformedError(f"expected scores of format {FORMAT}")
        scores: Scores = decode(Scores, document)
        _check(scores)
    except MalformedError as error:
        where = f" at {error.path.lstrip('.')}" if error.path else ""
        raise ConfigError(
            f"{path} is malformed{where} ({error.problem}): run `rhm evaluate` on {folder} again"
        ) from None
    return scores


def _check(scores: Scores) -> None:
    """Check what the types of the fields do not say."""
    targets = [(domain.name, domain.shift) for domain in scores.domains]
    if len(set(targets)) < len(targets):
        raise MalformedError("a domain appears twice")
    for domain in scores.domains:
        if set(domain.boundary_iou) != set(BOUNDARY_WIDTHS):
            raise MalformedError(f"expected Boundary IoU of {' and '.join(BOUNDARY_WIDTHS)}")
        levels = domain.calibration.levels
        if len(levels.pixels) != len(levels.buildings) or any(
            not 0 <= buildings <= pixels
            for pixels, buildings in zip(levels.pixels, levels.buildings, strict=True)
        ):
            raise MalformedError("expected a share of the pixels of every level as buildings")
    histograms = [domain.histogram for domain in scores.domains if domain.histogram]
    for histogram in (*histograms, *scores.model.histograms.values()):
        if len(histogram) != scores.model.bands:
            raise MalformedError(f"expected histograms of {scores.model.bands} bands")
        if any(len(band) != LEVELS or min(band) < 0 for band in histogram):
            raise MalformedError(f"expected histograms of {LEVELS} shares")
    examples = [example for domain in scores.domains for example in domain.examples]
    if any(min(example.width, example.height) < 1 for example in examples):
        raise MalformedError("an example has no size")
    if not scores.model.sources:
        raise MalformedError("the model names no sources")


def _read_log(path: Path) -> TrainingLog:
    """Read the curves of a Lightning ``metrics.csv``, whose rows are blank in most columns."""
    if not path.is_file():
        return TrainingLog((), ())
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
    recorded = {printable(name): points for name, points in sorted_curves.items() if points}
    return TrainingLog(loss, iou, recorded)


def _read_cost(path: Path) -> Cost | None:
    if not path.is_file():
        return None
    try:
        cost: Cost = decode(Cost, json.loads(path.read_text(encoding="utf-8")))
    except (MalformedError, OSError, ValueError, RecursionError):
        raise ConfigError(f"{path} cannot be read: move it away or train again") from None
    return cost


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) <= LARGEST_NUMBER else None
