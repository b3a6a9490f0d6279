"""The scores of a model by domain, which ``rhm evaluate`` writes and ``rhm report`` reads.

These dataclasses are the only description of ``evaluation/scores.json``. An evaluation builds them,
and :func:`read_scores` restores them. Their fields are in the order of the file.
"""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

from rhm.documents import read_json
from rhm.errors import ConfigError
from rhm.files import write_text
from rhm.records import (
    Flag,
    MalformedError,
    Number,
    Text,
    Whole,
    parse,
    to_json,
)
from rhm.required_files import require_run

FORMAT = 6
"""Version of ``scores.json``."""

_READABLE = (2, 3, 4, 5, FORMAT)
"""Versions that can be read. Format 2 does not record the runtime, which was PyTorch; in formats 2
and 3, all domains are of one evaluation; up to format 4, all have the same threshold; up to format
5, scores of footprints are not calibrated."""

FILE = "scores.json"
"""Name of the file in the folder of an evaluation."""

HISTOGRAM_LEVELS = 256
"""Number of levels, from black to white, in the histogram of a domain."""

BOUNDARY_WIDTHS_M = (1.0, 3.0)
"""Widths of the bands along the inside of outlines that Boundary IoU compares, in metres.

A high score in the narrow band requires outlines that are accurate enough for a map, and in the
wide band only the right shape."""

BOUNDARY_WIDTHS = tuple(f"{width:g}m" for width in BOUNDARY_WIDTHS_M)
"""Names of these widths in the scores."""

Shares = tuple[tuple[Number, ...], ...]
"""A histogram: for each band, the share of pixels at each of ``HISTOGRAM_LEVELS`` levels."""

Ring = tuple[tuple[Number, Number], ...]
Polygon = tuple[Ring, ...]
"""An outline and its holes, as (x, y) in pixels of a picture."""


@dataclass(frozen=True)
class Interval:
    """A score with its bootstrap interval; None where they are undefined."""

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
    """Scores of footprints matched at IoU 0.5, and the counts they are computed from."""

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
    """Numbers of pixels and of building pixels, by levels of probability of equal width."""

    pixels: tuple[Whole, ...]
    buildings: tuple[Whole, ...]


@dataclass(frozen=True)
class Calibration:
    """The expected calibration error, the bins it was computed from, and finer levels."""

    ece: Number | None
    bins: tuple[CalibrationBin, ...]
    levels: Levels


@dataclass(frozen=True)
class ScoreBin:
    """The footprints whose calibrated score lies in ``[low, high]``.

    Attributes:
        low: lower end of the bin.
        high: upper end of the bin.
        footprints: number of footprints.
        correct: number of them that match a true building at IoU 0.5.
        promised: mean of their calibrated scores, the precision that was measured in validation.
    """

    low: Number
    high: Number
    footprints: Whole
    correct: Whole
    promised: Number | None


