"""The page of an analysis: what features do to the classes, by stage and domain."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd

from rhm.evaluation.adapter_changes import Adaptation
from rhm.evaluation.feature_moments import CellSampling
from rhm.evaluation.findings import BestTap, Inspection, StageStatistics
from rhm.files import staged_paths
from rhm.report.features.adaptation_plots import ADAPTATION_LEGEND, adaptation_blocks
from rhm.report.features.stage_plots import (
    VARIANCE_STYLES,
    StageLine,
    domain_styles,
    limits_of,
    stage_panel,
    variance_panel,
)
from rhm.report.pages import environment
from rhm.report.svg import Panel

FORMAT = 1
"""Version of ``analysis.json``."""

FILES = ("index.html", "analysis.json", "stages.csv", "stages.parquet")
"""What an analysis consists of."""


@dataclass(frozen=True)
class Quantity:
    """A quantity that is drawn over the stages."""

    title: str
    label: str
    value: Callable[[StageStatistics], float | None]
    meaning: str
    logarithmic: bool = False


def write_analysis(
    inspections: Sequence[Inspection],
    sampling: CellSampling,
    folder: Path,
    adaptations: Sequence[Adaptation] = (),
) -> tuple[Path, ...]:
    """Write page, numbers and tables of the inspection of one or several models.

    Args:
        inspections: of models that looked at the same images.
        sampling: what they looked at.
        folder: receives ``FILES``, all of them or none.
        adaptations: what was changed in those of the models that were adapted.

    Returns:
        The paths of the files.

    Raises:
        OutputError: the folder cannot be written.
    """
    table = stage_table(inspections)
    values = {
        "format": FORMAT,
        "sampling": asdict(sampling),
        "models": [each.to_dict() for each in inspections],
        "adaptations": [each.to_dict() for each in adaptations],
    }
    targets = [Path(folder) / name for name in FILES]
    with staged_paths(targets) as (page, numbers, csv, parquet):
        page.write_text(render(inspections, sampling, adaptations), encoding="utf-8")
        numbers.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        table.to_csv(csv, index=False)
        table.to_parquet(parquet, index=False)
    return tuple(targets)


def stage_table(inspections: Sequence[Inspection]) -> pd.DataFrame:
    """Return one row per model, stage and domain; what there is by class in columns of its own."""
    rows = []
    for inspection in inspections:
        for each in inspection.stages:
            row = asdict(each)
            for name in ("cells", "shift", "advance"):
                row |= {f"{name}_{label}": value for label, value in row.pop(name).items()}
            rows.append(row)
    return pd.DataFrame(rows)


def quantities(classes: Sequence[str]) -> list[Quantity]:
    """Return what is drawn over the stages, of the classes looked at."""

    def of_class(field: str, label: str) -> Callable[[StageStatistics], float]:
        return lambda each: float(getattr(each, field)[label])

    found = [
        Quantity(
            "Compression",
            "C_l = tr \u03a3_W / tr \u03a3_B",
            lambda each: each.compression,
            "Spread within classes over spread between them: low where a stage has drawn each "
            "class together.",
            logarithmic=True,
        ),
        Quantity(
            "Discrimination",
            "D_l = 1 \u2212 max cos(\u03bc_k, \u03bc_k')",
            lambda each: each.discrimination,
            "How far the directions of the class means are apart: 0 the same, 1 at right angles.",
        ),
        Quantity(
            "Stable rank",
            "\u2016H\u2016_F\u00b2 / \u2016H\u2016\u00b2",
            lambda each: each.stable_rank,
            "About how many directions the features fill.",
        ),
        Quantity(
            "Own probe",
            "balanced accuracy",
            lambda each: each.probe,
            "A linear classifier fitted to half of the domain's images, tested on the other half: "
            "what there is to be read off the stage.",
        ),
        Quantity(
            "Transferred probe",
            "balanced accuracy",
            lambda each: each.transfer,
            "The same classifier fitted where the model was trained: what of it holds elsewhere.",
        ),
    ]
    for label in classes:
        found.append(
            Quantity(
                f"Shift of {label}",
                "|\u03bc' \u2212 \u03bc| / s",
                of_class("shift", label),
                f"How far the mean of {label} is from where the model was trained, in units of the "
                "spread s within classes.",
            )
        )
    for label in classes:
        found.append(
            Quantity(
                f"Advance of {label}",
                "share of the way to another class",
                of_class("advance", label),
                f"From about 0.5, {label} looks like another class does where the model was "
                "trained.",
            )
        )
    return found


def render(
    inspections: Sequence[Inspection],
    sampling: CellSampling,
    adaptations: Sequence[Adaptation] = (),
) -> str:
    """Return the page, as HTML that needs nothing beside itself."""
    domains = list(dict.fromkeys(each.domain for i in inspections for each in i.stages))
    homes: dict[str, list[str]] = {domain: [] for domain in domains}
    for each in inspections:
        for domain in dict.fromkeys(row.domain for row in each.stages if row.trained_on):
            homes[domain].append(each.model)
    styles = domain_styles(domains, [domain for domain in domains if homes[domain]])
    return (
        environment()
        .get_template("analysis.html")
        .render(
            inspections=inspections,
            sampling=sampling,
            headlines=headlines(inspections),
            left_out=left_out(inspections),
            legend_items=[
                (_home(domain, homes[domain], len(inspections)), f"line {style}")
                for domain, style in styles.items()
            ],
            blocks=[_block(each, inspections, styles) for each in quantities(sampling.classes)],
            variance=[
                (
                    each.model,
                    variance_panel(each.variance, f"Variance of the stages of {each.model}"),
                )
                for each in inspections
                if each.variance
            ],
            variance_legend=[(part, f"key {style}") for part, style in VARIANCE_STYLES.items()],
            stages=_stages(inspections),
            taps=[tap_sentence(each.best) for each in inspections if each.best],
            adaptations=adaptation_blocks(adaptations),
            adaptation_legend=ADAPTATION_LEGEND,
            files=FILES,
        )
    )


def headlines(inspections: Sequence[Inspection]) -> list[str]:
    """Return, per model, where a class is most like another one, and what that leaves to read."""
    found = []
    for each in inspections:
        away = [row for row in each.last_stage() if not row.trained_on]
        if not away:
            found.append(
                f"{each.model}: only domains that it was trained on could be looked at, so there "
                "is no shift to show."
            )
            continue
        row, label = max(
            ((row, label) for row in away for label in row.advance),
            key=lambda pair: pair[0].advance[pair[1]],
        )
        found.append(
            f"{each.model}: at {row.stage}, the mean of {label} in {row.domain} has gone "
            f"{row.advance[label]:.0%} of the way to another class; over the domains not trained "
            f"on, a probe fitted at home reads {mean(r.transfer for r in away):.0%} right there, "
            f"one fitted in each {mean(r.probe for r in away):.0%}."
        )
    return found


def left_out(inspections: Sequence[Inspection]) -> list[str]:
    """Return what was left out and why, a line each, with the models where it was not in all."""
    lines = dict.fromkeys(line for each in inspections for line in each.left_out)
    found = []
    for line in lines:
        models = [each.model for each in inspections if line in each.left_out]
        where = "" if len(models) == len(inspections) else f" ({', '.join(models)})"
        found.append(f"{line}{where}")
    return found


def _block(
    quantity: Quantity, inspections: Sequence[Inspection], styles: dict[str, str]
) -> dict[str, Any]:
    """Return one quantity's charts, a model each, on common axes."""
    panels: list[tuple[str, Panel]] = []
    numbers = sorted({each.number for i in inspections for each in i.stages})
    values = [quantity.value(each) for i in inspections for each in i.stages]
    known = [each for each in values if each is not None]
    if not known:
        return {"quantity": quantity, "panels": []}
    for inspection in inspections:
        lines = []
        for domain, style in styles.items():
            points = tuple(
                (float(each.number), value)
                for each in inspection.stages
                if each.domain == domain and (value := quantity.value(each)) is not None
            )
            if points:
                lines.append(StageLine(domain, style, points))
        panel = stage_panel(
            lines,
            quantity.label,
            numbers=numbers,
            limits=limits_of(known),
            logarithmic=quantity.logarithmic,
            description=f"{quantity.title} over the stages of {inspection.model}",
        )
        panels.append((inspection.model, panel))
    return {"quantity": quantity, "panels": panels}


