"""Distances: measures that indicate the loss of IoU in a domain without labels.

Two measures of an unseen domain are compared with the loss of IoU there:

- the 1-Wasserstein distance between its histogram and that of the nearest training domain;
- the loss that the model itself expects: the decrease of its expected IoU
  (``rhm.models.expected_iou``) from its training domains to this domain. It is the analogue for IoU
  of the difference of confidences (Guillory et al., Predicting with Confidence on Unseen
  Distributions, ICCV 2021).

The loss compares a model with itself, so that models of unequal strength fit into one table.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from rhm.evaluation.scores import Calibration, DomainScores
from rhm.models.expected_iou import expected_iou as iou_of_sums
from rhm.report.cross_domain import Group, Target, find_domain, role_of
from rhm.report.runs import EvaluatedRun

FEWEST = 4
"""Minimum number of domains for a rank correlation."""


@dataclass(frozen=True)
class DistanceLoss:
    """Distance and loss of a group on an unseen domain, as means over its seeds.

    Attributes:
        sources: training domains of the group.
        method: label of the group.
        target: unseen domain.
        distance: distance between the histograms, averaged over bands, as a share of the value
            range.
        expected_loss: expected IoU on the training domains minus that on the target, which needs
            no labels.
        loss: IoU on the training domains minus the IoU on the target.
    """

    sources: tuple[str, ...]
    method: str
    target: Target
    distance: float
    expected_loss: float
    loss: float


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlations of both measures with the loss, over the domains of a method.

    They are None if there are too few domains, or all values are equal.
    """

    method: str
    pairs: int
    distance: float | None
    expected_loss: float | None


def distance_losses(
    groups: Sequence[Group], targets: tuple[Target, ...]
) -> tuple[DistanceLoss, ...]:
    """Return both measures and the loss by group and unseen domain, where all are known."""
    rows = []
    for group in groups:
        for target in targets:
            found = [known for run in group.runs if (known := _measured(run, target))]
            if found:
                distance, expected, loss = map(statistics.fmean, zip(*found, strict=True))
                rows.append(
                    DistanceLoss(group.sources, group.label, target, distance, expected, loss)
                )
    return tuple(rows)


def rank_correlations(rows: Sequence[DistanceLoss]) -> tuple[RankCorrelation, ...]:
    """Return Spearman's correlations for every method, over all its sources and targets."""
    result = []
    for method in dict.fromkeys(row.method for row in rows):
        same = [row for row in rows if row.method == method]
        losses = [row.loss for row in same]
        result.append(
            RankCorrelation(
                method,
                len(same),
                _spearman([row.distance for row in same], losses),
                _spearman([row.expected_loss for row in same], losses),
            )
        )
    return tuple(result)


def expected_iou(calibration: Calibration, threshold: float) -> float | None:
    """Return the expected IoU of a model, or None without levels or an implied building.

    The pixels of a level count as building if its lower end reaches the threshold. The sum of the
    probabilities is known of each bin, which has several levels. The pixels of a level count with
    its middle, moved by as much for all pixels of a bin as its sum requires: where buildings are
    rare, nearly all pixels are in the lowest level, far below its middle.
    """
    pixels = np.asarray(calibration.levels.pixels)
    if not pixels.size:
        return None
    lower = np.arange(len(pixels)) / len(pixels)
    sums = pixels * (lower + 0.5 / len(pixels))
    for each in calibration.bins:
        inside = (lower >= each.low - 1e-9) & (lower < each.high - 1e-9)
        if each.count and each.confidence is not None and pixels[inside].any():
            sums[inside] += pixels[inside] * (each.confidence - sums[inside].sum() / each.count)
    return iou_of_sums(pixels, np.maximum(sums, 0.0), lower >= threshold - 1e-9)


def _measured(run: EvaluatedRun, target: Target) -> tuple[float, float, float] | None:
    """Return distance, expected loss and loss of a run on an unseen domain, or None."""
    domain = find_domain(run, target)
    if domain is None or role_of(domain) != "unseen":
        return None
    here = _scored(run, [domain])
    home = _scored(run, [d for d in run.scores.domains if role_of(d) == "source"])
    known = [distance for distance in domain.distance or () if distance is not None]
    if not known or here is None or home is None:
        return None
    expected, loss = (at_home - away for at_home, away in zip(home, here, strict=True))
    return statistics.fmean(known), expected, loss


def _scored(run: EvaluatedRun, domains: Sequence[DomainScores]) -> tuple[float, float] | None:
    """Return the mean expected IoU and the mean IoU of the domains that have both."""
    pairs = [
        (expected, domain.pixel.iou.value)
        for domain in domains
        if (expected := expected_iou(domain.calibration, run.scores.threshold_of(domain)))
        is not None
        and domain.pixel.iou.value is not None
    ]
    if not pairs:
        return None
    return statistics.fmean(p for p, _ in pairs), statistics.fmean(v for _, v in pairs)


def _spearman(values: Sequence[float], losses: Sequence[float]) -> float | None:
    if len(values) < FEWEST or len(set(values)) < 2 or len(set(losses)) < 2:
        return None
    return float(spearmanr(values, losses).statistic)
