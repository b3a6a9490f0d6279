"""Summary: the results of the comparison, and the runs that were compared."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rhm.evaluation.scores import Scores
from rhm.report.cross_domain import Group, Ranking, target_of
from rhm.report.numbers import MISSING, count
from rhm.report.section import Comparison, Section, plain_rows
from rhm.report.wording import headlines, notes

_COLUMNS = (
    ("run", "Run", False),
    ("sources", "Sources", False),
    ("method", "Method", False),
    ("seed", "Seed", True),
    ("model", "Model", False),
    ("parameters", "Parameters", True),
    ("bands", "Bands", True),
    ("gsd_m", "Pixel, m", True),
    ("training_images", "Training images", True),
    ("split_hash", "Split hash", False),
    ("licence", "Licence of the data", False),
    ("rhm_version", "rhm version", False),
    ("threshold", "Threshold", True),
    ("views", "Averaged views", False),
    ("runtime", "Runtime", False),
    ("scored_on", "Scored on", False),
    ("created", "Evaluated", False),
)
_ALWAYS_COLUMNS = 4
_EVALUATION = ("split", "catalog", "created", "views", "runtime")


def section(comparison: Comparison) -> Section:
    """Return the headlines, the rankings behind them, and the table of runs."""
    sentences = headlines(comparison.rankings)
    warnings = notes(comparison.groups)
    runs = _runs(comparison.groups)
    return Section(
        anchor="summary",
        title="Summary",
        heading="Summary",
        fragment='{% include "sections/summary_of_runs.html" %}',
        view={
            "headlines": sentences,
            "notes": warnings,
            "ranking_blocks": _ranking_blocks(comparison.rankings),
            "runs": _run_table(runs),
            "configurations": [(run["run"], run["config"]) for run in runs if run["config"]],
            "several_sources": comparison.several_sources,
        },
        numbers={
            "headlines": sentences,
            "notes": warnings,
            "runs": runs,
            "rankings": plain_rows(comparison.rankings),
        },
    )


def _runs(groups: Sequence[Group]) -> list[dict[str, Any]]:
    rows = []
    for group in groups:
        for run in group.runs:
            row = asdict(run.scores.model) | {"config": run.config, "sources": group.sources}
            del row["histograms"]  # shown in the section on histograms
            for name in ("run", "method", "seed", "threshold", *_EVALUATION):
                row[name] = getattr(run.scores, name)
            row["evaluations"] = _evaluations(run.scores)
            rows.append(row)
    return rows


def _evaluations(scores: Scores) -> list[dict[str, Any]]:
    """Return how each domain was scored: one entry for all that were scored in the same way.

    The evaluation that a run records is its last; scores of earlier ones may have been kept.
    """
    found: dict[tuple[Any, ...], list[str]] = {}
    for domain in scores.domains:
        how = tuple(getattr(domain, name) for name in _EVALUATION)
        found.setdefault(how, []).append(target_of(domain).label)
    return [
        {**dict(zip(_EVALUATION, how, strict=True)), "domains": names}
        for how, names in found.items()
    ]


def _run_table(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the properties that differ between runs as columns, and shared ones as pairs.

    A table of all properties would be wider than a page, and mostly repetitive.
    """
    rows = [_run_texts(run) for run in runs]
    columns, shared = [], []
    for index, (key, label, numeric) in enumerate(_COLUMNS):
        if index < _ALWAYS_COLUMNS or len({row[key] for row in rows}) > 1:
            columns.append({"key": key, "label": label, "numeric": numeric})
        else:
            shared.append((label, rows[0][key]))
    return {"columns": columns, "rows": rows, "shared": shared}


def _run_texts(run: Mapping[str, Any]) -> dict[str, str]:
    scored = run["evaluations"] or [run]
    times = sorted({each["created"] for each in scored})
    views = {each["views"] for each in scored}
    places = [" of ".join(filter(None, (each["split"], each["catalog"]))) for each in scored]
    return {
        "run": run["run"],
        "sources": " + ".join(run["sources"]),
        "method": run["method"],
        "seed": str(run["seed"]),
        "model": f"{run['architecture']}, {run['encoder']}",
        "parameters": count(run["parameters"]),
        "bands": str(run["bands"]),
        "gsd_m": MISSING if run["gsd_m"] is None else f"{run['gsd_m']:.3g}",
        "training_images": count(run["training_images"]),
        "split_hash": (run["split_hash"] or MISSING)[:12],
        "licence": run["licence"] or MISSING,
        "rhm_version": run["rhm_version"] or MISSING,
        "threshold": f"{run['threshold']:g}",
        "views": " and ".join("yes" if each else "no" for each in sorted(views)),
        "runtime": " and ".join(sorted({each["runtime"] or "unknown" for each in scored})),
        "scored_on": ", ".join(dict.fromkeys(places)),
        "created": " to ".join(dict.fromkeys((times[0], times[-1]))),
    }


def _ranking_blocks(rankings: Sequence[Ranking]) -> list[dict[str, Any]]:
    """Return, for each set of sources, its rankings side by side.

    Methods are in the order of the ranking on unseen domains.
    """
    blocks = []
    for sources, group in groupby(rankings, key=lambda ranking: ranking.sources):
        same = list(group)
        lead = next((ranking for ranking in same if ranking.role == "unseen"), same[-1])
        means = [{rank.method: rank.iou for rank in ranking.ranks} for ranking in same]
        rows = [(rank.method, [mean[rank.method] for mean in means]) for rank in lead.ranks]
        blocks.append({"sources": sources, "rankings": same, "rows": rows})
    return blocks
