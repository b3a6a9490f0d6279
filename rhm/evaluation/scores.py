"""The scores of a model by domain, which ``rhm evaluate`` writes and ``rhm report`` reads.

These dataclasses are the only description of ``evaluation/scores.json``. An evaluation builds them,
and ``rhm.evaluation.score_files`` restores them. Their fields are in the order of the file.
"""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rhm.records import Flag, Number, Text, Whole

FORMAT = 7
"""Version of ``scores.json``."""

FILE = "scores.json"
"""Name of the file in the folder of an evaluation."""

HISTOGRAM_LEVELS = 256
"""Number of levels, from black to white, in the histogram of a domain."""

FEW_GROUPS = 5
"""Number of groups below which intervals are marked as too narrow."""

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
class OutlineScores:
    """Scores of outlines; see ``rhm.evaluation.outlines`` for their definitions.

    Attributes:
        polis_m: mean PoLiS distance of matched outlines in metres, on the images whose ground
            sampling distance is known.
        complexity_iou: mean complexity-aware IoU of the images.
        vertex_ratio: number of predicted vertices for each true one.
        tangent_error_deg: mean of the maximum tangent angle errors, in degrees.
        ap: average precision over IoU thresholds from 0.50 to 0.95, as in COCO.
        ap50: average precision at IoU 0.50.
        ap75: average precision at IoU 0.75.
    """

    polis_m: Interval
    complexity_iou: Interval
    vertex_ratio: Interval
    tangent_error_deg: Interval
    ap: Number | None
    ap50: Number | None
    ap75: Number | None


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
        kind: ``best``, ``median`` or ``worst``, by the IoU of this model or, if the image was
            picked, of another.
        name: name of the image.
        iou: IoU of the image; None if it has neither true nor predicted buildings.
        image: path of the picture, relative to the folder of the evaluation.
        width: width of the picture in pixels.
        height: height of the picture in pixels.
        truth: outlines of the true buildings.
        prediction: outlines of the predicted buildings.
        picked: whether the image is shown because another model, which was scored before in the
            same call, shows it.
    """

    kind: Text
    name: Text
    iou: Number | None
    image: Text
    width: Whole
    height: Whole
    truth: tuple[Polygon, ...]
    prediction: tuple[Polygon, ...]
    picked: Flag = False


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
        gsd_m: median ground sampling distance in metres, of the images for which it is known; None
            if there are none.
        pixel: scores of pixels.
        object: scores of footprints.
        boundary_iou: Boundary IoU by width of the band, one of ``BOUNDARY_WIDTHS``.
        calibration: calibration of the probabilities.
        histogram: histogram of all images as the model sees them.
        distance: for each band, 1-Wasserstein distance to the nearest training domain of the
            model, as a share of the value range; None without pixels.
        examples: example images.
        catalog: path of the catalog of the images, as it was given.
        split: split of the images, or ``all``, also where a domain without images in the split that
            was asked for was scored on all of them.
        created: time of the evaluation, in ISO 8601.
        views: whether test-time augmentation averaged over rotated and mirrored views.
        threshold: minimum probability of a building pixel that the probabilities in this domain
            implied, without labels; None for that of the evaluation.
        outline: scores of outlines; None up to format 5.
        footprint_scores: calibrated scores of footprints and how many are correct; empty if the
            model does not calibrate scores.
        unknown_gsd: number of images whose ground sampling distance is unknown. Their pixels count
            as one metre in Boundary IoU, and their outlines are left out of PoLiS.
        runtime: runtime that executed the model; empty where an earlier evaluation, whose scores
            were kept, did not record it.
        catalog_file: absolute path of the catalog, by which catalogs of one name are told apart;
            empty where it is unknown. In the file, it is relative to the folder of the evaluation,
            so that both can be moved together.
        other_split: whether the catalog has other splits than that of the training, so that images
            of this training domain may have been trained on.
        rules: version of ``scores.json`` by whose rules footprints were traced and counted; 0 up to
            6, when those that touch were not split, and instances of a mask not told apart.
        implied: whether the probabilities implied ``threshold``; otherwise it is that of the model,
            because they implied hardly a building.
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
    outline: OutlineScores | None = None
    footprint_scores: tuple[ScoreBin, ...] = ()
    unknown_gsd: Whole = 0
    runtime: Text = ""
    catalog_file: Text = ""
    other_split: Flag = False
    rules: Whole = 0
    implied: Flag = True

    @property
    def key(self) -> tuple[str, str, Shift | None]:
        """What an evaluation of the same images under the same shift has in common."""
        # Files did not record where a catalog is: its path is relative to wherever it was scored.
        return self.catalog_file or located(self.catalog), self.name, self.shift

    @property
    def label(self) -> str:
        """The name, with the seed of the shift if it is not 0."""
        seed = self.shift.seed if self.shift else 0
        return f"{self.name}, seed {seed}" if seed else self.name


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
        runtime: runtime that executed the model last; PyTorch in files that do not record it.
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


def located(path: str) -> str:
    """Return a path as an absolute one; of its parts, only the last may be a link."""
    if not path:
        return path
    named = Path(os.path.abspath(path))
    return os.path.join(os.path.realpath(named.parent), named.name)


def finite(value: float) -> float | None:
    """Return a score, or None if it is undefined, that is, not finite."""
    return float(value) if math.isfinite(value) else None


def few_groups(domains: Iterable[DomainScores]) -> str | None:
    """Return a sentence on domains whose intervals rest on few groups, without its full stop.

    The bootstrap draws groups. Of fewer than ``FEW_GROUPS``, even its expanded percentile intervals
    are too narrow: those of two groups end at the scores of the two.
    """
    few = {
        each.name: each.groups
        for each in domains
        if each.groups < FEW_GROUPS and each.pixel.iou.low is not None
    }
    if not few:
        return None
    numbers = sorted(set(few.values()))
    groups = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
    return (
        f"intervals of {', '.join(few)} rest on {groups} groups of images each and are too narrow"
    )


def not_implied(domains: Iterable[DomainScores]) -> str | None:
    """Return a sentence on domains without a threshold of their own, without its full stop."""
    names = dict.fromkeys(each.name for each in domains if not each.implied)
    if not names:
        return None
    return (
        f"the probabilities in {', '.join(names)} imply hardly a building, so the threshold there "
        "is that of the model"
    )


def unknown_sizes(domains: Iterable[DomainScores]) -> str | None:
    """Return a sentence on domains with images of unknown resolution, without its full stop."""
    parts = {
        each.name: "" if each.unknown_gsd == each.images else f" ({each.unknown_gsd} images)"
        for each in domains
        if each.unknown_gsd
    }
    if not parts:
        return None
    names = ", ".join(f"{name}{part}" for name, part in parts.items())
    return (
        f"the ground sampling distance in {names} is unknown: a pixel counts as one metre in "
        "Boundary IoU and where outlines are simplified, and PoLiS is left out"
    )
