"""Training: resumed equals uninterrupted, two processes equal one, and a run is a folder."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas
import pytest
import rasterio
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from rhm.data import Catalog
from rhm.errors import BankError, CatalogError, ConfigError
from rhm.inference import predict_raster
from rhm.models.model_file import load_model
from rhm.training import fitting
from rhm.training.config import RunConfig
from rhm.training.datamodule import ChipDataModule
from rhm.training.fitting import build_model, fit
from rhm.training.imagery import gather
from rhm.training.losses import LOSSES
from rhm.training.module import SegmentationModule
from rhm.training.run import Run
from tests.apart import command
from tests.data.imagery import write_raster

Make = Callable[..., RunConfig]
Stored = Callable[..., Run]


PRETRAINED = {"encoder": "tf_efficientnet_lite0", "weights": "bundled"}


def weights(run: Path) -> dict[str, np.ndarray[Any, Any]]:
    return load_file(run / "model.safetensors")


def differences(first: Path, second: Path) -> np.ndarray[Any, Any]:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    return np.concatenate([np.abs(ours[name] - theirs[name]).ravel() for name in ours])


def largest_difference(first: Path, second: Path) -> float:
    return float(differences(first, second).max())


def test_a_run_is_a_folder(stored: Stored, bank_path: Path) -> None:
    run = stored("rhm", augment={"colour": "rhm", "bank": str(bank_path)})
    config = run.config
    assert config.folder == run.folder
    assert "torch" in json.loads((run.folder / "environment.json").read_text())
    metrics = pandas.read_csv(run.folder / "metrics.csv")
    assert {"step", "train_loss", "val_iou", "val_loss"} <= set(metrics.columns)
    assert metrics["val_iou"].notna().sum() == 2
    assert sorted(p.name for p in run.last.parent.iterdir()) == ["best.ckpt", "last.ckpt"]
    spec = load_model(run.folder).spec
    assert (spec.method, spec.sources, spec.bands) == ("rhm", ("alder_aerial",), 3)
    cost = json.loads((run.folder / "cost.json").read_text())
    assert cost["steps"] == config.trainer.steps
    assert cost["images"] == config.trainer.steps * config.trainer.batch_size
    assert cost["seconds"] > 0
    assert 100 < cost["memory_mb"] < 100_000
    card = (run.folder / "card.md").read_text()
    assert card.startswith("# rhm\n")
    best = metrics["val_iou"].max()
    for said in ("| domains | `alder_aerial` |", f"| iou | {best:.3f} |", spec.split_hash):
        assert said in card
    assert set(spec.scalings) == {"uint8", "uint16"}
    assert spec.gsd_m == pytest.approx(0.5, rel=1e-3)
    assert np.sum(spec.source_histograms["alder_aerial"], axis=1) == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(ConfigError, match="--resume, or choose another name"):
        fit(config)


class Killed(Exception):
    """Stands for a power cut."""


class PowerCut(lightning.Callback):
    """Stops the program in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: lightning.Trainer, *rest: Any) -> None:
        if trainer.global_step == self.step:
            raise Killed


