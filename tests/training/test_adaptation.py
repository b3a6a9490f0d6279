"""Adaptation: what is trained and what is not, files that are the model, exact resume."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from torch import Tensor

from rhm.adapters import attach, attachment_of, detach, load_adapter, parameter_groups
from rhm.adapters.spectra import load_snapshot, spectra
from rhm.data.radiometry import Scaling
from rhm.errors import ConfigError, ModelFileError
from rhm.models.build import ModelConfig, SegmentationModel
from rhm.models.model_file import load_model, save_adapted, save_model
from rhm.training import fitting
from rhm.training.adaptation import LEARNING_RATES, METHODS, AdapterConfig, adapt_network
from rhm.training.base_model import with_base
from rhm.training.config import RunConfig
from rhm.training.datamodule import ChipDataModule
from rhm.training.fitting import build_model, fit, fit_once
from rhm.training.imagery import gather
from rhm.training.losses import LOSSES
from rhm.training.module import SegmentationModule
from rhm.training.run import Run
from tests.training.test_fitting import Killed, PowerCut

Make = Callable[..., RunConfig]
Stored = Callable[..., Run]
LAYER = "network.encoder.model.blocks.3.0.conv_pw"


@pytest.fixture
def base(stored: Stored) -> Path:
    """A model of two steps on the aerial town."""
    trainer = {"steps": 2, "validate_every": 2, "batch_size": 2}
    return stored("base", trainer=trainer, model={"threshold": 0.4}).folder


def sections_of(base: Path, method: str, sections: dict[str, Any]) -> dict[str, Any]:
    """The sections of a configuration that adapts the base to the satellite's town."""
    adapter = {"base": str(base), "method": method, "rank": 4} | sections.pop("adapter", {})
    data = {"sources": ["birch_satellite"]} | sections.pop("data", {})
    optimizer = {"learning_rate": LEARNING_RATES.get(method, 1e-3)}
    # As where a user says nothing of the network: the base decides.
    plain = ModelConfig()
    model = {"encoder": plain.encoder, "weights": plain.weights} | sections.pop("model", {})
    return {"adapter": adapter, "data": data, "optimizer": optimizer, "model": model, **sections}


@pytest.fixture
def adapting(tiny: Make, base: Path) -> Make:
    """Make a configuration that adapts the base, in four steps."""

    def make(method: str = "deep-lora", **sections: Any) -> RunConfig:
        return tiny(sections.pop("name", method), **sections_of(base, method, sections))

    return make


@pytest.fixture
def adapted(stored: Stored, base: Path) -> Stored:
    """Return the run that adapts the base by a method, trained once."""

    def run(method: str = "deep-lora") -> Run:
        return stored(method, **sections_of(base, method, {}))

    return run


def state(path: Path) -> dict[str, Tensor]:
    return load_model(path).state_dict()


def changed(before: Path, after: Path) -> set[str]:
    old, new = state(before), state(after)
    assert old.keys() == new.keys()
    return {name for name in old if not torch.equal(old[name], new[name])}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_what_it_says_and_its_file_is_the_model(
    adapted: Stored, base: Path, method: str
) -> None:
    run = adapted(method)
    table = pandas.read_csv(run.folder / "trained.csv")
    moved = changed(base, run.folder)
    head = {name for name in moved if "segmentation_head" in name}
    whole = {f"network.segmentation_head.0.{part}" for part in ("weight", "bias")}
    assert head == (set() if method == "batch-norm" else whole)
    norms = {name for name in moved if "running_" in name or "num_batches" in name}
    assert bool(norms) == (method == "batch-norm")  # they are frozen unless asked for
    moved -= norms
    others = moved - head
    if method == "head":
        assert not others
    elif method == "bitfit":
        assert others
        assert all(name.endswith(".bias") for name in others)
    else:
        assert any(name.startswith("network.encoder") for name in others)
        assert any(name.startswith("network.decoder") for name in others)
    named = set(table["name"]) | {f"{name}.weight" for name in table["name"]}
    assert moved <= named
    assert (table["rank"].notna().sum() > 20) == (method in ("lora", "deep-lora"))
    assert run.adapter.is_file() == (method != "full")
    if method != "full":
        loaded = load_model(base, adapter=run.adapter)
        assert run.adapter.stat().st_size < 0.2 * run.model.stat().st_size
        ours, theirs = loaded.state_dict(), state(run.folder)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert loaded.spec == load_model(run.folder).spec


