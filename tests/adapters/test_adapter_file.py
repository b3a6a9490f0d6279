"""Adapter files: exact round trips, and refusal of what was made for another base."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from rhm.adapters import (
    DeepLoRA,
    LoRA,
    attach,
    attachment_of,
    detach,
    load_adapter,
    merge,
    save_adapter,
)
from rhm.adapters.adapter_file import adapter_notes, base_hash
from rhm.adapters.attach import updates
from rhm.adapters.lowrank import Adapter
from rhm.errors import ConfigError, ModelFileError
from rhm.tensor_files import TensorFile


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, groups=2)
    ).eval()


def trained(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)


@pytest.mark.parametrize("adapter", [LoRA(3, alpha=6.0), DeepLoRA(4), DeepLoRA(2, 2, 0.1, 0.0)])
@pytest.mark.parametrize("policy", ["frozen", "affine"])
def test_an_adapter_comes_back_exactly(tmp_path: Path, adapter: Adapter, policy: str) -> None:
    model, image = network(), torch.randn(2, 3, 8, 8)
    attached = attach(
        model, adapter, batch_norm=policy, trained=["3"] if policy == "affine" else []
    )
    trained(model, 1)
    adapted = model(image)
    path = tmp_path / "city.safetensors"
    save_adapter(model, path)
    again = network()
    loaded = load_adapter(again, path)
    assert (loaded.adapter, loaded.layers, loaded.trained) == (
        attached.adapter,
        attached.layers,
        attached.trained,
    )
    assert torch.equal(again(image), adapted)
    merge(again)
    assert set(again.state_dict()) == set(network().state_dict())
    torch.testing.assert_close(again(image), adapted, rtol=0.0, atol=1e-5)


def test_one_base_serves_many_cities(tmp_path: Path) -> None:
    image, answers = torch.randn(1, 3, 8, 8), {}
    for seed, city in enumerate(("kampala", "vegas")):
        model = network()
        attach(model, DeepLoRA(4), batch_norm="affine")
        trained(model, seed)
        answers[city] = model(image)
        save_adapter(model, tmp_path / f"{city}.safetensors")
    base = network()
    plain = base(image)
    for city in ("vegas", "kampala", "vegas"):
        load_adapter(base, tmp_path / f"{city}.safetensors")
        assert torch.equal(base(image), answers[city])
        detach(base)
        assert torch.equal(base(image), plain)


def test_the_hash_is_the_bases(tmp_path: Path) -> None:
    model = network()
    plain = base_hash(model)
    assert plain == base_hash(network())
    assert plain != base_hash(network(1))
    attach(model, LoRA(2), batch_norm="affine")
    trained(model, 0)
    model.train()
    model(torch.randn(4, 3, 8, 8))
    assert base_hash(model) == plain
    merge(model)
    assert base_hash(model) != plain


Change = Callable[[dict[str, object], dict[str, torch.Tensor]], object]


def rewritten(path: Path, change: Change) -> None:
    with safe_open(path, "pt") as archive:
        values = json.loads(archive.metadata()["rhm_adapter"])
        tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    change(values, tensors)
    save_file(tensors, path, metadata={"rhm_adapter": json.dumps(values)})


def test_what_was_trained_without_updates_comes_back_with_its_notes(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "head.safetensors"
    attach(model, None, trained=["3"])
    trained(model, 1)
    save_adapter(model, path, notes={"where": "Kampala"})
    again = network()
    assert load_adapter(again, path).adapter is None
    assert adapter_notes(path) == {"where": "Kampala"}
    merge(again)
    merge(model)
    now = again.state_dict()
    assert all(torch.equal(each, now[name]) for name, each in model.state_dict().items())


def test_no_tensor_is_read_before_the_whole_header_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = network(), tmp_path / "a.safetensors"
    attach(model, LoRA(2))
    save_adapter(model, path, notes={"where": "Kampala"})
    rewritten(path, lambda _, tensors: tensors.update({"3/b": torch.ones(1, 1)}))
    read: list[str] = []
    monkeypatch.setattr(TensorFile, "read", lambda _, name: read.append(name))
    fresh = network()
    with pytest.raises(ModelFileError, match="3/b has a different shape"):
        load_adapter(fresh, path)
    assert adapter_notes(path) == {"where": "Kampala"}
    assert read == []
    assert attachment_of(fresh) is None


def test_what_is_no_adapter_of_this_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model = network()
    attach(model, LoRA(2))
    save_adapter(model, path)
    with pytest.raises(ModelFileError, match="made for another base model"):
        load_adapter(network(1), path)
    with pytest.raises(ModelFileError, match="no adapter at"):
        load_adapter(network(), tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("no")
    with pytest.raises(ModelFileError, match="cannot be read as an adapter"):
        load_adapter(network(), tmp_path / "text")
    save_file({"0.weight": torch.ones(2)}, tmp_path / "model", metadata={"rhm_model": "{}"})
    with pytest.raises(ModelFileError, match="it has no description of an adapter"):
        load_adapter(network(), tmp_path / "model")
    changes: list[tuple[Change, str]] = [
        (lambda v, t: v.pop("base"), "'base' is missing"),
        (lambda v, t: v.pop("layers"), "'layers' is missing"),
        (lambda v, t: v.update(kind="rank-one"), "'rank-one' is not lora or deep-lora"),
        (lambda v, t: v.update(format=99), "later version of rhm"),
        (lambda v, t: v.update(settings={"rank": -1}), "not an adapter for this network"),
        (lambda v, t: v.update(batch_norm="melted"), "choose frozen, statistics, affine"),
        (
            lambda v, t: v.update(kind="deep-lora", settings={"rank": 2, "depth": 10**12}),
            "not an adapter for this network",
        ),
        (lambda v, t: v.update(layers=["nothing"]), "not an adapter for this network"),
        (lambda v, t: t.update({"0/a": torch.ones(2, 5)}), "a different shape"),
        (lambda v, t: t.update({"0/b": torch.full((8, 2), torch.nan)}), "is not finite"),
        (lambda v, t: t.pop("0/a"), "not an adapter for this network"),
        (
            lambda v, t: t.update({"besides/none": torch.ones(2)}),
            "more tensors than its layers need",
        ),
        (
            lambda v, t: t.update({"besides/0.bias": torch.ones(8)}),
            "more tensors than its layers need",
        ),
        (lambda v, t: v.update(kind=None), "more tensors than its layers need"),
        (lambda v, t: v.update(trained=["0"]), "not an adapter for this network"),
        (lambda v, t: v.update(format=math.inf), "cannot be read as an adapter"),
        (lambda v, t: t.update({"0/a": torch.ones(())}), "a different shape"),
        (lambda v, t: t.update({"0/a": torch.ones(0, 27), "0/b": torch.ones(8, 0)}), "shape"),
        (lambda v, t: t.update({"0/a": torch.ones(2, 27).int()}), "a different type"),
        (lambda v, t: t.update({"0/a": torch.ones(2, 27).double()}), "a different type"),
        (lambda v, t: t.update({"0/b": torch.ones(8, 3)}), "a different shape"),
    ]
    for change, told in changes:
        save_adapter(model, path)
        rewritten(path, change)
        fresh = network()
        with pytest.raises(ModelFileError, match=told):
            load_adapter(fresh, path)
        assert attachment_of(fresh) is None
        assert not list(updates(fresh))


def test_saving_and_loading_need_the_right_network(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no adapter to save"):
        save_adapter(network(), tmp_path / "a.safetensors")
    model = network()
    attach(model, LoRA(2))
    save_adapter(model, tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="already has an adapter"):
        load_adapter(model, tmp_path / "a.safetensors")
    partly = network()
    attach(partly, LoRA(2), "0")
    attach(partly[3], LoRA(2), lambda *_: True)
    with pytest.raises(ConfigError, match="3 has an adapter of its own"):
        save_adapter(partly, tmp_path / "b.safetensors")
    with torch.no_grad():
        next(iter(updates(model)))[1].get_parameter("b").fill_(torch.inf)
    with pytest.raises(ModelFileError, match="is not finite"):
        save_adapter(model, tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


class Normed(nn.Module):
    """A layer whose weight is computed from two others, and one whose weight is its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.normed = parametrizations.weight_norm(nn.Linear(6, 6))
        self.plain = nn.Linear(6, 6)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.plain(self.normed(rows).relu())
        return found


