"""The table of a paper: methods by domains, as LaTeX, Markdown or CSV."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rhm.errors import ConfigError, printable
from rhm.report.cross_domain import (
    METRICS,
    Group,
    ScoreEstimate,
    Target,
    estimate,
    find_domain,
    group_runs,
    role_of,
    targets_of,
)
from rhm.report.runs import load_runs

_OWN = " (auto)"
"""What follows scores at the threshold that the probabilities implied, without labels."""

_IDEAL = {"ece": 0.0, "polis_m": 0.0, "tangent_error_deg": 0.0, "vertex_ratio": 1.0}
"""Best value of the scores that are best close to it; all others are best if they are high."""

_DIGITS = 3
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*"},  # which the end of a row may take
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
_MARKDOWN = {
    **{character: f"\\{character}" for character in "\\|`*[]~"},
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
}
_OUTER_UNDERSCORE = re.compile(r"(?<!\w)_|_(?!\w)")
"""An underscore that Markdown takes for markup, unlike one inside a word."""

_FORMULA = ("=", "+", "-", "@")
"""How a cell begins that spreadsheets take for a formula."""


@dataclass(frozen=True)
class ScoreTable:
    """One metric of groups of runs, which are the rows, on domains, which are the columns.

    Attributes:
        metric: name of the metric, one of ``rhm.report.cross_domain.METRICS``.
        groups: runs with the same training domains and method.
        targets: scored domains.
        cells: for each group and target, its role and the score; None where it was not scored.
        own_thresholds: for each group and target, whether it was scored at the threshold that the
            probabilities there implied.
    """

    metric: str
    groups: tuple[Group, ...]
    targets: tuple[Target, ...]
    cells: tuple[tuple[tuple[str, ScoreEstimate] | None, ...], ...]
    own_thresholds: tuple[tuple[bool, ...], ...]

    @classmethod
    def of(cls, folders: Iterable[Path], metric: str = "iou") -> "ScoreTable":
        """Read the scores of evaluated runs.

        Raises:
            ConfigError: there is no such metric, or the scores of a run are missing or malformed.
        """
        if metric not in METRICS:
            raise ConfigError(f"no metric '{metric}': choose {', '.join(METRICS)}")
        unique = dict.fromkeys(Path(folder).resolve() for folder in folders)
        groups = group_runs(load_runs(unique))
        targets = targets_of(run for group in groups for run in group.runs)
        cells = tuple(tuple(_cell(group, t, metric) for t in targets) for group in groups)
        own = tuple(tuple(_is_own(group, t) for t in targets) for group in groups)
        return cls(metric, groups, targets, cells, own)

    def lacking(self) -> tuple[str, ...]:
        """Return the labels of the targets on which some runs of a group have no score."""
        columns = zip(self.targets, zip(*self.cells, strict=True), strict=True)
        return tuple(
            target.label
            for target, cells in columns
            if any(cell is not None and cell[1].lacking for cell in cells)
        )

    def best(self) -> set[tuple[int, int]]:
        """Return the cells (row, column) that are best of all with the same sources.

        Those that look the same at the digits that are shown are best together. A mean that lacks a
        run is never the best.
        """
        found = set()
        for sources in {group.sources for group in self.groups}:
            rows = [n for n, group in enumerate(self.groups) if group.sources == sources]
            for column in range(len(self.targets)):
                known = {
                    row: _mean(cell)
                    for row in rows
                    if (cell := self.cells[row][column]) is not None and not cell[1].lacking
                }
                ranks = {row: self._rank(mean) for row, mean in known.items() if mean is not None}
                if len(ranks) > 1:
                    first = min(ranks.values())
                    found |= {(row, column) for row, rank in ranks.items() if rank == first}
        return found

    def _rank(self, mean: float) -> float:
        """Return a number that is the lower the better a score is."""
        shown, ideal = round(mean, _DIGITS), _IDEAL.get(self.metric)
        return -shown if ideal is None else round(abs(shown - ideal), _DIGITS)


def _cell(group: Group, target: Target, metric: str) -> tuple[str, ScoreEstimate] | None:
    found = [domain for run in group.runs if (domain := find_domain(run, target)) is not None]
    if not found:
        return None
    return role_of(found[0]), estimate([METRICS[metric](each) for each in found], len(group.runs))


def _is_own(group: Group, target: Target) -> bool:
    found = (find_domain(run, target) for run in group.runs)
    return any(domain is not None and domain.threshold is not None for domain in found)


def _mean(cell: tuple[str, ScoreEstimate] | None) -> float | None:
    return None if cell is None else cell[1].mean


def as_csv(table: ScoreTable) -> str:
    """Return one row for each group and domain, with all that is known of the score."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    header = ["trained_on", "method", "seeds", "tested_on", "role", "threshold", "metric"]
    rows.writerow([*header, "mean", "sd"])
    for group, cells, owned in zip(table.groups, table.cells, table.own_thresholds, strict=True):
        for target, cell, own in zip(table.targets, cells, owned, strict=True):
            if cell is not None:
                role, score = cell
                sources, label, tested = map(
                    _in_cell, (" ".join(group.sources), group.label, target.label)
                )
                what = [sources, label, score.seeds, tested]
                threshold = "auto" if own else "model"
                rows.writerow([*what, role, threshold, table.metric, score.mean, score.sd])
    return text.getvalue()


