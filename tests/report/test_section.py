"""What all sections are made of: groups, styles, and rows that are ready for JSON."""

import json
from dataclasses import replace

import pytest

from rhm.errors import ConfigError
from rhm.report.cross_domain import BASELINE, Target, score_rows
from rhm.report.runs import load_run
from rhm.report.section import Comparison, Section, plain_rows
from tests.report.conftest import MakeRun


def test_runs_are_grouped_and_ranked_over_the_domains_of_all(make_run: MakeRun) -> None:
    runs = [
        load_run(make_run(f"{method}-{seed}", {"town": 0.6, "city": iou}, method=method, seed=seed))
        for method, iou in (("rhm", 0.4), ("none", 0.2))
        for seed in (1, 0)
    ]
    comparison = Comparison.of(iter(runs))
    assert [group.label for group in comparison.groups] == [BASELINE, "rhm"]
    assert [group.seeds for group in comparison.groups] == [(0, 1), (0, 1)]
    assert comparison.targets == (Target("town"), Target("city"))
    unseen = next(each for each in comparison.rankings if each.role == "unseen")
    assert [rank.method for rank in unseen.ranks] == ["rhm", BASELINE]


def test_a_run_given_twice_is_refused(make_run: MakeRun) -> None:
    run = load_run(make_run("a", {"town": 0.6}))
    with pytest.raises(ConfigError, match="'a' is given twice"):
        Comparison.of([run, run])


def test_nothing_at_all_is_compared_without_error() -> None:
    nothing = Comparison.of([])
    assert (nothing.groups, nothing.targets, nothing.rankings) == ((), (), ())
    assert nothing.legend == []
    assert not nothing.several_sources


def test_the_legend_gives_each_method_its_line_and_the_baseline_no_colour(
    make_run: MakeRun,
) -> None:
    comparison = Comparison.of(
        load_run(make_run(method, {"town": 0.6}, method=method))
        for method in ("rhm", BASELINE, "gamma")
    )
    styles = dict(comparison.legend)
    assert styles[BASELINE] == "line base"
    assert len(set(styles.values())) == 3
    # A chart draws a method in the same class as its line in the legend.
    assert {f"line {style}" for style in comparison.styles.values()} == set(styles.values())


def test_sources_are_several_only_if_they_differ(make_run: MakeRun) -> None:
    first, turned, other = (
        load_run(make_run(name, {"town": 0.6}, method=name, sources=sources))
        for name, sources in (
            ("none", ("town", "port")),
            ("rhm", ("port", "town")),
            ("gamma", ("port",)),
        )
    )
    # In whatever order they are named.
    assert not Comparison.of([first, turned]).several_sources
    assert Comparison.of([first, other]).several_sources


def test_a_method_of_two_sources_has_one_style(make_run: MakeRun) -> None:
    comparison = Comparison.of(
        load_run(make_run(source, {"town": 0.6}, method="rhm", sources=(source,)))
        for source in ("town", "port")
    )
    assert len(comparison.groups) == 2
    assert list(comparison.styles) == ["rhm"]


def test_rows_are_plain_down_to_the_last_value(make_run: MakeRun) -> None:
    run = make_run("a", {"town": 0.6, "town (gamma shift)": None}, shifts=("town (gamma shift)",))
    comparison = Comparison.of([load_run(run)])
    rows = score_rows(comparison.groups, comparison.targets)
    plain = plain_rows(rows)
    assert json.loads(json.dumps(plain, allow_nan=False)) == json.loads(json.dumps(plain))
    assert plain[0]["target"] == {"name": "town", "shift": None}
    assert plain[1]["target"]["shift"] == {"family": "gamma", "seed": 0}
    assert plain[0]["scores"]["iou"]["mean"] == 0.6
    assert plain[1]["scores"]["iou"]["mean"] is None
    assert plain_rows([]) == []


def test_a_section_is_shown_and_needs_no_script_unless_it_says_so() -> None:
    section = Section("here", "Here", "Here it is", "<p>text</p>")
    assert section.shown
    assert section.script == ""
    assert not replace(section, shown=False).shown
