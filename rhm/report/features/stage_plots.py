"""Charts of features: a quantity over the stages of a network, one line per domain."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rhm.evaluation.features.findings import StageVariance
from rhm.report.svg import SERIES, Axes, Mark, Panel, Ticks, frame, padded, ticks

_MOST_NUMBERS = 14


@dataclass(frozen=True)
class StageLine:
    """One line of a chart; ``points`` are pairs of the number of a stage (or step) and a value."""

    domain: str
    style: str
    points: tuple[tuple[float, float], ...]


def domain_styles(domains: Sequence[str], trained_on: Sequence[str]) -> dict[str, str]:
    """Return a style class per domain: neutral for a single training domain, else a colour."""
    neutral = [domain for domain in domains if domain in trained_on]
    neutral = neutral if len(neutral) == 1 else []
    others = [domain for domain in domains if domain not in neutral]
    styles = {domain: f"s{index % SERIES}" for index, domain in enumerate(others)}
    for index, domain in enumerate(others):
        if index >= SERIES:
            styles[domain] += " again"
    return styles | dict.fromkeys(neutral, "base")


def stage_panel(
    lines: Sequence[StageLine],
    label: str,
    *,
    numbers: Sequence[int],
    limits: tuple[float, float],
    logarithmic: bool = False,
    over: str = "stage",
    spacing: int = 1,
    description: str,
) -> Panel:
    """Return a chart of a quantity over the stages, or over other numbers, one line per domain.

    Args:
        lines: values of the domains, above 0 for a logarithmic axis.
        label: name of the quantity, with its symbol and unit.
        numbers: numbers of the stages that are shown.
        limits: lowest and highest value, shared by charts that are compared.
        logarithmic: whether the axis of values is logarithmic.
        over: name of the numbers.
        spacing: difference of neighbouring numbers; a line breaks where a number is missing.
        description: description of the chart for screen readers.
    """
    low, high = limits
    y_range, y_ticks = padded([low, high]), None
    if logarithmic:
        y_range = math.log10(low) - 0.05, math.log10(high) + 0.05
        y_ticks = log_ticks(*y_range)
    room = 0.02 * (max(numbers) - min(numbers)) + 0.2
    axes = Axes((46, 24, 318, 194), (min(numbers) - room, max(numbers) + room), y_range)
    step = math.ceil(len(numbers) / _MOST_NUMBERS)
    x_ticks = [(float(number), str(number)) for number in numbers[::step]]
    marks, texts = frame(axes, over, label, x_ticks=x_ticks, y_ticks=y_ticks)
    for line in lines:
        points = tuple((x, math.log10(y) if logarithmic else y) for x, y in line.points)
        for run in _unbroken(points, spacing):
            marks.append(Mark(axes.path(run), f"line {line.style}", line.domain))
        marks.append(Mark(axes.dots(points), f"dots {line.style}", line.domain))
    return Panel(332, 234, description, tuple(marks), tuple(texts))


def _unbroken(
    points: tuple[tuple[float, float], ...], spacing: int
) -> list[tuple[tuple[float, float], ...]]:
    """Return the longest runs of points without a gap."""
    runs: list[list[tuple[float, float]]] = []
    for point in points:
        if not runs or point[0] != runs[-1][-1][0] + spacing:
            runs.append([])
        runs[-1].append(point)
    return [tuple(run) for run in runs if len(run) > 1]


def log_ticks(low: float, high: float) -> Ticks:
    """Return powers of ten between two exponents, with steps in between if there are few."""
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    values = [factor * 10.0**power for power in powers for factor in factors]
    shown = [(math.log10(value), f"{value:g}") for value in values]
    inside = [tick for tick in shown if low <= tick[0] <= high]
    every = math.ceil(len(inside) / 7)
    return inside[::every] if len(inside) > 1 else ticks(low, high)


def variance_panel(rows: Sequence[StageVariance], description: str) -> Panel:
    """Return stacked bars of the variance components of each stage, except that within classes."""
    highest = max(1.0 - row.shares.within for row in rows)
    numbers = [row.number for row in rows]
    axes = Axes(
        (46, 24, 318, 194), (min(numbers) - 0.7, max(numbers) + 0.7), (0.0, max(highest, 1e-3))
    )
    x_ticks = [(float(number), str(number)) for number in numbers]
    marks, texts = frame(axes, "stage", "share of the variance", x_ticks=x_ticks)
    for row in rows:
        left, right = axes.x(row.number - 0.35), axes.x(row.number + 0.35)
        reached = 0.0
        for part, style in VARIANCE_STYLES.items():
            share = getattr(row.shares, part)
            top, bottom = axes.y(reached + share), axes.y(reached)
            path = f"M{left:.1f} {bottom:.1f}H{right:.1f}V{top:.1f}H{left:.1f}Z"
            marks.append(Mark(path, f"bar {style}", f"{row.stage}, {part}: {share:.3f}"))
            reached += share
    return Panel(332, 234, description, tuple(marks), tuple(texts))


VARIANCE_STYLES = {"classes": "s0", "domains": "s1", "interaction": "s3"}
"""Components of the variance that are drawn, from the bottom up."""


def limits_of(
    values: Mapping[str, Sequence[float]] | Sequence[float], *, logarithmic: bool = False
) -> tuple[float, float]:
    """Return the lowest and highest value, moved apart if they are equal.

    Args:
        values: at least one value, above 0 for a logarithmic axis.
        logarithmic: whether the axis of the values is logarithmic.
    """
    flat = (
        [v for of_domain in values.values() for v in of_domain]
        if isinstance(values, Mapping)
        else values
    )
    low, high = min(flat), max(flat)
    if logarithmic and low == high:
        return low / 2.0, high * 2.0
    return (low, high) if high > low else (low - 0.5 * abs(low) - 0.5, high + 0.5 * abs(high) + 0.5)
