"""Thresholds: the scores of every threshold on a domain, as tables.

They are computed from the number of building pixels at each level of probability. A threshold that
is chosen with the labels of a domain shows how much of a low score is due to the threshold alone,
which a few labelled images could correct. Users without labels cannot reach that score.
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
    """The precision-recall curve of a group on a target, over the pixels of all seeds.

    Attributes:
        sources: training domains of the group.
        method: label of the group.
        target: scored domain.
        points: (recall, precision) from the highest threshold to the lowest.
        average_precision: area under the step curve; by chance it is the share of buildings.
        buildings: share of building pixels.
    """

    sources: tuple[str, ...]
    method: str
    target: Target
    points: Points
    average_precision: float
    buildings: float

    def at_recall(self, recall: float) -> float | None:
        """Return the precision at the highest threshold that reaches a recall, or None."""
        return next((precision for found, precision in self.points if found >= recall), None)


@dataclass(frozen=True)
class ThresholdGain:
    """The gain in IoU of a group from the best threshold for a target, as means over its seeds.

    Attributes:
        sources: training domains of the group.
        method: label of the group.
        target: scored domain.
        used: threshold that was used: that of the model, or of its own probabilities there.
        iou: IoU at this threshold.
        best: threshold with the highest IoU, found with the labels of the target.
        best_iou: IoU at the best threshold.
        gain: ``best_iou`` minus ``iou``.
        gain_sd: standard deviation of the gain over seeds; None with one seed.
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
    """Return precision-recall curves by target and group, except for targets without buildings."""
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
    """Return the gains from the best threshold, by target and group."""
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
    """Return the threshold that was used, its IoU, the best threshold and its IoU, or None."""
    domain = find_domain(run, target)
    levels = _levels(run, target)
    if domain is None or levels is None or domain.pixel.iou.value is None:
        return None
    pixels, hits = (_at_least(np.array(counts)) for counts in (levels.pixels, levels.buildings))
    if not hits[0]:
        return None
    iou = hits / (pixels + hits[0] - hits)
    used = run.scores.threshold_of(domain)
    before = domain.pixel.iou.value
    # Of several best thresholds, the one closest to 0.5 is the least likely to be due to chance.
    equal = np.flatnonzero(iou == iou.max())
    best = equal[np.argmin(np.abs(equal / len(iou) - 0.5))]
    after = float(iou[best])
    if after <= before:  # the threshold of the model may lie between two levels
        return used, before, used, before
    return used, before, float(best / len(iou)), after


def _at_least(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the counts of each level together with all levels above it."""
    return np.cumsum(counts[::-1])[::-1]