def test_weights_that_are_computed_from_others_belong_to_the_base(tmp_path: Path) -> None:
    model, other = Normed(), Normed()
    plain = base_hash(model)
    with torch.no_grad():
        other.normed.get_parameter("parametrizations.weight.original1").mul_(-3.0)
    assert base_hash(other) != plain
    attach(model, LoRA(2), targets="plain")
    assert base_hash(model) == plain
    trained(model, 1)
    save_adapter(model, tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match="another base model"):
        load_adapter(other, tmp_path / "a.safetensors")
    again, rows = Normed(), torch.randn(3, 6)
    load_adapter(again, tmp_path / "a.safetensors")
    assert torch.equal(again(rows), model(rows))


class Shared(nn.Module):
    """Two layers with one weight, a batch norm and a layer that are used twice, and another."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.norm = self.same_norm = nn.BatchNorm1d(6)
        self.middle = self.same_middle = nn.Linear(6, 6)
        self.last = nn.Linear(6, 6)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.middle(self.norm(self.first(rows)))
        found = self.same_middle(self.same_norm(self.second(found)))
        return torch.as_tensor(self.last(found))


@pytest.mark.parametrize(
    ("targets", "named"),
    [
        ("last", ["first"]),
        ("last", ["second.weight"]),
        ("last", ["first", "second"]),
        ("last", ["same_middle"]),
        ("middle", []),
    ],
)
def test_tensors_with_several_names_come_back(
    tmp_path: Path, targets: str, named: list[str]
) -> None:
    model, rows = Shared(), torch.randn(5, 6)
    plain = base_hash(model)
    attach(model, LoRA(2), targets=targets, trained=named, batch_norm="affine")
    trained(model, 1)
    model.train()(rows)
    model.eval()
    assert base_hash(model) == plain
    path = tmp_path / "a.safetensors"
    save_adapter(model, path)
    again = Shared().eval()
    load_adapter(again, path)
    expected = model(rows)
    assert torch.equal(again(rows), expected)
    assert not torch.equal(Shared().eval()(rows), expected)
    detach(again)
    assert base_hash(again) == plain


def test_a_layer_that_is_trained_under_another_name_gets_no_update() -> None:
    attached = attach(Shared(), LoRA(2), trained=["same_middle", "first", "second"])
    assert [layer.name for layer in attached.layers] == ["last"]
