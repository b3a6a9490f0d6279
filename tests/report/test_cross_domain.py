"""Tables against numpy, and the laws of pairing and ranking."""

from pathlib import Path

import numpy as np
import pytest

from rhm.errors import ConfigError
from rhm.evaluation.scores import Shift
from rhm.report.cross_domain import (
    Group,
    Target,
    group_runs,
    matrix,
    method_differences,
    rankings,
    score_rows,
    targets_of,
)
from rhm.report.runs import load_run
from rhm.report.wording import headlines, notes
from tests.report.conftest import MakeRun

SEEDS = (0, 1, 2)
NONE = {"town": (0.60, 0.62, 0.61), "city": (0.10, 0.14, 0.09), "shore": (0.20, 0.21, 0.25)}
RHM = {"town": (0.59, 0.60, 0.64), "city": (0.30, 0.26, 0.28), "shore": (0.22, 0.20, 0.30)}


@pytest.fixture
def groups(make_run: MakeRun) -> tuple[Group, ...]:
    folders = [
        make_run(
            f"{method}-{seed}", {d: v[seed] for d, v in ious.items()}, method=method, seed=seed
        )
        for method, ious in (("rhm", RHM), ("none", NONE))
        for seed in SEEDS
    ]
    return group_runs(load_run(folder) for folder in folders)


def targets(groups: tuple[Group, ...]) -> tuple[Target, ...]:
    return targets_of(run for group in groups for run in group.runs)


def load(*folders: Path) -> tuple[Group, ...]:
    return group_runs([load_run(folder) for folder in folders])


def test_the_matrix_is_mean_and_sample_deviation_over_seeds(groups: tuple[Group, ...]) -> None:
    table = matrix(groups, targets(groups))
    assert [target.name for target in table.targets] == ["town", "city", "shore"]
    assert [row.method for row in table.rows] == ["none", "rhm"]
    for row, ious in zip(table.rows, (NONE, RHM), strict=True):
        assert row.seeds == SEEDS
        for target, cell in zip(table.targets, row.cells, strict=True):
            assert cell is not None
            assert cell.role == ("source" if target.name == "town" else "unseen")
            assert cell.iou.mean == pytest.approx(np.mean(ious[target.name]))
            assert cell.iou.sd == pytest.approx(np.std(ious[target.name], ddof=1))
            assert cell.iou.seeds == 3


def test_one_seed_keeps_its_interval(make_run: MakeRun) -> None:
    groups = load(make_run("a", {"town": 0.6}))
    cell = matrix(groups, targets(groups)).rows[0].cells[0]
    assert cell is not None
    assert (cell.iou.mean, cell.iou.sd, cell.iou.low, cell.iou.high) == (0.6, None, 0.01, 0.99)


def test_differences_are_paired_by_seed(groups: tuple[Group, ...]) -> None:
    for difference in method_differences(groups, targets(groups), "iou"):
        expected = np.subtract(RHM[difference.target.name], NONE[difference.target.name])
        assert difference.by_seed == pytest.approx(expected)
        assert difference.mean == pytest.approx(expected.mean())
        assert difference.sd == pytest.approx(expected.std(ddof=1))


def test_only_common_seeds_are_compared(make_run: MakeRun) -> None:
    groups = load(
        make_run("a", {"city": 0.1}, seed=0),
        make_run("b", {"city": 0.2}, seed=1),
        make_run("c", {"city": 0.5}, seed=1, method="rhm"),
        make_run("d", {"city": 0.9}, seed=2, method="rhm"),
    )
    (difference,) = method_differences(groups, targets(groups), "iou")
    assert difference.seeds == (1,)
    assert difference.mean == pytest.approx(0.3)
    assert difference.sd is None


def test_methods_of_other_sources_are_not_compared(make_run: MakeRun) -> None:
    groups = load(
        make_run("a", {"city": 0.1}),
        make_run("b", {"city": 0.5}, method="rhm", sources=("town", "port")),
    )
    assert method_differences(groups, targets(groups), "iou") == ()
    assert [group.sources for group in groups] == [("port", "town"), ("town",)]


def test_rankings_average_domains_within_a_seed_first(groups: tuple[Group, ...]) -> None:
    own, unseen = rankings(groups, targets(groups))
    assert (own.role, unseen.role) == ("source", "unseen")
    assert [rank.method for rank in unseen.ranks] == ["rhm", "none"]
    by_seed = np.mean([RHM["city"], RHM["shore"]], axis=0)
    assert unseen.ranks[0].iou.mean == pytest.approx(by_seed.mean())
    assert unseen.ranks[0].iou.sd == pytest.approx(by_seed.std(ddof=1))
    assert unseen.ranks[0].by_seed == pytest.approx(by_seed)
    assert unseen.ranks[0].seeds == (0, 1, 2)


