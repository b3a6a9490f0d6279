"""The figure of the experiment on progressive separation."""

from pathlib import Path

import pytest
from matplotlib import image
from matplotlib import pyplot as plt

from rhm.errors import OutputError
from rhm.lab.figures.separation_figure import draw_linear_separation
from rhm.lab.hybrid_networks import train_network
from rhm.lab.linear_separation import LinearSeparation, nearly_orthogonal_data, separate


@pytest.fixture(scope="module")
def result() -> LinearSeparation:
    """Small networks of two seeds."""
    data = [nearly_orthogonal_data(2, 5, 20, seed=seed) for seed in (0, 1)]
    linear = [
        tuple(separate(*each, depth=4, init_scale=scale) for each in data) for scale in (0.3, 0.5)
    ]
    hybrid, perceptron = (
        tuple(train_network(nonlinear=each, steps=5, per_class=10, seed=s) for s in (0, 1))
        for each in (3, 7)
    )
    return LinearSeparation(tuple(linear), linear[0], hybrid, perceptron)


def test_all_six_panels_have_something_on_them(result: LinearSeparation, tmp_path: Path) -> None:
    path = tmp_path / "new" / "figure.png"
    draw_linear_separation(result, path)
    pixels = image.imread(path)
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 3
    assert min(height, width) > 400
    for row in range(2):
        for column in range(3):
            part = pixels[row * height : (row + 1) * height, column * width : (column + 1) * width]
            assert part[..., :3].std() > 0.01
    assert plt.get_fignums() == []


def test_a_path_that_cannot_be_written_is_one_line(
    result: LinearSeparation, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write") as error:
        draw_linear_separation(result, tmp_path / "file" / "figure.png")
    assert "\n" not in str(error.value)
    assert plt.get_fignums() == []