def _stages(inspections: Sequence[Inspection]) -> list[tuple[int, str, int, int, bool, str]]:
    """Return number, name, channels, stride, comparability and models of every stage."""
    found: dict[tuple[int, str, int, int, bool], list[str]] = {}
    for inspection in inspections:
        for each in inspection.stages:
            key = (each.number, each.stage, each.channels, each.stride, each.comparable)
            models = found.setdefault(key, [])
            if each.model not in models:
                models.append(each.model)
    every = len(inspections)
    return sorted(
        (*key, "" if len(models) == every else ", ".join(models)) for key, models in found.items()
    )


def _home(domain: str, models: Sequence[str], count: int) -> str:
    """Return a domain's name in the legend, with who was trained on it."""
    if not models:
        return domain
    by = "" if len(models) == count else f" by {', '.join(models)}"
    return f"{domain} (trained on{by})"


def tap_sentence(best: BestTap) -> str:
    """Return what is said of the stage to tap for transfer."""
    where = "away from home" if best.away else "at home"
    said = (
        f"{best.model}: over the stages on the same ground, probes fitted in each domain {where} "
        f"read most right at {best.stage}, {best.probe:.1%}, and {best.last:.1%} at the last"
    )
    if best.clear:
        return f"{said}: the stage to tap for transfer."
    return f"{said}, which is no clear difference (standard error {best.error:.1%})."
