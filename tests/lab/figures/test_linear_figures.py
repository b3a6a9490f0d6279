"""Figures of the experiments on deep linear networks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from matplotlib import pyplot as plt

from rhm.errors import OutputError
from rhm.lab.deep_updates import KINDS, DeepUpdates, run_deep_updates
from rhm.lab.figures.linear_figures import (
    MOST_LAYERS,
    draw_deep_updates,
    draw_matrix_completion,
    draw_parsimony,
    errors_of,
    linear_losses,
    mean_errors,
)
from rhm.lab.matrix_completion import run_matrix_completion
from rhm.lab.parsimony import run_parsimony

Draw = Callable[[Path], None]


def parsimony(path: Path) -> None:
    draw_parsimony(run_parsimony(width=10, rank=2, depth=2, steps=30), path)


def matrix_completion(path: Path) -> None:
    draw_matrix_completion(run_matrix_completion(size=16, rank=1, known=0.6, max_steps=200), path)


def deep_updates(path: Path) -> None:
    result = run_deep_updates(width=12, rank=2, samples=(8, 16), ranks=(4,), steps=30)
    draw_deep_updates(result, path)


@pytest.mark.parametrize("draw", [parsimony, matrix_completion, deep_updates])
def test_a_figure_is_an_image_with_something_on_it(draw: Draw, tmp_path: Path) -> None:
    path = tmp_path / "new" / "figure.png"
    draw(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    pixels = image.imread(path)
    assert min(pixels.shape[:2]) > 900
    # Every quarter has ink.
    middle, center = pixels.shape[0] // 2, pixels.shape[1] // 2
    for rows in (slice(None, middle), slice(middle, None)):
        for columns in (slice(None, center), slice(center, None)):
            assert pixels[rows, columns, :3].std() > 0.01
    assert plt.get_fignums() == []


def test_the_figure_of_a_deep_network_shows_some_of_its_layers(tmp_path: Path) -> None:
    """With all of them, the figure of 130 layers took most of a minute."""
    for depth in (MOST_LAYERS, MOST_LAYERS + 4):
        result = run_parsimony(width=4, rank=1, depth=depth, steps=5)
        draw_parsimony(result, tmp_path / f"{depth}.png")
    (first, second) = (image.imread(path).shape for path in sorted(tmp_path.iterdir()))
    assert first == second


def test_a_matrix_that_is_known_has_no_test_loss_to_draw(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    result = run_matrix_completion(size=16, rank=1, known=1.0, max_steps=100)
    draw_matrix_completion(result, path)
    assert image.imread(path)[:, :, :3].std() > 0.01


@pytest.mark.parametrize("draw", [parsimony, matrix_completion])
def test_a_path_that_cannot_be_written_is_one_line(draw: Draw, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write") as error:
        draw(tmp_path / "file" / "figure.png")
    assert "\n" not in str(error.value)
    assert plt.get_fignums() == []


@pytest.fixture(scope="module")
def updates() -> DeepUpdates:
    """A short comparison with two seeds."""
    return run_deep_updates(width=12, rank=2, samples=(8, 16), ranks=(4, 8), steps=30, seeds=2)


def test_the_losses_of_the_linear_task_are_those_at_the_end_of_each_seed(
    updates: DeepUpdates,
) -> None:
    losses = linear_losses(updates)
    assert tuple(losses) == KINDS
    for column, kind in enumerate(KINDS):
        assert losses[kind] == [updates.linear[seed][column].loss[-1] for seed in (0, 1)]


def test_the_table_has_the_mean_over_seeds(updates: DeepUpdates) -> None:
    rows = mean_errors(updates)
    assert [(row["samples"], row["rank"]) for row in rows] == [(8, 4), (8, 8), (16, 4), (16, 8)]
    for row in rows:
        for kind in KINDS:
            both = []
            for seed in (0, 1):
                paths = updates.sweep[seed, row["samples"], row["rank"]]
                both += [path.error for path in paths if path.kind == kind]
            assert errors_of(updates, kind, row["rank"], row["samples"]) == both
            assert row[kind] == pytest.approx(np.mean(both))
