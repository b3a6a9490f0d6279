"""Commands as a user types them, and a run that they can work on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from rhm.cli.main import run
from tests.stored import made_once

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def rhm(capsys: Capture) -> Callable[..., tuple[int, str, str]]:
    """Run a command; returns exit code, standard output and standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        code = run([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def trained(catalog_path: Path, bank_path: Path, shared: Path) -> Path:
    """A run of two steps with histogram matching, of timm's small network for tests."""
    folder = shared / "trained"

    def train() -> None:
        config = folder / "config.yaml"
        config.parent.mkdir()
        config.write_text(
            f"""
name: tiny
output: {folder}
data: {{catalog: {catalog_path}, sources: [alder_aerial], chip_px: 64, workers: 0}}
model: {{encoder: test_efficientnet, weights: none}}
trainer: {{steps: 2, batch_size: 2, accelerator: cpu}}
"""
        )
        assert run(["train", str(config), "--bank", str(bank_path), "--quiet"]) == 0

    return made_once(folder, train) / "tiny"


@pytest.fixture
def scenes(world: Path, tmp_path: Path) -> Path:
    """Write a folder of two small scenes and one that is cut short."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    with rasterio.open(world / "scenes" / "birch_satellite.tif") as source:
        profile, pixels = source.profile, source.read()
    profile |= {"height": 200, "width": 220, "tiled": True, "blockxsize": 64, "blockysize": 64}
    for name, part in (("north", np.s_[:, :200, :220]), ("south", np.s_[:, 60:260, :220])):
        with rasterio.open(folder / f"{name}.tif", "w", **profile) as target:
            target.write(pixels[part])
    whole = (folder / "north.tif").read_bytes()
    (folder / "middle.tif").write_bytes(whole[: len(whole) // 2])
    return folder
