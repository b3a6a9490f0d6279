"""The scores of a domain, pooled from the counts of its images."""

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from rhm.errors import printable
from rhm.evaluation.bootstrap import bootstrap_interval
from rhm.evaluation.footprint_precision import footprint_scores
from rhm.evaluation.outlines.domain_outlines import outline_scores
from rhm.evaluation.scores import (
    BOUNDARY_WIDTHS,
    FORMAT,
    Calibration,
    CalibrationBin,
    DomainScores,
    FootprintScores,
    Interval,
    Levels,
    PixelScores,
    Shares,
    Shift,
    finite,
)
from rhm.evaluation.tile_scores import TileScores, pooled_histogram
from rhm.models.spec import ModelSpec
from rhm.training import metrics

_RELIABILITY_BINS = 20


def name_of(domain: str, shift: Shift | None) -> str:
    """Return the name of a domain among the scores, unchanged or under a shift."""
    name = printable(domain)
    return name if shift is None else f"{name} ({shift.family} shift)"


def pooled_scores(
    spec: ModelSpec,
    domain: str,
    scored: Sequence[TileScores],
    shift: Shift | None,
    *,
    seed: int,
) -> DomainScores:
    """Return the scores of a domain, without examples and the facts of the evaluation.

    Args:
        spec: description of the model.
        domain: name of the domain.
        scored: counts of its images, at least of one.
        shift: shift of the images, or None.
        seed: seed of the bootstrap.
    """
    groups = [scores.tile.group for scores in scored]
    histogram = pooled_histogram(list(scored)).distribution()
    boundaries = zip(*(scores.boundaries for scores in scored), strict=True)

    def interval(counts: Sequence[metrics.Counts], score: Callable[..., Any]) -> Interval:
        return bootstrap_interval(counts, groups, score, seed=seed)

    return DomainScores(
        name=name_of(domain, shift),
        role="source" if shift is None and domain in spec.sources else "target",
        shift=shift,
        images=len(scored),
        groups=len(set(groups)),
        gsd_m=_median([scores.tile.gsd_m for scores in scored]),
        pixel=_pixels([scores.pixels for scores in scored], interval),
        object=_footprints([scores.objects for scores in scored], interval),
        boundary_iou={
            width: interval(counts, metrics.boundary_score)
            for width, counts in zip(BOUNDARY_WIDTHS, boundaries, strict=True)
        },
        calibration=calibration_of(reduce(operator.add, (scores.calibration for scores in scored))),
        outline=outline_scores(
            [scores.outlines for scores in scored],
            [scores.detections for scores in scored],
            interval,
        ),
        histogram=shares(histogram.round(6).tolist()),
        distance=_distance(spec, histogram),
        examples=(),
        footprint_scores=footprint_scores(scored),
        unknown_gsd=sum(scores.tile.gsd_m is None for scores in scored),
        rules=FORMAT,
    )


_MakeInterval = Callable[[Sequence[metrics.Counts], Callable[..., Any]], Interval]


def _pixels(counts: list[metrics.ConfusionCounts], interval: _MakeInterval) -> PixelScores:
    return PixelScores(
        iou=interval(counts, metrics.jaccard_score),
        f1=interval(counts, metrics.f1_score),
        precision=interval(counts, metrics.precision_score),
        recall=interval(counts, metrics.recall_score),
    )


def _footprints(counts: list[metrics.ObjectScores], interval: _MakeInterval) -> FootprintScores:
    total = reduce(operator.add, counts)
    return FootprintScores(
        f1=interval(counts, metrics.f1_score),
        precision=interval(counts, metrics.precision_score),
        recall=interval(counts, metrics.recall_score),
        true_positives=total.true_positives,
        false_positives=total.false_positives,
        false_negatives=total.false_negatives,
    )


def calibration_of(levels: metrics.CalibrationBins) -> Calibration:
    """Return the calibration of the pixels of a domain as it is stored."""
    bins = levels.merged(_RELIABILITY_BINS)
    confidence, frequency = bins.reliability()
    edges = np.linspace(0.0, 1.0, len(bins.pixels) + 1)
    rows = zip(edges[:-1], edges[1:], bins.pixels, confidence, frequency, strict=True)
    return Calibration(
        ece=finite(bins.expected_calibration_error),
        bins=tuple(
            CalibrationBin(float(low), float(high), int(pixels), finite(mean), finite(share))
            for low, high, pixels, mean, share in rows
        ),
        levels=Levels(tuple(levels.pixels.tolist()), tuple(levels.buildings.tolist())),
    )


def shares(bands: Sequence[Sequence[float]]) -> Shares:
    """Return a histogram as it is stored."""
    return tuple(tuple(band) for band in bands)


def _distance(spec: ModelSpec, histogram: Any) -> tuple[float | None, ...]:
    if not spec.source_histograms:
        return ()
    if not histogram.any():  # nothing is known of any image
        return (None,) * len(histogram)
    return tuple(float(distance) for distance in spec.source_distance(histogram)[1])


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
