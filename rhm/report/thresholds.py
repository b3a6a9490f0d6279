"""Thresholds: what every choice of a threshold would give on a domain, as tables.

All of it follows from how many pixels of each level of probability are building. A threshold
that was chosen on a domain's own labels says how much of a bad score is a matter of level alone,
which a few labelled images would mend; it is not a score that a user without labels can have.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rhm.evaluation.scores import Levels
from rhm.report.cross_domain import Group, Target, find_domain
from rhm.report.runs import EvaluatedRun
from rhm.report.svg import Points


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision over recall of a group on a target, its seeds' pixels pooled.

    Attributes:
        sources: that the group was trained on.
        method: the group's label.
        target: that it was scored on.
        points: (recall, precision) from the highest threshold to the lowest.
        average_precision: area under the curve as steps; chance is the share of buildings.
        buildings: share of the pixels that are building.
    """

    sources: tuple[str, ...]
    method: str
    target: Target
    points: Points
    average_precision: float
    buildings: float

    def at_recall(self, recall: float) -> float | None:
        """Precision at the highest threshold that reaches a recall."""
        return next((precision for found, precision in self.points if found >= recall), None)


@dataclass(frozen=True)
class ThresholdGain:
    """What the best threshold of a target would give a group: means over its seeds.

    Attributes:
        sources: that the group was trained on.
        method: the group's label.
        target: that it was scored on.
        used: threshold of the model.
        iou: at that threshold.
        best: threshold of highest IoU, found with the target's labels.
        best_iou: at that threshold.
        gain: difference of the two; sd over seeds is ``gain_sd``, None with one.
        gain_sd: see there.
    """

    sources: tuple[str, ...]
    method: str
    target: Target
    used: float
    iou: float
    best: float
    best_iou: float
    gain: float
    gain_sd: float | None


def precision_recall(
    groups: Sequence[Group], targets: tuple[Target, ...]
) -> tuple[PrecisionRecall, ...]:
    """Precision-recall curves by target and group; without buildings there is none."""
    curves = []
    for target in targets:
        for group in groups:
            found = [levels for run in group.runs if (levels := _levels(run, target))]
            if len({len(levels.pixels) for levels in found}) != 1:
                continue
            pixels, hits = (
                _at_least(np.sum([getattr(levels, name) for levels in found], axis=0))
                for name in ("pixels", "buildings")
            )
            if not hits[0]:
                continue
            shown = pixels > 0
            recall = (hits[shown] / hits[0])[::-1]
            precision = (hits[shown] / pixels[shown])[::-1]
            steps = np.diff(recall, prepend=0.0)
            curves.append(
                PrecisionRecall(
                    group.sources,
                    group.label,
                    target,
                    tuple(zip(recall.tolist(), precision.tolist(), strict=True)),
                    float(steps @ precision),
                    float(hits[0] / pixels[0]),
                )
            )
    return tuple(curves)


def threshold_gains(
    groups: Sequence[Group], targets: tuple[Target, ...]
) -> tuple[ThresholdGain, ...]:
    """What the best threshold would give, by target and group."""
    rows = []
    for target in targets:
        for group in groups:
            found = [gain for run in group.runs if (gain := _gain(run, target))]
            if not found:
                continue
            used, iou, best, best_iou = (
                statistics.fmean(values) for values in zip(*found, strict=True)
            )
            gains = [after - before for _, before, _, after in found]
            rows.append(
                ThresholdGain(
                    group.sources,
                    group.label,
                    target,
                    used,
                    iou,
                    best,
                    best_iou,
                    statistics.fmean(gains),
                    statistics.stdev(gains) if len(gains) > 1 else None,
                )
            )
    return tuple(rows)


def _levels(run: EvaluatedRun, target: Target) -> Levels | None:
    domain = find_domain(run, target)
    return domain.calibration.levels if domain and domain.calibration.levels.pixels else None


def _gain(run: EvaluatedRun, target: Target) -> tuple[float, float, float, float] | None:
    """The threshold used, its IoU, the best threshold, and its IoU."""
    domain = find_domain(run, target)
    levels = _levels(run, target)
    if domain is None or levels is None or domain.pixel.iou.value is None:
        return None
    pixels, hits = (_at_least(np.array(each)) for each in (levels.pixels, levels.buildings))
    if not hits[0]:
        return None
    iou = hits / (pixels + hits[0] - hits)
    before = domain.pixel.iou.value
    # Among equals the one in the middle: it is the least likely to be a matter of chance.
    equal = np.flatnonzero(iou == iou.max())
    best = equal[np.argmin(np.abs(equal / len(iou) - 0.5))]
    after = float(iou[best])
    if after <= before:  # a model's threshold may lie between two levels
        return run.scores.threshold, before, run.scores.threshold, before
    return run.scores.threshold, before, float(best / len(iou)), after


def _at_least(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of each level and all above it."""
    return np.cumsum(counts[::-1])[::-1]
