"""A section of the page: its input and its content."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rhm.report.cross_domain import Group, Ranking, Target, group_runs, rankings, targets_of
from rhm.report.plots import series_styles
from rhm.report.runs import EvaluatedRun

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Comparison:
    """The input of every section: groups of runs, the domains they were scored on, and rankings."""

    groups: tuple[Group, ...]
    targets: tuple[Target, ...]
    rankings: tuple[Ranking, ...]

    @classmethod
    def of(cls, runs: Iterable[EvaluatedRun]) -> "Comparison":
        """Group and rank runs.

        Raises:
            ConfigError: a run is given twice.
        """
        given = list(runs)
        groups, targets = group_runs(given), targets_of(given)
        return cls(groups, targets, rankings(groups, targets))

    @cached_property
    def styles(self) -> dict[str, str]:
        """Style class of each method."""
        return series_styles([group.label for group in self.groups])

    @property
    def legend(self) -> list[tuple[str, str]]:
        """Methods with the style classes of their lines, for the macro ``legend``."""
        return [(method, f"line {style}") for method, style in self.styles.items()]

    @property
    def several_sources(self) -> bool:
        """Whether runs were trained on different domains, so that rows must name them."""
        return len({group.sources for group in self.groups}) > 1


@dataclass(frozen=True)
class Section:
    """A section of the page and its part of the numbers.

    Attributes:
        anchor: identifier of the section, to which the navigation links.
        title: title in the navigation.
        heading: heading of the section.
        fragment: Jinja source of the content below the heading. It can use the values in ``view``
            and its imports: charts and legends from ``charts.html``, parts of tables from
            ``tables.html``. A long fragment includes a file in ``templates/sections``.
        view: values for the fragment, by name.
        numbers: JSON-ready part of ``report.json``, with names that no other section uses.
        script: Jinja source of the JavaScript of the section, if any.
        shown: whether there is anything to show; the numbers are written in any case.
    """

    anchor: str
    title: str
    heading: str
    fragment: str
    view: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    script: str = ""
    shown: bool = True


def plain_rows(rows: "Iterable[DataclassInstance]") -> list[dict[str, Any]]:
    """Return the rows of a table as JSON-ready values."""
    return [asdict(row) for row in rows]
