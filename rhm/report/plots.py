"""The charts of the cross-domain report: functions from its tables to panels of ``svg``."""

from collections.abc import Sequence

from rhm.evaluation.scores import Example, Polygon
from rhm.report.cross_domain import BASELINE, Difference
from rhm.report.diagnostics import BandHistogram, Reliability, TrainingCurve
from rhm.report.numbers import number, signed
from rhm.report.svg import SERIES, Axes, Mark, Panel, Points, Text, frame, padded, ticks
from rhm.report.thresholds import PrecisionRecall
from rhm.report.without_labels import DistanceLoss

_HISTOGRAM_BINS = 64
_BAR_HEIGHT = 24
_LABEL_LENGTH = 19


def series_styles(methods: Sequence[str]) -> dict[str, str]:
    """Return a style class for each method: neutral for the baseline, a colour for the others."""
    others = [method for method in dict.fromkeys(methods) if method != BASELINE]
    styles = {method: f"s{index % SERIES}" for index, method in enumerate(others)}
    for index, method in enumerate(others):
        if index >= SERIES:
            styles[method] += " again"
    return styles | ({BASELINE: "base"} if BASELINE in methods else {})


def reliability_panel(
    curves: Sequence[Reliability],
    styles: dict[str, str],
    *,
    over: str = "predicted probability",
    share: str = "share that is building",
) -> Panel:
    """Return a chart of a share over what was predicted of it, one line per method.

    Args:
        curves: curves on one target.
        styles: style class of each method.
        over: label of the horizontal axis.
        share: label of the vertical axis.
    """
    axes = Axes((40, 24, 268, 194), (0.0, 1.0), (0.0, 1.0))
    marks, texts = frame(axes, over, share)
    marks.append(Mark(axes.path(((0.0, 0.0), (1.0, 1.0))), "diagonal"))
    for curve in curves:
        points = tuple((b.confidence, b.frequency) for b in curve.bins)
        marks.append(Mark(axes.path(points), f"line {styles[curve.method]}", curve.method))
        marks.append(Mark(axes.dots(points), f"dots {styles[curve.method]}"))
    names = ", ".join(curve.method for curve in curves)
    description = f"Reliability curves on {curves[0].target.label} of {names}"
    return Panel(280, 234, description, tuple(marks), tuple(texts))


def precision_recall_panel(curves: Sequence[PrecisionRecall], styles: dict[str, str]) -> Panel:
    """Return a chart of precision over recall, one line per method; a dotted line is chance."""
    axes = Axes((40, 24, 268, 194), (0.0, 1.0), (0.0, 1.0))
    marks, texts = frame(axes, "recall", "precision")
    chance = curves[0].buildings
    marks.append(Mark(axes.path(((0.0, chance), (1.0, chance))), "diagonal"))
    for curve in curves:
        title = f"{curve.method}, average precision {number(curve.average_precision)}"
        marks.append(Mark(axes.path(curve.points), f"line {styles[curve.method]}", title))
    names = ", ".join(curve.method for curve in curves)
    description = f"Precision over recall on {curves[0].target.label} of {names}"
    return Panel(280, 234, description, tuple(marks), tuple(texts))


def distance_panels(rows: Sequence[DistanceLoss], styles: dict[str, str]) -> tuple[Panel, ...]:
    """Return charts of the loss of IoU over the histogram distance and over the expected loss.

    A dot is a group on an unseen domain, in the colour of its method.
    """
    losses = padded((0.0, *(row.loss for row in rows)))
    panels = []
    for label, values in (
        ("histogram distance", [row.distance for row in rows]),
        ("expected loss of IoU", [row.expected_loss for row in rows]),
    ):
        axes = Axes((46, 24, 318, 234), padded((0.0, *values)), losses)
        marks, texts = frame(axes, label, "loss of IoU")
        for row, value in zip(rows, values, strict=True):
            pair = f"{row.method}, {' + '.join(row.sources)} to {row.target.label}"
            told = f"{pair}: {number(value)}, loss {number(row.loss)}"
            marks.append(Mark(axes.dots(((value, row.loss),)), f"dots {styles[row.method]}", told))
        description = f"Loss of IoU over {label}, {len(rows)} groups and unseen domains"
        panels.append(Panel(332, 274, description, tuple(marks), tuple(texts)))
    return tuple(panels)


