"""Networks with classes: trained, adapted, taught without labels, exported, looked into."""

import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import torch

from rhm.data import Catalog
from rhm.errors import ConfigError
from rhm.inference import export_onnx, predict_raster
from rhm.models.building_classes import SEPARATIONS, building_truth
from rhm.models.heads import classifier_rows
from rhm.models.model_file import load_model
from rhm.training.config import RunConfig
from rhm.training.datamodule import ChipDataModule
from rhm.training.fitting import build_model, fit
from rhm.training.imagery import gather
from rhm.training.losses import LOSSES, LossConfig, SeparationLoss, loss_of
from rhm.training.run import Run
from tests.inference.networks import needs_onnx

Make = Callable[..., RunConfig]
Stored = Callable[..., Run]

CONTACT = {"encoder": "test_efficientnet", "weights": "none", "separation": "contact"}


@pytest.mark.parametrize("separation", ["boundary", "contact"])
def test_the_number_of_outputs_is_that_of_the_classes(tiny: Make, separation: str) -> None:
    config = tiny(model={"separation": separation}, data={"boundary_px": 1})
    material = gather(config)
    model = build_model(config, material)
    assert model.spec.classes == SEPARATIONS[separation]
    assert len(classifier_rows(model.network)) == len(model.spec.classes)
    plain = ChipDataModule(tiny(), material, build_model(tiny(), material).spec)
    chips = ChipDataModule(config, material, model.spec)
    (batch,), (binary,) = chips.first_batches(1), plain.first_batches(1)
    assert set(batch["mask"].flatten().tolist()) <= {*range(len(model.spec.classes)), 255}
    # The same chips, and the same buildings in them.
    assert torch.equal(batch["image"], binary["image"])
    assert torch.equal(building_truth(batch["mask"]), binary["mask"])


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_that_of_building_and_the_cross_entropy_of_the_classes(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 8, 8, generator=generator)
    target = torch.randint(0, 4, (2, 1, 8, 8), generator=generator)
    target[0, 0, :2] = 255
    config = LossConfig(name=name, separation_weight=0.5)
    loss = loss_of(config, SEPARATIONS["contact"])
    assert isinstance(loss, SeparationLoss)
    known = target != 255
    chosen = logits.log_softmax(dim=1).gather(1, target.where(known, torch.zeros(())).long())
    inside = logits[:, 1:3].logsumexp(1, keepdim=True) - logits[:, [0, 3]].logsumexp(1, True)
    expected = loss.building(inside, building_truth(target)) - 0.5 * chosen[known].mean()
    torch.testing.assert_close(loss(logits, target), expected)
    assert type(loss_of(config, SEPARATIONS["none"])) is type(LOSSES[name](config))


def test_a_run_separates_and_adapts_and_resumes(
    stored: Stored, tiny: Make, catalog_path: Path
) -> None:
    run = stored("contact", model=CONTACT, analysis={"every": 1})
    model = load_model(run.folder)
    assert model.spec.classes == SEPARATIONS["contact"]
    assert model.spec.expected_iou is not None
    again = fit(tiny("contact", model=CONTACT, analysis={"every": 1}))
    assert again.model.read_bytes() == run.model.read_bytes()
    for method in ("deep-lora", "head"):
        adapted = fit(
            tiny(f"adapted-{method}", adapter={"base": str(run.folder), "method": method})
        )
        assert load_model(adapted.folder).spec.classes == model.spec.classes
    with pytest.raises(ConfigError, match="separation is boundary, but"):
        fit(tiny("other", model={"separation": "boundary"}, adapter={"base": str(run.folder)}))


@pytest.mark.parametrize("method", ["entropy", "coral", "adversarial", "mean-teacher"])
def test_methods_without_labels_see_the_building_probability(tiny: Make, method: str) -> None:
    run = fit(
        tiny(method, model=CONTACT, target={"method": method, "domains": ["birch_satellite"]})
    )
    assert load_model(run.folder).spec.classes == SEPARATIONS["contact"]


def test_a_prediction_has_a_band_for_each_map(
    stored: Stored, catalog_path: Path, tmp_path: Path
) -> None:
    model = load_model(stored("contact", model=CONTACT, analysis={"every": 1}).folder)
    scene = Catalog.load(catalog_path).select(domains=["alder_aerial"]).tiles[0].image
    result = predict_raster(model, scene, tmp_path)
    with rasterio.open(result.probability) as raster:
        maps = raster.read()
    assert maps.shape[0] == 3
    assert (maps[1] <= maps[0] + 1e-6).all()
    assert len(geopandas.read_file(result.buildings)) == result.count


@needs_onnx
def test_an_exported_model_has_a_channel_for_each_class(stored: Stored, tmp_path: Path) -> None:
    import onnxruntime

    model = load_model(stored("contact", model=CONTACT, analysis={"every": 1}).folder)
    exported = export_onnx(model, tmp_path / "model.onnx", tile=64, overlap=16)
    names = json.loads(exported.metadata["class_names"])
    assert [names[str(number)] for number in range(4)] == list(SEPARATIONS["contact"])
    session = onnxruntime.InferenceSession(str(exported.path), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    (found,) = session.run(None, {"images": images})
    assert found.shape == (1, 4, 64, 64)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)
