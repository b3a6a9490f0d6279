"""Runs that learn from unlabelled imagery; laws: no label leaks, and resumed equals whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas
import pytest
import torch

from rhm.data import Catalog
from rhm.data.radiometry import bank_of
from rhm.errors import ConfigError
from rhm.models.expected_iou import ExpectedIoU
from rhm.models.model_file import load_model
from rhm.models.spec import load_spec
from rhm.training import fitting
from rhm.training.config import RunConfig
from rhm.training.datamodule import ChipDataModule
from rhm.training.fitting import build_model, fit
from rhm.training.imagery import gather
from rhm.training.run import Run
from rhm.training.unlabelled.mean_teacher import MeanTeacher
from rhm.training.unlabelled.target_config import ALONE, METHODS
from tests.data.imagery import write_raster

Make = Callable[..., RunConfig]

TRAINED = [name for name, each in METHODS.items() if each.build and each.needs != ALONE]
SETTINGS: dict[str, dict[str, Any]] = {
    "adversarial": {"discriminator_width": 4},
    "mean-teacher": {"paste": "instances", "paste_margin_px": 2, "warmup": 0.5},
}


def target_of(method: str, **settings: Any) -> dict[str, Any]:
    return {"domains": ["birch_satellite"], "method": method} | SETTINGS.get(method, {}) | settings


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


class Killed(Exception):
    """Stands for a power cut."""


class PowerCut(lightning.Callback):
    """Stops the program in the middle of a step."""

    def on_train_batch_start(self, trainer: lightning.Trainer, *rest: Any) -> None:
        if trainer.global_step == 3:
            raise Killed


@pytest.mark.parametrize("statistics", ["own", "running"])
@pytest.mark.parametrize("method", TRAINED)
def test_unlabelled_chips_without_weight_change_nothing(
    tiny: Make, stored: Callable[..., Run], bank_path: Path, method: str, statistics: str
) -> None:
    # The network and the augmentation draw random numbers of their own in a step.
    sections = {
        "augment": {"colour": "rhm", "bank": str(bank_path), "mixstyle": 0.5},
        "data": {"sources": ["alder_aerial"]},
        "model": {"architecture": "deeplabv3plus", "encoder": "test_resnet"},
        "trainer": {"steps": 2, "validate_every": 2, "batch_size": 4, "accumulate": 2},
    }
    without = stored(**sections)
    weights_of = {"nothing": 1e-30}
    if statistics == "own":
        weights_of["something"] = 1.0
    ends = {}
    for name, weight in weights_of.items():
        target = target_of(method, weight=weight, statistics=statistics, warmup=0.0)
        run = fit(tiny(name, **sections, target=target))
        assert "target_loss" in pandas.read_csv(run.folder / "metrics.csv").columns
        ends[name] = load_model(run.model).state_dict()
    expected = load_model(without.model).state_dict()
    assert all(map(torch.equal, ends["nothing"].values(), expected.values()))
    if "something" in ends:
        assert not all(map(torch.equal, ends["something"].values(), expected.values()))


def test_the_teacher_of_a_run_is_never_in_training(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MeanTeacher.step
    training: list[bool] = []

    def step(self: MeanTeacher, *given: Any) -> Any:
        training.extend(each.training for each in self.teacher.modules())
        return real(self, *given)

    monkeypatch.setattr(MeanTeacher, "step", step)
    fit(tiny(target=target_of("mean-teacher"), trainer={"steps": 4, "validate_every": 2}))
    assert training
    assert not any(training)


@pytest.mark.parametrize("method", TRAINED)
def test_killed_and_resumed_ends_as_an_uninterrupted_run(
    tiny: Make,
    bank_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    request: pytest.FixtureRequest,
) -> None:
    if method not in ("adversarial", "mean-teacher"):  # these have networks to be resumed, too
        request.getfixturevalue("thorough")
    sections = {
        "augment": {"colour": "rhm", "bank": str(bank_path)},
        "target": target_of(method),
        "trainer": {"batch_size": 4, "accumulate": 2},
    }
    whole, broken = fit(tiny("whole", **sections)), tiny("broken", **sections)
    real = fitting._trainer

    def doomed(*args: Any, **options: Any) -> lightning.Trainer:
        trainer = real(*args, **options)
        trainer.callbacks.insert(0, PowerCut())  # type: ignore[attr-defined]
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_trainer", doomed)
        with pytest.raises(Killed):
            fit(broken)
    resumed = fit(broken, resume=True)
    states = [
        torch.load(run.last, map_location="cpu", weights_only=True)["state_dict"]
        for run in (whole, resumed)
    ]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, states[1][name]), name
    assert weights(whole.folder) == weights(resumed.folder)
    metrics = pandas.read_csv(whole.folder / "metrics.csv")
    assert np.isfinite(metrics["target_loss"].dropna()).all()
    assert metrics["target_loss"].notna().any()
    assert load_spec(whole.folder).method == f"rhm, {method}"


def test_colours_and_styles_are_combined_and_leave_no_trace(
    tiny: Make, catalog_path: Path, tmp_path: Path
) -> None:
    bank = tmp_path / "spectra.bank"
    tiles = Catalog.load(catalog_path).select(domains=["birch_satellite"]).tiles
    bank_of(tiles, spectrum_px=64).save(bank)
    augment = {
        "colour": "rhm + spectrum | random-convolution | none",
        "bank": str(bank),
        "p": 1.0,
        "mixstyle": 1.0,
    }
    one, again = (fit(tiny(name, augment=augment)) for name in ("one", "again"))
    assert weights(one.folder) == weights(again.folder)
    plain = fit(tiny("plain", augment=augment | {"mixstyle": 0.0}))
    assert weights(one.folder) != weights(plain.folder)
    assert (
        load_model(one.folder).state_dict().keys() == load_model(plain.folder).state_dict().keys()
    )
    said = "rhm + spectrum | random-convolution | none, mixstyle"
    assert load_spec(one.folder).method == said
    own = fit(tiny("own", augment={"colour": "spectrum", "bank": "sources"}))
    assert load_spec(own.folder).method == "spectrum"


@pytest.fixture
def mislabelled(catalog_path: Path, tmp_path: Path) -> Path:
    """The catalog with the opposite truth in the target domain."""
    catalog = Catalog.load(catalog_path)
    rows = catalog.frame["domain"] == "birch_satellite"
    for index in np.flatnonzero(rows):
        row = catalog.frame.loc[index]
        opposite = np.full((int(row["height"]), int(row["width"]), 1), 255, np.uint8)
        opposite[:: 1 + index % 3] = 0
        path = write_raster(tmp_path / f"wrong{index}.png", opposite, crs=None)
        catalog.frame.loc[index, "label"] = str(path)
        catalog.frame.loc[index, "building_fraction"] = (index % 3) / 3
    catalog.save(tmp_path / "wrong.parquet")
    return tmp_path / "wrong.parquet"


@pytest.mark.parametrize("method", TRAINED)
def test_wrong_labels_of_the_target_change_nothing(
    tiny: Make, mislabelled: Path, method: str
) -> None:
    sections = {"target": target_of(method), "trainer": {"steps": 2}}
    right = fit(tiny("right", **sections))
    wrong = fit(tiny("wrong", data={"catalog": str(mislabelled)}, **sections))
    right_state, wrong_state = (
        torch.load(run.last, map_location="cpu", weights_only=True)["state_dict"]
        for run in (right, wrong)
    )
    for name, value in right_state.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, wrong_state[name]), name


def test_a_domain_that_is_seen_without_labels_is_no_source_unless_it_is_named(tiny: Make) -> None:
    target = target_of("entropy")
    material = gather(tiny(data={"sources": []}, target=target))
    assert {tile.domain for tile in material.train} == {
        "alder_aerial",
        "alder_satellite",
        "birch_aerial",
    }
    assert {tile.domain for tile in material.unlabelled} == {"birch_satellite"}
    both = gather(tiny(data={"sources": ["alder_aerial", "birch_satellite"]}, target=target))
    assert {tile.domain for tile in both.train} == {"alder_aerial", "birch_satellite"}


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_only_images_of_the_chosen_split_are_seen(
    tiny: Make, catalog_path: Path, split: str
) -> None:
    material = gather(tiny(target=target_of("entropy", split=split)))
    expected = Catalog.load(catalog_path).select(
        domains=["birch_satellite"], split=None if split == "all" else split
    )
    assert [tile.image for tile in material.unlabelled] == [t.image for t in expected.tiles]
    assert all(tile.label is None for tile in material.unlabelled)


def test_the_checkpoint_can_be_the_one_that_expects_most_of_the_target(
    tiny: Make, mislabelled: Path
) -> None:
    sections = {
        "target": {"domains": ["birch_satellite"], "chips": 6},
        "trainer": {"steps": 6, "select": "expected-iou"},
        "analysis": {"every": 1},
    }
    config = tiny("chosen", **sections)
    run = fit(config)
    metrics = pandas.read_csv(run.folder / "metrics.csv")
    expected = metrics["target_expected_iou"].dropna()
    assert len(expected) == 3
    best = torch.load(run.best, map_location="cpu", weights_only=True)
    assert (
        best["global_step"]
        == int(metrics["step"].iloc[int(np.nanargmax(metrics["target_expected_iou"]))]) + 1
    )
    material = gather(config)
    model = build_model(config, material)
    state = {
        name.removeprefix("model."): value
        for name, value in best["state_dict"].items()
        if name.startswith("model.")
    }
    model.load_state_dict(state)
    seen = ExpectedIoU(0.5)
    chips = ChipDataModule(config, material, model.spec).target_dataloader()
    assert sum(len(batch["image"]) for batch in chips) == 6
    with torch.inference_mode():
        for batch in chips:
            seen.add(model.eval()(batch["image"]).sigmoid().numpy(), batch["valid"].numpy())
    highest = max(
        found
        for level in range(255)
        if (found := replaced(seen, (level - 0.5) / 254).value) is not None
    )
    assert expected.max() == pytest.approx(highest, rel=1e-4)
    # The labels of the target have no say in it.
    other = fit(tiny("wrong", data={"catalog": str(mislabelled)}, **sections))
    one, two = (load_model(each.folder).state_dict() for each in (run, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(ConfigError, match=r"needs target\.domains"):
        tiny("none", trainer={"select": "expected-iou"})


def replaced(seen: ExpectedIoU, threshold: float) -> ExpectedIoU:
    other = ExpectedIoU(threshold)
    other.pixels = seen.pixels
    return other


def test_mistakes_say_what_to_do(tiny: Make) -> None:
    with pytest.raises(ConfigError, match="no domain 'atlantis'"):
        gather(tiny(target=target_of("entropy") | {"domains": ["atlantis"]}))
    with pytest.raises(ConfigError, match=r"target.*give target\.domains"):
        tiny(target={"method": "entropy"})
    with pytest.raises(ConfigError, match="choose none, entropy, coral"):
        tiny(target=target_of("magic"))
    with pytest.raises(ConfigError, match="works with one process"):
        tiny(target=target_of("entropy"), trainer={"devices": 2})
    with pytest.raises(ConfigError, match="did you mean 'certainty'"):
        tiny(target=target_of("mean-teacher", certanty=0.5))
