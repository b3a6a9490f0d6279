"""Adaptation without source imagery or labels: what changes, what does not, and what is stored."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

from rhm.data import Catalog
from rhm.errors import ConfigError
from rhm.models.build import ModelConfig
from rhm.models.expected_iou import ExpectedIoU
from rhm.models.model_file import load_model, save_model
from rhm.models.score_calibration import ScoreCalibration
from rhm.training.config import RunConfig
from rhm.training.datamodule import ChipDataModule
from rhm.training.fitting import build_model, fit
from rhm.training.imagery import gather
from rhm.training.run import Run
from rhm.training.unlabelled.batch_statistics import measure_statistics

Make = Callable[..., RunConfig]
Stored = Callable[..., Run]


@pytest.fixture
def base(stored: Stored) -> Path:
    """A model of two steps on the aerial town."""
    trainer = {"steps": 2, "validate_every": 2, "batch_size": 2}
    return stored("base", trainer=trainer, model={"threshold": 0.4}).folder


@pytest.fixture
def adapting(tiny: Make, base: Path) -> Make:
    """Make a configuration that adapts the base to the satellite's town, without labels."""

    def make(method: str, name: str = "adapted", **sections: Any) -> RunConfig:
        plain = ModelConfig()
        adapter = {"base": str(base), "method": "batch-norm", "batch_norm": "affine"}
        target = {"domains": ["birch_satellite"], "method": method, "source_free": True}
        return tiny(
            name,
            data={"sources": []},
            model={"encoder": plain.encoder, "weights": plain.weights, "threshold": 0.4},
            adapter=adapter | sections.pop("adapter", {}),
            target=target | sections.pop("target", {}),
            **sections,
        )

    return make


def changed(base: Path, run: Run) -> set[str]:
    before, after = load_model(base).state_dict(), load_model(run.folder).state_dict()
    assert before.keys() == after.keys()
    return {name for name, each in before.items() if not torch.equal(each, after[name])}


def same(first: Path, adapter: Path, run: Run) -> bool:
    """Whether a base with an adapter is the adapted model."""
    one, other = load_model(first, adapter=adapter), load_model(run.folder)
    assert one.spec == other.spec
    mine, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


STATISTICS = {"batch_norm": "statistics"}


def test_a_threshold_is_chosen_and_no_weight_changes(adapting: Make, base: Path) -> None:
    """Oracle: every threshold between two levels of probability, tried out on the same chips."""
    config = adapting("threshold", adapter=STATISTICS)
    config = config.model_copy(update={"model": replace(config.model, threshold=None)})
    run = fit(config)
    assert changed(base, run) == set()
    assert same(base, run.adapter, run)
    material = gather(config)
    model = build_model(config, material).eval()
    chips = ChipDataModule(config, material, model.spec).target_dataloader()
    with torch.inference_mode():
        seen = [(model(chip["image"]).sigmoid().numpy(), chip["valid"].numpy()) for chip in chips]
    scores = {}
    for level in range(255):
        counted = ExpectedIoU((level - 0.5) / 254)
        for probability, valid in seen:
            counted.add(probability, valid)
        scores[counted.threshold] = counted.value or 0.0
    spec = load_model(run.folder).spec
    assert scores[spec.threshold] == pytest.approx(max(scores.values()), rel=1e-9)
    assert spec.threshold != 0.4
    assert load_model(base, adapter=run.adapter).spec.threshold == spec.threshold
    assert "highest expected IoU on unlabelled images" in (run.folder / "card.md").read_text()


def test_a_threshold_that_is_set_stays(adapting: Make) -> None:
    assert load_model(fit(adapting("threshold", adapter=STATISTICS)).folder).spec.threshold == 0.4


@pytest.mark.parametrize("method", ["threshold", "adabn"])
def test_what_a_base_says_of_itself_is_kept_as_far_as_it_holds(
    adapting: Make, base: Path, method: str
) -> None:
    model = load_model(base)
    measured = ScoreCalibration((0.2, 0.8), (10, 10), (1, 9))
    model.spec = replace(model.spec, expected_iou=0.6, score_calibration=measured)
    save_model(model, base / "model.safetensors")
    config = adapting(method, adapter=STATISTICS)
    run = fit(config)
    spec = load_model(run.folder).spec
    # With the IoU expected at home, predictions are compared as they are with the base.
    assert spec.expected_iou == 0.6
    assert spec.score_calibration == (measured if method == "threshold" else None)
    # Images without labels are no training images: the splits are those of the base.
    assert spec.split_hash == model.spec.split_hash
    assert spec.source_splits == model.spec.source_splits != {}
    assert same(base, run.adapter, run)


def test_adabn_changes_the_statistics_alone_and_they_are_those_of_the_target(
    adapting: Make, base: Path
) -> None:
    config = adapting("adabn", adapter=STATISTICS)
    run = fit(config)
    names = changed(base, run)
    assert names
    assert all(name.endswith(("running_mean", "running_var")) for name in names)
    assert same(base, run.adapter, run)
    assert run.adapter.stat().st_size < 0.2 * run.model.stat().st_size
    material = gather(config)
    model = build_model(config, material)
    loader = ChipDataModule(config, material, model.spec).target_dataloader()
    adapted = load_model(run.folder).state_dict()
    for name, moments in measure_statistics(model, loader).items():
        np.testing.assert_array_equal(
            adapted[f"{name}.running_mean"], moments.mean.to(torch.float32)
        )
    spec = load_model(run.folder).spec
    assert (spec.method, spec.threshold, spec.sources) == ("none, adabn", 0.4, ("alder_aerial",))
    assert "uint16" in spec.scalings
    assert "| method without labels | `adabn` |" in (run.folder / "card.md").read_text()


