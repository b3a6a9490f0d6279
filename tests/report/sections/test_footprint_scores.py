"""Scores of footprints: bins of all seeds are pooled, and models without any have no section."""

from rhm.report.sections.footprint_scores import promised_precision, section
from tests.report.conftest import MakeRun
from tests.report.sections.shown import HOSTILE, Shown, check_harmless, compared
from tests.report.test_thresholds import edited

LOW, HIGH = ({"low": low, "high": low + 0.1} for low in (0.4, 0.8))


def test_bins_of_seeds_are_pooled_by_their_footprints(make_run: MakeRun) -> None:
    runs = [make_run(f"none-{seed}", {"city": 0.2}, seed=seed) for seed in (0, 1)]
    counts = [(10, 5, 0.4), (30, 24, 0.5)]
    for run, (footprints, correct, promised) in zip(runs, counts, strict=True):
        bins = [
            LOW | {"footprints": footprints, "correct": correct, "promised": promised},
            HIGH | {"footprints": 0, "correct": 0, "promised": None},
        ]
        edited(run, 0, footprint_scores=bins)
    comparison = compared(*runs)
    (row,) = promised_precision(comparison.groups, comparison.targets)
    assert (row.footprints, row.precision) == (40, 29 / 40)
    assert abs(row.promised - 0.475) < 1e-12
    built = section(comparison)
    assert Shown(built).table("Footprints by score, seeds pooled").body == [
        ["city", "none", "0.475", "0.725", "40"]
    ]
    assert built.numbers["footprint_scores"]


def test_models_without_calibrated_scores_have_no_section(make_run: MakeRun) -> None:
    built = section(compared(make_run("none-0", {"city": 0.2})))
    assert (built.shown, dict(built.numbers)) == (False, {})


def test_names_are_shown_as_text(make_run: MakeRun) -> None:
    run = make_run("none-0", {HOSTILE: 0.2})
    filled = {"footprints": 9, "correct": 3, "promised": 0.4}
    shown = Shown(section(compared(edited(run, 0, footprint_scores=[LOW | filled]))))
    check_harmless(shown)
