"""Distances: does the distance of a domain say how much is lost there?

For every domain that a model was not trained on: the 1-Wasserstein distance of its histogram to
the nearest training domain's, and how far its IoU is below that on the training domains. Loss
compares a model with itself, so that models of unequal strength can be put in one table.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import spearmanr

from rhm.report.cross_domain import Group, Target, find_domain, role_of
from rhm.report.runs import Run

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
        loss: IoU on its own domains less the IoU here.
    """

    sources: tuple[str, ...]
    method: str
    target: Target
    distance: float
    loss: float


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of distance and loss over the domains of a method.

    ``correlation`` is None where there are too few domains, or all are equal.
    """

    method: str
    pairs: int
    correlation: float | None


def distance_losses(
    groups: Sequence[Group], targets: tuple[Target, ...]
) -> tuple[DistanceLoss, ...]:
    """Distance and loss by group and unseen domain, where both are known."""
    rows = []
    for group in groups:
        for target in targets:
            found = [pair for run in group.runs if (pair := _pair(run, target))]
            if found:
                distance, loss = (statistics.fmean(each) for each in zip(*found, strict=True))
                rows.append(DistanceLoss(group.sources, group.label, target, distance, loss))
    return tuple(rows)


def rank_correlations(rows: Sequence[DistanceLoss]) -> tuple[RankCorrelation, ...]:
    """Spearman's correlation for every method, over all its sources and targets."""
    result = []
    for method in dict.fromkeys(row.method for row in rows):
        same = [row for row in rows if row.method == method]
        distances, losses = [row.distance for row in same], [row.loss for row in same]
        varied = len(set(distances)) > 1 and len(set(losses)) > 1
        known = len(same) >= FEWEST and varied
        value = float(spearmanr(distances, losses).statistic) if known else None
        result.append(RankCorrelation(method, len(same), value))
    return tuple(result)


def _pair(run: Run, target: Target) -> tuple[float, float] | None:
    domain = find_domain(run, target)
    if domain is None or role_of(domain) != "unseen" or domain.pixel.iou.value is None:
        return None
    known = [distance for distance in domain.distance or () if distance is not None]
    home = [
        each.pixel.iou.value
        for each in run.scores.domains
        if role_of(each) == "source" and each.pixel.iou.value is not None
    ]
    if not known or not home:
        return None
    return statistics.fmean(known), statistics.fmean(home) - domain.pixel.iou.value
