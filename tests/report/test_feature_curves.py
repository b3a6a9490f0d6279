"""Curves of features while training; oracle: what was logged, by step and by stage."""

from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

from rhm.report.cross_domain import Group, group_runs
from rhm.report.feature_curves import feature_curves, feature_panels
from rhm.report.runs import load_run
from tests.report.conftest import MakeRun

LOGGED = {
    "step": [2, 4, 6],
    "nc1": [0.9, 0.5, 0.2],
    "compression/encoder[1]": [3.0, 2.0, 1.0],
    "compression/decoder": [1.5, 1.0, 0.5],
}


@pytest.fixture
def grouped(make_run: MakeRun) -> Callable[..., tuple[Group, ...]]:
    """Groups of runs, of which some logged their features."""

    def make(**logged: bool) -> tuple[Group, ...]:
        folders: list[Path] = []
        for method, log in logged.items():
            folder = make_run(method, {"town": 0.6}, method=method)
            if log:
                pandas.DataFrame(LOGGED).to_csv(folder / "metrics.csv", index=False)
            folders.append(folder)
        return group_runs([load_run(folder) for folder in folders])

    return make


def test_a_curve_is_what_was_logged(grouped: Callable[..., tuple[Group, ...]]) -> None:
    curves = {curve.quantity: curve for curve in feature_curves(grouped(rhm=True, none=False))}
    assert set(curves) == {"nc1", "compression"}
    assert curves["nc1"].points == ((2.0, 0.9), (4.0, 0.5), (6.0, 0.2))
    assert curves["nc1"].stages == ()
    # Over the stages, as they were at the last record.
    assert curves["compression"].stages == ("encoder[1]", "decoder")
    assert curves["compression"].points == ((0.0, 1.0), (1.0, 0.5))
    assert {curve.run for curve in curves.values()} == {"rhm"}


def test_every_quantity_has_a_panel_with_a_line_for_each_run(
    grouped: Callable[..., tuple[Group, ...]],
) -> None:
    groups = grouped(rhm=True, gamma=True, none=False)
    styles = {group.label: f"s{number}" for number, group in enumerate(groups)}
    panels = feature_panels(feature_curves(groups), styles)
    assert len(panels) == 2
    for panel in panels:
        lines = [mark for mark in panel.marks if mark.style.startswith("line ")]
        assert len(lines) == 2
        assert len({mark.style for mark in lines}) == 2


def test_runs_that_logged_nothing_have_no_curves(
    grouped: Callable[..., tuple[Group, ...]],
) -> None:
    assert feature_curves(grouped(none=False)) == ()
    assert feature_panels((), {}) == ()
