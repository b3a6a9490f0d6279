"""The runtimes of ``rhm predict``: a prediction keeps its own; eight bits are measured once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rhm.inference import network_for, predict_raster
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model, save_model
from tests.inference.networks import (
    GRAPH_RUNTIMES,
    WITH_BFLOAT16,
    built,
    needs_onnx,
    skip_unless_usable,
)
from tests.stored import made_once

Rhm = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("runtime", WITH_BFLOAT16)
def test_auto_continues_with_the_runtime_that_began(
    rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path, runtime: str
) -> None:
    """Oracle: the files of an uninterrupted run. So few pixels would otherwise go to PyTorch."""
    skip_unless_usable(runtime)
    scene, out, whole = scenes / "north.tif", tmp_path / "out", tmp_path / "whole"
    words = ("predict", trained, scene, "--tile", 64, "--overlap", 16, "--device", "cpu", "--json")
    assert rhm(*words, "-o", whole, "--runtime", runtime)[0] == 0

    def interrupt(_: int) -> None:
        if len(list((out / ".north.rhm-parts").glob("strip-*"))) >= 2:
            raise KeyboardInterrupt

    network = network_for(load_model(trained), device="cpu", runtime=runtime)
    with pytest.raises(KeyboardInterrupt):
        predict_raster(
            network, scene, out, tile=64, overlap=16, dtype="uint8", on_progress=interrupt
        )
    code, printed, _ = rhm(*words, "-o", out, "--resume")
    assert (code, json.loads(printed)["runtime"]) == (0, runtime)
    for expected in whole.glob("*.tif"):
        assert (out / expected.name).read_bytes() == expected.read_bytes()
    code, printed, _ = rhm(*words, "-o", tmp_path / "anew", "--resume")
    assert (code, json.loads(printed)["runtime"]) == (0, "torch")


@pytest.mark.parametrize("runtime", GRAPH_RUNTIMES)
def test_finished_results_are_kept_whatever_auto_would_choose_for_what_is_left(
    rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path, runtime: str
) -> None:
    """Alone, one scene has too few pixels for another runtime than PyTorch."""
    words = ["predict", trained, scenes / "north.tif", "-o", tmp_path, "--device", "cpu", "--json"]
    words += ["--tile", 64, "--overlap", 16]
    assert rhm(*words, "--runtime", runtime)[0] == 0
    files = {path: path.read_bytes() for path in tmp_path.glob("north_*")}
    for more, note in (((), "results"), (("--threshold", 0.7), "probabilities")):
        code, printed, _ = rhm(*words, "--resume", *more)
        told = json.loads(printed)
        assert (code, told["runtime"]) == (0, runtime)
        assert told["scenes"][0]["notes"][-1] == f"the {note} already existed"
        same = {path: path.read_bytes() for path in files} == files
        assert same == (note == "results")
    code, printed, _ = rhm(*words, "--overwrite")
    assert (code, json.loads(printed)["runtime"]) == (0, "torch")


def biased(model: SegmentationModel, logit: float) -> SegmentationModel:
    """Return the model with one logit for all pixels."""
    head = model.network.get_submodule("segmentation_head.0")
    weight, bias = head.parameters()
    weight.data.zero_()
    bias.data.fill_(logit)
    return model


@pytest.fixture(scope="session")
def everywhere(shared: Path) -> Path:
    """A model whose mask eight bits do not change: it finds buildings everywhere."""
    folder = shared / "everywhere"

    def make() -> None:
        save_model(biased(built(), 3.0), folder / "model.safetensors")

    return made_once(folder, make)


@needs_onnx
@pytest.mark.parametrize("workers", [1, 2])
def test_int8_is_calibrated_once_and_kept(
    rhm: Rhm, everywhere: Path, scenes: Path, tmp_path: Path, workers: int
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes((everywhere / "model.safetensors").read_bytes())
    words = ("predict", model, scenes / "north.tif", "--tile", 64, "--overlap", 16, "--json")
    int8 = (*words, "--device", "cpu", "--runtime", "onnx", "--precision", "int8")
    code, printed, said = rhm(*int8, "-o", tmp_path / "out", "--workers", workers)
    assert (code, json.loads(printed)["runtime"]) == (0, "onnx-int8")
    assert "after quantisation" in said
    assert len(list(model.glob("model.int8-*.json"))) == 1
    code, _, said = rhm(*int8, "-o", tmp_path / "again")
    assert code == 0
    assert "quantisation" not in said
    for first in (tmp_path / "out").glob("*.tif"):
        assert (tmp_path / "again" / first.name).read_bytes() == first.read_bytes()
    # The results of another precision are not taken for these.
    code, printed, _ = rhm(*int8, "-o", tmp_path / "out", "--resume")
    assert "the results already existed" in json.loads(printed)["scenes"][0]["notes"]
    code, printed, _ = rhm(*words, "-o", tmp_path / "out", "--resume")
    assert "the results already existed" not in json.loads(printed)["scenes"][0]["notes"]


@needs_onnx
def test_a_dry_run_of_int8_does_not_calibrate(
    rhm: Rhm, everywhere: Path, scenes: Path, tmp_path: Path
) -> None:
    model, out = tmp_path / "m.safetensors", tmp_path / "out"
    model.write_bytes((everywhere / "model.safetensors").read_bytes())
    words = ["predict", model, scenes / "north.tif", "-o", out, "--tile", 64, "--overlap", 16]
    words += ["--precision", "int8"]
    before = sorted(tmp_path.iterdir())
    code, printed, said = rhm(*words, "--runtime", "onnx", "--dry-run")
    assert code == 0
    assert "220 x 200 pixels" in printed
    assert said == (
        "int8 is calibrated by the first prediction: this is the cost in floating point\n"
    )
    assert sorted(tmp_path.iterdir()) == before
    assert "torch does not compute in int8" in rhm(*words, "--runtime", "torch", "--dry-run")[2]
    assert rhm(*words, "--runtime", "onnx")[0] == 0
    code, printed, said = rhm(*words, "--runtime", "onnx", "--dry-run")
    assert (code, said) == (0, "")
    assert "the results already exist" in printed


@needs_onnx
def test_int8_where_nothing_is_found_is_refused_in_one_line(
    rhm: Rhm, everywhere: Path, scenes: Path, tmp_path: Path
) -> None:
    save_model(biased(load_model(everywhere), -3.0), tmp_path / "m.safetensors")
    words = ("predict", tmp_path / "m.safetensors", scenes / "north.tif", "-o", tmp_path / "out")
    code, printed, said = rhm(*words, "--device", "cpu", "--precision", "int8")
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert "hardly any building" in said


@needs_onnx
def test_int8_on_another_device_is_refused_before_it_is_calibrated(
    rhm: Rhm, everywhere: Path, scenes: Path, catalog_path: Path, tmp_path: Path
) -> None:
    model = tmp_path / "m.safetensors"
    model.write_bytes((everywhere / "model.safetensors").read_bytes())
    int8 = ("--precision", "int8", "--device", "cuda", "-o", tmp_path / "out")
    for words in (("predict", model, scenes / "north.tif"), ("evaluate", model, catalog_path)):
        code, printed, said = rhm(*words, *int8)
        assert (code, printed) == (2, "")
        assert "int8 runs on cpu, not on cuda" in said.splitlines()[-1]
    assert list(tmp_path.glob("m.int8-*")) == []
