"""A vision transformer from pretrained weights to footprints, and adapted by its attention."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from safetensors.torch import save_file

from rhm.data import Catalog
from rhm.errors import ConfigError
from rhm.evaluation.features.feature_moments import CellSampling, collect_features
from rhm.inference import predict_raster
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model
from rhm.training.config import RunConfig, parse_config
from rhm.training.fitting import fit
from rhm.training.run import Run
from tests.models.encoders.checkpoints import whole_network

Make = Callable[..., RunConfig]
ENCODER = "test_vit"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it is downloaded from the hub of timm."""
    folder = tmp_path_factory.mktemp("hub")
    save_file(whole_network(ENCODER).state_dict(), folder / "model.safetensors")
    settings = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    config = {"architecture": ENCODER, "pretrained_cfg": settings}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def run(tiny: Make, hub: Path) -> Run:
    """A DPT on the weights of the folder, trained for two steps."""
    model = {"architecture": "dpt", "encoder": ENCODER, "weights": str(hub)}
    trainer = {"steps": 2, "validate_every": 2, "batch_size": 2}
    optimizer = {"learning_rate": 1e-6}
    return fit(tiny("vit", model=model, trainer=trainer, optimizer=optimizer))


def test_weights_become_footprints(
    run: Run, hub: Path, tiny: Make, catalog_path: Path, tmp_path: Path
) -> None:
    model = load_model(run.folder)
    assert (model.spec.mean, model.spec.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    start = whole_network(ENCODER).state_dict()["blocks.2.attn.qkv.weight"]
    found = model.encoder.get_submodule("model.blocks.2.attn.qkv").get_parameter("weight")
    torch.testing.assert_close(found.detach(), start, rtol=0, atol=1e-4)
    assert f"| encoder weights | `{hub}` |" in (run.folder / "card.md").read_text()
    tiles = Catalog.load(catalog_path).select(domains=["alder_aerial"]).tiles
    check_prediction(model, tiles[0].image, tmp_path)
    stages = collect_features(model, tiles[:2], CellSampling(images=2, window_px=96, ground_px=2))
    assert [stage.stride for stage in stages.values()] == [1, *[16] * 4, 16, 8, 4, 2, 2]
    adapter = {"base": str(run.folder), "method": "lora", "rank": 2, "targets": "attention"}
    data = {"catalog": str(catalog_path), "sources": ["birch_satellite"], "chip_px": 96}
    trainer = {"steps": 1, "validate_every": 1, "batch_size": 2, "accelerator": "cpu"}
    tree: dict[str, Any] = {"name": "place", "output": str(tmp_path / "runs")}
    adapted = fit(
        parse_config(
            {**tree, "adapter": adapter, "data": {**data, "workers": 0}, "trainer": trainer}
        )
    )
    layers = (adapted.folder / "trained.csv").read_text()
    assert layers.count("attn.qkv") == layers.count("attn.proj") == 6
    assert "mlp" not in layers


def check_prediction(model: SegmentationModel, scene: str | Path, folder: Path) -> None:
    """Check a prediction in one tile against the network."""
    written = predict_raster(model, scene, folder / "predicted", tile=96, overlap=0)
    with rasterio.open(scene) as image, rasterio.open(written.probability) as result:
        pixels, probability = image.read(), result.read(1)
    stored = torch.from_numpy(model.spec.input_table("uint8").apply(pixels.transpose(1, 2, 0)))
    with torch.inference_mode():
        expected = model(stored.permute(2, 0, 1)[None]).sigmoid()[0, 0].numpy()
    np.testing.assert_allclose(probability, expected, rtol=0, atol=1 / 254)
    assert np.ptp(expected) > 1 / 254


def test_weights_are_looked_for_before_any_imagery_is_read(tiny: Make, tmp_path: Path) -> None:
    config = tiny(
        model={"encoder": "resnet18", "weights": "no/such/file.pth"},
        data={"catalog": str(tmp_path / "nothing.parquet")},
    )
    with pytest.raises(ConfigError, match=r"'no/such/file\.pth' is neither a file or folder"):
        fit(config)
