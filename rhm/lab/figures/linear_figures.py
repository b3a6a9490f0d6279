"""Figures of the experiments on deep linear networks, as PNG files."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rhm.lab.deep_updates import KINDS, DeepUpdates, UpdatePath
from rhm.lab.figures.png import saved_png
from rhm.lab.matrix_completion import CompletionComparison, CompletionRun
from rhm.lab.parsimony import Parsimony

MOST_LAYERS = 10
"""Most layers in the figure of a network; one of hundreds takes minutes, and is too wide."""

_COLOURS = ("#1b7837", "#2166ac", "#e08214", "#8c6bb1")
_GREY = "#9e9e9e"
_ROUNDING = 1e-17
_KIND_COLOURS = dict(
    zip(KINDS, ("#1b7837", "#2166ac", "#67a9cf", "#9e9e9e", "#e08214"), strict=True)
)
_KIND_STYLES = {"compressed": "--", "compressed, outer trained": ":"}
_LEAST_LOSS = 1e-12


def draw_parsimony(result: Parsimony, path: str | os.PathLike[str]) -> None:
    """Plot singular values and angles of the middle subspaces by layer, and both losses.

    Of deep networks, ``MOST_LAYERS`` are shown, from the first to the last.

    Raises:
        OutputError: the file cannot be written.
    """
    layers = result.singular_values.shape[1]
    shown = np.linspace(0, layers - 1, min(layers, MOST_LAYERS)).round().astype(int).tolist()
    with saved_png(path, width=max(8.0, 3.4 * len(shown)), height=8.6) as figure:
        grid = figure.add_gridspec(3, len(shown))
        first: list[Any] = [None, None]
        for column, layer in enumerate(shown):
            values = figure.add_subplot(grid[0, column], sharey=first[0])
            angles = figure.add_subplot(grid[1, column], sharey=first[1], sharex=values)
            _draw_singular_values(values, result, layer)
            _draw_angles(angles, result, layer)
            if column == 0:
                first = [values, angles]
                values.set_ylabel(r"singular values $\sigma_i(W_l)$")
                angles.set_ylabel("angle to the start [rad]")
                values.legend(frameon=False, fontsize=8)
                angles.legend(frameon=False, fontsize=8, loc="center right")
        _draw_paths(figure.add_subplot(grid[2, :]), result)


def draw_matrix_completion(result: CompletionComparison, path: str | os.PathLike[str]) -> None:
    """Plot the loss over steps and time, and the effects of the given rank and of depth.

    Raises:
        OutputError: the file cannot be written.
    """
    with saved_png(path, width=11.5, height=8.2) as figure:
        axes = figure.subplots(2, 2)
        compared = result.select(depth=3, rank=result.rank)
        for colour, run in zip(_COLOURS, compared, strict=False):
            _draw_losses(axes[0, 0], run, colour, run.completion.steps, run.name)
            _draw_losses(axes[0, 1], run, colour, run.completion.seconds, run.name)
        names = [("compressed", 3), ("compressed", 2), ("narrow", 2)]
        for colour, (name, depth) in zip(_COLOURS[1:], names, strict=False):
            runs = sorted(result.select(name=name, depth=depth), key=lambda run: run.rank)
            axes[1, 0].semilogy(
                [run.rank for run in runs],
                _positive([run.completion.test_loss[-1] for run in runs]),
                "o-",
                color=colour,
                label=f"{name}, depth {depth}",
            )
        _draw_depths(axes[1, 1], result)
        _label_completion(axes, result)
        figure.suptitle(
            f"{result.size} x {result.size} matrix of rank {result.rank}, {result.known:.0%} known",
            fontsize=11,
        )


def _draw_singular_values(axes: Any, result: Parsimony, layer: int) -> None:
    values = result.singular_values[:, layer]
    middle = values.shape[1] - 2 * result.rank
    axes.plot(result.steps, values[:, : result.rank], color=_COLOURS[0], lw=1.4)
    # The smallest values are drawn over the middle ones, from which they separate.
    axes.plot(result.steps, values[:, result.rank :], color=_GREY, lw=0.8)
    axes.plot(result.steps, values[:, -result.rank :], color=_COLOURS[2], lw=1.4)
    axes.plot([], [], color=_COLOURS[0], label=f"largest {result.rank}")
    axes.plot([], [], color=_GREY, label=f"middle {middle}")
    axes.plot([], [], color=_COLOURS[2], label=f"smallest {result.rank}")
    axes.set_title(rf"layer $W_{layer + 1}$", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_angles(axes: Any, result: Parsimony, layer: int) -> None:
    after = slice(1, None)
    for angles, style, colour, label in (
        (result.leading_angles, "-", _COLOURS[0], f"leading {result.rank}, right"),
        (result.right_angles, "-", _COLOURS[1], "middle, right"),
        (result.left_angles, "--", _COLOURS[3], "middle, left"),
    ):
        shown = np.maximum(angles[after, layer], _ROUNDING)
        if label.startswith("leading"):
            # The other records are compared with the first.
            shown[0] = np.nan
        axes.semilogy(result.steps[after], shown, style, color=colour, label=label)
    axes.set_xlabel("gradient steps")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_paths(axes: Any, result: Parsimony) -> None:
    axes.semilogy(
        result.steps, result.loss, color=_COLOURS[1], label="loss, wide network with its middle"
    )
    axes.semilogy(
        result.steps,
        result.compressed_loss,
        "--",
        color=_COLOURS[2],
        label=f"loss, compressed to width {2 * result.rank}",
    )
    axes.semilogy(
        result.steps,
        np.maximum(result.compressed_distance, _ROUNDING),
        ":",
        color=_GREY,
        label="relative distance of the two maps on the active subspace",
    )
    axes.set_xlabel("gradient steps")
    axes.set_ylabel("loss or relative distance")
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _label_completion(axes: Any, result: CompletionComparison) -> None:
    for each in axes.flat:
        each.set_ylabel(r"loss, $\frac{1}{2}$ mean over all entries of residual$^2$")
    axes[1, 0].set_ylabel("test loss at the end")
    axes[0, 0].set_xlabel("gradient steps")
    axes[0, 1].set_xlabel("time [s], initialisation and compression included")
    axes[1, 0].set_xlabel(f"rank asked for; the matrix's is {result.rank}")
    axes[1, 1].set_xlabel("gradient steps")
    axes[0, 0].set_title(f"depth 3, rank {result.rank}: test solid, train dotted", fontsize=10)
    axes[0, 1].set_title("the same against time", fontsize=10)
    axes[1, 0].set_title("rank set too high", fontsize=10)
    axes[1, 1].set_title("depth 2 against 3: test solid, train dotted", fontsize=10)
    axes[1, 1].xaxis.set_major_locator(MaxNLocator(5))
    axes[1, 0].set_xticks(sorted({run.rank for run in result.runs}))
    _tidy(axes.flat)


def _draw_losses(axes: Any, run: CompletionRun, colour: str, at: Any, label: str) -> None:
    axes.semilogy(at, _positive(run.completion.test_loss), color=colour, label=label)
    axes.semilogy(at, _positive(run.completion.train_loss), ":", color=colour)


def _positive(values: Sequence[float]) -> NDArray[np.float64]:
    """Return values for a logarithmic axis; none for a matrix that was known completely."""
    given = np.asarray(values, dtype=np.float64)
    return np.where(given > 0.0, given, np.nan)


def _draw_depths(axes: Any, result: CompletionComparison) -> None:
    plan = [("full", 2), ("full", 3), ("compressed", 2), ("compressed", 3)]
    for colour, (name, depth) in zip(_COLOURS, plan, strict=True):
        for run in result.select(name=name, depth=depth, rank=result.rank):
            _draw_losses(axes, run, colour, run.completion.steps, f"{name}, depth {depth}")


def _tidy(axes: Iterable[Any]) -> None:
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.legend(frameon=False, fontsize=8)


def draw_deep_updates(result: DeepUpdates, path: str | os.PathLike[str]) -> None:
    """Plot the losses of both tasks, the wide update's singular values, and errors over samples.

    Raises:
        OutputError: the file cannot be written.
    """
    with saved_png(path, width=11.5, height=8.2) as figure:
        axes = figure.subplots(2, 2)
        titles = ("one layer, as in the theorem", "two layers of a ReLU network")
        for axis, runs, title in zip(axes[0], (result.linear, result.network), titles, strict=True):
            _draw_update_losses(axis, list(runs.values()), title)
        wide = next(iter(result.network.values()))[0]
        _draw_update_values(axes[1, 0], wide)
        _draw_errors(axes[1, 1], result)
        for axis in axes.flat:
            axis.spines[["top", "right"]].set_visible(False)


def errors_of(result: DeepUpdates, kind: str, rank: int, samples: int) -> list[float]:
    """Return the errors of a kind of update, seed by seed."""
    return [
        path.error
        for (_, count, given), paths in result.sweep.items()
        for path in paths
        if (count, given, path.kind) == (samples, rank, kind)
    ]


def linear_losses(result: DeepUpdates) -> dict[str, list[float]]:
    """Return the training losses at the end of the linear task by kind of update, seed by seed."""
    kinds = zip(*result.linear.values(), strict=True)
    return {paths[0].kind: [float(path.loss[-1]) for path in paths] for paths in kinds}


def mean_errors(result: DeepUpdates) -> list[dict[str, Any]]:
    """Return a row for each number of samples and rank: both, and the mean error of each kind."""
    return [
        {
            "samples": count,
            "rank": given,
            **{kind: float(np.mean(errors_of(result, kind, given, count))) for kind in KINDS},
        }
        for count, given in sorted({key[1:] for key in result.sweep})
    ]


def _draw_update_losses(axes: Any, runs: Sequence[Sequence[UpdatePath]], title: str) -> None:
    """Draw a line for the first seed, and thin ones for the others."""
    for number, each in ((number, path) for number, paths in enumerate(runs) for path in paths):
        axes.semilogy(
            each.steps,
            np.maximum(each.loss, _LEAST_LOSS),
            _KIND_STYLES.get(each.kind, "-"),
            color=_KIND_COLOURS[each.kind],
            label=each.kind if number == 0 else None,
            lw=0.6 if number else 1.5,
            alpha=0.5 if number else 1.0,
        )
    axes.set(title=title, xlabel="step", ylabel="training loss / at the start", ylim=(1e-8, 3.0))
    axes.legend(frameon=False, fontsize=8)


def _draw_update_values(axes: Any, path: UpdatePath) -> None:
    axes.plot(path.steps, path.singular_values, color=_KIND_COLOURS["wide"], lw=1.2)
    axes.set(
        title="the wide update of the last layer, first seed",
        xlabel="step",
        ylabel="singular values",
    )


def _draw_errors(axes: Any, result: DeepUpdates) -> None:
    rank = next(iter(result.network.values()))[1].rank
    counts = sorted({count for _, count, _ in result.sweep})
    for kind in KINDS:
        errors = np.array([errors_of(result, kind, rank, count) for count in counts])
        low, middle, high = np.maximum(np.quantile(errors, (0.0, 0.5, 1.0), axis=1), _LEAST_LOSS)
        axes.semilogy(counts, middle, "o-", color=_KIND_COLOURS[kind], label=kind)
        axes.fill_between(counts, low, high, color=_KIND_COLOURS[kind], alpha=0.15, lw=0)
    axes.set(
        title=f"rank {rank} where an update has one",
        xlabel="training samples",
        ylabel="test loss / without update",
        ylim=(1e-7, 3.0),
        xticks=counts,
    )
    axes.legend(frameon=False, fontsize=8)
