"""Figure of the experiment on unconstrained features, as a PNG file."""

import os
from itertools import islice
from typing import Any

import numpy as np

from rhm.lab.figures.png import saved_png
from rhm.lab.landscape import Landscape, SphereExperiment
from rhm.lab.sphere import UnconstrainedFeatureModel, UnconstrainedFeatures

_COLOURS = ("#8c6bb1", "#e08214", "#1b7837", "#2166ac", "#b2182b", "#7f7f7f")
_GATE = 1e-3
_LEAST = 1e-16
_EXCESS = r"loss above its minimum, $f - f^*$  (nats)"


def draw_sphere(result: SphereExperiment, path: str | os.PathLike[str]) -> None:
    """Plot the descent, the final geometry, and the curvature at saddles and minimisers.

    Raises:
        OutputError: the file cannot be written.
    """
    with saved_png(path, width=15, height=8.6) as figure:
        panels = figure.subplots(2, 3)
        _draw_curves(panels[0, 0], panels[0, 1], result)
        _draw_vectors(panels[0, 2], result)
        _draw_cosines(panels[1, 0], result)
        _draw_eigenvalues(panels[1, 1], result)
        _draw_escapes(panels[1, 2], max(result.landscapes, key=lambda each: len(each.saddles)))
        for axes in panels.flat:
            axes.spines[["top", "right"]].set_visible(False)


def _name(model: UnconstrainedFeatureModel) -> str:
    width, temperature = model.num_features, model.temperature
    return rf"$K$ = {model.num_classes}, $d$ = {width}, $\tau$ = {temperature:g}"


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _excess(runs: UnconstrainedFeatures) -> Any:
    """Return the loss above its minimum, (T + 1, S); at the end, only rounding remains."""
    return np.maximum(runs.loss - runs.model.optimum, _LEAST)


def _plot_runs(
    axes: Any, runs: UnconstrainedFeatures, curves: Any, most: int | None = None, **style: Any
) -> None:
    """Plot the curves of all starts until convergence; only the first has a legend entry."""
    label = style.pop("label", None)
    drawn = zip(curves.T, runs.iterations, strict=True)
    for number, (curve, last) in enumerate(islice(drawn, most)):
        axes.plot(curve[: last + 1], lw=0.8, alpha=0.6, label=None if number else label, **style)


def _draw_curves(losses: Any, distances: Any, result: SphereExperiment) -> None:
    for number, each in enumerate(result.landscapes):
        style: dict[str, Any] = {"color": _colour(number), "label": _name(each.runs.model)}
        _plot_runs(losses, each.runs, _excess(each.runs), **style)
        _plot_runs(distances, each.runs, np.maximum(each.runs.etf_distance, _LEAST), **style)
    starts = len(result.landscapes[0].runs.iterations)
    losses.set_title(f"Loss from {starts} random starts each")
    losses.set_ylabel(_EXCESS)
    distances.set_title("Classifiers on their way to a simplex ETF")
    distances.set_ylabel(r"ETF distance, max $|\,WW^T - \mathrm{ETF}\,|$")
    distances.axhline(_GATE, color="black", lw=0.8, ls="--")
    distances.annotate(
        "$10^{-3}$", (1.0, _GATE), (-2, 3), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", fontsize=9,
    )  # fmt: skip
    for axes in (losses, distances):
        axes.set_yscale("log")
        axes.set_xlabel("iteration")
    handles, labels = losses.get_legend_handles_labels()
    for axes in (losses, distances):
        _thicken(axes.legend(handles, labels, frameon=False, fontsize=9))


