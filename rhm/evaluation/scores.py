"""The scores of a model by domain: what ``rhm evaluate`` writes and ``rhm report`` reads.

These dataclasses are the one description of ``evaluation/scores.json``: an evaluation builds them,
and :func:`read_scores` gives them back. Their fields stand in the order of the file.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from rhm.errors import ConfigError
from rhm.files import write_text
from rhm.records import (
    Flag,
    MalformedError,
    Number,
    Text,
    Whole,
    parse,
    read_json,
    to_json,
)

FORMAT = 3
"""Version of ``scores.json``."""

_READABLE = (2, FORMAT)
"""Versions that can be read. In format 2 nothing tells the runtime, which was PyTorch."""

FILE = "scores.json"
"""Its name in the folder of an evaluation."""

HISTOGRAM_LEVELS = 256
"""Levels from black to white in which the values of a domain are counted."""

BOUNDARY_WIDTHS_M = (1.0, 3.0)
"""Widths of the bands inside outlines that Boundary IoU compares, in metres on the ground.

The narrow one asks for outlines that can be drawn on a map, the wide one for the right shape."""

BOUNDARY_WIDTHS = tuple(f"{width:g}m" for width in BOUNDARY_WIDTHS_M)
"""The names of these widths."""

Shares = tuple[tuple[Number, ...], ...]
"""A histogram: for each band, the shares of ``HISTOGRAM_LEVELS`` levels."""

Ring = tuple[tuple[Number, Number], ...]
Polygon = tuple[Ring, ...]
"""An outline and its holes, in pixels of a picture, x then y."""


@dataclass(frozen=True)
class Interval:
    """A score with the interval in which resampling leaves it; None where it is not defined."""

    value: Number | None
    low: Number | None
    high: Number | None


@dataclass(frozen=True)
class PixelScores:
    """Scores of pixels, building against background."""

    iou: Interval
    f1: Interval
    precision: Interval
    recall: Interval


@dataclass(frozen=True)
class FootprintScores:
    """Scores of footprints matched at IoU 0.5, and the counts that they follow from."""

    f1: Interval
    precision: Interval
    recall: Interval
    true_positives: Whole
    false_positives: Whole
    false_negatives: Whole


@dataclass(frozen=True)
class CalibrationBin:
    """The pixels whose probability lies in ``[low, high]``."""

    low: Number
    high: Number
    count: Whole
    confidence: Number | None
    frequency: Number | None


@dataclass(frozen=True)
class Levels:
    """Pixels, and those of them that are building, by level of probability of equal width."""

    pixels: tuple[Whole, ...]
    buildings: tuple[Whole, ...]


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error, the bins it was computed from, and the finer levels."""

    ece: Number | None
    bins: tuple[CalibrationBin, ...]
    levels: Levels


@dataclass(frozen=True)
class Example:
    """A scored image: best, median or worst of its domain.

    Attributes:
        kind: ``best``, ``median`` or ``worst``.
        name: of the image.
        iou: of the image, or None where it has neither true nor predicted buildings.
        image: path of the picture, relative to the evaluation's folder.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        truth: outlines of the true buildings.
        prediction: outlines of the predicted buildings.
    """

    kind: Text
    name: Text
    iou: Number | None
    image: Text
    width: Whole
    height: Whole
    truth: tuple[Polygon, ...]
    prediction: tuple[Polygon, ...]


@dataclass(frozen=True)
class Shift:
    """A random pixel-wise shift under which images are seen.

    Attributes:
        family: one of ``rhm.colour.shifts.SHIFTS``.
        seed: with an image's name it decides the image's map.
    """

    family: Text
    seed: Whole


@dataclass(frozen=True)
class DomainScores:
    """A model's scores on one domain, as it is or under a shift.

    Attributes:
        name: of the domain, with the family of the shift.
        role: ``source`` if the model was trained on it, else ``target``.
        shift: under which its images were seen.
        images: number of them.
        groups: number of places that they show.
        gsd_m: median side of their pixels, in metres.
        pixel: scores of pixels.
        object: scores of footprints.
        boundary_iou: by the width of the band, one of ``BOUNDARY_WIDTHS``.
        calibration: of the probabilities.
        histogram: of the images as the model saw them, together.
        distance: 1-Wasserstein distance for each band to the nearest of the model's training
            domains, as a share of the value range.
        examples: images to look at.
    """

    name: Text
    role: Text
    shift: Shift | None
    images: Whole
    groups: Whole
    gsd_m: Number | None
    pixel: PixelScores
    object: FootprintScores
    boundary_iou: dict[Text, Interval]
    calibration: Calibration
    histogram: Shares | None
    distance: tuple[Number | None, ...] | None
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What the scored model says about itself; ``histograms`` are of its training domains."""

    architecture: Text
    encoder: Text
    bands: Whole
    gsd_m: Number | None
    sources: tuple[Text, ...]
    split_hash: Text | None
    parameters: Whole | None
    rhm_version: Text | None
    training_images: Whole | None
    licence: Text | None = None
    histograms: dict[Text, Shares]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The content of ``scores.json``.

    Attributes:
        format: version of the file.
        run: name of the run.
        method: how its model was trained.
        seed: of its training.
        split: of the images that were scored, or ``all``.
        catalog: where they were listed.
        created: when they were scored, in ISO 8601.
        threshold: probability from which on a pixel was called building.
        views: whether probabilities were averaged over turned and mirrored views.
        runtime: what the model was run by; PyTorch in files that do not say.
        model: what was scored.
        domains: what was found.
    """

    format: Whole = FORMAT
    run: Text
    method: Text
    seed: Whole
    split: Text
    catalog: Text
    created: Text
    threshold: Number
    views: Flag = False
    runtime: Text = "torch"
    model: ModelFacts
    domains: tuple[DomainScores, ...]


def finite(value: float) -> float | None:
    """Return a number, or None where it is not finite: a score that is not defined."""
    return float(value) if math.isfinite(value) else None


def write_scores(scores: Scores, folder: Path) -> None:
    """Write ``scores.json`` into the folder of an evaluation.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(folder / FILE, to_json(scores, indent=1))


def read_scores(folder: Path) -> Scores:
    """Read ``scores.json`` in the folder of an evaluation, which lies in that of a run.

    Raises:
        ConfigError: there are no scores, or they are malformed.
    """
    path, run = folder / FILE, folder.parent
    again = f"run `rhm evaluate` on {run} again"
    try:
        document = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        what = f"has no {folder.name}/{FILE}" if run.is_dir() else "is not a run folder"
        raise ConfigError(f"{run} {what}: run `rhm evaluate` on the run first") from None
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error).splitlines()[0]
        raise ConfigError(f"{path} cannot be read ({problem}): {again}") from error
    try:
        if not isinstance(document, dict) or document.get("format") not in _READABLE:
            readable = " or ".join(map(str, _READABLE))
            raise MalformedError(f"expected scores of format {readable}")
        scores = parse(Scores, document)
        _check(scores)
    except MalformedError as error:
        where = f" at {error.place}" if error.place else ""
        raise ConfigError(f"{path} is malformed{where} ({error.problem}): {again}") from None
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
        if any(len(band) != HISTOGRAM_LEVELS or min(band) < 0 for band in histogram):
            raise MalformedError(f"expected histograms of {HISTOGRAM_LEVELS} shares")
    examples = [example for domain in scores.domains for example in domain.examples]
    if any(min(example.width, example.height) < 1 for example in examples):
        raise MalformedError("an example has no size")
    if not scores.model.sources:
        raise MalformedError("the model names no sources")
