"""The page of an analysis: how features separate the classes, by stage and domain."""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd
import pyarrow.parquet

from rhm.evaluation.features.adapter_changes import Adaptation
from rhm.evaluation.features.feature_moments import CellSampling
from rhm.evaluation.features.findings import BestTap, Inspection, StageStatistics
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
"""Files of an analysis."""

_FIRST_COLUMNS = ("model", "stage", "number", "part")
_BEGINNINGS = {
    ".json": re.compile(rb'\{\n "format": \d+,\n "sampling": \{'),
    ".csv": re.compile(",".join(_FIRST_COLUMNS).encode() + b","),
}


@dataclass(frozen=True)
class Quantity:
    """A quantity that is drawn over the stages."""

    title: str
    label: str
    value: Callable[[StageStatistics], float | None]
    meaning: str
    logarithmic: bool = False

    def drawn(self, stage: StageStatistics) -> float | None:
        """Return the value of a stage, or None if there is none or it has no place on the axis."""
        value = self.value(stage)
        # The logarithm is undefined for a stage whose classes are single points.
        return value if value is None or value > 0.0 or not self.logarithmic else None


def write_analysis(
    inspections: Sequence[Inspection],
    sampling: CellSampling,
    folder: Path,
    adaptations: Sequence[Adaptation] = (),
) -> tuple[Path, ...]:
    """Write the page, the numbers and the tables of the inspection of one or several models.

    Args:
        inspections: results for models that were inspected on the same images.
        sampling: images and cells that were sampled.
        folder: folder for ``FILES``, which are written all together or not at all.
        adaptations: updates of the models that were adapted.

    Returns:
        Paths of the files.

    Raises:
        OutputError: the folder cannot be written.
    """
    table = stage_table(inspections)
    values = {
        "format": FORMAT,
        "sampling": _sampled(sampling),
        "models": [inspection.to_dict() for inspection in inspections],
        "adaptations": [adaptation.to_dict() for adaptation in adaptations],
    }
    targets = [Path(folder) / name for name in FILES]
    with staged_paths(targets) as (page, numbers, csv, parquet):
        page.write_text(render(inspections, sampling, adaptations), encoding="utf-8")
        numbers.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        table.to_csv(csv, index=False)
        table.to_parquet(parquet, index=False)
    return tuple(targets)


def is_analysis(path: Path) -> bool:
    """Return whether a file has the numbers or the table of an analysis."""
    try:
        if path.suffix == ".parquet":
            columns = pyarrow.parquet.read_schema(path).names
            return tuple(columns[: len(_FIRST_COLUMNS)]) == _FIRST_COLUMNS
        with path.open("rb") as file:
            return _BEGINNINGS[path.suffix].match(file.read(1000)) is not None
    except (OSError, ValueError):  # pyarrow's errors are among these
        return False


def stage_table(inspections: Sequence[Inspection]) -> pd.DataFrame:
    """Return one row per model, stage and domain; values by class have one column per class."""
    rows = []
    for inspection in inspections:
        for stage in inspection.stages:
            row = asdict(stage)
            for name in ("cells", "shift", "advance"):
                row |= {f"{name}_{label}": value for label, value in row.pop(name).items()}
            rows.append(row)
    return pd.DataFrame(rows)


def _sampled(sampling: CellSampling) -> dict[str, Any]:
    """Return the settings of a sampling, with the classes of networks that have several."""
    return {key: value for key, value in asdict(sampling).items() if key != "network" or value}


def quantities(classes: Sequence[str]) -> list[Quantity]:
    """Return the quantities that are drawn over the stages, for the given classes."""

    def of_class(field: str, label: str) -> Callable[[StageStatistics], float]:
        return lambda stage: float(getattr(stage, field)[label])

    found = [
        Quantity(
            "Compression",
            "C_l = tr \u03a3_W / tr \u03a3_B",
            lambda stage: stage.compression,
            "The spread within classes divided by the spread between them: low where the features "
            "of each class are close together.",
            logarithmic=True,
        ),
        Quantity(
            "Discrimination",
            "D_l = 1 \u2212 max cos(\u03bc_k, \u03bc_k')",
            lambda stage: stage.discrimination,
            "The difference between the directions of the class means: 0 if they are equal, 1 at "
            "right angles.",
        ),
        Quantity(
            "Stable rank",
            "\u2016H\u2016_F\u00b2 / \u2016H\u2016\u00b2",
            lambda stage: stage.stable_rank,
            "The approximate number of directions in which the features vary.",
        ),
        Quantity(
            "Own probe",
            "balanced accuracy",
            lambda stage: stage.probe,
            "A linear classifier that is fitted on half of the images of a domain and tested on "
            "the other half: the information about the classes in a stage.",
        ),
        Quantity(
            "Transferred probe",
            "balanced accuracy",
            lambda stage: stage.transfer,
            "The same classifier fitted on the training domains of the model: how much of that "
            "information transfers.",
        ),
    ]
    for label in classes:
        found.append(
            Quantity(
                f"Shift of {label}",
                "|\u03bc' \u2212 \u03bc| / s",
                of_class("shift", label),
                f"The distance between the mean of {label} and that in the training domains, in "
                "units of the spread s within classes.",
            )
        )
    for label in classes:
        found.append(
            Quantity(
                f"Advance of {label}",
                "share of the way to another class",
                of_class("advance", label),
                f"Above about 0.5, {label} looks like another class of the training domains.",
            )
        )
    return found


