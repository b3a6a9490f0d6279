"""Charts of an adaptation: the spectra of the updates, and their directions during training."""

from collections.abc import Sequence
from typing import Any

from rhm.evaluation.features.adapter_changes import Adaptation
from rhm.report.features.stage_plots import StageLine, stage_panel
from rhm.report.svg import Panel

_SHOWN = 12
_LEAST = 1e-6
_QUANTILES = {"median layer": (0.5, "s0"), "nine layers in ten are below": (0.9, "s1")}

ADAPTATION_LEGEND = [(name, f"line {style}") for name, (_, style) in _QUANTILES.items()]
"""Labels of the lines in the charts, with their style classes."""


def adaptation_blocks(adaptations: Sequence[Adaptation]) -> list[dict[str, Any]]:
    """Return the charts, the sentence and the table of each adapted model."""
    return [
        {
            "found": found,
            "sentence": adaptation_sentence(found),
            "panels": [_spectrum_panel(found), *_angle_panel(found)],
            "layers": found.layers[:_SHOWN],
            "more": len(found.layers) > _SHOWN,
        }
        for found in adaptations
    ]


def adaptation_sentence(found: Adaptation) -> str:
    """Return a sentence about the size and the rank of the updates of an adaptation."""
    first = found.layers[0]
    return (
        f"{found.model} ({found.method}): the median update of {len(found.layers)} layers has 95 % "
        f"of its energy in {found.median_rank:g} of {found.largest_rank} directions. The norm of "
        f"the largest update, that of {first.layer}, is {first.relative_norm:.1%} of the norm of "
        "its weight."
    )


def _spectrum_panel(found: Adaptation) -> Panel:
    numbers = list(range(1, found.largest_rank + 1))
    lines = [
        StageLine(
            name,
            style,
            tuple((float(n), max(v, _LEAST)) for n, v in zip(numbers, values, strict=True)),
        )
        for name, (quantile, style) in _QUANTILES.items()
        if (values := found.spectrum(quantile))
    ]
    return stage_panel(
        lines,
        "share of the first",
        numbers=numbers,
        limits=(_LEAST, 1.0),
        logarithmic=True,
        over="singular value",
        description=f"Singular values of the updates of {found.model}",
    )


def _angle_panel(found: Adaptation) -> list[Panel]:
    lines = []
    for name, (quantile, style) in _QUANTILES.items():
        values = zip(found.steps, found.angle(quantile), strict=True)
        points = tuple((float(step), value) for step, value in values if value is not None)
        if points:
            lines.append(StageLine(name, style, points))
    if not lines:
        return []
    panel = stage_panel(
        lines,
        "degrees",
        numbers=found.steps,
        limits=(0.0, 90.0),
        over="step",
        spacing=found.steps[-1] // max(len(found.steps) - 1, 1),
        description=f"Angle of the updates of {found.model} to their end",
    )
    return [panel]