def histogram_panel(band: BandHistogram, number: int, label: str) -> Panel:
    """Return a chart of a band's histogram (area) and that of the training domain (lines).

    The training domain is drawn before and after matching. The highest inner bar determines the
    height, so that bars of saturated pixels at the ends may be cut off.
    """
    ours = _coarse(band.histogram)
    source = _coarse(band.source) if band.source else ()
    highest = max((*ours[1:-1], *source[1:-1])) or 1.0
    axes = Axes((8, 16, 152, 84), (0.0, 1.0), (0.0, highest * 1.05))
    left, _, right, bottom = axes.box
    centres = [(index + 0.5) / _HISTOGRAM_BINS for index in range(_HISTOGRAM_BINS)]
    outline = axes.path(tuple(zip(centres, ours, strict=True)))
    area = f"{outline}L{axes.x(centres[-1]):.1f} {bottom}L{axes.x(centres[0]):.1f} {bottom}Z"
    marks = [Mark(area, "area"), Mark(f"M{left} {bottom}H{right}", "axis")]
    if source:
        path = axes.path(tuple(zip(centres, source, strict=True)))
        marks.append(Mark(path, "line source-line"))
    if band.matched:
        after = [min(share, highest * 1.05) for share in _coarse(band.matched)]
        path = axes.path(tuple(zip(centres, after, strict=True)))
        marks.append(Mark(path, "line matched-line"))
    texts = [
        Text(left, 11, f"band {number}", "start"),
        Text(left, bottom + 14, "0", "start"),
        Text(right, bottom + 14, "1", "end"),
        Text((left + right) / 2, bottom + 14, "share of range"),
    ]
    description = f"Histogram of band {number} of {label}"
    return Panel(160, 104, description, tuple(marks), tuple(texts))


def curve_panels(
    curves: Sequence[TrainingCurve], styles: dict[str, str]
) -> tuple[tuple[str, Panel], ...]:
    """Return the existing charts of training loss and validation IoU, one line per run."""
    panels = []
    for title, field in (("Training loss", "train_loss"), ("Validation IoU", "val_iou")):
        lines: list[tuple[TrainingCurve, Points]] = [
            (curve, getattr(curve, field)) for curve in curves if getattr(curve, field)
        ]
        if not lines:
            continue
        steps = [step for _, points in lines for step, _ in points]
        values = [value for _, points in lines for _, value in points]
        axes = Axes((46, 24, 318, 194), (0.0, max(*steps, 1.0)), padded(values))
        marks, texts = frame(axes, "step", title.lower())
        for curve, points in lines:
            style = styles[curve.method]
            shape = f"line {style}" if len(points) > 1 else f"dots {style}"
            path = axes.path(points) if len(points) > 1 else axes.dots(points)
            marks.append(Mark(path, shape, f"{curve.method}, {curve.run}, seed {curve.seed}"))
        description = f"{title} over training steps, {len(lines)} runs"
        panels.append((title, Panel(332, 234, description, tuple(marks), tuple(texts))))
    return tuple(panels)


def difference_panel(
    differences: Sequence[Difference], style: str, limits: tuple[float, float]
) -> Panel:
    """Return a bar chart of a method's mean difference per domain, with a dot for every seed."""
    bottom = 6 + _BAR_HEIGHT * len(differences)
    axes = Axes((136, 6, 296, bottom), limits, (0.0, 1.0))
    zero = axes.x(0.0)
    marks, texts = [], []
    for value, label in ticks(*limits, count=3):
        marks.append(Mark(f"M{axes.x(value):.1f} 6V{bottom}", "grid"))
        texts.append(Text(axes.x(value), bottom + 15, label))
    for index, difference in enumerate(differences):
        middle = 6 + _BAR_HEIGHT * (index + 0.5)
        end = axes.x(difference.mean)
        bar = f"M{zero:.1f} {middle - 7}H{end:.1f}V{middle + 7}H{zero:.1f}Z"
        marks.append(
            Mark(bar, f"bar {style}", f"{difference.target.label}: {signed(difference.mean)}")
        )
        if len(difference.by_seed) > 1:
            dots = "".join(f"M{axes.x(value):.1f} {middle}h0" for value in difference.by_seed)
            marks.append(Mark(dots, "seeds"))
        name = difference.target.label
        texts.append(Text(128, middle + 4, _shortened(name), "end", name))
        texts.append(Text(340, middle + 4, signed(difference.mean, 2), "end"))
    marks.append(Mark(f"M{zero:.1f} 4V{bottom + 2}", "axis"))
    method = differences[0].method
    description = f"Difference in IoU of {method} to the baseline, per domain"
    return Panel(344, bottom + 22, description, tuple(marks), tuple(texts))


def difference_limits(differences: Sequence[Difference]) -> tuple[float, float]:
    """Return a common range of values that includes zero and the differences of all seeds."""
    values = [value for difference in differences for value in difference.by_seed]
    low, high = min(*values, 0.0), max(*values, 0.0)
    pad = max((high - low) * 0.06, 0.005)
    return low - pad, high + pad


def outlines(polygons: Sequence[Polygon], example: Example) -> str:
    """Return polygons as one SVG path in pixels of a picture, clipped to its surroundings."""
    parts = []
    for ring in (ring for polygon in polygons for ring in polygon):
        if len(ring) < 3:
            continue
        points = (f"{_near(x, example.width):g} {_near(y, example.height):g}" for x, y in ring)
        parts.append("M" + "L".join(points) + "Z")
    return "".join(parts)


def _coarse(histogram: Sequence[float]) -> list[float]:
    """Return a histogram with fewer, wider bars, as shares of all pixels."""
    width = len(histogram) // _HISTOGRAM_BINS
    return [sum(histogram[start : start + width]) for start in range(0, len(histogram), width)]


def _shortened(text: str) -> str:
    return text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 1] + "…"


def _near(coordinate: float, size: int) -> float:
    return round(min(max(coordinate, -float(size)), 2.0 * size), 1)
