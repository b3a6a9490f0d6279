"""The figure of the experiment on unconstrained features."""

from pathlib import Path

import pytest
from matplotlib import image
from matplotlib import pyplot as plt

from rhm.errors import OutputError
from rhm.lab.figures.sphere_figure import draw_sphere
from rhm.lab.landscape import SphereExperiment, run_sphere
from rhm.lab.sphere import UnconstrainedFeatureModel


@pytest.fixture(scope="module")
def experiment() -> SphereExperiment:
    models = (UnconstrainedFeatureModel(3, 2), UnconstrainedFeatureModel(4, 5, 2.0, 2))
    return run_sphere(models, starts=3)


def test_figure_is_a_png_with_something_on_it(experiment: SphereExperiment, tmp_path: Path) -> None:
    path = tmp_path / "new" / "sphere.png"
    draw_sphere(experiment, path)
    pixels = image.imread(path)
    assert pixels.shape[:2] == (1290, 2250)
    # Each of the six panels has ink: not one value over its third of the width, half of the height.
    for top in (0, 645):
        for left in (0, 750, 1500):
            assert pixels[top : top + 645, left : left + 750, :3].std() > 0.01
    assert plt.get_fignums() == []


def test_wide_models_are_drawn_in_a_plane(tmp_path: Path) -> None:
    path = tmp_path / "sphere.png"
    draw_sphere(run_sphere((UnconstrainedFeatureModel(2, 4),), starts=1), path)
    assert image.imread(path)[:, :, :3].std() > 0.01


def test_unwritable_figures_are_refused(experiment: SphereExperiment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        draw_sphere(experiment, tmp_path / "file" / "sphere.png")
    assert plt.get_fignums() == []
