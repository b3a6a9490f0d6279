"""Scores by domain: all scores, and the influence of thresholds and probabilities on them."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Protocol, TypeVar

from rhm.report.cross_domain import Target, score_rows, single_runs
from rhm.report.diagnostics import reliability
from rhm.report.plots import precision_recall_panel, reliability_panel
from rhm.report.section import Comparison, Section, plain_rows
from rhm.report.svg import Panel
from rhm.report.thresholds import precision_recall, threshold_gains


def section(comparison: Comparison) -> Section:
    """Return the scores, reliability, precision and recall, and the best thresholds."""
    groups, targets, styles = comparison.groups, comparison.targets, comparison.styles
    scores = score_rows(groups, targets)
    run_scores = score_rows(single_runs(groups), targets)
    reliabilities = reliability(groups, targets)
    curves = precision_recall(groups, targets)
    gains = threshold_gains(groups, targets)
    return Section(
        anchor="scores",
        title="Scores",
        heading="Scores by domain",
        fragment='{% include "sections/scores_by_domain.html" %}',
        view={
            "score_blocks": _by_target(scores),
            "with_outlines": any(row.scores["complexity_iou"].mean is not None for row in scores),
            "run_blocks": _by_target(run_scores) if len(run_scores) > len(scores) else [],
            "reliability": reliabilities,
            "reliability_panels": _panels(reliabilities, styles, reliability_panel),
            "precision_recall": curves,
            "precision_recall_panels": _panels(curves, styles, precision_recall_panel),
            "threshold_blocks": _by_target(gains),
            "method_legend": comparison.legend,
            "several_sources": comparison.several_sources,
        },
        numbers={
            "scores": plain_rows(scores),
            "run_scores": plain_rows(run_scores),
            "reliability": plain_rows(reliabilities),
            "precision_recall": plain_rows(curves),
            "thresholds": plain_rows(gains),
        },
    )


class _OfTarget(Protocol):
    @property
    def target(self) -> Target: ...


class _OfTargetAndSources(_OfTarget, Protocol):
    @property
    def sources(self) -> tuple[str, ...]: ...


_Row = TypeVar("_Row", bound=_OfTarget)
_Curve = TypeVar("_Curve", bound=_OfTargetAndSources)


def _by_target(rows: Sequence[_Row]) -> list[list[_Row]]:
    """Return the rows grouped by target."""
    return [list(same) for _, same in groupby(rows, key=lambda row: row.target)]


def _panels(
    rows: Sequence[_Curve],
    styles: dict[str, str],
    draw: Callable[[Sequence[_Curve], dict[str, str]], Panel],
) -> list[dict[str, Any]]:
    """Return, for each target and set of sources, a panel with a curve per method."""
    return [
        {"target": target, "sources": sources, "panel": draw(list(same), styles)}
        for (target, sources), same in groupby(rows, key=lambda row: (row.target, row.sources))
    ]
