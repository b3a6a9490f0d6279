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


STAGES = ["encoder[0]", "encoder[2]", "encoder[10]", "decoder.p5", "decoder.p2", "decoder"]


@pytest.mark.parametrize("alphabetical", [False, True])
def test_stages_are_in_the_order_of_the_network(make_run: MakeRun, alphabetical: bool) -> None:
    """Earlier versions wrote columns in the order of their names, the decoder first."""
    folder = make_run("a", {"town": 0.6})
    names = sorted(STAGES) if alphabetical else STAGES
    logged = {f"compression/{name}": [float(len(name))] for name in names}
    pandas.DataFrame({"step": [1], **logged}).to_csv(folder / "metrics.csv", index=False)
    (curve,) = feature_curves(group_runs([load_run(folder)]))
    found = list(curve.stages)
    if alphabetical:  # which of the blocks came first, such a file does not tell
        assert found[:3] + found[-1:] == STAGES[:3] + STAGES[-1:]
    else:
        assert found == STAGES
    assert [value for _, value in curve.points] == [float(len(name)) for name in found]
