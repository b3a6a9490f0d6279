"""Diagnostics behind the scores, as tables of points.

They are reliability curves, histograms compared with those of the training domains, training
curves, and the tiles of the gallery.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from rhm.colour.histogram import share_distance
from rhm.colour.matching import matched_shares
from rhm.evaluation.scores import HISTOGRAM_LEVELS, Example, Shares
from rhm.report.cross_domain import (
    BASELINE,
    Group,
    Ranking,
    Target,
    find_domain,
    role_of,
)
from rhm.report.runs import EvaluatedRun
from rhm.report.svg import Points
from rhm.training.callbacks.run_cost import Cost

_CURVE_POINTS = 200


@dataclass(frozen=True)
class ReliabilityBin:
    """Pixels of similar probability: mean probability, and share of building pixels."""

    confidence: float
    frequency: float
    count: int


@dataclass(frozen=True)
class Reliability:
    """The calibration of a group on a target, over the pixels of all seeds."""

    sources: tuple[str, ...]
    method: str
    target: Target
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class BandHistogram:
    """The histogram of a band, compared with that of the nearest training domain.

    Attributes:
        histogram: share of pixels at each of 256 levels.
        source: histogram of the nearest training domain; None if the model does not record it.
        distance: 1-Wasserstein distance between the two, as a share of the value range.
        matched: histogram of the training domain after matching to this one.
        matched_distance: distance that remains after matching.
        quantiles: levels at 5, 50 and 95 % of the pixels, as shares of the value range; None
            without pixels.
    """

    histogram: tuple[float, ...]
    source: tuple[float, ...] | None
    distance: float | None
    matched: tuple[float, ...] | None
    matched_distance: float | None
    quantiles: tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class DomainHistogram:
    """The bands of a target, compared with those of the nearest training domain of a model."""

    sources: tuple[str, ...]
    target: Target
    role: str
    nearest: str | None
    bands: tuple[BandHistogram, ...]


@dataclass(frozen=True)
class TrainingCurve:
    """The training loss and validation IoU of a run; long curves are thinned by block means."""

    sources: tuple[str, ...]
    method: str
    run: str
    seed: int
    train_loss: Points
    val_iou: Points
    last_step: int
    last_loss: float | None
    best_iou: float | None
    best_step: int | None


@dataclass(frozen=True)
class RunCost:
    """The cost of training a run."""

    sources: tuple[str, ...]
    method: str
    run: str
    seed: int
    cost: Cost


@dataclass(frozen=True)
class GalleryView:
    """The prediction of a tile by one run."""

    method: str
    run: EvaluatedRun
    example: Example


@dataclass(frozen=True)
class GalleryTile:
    """A tile in the gallery, as predicted by one or two runs."""

    target: Target
    name: str
    views: tuple[GalleryView, ...]


@dataclass(frozen=True)
class Gallery:
    """The tiles of the best method and of the method it is compared with, for the same sources."""

    sources: tuple[str, ...]
    methods: tuple[str, ...]
    tiles: tuple[GalleryTile, ...]


def reliability(groups: Sequence[Group], targets: tuple[Target, ...]) -> tuple[Reliability, ...]:
    """Return reliability curves by target and group; equal bins are pooled over seeds."""
    curves = []
    for target in targets:
        for group in groups:
            pooled: dict[tuple[float, float], list[tuple[float, float, int]]] = {}
            for run in group.runs:
                domain = find_domain(run, target)
                for b in domain.calibration.bins if domain else ():
                    if b.count > 0 and b.confidence is not None and b.frequency is not None:
                        point = (b.confidence, b.frequency, b.count)
                        pooled.setdefault((b.low, b.high), []).append(point)
            bins = tuple(_pool(points) for _, points in sorted(pooled.items()))
            if bins:
                curves.append(Reliability(group.sources, group.label, target, bins))
    return tuple(curves)


def histograms(groups: Sequence[Group], targets: tuple[Target, ...]) -> tuple[DomainHistogram, ...]:
    """Return the histograms of all targets, each from the first run that has it.

    Every histogram is compared with that of the nearest training domain.
    """
    result = []
    for sources in dict.fromkeys(group.sources for group in groups):
        runs = [run for group in groups if group.sources == sources for run in group.runs]
        for target in targets:
            scored = [(run, find_domain(run, target)) for run in runs]
            run, domain = next(((r, d) for r, d in scored if d and d.histogram), (None, None))
            if run is None or domain is None or domain.histogram is None:
                continue
            known = any(map(sum, domain.histogram))
            nearest = _nearest(domain.histogram, run.scores.model.histograms) if known else None
            source = run.scores.model.histograms[nearest] if nearest is not None else None
            distances = domain.distance or ()
            bands = tuple(
                _band(
                    histogram,
                    source[index] if source else None,
                    distances[index] if index < len(distances) else None,
                )
                for index, histogram in enumerate(domain.histogram)
            )
            result.append(DomainHistogram(sources, target, role_of(domain), nearest, bands))
    return tuple(result)


def _band(
    histogram: tuple[float, ...], source: tuple[float, ...] | None, distance: float | None
) -> BandHistogram:
    # The shares of a band without pixels add up to zero.
    if not sum(histogram):
        return BandHistogram(histogram, source, None, None, None, (None, None, None))
    after, left = None, None
    if source and sum(source) > 0:
        after = matched_shares(source, histogram)
        left = float(share_distance(after, histogram))
    return BandHistogram(histogram, source, distance, after, left, _quantiles(histogram))


def training_curves(groups: Sequence[Group]) -> tuple[TrainingCurve, ...]:
    """Return the training curves of the runs that have a log."""
    curves = []
    for group in groups:
        for run in group.runs:
            loss, iou = run.log.train_loss, run.log.val_iou
            if not loss and not iou:
                continue
            best_step, best_iou = max(iou, key=lambda point: point[1], default=(None, None))
            curves.append(
                TrainingCurve(
                    group.sources,
                    group.label,
                    run.scores.run,
                    run.scores.seed,
                    _thin(loss),
                    _thin(iou),
                    max(step for step, _ in (*loss, *iou)),
                    loss[-1][1] if loss else None,
                    best_iou,
                    best_step,
                )
            )
    return tuple(curves)


def costs(groups: Sequence[Group]) -> tuple[RunCost, ...]:
    """Return the cost of training for the runs that recorded it."""
    return tuple(
        RunCost(group.sources, group.label, run.scores.run, run.scores.seed, run.cost)
        for group in groups
        for run in group.runs
        if run.cost is not None
    )


def galleries(
    groups: Sequence[Group], rankings: Sequence[Ranking], targets: tuple[Target, ...]
) -> tuple[Gallery, ...]:
    """Return, for each set of sources, the tiles of the best method and of the baseline.

    The best method is the one that is ranked first on unseen domains, otherwise on shifts,
    otherwise on its own domains. If it is the baseline itself, it is compared with the next best
    method. The run with the lowest common seed represents a method.
    """
    result = []
    for sources in dict.fromkeys(group.sources for group in groups):
        same = {group.label: group for group in groups if group.sources == sources}
        chosen = [same[label] for label in _compared(sources, list(same), rankings)]
        common = set.intersection(*(set(group.seeds) for group in chosen))
        runs = [
            next(r for r in group.runs if not common or r.scores.seed == min(common))
            for group in chosen
        ]
        labels = tuple(group.label for group in chosen)
        tiles = tuple(tile for target in targets for tile in _tiles(labels, runs, target))
        if tiles:
            result.append(Gallery(sources, labels, tiles))
    return tuple(result)


def _pool(points: list[tuple[float, float, int]]) -> ReliabilityBin:
    total = sum(count for _, _, count in points)
    confidence = sum(confidence * count for confidence, _, count in points) / total
    frequency = sum(frequency * count for _, frequency, count in points) / total
    return ReliabilityBin(confidence, frequency, total)


def _nearest(histogram: Shares, sources: Mapping[str, Shares]) -> str | None:
    """Return the training domain with the smallest 1-Wasserstein distance, averaged over bands."""

    def distance(name: str) -> float:
        return float(share_distance(histogram, sources[name]).mean())

    return min(sorted(sources), key=distance, default=None)


def _quantiles(histogram: tuple[float, ...]) -> tuple[float, float, float]:
    """Return the lowest levels, in [0, 1], at which the cumulative share reaches 5, 50 and 95 %."""
    cumulative = list(accumulate(histogram))
    low, median, high = (
        next(level for level, share in enumerate(cumulative) if share >= q * cumulative[-1])
        / (HISTOGRAM_LEVELS - 1)
        for q in (0.05, 0.5, 0.95)
    )
    return low, median, high


def _thin(points: tuple[tuple[int, float], ...]) -> Points:
    """Return at most ``_CURVE_POINTS`` points, which are means of blocks of neighbours."""
    block = -(-len(points) // _CURVE_POINTS) or 1
    blocks = [points[start : start + block] for start in range(0, len(points), block)]
    return tuple(
        (statistics.fmean(s for s, _ in part), statistics.fmean(v for _, v in part))
        for part in blocks
    )


def _compared(
    sources: tuple[str, ...], labels: list[str], rankings: Sequence[Ranking]
) -> list[str]:
    ranked = {ranking.role: ranking for ranking in rankings if ranking.sources == sources}
    ranking = next((ranked[r] for r in ("unseen", "shifted", "source") if r in ranked), None)
    order = [rank.method for rank in ranking.ranks] if ranking else labels
    if BASELINE in order[1:]:
        return [order[0], BASELINE]
    return order[:2]


def _tiles(labels: tuple[str, ...], runs: list[EvaluatedRun], target: Target) -> list[GalleryTile]:
    """Return the examples of the first run, then those that only the second run has.

    Tiles that both runs show have both views.
    """
    tiles: dict[tuple[str, int, int], list[GalleryView]] = {}
    for label, run in zip(labels, runs, strict=True):
        domain = find_domain(run, target)
        for example in domain.examples if domain else ():
            key = (example.name, example.width, example.height)
            views = tiles.setdefault(key, [])
            if label not in {view.method for view in views}:
                views.append(GalleryView(label, run, example))
    return [GalleryTile(target, key[0], tuple(views)) for key, views in tiles.items()]
