"""Methods compared: the differences between methods and the baseline, seed by seed."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rhm.report.cross_domain import BASELINE, Difference, method_differences
from rhm.report.plots import difference_limits, difference_panel
from rhm.report.section import Comparison, Section, plain_rows


def section(comparison: Comparison) -> Section:
    """Return the differences in IoU and in the F1 score of footprints."""
    groups, targets = comparison.groups, comparison.targets
    overlap = method_differences(groups, targets, "iou")
    objects = method_differences(groups, targets, "object_f1")
    return Section(
        anchor="methods",
        title="Methods",
        heading="Methods compared",
        fragment='{% include "sections/methods_compared.html" %}',
        view={
            "baseline": BASELINE,
            "difference_blocks": _blocks(overlap, objects, comparison.styles),
            "several_sources": comparison.several_sources,
        },
        numbers={
            "differences": plain_rows(overlap),
            "object_differences": plain_rows(objects),
        },
    )


def _blocks(
    overlap: Sequence[Difference], objects: Sequence[Difference], styles: dict[str, str]
) -> list[dict[str, Any]]:
    """Return, for each set of sources, a panel per method and a row per method and domain."""
    found = {(d.sources, d.method, d.target): d for d in objects}
    blocks = []
    for sources, same in groupby(overlap, key=lambda d: d.sources):
        rows = list(same)
        limits = difference_limits(rows)
        panels = []
        for method, differences in groupby(rows, key=lambda d: d.method):
            panel = difference_panel(list(differences), styles[method], limits)
            panels.append((method, panel))
        pairs = [(row, found.get((row.sources, row.method, row.target))) for row in rows]
        blocks.append({"sources": sources, "panels": panels, "rows": pairs})
    return blocks