@pytest.mark.parametrize(
    ("method", "adapter"),
    [
        ("entropy", {}),
        ("shot", {"method": "full", "trained": ["*encoder*", "*decoder*"]}),
        ("shot", {"method": "deep-lora", "rank": 4, "trained": []}),
        ("mean-teacher", {"method": "deep-lora", "rank": 4, "targets": "encoder", "trained": []}),
    ],
    ids=["tent", "shot", "shot deep-lora", "mean-teacher deep-lora"],
)
def test_a_model_is_adapted_and_its_head_stays(
    adapting: Make, base: Path, method: str, adapter: dict[str, Any]
) -> None:
    colours = {"gamma": [0.5, 2.0], "colour": "jitter", "p": 1.0}
    augment = colours if method == "mean-teacher" else {}
    run = fit(adapting(method, adapter=adapter, augment=augment))
    names = changed(base, run)
    assert names
    if method == "entropy":
        affine = ("running_mean", "running_var", "weight", "bias", "num_batches_tracked")
        norms = {n.rpartition(".")[0] for n in names if n.endswith("running_mean")}
        assert all(n.rpartition(".")[0] in norms and n.endswith(affine) for n in names)
    if adapter.get("targets") or adapter.get("method") == "full":
        assert not any("segmentation_head" in name for name in names)
    if run.adapter.is_file():
        assert same(base, run.adapter, run)
    metrics = pandas.read_csv(run.folder / "metrics.csv")
    assert np.isfinite(metrics["target_loss"].dropna()).all()
    assert "train_loss" not in metrics or metrics["train_loss"].isna().all()


def test_labels_are_not_looked_at(adapting: Make, catalog_path: Path, tmp_path: Path) -> None:
    catalog = Catalog.load(catalog_path)
    catalog.frame["label"] = [str(tmp_path / "lost.png")] * len(catalog)
    catalog.frame["building_fraction"] = 0.0
    catalog.save(tmp_path / "lost.parquet")
    data = {"catalog": str(tmp_path / "lost.parquet"), "sources": []}
    config = adapting("entropy", "lost")
    lost = fit(
        config.model_copy(update={"data": config.data.__class__(**(vars(config.data) | data))})
    )
    right = fit(adapting("entropy", "right"))
    one, other = (load_model(run.folder).state_dict() for run in (lost, right))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("target", "adapter", "told"),
    [
        ({"method": "coral"}, {}, "coral needs labelled chips: choose entropy, mean-teacher, shot"),
        ({"method": "none"}, {}, "none needs labelled chips"),
        ({"method": "adabn", "source_free": False}, STATISTICS, "rhm adapt --unlabelled"),
        ({"method": "mean-teacher", "paste": "class"}, {}, "paste needs labelled chips"),
        ({"method": "entropy"}, STATISTICS, "trains nothing"),
        ({"method": "entropy", "domains": []}, {}, "give target.domains"),
    ],
)
def test_mistakes_are_told(
    adapting: Make, target: dict[str, Any], adapter: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        adapting(str(target["method"]), adapter=adapter, target=target)


def test_there_is_nothing_to_adapt_without_a_base_and_no_place_for_sources(
    tiny: Make, adapting: Make
) -> None:
    target = {"domains": ["birch_satellite"], "method": "entropy", "source_free": True}
    with pytest.raises(ConfigError, match=r"give adapter\.base"):
        tiny(target=target, data={"sources": []})
    config = adapting("entropy").model_dump()
    config["data"]["sources"] = ["alder_aerial"]
    with pytest.raises(ConfigError, match=r"leave out data\.sources"):
        tiny(**{k: config[k] for k in ("data", "target", "adapter")})


@pytest.mark.parametrize("method", ["deep-lora", "lora", "bitfit", "full", "head"])
def test_shot_never_changes_the_head(adapting: Make, base: Path, method: str) -> None:
    adapter = {
        "method": method,
        "batch_norm": "affine",
        "targets": "all",
        "rank": 1 + (method == "deep-lora"),
    }
    run = fit(adapting("shot", adapter=adapter, optimizer={"learning_rate": 0.05}))
    names = changed(base, run)
    assert names
    assert not [name for name in names if "segmentation_head" in name]


@pytest.mark.parametrize("method", ["threshold", "adabn"])
def test_what_is_only_measured_needs_no_method(adapting: Make, base: Path, method: str) -> None:
    adapter = {"method": "deep-lora", "batch_norm": "frozen"}
    run = fit(adapting(method, adapter=adapter))
    trained = [name for name in changed(base, run) if "running" not in name and "num_" not in name]
    assert not trained


def test_features_are_not_recorded_without_labels(adapting: Make) -> None:
    trainer = {"select": "expected-iou", "steps": 2, "validate_every": 1}
    run = fit(adapting("entropy", trainer=trainer, analysis={"every": 1}))
    assert run.model.is_file()


@pytest.mark.parametrize("norm", ["statistics", "affine", "frozen"])
def test_one_chip_is_too_few_for_batch_normalisation_of_adaptations_too(
    adapting: Make, norm: str
) -> None:
    sections: dict[str, Any] = {"trainer": {"batch_size": 1, "steps": 1}}
    adapter = {"method": "lora", "rank": 1, "batch_norm": norm}
    config = adapting("entropy", adapter=adapter, **sections)
    config = config.model_copy(update={"data": replace(config.data, chip_px=32)})
    if norm == "frozen":
        assert fit(config).model.is_file()
        return
    with pytest.raises(ConfigError, match=r"or set adapter\.batch_norm=frozen"):
        fit(config)
