"""The figure of the experiment on controlled shifts, as a PNG file."""

import os
from typing import Any

import numpy as np

from rhm.colour.shifts import SHIFTS
from rhm.evaluation.scores import Shift
from rhm.evaluation.tile_scores import shifted
from rhm.lab.controlled_shifts import ControlledShifts
from rhm.lab.figures.png import saved_png


def draw_controlled_shifts(result: ControlledShifts, path: str | os.PathLike[str]) -> None:
    """Show an image under every family of shifts, and the IoU of every augmentation below it.

    Raises:
        OutputError: the file cannot be written.
    """
    families = ["none", *SHIFTS]
    rows = list(result.iou)
    iou = np.array([[result.iou[name][family] for family in families] for name in rows])
    with saved_png(path, width=10, height=2.6 + 0.45 * len(rows)) as figure:
        grid = figure.add_gridspec(2, len(families), height_ratios=(2.2, 0.45 * len(rows)))
        for column, family in enumerate(families):
            axes = figure.add_subplot(grid[0, column])
            axes.imshow(_shown(result, family))
            axes.set_title("as it is" if family == "none" else family, fontsize=10)
            axes.set_axis_off()
        axes = figure.add_subplot(grid[1, :])
        # The scale ends at the values found, or differences between good models are not seen.
        axes.imshow(iou, cmap="YlGn", vmin=np.nanmin(iou), vmax=np.nanmax(iou), aspect="auto")
        middle = (np.nanmin(iou) + np.nanmax(iou)) / 2
        for (row, column), value in np.ndenumerate(iou):
            light = value > middle
            known = families[column] == rows[row] != "none"
            axes.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                color="white" if light else "black",
                weight="bold" if known else "normal",
            )
        axes.set_yticks(range(len(rows)), [f"trained with {name}" for name in rows])
        axes.set_xticks([])
        axes.set_xlabel("pixel IoU on test images; bold: the augmentation is the shift")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)


def _shown(result: ControlledShifts, family: str) -> Any:
    with result.tile.open() as raster:
        pixels = raster.read()
    if family != "none":
        pixels = shifted(Shift(family, result.seed), result.tile.name, pixels)
    return pixels.values
