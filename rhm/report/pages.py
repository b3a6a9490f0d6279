"""Pages: the report as one self-contained HTML page, and its numbers as JSON."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rhm.errors import ConfigError
from rhm.files import write_text
from rhm.report import plots, presenters
from rhm.report.cross_domain import (
    BASELINE,
    Difference,
    Group,
    Matrix,
    Ranking,
    ScoreRow,
    group_runs,
    matrix,
    method_differences,
    rankings,
    score_rows,
    single_runs,
    targets_of,
)
from rhm.report.diagnostics import (
    DomainHistogram,
    Gallery,
    Reliability,
    RunCost,
    TrainingCurve,
    costs,
    galleries,
    histograms,
    reliability,
    training_curves,
)
from rhm.report.distances import (
    DistanceLoss,
    RankCorrelation,
    distance_losses,
    rank_correlations,
)
from rhm.report.feature_curves import FeatureCurve, feature_curves
from rhm.report.numbers import count, number, signed
from rhm.report.runs import EvaluatedRun, load_run
from rhm.report.thresholds import (
    PrecisionRecall,
    ThresholdGain,
    precision_recall,
    threshold_gains,
)
from rhm.report.wording import headlines, notes

FORMAT = 2


@dataclass(frozen=True)
class Report:
    """Everything that the page shows."""

    groups: tuple[Group, ...]
    headlines: tuple[str, ...]
    notes: tuple[str, ...]
    rankings: tuple[Ranking, ...]
    matrix: Matrix
    differences: tuple[Difference, ...]
    object_differences: tuple[Difference, ...]
    scores: tuple[ScoreRow, ...]
    run_scores: tuple[ScoreRow, ...]
    reliability: tuple[Reliability, ...]
    precision_recall: tuple[PrecisionRecall, ...]
    thresholds: tuple[ThresholdGain, ...]
    histograms: tuple[DomainHistogram, ...]
    distances: tuple[DistanceLoss, ...]
    correlations: tuple[RankCorrelation, ...]
    galleries: tuple[Gallery, ...]
    curves: tuple[TrainingCurve, ...]
    feature_curves: tuple[FeatureCurve, ...]
    costs: tuple[RunCost, ...]


def write_report(runs: Sequence[Path], destination: Path) -> Path:
    """Write the cross-domain report of evaluated runs.

    Args:
        runs: run folders with ``evaluation/scores.json`` in each.
        destination: the HTML page. All numbers it shows are written beside it, under the same
            name with the suffix ``.json``. Equal input gives equal files.

    Returns:
        The page's path.

    Raises:
        ConfigError: no runs are given, one has no or malformed scores, or an example's image
            is missing, not a PNG, or outside the run's evaluation folder.
        OutputError: the files cannot be written.
    """
    destination = Path(destination)
    numbers = destination.with_suffix(".json")
    if numbers == destination:
        raise ConfigError(f"{destination} is where the numbers go: name the page with .html")
    if not runs:
        raise ConfigError("no runs given: name at least one run folder")
    folders = list(dict.fromkeys(Path(run).resolve() for run in runs))
    report = build_report([load_run(folder) for folder in folders])
    page = render(report, numbers.name)
    write_text(numbers, json.dumps(document(report), indent=1, allow_nan=False) + "\n")
    write_text(destination, page)
    return destination


def build_report(runs: Sequence[EvaluatedRun]) -> Report:
    """Compute every table of the report."""
    groups = group_runs(runs)
    targets = targets_of(runs)
    ranked = rankings(groups, targets)
    distances = distance_losses(groups, targets)
    return Report(
        groups=groups,
        headlines=headlines(ranked),
        notes=notes(groups),
        rankings=ranked,
        matrix=matrix(groups, targets),
        differences=method_differences(groups, targets, "iou"),
        object_differences=method_differences(groups, targets, "object_f1"),
        scores=score_rows(groups, targets),
        run_scores=score_rows(single_runs(groups), targets),
        reliability=reliability(groups, targets),
        precision_recall=precision_recall(groups, targets),
        thresholds=threshold_gains(groups, targets),
        histograms=histograms(groups, targets),
        distances=distances,
        correlations=rank_correlations(distances),
        galleries=galleries(groups, ranked, targets),
        curves=training_curves(groups),
        feature_curves=feature_curves(groups),
        costs=costs(groups),
    )


def document(report: Report) -> dict[str, Any]:
    """The report's numbers as plain values for JSON; pictures and outlines are left out."""
    plain = {"format": FORMAT, "headlines": report.headlines, "notes": report.notes}
    plain["runs"] = _run_rows(report.groups)
    for name in ("rankings", "differences", "object_differences", "scores", "run_scores"):
        plain[name] = [asdict(row) for row in getattr(report, name)]
    for name in (
        "reliability",
        "precision_recall",
        "thresholds",
        "histograms",
        "distances",
        "correlations",
        "curves",
        "feature_curves",
        "costs",
    ):
        plain[name] = [asdict(row) for row in getattr(report, name)]
    plain["matrix"] = asdict(report.matrix)
    plain["gallery"] = [
        {
            "sources": gallery.sources,
            "target": asdict(tile.target),
            "tile": tile.name,
            "method": view.method,
            "run": view.run.scores.run,
            "kind": view.example.kind,
            "iou": view.example.iou,
        }
        for gallery in report.galleries
        for tile in gallery.tiles
        for view in tile.views
    ]
    return plain


