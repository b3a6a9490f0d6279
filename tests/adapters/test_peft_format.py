"""PEFT's file format, read and written; oracle: peft, if it is installed."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rhm.adapters import DeepLoRA, LoRA, attach, detach, load_adapter, save_adapter
from rhm.adapters.attach import updates
from rhm.adapters.peft_format import CONFIG, WEIGHTS, export_peft, import_peft
from rhm.errors import ConfigError, ModelFileError
from tests.adapters.layers import stirred

IMAGE = (2, 6, 9, 9)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(6, 10, 3), nn.Conv2d(10, 3, 1), nn.Flatten(), nn.Linear(147, 12))


def adapted(adapter: LoRA) -> nn.Sequential:
    model = network()
    attach(model, adapter)
    stirred(model)
    return model


@pytest.mark.parametrize("adapter", [LoRA(2), LoRA(8, alpha=24.0)])
def test_a_round_trip_is_exact(tmp_path: Path, adapter: LoRA) -> None:
    model, image = adapted(adapter), torch.randn(IMAGE)
    weights, config = export_peft(model, tmp_path / "peft")
    assert (weights.name, config.name) == (WEIGHTS, CONFIG)
    again = network()
    attachment = import_peft(again, tmp_path / "peft")
    assert [layer.rank for layer in attachment.layers] == [
        min(adapter.rank, r) for r in (10, 3, 12)
    ]
    torch.testing.assert_close(again(image), model(image), rtol=1e-6, atol=1e-6)
    shapes = {name: tuple(each.shape) for name, each in load_file(weights).items()}
    rank = adapter.rank
    assert shapes["base_model.model.0.lora_A.weight"] == (rank, 6, 3, 3)
    assert shapes["base_model.model.0.lora_B.weight"] == (10, rank, 1, 1)
    assert shapes["base_model.model.3.lora_A.weight"] == (rank, 147)


@pytest.mark.parametrize("rank", [2, 8])
def test_peft_reads_what_is_written(tmp_path: Path, rank: int) -> None:
    peft: Any = pytest.importorskip("peft", reason="peft is not installed")
    model, image = adapted(LoRA(rank, alpha=12.0)), torch.randn(IMAGE)
    export_peft(model, tmp_path)
    theirs = peft.PeftModel.from_pretrained(network(), str(tmp_path)).eval()
    torch.testing.assert_close(theirs(image), model(image), rtol=1e-5, atol=1e-5)


def test_what_peft_writes_is_read(tmp_path: Path) -> None:
    peft: Any = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(1)
    settings = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["0", "3"])
    theirs = peft.get_peft_model(copy.deepcopy(network()), settings)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    theirs.save_pretrained(str(tmp_path))
    model, image = network(), torch.randn(IMAGE)
    plain = model(image)
    attachment = import_peft(model, tmp_path)
    assert [layer.name for layer in attachment.layers] == ["0", "3"]
    torch.testing.assert_close(model(image), theirs.eval()(image), rtol=1e-5, atol=1e-5)
    detach(model)
    assert torch.equal(model(image), plain)


def test_a_layers_own_scale_is_kept(tmp_path: Path) -> None:
    model, image = adapted(LoRA(2, alpha=4.0)), torch.randn(IMAGE)
    export_peft(model, tmp_path)
    values = json.loads((tmp_path / CONFIG).read_text()) | {"alpha_pattern": {"0": 12.0}}
    (tmp_path / CONFIG).write_text(json.dumps(values))
    again = network()
    import_peft(again, tmp_path)
    factors = {name: update.update() for name, update in updates(model)}
    for name, update in updates(again):
        torch.testing.assert_close(update.update(), factors[name] * (3.0 if name == "0" else 1.0))
    save_adapter(again, tmp_path / "a.safetensors")
    loaded = network()
    load_adapter(loaded, tmp_path / "a.safetensors")
    assert torch.equal(loaded(image), again(image))


def test_a_scale_is_that_of_the_layers_whose_names_end_with_its_key(tmp_path: Path) -> None:
    """As in PEFT, where the first key wins that a name has or ends with after a dot."""
    model = nn.ModuleDict({"a": network(), "b": network()})
    attach(model, LoRA(2, alpha=4.0))
    stirred(model)
    export_peft(model, tmp_path)
    patterns = {"3": 12.0, "b.3": 20.0, "b.0": 8.0, "0": 16.0, "nowhere": 1.0}
    values = json.loads((tmp_path / CONFIG).read_text()) | {"alpha_pattern": patterns}
    (tmp_path / CONFIG).write_text(json.dumps(values))
    again = nn.ModuleDict({"a": network(), "b": network()})
    import_peft(again, tmp_path)
    factors = {name: update.update() for name, update in updates(model)}
    for name, update in updates(again):
        times = {"a.3": 3.0, "b.3": 3.0, "b.0": 2.0, "a.0": 4.0}.get(name, 1.0)
        torch.testing.assert_close(update.update(), factors[name] * times)


def test_what_is_written_says_no_scale_of_another_layer(tmp_path: Path) -> None:
    """Layer 1 has its own rank, and PEFT would take its key for a.1 and b.a.1, too."""
    layers = {"a": nn.ModuleDict({"1": nn.Linear(9, 9)}), "1": nn.Linear(9, 3)}
    model = nn.ModuleDict(
        {**layers, "b": nn.ModuleDict({"a": nn.ModuleDict({"1": nn.Linear(9, 9)})})}
    )
    attach(model, LoRA(8, alpha=4.0))
    stirred(model)
    again = copy.deepcopy(model)
    detach(again)
    export_peft(model, tmp_path)
    values = json.loads((tmp_path / CONFIG).read_text())
    assert list(values["rank_pattern"].items()) == [("b.a.1", 8), ("a.1", 8), ("1", 3)]
    assert list(values["alpha_pattern"].items()) == [("b.a.1", 4.0), ("a.1", 4.0), ("1", 1.5)]
    import_peft(again, tmp_path)
    factors = {name: update.update() for name, update in updates(model)}
    for name, update in updates(again):
        torch.testing.assert_close(update.update(), factors[name])


def test_what_the_format_does_not_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the network has none"):
        export_peft(network(), tmp_path / "a")
    deep = network()
    attach(deep, DeepLoRA(2))
    with pytest.raises(ConfigError, match="stores plain LoRA"):
        export_peft(deep, tmp_path / "a")
    besides = network()
    attach(besides, LoRA(2), trained=["3"])
    with pytest.raises(ConfigError, match="something else was trained"):
        export_peft(besides, tmp_path / "a")
    grouped = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2))
    attach(grouped, LoRA(2))
    with pytest.raises(ConfigError, match="a grouped convolution"):
        export_peft(grouped, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with pytest.raises(ConfigError, match="already has an adapter"):
        import_peft(grouped, tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"peft_type": "IA3"}, "another kind"),
        ({"use_dora": True}, "another kind"),
        ({"bias": "all"}, "trains more"),
        ({"init_lora_weights": "pissa"}, "weights that PEFT changes at the start"),
        ({"init_lora_weights": ["olora"]}, "path_initial_model_for_weight_conversion"),
        ({"r": 0}, "rank must be at least 1"),
        ({"r": None}, "is not a PEFT LoRA"),
        ({"r": 10**12}, "at most 65536"),
        ({"r": float("inf")}, "is not a PEFT LoRA"),
        ({"lora_alpha": 1e300}, "alpha must be greater than 0 and at most 65536"),
        ({"alpha_pattern": {"0": float("inf")}}, "is not a PEFT LoRA"),
        ({"r": [[[[]]]]}, "is not a PEFT LoRA"),
        ({"alpha_pattern": {"(a+)+b": 4.0}}, "a regular expression"),
        ({"alpha_pattern": ["0"]}, "is not a PEFT LoRA"),
    ],
)
def test_other_adapters_are_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    export_peft(adapted(LoRA(2)), tmp_path)
    values = json.loads((tmp_path / CONFIG).read_text()) | change
    (tmp_path / CONFIG).write_text(json.dumps(values))
    with pytest.raises(ModelFileError, match=told):
        import_peft(network(), tmp_path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is not a PEFT LoRA"):
        import_peft(network(), tmp_path)
    export_peft(adapted(LoRA(2)), tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    first = next(iter(tensors))
    for changed, told in (
        (tensors | {"other": torch.ones(1)}, "it contains other"),
        (tensors | {first: torch.ones(2, 3)}, "do not fit"),
        (tensors | {first: torch.ones(0, *tensors[first].shape[1:])}, "do not fit"),
        (tensors | {first: torch.ones(())}, "do not fit"),
        (tensors | {first: torch.full_like(tensors[first], torch.nan)}, "is not finite"),
        ({}, "no factors"),
        ({first: tensors[first]}, "is not a PEFT LoRA"),
    ):
        save_file(changed, tmp_path / WEIGHTS)
        with pytest.raises(ModelFileError, match=told):
            import_peft(network(), tmp_path)
    (tmp_path / WEIGHTS).write_text("no")
    with pytest.raises(ModelFileError, match="is not a PEFT LoRA"):
        import_peft(network(), tmp_path)
