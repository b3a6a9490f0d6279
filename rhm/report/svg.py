"""Charts as plain geometry, which ``templates/charts.html`` draws as inline SVG.

Charts are small panels of fixed width, so that their text keeps its size on a phone. Their colours
are classes of the style sheet of the page, so that they follow its light or dark mode. No element
has an identifier, so that a page can have any number of charts, and equal numbers give equal text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rhm.report.numbers import number

SERIES = 6
Points = tuple[tuple[float, float], ...]
Ticks = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Mark:
    """A path in pixels, with its style class and the text of its tooltip."""

    path: str
    style: str
    title: str = ""


@dataclass(frozen=True)
class Text:
    """A label at a position in pixels; ``title`` is the full text if it was shortened."""

    x: float
    y: float
    text: str
    anchor: str = "middle"
    title: str = ""


@dataclass(frozen=True)
class Panel:
    """A chart in pixels, with y downwards; screen readers read the ``description``."""

    width: int
    height: int
    description: str
    marks: tuple[Mark, ...]
    texts: tuple[Text, ...]


@dataclass(frozen=True)
class Axes:
    """A rectangle of pixels (left, top, right, bottom) that shows ranges of values."""

    box: tuple[float, float, float, float]
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        """Return the pixel column of a value, clipped to the box."""
        left, _, right, _ = self.box
        return left + (right - left) * _share(value, self.x_range)

    def y(self, value: float) -> float:
        """Return the pixel row of a value, clipped to the box."""
        _, top, _, bottom = self.box
        return bottom - (bottom - top) * _share(value, self.y_range)

    def path(self, points: Points) -> str:
        """Return the path of a polyline through points of values."""
        pixels = (f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
        return "M" + "L".join(pixels)

    def dots(self, points: Points) -> str:
        """Return a path with dots at points of values, for a stroke with round caps."""
        return "".join(f"M{self.x(x):.1f} {self.y(y):.1f}h0" for x, y in points)


def ticks(low: float, high: float, count: int = 4) -> Ticks:
    """Return about ``count`` round values from ``low`` to ``high``, with their labels."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [index * step for index in range(first, last + 1)]
    if step >= 1000 and all(value % 1000 == 0 for value in values):
        return tuple((value, f"{value / 1000:.0f}k" if value else "0") for value in values)
    return tuple((value, number(value, decimals)) for value in values)


def frame(
    axes: Axes,
    x_label: str,
    y_label: str,
    *,
    x_ticks: Ticks | None = None,
    y_ticks: Ticks | None = None,
) -> tuple[list[Mark], list[Text]]:
    """Return grid lines, tick labels and names of both axes; ticks are round values by default."""
    left, top, right, bottom = axes.box
    marks, texts = [], []
    for value, label in ticks(*axes.x_range) if x_ticks is None else x_ticks:
        marks.append(Mark(f"M{axes.x(value):.1f} {top}V{bottom}", "grid"))
        texts.append(Text(axes.x(value), bottom + 15, label))
    for value, label in ticks(*axes.y_range) if y_ticks is None else y_ticks:
        marks.append(Mark(f"M{left} {axes.y(value):.1f}H{right}", "grid"))
        texts.append(Text(left - 6, axes.y(value) + 4, label, "end"))
    marks.append(Mark(f"M{left} {top}V{bottom}H{right}", "axis"))
    texts.append(Text((left + right) / 2, bottom + 33, x_label))
    texts.append(Text(4, top - 10, y_label, "start"))
    return marks, texts


def padded(values: Sequence[float]) -> tuple[float, float]:
    """Return a range with room around the values, without negative numbers unless they have any."""
    low, high = min(values), max(values)
    pad = (high - low) * 0.05 or max(abs(high) * 0.05, 0.05)
    return max(low - pad, 0.0) if low >= 0 else low - pad, high + pad


def _share(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return min(max((value - low) / (high - low), 0.0), 1.0)
