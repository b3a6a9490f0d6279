"""Sentences of the report: the numbers in them are those of the tables."""

import json
from pathlib import Path

import numpy as np
import pytest

from rhm.report.cross_domain import Group, group_runs, rankings, targets_of
from rhm.report.runs import load_run
from rhm.report.wording import headlines, notes
from tests.report.conftest import MakeRun


def loaded(*folders: Path) -> tuple[Group, ...]:
    return group_runs([load_run(folder) for folder in folders])


def said_of(groups: tuple[Group, ...]) -> tuple[str, ...]:
    targets = targets_of(run for group in groups for run in group.runs)
    return headlines(rankings(groups, targets))


def test_the_best_method_is_named_with_its_mean_and_its_lead(make_run: MakeRun) -> None:
    ious = {"none": (0.10, 0.14), "rhm": (0.30, 0.36)}
    groups = loaded(
        *(
            make_run(f"{method}-{seed}", {"town": 0.6, "city": iou}, method=method, seed=seed)
            for method, both in ious.items()
            for seed, iou in enumerate(both)
        )
    )
    (sentence,) = said_of(groups)
    assert "rhm" in sentence
    assert f"{np.mean(ious['rhm']):.3f}" in sentence
    assert f"{np.mean(ious['rhm']) - np.mean(ious['none']):.3f}" in sentence
    assert "city" in sentence
    assert "town" in sentence


def test_a_lead_within_the_spread_of_seeds_is_said_to_be_one(make_run: MakeRun) -> None:
    def sentence(gain: float) -> str:
        folders = [
            make_run(
                f"{method}-{seed}",
                {"town": 0.6, "city": base + seed * 0.1},
                method=method,
                seed=seed,
                folder=f"{gain}-{method}-{seed}",
            )
            for method, base in (("none", 0.2), ("rhm", 0.2 + gain))
            for seed in (0, 1, 2)
        ]
        (found,) = said_of(loaded(*folders))
        return found

    assert "spread" in sentence(0.05)
    assert "spread" not in sentence(0.5)


def test_one_seed_is_said_to_be_one(make_run: MakeRun) -> None:
    groups = loaded(
        make_run("a", {"town": 0.6, "city": 0.1}),
        make_run("b", {"town": 0.6, "city": 0.3}, method="rhm"),
    )
    (sentence,) = said_of(groups)
    assert "one seed" in sentence.lower()


@pytest.mark.parametrize(
    ("lead", "targets", "said"), [(0.2, 1, True), (0.3, 1, False), (0.2, 3, False), (0.05, 3, True)]
)
def test_a_lead_that_one_seed_is_enough_for_is_not_called_chance(
    make_run: MakeRun, lead: float, targets: int, said: bool
) -> None:
    away = {f"city{number}": 0.3 for number in range(targets)}
    groups = loaded(
        make_run("a", {"town": 0.6, **away}),
        make_run("b", {"town": 0.6, **{name: 0.3 + lead for name in away}}, method="rhm"),
    )
    (sentence,) = said_of(groups)
    assert ("may be chance" in sentence) == said


def test_comparable_runs_need_no_note(make_run: MakeRun) -> None:
    folders = [make_run(name, {"town": 0.6, "city": 0.2}, method=name) for name in ("none", "rhm")]
    assert notes(loaded(*folders)) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"split": "val"}, "split"), ({"threshold": 0.4}, "threshold")],
)
def test_what_makes_runs_incomparable_is_noted(
    make_run: MakeRun, changes: dict[str, object], said: str
) -> None:
    folders = (
        make_run("none", {"town": 0.6, "city": 0.2}),
        make_run("rhm", {"town": 0.6, "city": 0.2}, method="rhm", **changes),
    )
    (note,) = notes(loaded(*folders))
    assert said in note


def test_a_domain_that_not_all_scored_is_named(make_run: MakeRun) -> None:
    folders = (
        make_run("none", {"town": 0.6, "city": 0.2}),
        make_run("rhm", {"town": 0.6, "city": None}, method="rhm"),
    )
    (note,) = notes(loaded(*folders))
    assert "city" in note


def test_intervals_of_few_groups_are_marked(make_run: MakeRun) -> None:
    folder = make_run("a", {"town": 0.6, "city": 0.3})
    scores = folder / "evaluation" / "scores.json"
    values = json.loads(scores.read_text())
    values["domains"][1]["groups"] = 3
    scores.write_text(json.dumps(values))
    (note,) = notes(loaded(folder))
    assert note == "Intervals of city rest on 3 groups of images each and are too narrow."


def test_domains_without_metres_are_noted(make_run: MakeRun) -> None:
    folder = make_run("a", {"town": 0.6, "city": 0.3})
    scores = folder / "evaluation" / "scores.json"
    values = json.loads(scores.read_text())
    values["domains"][1]["unknown_gsd"] = values["domains"][1]["images"]
    scores.write_text(json.dumps(values))
    (note,) = notes(loaded(folder))
    assert note.startswith("The ground sampling distance in city is unknown: ")