def as_markdown(table: ScoreTable) -> str:
    """Return a Markdown table: mean and standard deviation over seeds, the best in bold.

    Names are text: what Markdown or HTML would read as markup is escaped.
    """
    header, rows = _texts(table, _markdown, lambda text: f"**{text}**", "\N{PLUS-MINUS SIGN}")
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_latex(table: ScoreTable) -> str:
    """Return a LaTeX table for the package booktabs, the best in bold."""
    header, rows = _texts(table, _latex, lambda text: rf"\textbf{{{text}}}", r"$\pm$")
    body = [" & ".join(line) + r" \\" for line in rows]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{lll{'r' * len(table.targets)}}}",
            r"\toprule",
            " & ".join(header) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


FORMATS: dict[str, Callable[[ScoreTable], str]] = {
    "latex": as_latex,
    "markdown": as_markdown,
    "csv": as_csv,
}
"""How a table can be written, by the name of the format."""


def _texts(
    table: ScoreTable, escape: Callable[[str], str], bold: Callable[[str], str], between: str
) -> tuple[list[str], list[list[str]]]:
    best = table.best()
    header = ["trained on", "method", "seeds", *(target.label for target in table.targets)]
    rows = []
    for number, (group, cells) in enumerate(zip(table.groups, table.cells, strict=True)):
        scores = [
            _score(cell, between) + (_OWN if own else "")
            for cell, own in zip(cells, table.own_thresholds[number], strict=True)
        ]
        scores = [
            bold(text) if (number, column) in best else text for column, text in enumerate(scores)
        ]
        names: Sequence[str] = [" ".join(group.sources), group.label, str(len(group.runs))]
        rows.append([*map(escape, names), *scores])
    return [escape(name) for name in header], rows


def _score(cell: tuple[str, ScoreEstimate] | None, between: str) -> str:
    mean = _mean(cell)
    if cell is None or mean is None:
        return "-"
    deviation = cell[1].sd
    shown = f"{mean:.{_DIGITS}f}"
    if deviation is not None:
        shown = f"{shown} {between} {deviation:.{_DIGITS}f}"
    return f"{shown} ({cell[1].lacking})" if cell[1].lacking else shown


def _in_cell(text: str) -> str:
    """Return a name as a cell of CSV that is text in spreadsheets, too."""
    shown = printable(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _markdown(text: str) -> str:
    escaped = "".join(_MARKDOWN.get(character, character) for character in printable(text))
    return _OUTER_UNDERSCORE.sub(r"\_", escaped)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in printable(text))
