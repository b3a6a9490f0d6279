"""A section of the page: what it is made of, and what it yields."""

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
    """What every section is made of: runs in groups, the domains they were scored on, and ranks."""

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
        """The style class in which each method is drawn."""
        return series_styles([group.label for group in self.groups])

    @property
    def legend(self) -> list[tuple[str, str]]:
        """The methods with the style classes of their lines, for the macro ``legend``."""
        return [(method, f"line {style}") for method, style in self.styles.items()]

    @property
    def several_sources(self) -> bool:
        """Whether runs were trained on different domains, so that rows must say on which."""
        return len({group.sources for group in self.groups}) > 1


@dataclass(frozen=True)
class Section:
    """A section of the page and its part of the numbers.

    Attributes:
        anchor: identifier of the section, to which the navigation leads.
        title: in the navigation.
        heading: above the section.
        fragment: Jinja source of what stands below the heading. It sees ``view`` and what it
            imports: charts and legends from ``charts.html``, parts of tables from
            ``tables.html``. A long one includes a file of ``templates/sections``.
        view: values by name.
        numbers: the section's part of ``report.json``, ready for JSON. The names are those of no
            other section.
        script: Jinja source of the JavaScript that the section needs, if any.
        shown: whether the runs have anything to show; numbers are written in either case.
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
    """Return the rows of a table ready for JSON."""
    return [asdict(row) for row in rows]
