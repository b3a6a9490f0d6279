"""Distances: what says, without labels, how much is lost in a domain?

Two measures of a domain that a model was not trained on are held against what it loses there:

- the 1-Wasserstein distance of its histogram to the nearest training domain's;
- the loss that the model itself expects. Were its probabilities p true, of the pixels it calls
  building the sum of p would be, and the sum of p of all others would be missed: their ratio is an
  expected IoU, and how far it falls from home to here is the analogue for IoU of the difference of
  confidences (Guillory et al., Predicting with Confidence on Unseen Distributions, ICCV 2021).

Loss compares a model with itself, so that models of unequal strength can be put in one table.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from rhm.evaluation.scores import DomainScores, Levels
from rhm.models import expectation
from rhm.report.cross_domain import Group, Target, find_domain, role_of
from rhm.report.runs import EvaluatedRun

FEWEST = 4
"""Domains below which a rank correlation says nothing."""


@dataclass(frozen=True)
class DistanceLoss:
    """A group on a domain it was not trained on: means over its seeds.

    Attributes:
        sources: that the group was trained on.
        method: the group's label.
        target: that it was scored on.
        distance: of the histograms, mean over bands, as a share of the value range.
        expected_loss: expected IoU on its own domains less that here; no labels are looked at.
        loss: IoU on its own domains less the IoU here.
    """

    sources: tuple[str, ...]
    method: str
    target: Target
    distance: float
    expected_loss: float
    loss: float


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of both measures with the loss, over a method's domains.

    They are None where there are too few domains, or all are equal.
    """

    method: str
    pairs: int
    distance: float | None
    expected_loss: float | None


def distance_losses(
    groups: Sequence[Group], targets: tuple[Target, ...]
) -> tuple[DistanceLoss, ...]:
    """Both measures and the loss by group and unseen domain, where all are known."""
    rows = []
    for group in groups:
        for target in targets:
            found = [each for run in group.runs if (each := _measured(run, target))]
            if found:
                distance, expected, loss = map(statistics.fmean, zip(*found, strict=True))
                rows.append(
                    DistanceLoss(group.sources, group.label, target, distance, expected, loss)
                )
    return tuple(rows)


def rank_correlations(rows: Sequence[DistanceLoss]) -> tuple[RankCorrelation, ...]:
    """Spearman's correlation for every method, over all its sources and targets."""
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


def expected_iou(levels: Levels, threshold: float) -> float | None:
    """The IoU that a model's probabilities promise; None where they promise no building.

    A level is taken at its middle, and called building if its lower end is at the threshold.
    """
    lower = np.arange(len(levels.pixels)) / len(levels.pixels)
    pixels = np.asarray(levels.pixels)
    middle = lower + 0.5 / len(pixels)
    return expectation.expected_iou(pixels, pixels * middle, lower >= threshold - 1e-9)


def _measured(run: EvaluatedRun, target: Target) -> tuple[float, float, float] | None:
    """Distance, expected loss and loss of a run on an unseen domain."""
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
    """Mean expected IoU and IoU of the domains that have both."""
    pairs = [
        (expected, domain.pixel.iou.value)
        for domain in domains
        if (expected := expected_iou(domain.calibration.levels, run.scores.threshold)) is not None
        and domain.pixel.iou.value is not None
    ]
    if not pairs:
        return None
    return statistics.fmean(p for p, _ in pairs), statistics.fmean(v for _, v in pairs)


def _spearman(values: Sequence[float], losses: Sequence[float]) -> float | None:
    if len(values) < FEWEST or len(set(values)) < 2 or len(set(losses)) < 2:
        return None
    return float(spearmanr(values, losses).statistic)
