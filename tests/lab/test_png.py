"""Figures as PNG files: written whole, or not at all."""

import os
from pathlib import Path

import pytest
from matplotlib import image
from matplotlib.figure import Figure

from rhm.errors import OutputError
from rhm.lab.png import saved_png


def test_what_is_drawn_in_the_block_is_in_the_file(tmp_path: Path) -> None:
    figure = Figure(figsize=(2.0, 1.0))
    with saved_png(figure, tmp_path / "new" / "figure.png"):
        figure.patch.set_facecolor((1.0, 0.0, 0.0))
    pixels = image.imread(tmp_path / "new" / "figure.png")
    assert pixels.shape[:2] == (150, 300)
    assert (pixels[..., :3] == [1.0, 0.0, 0.0]).all()


def test_drawing_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "figure.png").write_text("old")
    with pytest.raises(RuntimeError, match="stop"), saved_png(Figure(), tmp_path / "figure.png"):
        raise RuntimeError("stop")
    assert (tmp_path / "figure.png").read_text() == "old"
    assert os.listdir(tmp_path) == ["figure.png"]


def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(OutputError, match="cannot write") as error,
        saved_png(Figure(), tmp_path / "file" / "figure.png"),
    ):
        pass
    assert "\n" not in str(error.value)