@dataclass(frozen=True)
class Example:
    """A scored image: the best, median or worst of its domain.

    Attributes:
        kind: ``best``, ``median`` or ``worst``.
        name: name of the image.
        iou: IoU of the image; None if it has neither true nor predicted buildings.
        image: path of the picture, relative to the folder of the evaluation.
        width: width of the picture in pixels.
        height: height of the picture in pixels.
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
    """A random pixel-wise shift that is applied to images before prediction.

    Attributes:
        family: family of the shift, one of ``rhm.colour.shifts.SHIFTS``.
        seed: seed that, together with the name of an image, determines its map.
    """

    family: Text
    seed: Whole


@dataclass(frozen=True)
class DomainScores:
    """The scores of a model on one domain, unchanged or under a shift.

    Attributes:
        name: name of the domain, with the family of the shift.
        role: ``source`` if the model was trained on the domain, otherwise ``target``.
        shift: shift of the images, or None.
        images: number of images.
        groups: number of groups of images, which are different places.
        gsd_m: median ground sampling distance in metres; None if unknown.
        pixel: scores of pixels.
        object: scores of footprints.
        boundary_iou: Boundary IoU by width of the band, one of ``BOUNDARY_WIDTHS``.
        calibration: calibration of the probabilities.
        histogram: histogram of all images as the model sees them.
        distance: for each band, 1-Wasserstein distance to the nearest training domain of the
            model, as a share of the value range.
        examples: example images.
        catalog: path of the catalog of the images.
        split: split of the images, or ``all``.
        created: time of the evaluation, in ISO 8601.
        views: whether test-time augmentation averaged over rotated and mirrored views.
        threshold: minimum probability of a building pixel that the probabilities in this domain
            implied, without labels; None for that of the evaluation.
        footprint_scores: calibrated scores of footprints and how many are correct; empty if the
            model does not calibrate scores.
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
    catalog: Text = ""
    split: Text = ""
    created: Text = ""
    views: Flag = False
    threshold: Number | None = None
    footprint_scores: tuple[ScoreBin, ...] = ()

    @property
    def key(self) -> tuple[str, str, Shift | None]:
        """What an evaluation of the same images under the same shift has in common."""
        return os.path.abspath(self.catalog), self.name, self.shift


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Properties of the scored model.

    ``weights`` is a hash of its weights, None in files that do not record it, ``histograms`` are
    those of its training domains, and ``classes`` are those of its outputs.
    """

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
    weights: Text | None = None
    classes: tuple[Text, ...] = ("building",)
    histograms: dict[Text, Shares]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The content of ``scores.json``: what was scored last, and domains that were scored earlier.

    Attributes:
        format: version of the file.
        run: name of the run.
        method: training method of the model.
        seed: seed of the training.
        split: split of the images that were scored last, or ``all``.
        catalog: path of the catalog of these images.
        created: time of the last evaluation, in ISO 8601.
        threshold: minimum probability of a building pixel.
        views: whether test-time augmentation averaged over rotated and mirrored views.
        runtime: runtime that executed the model; PyTorch in files that do not record it.
        model: properties of the model.
        domains: scores of each domain.
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

    def threshold_of(self, domain: DomainScores) -> float:
        """Return the minimum probability of a building pixel in a domain."""
        return self.threshold if domain.threshold is None else domain.threshold


def finite(value: float) -> float | None:
    """Return a score, or None if it is undefined, that is, not finite."""
    return float(value) if math.isfinite(value) else None


def write_scores(scores: Scores, folder: Path) -> None:
    """Write ``scores.json`` into the folder of an evaluation.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(folder / FILE, to_json(scores, indent=1))


def read_scores(folder: Path) -> Scores:
    """Read ``scores.json`` from the folder of an evaluation inside the folder of a run.

    Raises:
        ConfigError: the file is missing or malformed.
    """
    path, run = folder / FILE, folder.parent
    again = f"run `rhm evaluate` on {run} again"
    require_run(run)
    try:
        document = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{run} has no {folder.name}/{FILE}: run `rhm evaluate` on the run first"
        ) from None
    except (OSError, ValueError) as error:
        problem = str(error).splitlines()[0]
        raise ConfigError(f"{path} cannot be read ({problem}): {again}") from error
    try:
        if not isinstance(document, dict) or document.get("format") not in _READABLE:
            readable = " or ".join(map(str, _READABLE))
            raise MalformedError(f"expected scores of format {readable}")
        scores = _complete(parse(Scores, document))
        _check(scores)
    except MalformedError as error:
        where = f" at {error.place}" if error.place else ""
        raise ConfigError(f"{path} is malformed{where} ({error.problem}): {again}") from None
    return scores


def earlier_scores(folder: Path) -> Scores | None:
    """Return the scores in the folder of an evaluation, or None if there are none to keep."""
    try:
        return read_scores(folder)
    except ConfigError:
        return None


def kept_domains(earlier: Scores | None, latest: Scores) -> tuple[DomainScores, ...]:
    """Return the domains of earlier scores that an evaluation did not score again.

    Args:
        earlier: earlier scores, or None. Those of another model, or at another threshold, are not
            kept: they say nothing of this one.
        latest: scores of the evaluation.
    """
    if earlier is None or not of_same_model(earlier, latest):
        return ()
    again = {domain.key for domain in latest.domains}
    return tuple(domain for domain in earlier.domains if domain.key not in again)


def of_same_model(one: Scores, other: Scores) -> bool:
    """Return whether two evaluations are of the same weights at the same threshold.

    Files up to format 3 do not record the weights, and may be of any.
    """
    first, second = ((each.threshold, each.model.weights) for each in (one, other))
    return first == second and one.model.weights is not None


def _complete(scores: Scores) -> Scores:
    """Return scores whose domains say which evaluation they are of."""
    told = {name: getattr(scores, name) for name in ("catalog", "split", "created", "views")}
    domains = (domain if domain.created else replace(domain, **told) for domain in scores.domains)
    return replace(scores, domains=tuple(domains))


def _check(scores: Scores) -> None:
    """Check the rules that the types of the fields do not express."""
    targets = [domain.key for domain in scores.domains]
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
