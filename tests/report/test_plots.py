"""Geometry of the charts."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.evaluation.scores import Example
from rhm.report.plots import outlines, series_styles
from rhm.report.svg import Axes, ticks

FINITE = st.floats(-1e9, 1e9)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_evenly_spaced_and_inside(low: float, width: float) -> None:
    high = low + width
    values = [value for value, _ in ticks(low, high)]
    slack = width * 1e-6
    assert 1 <= len(values) <= 6
    assert all(low - slack <= value <= high + slack for value in values)
    steps = [after - before for before, after in pairwise(values)]
    assert steps == pytest.approx(steps[:1] * len(steps), rel=1e-3)


def test_ticks_are_round_numbers() -> None:
    assert [label for _, label in ticks(0.0, 1.0)] == ["0.0", "0.5", "1.0"]
    assert [label for _, label in ticks(0, 20_000)] == ["0", "5k", "10k", "15k", "20k"]


@given(FINITE, FINITE)
def test_points_stay_in_their_box(x: float, y: float) -> None:
    axes = Axes((10, 20, 110, 220), (0.0, 1.0), (-1.0, 1.0))
    assert 10 <= axes.x(x) <= 110
    assert 20 <= axes.y(y) <= 220


def test_y_grows_upwards() -> None:
    axes = Axes((0, 0, 100, 100), (0.0, 1.0), (0.0, 1.0))
    assert axes.path(((0.0, 0.0), (0.5, 1.0))) == "M0.0 100.0L50.0 0.0"


def test_outlines_close_every_ring_and_drop_what_is_no_area() -> None:
    example = Example("best", "a", 0.5, "a.png", 100, 50, (), ())
    ring = ((0.0, 0.0), (10.04, 0.0), (10.0, 10.0))
    assert outlines([(ring, ring)], example) == "M0 0L10 0L10 10Z" * 2
    assert outlines([(((0.0, 0.0), (1.0, 1.0)),)], example) == ""


@given(st.lists(st.lists(st.tuples(FINITE, FINITE), min_size=3, max_size=4).map(tuple)))
def test_outlines_are_nothing_but_path_commands(
    rings: list[tuple[tuple[float, float], ...]],
) -> None:
    example = Example("best", "a", 0.5, "a.png", 100, 50, (), ())
    assert re.fullmatch(r"[-MLZ0-9. ]*", outlines([tuple(rings)], example))


def test_the_baseline_is_neutral_and_methods_differ() -> None:
    styles = series_styles(["none", "rhm", "gamma", "rhm", *"abcdef"])
    assert styles["none"] == "base"
    assert len(set(styles.values())) == len(styles)
