"""The figure of controlled shifts: every panel has something on it."""

from pathlib import Path

import pytest
from matplotlib import image
from matplotlib import pyplot as plt

from rhm.colour.shifts import SHIFTS
from rhm.data import Catalog
from rhm.errors import OutputError
from rhm.lab.controlled_shifts import ControlledShifts
from rhm.lab.figures.shift_figure import draw_controlled_shifts

FAMILIES = ("none", *SHIFTS)


@pytest.fixture(scope="module")
def result(catalog_path: Path) -> ControlledShifts:
    tile = Catalog.load(catalog_path).select(domains=["alder_aerial"]).tiles[0]
    iou = {
        name: {family: best - 0.05 * number for number, family in enumerate(FAMILIES)}
        for name, best in (("none", 0.6), ("rhm", 0.9))
    }
    return ControlledShifts(iou, tile, seed=3)


def test_every_panel_has_ink(result: ControlledShifts, tmp_path: Path) -> None:
    path = tmp_path / "new" / "shift.png"
    draw_controlled_shifts(result, path)
    pixels = image.imread(path)[..., :3]
    height, width = pixels.shape[:2]
    for column in range(len(FAMILIES)):
        left = column * width // len(FAMILIES)
        shown = pixels[: height // 3, left : left + width // len(FAMILIES)]
        assert shown.std() > 0.05
    assert pixels[height // 2 :].std() > 0.05
    assert plt.get_fignums() == []


def test_a_shift_changes_what_is_shown(result: ControlledShifts, tmp_path: Path) -> None:
    seen = []
    for seed in (3, 4):
        path = tmp_path / f"{seed}.png"
        draw_controlled_shifts(ControlledShifts(result.iou, result.tile, seed), path)
        seen.append(image.imread(path))
    assert (seen[0] != seen[1]).any()


def test_a_path_that_cannot_be_written_is_one_line(
    result: ControlledShifts, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        draw_controlled_shifts(result, tmp_path / "file" / "shift.png")
    assert plt.get_fignums() == []
