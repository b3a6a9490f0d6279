"""Scores by domain: seeds together and apart, curves for those that have them, best thresholds."""

from typing import Any

import pytest

from rhm.report.numbers import MISSING
from rhm.report.sections.scores_by_domain import section
from tests.report.conftest import MakeRun
from tests.report.sections.shown import HOSTILE, Shown, check_harmless, compared
from tests.report.test_thresholds import edited

ALONE = "Scores by domain and run"
CAPTION = "Scores by domain and method"
NOTHING: dict[str, Any] = {"ece": None, "bins": [], "levels": {"pixels": [], "buildings": []}}


def test_domains_head_their_rows_trained_on_first(make_run: MakeRun) -> None:
    runs = [
        make_run(method, {"city": iou, "town": 0.6}, method=method)
        for method, iou in (("none", 0.2), ("rhm", 0.3))
    ]
    rows = Shown(section(compared(*runs))).table(CAPTION).body
    assert [row[0] for row in rows] == [
        "town 9 images, 0.5 m a pixel",
        "none trained on it, seed 0",
        "rhm trained on it, seed 0",
        "city 9 images, 0.5 m a pixel",
        "none seed 0",
        "rhm seed 0",
    ]
    assert rows[4][1] == "0.200 [0.010, 0.990]"
    assert rows[4][-1] == "0.100"


def test_runs_are_listed_one_by_one_only_if_seeds_were_put_together(make_run: MakeRun) -> None:
    runs = [
        make_run(f"none-{seed}", {"city": iou}, seed=seed) for seed, iou in ((0, 0.2), (1, 0.4))
    ]
    one = Shown(section(compared(runs[0])))
    assert not [table for table in one.tables if table.caption == ALONE]
    both = Shown(section(compared(*runs)))
    assert both.table(CAPTION).body[1][:2] == ["none seeds 0, 1", "0.300 ± 0.141"]
    assert [row[:2] for row in both.table(ALONE).body[1:]] == [
        ["none-0 seed 0", "0.200 [0.010, 0.990]"],
        ["none-1 seed 1", "0.400 [0.010, 0.990]"],
    ]


def test_bins_of_all_seeds_are_pooled_and_empty_ones_left_out(make_run: MakeRun) -> None:
    runs = [make_run(f"none-{seed}", {"city": 0.2}, seed=seed) for seed in (0, 1)]
    built = section(compared(*runs))
    shown = Shown(built)
    assert shown.table("Bins of predicted probability").body == [
        ["city", "none", "0.200", "0.100", "60"]
    ]
    (panel,) = built.view["reliability_panels"]
    assert panel["panel"].description == "Reliability curves on city of none"


def test_a_panel_has_the_methods_of_the_same_sources_on_one_domain(make_run: MakeRun) -> None:
    runs = [
        make_run(f"{source}-{method}", {"city": 0.3}, method=method, sources=(source,))
        for source in ("town", "port")
        for method in ("none", "rhm")
    ]
    built = section(compared(*runs))
    for name in ("reliability_panels", "precision_recall_panels"):
        panels = built.view[name]
        assert [(each["target"].label, each["sources"]) for each in panels] == [
            ("city", ("port",)),
            ("city", ("town",)),
        ]
        for each in panels:
            drawn = {mark.style for mark in each["panel"].marks if mark.style.startswith("line")}
            assert drawn == {style for _, style in built.view["method_legend"]}
    captions = Shown(built).captions
    assert captions == ["city trained on port", "city trained on town"] * 2


def test_the_best_threshold_is_held_against_the_models(make_run: MakeRun) -> None:
    """Of 100 pixels, 10 are at 0.5 and above; 8 of the 16 of buildings are among them."""
    good, bad = make_run("a", {"city": 0.2}), make_run("b", {"city": 0.6}, method="rhm")
    rows = Shown(section(compared(good, bad))).table("IoU at the threshold that was used").body
    assert rows == [
        ["city"],
        ["none", "0.50", "0.200", "0.50", f"{8 / 18:.3f}", f"+{8 / 18 - 0.2:.3f}"],
        # What the levels give is less than the score: the model's threshold stays.
        ["rhm", "0.50", "0.600", "0.50", "0.600", "+0.000"],
    ]


def test_precision_is_told_at_given_recalls(make_run: MakeRun) -> None:
    row = Shown(section(compared(make_run("a", {"city": 0.2})))).table("Precision at given").body[0]
    # At the highest level both pixels are building, 2 of 16; then 8 of 10, 14 of 40, 16 of 100.
    assert row[3:] == ["0.160", "1.000", "0.800", "0.800", "0.350", "0.160"]


def test_without_probabilities_there_are_scores_alone(make_run: MakeRun) -> None:
    run = edited(make_run("a", {"city": 0.2}), 0, calibration=NOTHING, gsd_m=None)
    built = section(compared(run))
    shown = Shown(built)
    assert shown.headings == []
    assert "svg" not in shown.tags
    assert shown.table(CAPTION).body[0] == ["city 9 images"]
    assert shown.table(CAPTION).body[1][-1] == MISSING
    for name in ("reliability", "precision_recall", "thresholds"):
        assert built.numbers[name] == []


@pytest.mark.parametrize("several", [False, True])
def test_sources_are_named_where_they_differ(make_run: MakeRun, several: bool) -> None:
    runs = [make_run("a", {"town": 0.6})]
    if several:
        runs += [make_run("b", {"town": 0.6}, sources=("port", "bay"))]
    rows = Shown(section(compared(*runs))).table(CAPTION).body[1:]
    expected = ["none trained on it, seed 0"]
    if several:
        expected = ["none trained on bay + port, seed 0", "none trained on town, seed 0"]
    assert [row[0] for row in rows] == expected


def test_hostile_names_are_text(make_run: MakeRun) -> None:
    runs = [
        make_run(f"{HOSTILE}{seed}", {HOSTILE: 0.3}, method=HOSTILE, seed=seed, folder=str(seed))
        for seed in (0, 1)
    ]
    runs += [make_run("b", {"city": 0.2}, sources=(HOSTILE,), method="rhm", folder="b")]
    shown = Shown(section(compared(*runs)))
    check_harmless(shown)
    assert f"{HOSTILE} trained on town" in shown.captions
    assert f"city trained on {HOSTILE}" in shown.captions
    assert shown.table(ALONE).body[1][0] == f"{HOSTILE}0 trained on town, seed 0"
    assert HOSTILE in shown.titles
