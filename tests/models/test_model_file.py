"""Model files: what is saved is what is loaded, and nothing else is."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rhm.adapters import LoRA, attach
from rhm.errors import ModelFileError, OutputError
from rhm.models.build import (
    SegmentationModel,
)
from rhm.models.model_file import adapter_file, load_model, save_adapted, save_model
from rhm.models.named_models import model_file
from rhm.models.spec import load_spec
from tests.models.networks import SPEC


def test_a_model_is_loaded_as_it_was_saved(model: SegmentationModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    loaded = load_model(path)
    assert loaded.spec == SPEC == load_spec(tmp_path)
    assert not loaded.training
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0)


def test_files_that_are_no_model_are_refused(model: SegmentationModel, tmp_path: Path) -> None:
    def refused(path: Path, told: str) -> None:
        for read in (load_model, load_spec):
            with pytest.raises(ModelFileError, match=told):
                read(path)

    refused(tmp_path / "none.safetensors", "no model at")
    refused(tmp_path, "no model at")
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"not a model" * 50)
    refused(garbage, "is not a model file")
    save_model(model, tmp_path / "whole.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-1000])
    refused(cut, "is not a model file")
    bare = tmp_path / "bare.safetensors"
    save_file({"a": torch.zeros(1)}, bare)
    refused(bare, "no description")
    save_file({"a": torch.zeros(1)}, bare, metadata={"rhm": SPEC.to_json()})
    with pytest.raises(ModelFileError, match="do not fit its description"):
        load_model(bare)


@pytest.mark.parametrize("change", [{"architecture": "vnet"}, {"encoder": "no_such_net"}])
def test_descriptions_of_no_network_are_refused(
    model: SegmentationModel, tmp_path: Path, change: dict[str, object]
) -> None:
    text = json.dumps(json.loads(SPEC.to_json()) | change)
    save_file(model.state_dict(), tmp_path / "a.safetensors", metadata={"rhm": text})
    with pytest.raises(
        ModelFileError, match=r"cannot be built on the encoder|unknown architecture"
    ):
        load_model(tmp_path / "a.safetensors")


@pytest.mark.parametrize("classes", [("road", "water"), ("road", "water", "tree")])
def test_several_classes_are_those_of_buildings(tmp_path: Path, classes: tuple[str, ...]) -> None:
    text = replace(SPEC, classes=classes).to_json()
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"rhm": text})
    for read in (load_model, load_spec):
        with pytest.raises(ModelFileError, match="has the classes road, water") as error:
            read(tmp_path / "a.safetensors")
        assert "must be background, building, boundary or" in str(error.value)
    with pytest.raises(ModelFileError, match="has the classes road, water"):
        save_model(SegmentationModel(replace(SPEC, classes=classes)), tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


def test_a_diverged_model_is_neither_saved_nor_loaded(tmp_path: Path) -> None:
    model = SegmentationModel(SPEC)
    next(model.parameters()).data[0] = torch.nan
    with pytest.raises(ModelFileError, match="not finite"):
        save_model(model, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []
    save_file(model.state_dict(), tmp_path / "b.safetensors", metadata={"rhm": SPEC.to_json()})
    with pytest.raises(ModelFileError, match="not finite"):
        load_model(tmp_path / "b.safetensors")


def test_saving_where_nothing_can_be_written(model: SegmentationModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        save_model(model, tmp_path / "file" / "model.safetensors")


@pytest.mark.parametrize(
    ("find", "name"), [(model_file, "model.safetensors"), (adapter_file, "adapter.safetensors")]
)
def test_the_folder_of_a_run_stands_for_its_file(
    tmp_path: Path, find: Callable[[Path], Path], name: str
) -> None:
    (tmp_path / name).touch()
    assert find(tmp_path) == find(tmp_path / name) == tmp_path / name


@pytest.fixture
def adapted(model: SegmentationModel, tmp_path: Path) -> tuple[Path, Path, SegmentationModel]:
    """A base's file, an adapter's file, and the network with that adapter."""
    base, adapter = tmp_path / "base.safetensors", tmp_path / "adapter.safetensors"
    save_model(model, base)
    changed = load_model(base)
    changed.spec = replace(SPEC, threshold=0.7, sources=("here", "there"))
    attach(changed, LoRA(rank=2), targets="*conv_pw")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in changed.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1, generator=generator)
    save_adapted(changed, adapter)
    return base, adapter, changed


def test_a_base_with_its_adapter_is_the_adapted_model(
    adapted: tuple[Path, Path, SegmentationModel],
) -> None:
    base, adapter, changed = adapted
    loaded = load_model(base, adapter=adapter)
    assert loaded.spec == changed.spec
    assert not loaded.training
    assert loaded.state_dict().keys() == load_model(base).state_dict().keys()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(image), changed.eval()(image), rtol=1e-4, atol=1e-4)
        assert (loaded(image) - load_model(base)(image)).abs().max() > 1e-2


def test_an_adapter_of_another_description_is_refused(
    adapted: tuple[Path, Path, SegmentationModel], tmp_path: Path
) -> None:
    base, _, changed = adapted
    changed.spec = replace(SPEC, mean=(0.4,))
    save_adapted(changed, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="describes another network: its mean"):
        load_model(base, adapter=tmp_path / "other.safetensors")


def test_a_description_is_read_without_its_network(tmp_path: Path) -> None:
    text = replace(SPEC, architecture="vnet").to_json()
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"rhm": text})
    assert load_spec(tmp_path / "a.safetensors").architecture == "vnet"
