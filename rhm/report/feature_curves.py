"""Features during training: collapse over the steps, and separation over the stages at the end.

Only runs that recorded their features (``analysis.every`` in the configuration) have these curves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rhm.report.cross_domain import Group
from rhm.report.svg import Axes, Mark, Panel, Points, frame, padded
from rhm.training.callbacks.training_log import LogPoints

_COLLAPSE = {
    "nc1": "NC1, spread within classes",
    "nc2": "NC2, classifier from a simplex",
    "nc3": "NC3, classifier times class means from a simplex",
}
_SEPARATION = {"compression": "Compression C_l", "discrimination": "Discrimination D_l"}


@dataclass(frozen=True)
class FeatureCurve:
    """One quantity of one run.

    Attributes:
        sources: training domains of the run.
        method: label of the group of the run.
        run: name of the run.
        seed: seed of the run.
        quantity: ``nc1`` to ``nc3``, ``compression`` or ``discrimination``.
        stages: names of the stages; empty for a quantity over steps.
        points: (step, value), or (number of the stage from 0, value at the last record).
    """

    sources: tuple[str, ...]
    method: str
    run: str
    seed: int
    quantity: str
    stages: tuple[str, ...]
    points: Points


def feature_curves(groups: Sequence[Group]) -> tuple[FeatureCurve, ...]:
    """Return the curves of the runs that recorded their features, by quantity, then by run."""
    runs = [(group, run) for group in groups for run in group.runs]
    curves = []
    for quantity in (*_COLLAPSE, *_SEPARATION):
        for group, run in runs:
            stages, points = _points(run.log.features, quantity)
            if points:
                names = (group.label, run.scores.run, run.scores.seed)
                curves.append(FeatureCurve(group.sources, *names, quantity, stages, points))
    return tuple(curves)


def feature_panels(curves: Sequence[FeatureCurve], styles: dict[str, str]) -> tuple[Panel, ...]:
    """Return a chart for every quantity, with a line for every run; all have the same sources."""
    panels = []
    for quantity, title in (_COLLAPSE | _SEPARATION).items():
        lines = [curve for curve in curves if curve.quantity == quantity]
        if not lines:
            continue
        over = "stage" if quantity in _SEPARATION else "step"
        last = max(x for curve in lines for x, _ in curve.points)
        values = [value for curve in lines for _, value in curve.points]
        axes = Axes((46, 24, 318, 194), (0.0, max(last, 1.0)), padded(values))
        marks, texts = frame(axes, over, title)
        for curve in lines:
            style = styles[curve.method]
            told = f"{curve.method}, {curve.run}, seed {curve.seed}"
            marks.append(Mark(axes.path(curve.points), f"line {style}", told))
            marks.append(Mark(axes.dots(curve.points), f"dots {style}", told))
        description = f"{title} over {over}s, {len(lines)} runs"
        panels.append(Panel(332, 234, description, tuple(marks), tuple(texts)))
    return tuple(panels)


def _points(recorded: dict[str, LogPoints], quantity: str) -> tuple[tuple[str, ...], Points]:
    if quantity in _COLLAPSE:
        return (), tuple((float(step), value) for step, value in recorded.get(quantity, ()))
    of_stages = {
        name.partition("/")[2]: points[-1][1]
        for name, points in recorded.items()
        if name.startswith(f"{quantity}/")
    }
    return tuple(of_stages), tuple((float(i), v) for i, v in enumerate(of_stages.values()))
