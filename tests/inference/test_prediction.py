"""What a prediction says of its results; oracle: the probabilities that were written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rhm.errors import OutputError, RasterError, RhmError
from rhm.inference.prediction import Prediction
from rhm.inference.scenes import predict_raster
from tests.data.imagery import write_raster


class Bright(nn.Module):
    """A network that is surer of building the brighter a pixel is."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return logits of the first band."""
        return 8.0 * (batch[:, :1] - 0.5)


@pytest.fixture
def predicted(tmp_path: Path) -> Prediction:
    """A prediction of a scene whose left half is nodata."""
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, (600, 900, 3), dtype=np.uint8)
    image[:, :450] = 0
    write_raster(tmp_path / "scene.tif", image, nodata=0)
    return predict_raster(Bright(), tmp_path / "scene.tif", tmp_path / "out")


def test_the_picture_is_an_overview_without_nodata(predicted: Prediction) -> None:
    picture = predicted._picture()
    assert picture.values.shape == (341, 512)
    left_out = np.ma.getmaskarray(picture.values)
    assert left_out[:, :250].all()
    assert not left_out[:, 262:].any()
    assert 0.4 < picture.values.mean() < 0.6


def test_results_that_exist_are_counted_when_the_expectation_is_asked_for(
    predicted: Prediction, tmp_path: Path
) -> None:
    again = predict_raster(Bright(), tmp_path / "scene.tif", tmp_path / "out", resume=True)
    assert (again.expectation, again.expected_iou) == (None, None)
    value = again.expectation_of_all().value
    assert value == pytest.approx(predicted.expected_iou, abs=0.01)


def test_results_that_have_gone_are_one_line(predicted: Prediction) -> None:
    predicted.probability.unlink()
    gone = Prediction(predicted.probability, predicted.mask, predicted.buildings, 0)
    assert "<em>" in gone._repr_html_()
    with pytest.raises(RasterError, match="no such file"):
        gone.expectation_of_all()


def test_every_file_gets_a_style_on_request(predicted: Prediction) -> None:
    before = sorted(predicted.mask.parent.iterdir())
    written = predicted.write_styles()
    assert sorted([*before, *written]) == sorted(predicted.mask.parent.iterdir())
    assert {path.stem for path in written} == {
        path.stem for path in (predicted.probability, predicted.mask, predicted.buildings)
    }
    assert 'value="1"' in predicted.probability.with_suffix(".qml").read_text()


@pytest.mark.parametrize("dtype", ["uint16", "float64"])
def test_a_raster_of_something_else_is_told(predicted: Prediction, dtype: str) -> None:
    write_raster(predicted.probability, np.ones((8, 9, 1), dtype))
    assert f"holds {dtype}, not probabilities" in predicted._repr_html_()
    with pytest.raises(OutputError, match="not probabilities"):
        predicted.plot()


def test_a_raster_that_was_cut_off_is_told(predicted: Prediction) -> None:
    data = predicted.probability.read_bytes()
    predicted.probability.write_bytes(data[: len(data) // 20])
    with pytest.raises(RhmError):
        predicted.plot()
