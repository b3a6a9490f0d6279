"""The sections of the cross-domain report, one file for each section.

The function ``section(comparison)`` of a file in this folder returns the section. To add a section,
add a file; to place it before the end, name it in ``ORDER``.
"""

from importlib import import_module
from pkgutil import iter_modules

from rhm.report.section import Comparison, Section

ORDER = (
    "summary_of_runs",
    "source_by_target",
    "methods_compared",
    "scores_by_domain",
    "footprint_scores",
    "histograms_by_domain",
    "tile_gallery",
    "training_curves",
)
"""Files in the order of the page; files that are not named here follow in alphabetical order."""


def section_files() -> tuple[str, ...]:
    """Return the names of all section files in the order of the page."""
    found = sorted(module.name for module in iter_modules(__path__))
    return (*ORDER, *(name for name in found if name not in ORDER))


def build_sections(comparison: Comparison) -> tuple[Section, ...]:
    """Return all sections in the order of the page."""
    modules = (import_module(f"{__name__}.{name}") for name in section_files())
    return tuple(module.section(comparison) for module in modules)
