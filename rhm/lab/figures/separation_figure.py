"""The figure of the experiment on progressive separation, as a PNG file."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.lab.figures.png import saved_png
from rhm.lab.layer_statistics import LayerStatistics
from rhm.lab.linear_separation import DeepLinearSeparation, LinearSeparation

_COLOURS = ("#1b7837", "#2166ac", "#e08214", "#8c6bb1")
_SHARED_COLOUR = "#b2182b"
_GREY = "#9e9e9e"
_BAND_ALPHA = 0.18


def draw_linear_separation(result: LinearSeparation, path: str | os.PathLike[str]) -> None:
    """Plot compression and discrimination by layer, as means over seeds with their ranges.

    Raises:
        OutputError: the file cannot be written.
    """
    with saved_png(path, width=13.5, height=7.6) as figure:
        axes = figure.subplots(2, 3)
        linear = [*zip(_COLOURS, result.linear, strict=False), (_SHARED_COLOUR, result.shared)]
        for colour, networks in linear:
            statistics = [network.statistics for network in networks]
            name = rf"$\epsilon$ = {networks[0].init_scale:g}"
            name += ", shared mean" if networks is result.shared else ""
            _draw_layers(axes[0, 0], statistics, "compression", colour, name)
            _draw_layers(axes[1, 0], statistics, "discrimination", colour, name)
            _draw_assumptions(axes[0, 2], networks, colour)
        axes[0, 2].plot([], [], "o-", color=_GREY, label=r"imbalance of layers $l$ and $l+1$")
        axes[0, 2].plot([], [], "^:", color=_GREY, label="spread of middle singular values")
        kinds = {"hybrid": result.hybrid, "perceptron": result.perceptron}
        for colour, (name, trained) in zip(_COLOURS[1:], kinds.items(), strict=False):
            label = f"{name}: {trained[0].nonlinear} of {trained[0].layers} with ReLU"
            statistics = [each.statistics for each in trained]
            _draw_layers(axes[0, 1], statistics, "compression", colour, label)
            _draw_layers(axes[1, 1], statistics, "discrimination", colour, label)
            _draw_ranks(axes[1, 2], statistics, name, colour)
        _label(axes)


def _draw_layers(
    axes: Any, statistics: Sequence[LayerStatistics], quantity: str, colour: str, label: str
) -> None:
    """Plot a quantity by layer, and the line fitted to its mean slope and intercept."""
    first = statistics[0]
    layers, fitted = first.layers, first.layers[first.first_fitted :]
    fits = [getattr(each, f"{quantity}_fit") for each in statistics]
    slope, intercept = (
        float(np.mean([getattr(f, n) for f in fits])) for n in ("slope", "intercept")
    )
    line = intercept + slope * fitted
    values = np.array([getattr(each, quantity) for each in statistics])
    is_compression = quantity == "compression"
    middle = np.exp(np.log(values).mean(axis=0)) if is_compression else values.mean(axis=0)
    text = f"{label}, slope {slope:.2f}" if is_compression else f"{label}, slope {slope:.3f}"
    axes.plot(layers, middle, "o", color=colour, ms=5, label=text)
    axes.plot(fitted, np.exp(line) if is_compression else line, color=colour, lw=1)
    _draw_band(axes, layers, values, colour)
    if is_compression:
        axes.set_yscale("log")


def _draw_band(axes: Any, layers: Any, values: NDArray[Any], colour: str) -> None:
    low, high = values.min(axis=0), values.max(axis=0)
    axes.fill_between(layers, low, high, color=colour, alpha=_BAND_ALPHA, lw=0)


def _draw_assumptions(axes: Any, networks: Sequence[DeepLinearSeparation], colour: str) -> None:
    # The last weight has only as many rows as there are classes, so it cannot be balanced.
    imbalance = np.mean([network.imbalance[:-1] for network in networks], axis=0)
    axes.semilogy(np.arange(1, len(imbalance) + 1), imbalance, "o-", color=colour, ms=4)
    spread = np.mean([network.middle_spread for network in networks], axis=0)
    axes.semilogy(np.arange(1, len(spread) + 1), spread, "^:", color=colour, ms=4)


def _draw_ranks(axes: Any, statistics: Sequence[LayerStatistics], name: str, colour: str) -> None:
    layers = statistics[0].layers
    for quantity, style, label in (
        ("numerical_rank", "o-", f"{name}: numerical rank / width"),
        ("probe_accuracy", "s:", f"{name}: accuracy of a linear probe"),
    ):
        values = np.array([getattr(each, quantity) for each in statistics], dtype=np.float64)
        if quantity == "numerical_rank":
            values /= values.max()
        axes.plot(layers, values.mean(axis=0), style, color=colour, ms=4, label=label)
        _draw_band(axes, layers, values, colour)


def _label(axes: Any) -> None:
    titles = (
        ("deep linear networks, nearly orthogonal data", "with and without ReLU", "assumptions"),
        ("deep linear networks", "with and without ReLU", "rank and linear probes"),
    )
    for row, names in zip(axes, titles, strict=True):
        for each, title in zip(row, names, strict=True):
            each.set_title(title, fontsize=10)
            each.set_xlabel(r"layer $l$ (0: the input)")
    for each in axes[0, :2]:
        each.set_ylabel(r"compression $C_l$ = tr $\Sigma_W$ / tr $\Sigma_B$")
    for each in axes[1, :2]:
        each.set_ylabel(r"discrimination $D_l$")
    axes[0, 2].set_ylabel("distance from the assumption")
    axes[0, 2].set_xlabel(r"layer $l$")
    axes[1, 2].set_ylabel("share of the width; of test samples")
    axes[1, 2].set_ylim(bottom=0.0)
    for each in axes.flat:
        each.spines[["top", "right"]].set_visible(False)
        each.legend(frameon=False, fontsize=8)
