"""Training: its curves, the development of the features, and the cost."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rhm.report.diagnostics import TrainingCurve, costs, training_curves
from rhm.report.feature_curves import FeatureCurve, feature_curves, feature_panels
from rhm.report.plots import curve_panels
from rhm.report.section import Comparison, Section, plain_rows


def section(comparison: Comparison) -> Section:
    """Return the curves, features and costs that the runs recorded during training."""
    curves = training_curves(comparison.groups)
    features = feature_curves(comparison.groups)
    spent = costs(comparison.groups)
    return Section(
        anchor="training",
        title="Training",
        heading="Training",
        fragment='{% include "sections/training_curves.html" %}',
        view={
            "curve_blocks": _curve_blocks(curves, comparison.styles),
            "feature_blocks": _feature_blocks(features, comparison.styles),
            "costs": spent,
            "method_legend": comparison.legend,
            "several_sources": comparison.several_sources,
        },
        numbers={
            "curves": plain_rows(curves),
            "feature_curves": plain_rows(features),
            "costs": plain_rows(spent),
        },
        shown=bool(curves or spent),
    )


def _curve_blocks(rows: Sequence[TrainingCurve], styles: dict[str, str]) -> list[dict[str, Any]]:
    """Return, for each set of sources, the panels, and the curves for the table."""
    blocks = []
    for sources, same in groupby(rows, key=lambda curve: curve.sources):
        curves = list(same)
        panels = curve_panels(curves, styles)
        blocks.append({"sources": sources, "panels": panels, "curves": curves})
    return blocks


def _feature_blocks(rows: Sequence[FeatureCurve], styles: dict[str, str]) -> list[dict[str, Any]]:
    """Return, for each set of sources, the panels, and the curves for the table."""
    blocks = []
    for sources in dict.fromkeys(row.sources for row in rows):
        curves = [row for row in rows if row.sources == sources]
        blocks.append(
            {"sources": sources, "panels": feature_panels(curves, styles), "curves": curves}
        )
    return blocks