# A pyramid network draws dropout, which must not depend on what was drawn before.
@pytest.mark.parametrize("architecture", ["unet", "fpn"])
def test_killed_and_resumed_ends_with_the_weights_of_an_uninterrupted_run(
    tiny: Make, bank_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    sections = {
        "augment": {"colour": "rhm", "bank": str(bank_path)},
        "model": {"architecture": architecture},
        "trainer": {"steps": 4, "batch_size": 2, "accumulate": 2},
    }
    whole = fit(tiny("whole", **sections))
    broken = tiny("broken", **sections)
    real = fitting._trainer

    def doomed(*args: Any, **options: Any) -> lightning.Trainer:
        trainer = real(*args, **options)
        trainer.callbacks.insert(0, PowerCut(step=3))  # type: ignore[attr-defined]
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_trainer", doomed)
        with pytest.raises(Killed):
            fit(broken)
    assert not (broken.folder / "model.safetensors").exists()
    resumed = fit(broken, resume=True)
    assert largest_difference(whole.folder, resumed.folder) <= 1e-6
    ours = pandas.read_csv(whole.folder / "metrics.csv")
    theirs = pandas.read_csv(resumed.folder / "metrics.csv")
    for column in ("val_iou", "val_loss"):
        np.testing.assert_allclose(ours[column].dropna(), theirs[column].dropna(), atol=1e-5)


def test_a_configuration_may_be_given_as_its_file(tiny: Make, tmp_path: Path) -> None:
    config = tiny("file", trainer={"steps": 2})
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    assert fit(tmp_path / "run.yaml").config == config


def test_resume_refuses_another_configuration(tiny: Make, stored: Stored) -> None:
    with pytest.raises(ConfigError, match="no run to resume"):
        fit(tiny("new"), resume=True)
    begun = stored().config
    other = begun.model_copy(update={"optimizer": replace(begun.optimizer, learning_rate=0.5)})
    with pytest.raises(ConfigError, match="started with other settings in 'optimizer'"):
        fit(other, resume=True)


def test_two_processes_equal_one_with_the_same_global_batch(tiny: Make) -> None:
    # Batch norms see their process's part of the batch only, so they are frozen here.
    rate = 1e-5
    sections: dict[str, Any] = {
        "model": {"batch_norm": "frozen"},
        "optimizer": {"learning_rate": rate},
    }
    one = fit(tiny("one", **sections))
    two = tiny("two", **sections, trainer={"devices": 2})
    path = Path(two.output) / "two.yaml"
    path.write_text(two.to_yaml())
    done = command("train", path, "--quiet")
    assert done.returncode == 0, done.stderr
    # Weights whose gradients are almost 0 may step either way, by rounding; they are few. The
    # loss of two halves in the place of the whole batch's differs by 0.007 steps in the mean.
    assert differences(one.folder, two.folder).mean() <= 0.002 * rate
    ours, theirs = load_model(one.folder).spec, load_model(two.folder).spec
    assert ours.expected_iou == pytest.approx(theirs.expected_iou, abs=1e-4)
    assert replace(ours, expected_iou=theirs.expected_iou) == theirs


def test_diverged_training_is_said_and_leaves_no_model(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lost(nn.Module):
        def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
            return logits.sum() * torch.nan

    monkeypatch.setitem(LOSSES, "bce-dice", lambda config: Lost())
    config = tiny("diverged", loss={"name": "bce-dice"})
    with pytest.raises(ConfigError, match=r"training diverged at step 0"):
        fit(config)
    assert not (config.folder / "model.safetensors").exists()


def test_one_chip_a_step_is_refused_where_batch_norm_cannot_be(tiny: Make) -> None:
    single: dict[str, Any] = {"trainer": {"batch_size": 1}, "data": {"chip_px": 64}}
    config = tiny("single", model={"architecture": "deeplabv3plus"}, **single)
    with pytest.raises(
        ConfigError, match=r"one chip of 64 px at a time.*raise trainer\.batch_size"
    ):
        fit(config)
    assert not config.folder.exists()
    assert fit(tiny("unet", **single)).model.is_file()


def test_a_finished_run_is_not_touched_by_resume(tiny: Make, stored: Stored) -> None:
    run = stored()
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert fit(run.config, resume=True) == run
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_images_of_mixed_resolution_want_one_to_be_chosen(
    tiny: Make, catalog_path: Path, tmp_path: Path
) -> None:
    catalog = Catalog.load(catalog_path)
    gsd = catalog.frame["gsd_m"].to_numpy(copy=True)
    gsd[::2] = 2.0
    Catalog(catalog.frame.assign(gsd_m=gsd)).save(tmp_path / "mixed.parquet")
    with pytest.raises(ConfigError, match=r"choose one value with data\.gsd_m"):
        gather(tiny(data={"catalog": str(tmp_path / "mixed.parquet")}))


def test_the_bank_does_not_move_the_range_of_labelled_imagery(tiny: Make, bank_path: Path) -> None:
    plain = tiny(data={"sources": ["alder_satellite"]})
    matched = tiny(
        data={"sources": ["alder_satellite"]}, augment={"colour": "rhm", "bank": str(bank_path)}
    )
    assert gather(plain).scalings["uint16"] == gather(matched).scalings["uint16"]


def test_the_loss_falls_on_one_batch(tiny: Make) -> None:
    config = tiny("learn", model=PRETRAINED)
    material = gather(config)
    model = build_model(config, material)
    chips = ChipDataModule(config, material, model.spec)
    batch = next(iter(chips.train_dataloader()))
    module = SegmentationModule(model, torch.nn.Identity(), config.optimizer)
    loss = LOSSES["bce-dice"](config.loss)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        value = loss(module(batch["image"]), batch["mask"])
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.6 * losses[0]


def test_the_threshold_is_the_configurations_or_chosen_on_validation_chips(tiny: Make) -> None:
    fixed = tiny("fixed", model={"threshold": 0.3}, trainer={"steps": 2})
    assert load_model(fit(fixed).folder).spec.threshold == 0.3
    chosen = tiny("chosen", model={"threshold": None}, trainer={"steps": 2})
    model = load_model(fit(chosen).folder)
    material = gather(chosen)
    val = ChipDataModule(chosen, material, model.spec).val_dataloader()
    logits = [(model(chip["image"]).sigmoid(), chip["mask"]) for chip in val]

    def iou(threshold: float) -> float:
        hits = sum(int(((p >= threshold) & (m == 1)).sum()) for p, m in logits)
        union = sum(int((((p >= threshold) | (m == 1)) & (m != 255)).sum()) for p, m in logits)
        return hits / union

    best = max(iou(k / 200) for k in range(200))
    assert iou(model.spec.threshold) == pytest.approx(best)


def test_a_catalog_without_validation_images_trains(
    tiny: Make, catalog_path: Path, tmp_path: Path
) -> None:
    catalog = Catalog.load(catalog_path)
    Catalog(catalog.frame.assign(split="train")).save(tmp_path / "all.parquet")
    run = fit(tiny(data={"catalog": str(tmp_path / "all.parquet")}, trainer={"steps": 2}))
    assert load_model(run.folder).spec.training_images == 6
    assert "val_iou" not in pandas.read_csv(run.folder / "metrics.csv").columns


def test_frozen_batch_norm_keeps_its_statistics(tiny: Make) -> None:
    config = tiny("frozen", model={"batch_norm": "frozen"}, trainer={"steps": 2})
    before = {
        name: tensor.clone()
        for name, tensor in build_model(config, gather(config)).state_dict().items()
        if "encoder" in name and ("running" in name or "bn" in name)
    }
    after = load_model(fit(config).folder).state_dict()
    assert before
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


SOURCES: dict[str, Any] = {"bank": "sources", "p": 1.0}


@pytest.mark.parametrize(
    "augment",
    [
        {"colour": "none"},
        {"colour": "color-jitter"},
        {"colour": "hsv"},
        {"colour": "gamma"},
        {"colour": "jitter", "gamma": [0.5, 2.0], "gain": [0.8, 1.2], "offset": [-0.1, 0.1]},
        {"colour": "fda", "targets": ["birch_satellite"], "p": 1.0},
        {"colour": "mean-std"} | SOURCES,
        {"colour": "rhm", "statistics": "scene", "blend": [0.0, 1.0]} | SOURCES,
        {"colour": "rhm", "sampling": "domain", "per_band": False} | SOURCES,
        {"colour": "rhm", "sampling": "distance", "gamma": [0.5, 2.0]} | SOURCES,
    ],
    ids=lambda augment: "-".join(each for each in augment.values() if isinstance(each, str)),
)
def test_every_colour_augmentation_trains(tiny: Make, augment: dict[str, Any]) -> None:
    run = fit(tiny("colour", augment=augment, trainer={"steps": 2, "batch_size": 2}))
    spec = load_model(run.folder).spec
    assert (spec.method, spec.standardize) == (augment["colour"], "none")


@pytest.mark.parametrize("standardize", ["equalize", "gray-world", "none"])
def test_a_standardising_model_takes_its_standard_along(
    tiny: Make, catalog_path: Path, tmp_path: Path, standardize: str
) -> None:
    """The saved model sees an image, and the image under a shift of its kind, as one."""
    model = {"standardize": standardize} | PRETRAINED
    run = fit(tiny("standard", model=model, trainer={"steps": 2}))
    trained = load_model(run.folder)
    assert trained.spec.standardize == standardize
    assert trained.spec.method == standardize
    (tile,) = Catalog.load(catalog_path).select(domains=["alder_aerial"]).tiles[:1]
    with tile.open() as raster:
        pixels = raster.read()[0] // 2
    # Equalisation undoes all rising maps, gray-world gains that leave the mean of bands alone.
    rising = (255.0 * (pixels / 127.0) ** 0.7).astype(np.uint8)
    means = pixels.mean(axis=(0, 1))
    gains = np.array([1.4, 1.0, (means.sum() - 1.4 * means[0] - means[1]) / means[2]])
    shifted = rising if standardize == "equalize" else np.rint(gains * pixels).astype(np.uint8)
    assert all(np.unique(rising[..., b]).size == np.unique(pixels[..., b]).size for b in range(3))
    seen = []
    for name, image in (("plain", pixels), ("shifted", shifted)):
        scene = write_raster(tmp_path / f"{name}.tif", image)
        with rasterio.open(predict_raster(trained, scene, tmp_path).probability) as raster:
            seen.append(raster.read(1))
    spread = np.ptp(seen[0])
    difference = np.abs(seen[0] - seen[1]).max()
    assert spread > 0.02
    if standardize == "none":
        assert difference > 0.2 * spread
    else:
        # Stored bytes of a darker image hold its gains less well.
        assert difference < (1e-5 if standardize == "equalize" else 0.1 * spread)


def test_what_cannot_be_trained_on_is_said(tiny: Make, catalog_path: Path, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no domain 'atlantis'"):
        fit(tiny(data={"catalog": str(catalog_path), "sources": ["atlantis"]}))
    with pytest.raises(CatalogError, match="no catalog at"):
        fit(tiny(data={"catalog": str(tmp_path / "none.parquet")}))
    with pytest.raises(BankError, match="no histogram bank at"):
        fit(tiny(augment={"colour": "rhm", "bank": str(tmp_path / "none.bank")}))
    with pytest.raises(ConfigError, match=r"augment\.targets: the catalog has no domain atlantis"):
        fit(tiny(augment={"colour": "fda", "targets": ["atlantis"]}))
    with pytest.raises(ConfigError, match="only tf_efficientnet_lite0 has bundled weights"):
        fit(tiny(model={"encoder": "resnet18", "weights": "bundled"}))
    with pytest.raises(ConfigError, match="vit_tiny_patch16_224"):
        fit(tiny(model={"encoder": "vit_tiny_patch16_224", "weights": "none"}))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="available GPUs is 0: use"):
            fit(tiny(trainer={"accelerator": "gpu"}))
    assert not (tmp_path / "runs").exists()


@pytest.mark.filterwarnings("ignore:You passed `Trainer")  # Lightning says so, too
def test_settings_without_effect_are_told(
    tiny: Make, catalog_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = Catalog.load(catalog_path).frame
    Catalog(frame.assign(split="train")).save(tmp_path / "all.parquet")
    trainer = {"steps": 1, "validate_every": 1, "batch_size": 2, "patience": 1}
    fit(
        tiny(
            data={"catalog": str(tmp_path / "all.parquet")},
            trainer=trainer | {"precision": "16-mixed"},
            analysis={"every": 1},
        )
    )
    for told in (
        "trainer.patience does nothing: there are no validation images",
        "analysis.every does nothing: there are no labelled validation images",
        "trainer.precision is bf16-mixed on this device, not 16-mixed",
    ):
        assert told in caplog.text
