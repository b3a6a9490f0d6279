"""Sentences of the report: the numbers in them are those of the tables."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from rhm.report.cross_domain import Group, group_runs, rankings, targets_of
from rhm.report.runs import load_run
from rhm.report.wording import headlines, notes, unequal_conditions
from tests.report.conftest import MakeRun
from tests.report.test_thresholds import edited


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


def table_of(make_run: MakeRun, ious: Mapping[str, tuple[float, ...]]) -> tuple[Group, ...]:
    """One run for each method and seed, of which each has these IoUs on one unseen domain."""
    return loaded(
        *(
            make_run(f"{method}-{seed}", {"town": 0.6, "city": iou}, method=method, seed=seed)
            for method, by_seed in ious.items()
            for seed, iou in enumerate(by_seed)
        )
    )


def test_methods_that_share_the_first_place_are_all_named(make_run: MakeRun) -> None:
    ious = {"none": 0.335, "a": 0.35, "b": 0.35, "c": 0.3504, "d": 0.34, "e": 0.05}
    (sentence,) = said_of(table_of(make_run, {name: (iou,) for name, iou in ious.items()}))
    assert sentence == (
        "Trained on town, c, a and b share the first place among 6 methods on the unseen domain "
        "city: mean IoU 0.350, 0.015 above none (0.335); one seed. With one seed, this and the "
        "lead over d (0.340) may be chance."
    )


def test_methods_that_are_all_level_are_said_to_be(make_run: MakeRun) -> None:
    (sentence,) = said_of(table_of(make_run, {"none": (0.35,), "a": (0.35,)}))
    assert sentence == (
        "Trained on town, none and a are level on the unseen domain city: mean IoU 0.350; one seed."
    )


def test_a_runner_up_that_may_be_as_good_is_named(make_run: MakeRun) -> None:
    """The baseline is far behind, and says nothing of the methods in between."""
    ious = {"none": (0.1, 0.12), "a": (0.5, 0.54), "b": (0.5, 0.52), "c": (0.49, 0.51)}
    (sentence,) = said_of(table_of(make_run, ious))
    assert "a is the best of 4 methods" in sentence
    assert "0.410 above none (0.110 ± 0.014); 2 seeds." in sentence
    assert sentence.endswith(
        " The lead over b (0.510 ± 0.014) and 1 more are smaller than the spread between seeds."
    )


def test_a_runner_up_that_is_clearly_behind_is_left_out(make_run: MakeRun) -> None:
    ious = {"none": (0.1, 0.12), "a": (0.5, 0.51), "b": (0.3, 0.31)}
    (sentence,) = said_of(table_of(make_run, ious))
    assert sentence.endswith("; 2 seeds.")
    assert " b " not in sentence


def test_differences_that_change_with_the_seed_may_be_chance(make_run: MakeRun) -> None:
    """Neither method spreads more than its lead, but the differences by seed do."""
    ious = {"none": (0.40, 0.46), "a": (0.51, 0.45)}
    (sentence,) = said_of(table_of(make_run, ious))
    gaps = np.subtract(ious["a"], ious["none"])
    assert np.std(ious["a"], ddof=1) < gaps.mean() < gaps.std(ddof=1)
    assert sentence.endswith(" The difference is smaller than the spread between seeds.")


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
    [
        ({"split": "val"}, "Runs were scored on different splits of every domain"),
        ({"threshold": 0.4}, "different thresholds"),
        ({"views": True}, "On every domain, the predictions of some runs are averages"),
        ({"runtime": "onnx-int8"}, "by different runtimes (onnx-int8 and torch)"),
        (
            {"catalog": "other.parquet"},
            "with different catalogs (catalog.parquet and other.parquet): their images may differ",
        ),
    ],
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
    assert unequal_conditions(loaded(*folders)) == (note,)


def test_conditions_are_compared_domain_by_domain(make_run: MakeRun) -> None:
    """A run may have scored its domains in several ways, if the others did so, too."""
    folders = [
        make_run(name, {"town": 0.6, "city": 0.2}, method=name, format=6) for name in ("none", "x")
    ]
    for folder in folders:
        edited(folder, 0, split="all", views=True, catalog="a.parquet", created="2026-11-01")
    assert notes(loaded(*folders)) == ()
    edited(folders[0], 0, split="val", threshold=0.3)
    first, second, *rest = notes(loaded(*folders))
    assert first == "Runs were scored on different splits of town, and are not comparable there."
    assert second.startswith("On town, some runs were scored at the threshold that their")
    assert len(rest) == 1  # on the domains that have thresholds of their own


def test_a_test_on_images_of_the_training_is_told(make_run: MakeRun) -> None:
    folder = make_run("none", {"town": 0.6, "city": 0.2}, format=6)
    assert notes(loaded(folder)) == ()
    told = {"catalog": "c.parquet", "created": "2026-11-01", "split": "test"}
    edited(folder, 0, other_split=True, **told)
    (note,) = notes(loaded(folder))
    assert note.startswith("The splits of town may not have been those of the training: ")


def test_one_catalog_may_be_written_in_two_ways(make_run: MakeRun) -> None:
    paths = ("catalog.parquet", os.path.abspath("catalog.parquet"))
    folders = [make_run(f"{n}", {"town": 0.6}, seed=n, catalog=paths[n]) for n in range(2)]
    assert notes(loaded(*folders)) == ()


def test_a_copied_run_is_no_run_with_another_catalog(make_run: MakeRun) -> None:
    folders = [make_run(f"{n}", {"town": 0.6}, seed=n, format=6) for n in range(2)]
    (folders[0].parent / "c.parquet").touch()
    for folder, file in zip(folders, ("../../c.parquet", "../../not/here/c.parquet"), strict=True):
        told = {"catalog": "c.parquet", "created": "2026-11-01", "split": "test"}
        edited(folder, 0, catalog_file=file, **told)
    assert notes(loaded(*folders)) == ()
    edited(folders[1], 0, catalog="other.parquet")
    (note,) = notes(loaded(*folders))
    assert "scored with different catalogs (c.parquet and other.parquet)" in note


def test_catalogs_of_one_path_in_several_folders_are_told_apart(make_run: MakeRun) -> None:
    folders = [make_run(f"{n}", {"town": 0.6}, seed=n, format=6) for n in range(2)]
    for number, folder in enumerate(folders):
        told = {"catalog": "c.parquet", "created": "2026-11-01", "split": "test"}
        file = folder.parent / str(number) / "c.parquet"
        file.parent.mkdir(exist_ok=True)
        file.touch()
        edited(folder, 0, catalog_file=f"../../{number}/c.parquet", **told)
    (note,) = notes(loaded(*folders))
    above = folders[0].parent.resolve()
    assert f"({above / '0' / 'c.parquet'} and {above / '1' / 'c.parquet'})" in note


def test_a_runtime_that_is_unknown_is_no_other(make_run: MakeRun) -> None:
    folders = [make_run(f"{n}", {"town": 0.6}, seed=n, format=6) for n in range(2)]
    edited(folders[0], 0, split="test", catalog="catalog.parquet", created="2026-11-01")
    assert notes(loaded(*folders)) == ()


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


def test_a_model_whose_split_is_not_known_has_no_other_split(make_run: MakeRun) -> None:
    def split(run: Path, known: str | None) -> Path:
        path = run / "evaluation" / "scores.json"
        scores = json.loads(path.read_text())
        scores["model"]["split_hash"] = known
        path.write_text(json.dumps(scores))
        return run

    runs = [make_run(name, {"town": 0.5}, method=name) for name in "abc"]
    unknown = loaded(runs[0], split(runs[1], None), split(runs[2], ""))
    assert not any("different splits" in note for note in notes(unknown))
    (note,) = (n for n in notes(loaded(*runs[:2], split(runs[2], "f" * 16))) if "splits" in n)
    assert "2 different splits" in note


def test_models_that_differ_in_more_than_the_seed_are_told_apart(make_run: MakeRun) -> None:
    def loaded_with(**facts: object) -> tuple[Group, ...]:
        name = "-".join(map(str, facts.values())) or "same"
        runs = [make_run(f"{name}-{seed}", {"town": 0.5}, seed=seed) for seed in (0, 1)]
        path = runs[1] / "evaluation" / "scores.json"
        scores = json.loads(path.read_text())
        scores["model"] |= facts
        path.write_text(json.dumps(scores))
        return loaded(*runs)

    assert unequal_conditions(loaded_with()) == ()
    assert unequal_conditions(loaded_with(training_images=None)) == ()  # it is not known
    # Each seed has a split of its own.
    assert unequal_conditions(loaded_with(gsd_m=1.001, training_images=44, split_hash="f")) == ()
    separated = {"classes": ["background", "building", "boundary"]}
    for facts in ({"encoder": "resnet18"}, {"gsd_m": 0.3}, {"training_images": 400}, separated):
        (note,) = unequal_conditions(loaded_with(**facts))
        assert note.startswith("Runs of none count as seeds of one method, but their models differ")


def test_runs_that_were_trained_differently_are_no_seeds(make_run: MakeRun) -> None:
    def loaded_with(*configs: str) -> tuple[Group, ...]:
        names = [f"{len(''.join(configs))}-{n}" for n in range(len(configs))]
        runs = [make_run(name, {"town": 0.5}, seed=n) for n, name in enumerate(names)]
        for run, config in zip(runs, configs, strict=True):
            (run / "config.yaml").write_text(config)
        return loaded(*runs)

    alike = "name: a\nseed: 0\ndata: {catalog: a.parquet}\ntrainer: {steps: 500}\n"
    other = "name: b\nseed: 1\ndata: {catalog: b.parquet}\ntrainer: {steps: 500, patience: 0}\n"
    assert unequal_conditions(loaded_with(alike, other)) == ()
    assert unequal_conditions(loaded_with(alike, "seed: [")) == ()  # it is not known
    recorded = alike + "analysis: {every: 1}\nmodel: {threshold: 0.4}\n"
    plain = alike + "analysis: {every: 0}\nmodel: {threshold: 0.5}\n"
    assert unequal_conditions(loaded_with(recorded, plain)) == ()
    hostile = (alike + f'"\\ud800\\e[31m\\n{"x" * 99}": {value}\n' for value in (0, 1))
    (note,) = unequal_conditions(loaded_with(*hostile))
    assert note.isprintable()
    assert len(note.encode()) < 300
    longer = alike.replace("500", "20000") + "loss: {name: tversky}\n"
    (note,) = unequal_conditions(loaded_with(alike + "loss: {name: bce}\n", longer))
    assert note == (
        "Runs of none count as seeds of one method, but were trained with different settings "
        "(trainer.steps and loss.name): a mean over them is that of no method."
    )


def test_footprints_of_earlier_rules_are_noted(make_run: MakeRun) -> None:
    older, newer = make_run("a", {"town": 0.5}), make_run("b", {"town": 0.5}, method="rhm")
    assert unequal_conditions(loaded(older, newer)) == ()
    path = newer / "evaluation" / "scores.json"
    scores = json.loads(path.read_text())
    scores["domains"][0]["rules"] = 7
    path.write_text(json.dumps(scores))
    (note,) = unequal_conditions(loaded(older, newer))
    assert note.startswith("On town, footprints of some runs were scored by an earlier version")