def test_the_adapted_model_says_where_it_comes_from(adapted: Stored, base: Path) -> None:
    before, after = load_model(base).spec, load_model(adapted().folder).spec
    assert after.method == "none, deep-lora"
    assert after.sources == ("alder_aerial", "birch_satellite")
    assert set(after.source_histograms) == set(after.sources)
    assert after.scalings["uint8"] == before.scalings["uint8"]
    assert "uint16" in after.scalings
    assert after.training_images > before.training_images
    assert after.gsd_m == before.gsd_m


def test_the_configuration_is_completed_by_the_base(
    adapting: Make, adapted: Stored, base: Path
) -> None:
    run = adapted()
    config = run.config
    spec = load_model(base).spec
    assert config.model.architecture == spec.architecture
    assert config.model.weights == "none"
    assert config.data.gsd_m == spec.gsd_m
    assert with_base(config) == config
    given = adapting().model_copy(update={"output": config.output})
    assert given.model != config.model
    assert fit_once(given).config == config


def test_a_resumed_adaptation_ends_as_an_uninterrupted_one(
    adapting: Make, adapted: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = adapted()
    original = fitting._trainer

    def with_power_cut(*args: Any, **options: Any) -> Any:
        trainer = original(*args, **options)
        trainer.callbacks.append(PowerCut(3))  # type: ignore[attr-defined]
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_trainer", with_power_cut)
        with pytest.raises(Killed):
            fit(adapting(name="cut"))
    begun = Run(adapting(name="cut").folder)
    begun.base.unlink()  # as if it had been killed before that was written
    (begun.folder / "trained.csv").unlink()
    resumed = fit(adapting(name="cut"), resume=True)
    assert begun.base.read_text() == Run(whole.folder).base.read_text()
    assert (begun.folder / "trained.csv").is_file()
    assert not changed(whole.folder, resumed.folder)
    steps = sorted(path.name for path in resumed.updates.iterdir())
    assert steps == sorted(path.name for path in whole.updates.iterdir())
    assert steps == ["final.safetensors", *(f"step_{n:07d}.safetensors" for n in (0, 2, 4))]


def test_updates_are_recorded_as_they_grow(adapted: Stored, base: Path) -> None:
    run = adapted("lora")
    first, last = (load_snapshot(run.updates / f"step_{n:07d}.safetensors") for n in (0, 4))
    assert (first.step, last.step) == (0, 4)
    assert all(each.relative_norm == 0.0 for each in spectra(first))
    final = load_snapshot(run.updates / "final.safetensors")
    plain, merged = load_model(base), load_model(run.folder)
    found = final.layers[LAYER].left @ final.layers[LAYER].right
    difference = merged.get_parameter(f"{LAYER}.weight") - plain.get_parameter(f"{LAYER}.weight")
    assert torch.allclose(found, difference.detach().flatten(1), atol=1e-6)
    assert float(found.norm()) > 0


@pytest.mark.parametrize(("policy", "moves"), [("statistics", {"running_mean"}), ("frozen", set())])
def test_batch_norms_follow_the_policy(
    adapting: Make, base: Path, policy: str, moves: set[str]
) -> None:
    run = fit(adapting("head", name=policy, adapter={"batch_norm": policy}))
    kinds = {name.rpartition(".")[2] for name in changed(base, run.folder)}
    assert moves <= kinds
    assert ("running_mean" in kinds) == ("running_mean" in moves)
    again = load_model(base, adapter=run.adapter).state_dict()
    assert all(torch.equal(again[name], value) for name, value in state(run.folder).items())


def ready(config: RunConfig, batches: int) -> tuple[SegmentationModel, ChipDataModule]:
    """The base with what its adaptation trains, and the chips."""
    config = with_base(config)
    material = gather(config)
    model = build_model(config, material)
    chips = ChipDataModule(config, material, model.spec)
    settings = AdapterConfig(**{**vars(config.adapter), "gradient_batches": batches})
    loss = LOSSES[config.loss.name](config.loss)
    adapt_network(model, settings, loss, chips.first_batches, seed=config.seed)
    return model, chips


def test_deep_lora_begins_where_the_gradient_of_the_first_chips_points(adapting: Make) -> None:
    config = adapting(name="start")
    model, chips = ready(config, 1)
    right = model.get_parameter(f"{LAYER}.parametrizations.weight.0.right").detach()
    plain, _ = ready(config, 0)
    random = plain.get_parameter(f"{LAYER}.parametrizations.weight.0.right").detach()
    detach(plain)
    (batch,) = chips.first_batches(1)
    weight = plain.get_parameter(f"{LAYER}.weight")
    loss = LOSSES[config.loss.name](config.loss)
    value = loss(plain.eval()(batch["image"]), batch["mask"])
    (gradient,) = torch.autograd.grad(value, [weight])
    top = torch.linalg.svd(gradient.flatten(1))[2][:2].T  # rank 4 begins with two directions
    inside = torch.linalg.norm(right.T @ top) / torch.linalg.norm(top)
    by_chance = torch.linalg.norm(random.T @ top) / torch.linalg.norm(top)
    assert inside == pytest.approx(1.0, abs=1e-3)
    assert by_chance < 0.9


def test_every_group_keeps_its_share_of_the_rate_through_the_schedule(adapting: Make) -> None:
    config = adapting(name="rates", optimizer={"eps": 1e-6})
    model, _ = ready(config, 0)
    module = SegmentationModule(model, LOSSES["bce-dice"](config.loss), config.optimizer)

    class Steps:
        estimated_stepping_batches = 40

    module._fabric = None
    module.__dict__["_trainer"] = Steps()
    found: Any = module.configure_optimizers()
    optimizer, scheduler = found["optimizer"], found["lr_scheduler"]["scheduler"]
    assert {group["eps"] for group in optimizer.param_groups} == {1e-6}
    shares = {
        round(group["lr"] / optimizer.param_groups[0]["lr"], 6)
        for group in parameter_groups(model, 1.0)
    }
    assert shares
    seen = []
    for _ in range(40):
        optimizer.step()
        scheduler.step()
        rates = [group["lr"] for group in optimizer.param_groups]
        seen.append(rates[1] / rates[0])
    assert np.allclose(seen, 1e-2)
    assert max(group["max_lr"] for group in optimizer.param_groups) == pytest.approx(
        config.optimizer.learning_rate
    )


def test_a_run_goes_on_only_with_the_base_that_it_began_with(
    adapting: Make, base: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.safetensors"
    model = load_model(base)
    save_model(model, copy)
    config = adapting("head", name="moving", adapter={"base": str(copy)})
    fit(config)
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    save_model(model, copy)
    with pytest.raises(ConfigError, match="is no longer the model"):
        fit(config, resume=True)
    with pytest.raises(ConfigError, match="is no longer the model"):
        fit_once(config)


def test_the_first_batches_are_those_of_any_number_of_batches_a_step(adapting: Make) -> None:
    plain, parted = (
        ready(adapting(name="parts", trainer={"accumulate": parts}), 0)[1].first_batches(3)
        for parts in (1, 2)
    )
    assert len(plain) == 3
    for one, other in zip(plain, parted, strict=True):
        assert torch.equal(one["image"], other["image"])


def test_imagery_of_another_scale_is_refused(adapting: Make, base: Path, tmp_path: Path) -> None:
    model = load_model(base)
    dark = Scaling("uint16", (0.0,) * 3, (1.0,) * 3)
    model.spec = replace(model.spec, scalings={**model.spec.scalings, "uint16": dark})
    save_model(model, tmp_path / "dark.safetensors")
    with pytest.raises(ConfigError, match=r"birch_satellite: .* which is on another scale"):
        fit(adapting(name="dark", adapter={"base": str(tmp_path / "dark.safetensors")}))


def test_what_the_base_does_not_know_is_measured(
    adapting: Make, base: Path, tmp_path: Path
) -> None:
    model = load_model(base)
    known = model.spec.scalings["uint8"]
    measured = replace(known, low=(3.0,) * 3)
    model.spec = replace(model.spec, gsd_m=None, scalings={"uint8": measured})
    save_model(model, tmp_path / "base.safetensors")
    config = adapting(
        "head",
        name="measured",
        adapter={"base": str(tmp_path / "base.safetensors")},
        data={"sources": ["alder_aerial", "birch_satellite"]},
    )
    spec = load_model(fit(config).folder).spec
    assert spec.gsd_m == pytest.approx(0.5, rel=1e-3)
    assert spec.scalings["uint8"] == measured
    assert "uint16" in spec.scalings


def test_several_adapters_of_one_base_are_switched(adapted: Stored, base: Path) -> None:
    first, second = map(adapted, ("lora", "head"))
    model = load_model(base)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    for run in (first, second, first):
        load_adapter(model, run.adapter)
        image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            switched, merged = model(image), load_model(run.folder)(image)
        assert torch.allclose(switched, merged, atol=1e-5)
        detach(model)
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert attachment_of(model) is None


def test_what_does_not_fit_the_base_is_refused(
    adapting: Make, adapted: Stored, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"model\.architecture is fpn, but adapter\.base has"):
        fit(adapting(model={"architecture": "fpn"}))
    with pytest.raises(ConfigError, match=r"model\.batch_norm applies only to new models"):
        fit(adapting(model={"batch_norm": "frozen"}))
    with pytest.raises(ModelFileError, match="no model at"):
        fit(adapting(adapter={"base": str(tmp_path / "nothing")}))
    with pytest.raises(ConfigError, match="no layer of the network matches the target 'encodr'"):
        fit(adapting(name="t", adapter={"targets": "encodr"}))
    with pytest.raises(ConfigError, match="no module or parameter of the network matches"):
        fit(adapting("head", name="h", adapter={"trained": ["neck"]}))
    assert not (Run(adapting(name="t").folder).folder / "config.yaml").exists()
    other = load_model(base)
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    save_model(other, tmp_path / "other.safetensors")
    run = adapted("head")
    with pytest.raises(ModelFileError, match="made for another base model"):
        load_model(tmp_path / "other.safetensors", adapter=run.adapter)
    save_adapted_of_another_network(base, tmp_path / "renamed.safetensors")
    with pytest.raises(ModelFileError, match="describes another network: its encoder"):
        load_model(base, adapter=tmp_path / "renamed.safetensors")
    with pytest.raises(ConfigError, match="no adapter to save"):
        save_adapted(other, tmp_path / "none.safetensors")


def save_adapted_of_another_network(base: Path, path: Path) -> None:
    model = load_model(base)
    attach(model, None, trained=["*segmentation_head"])
    model.spec = replace(model.spec, encoder="resnet18")
    save_adapted(model, path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"method": "dora"}, "choose deep-lora, lora, head, bitfit, batch-norm, full"),
        ({"rank": 3}, "the rank of Deep LoRA must be even"),
        ({"rank": 0, "method": "lora"}, "rank must be at least 1"),
        ({"alpha": 4.0}, "alpha is a setting of the method lora"),
        ({"batch_norm": "melted"}, "choose frozen, statistics, affine"),
        ({"gradient_batches": -1}, "gradient_batches must be from 0 to 1000"),
        ({"outer_lr_ratio": 2.0}, "outer_lr_ratio must be in"),
        ({"ranks": 3}, "unknown key, did you mean 'rank'"),
        ({"targets": "typo"}, "adapter.base is missing"),
    ],
)
def test_impossible_settings_are_named(tiny: Make, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        tiny(adapter=settings)
    assert "adapter" in str(error.value)
