"""Charts as geometry; laws: values come back from their pixels, and nothing leaves the box."""

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rhm.report.svg import Axes, frame, padded, ticks

BOX = (10.0, 20.0, 110.0, 220.0)
VALUES = st.floats(-1e6, 1e6)


@given(VALUES, st.floats(1e-3, 1e6), st.floats(0.0, 1.0))
def test_a_value_comes_back_from_its_pixel(low: float, width: float, share: float) -> None:
    axes = Axes(BOX, (low, low + width), (low, low + width))
    value = low + share * width
    assert (axes.x(value) - 10.0) / 100.0 == pytest.approx(share, abs=1e-4)
    assert (220.0 - axes.y(value)) / 200.0 == pytest.approx(share, abs=1e-4)


@given(VALUES, VALUES)
def test_what_is_beyond_the_axes_is_drawn_on_their_edge(low: float, value: float) -> None:
    axes = Axes(BOX, (low, low + 1.0), (low, low + 1.0))
    assert 10.0 <= axes.x(value) <= 110.0
    assert 20.0 <= axes.y(value) <= 220.0
    if value <= low:
        assert axes.x(value) == 10.0
    if value >= low + 1.0:
        assert axes.x(value) == 110.0


def test_paths_and_dots_are_at_the_points() -> None:
    axes = Axes(BOX, (0.0, 1.0), (0.0, 1.0))
    points = ((0.0, 0.0), (0.5, 1.0), (1.0, 0.25))
    assert axes.path(points) == "M10.0 220.0L60.0 20.0L110.0 170.0"
    assert axes.dots(points) == "M10.0 220.0h0M60.0 20.0h0M110.0 170.0h0"


@given(st.lists(VALUES, min_size=1))
def test_a_padded_range_holds_its_values_and_keeps_zero_below(values: list[float]) -> None:
    low, high = padded(values)
    assert low <= min(values)
    assert max(values) < high
    assert low >= 0.0 or min(values) < 0.0


@given(VALUES, st.floats(1e-2, 1e6))
def test_labels_of_ticks_are_their_values(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assume(found)
    step = min((b - a for (a, _), (b, _) in pairwise(found)), default=width)
    for value, label in found:
        shown = label.replace("\N{MINUS SIGN}", "-")
        read = 1000.0 * float(shown[:-1]) if shown.endswith("k") else float(shown)
        assert read == pytest.approx(value, abs=0.06 * step)


def test_a_frame_has_a_line_and_a_label_for_every_tick() -> None:
    axes = Axes(BOX, (0.0, 1.0), (0.0, 10.0))
    marks, texts = frame(axes, "step", "loss", x_ticks=[(0.0, "a"), (1.0, "b")])
    y_ticks = ticks(0.0, 10.0)
    assert sum(mark.style == "grid" for mark in marks) == 2 + len(y_ticks)
    assert [mark.style for mark in marks].count("axis") == 1
    said = [text.text for text in texts]
    assert {"a", "b", "step", "loss"} | {label for _, label in y_ticks} == set(said)
