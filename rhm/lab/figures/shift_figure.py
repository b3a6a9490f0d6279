"""The figure of the experiment on controlled shifts, as a PNG file."""

import os
from typing import Any

import numpy as np

from rhm.colour.shifts import SHIFTS
from rhm.evaluation.scores import Shift
from rhm.evaluation.tile_scores import shifted
from rhm.lab.controlled_shifts import ControlledShifts
from rhm.lab.figures.png import saved_png

_COLOURS = ("#7f7f7f", "#8c6bb1", "#e08214", "#1b7837")


def draw_controlled_shifts(result: ControlledShifts, path: str | os.PathLike[str]) -> None:
    """Show an image under every family of shifts, and the IoU of every augmentation.

    Raises:
        OutputError: the file cannot be written.
    """
    families = ["none", *SHIFTS]
    with saved_png(path, width=10, height=6.4) as figure:
        grid = figure.add_gridspec(2, len(families), height_ratios=(1, 1.7))
        for column, family in enumerate(families):
            axes = figure.add_subplot(grid[0, column])
            axes.imshow(_shown(result, family))
            axes.set_title("as it is" if family == "none" else family, fontsize=10)
            axes.set_axis_off()
        axes = figure.add_subplot(grid[1, :])
        width = 0.8 / len(result.iou)
        places = np.arange(len(families))
        for number, (name, iou) in enumerate(result.iou.items()):
            left = places + (number - (len(result.iou) - 1) / 2) * width
            colour = _COLOURS[number % len(_COLOURS)]
            bars = axes.bar(left, [iou[each] for each in families], width, label=name, color=colour)
            axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
        axes.set_xticks(places, ["as it is", *SHIFTS])
        axes.set_ylabel("pixel IoU on test images")
        axes.set_ylim(0.0, 1.0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(title="trained with", ncols=len(result.iou), loc="upper center", frameon=False)


def _shown(result: ControlledShifts, family: str) -> Any:
    with result.tile.open() as raster:
        pixels = raster.read()
    if family != "none":
        pixels = shifted(Shift(family, result.seed), result.tile.name, pixels)
    return pixels.values
