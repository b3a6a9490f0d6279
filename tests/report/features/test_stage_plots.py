"""Charts over the stages; laws: a line breaks where a stage is missing, bars add up."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.analysis.domains import VarianceShares
from rhm.evaluation.features.findings import StageVariance
from rhm.report.features.stage_plots import (
    StageLine,
    domain_styles,
    limits_of,
    log_ticks,
    stage_panel,
    variance_panel,
)


@given(st.sets(st.integers(0, 20), min_size=1), st.integers(1, 3))
def test_a_line_connects_neighbouring_stages_only(places: set[int], spacing: int) -> None:
    numbers = sorted(place * spacing for place in places)
    points = tuple((float(number), 1.0 + number) for number in numbers)
    panel = stage_panel(
        [StageLine("town", "s0", points)],
        "C_l",
        numbers=numbers,
        limits=(0.5, 100.0),
        spacing=spacing,
        description="a town",
    )
    lines = [mark.path for mark in panel.marks if mark.style == "line s0"]
    steps = sum(b - a == spacing for a, b in pairwise(numbers))
    assert sum(path.count("L") for path in lines) == steps
    (dots,) = [mark.path for mark in panel.marks if mark.style == "dots s0"]
    assert dots.count("M") == len(numbers)


@given(st.lists(st.integers(0, 9).map(str), unique=True, min_size=1), st.integers(0, 3))
def test_domains_differ_and_the_only_home_is_neutral(domains: list[str], homes: int) -> None:
    styles = domain_styles(domains, domains[:homes])
    assert set(styles) == set(domains)
    assert len(set(styles.values())) == len(domains)
    assert ("base" in styles.values()) == (len(domains[:homes]) == 1)


@given(st.floats(-9.0, 9.0), st.floats(0.01, 18.0))
def test_ticks_of_a_logarithmic_axis_are_few_and_inside(low: float, width: float) -> None:
    found = log_ticks(low, low + width)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 <= place <= low + width + 1e-6 for place, _ in found)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_limits_hold_every_value_and_are_apart(values: list[float]) -> None:
    low, high = limits_of(values)
    assert low < high
    assert low <= min(values) <= max(values) <= high
    assert limits_of({"a": values, "b": values[:1]}) == (low, high)


@given(st.lists(st.floats(1e-9, 1e9), min_size=1))
def test_limits_of_a_logarithmic_axis_are_above_zero(values: list[float]) -> None:
    low, high = limits_of(values, logarithmic=True)
    assert 0.0 < low < high
    assert low <= min(values) <= max(values) <= high


def test_bars_are_as_high_as_the_shares_they_stand_for() -> None:
    shares = VarianceShares(classes=0.5, domains=0.2, interaction=0.1, within=0.2)
    panel = variance_panel([StageVariance("m", "encoder[1]", 1, shares)], "where from")
    heights = {}
    for mark in panel.marks:
        if mark.style.startswith("bar "):
            bottom, top = (
                float(each) for each in re.findall(r"M\S+ (\S+)H\S+V(\S+)H", mark.path)[0]
            )
            heights[mark.title] = bottom - top
    assert len(heights) == 3
    whole = sum(heights.values())
    for name, share in (("classes", 0.5), ("domains", 0.2), ("interaction", 0.1)):
        (found,) = [height for title, height in heights.items() if name in title]
        assert found / whole == pytest.approx(share / 0.8, abs=2e-3)