def environment() -> Environment:
    """The templates of pages: everything is escaped, and what is missing is an error."""
    templates = Environment(
        loader=PackageLoader("rhm.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": number, "signed": signed, "count": count}
    return templates


def script_hash(script: str) -> str:
    """The source expression by which a page's Content-Security-Policy allows one script only."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def render(report: Report, numbers_name: str) -> str:
    """The page, as HTML that needs nothing beside itself."""
    styles = plots.series_styles([group.label for group in report.groups])
    known = [c.iou.mean for row in report.matrix.rows for c in row.cells if c and c.iou.mean]
    templates = environment()
    script = templates.get_template("slider.js").render()
    return templates.get_template("report.html").render(
        script=script,
        script_hash=script_hash(script),
        report=report,
        numbers_name=numbers_name,
        baseline=BASELINE,
        method_legend=[(method, f"line {style}") for method, style in styles.items()],
        ranking_blocks=presenters.ranking_blocks(report.rankings),
        runs=presenters.run_table(_run_rows(report.groups)),
        configurations=[
            (run.scores.run, run.config) for g in report.groups for run in g.runs if run.config
        ],
        several_sources=len({group.sources for group in report.groups}) > 1,
        highest_iou=max(known, default=1.0),
        score_blocks=presenters.by_target(report.scores),
        run_blocks=presenters.by_target(report.run_scores),
        difference_blocks=presenters.difference_blocks(
            report.differences, report.object_differences, styles
        ),
        reliability_panels=presenters.reliability_panels(report.reliability, styles),
        precision_recall_panels=presenters.precision_recall_panels(report.precision_recall, styles),
        threshold_blocks=presenters.by_target(report.thresholds),
        distance_panels=plots.distance_panels(report.distances, styles),
        histogram_figures=presenters.histogram_figures(report.histograms),
        curve_blocks=presenters.curve_blocks(report.curves, styles),
        feature_blocks=presenters.feature_blocks(report.feature_curves, styles),
        galleries=presenters.gallery_views(report.galleries),
    )


def _run_rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    rows = []
    for group in groups:
        for run in group.runs:
            row = asdict(run.scores.model) | {"config": run.config, "sources": group.sources}
            del row["histograms"]  # with the domains they are compared with
            for name in ("run", "method", "seed", "split", "catalog", "created", "threshold"):
                row[name] = getattr(run.scores, name)
            rows.append(row)
    return rows
