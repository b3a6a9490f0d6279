"""Source by target: the matrix of IoU by training domains and scored domains."""

from dataclasses import asdict

from rhm.report.cross_domain import matrix
from rhm.report.section import Comparison, Section

_TITLE = "Source \N{MULTIPLICATION SIGN} target"


def section(comparison: Comparison) -> Section:
    """Return the matrix."""
    table = matrix(comparison.groups, comparison.targets)
    known = [c.iou.mean for row in table.rows for c in row.cells if c and c.iou.mean]
    return Section(
        anchor="matrix",
        title=_TITLE,
        heading=_TITLE,
        fragment='{% include "sections/source_by_target.html" %}',
        view={"matrix": table, "highest_iou": max(known, default=1.0)},
        numbers={"matrix": asdict(table)},
    )
