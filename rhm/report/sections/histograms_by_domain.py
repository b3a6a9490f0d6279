"""Histograms by domain: differences of the imagery, and how they relate to the loss of IoU."""

from collections.abc import Sequence
from typing import Any

from rhm.report.diagnostics import DomainHistogram, histograms
from rhm.report.plots import distance_panels, histogram_panel
from rhm.report.section import Comparison, Section, plain_rows
from rhm.report.without_labels import distance_losses, rank_correlations


def section(comparison: Comparison) -> Section:
    """Return histograms compared with the nearest training domain, and distances with losses."""
    groups, targets = comparison.groups, comparison.targets
    rows = histograms(groups, targets)
    distances = distance_losses(groups, targets)
    correlations = rank_correlations(distances)
    return Section(
        anchor="histograms",
        title="Histograms",
        heading="Histograms by domain",
        fragment='{% include "sections/histograms_by_domain.html" %}',
        view={
            "histograms": rows,
            "histogram_figures": _figures(rows),
            "distances": distances,
            "distance_panels": distance_panels(distances, comparison.styles),
            "correlations": correlations,
            "method_legend": comparison.legend,
            "several_sources": comparison.several_sources,
        },
        numbers={
            "histograms": plain_rows(rows),
            "distances": plain_rows(distances),
            "correlations": plain_rows(correlations),
        },
    )


def _figures(rows: Sequence[DomainHistogram]) -> list[dict[str, Any]]:
    """Return the panels of all bands for each domain."""
    figures = []
    for row in rows:
        panels = [
            histogram_panel(band, number, row.target.label)
            for number, band in enumerate(row.bands, start=1)
        ]
        figures.append({"row": row, "panels": panels})
    return figures
