"""Methods against the baseline: of the same sources, paired by seed, drawn to one scale."""

import pytest

from rhm.report.numbers import MINUS, MISSING
from rhm.report.sections.methods_compared import section
from tests.report.conftest import MakeRun
from tests.report.sections.shown import HOSTILE, Shown, check_harmless, compared
from tests.report.test_thresholds import edited

NO_FOOTPRINTS = dict.fromkeys(
    ("f1", "precision", "recall"), dict.fromkeys(("value", "low", "high"))
)
COUNTS = dict.fromkeys(("true_positives", "false_positives", "false_negatives"), 0)


@pytest.mark.parametrize(
    "runs",
    [
        {"rhm": ("rhm", 0, "town"), "gamma": ("gamma", 0, "town")},
        {"a": ("none", 0, "town"), "b": ("none", 1, "town")},
        {"a": ("none", 0, "town"), "b": ("rhm", 1, "town")},
        {"a": ("none", 0, "town"), "b": ("rhm", 0, "port")},
    ],
    ids=["no baseline", "nothing else", "other seeds", "other sources"],
)
def test_without_a_pair_it_says_what_it_takes(
    make_run: MakeRun, runs: dict[str, tuple[str, int, str]]
) -> None:
    folders = [
        make_run(name, {"city": 0.4}, method=method, seed=seed, sources=(source,))
        for name, (method, seed, source) in runs.items()
    ]
    built = section(compared(*folders))
    shown = Shown(built)
    assert "There is nothing to compare: a comparison needs a run with method “none”" in shown.text
    assert not {"table", "svg"} & set(shown.tags)
    assert built.numbers == {"differences": [], "object_differences": []}


def test_a_row_is_the_mean_of_paired_differences(make_run: MakeRun) -> None:
    """The third seed of one method has no partner; the spread is that of two differences."""
    ious = {"none": (0.2, 0.4), "rhm": (0.5, 0.3, 0.9)}
    runs = [
        make_run(f"{method}-{seed}", {"city": iou}, method=method, seed=seed)
        for method, values in ious.items()
        for seed, iou in enumerate(values)
    ]
    built = section(compared(*runs))
    (row,) = Shown(built).table("Differences to “none”").body
    assert row == ["rhm", "city", "+0.100 ± 0.283", "1 of 2", "+0.100 ± 0.283"]
    (difference,) = built.numbers["differences"]
    assert difference["by_seed"] == pytest.approx((0.3, -0.1))


def test_one_seed_has_no_spread_and_a_missing_score_of_footprints_is_a_dash(
    make_run: MakeRun,
) -> None:
    base = make_run("a", {"town": 0.6, "city": 0.2})
    other = make_run("b", {"town": 0.6, "city": 0.1}, method="rhm")
    edited(other, 1, object=NO_FOOTPRINTS | COUNTS)
    rows = Shown(section(compared(base, other))).table("Differences to “none”").body
    assert rows == [
        ["rhm", "town", "+0.000", "0 of 1", "+0.000"],
        ["rhm", "city", f"{MINUS}0.100", "0 of 1", MISSING],
    ]


def test_panels_of_the_same_sources_share_their_scale(make_run: MakeRun) -> None:
    """The zero lines and their labels stand at the same places, however far a method goes."""
    runs = [
        make_run(method, {"city": iou}, method=method)
        for method, iou in (("none", 0.3), ("gamma", 0.31), ("rhm", 0.8))
    ]
    built = section(compared(*runs))
    (block,) = built.view["difference_blocks"]
    assert [method for method, _ in block["panels"]] == ["gamma", "rhm"]
    small, large = (panel for _, panel in block["panels"])
    for style in ("grid", "axis"):
        first, second = (
            [mark.path for mark in panel.marks if mark.style == style] for panel in (small, large)
        )
        assert first == second
    styles = [
        {mark.style for mark in panel.marks if "bar" in mark.style} for panel in (small, large)
    ]
    assert styles[0] != styles[1]
    assert Shown(built).captions == [f"gamma {MINUS} none, IoU", f"rhm {MINUS} none, IoU"]


def test_each_set_of_sources_is_compared_by_itself(make_run: MakeRun) -> None:
    runs = [
        make_run(f"{source}-{method}", {"city": iou}, method=method, sources=(source,))
        for source, least in (("town", 0.2), ("port", 0.5))
        for method, iou in (("none", least), ("rhm", least + 0.1))
    ]
    built = section(compared(*runs))
    shown = Shown(built)
    assert shown.headings == ["Trained on port", "Trained on town"]
    assert [table.body for table in shown.tables] == [
        [["rhm", "city", "+0.100", "1 of 1", "+0.100"]]
    ] * 2
    one = section(compared(*runs[:2]))
    assert Shown(one).headings == []


def test_hostile_names_are_text(make_run: MakeRun) -> None:
    runs = [
        make_run(f"run {number}", {HOSTILE: 0.2 + number / 10}, method=method, sources=(HOSTILE,))
        for number, method in enumerate(("none", HOSTILE))
    ]
    runs += [make_run("far", {"city": 0.2}, sources=("port",))]
    shown = Shown(section(compared(*runs)))
    check_harmless(shown)
    assert f"{HOSTILE} {MINUS} none, IoU" in shown.captions
    assert f"Trained on {HOSTILE}" in shown.headings
    assert f"{HOSTILE}: +0.100" in shown.titles