def render(
    inspections: Sequence[Inspection],
    sampling: CellSampling,
    adaptations: Sequence[Adaptation] = (),
) -> str:
    """Return the page as self-contained HTML."""
    domains = list(dict.fromkeys(stage.domain for i in inspections for stage in i.stages))
    homes: dict[str, list[str]] = {domain: [] for domain in domains}
    for inspection in inspections:
        for domain in dict.fromkeys(row.domain for row in inspection.stages if row.trained_on):
            homes[domain].append(inspection.model)
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
            blocks=[
                _block(quantity, inspections, styles) for quantity in quantities(sampling.classes)
            ],
            variance=[
                (
                    inspection.model,
                    variance_panel(
                        inspection.variance, f"Variance of the stages of {inspection.model}"
                    ),
                )
                for inspection in inspections
                if inspection.variance
            ],
            variance_legend=[(part, f"key {style}") for part, style in VARIANCE_STYLES.items()],
            stages=_stages(inspections),
            taps=[tap_sentence(inspection.best) for inspection in inspections if inspection.best],
            adaptations=adaptation_blocks(adaptations),
            adaptation_legend=ADAPTATION_LEGEND,
            files=FILES,
        )
    )


def headlines(inspections: Sequence[Inspection]) -> list[str]:
    """Return a sentence per model about the most shifted class and the probes in other domains."""
    found = []
    for inspection in inspections:
        unseen = [row for row in inspection.stages if not row.trained_on]
        last = max((row.number for row in unseen), default=0)
        away = [row for row in unseen if row.number == last]
        if not away:
            found.append(
                f"{inspection.model}: only training domains could be analysed, so there is no "
                "shift to show."
            )
            continue
        row, label = max(
            ((row, label) for row in away for label in row.advance),
            key=lambda pair: pair[0].advance[pair[1]],
        )
        found.append(
            f"{inspection.model}: at {row.stage}, the mean of {label} in {row.domain} has moved "
            f"{row.advance[label]:.0%} of the way to another class. In unseen domains, a probe "
            "that was fitted on the training domains reaches a mean accuracy of "
            f"{mean(r.transfer for r in away):.0%}, and probes that were fitted in these domains "
            f"reach {mean(r.probe for r in away):.0%}."
        )
    return found


def left_out(inspections: Sequence[Inspection]) -> list[str]:
    """Return one line for everything that was left out, with the models if it was not all."""
    lines = dict.fromkeys(line for inspection in inspections for line in inspection.left_out)
    found = []
    for line in lines:
        models = [inspection.model for inspection in inspections if line in inspection.left_out]
        where = "" if len(models) == len(inspections) else f" ({', '.join(models)})"
        found.append(f"{line}{where}")
    return found


def _block(
    quantity: Quantity, inspections: Sequence[Inspection], styles: dict[str, str]
) -> dict[str, Any]:
    """Return the charts of a quantity, one per model, with common axes."""
    panels: list[tuple[str, Panel]] = []
    numbers = sorted({stage.number for i in inspections for stage in i.stages})
    values = [quantity.drawn(stage) for i in inspections for stage in i.stages]
    known = [value for value in values if value is not None]
    if not known:
        return {"quantity": quantity, "panels": []}
    for inspection in inspections:
        lines = []
        for domain, style in styles.items():
            points = tuple(
                (float(stage.number), value)
                for stage in inspection.stages
                if stage.domain == domain and (value := quantity.drawn(stage)) is not None
            )
            if points:
                lines.append(StageLine(domain, style, points))
        panel = stage_panel(
            lines,
            quantity.label,
            numbers=numbers,
            limits=limits_of(known, logarithmic=quantity.logarithmic),
            logarithmic=quantity.logarithmic,
            description=f"{quantity.title} over the stages of {inspection.model}",
        )
        panels.append((inspection.model, panel))
    return {"quantity": quantity, "panels": panels}


def _stages(inspections: Sequence[Inspection]) -> list[tuple[int, str, int, int, bool, str]]:
    """Return the number, name, channels, stride, comparability and models of every stage."""
    found: dict[tuple[int, str, int, int, bool], list[str]] = {}
    for inspection in inspections:
        for stage in inspection.stages:
            key = (stage.number, stage.stage, stage.channels, stage.stride, stage.comparable)
            models = found.setdefault(key, [])
            if stage.model not in models:
                models.append(stage.model)
    every = len(inspections)
    return sorted(
        (*key, "" if len(models) == every else ", ".join(models)) for key, models in found.items()
    )


def _home(domain: str, models: Sequence[str], count: int) -> str:
    """Return the name of a domain in the legend, with the models that were trained on it."""
    if not models:
        return domain
    by = "" if len(models) == count else f" by {', '.join(models)}"
    return f"{domain} (trained on{by})"


def tap_sentence(best: BestTap) -> str:
    """Return a sentence about the best stage for transfer."""
    where = "unseen" if best.away else "training"
    compared = (
        f"{best.model}: among the stages that sample the same ground, probes fitted in the {where} "
        "domains are most accurate at"
    )
    if best.probe == best.last:
        return f"{compared} the last stage ({best.last:.1%})."
    said = f"{compared} {best.stage} ({best.probe:.1%}, and {best.last:.1%} at the last stage)"
    if best.clear:
        return f"{said}: use this stage for transfer."
    if math.isnan(best.margin):
        return f"{said}, but it takes more images to tell whether that is chance."
    return f"{said}, but the lead is not clear: one of {best.margin:.1%} would be."
