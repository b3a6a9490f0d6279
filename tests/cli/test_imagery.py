"""Imagery of every kind goes the whole way, from a folder to footprints."""

import json
import logging
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from rhm.cli.main import run
from rhm.models.model_file import load_model
from tests.data.imagery import write_raster

SIDE = 96


def town(dtype: str, bands: int, *, seed: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Bright buildings on darker ground, in the units of a sensor; and where they are."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for row, col in rng.integers(0, SIDE - 20, (5, 2)):
        truth[row : row + 14, col : col + 18] = 1
    shares = 0.3 + 0.4 * truth[..., None] + rng.normal(0.0, 0.03, (SIDE, SIDE, bands))
    low, high = {
        "uint8": (0.0, 255.0),
        "uint16": (200.0, 3000.0),
        "int16": (-2000.0, 1500.0),
        "float32": (-0.1, 0.6),
    }[dtype]
    return (low + shares * (high - low)).astype(dtype), truth


def write_city(folder: Path, name: str, dtype: str, bands: int, *, seed: int, count: int) -> Path:
    """A folder of labelled images, the last with a corner of nodata; floats say so by nan."""
    nodata = {"float32": np.nan, "int16": -32768}.get(dtype, 0)
    for number in range(count):
        pixels, truth = town(dtype, bands, seed=seed + number)
        if number == count - 1:
            pixels[:40, :30] = nodata
        write_raster(folder / name / "images" / f"{number}.tif", pixels, nodata=nodata)
        write_raster(folder / name / "masks" / f"{number}.png", truth * 255, crs=None)
    return folder / name / "images"


@pytest.mark.parametrize(
    ("dtype", "bands"), [("uint16", 4), ("uint8", 8), ("float32", 3), ("int16", 2)]
)
def test_imagery_of_any_kind_goes_from_folder_to_footprints(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    dtype: str,
    bands: int,
) -> None:
    # Should a command end early, the log says where.
    caplog.set_level(logging.DEBUG, "rhm")

    def rhm(*words: object) -> str:
        code = run([str(word) for word in words])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    write_city(tmp_path, "here", dtype, bands, seed=0, count=6)
    there = write_city(tmp_path, "there", dtype, bands, seed=50, count=3)
    catalog, bank = tmp_path / "catalog.parquet", tmp_path / "there.bank"
    printed = rhm("data", "index", "folder", tmp_path, "-o", catalog, "--json")
    domains = json.loads(printed)["domains"]
    assert [(each["domain"], each["images"]) for each in domains] == [("here", 6), ("there", 3)]
    built = json.loads(rhm("bank", "build", there, "-o", bank, "--json"))
    assert (built["images"], built["bands"]) == (3, bands)
    assert built["domains"][0]["dtype"] == dtype
    assert built["domains"][0]["pixels"] == 3 * SIDE * SIDE - 40 * 30
    config = tmp_path / "config.yaml"
    config.write_text(
        f"name: tiny\noutput: {tmp_path / 'runs'}\n"
        f"data: {{catalog: {catalog}, sources: [here], chip_px: 64, workers: 0}}\n"
        "model: {encoder: test_efficientnet, weights: none}\n"
        "augment: {p: 1.0, gamma: [0.5, 2.0], offset: [-0.1, 0.1]}\n"
        "trainer: {steps: 2, batch_size: 2, accelerator: cpu}\n"
    )
    rhm("train", config, "--bank", bank, "--quiet")
    spec = load_model(tmp_path / "runs" / "tiny").spec
    method = "spectrum, scale"
    assert (spec.method, spec.bands, set(spec.scalings)) == (method, bands, {dtype})
    scene = there / "2.tif"
    words = ["predict", tmp_path / "runs" / "tiny", scene, "-o", tmp_path / "out"]
    printed = rhm(*words, "--dtype", "float32", "--json")
    (result,) = json.loads(printed)["scenes"]
    assert result["notes"] == []
    with rasterio.open(scene) as source, rasterio.open(result["probability"]) as probability:
        known = source.dataset_mask() > 0
        seen = probability.read(1)
        np.testing.assert_array_equal(probability.dataset_mask() > 0, known)
    assert (~known).sum() == 40 * 30
    assert 0.0 <= seen[known].min() < seen[known].max() <= 1.0
    assert len(geopandas.read_file(result["buildings"])) == result["count"]
