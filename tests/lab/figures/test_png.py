"""Figures become files, and leave the backend and the windows of the program alone."""

import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib import image

from rhm.errors import OutputError
from rhm.lab.figures.png import saved_png
from tests.apart import program


def test_a_program_keeps_its_backend_and_its_open_figures(tmp_path: Path) -> None:
    code = (
        "import matplotlib, sys\n"
        "matplotlib.use('svg')\n"
        "from matplotlib import pyplot as plt\n"
        "mine = plt.figure('mine')\n"
        "from rhm.lab.figures import linear_figures, shift_figure, sphere_figure\n"
        "from rhm.lab.matrix_completion import run_matrix_completion\n"
        "result = run_matrix_completion(size=16, rank=1, known=0.6, max_steps=5)\n"
        "linear_figures.draw_matrix_completion(result, sys.argv[1])\n"
        "canvas = type(mine.canvas).__name__\n"
        "print(matplotlib.get_backend(), plt.get_figlabels(), plt.gcf() is mine, canvas)\n"
    )
    finished = program(code, tmp_path / "figure.png")
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "figure.png").is_file()
    assert finished.stdout.splitlines()[-1] == "svg ['mine'] True FigureCanvasSVG"


def test_a_program_without_pyplot_stays_without(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from rhm.lab.figures.png import saved_png\n"
        "with saved_png(sys.argv[1], width=3, height=2) as figure:\n"
        "    figure.add_subplot().plot([0, 1])\n"
        "print('matplotlib.figure' in sys.modules, 'matplotlib.pyplot' in sys.modules)\n"
    )
    figure = tmp_path / "figure.png"
    finished = subprocess.run(
        [sys.executable, "-c", code, figure], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert figure.is_file()
    assert finished.stdout.splitlines()[-1] == "True False"


def test_the_file_has_the_size_that_is_asked_for(tmp_path: Path) -> None:
    with saved_png(tmp_path / "new" / "figure.png", width=3, height=2) as figure:
        figure.add_subplot().plot([0, 1])
    pixels = image.imread(tmp_path / "new" / "figure.png")
    assert pixels.shape[:2] == (300, 450)
    assert pixels[..., :3].std() > 0.01


def test_what_is_drawn_in_the_block_is_in_the_file(tmp_path: Path) -> None:
    with saved_png(tmp_path / "new" / "figure.png", width=2.0, height=1.0) as figure:
        figure.patch.set_facecolor((1.0, 0.0, 0.0))
    pixels = image.imread(tmp_path / "new" / "figure.png")
    assert pixels.shape[:2] == (150, 300)
    assert (pixels[..., :3] == [1.0, 0.0, 0.0]).all()


def test_drawing_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "figure.png").write_text("old")
    with (
        pytest.raises(RuntimeError, match="stop"),
        saved_png(tmp_path / "figure.png", width=2.0, height=1.0),
    ):
        raise RuntimeError("stop")
    assert (tmp_path / "figure.png").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_a_path_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(OutputError, match="cannot write") as error,
        saved_png(tmp_path / "file" / "figure.png", width=2.0, height=1.0),
    ):
        pass
    assert "\n" not in str(error.value)
