"""Histograms by domain: against the nearest training domain, and distances against losses."""

import json
from pathlib import Path
from typing import Any

import pytest

from rhm.report.numbers import MISSING
from rhm.report.sections.histograms_by_domain import section
from rhm.report.without_labels import FEWEST
from tests.report.conftest import MakeRun, level_histogram
from tests.report.sections.shown import HOSTILE, Shown, check_harmless, compared
from tests.report.test_thresholds import edited

CAPTION = "Distance to the nearest training domain"
CORRELATIONS = "Spearman's rank correlation"


def with_histograms(run: Path, histograms: dict[str, Any], *, bands: int = 1) -> Path:
    """Change the histograms of the domains that a run's model was trained on."""
    path = run / "evaluation" / "scores.json"
    scores = json.loads(path.read_text())
    scores["model"] |= {"histograms": histograms, "bands": bands}
    path.write_text(json.dumps(scores))
    return run


def test_every_band_has_its_panel_and_its_row(make_run: MakeRun) -> None:
    bands = [level_histogram(level) for level in (51, 102, 204)]
    run = edited(make_run("a", {"city": 0.3}), 0, histogram=bands, distance=[0.2, 0.2, 0.6])
    trained = {"town": [level_histogram(level) for level in (0, 51, 51)]}
    built = section(compared(with_histograms(run, trained, bands=3)))
    shown = Shown(built)
    assert shown.table(CAPTION).body == [
        ["city", "town", "1", "0.200", "0.000", "0.20", "0.20", "0.20"],
        ["city", "town", "2", "0.200", "0.000", "0.40", "0.40", "0.40"],
        ["city", "town", "3", "0.600", "0.000", "0.80", "0.80", "0.80"],
    ]
    (figure,) = built.view["histogram_figures"]
    told = [panel.description for panel in figure["panels"]]
    assert told == [f"Histogram of band {number} of city" for number in (1, 2, 3)]
    assert set(told) <= set(shown.values("aria-label"))


def test_the_nearest_of_the_training_domains_is_drawn(make_run: MakeRun) -> None:
    run = make_run("a", {"city": 0.3}, sources=("town", "port"))
    with_histograms(run, {"town": [level_histogram(60)], "port": [level_histogram(110)]})
    (row,) = Shown(section(compared(run))).table(CAPTION).body
    assert row[1] == "port"


def test_a_model_that_does_not_know_its_training_domains_draws_the_domain_alone(
    make_run: MakeRun,
) -> None:
    run = edited(make_run("a", {"city": 0.3}), 0, distance=None)
    built = section(compared(with_histograms(run, {})))
    (row,) = Shown(built).table(CAPTION).body
    assert row[:5] == ["city", MISSING, "1", MISSING, MISSING]
    ((panel,),) = (figure["panels"] for figure in built.view["histogram_figures"])
    assert {mark.style for mark in panel.marks} == {"area", "axis"}
    assert built.numbers["distances"] == []


def test_a_domain_without_pixels_is_near_to_none(make_run: MakeRun) -> None:
    """Earlier versions stored the distance of an empty histogram, which is about the brightness."""
    run = edited(make_run("a", {"city": None}), 0, histogram=[[0.0] * 256], distance=[0.4])
    (row,) = Shown(section(compared(run))).table(CAPTION).body
    assert row == ["city", MISSING, "1", *[MISSING] * 5]


def test_without_histograms_it_says_so(make_run: MakeRun) -> None:
    run = edited(make_run("a", {"city": 0.3}), 0, histogram=None, distance=None)
    built = section(compared(run))
    shown = Shown(built)
    assert shown.text == "The scores contain no histograms."
    assert not {"table", "svg"} & set(shown.tags)
    assert built.numbers == {"histograms": [], "distances": [], "correlations": []}


def test_a_dot_is_an_unseen_domain_of_a_group(make_run: MakeRun) -> None:
    """The domain that was trained on, and a shift of it, tell nothing of a loss elsewhere."""
    shift = "town (gamma shift)"
    runs = [
        make_run(method, {"town": 0.6, "city": iou, shift: 0.4}, method=method, shifts=(shift,))
        for method, iou in (("none", 0.2), ("rhm", 0.5))
    ]
    built = section(compared(*runs))
    shown = Shown(built)
    rows = shown.table("Measures and loss of IoU").body
    assert [(row[0], row[2], row[3], row[5]) for row in rows] == [
        ("none", "city", "0.157", "+0.400"),
        ("rhm", "city", "0.157", "+0.100"),
    ]
    for panel in built.view["distance_panels"]:
        assert sum(mark.style.startswith("dots") for mark in panel.marks) == 2
    assert f"none, town to city: {40 / 255:.3f}, loss 0.400" in shown.titles


@pytest.mark.parametrize("domains", [FEWEST - 1, FEWEST])
def test_a_correlation_needs_domains_enough(make_run: MakeRun, domains: int) -> None:
    ious = {f"city {number}": 0.5 - number / 10 for number in range(domains)}
    run = make_run("a", {"town": 0.6} | ious)
    for number in range(domains):
        # The farther, the more is lost: a correlation of one.
        edited(run, number + 1, distance=[(number + 1) / 10])
    (row,) = Shown(section(compared(run))).table(CORRELATIONS).body
    assert row == ["none", str(domains), MISSING if domains < FEWEST else "+1.00", MISSING]


def test_hostile_names_are_text(make_run: MakeRun) -> None:
    run = make_run("a", {HOSTILE: 0.6, "city": 0.2}, method=HOSTILE, sources=(HOSTILE,), folder="a")
    other = make_run("b", {"city": 0.3}, sources=("port",))
    shown = Shown(section(compared(run, other)))
    check_harmless(shown)
    assert f"{HOSTILE} trained on trained on {HOSTILE}" in shown.captions
    assert f"Histogram of band 1 of {HOSTILE}" in shown.values("aria-label")
    assert ["city", HOSTILE, HOSTILE] in [row[:3] for row in shown.table(CAPTION).body]