def test_the_headline_says_who_is_best_and_by_how_much(groups: tuple[Group, ...]) -> None:
    (sentence,) = headlines(rankings(groups, targets(groups)))
    ours = np.mean([RHM["city"], RHM["shore"]])
    theirs = np.mean([NONE["city"], NONE["shore"]])
    assert sentence.startswith("Trained on town, rhm is the best of 2 methods on 2 unseen domains")
    assert f"mean IoU {ours:.3f} ±" in sentence
    assert f"{ours - theirs:.3f} above none ({theirs:.3f} ±" in sentence
    assert sentence.endswith("; 3 seeds.")


def test_a_domain_without_a_score_leaves_the_means(make_run: MakeRun) -> None:
    groups = load(
        make_run("a", {"city": 0.1, "shore": None}),
        make_run("b", {"city": 0.2, "shore": 0.9}, method="rhm"),
    )
    (ranking,) = rankings(groups, targets(groups))
    assert [target.name for target in ranking.targets] == ["city"]
    assert ranking.ranks[0].iou.mean == 0.2
    assert any("shore" in note for note in notes(groups))


def test_a_mean_says_how_many_runs_it_lacks(make_run: MakeRun) -> None:
    """A run that found nothing has no precision: the mean of the others is better without it."""
    groups = load(
        make_run("a", {"city": 0.1}),
        make_run("b", {"city": 0.3}, seed=1),
        make_run("c", {"city": None}, seed=2),
        make_run("d", {"town": 0.3}, seed=3),
    )
    rows = {row.target.name: row for row in score_rows(groups, targets(groups))}
    found = rows["city"].scores["iou"]
    assert found.mean == pytest.approx(0.2)
    assert (found.seeds, found.runs) == (2, 4)
    assert (found.lacking, rows["city"].seeds) == ("2 of 4", (0, 1, 2, 3))
    (row,) = matrix(groups, targets(groups)).rows
    assert [cell.iou.lacking for cell in row.cells if cell] == ["1 of 4", "2 of 4"]


def test_shifts_are_ranked_apart(make_run: MakeRun) -> None:
    ious = {"town": 0.6, "town (gamma shift)": 0.1}
    groups = load(make_run("a", ious, shifts=("town (gamma shift)",)))
    assert [ranking.role for ranking in rankings(groups, targets(groups))] == ["source", "shifted"]
    assert [target.label for target in targets(groups)] == ["town", "town (gamma shift)"]


def test_labels_tell_what_the_name_does_not() -> None:
    assert Target("town", Shift("gamma", 7)).label == "town (gamma shift), seed 7"
    assert Target("town (gamma shift)", Shift("gamma", 7)).label == "town (gamma shift), seed 7"


def test_runs_that_cannot_be_seeds_are_shown_one_by_one(make_run: MakeRun) -> None:
    groups = load(make_run("a", {"city": 0.1}), make_run("b", {"city": 0.2}))
    assert [group.label for group in groups] == ["none · a", "none · b"]
    assert any("one by one" in note for note in notes(groups))


def test_a_run_given_twice_is_refused(make_run: MakeRun) -> None:
    run = make_run("a", {"city": 0.1})
    with pytest.raises(ConfigError, match="'a' is given twice"):
        load(run, run)


def test_a_model_that_was_scored_in_two_ways_is_named_by_its_folders(make_run: MakeRun) -> None:
    groups = load(make_run("a", {"city": 0.1}), make_run("a", {"city": 0.3}, folder="a-auto"))
    assert [group.label for group in groups] == ["none · a", "none · a-auto"]
    groups = load(
        make_run("b", {"city": 0.1}, folder="runs/b"), make_run("b", {"city": 0.3}, folder="auto/b")
    )
    assert [group.label for group in groups] == ["none · runs/b", "none · auto/b"]


def test_different_splits_are_noted(make_run: MakeRun) -> None:
    first = make_run("a", {"city": 0.1})
    second = make_run("b", {"city": 0.1}, seed=1, split="validation")
    assert any("different splits" in note for note in notes(load(first, second)))


def test_scores_hold_every_metric(groups: tuple[Group, ...]) -> None:
    rows = score_rows(groups, targets(groups))
    assert [(row.target.name, row.method) for row in rows] == [
        (domain, method) for domain in ("town", "city", "shore") for method in ("none", "rhm")
    ]
    assert rows[0].scores["ece"].mean == pytest.approx(0.1)
    assert rows[3].scores["object_f1"].mean == pytest.approx(np.mean(RHM["city"]))
