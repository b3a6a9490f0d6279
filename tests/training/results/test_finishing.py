"""The end of a run: the threshold, and the calibration that it is chosen from."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pandas
import pytest
import torch
from torch.utils.data import DataLoader

from rhm.data.catalog import Catalog
from rhm.data.chips import Chip
from rhm.data.labels import IGNORE
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model
from rhm.models.spec import ModelSpec
from rhm.training.config import RunConfig
from rhm.training.fitting import fit
from rhm.training.metrics import CalibrationBins
from rhm.training.results.finishing import calibration, choose_threshold, measured_on
from tests.data.imagery import write_raster

Make = Callable[..., RunConfig]


def test_the_threshold_is_the_best_one_or_a_half() -> None:
    probability = np.array([0.1, 0.2, 0.3, 0.9])
    truth = np.array([False, True, True, True])
    best = choose_threshold(CalibrationBins.of(probability, truth, bins=200), default=0.3)
    assert 0.1 < best <= 0.2
    without = CalibrationBins.of(probability, truth & False, bins=200)
    assert choose_threshold(without, default=0.3) == 0.3


def test_the_calibration_counts_every_known_pixel_of_every_chip() -> None:
    torch.manual_seed(0)
    model = SegmentationModel(ModelSpec("unet", "test_efficientnet", 3)).train()
    mask = torch.zeros(1, 64, 64, dtype=torch.int64)
    mask[:, :20], mask[:, 60:] = 1, IGNORE
    chips = [Chip(image=torch.randn(3, 64, 64), mask=mask) for _ in range(3)]
    bins = calibration(model, DataLoader(chips, batch_size=2))  # type: ignore[arg-type]
    assert bins.pixels.sum() == 3 * 60 * 64
    assert bins.buildings.sum() == 3 * 20 * 64
    with torch.inference_mode():
        seen = model.eval()(torch.stack([chip["image"] for chip in chips])).sigmoid()
    expected = seen[:, :, :60].double().sum().item()
    np.testing.assert_allclose(bins.probability_sums.sum(), expected, rtol=1e-4)


class Moved:
    """A network that only knows which device it was moved to."""

    def __init__(self) -> None:
        self.device = "cpu"

    def to(self, device: torch.device) -> "Moved":
        self.device = device.type
        return self


@pytest.mark.parametrize(("short", "expected"), [(False, ["cuda"]), (True, ["cuda", "cpu"])])
def test_a_model_is_measured_on_the_device_or_without_its_memory_on_the_cpu(
    short: bool, expected: list[str]
) -> None:
    tried: list[str] = []

    def measure(model: SegmentationModel) -> str:
        tried.append(cast("Moved", model).device)
        if short and tried == ["cuda"]:
            raise torch.OutOfMemoryError("no memory")
        return tried[-1]

    network = Moved()
    found = measured_on(torch.device("cuda"), cast("SegmentationModel", network), measure)
    assert (tried, found, network.device) == (expected, expected[-1], "cpu")


def test_other_errors_are_raised_and_the_model_is_on_the_cpu_all_the_same() -> None:
    def measure(model: SegmentationModel) -> None:
        raise ValueError("wrong")

    network = Moved()
    with pytest.raises(ValueError, match="wrong"):
        measured_on(torch.device("cuda"), cast("SegmentationModel", network), measure)
    assert network.device == "cpu"


@pytest.fixture
def without_buildings(catalog_path: Path, tmp_path: Path) -> Path:
    """A catalog whose validation images show no building."""
    frame = Catalog.load(catalog_path).frame.copy()
    for index, row in frame[frame["split"] == "val"].iterrows():
        empty = np.zeros((row["height"], row["width"]), np.uint8)
        mask = write_raster(tmp_path / f"{index}.png", empty, crs=None)
        frame.loc[index, "label"] = str(mask)
    Catalog(frame).save(tmp_path / "empty.parquet")
    return tmp_path / "empty.parquet"


def test_without_a_building_to_validate_on_the_last_weights_are_kept(
    tiny: Make, without_buildings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = {"steps": 6, "validate_every": 2, "batch_size": 2, "patience": 1}
    run = fit(tiny(data={"catalog": str(without_buildings)}, trainer=trainer))
    metrics = pandas.read_csv(run.folder / "metrics.csv")
    assert int(metrics["val_loss"].notna().sum()) == 3  # patience waits for a score
    assert "val_iou" not in metrics or metrics["val_iou"].isna().all()
    assert not run.best.exists()
    assert "no validation chip shows a building: the last checkpoint is kept" in caplog.text
    last = torch.load(run.last, weights_only=True)
    assert last["global_step"] == 6
    for name, value in load_model(run.folder).state_dict().items():
        assert torch.equal(value, last["state_dict"][f"model.{name}"])
    assert "iou" not in run.best_scores()
