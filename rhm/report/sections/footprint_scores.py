"""Scores of footprints: the precision that they promise, and how often they keep the promise."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from rhm.evaluation.scores import ScoreBin
from rhm.report.cross_domain import Group, Target, find_domain
from rhm.report.diagnostics import Reliability, ReliabilityBin
from rhm.report.plots import reliability_panel
from rhm.report.section import Comparison, Section, plain_rows


@dataclass(frozen=True)
class PromisedPrecision:
    """The footprints of a group on a target, of similar calibrated scores, over all seeds.

    Attributes:
        sources: training domains of the group.
        method: name of the group.
        target: domain of the footprints.
        promised: mean precision that was measured in validation.
        precision: share of the footprints that are correct.
        footprints: number of footprints.
    """

    sources: tuple[str, ...]
    method: str
    target: Target
    promised: float
    precision: float
    footprints: int


def section(comparison: Comparison) -> Section:
    """Return the precision of footprints over their calibrated scores, if there are any."""
    rows = promised_precision(comparison.groups, comparison.targets)
    draw = partial(reliability_panel, over="score", share="share that is correct")
    panels = [
        {
            "target": target,
            "sources": sources,
            "panel": draw(_curves(list(same)), comparison.styles),
        }
        for (target, sources), same in groupby(rows, key=lambda row: (row.target, row.sources))
    ]
    return Section(
        anchor="footprint-scores",
        title="Footprint scores",
        heading="Scores of footprints",
        fragment='{% include "sections/footprint_scores.html" %}',
        view={
            "promised_precision": rows,
            "promised_panels": panels,
            "method_legend": comparison.legend,
            "several_sources": comparison.several_sources,
        },
        # Reports on models that do not calibrate scores are what they were.
        numbers={"footprint_scores": plain_rows(rows)} if rows else {},
        shown=bool(rows),
    )


def promised_precision(
    groups: Sequence[Group], targets: Sequence[Target]
) -> tuple[PromisedPrecision, ...]:
    """Return the precision of footprints by target, sources, method and score."""
    rows = []
    for target in targets:
        for group in groups:
            pooled: dict[float, list[ScoreBin]] = {}
            for run in group.runs:
                domain = find_domain(run, target)
                for each in domain.footprint_scores if domain else ():
                    if each.footprints and each.promised is not None:
                        pooled.setdefault(each.low, []).append(each)
            rows += [_pooled(group, target, bins) for _, bins in sorted(pooled.items())]
    place = {target: number for number, target in enumerate(targets)}
    return tuple(sorted(rows, key=lambda row: (place[row.target], row.sources)))


def _pooled(group: Group, target: Target, bins: Sequence[ScoreBin]) -> PromisedPrecision:
    count = sum(each.footprints for each in bins)
    promised = sum((each.promised or 0.0) * each.footprints for each in bins) / count
    return PromisedPrecision(
        sources=group.sources,
        method=group.label,
        target=target,
        promised=promised,
        precision=sum(each.correct for each in bins) / count,
        footprints=count,
    )


def _curves(rows: Sequence[PromisedPrecision]) -> list[Reliability]:
    """Return a curve for each method."""
    return [
        Reliability(
            rows[0].sources,
            method,
            rows[0].target,
            tuple(
                ReliabilityBin(row.promised, row.precision, row.footprints)
                for row in rows
                if row.method == method
            ),
        )
        for method in dict.fromkeys(row.method for row in rows)
    ]
