"""``rhm export`` and ``rhm predict --runtime``."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch

from rhm.adapters import LoRA, attach
from rhm.models.model_file import load_model, save_adapted, save_model
from rhm.models.named_models import VARIABLE
from tests.inference.networks import needs_onnx

Rhm = Callable[..., tuple[int, str, str]]
SMALL = ("--tile", 96, "--overlap", 32)


@pytest.fixture
def adapter(trained: Path, tmp_path: Path) -> Path:
    """An adapter of the trained model that changes it."""
    model = load_model(trained)
    attach(model, LoRA(2), "*conv_pw", trained=["*segmentation_head"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "segmentation_head" in name:
                parameter.add_(0.1)
    path = tmp_path / "adapter.safetensors"
    save_adapted(model, path)
    return path


@needs_onnx
def test_a_run_is_exported(rhm: Rhm, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    code, printed, err = rhm("export", trained, "--onnx", "-o", out, *SMALL, "--json")
    assert code == 0, err
    values = json.loads(printed)
    assert values["onnx"] == str(out)
    assert set(load_model(trained).spec.scalings) == {"uint8", "uint16"}
    assert values["dtype"] == "uint8"
    assert json.loads(values["metadata"]["tiles_overlap"]) == 34
    assert [f"{note}\n" for note in values["notes"]] == err.splitlines(keepends=True)
    import onnx

    properties = {each.key: each.value for each in onnx.load(out).metadata_props}
    assert properties == values["metadata"]
    code, printed, _ = rhm("export", trained, "-o", out, *SMALL)
    assert code == 0
    assert printed.startswith(f"{out} (")
    assert printed.endswith(" for uint8 tiles of 96 pixels\n")


def test_the_file_of_a_named_model_is_not_overwritten(
    rhm: Rhm, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link with the suffix of ONNX: names lead to files that no path of the command tells."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own"))
    assert rhm("models", "add", trained, "--name", "town")[0] == 0
    file = tmp_path / "own" / "town" / "model.safetensors"
    link = tmp_path / "town.onnx"
    link.symlink_to(file)
    code, _, err = rhm("export", "town", "-o", link, "--overwrite")
    assert (code, err) == (2, f"rhm: --output would overwrite {file}, which is still needed\n")
    assert link.is_symlink()


@needs_onnx
def test_an_adapter_is_exported_with_its_model(
    rhm: Rhm, trained: Path, adapter: Path, tmp_path: Path
) -> None:
    import onnxruntime

    tiles, seen = np.random.default_rng(0).random((1, 3, 96, 96)).astype(np.float32), []
    for words in ([], ["--adapter", adapter]):
        code, _, err = rhm("export", trained, "-o", tmp_path / "m.onnx", *SMALL, *words)
        assert code == 0, err
        session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
        seen.append(session.run(None, {"images": tiles})[0])
    assert (seen[1] > seen[0]).all()


@needs_onnx
def test_a_scene_is_predicted_by_the_runtime_that_is_asked_for(
    rhm: Rhm, world: Path, trained: Path, tmp_path: Path
) -> None:
    scene = world / "scenes" / "birch_satellite.tif"
    words = ["predict", trained, scene, *SMALL, "--dtype", "float32", "--json", "--device", "cpu"]
    found = {}
    for runtime in ("torch", "onnx"):
        out = tmp_path / runtime
        code, printed, err = rhm(*words, "-o", out, "--runtime", runtime)
        assert code == 0, err
        assert json.loads(printed)["runtime"] == runtime
        with rasterio.open(out / "birch_satellite_probability.tif") as raster:
            found[runtime] = raster.read(1)
    np.testing.assert_allclose(found["onnx"], found["torch"], rtol=0, atol=1e-4)
    code, printed, _ = rhm(*words, "-o", tmp_path / "auto")
    assert json.loads(printed)["runtime"] == "torch"  # the scene is small


@needs_onnx
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-o", "model.pt"], "its name must end with .onnx"),
        (["-o", "m.onnx", "--tile", "100"], "multiple of 32"),
        (["-o", "m.onnx", "--tile", "9999968"], "multiple of 32 up to 4096, got 9999968"),
        (["-o", "m.onnx", "--overlap", "300"], "half a tile (256), got 300"),
        (["-o", "m.onnx", "--dtype", "int16"], "for int16 imagery: choose uint8 or uint16"),
        (["-o", "m.onnx", "--dtype", "float64"], "choose uint8, uint16, int16"),
        (["-o", "m.onnx", "--adapter", "none"], "no adapter at"),
        ([], "Missing option"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    rhm: Rhm,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed, err = rhm("export", trained, *words)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert told in err
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_a_standardising_model_is_refused_but_predicts_by_onnx(
    rhm: Rhm, world: Path, trained: Path, tmp_path: Path
) -> None:
    model = load_model(trained)
    model.spec = replace(model.spec, standardize="equalize")
    save_model(model, tmp_path / "equalize.safetensors")
    code, _, err = rhm("export", tmp_path / "equalize.safetensors", "-o", tmp_path / "m.onnx")
    assert (code, "standardises whole scenes (equalize)" in err) == (2, True)
    words: list[Any] = [world / "scenes" / "birch_satellite.tif", "-o", tmp_path, *SMALL]
    code, _, err = rhm("predict", tmp_path / "equalize.safetensors", *words, "--runtime", "onnx")
    assert code == 0, err


def test_an_input_is_not_overwritten(rhm: Rhm, trained: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes((trained / "model.safetensors").read_bytes())
    code, _, err = rhm("export", model, "-o", model)
    assert (code, "would overwrite" in err) == (2, True)
    assert model.read_bytes() == (trained / "model.safetensors").read_bytes()


def test_without_the_extra_it_is_one_line(
    rhm: Rhm, trained: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    scene = world / "scenes" / "birch_satellite.tif"
    for words in (
        ["export", trained, "-o", tmp_path / "m.onnx"],
        ["predict", trained, scene, "-o", tmp_path / "out", "--runtime", "onnx"],
    ):
        code, printed, err = rhm(*words)
        assert (code, printed, err.count("\n")) == (2, "", 1)
        assert "pip install 'rhm[onnx]'" in err
    assert list(tmp_path.iterdir()) == []


def test_unknown_runtimes_are_one_line(rhm: Rhm, trained: Path, world: Path) -> None:
    scene = world / "scenes" / "birch_satellite.tif"
    code, _, err = rhm("predict", trained, scene, "-o", "out", "--runtime", "tensorrt")
    assert (code, "choose auto, torch, onnx" in err) == (2, True)


def test_its_help_has_an_example(rhm: Rhm) -> None:
    code, printed, _ = rhm("export", "--help")
    assert code == 0
    assert "Example: rhm export" in printed