def _draw_vectors(axes: Any, result: SphereExperiment) -> None:
    """Draw the vectors of the first start in the narrowest model, in their principal plane."""
    runs = min(result.landscapes, key=lambda each: each.runs.model.num_features).runs
    model = runs.model
    classifiers = runs.end.classifiers[0]
    # For two features the plane is R^2 itself; a rotation would only change signs.
    plane = (
        np.eye(2)
        if model.num_features == 2
        else np.linalg.svd(classifiers, full_matrices=False)[2][:2].T
    )
    angles = np.linspace(0.0, 2.0 * np.pi, 200)
    axes.plot(np.cos(angles), np.sin(angles), color="#bbbbbb", lw=0.8)
    before, after = runs.start.features[0] @ plane, runs.end.features[0] @ plane
    for number, tip in enumerate(classifiers @ plane):
        colour, own = _colour(number), model.labels == number
        axes.annotate(
            "", tip, (0.0, 0.0), arrowprops={"arrowstyle": "->", "color": colour, "lw": 2}
        )
        axes.scatter(*before[own].T, color=colour, marker="x", s=36, lw=1.2)
        axes.scatter(*after[own].T, color=colour, marker="o", s=60, alpha=0.5)
    for marker, label in (("x", "features at the start"), ("o", "features at the end")):
        axes.scatter([], [], color="#555555", marker=marker, label=label)
    axes.plot([], [], color="#555555", lw=2, label="classifiers at the end")
    axes.legend(frameon=False, fontsize=9, loc="upper center", ncols=2, bbox_to_anchor=(0.5, -0.02))
    axes.set_title(f"One start on the sphere, {_name(model)}")
    axes.set_aspect("equal")
    axes.set_axis_off()


def _draw_cosines(axes: Any, result: SphereExperiment) -> None:
    rng = np.random.default_rng(0)
    for number, each in enumerate(result.landscapes):
        classes = each.runs.model.num_classes
        above = np.triu_indices(classes, 1)
        cosines = [
            (block @ np.swapaxes(block, -1, -2))[:, above[0], above[1]].ravel()
            for block in (each.runs.start.classifiers, each.runs.end.classifiers)
        ]
        for place, values, colour in zip(
            (number - 0.2, number + 0.2), cosines, ("#aaaaaa", _colour(number)), strict=True
        ):
            jitter = rng.uniform(-0.12, 0.12, len(values))
            axes.scatter(place + jitter, values, s=4, color=colour, lw=0, rasterized=True)
        ideal = -1.0 / (classes - 1)
        axes.hlines(ideal, number - 0.4, number + 0.4, color="black", lw=0.8, zorder=0)
    axes.set_xticks(*_ticks(result))
    axes.set_title("Cosines between classifiers: start (grey) and end")
    axes.set_ylabel(r"$\langle w_k, w_{k'} \rangle,\ k \neq k'$;  line: $-1/(K-1)$")
    axes.set_ylim(-1.05, 1.05)


def _draw_eigenvalues(axes: Any, result: SphereExperiment) -> None:
    names = list(dict.fromkeys(each.name for one in result.landscapes for each in one.saddles))
    styles = dict(zip(names, "ovsDP^X*<>", strict=False))
    for number, each in enumerate(result.landscapes):
        for saddle in each.saddles:
            axes.scatter(
                number, saddle.curvature.smallest, marker=styles.get(saddle.name, "."),
                s=44, color=_colour(number), alpha=0.85,
            )  # fmt: skip
        minimum = np.full(len(each.smallest_eigenvalue), number)
        axes.scatter(minimum, each.smallest_eigenvalue, marker="_", s=300, color="black")
    for name, marker in styles.items():
        axes.scatter([], [], marker=marker, color="#555555", s=44, label=name)
    axes.scatter([], [], marker="_", color="black", s=120, label="minimisers reached")
    axes.axhline(0.0, color="black", lw=0.5)
    axes.set_yscale("symlog", linthresh=1e-3, linscale=0.5)
    axes.set_ylim(-60.0, 3e-3)
    axes.set_xlim(-0.5, len(result.landscapes) - 0.5)
    axes.set_xticks(*_ticks(result))
    axes.set_title("Curvature at saddles and at minimisers")
    axes.set_ylabel("smallest eigenvalue of the Riemannian Hessian")
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower center")


def _draw_escapes(axes: Any, landscape: Landscape) -> None:
    for number, saddle in enumerate(landscape.saddles):
        style: dict[str, Any] = {"color": _colour(number), "label": saddle.name}
        _plot_runs(axes, saddle.escape, _excess(saddle.escape), most=4, **style)
    axes.set_yscale("log")
    axes.set_title(f"Leaving saddles, {_name(landscape.runs.model)}")
    axes.set_xlabel("iteration")
    axes.set_ylabel(_EXCESS)
    _thicken(axes.legend(frameon=False, fontsize=9))


def _thicken(legend: Any) -> None:
    for line in legend.get_lines():
        line.set(linewidth=2.0, alpha=1.0)


def _ticks(result: SphereExperiment) -> tuple[Any, list[str]]:
    names = [_name(each.runs.model).replace(", ", "\n") for each in result.landscapes]
    return np.arange(len(names)), names
