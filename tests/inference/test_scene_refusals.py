"""What cannot be predicted or written is said, and leaves no file and no loss behind."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray

from rhm.errors import ModelFileError, OutputError, RasterError
from rhm.inference import predict_raster
from tests.inference.scenes import Bright, spec, write_scene


def test_scenes_that_do_not_fit_are_refused_and_nothing_is_left(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    scene = write_scene(tmp_path / "x.tif", houses)
    with pytest.raises(ModelFileError, match="model takes 4 bands, and 3 of"):
        predict_raster(Bright(spec(bands=4, scalings={})), scene, out)
    with pytest.raises(RasterError, match="no such file"):
        predict_raster(Bright(), tmp_path / "none.tif", out)
    text = tmp_path / "text.tif"
    text.write_text("not a raster")
    with pytest.raises(RasterError, match="not a raster"):
        predict_raster(Bright(), text, out)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(scene.read_bytes()[:-60_000])
    with pytest.raises(RasterError, match=r"cut\.tif"):
        predict_raster(Bright(), cut, out)
    assert not out.exists() or not list(out.iterdir())


def test_a_failure_leaves_earlier_results_alone(houses: NDArray[np.uint8], tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    first = predict_raster(Bright(), scene, tmp_path / "out", tile=64, overlap=16)
    before = {path.name: path.read_bytes() for path in first.mask.parent.iterdir()}

    def failing(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        predict_raster(failing, scene, tmp_path / "out", tile=64, overlap=16)
    after = {path.name: path.read_bytes() for path in first.mask.parent.iterdir()}
    assert before == after


def test_what_geojson_cannot_hold_is_said_before_predicting(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses, crs=None, transform=None)
    options = {"suffix": ".geojson"}
    with pytest.raises(OutputError, match="GeoJSON needs"):
        predict_raster(Bright(), scene, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_blocked_result_leaves_none_of_the_three(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    (tmp_path / "out" / "x_buildings.gpkg").mkdir(parents=True)
    with pytest.raises(OutputError, match="it is a folder"):
        predict_raster(Bright(), scene, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x_buildings.gpkg"]


def test_a_model_that_gives_no_numbers_is_refused(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    with pytest.raises(ModelFileError, match="not finite"):
        predict_raster(lambda x: x[:, :1] * torch.nan, scene, tmp_path / "out")


def test_rasters_that_no_prediction_wrote_are_not_replaced(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    precious = write_scene(tmp_path / "x_mask.tif", houses)
    before = precious.read_bytes()
    with pytest.raises(OutputError, match="was not written by a prediction"):
        predict_raster(Bright(), scene, tmp_path)
    assert precious.read_bytes() == before
    assert not (tmp_path / "x_probability.tif").exists()
    precious.unlink()
    predict_raster(Bright(), scene, tmp_path)
    predict_raster(Bright(), scene, tmp_path)


def test_an_output_that_cannot_be_written(houses: NDArray[np.uint8], tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        predict_raster(Bright(), scene, tmp_path / "file")


@pytest.mark.shared
def test_every_odd_raster_is_predicted_or_refused_in_one_line(
    shared_data: Path, tmp_path: Path
) -> None:
    refused = {}
    for path in sorted((shared_data / "odd").glob("*.tif")):
        try:
            result = predict_raster(Bright(), path, tmp_path, dtype="uint8")
        except RasterError as error:
            refused[path.name] = str(error)
            continue
        with rasterio.open(path) as scene, rasterio.open(result.mask) as mask:
            assert mask.shape == scene.shape
            np.testing.assert_array_equal(mask.dataset_mask() > 0, scene.dataset_mask() > 0)
    assert set(refused) == {"corrupt.tif"}
    assert all("\n" not in told for told in refused.values())
