"""``rhm adapt``, ``rhm merge`` and ``rhm predict --adapter``: from few images to a small file."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import rasterio
import torch

from rhm.cli.commands.adapt import _complete, _validate_every
from rhm.cli.main import run
from rhm.colour.histogram_bank import HistogramBank
from rhm.errors import ConfigError
from rhm.models.model_file import load_model
from rhm.models.named_models import VARIABLE
from rhm.training.adaptation import LEARNING_RATES
from rhm.training.run import Run
from rhm.training.unlabelled.target_config import LEARNING_RATES as SOURCE_FREE_RATES
from tests.stored import made_once

Rhm = Callable[..., tuple[int, str, str]]
SMALL = ("--domain", "birch_satellite", "--steps", 4, "--batch-size", 2, "--chip", 64)
MEASURED = ("--domain", "birch_satellite", "--batch-size", 2, "--chip", 64)
HERE = ("--set", "data.workers=0", "--set", "trainer.accelerator=cpu", "--quiet")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this worker's adapted runs."""
    return tmp_path_factory.mktemp("adapted")


@pytest.fixture(scope="session")
def adapted(trained: Path, catalog_path: Path, shared: Path) -> Path:
    """The run adapted by Deep LoRA, made once; beside it what was printed."""
    folder = shared / "adapted"

    def adapt() -> None:
        words = ["adapt", trained, catalog_path, *SMALL, *HERE, "-o", folder]
        printed = io.StringIO()
        with redirect_stdout(printed):
            assert run([str(word) for word in words]) == 0
        (folder / "printed.txt").write_text(printed.getvalue())

    return made_once(folder, adapt) / "tiny-birch_satellite-deep-lora"


def test_what_was_trained_and_where_it_lies_is_said(adapted: Path) -> None:
    first, *others, model, adapter = (adapted.parent / "printed.txt").read_text().splitlines()
    table = pandas.read_csv(adapted / "trained.csv")
    updated = table["rank"].notna()
    sums = [f"{table['parameters'][rows].sum():,}" for rows in (updated, ~updated)]
    assert first.startswith("trained: ")
    assert all(each in first for each in [*sums, str(updated.sum())])
    assert len(others) == 2  # time, and validation
    for line, name in ((model, "model"), (adapter, "adapter")):
        assert line.startswith(f"{name}: {adapted / f'{name}.safetensors'} (")


def test_an_adapter_is_merged_into_the_same_model(
    rhm: Rhm, trained: Path, adapted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "merged.safetensors"
    words = ["merge", trained, adapted / "adapter.safetensors", "-o", out, "--json"]
    code, printed, err = rhm(*words)
    assert code == 0, err
    assert json.loads(printed) == {"model": str(out)}
    ours, theirs = load_model(out), load_model(adapted)
    assert ours.spec == theirs.spec
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_a_scene_is_predicted_with_an_adapter(
    rhm: Rhm, world: Path, trained: Path, adapted: Path, tmp_path: Path
) -> None:
    scene = world / "scenes" / "birch_satellite.tif"
    words = ["--tile", 96, "--overlap", 32, "--dtype", "float32"]
    for name, model in (
        ("plain", [trained]),
        ("adapted", [trained, "--adapter", adapted / "adapter.safetensors"]),
        ("folder", [trained, "--adapter", adapted]),
        ("merged", [adapted]),
    ):
        code, _, err = rhm("predict", model[0], scene, *model[1:], *words, "-o", tmp_path / name)
        assert code == 0, err
    read = {}
    for name in ("plain", "adapted", "folder", "merged"):
        with rasterio.open(tmp_path / name / "birch_satellite_probability.tif") as raster:
            read[name] = raster.read()
    assert (read["adapted"] == read["merged"]).all()
    assert (read["folder"] == read["merged"]).all()
    assert (read["adapted"] != read["plain"]).any()


def test_what_was_trained_is_said_for_machines(
    rhm: Rhm, trained: Path, catalog_path: Path, runs: Path
) -> None:
    words = [*SMALL, *HERE, "--method", "lora", "--rank", 2, "--target", "*conv_pw", "--json"]
    code, printed, err = rhm("adapt", trained, catalog_path, *words, "-o", runs, "--name", "said")
    assert code == 0, err
    values = json.loads(printed)
    assert set(values) == {
        *("run", "model", "adapter", "trained", "threshold", "validation", "seconds")
    }
    layers = [row for row in values["trained"] if row["rank"] is not None]
    assert layers
    assert all(row["name"].endswith("conv_pw") and row["rank"] == 2 for row in layers)
    assert {row["kind"] for row in values["trained"]} == {"Conv2d", "in full"}
    code, _, err = rhm("adapt", trained, catalog_path, *words, "-o", runs, "--name", "said")
    assert (code, "--resume" in err) == (2, True)


def test_everything_can_be_trained(
    rhm: Rhm, trained: Path, catalog_path: Path, bank_path: Path, runs: Path
) -> None:
    words = [*SMALL, *HERE, "--method", "full", "--bank", bank_path, "--learning-rate", 1e-3]
    code, printed, err = rhm("adapt", trained, catalog_path, *words, "-o", runs)
    assert code == 0, err
    assert "adapter: " not in printed
    assert len(printed.splitlines()) == 4
    config = (runs / "tiny-birch_satellite-full" / "config.yaml").read_text()
    assert "colour: rhm" in config
    assert "learning_rate: 0.001" in config


def test_the_analysis_shows_what_was_changed(
    rhm: Rhm, trained: Path, adapted: Path, catalog_path: Path, tmp_path: Path
) -> None:
    small = ["--images", 4, "--window", 96, "--split", "all", "--stage", "encoder[1]"]
    words = ["analyze", adapted / "model.safetensors", catalog_path, *small]
    code, printed, err = rhm(*words, "-o", tmp_path)
    assert code == 0, err
    said = [line for line in printed.splitlines() if "of its weight" in line]
    assert len(said) == 1
    page = (tmp_path / "index.html").read_text()
    assert 'id="adaptation"' in page
    assert page.count("Singular values of the updates of") >= 1
    (change,) = json.loads((tmp_path / "analysis.json").read_text())["adaptations"]
    assert change["method"] == "deep-lora"
    assert change["steps"] == [0, *range(1, 5)]
    norms = [layer["relative_norm"] for layer in change["layers"]]
    assert norms == sorted(norms, reverse=True)
    assert {each[-1] for each in change["angles"].values()} != {None}
    words = ["analyze", trained, catalog_path, *small, "-o", tmp_path / "plain"]
    assert rhm(*words)[0] == 0
    assert 'id="adaptation"' not in (tmp_path / "plain" / "index.html").read_text()


def test_an_input_is_not_overwritten(rhm: Rhm, trained: Path, adapted: Path) -> None:
    adapter = adapted / "adapter.safetensors"
    inputs = (adapter, adapter), (trained / "model.safetensors", adapter), (adapter, adapted)
    for output, given in inputs:
        before = output.read_bytes()
        code, _, err = rhm("merge", trained, given, "-o", output)
        assert (code, "would overwrite" in err, err.count("\n")) == (2, True, 1)
        assert output.read_bytes() == before


def test_the_file_of_a_named_model_is_not_overwritten(
    rhm: Rhm, trained: Path, adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert rhm("models", "add", trained, "--name", "town")[0] == 0
    file = tmp_path / "town" / "model.safetensors"
    before = file.read_bytes()
    code, _, err = rhm("merge", "town", adapted, "-o", file, "--overwrite")
    assert (code, err) == (2, f"rhm: --output would overwrite {file}, which is still needed\n")
    assert file.read_bytes() == before


def test_a_model_is_adapted_without_labels_and_the_adapter_is_one_to_predict_with(
    rhm: Rhm, trained: Path, catalog_path: Path, world: Path, tmp_path: Path
) -> None:
    words = ["adapt", trained, catalog_path, *MEASURED, *HERE, "-o", tmp_path, "--unlabelled"]
    code, printed, _ = rhm(*words)
    assert code == 0
    assert printed.startswith("measured: the threshold, ")
    run_folder = tmp_path / "tiny-birch_satellite-threshold"
    before, after = load_model(trained).spec.threshold, load_model(run_folder).spec.threshold
    assert f"{after:.3f} (before: {before:.3f})" in printed
    assert after != before
    adapter = run_folder / "adapter.safetensors"
    assert f"adapter: {adapter}" in printed
    scene = world / "scenes" / "birch_satellite.tif"
    for name, given in (("one", [trained, "--adapter", adapter]), ("other", [run_folder])):
        code, _, _ = rhm("predict", given[0], scene, "-o", tmp_path / name, *given[1:])
        assert code == 0
    results = [tmp_path / name / "birch_satellite_probability.tif" for name in ("one", "other")]
    with rasterio.open(results[0]) as first, rasterio.open(results[1]) as second:
        assert (first.read() == second.read()).all()


@pytest.mark.parametrize(
    ("method", "train", "name"),
    [
        ("entropy", None, "tiny-birch_satellite-entropy-batch-norm"),
        ("mean-teacher", None, "tiny-birch_satellite-mean-teacher-deep-lora"),
        ("shot", "full", "tiny-birch_satellite-shot-full"),
    ],
)
def test_training_without_labels_has_its_own_defaults(
    rhm: Rhm,
    trained: Path,
    catalog_path: Path,
    tmp_path: Path,
    method: str,
    train: str | None,
    name: str,
) -> None:
    words = ["adapt", trained, catalog_path, *SMALL, *HERE, "-o", tmp_path, "--unlabelled"]
    words += ["--method", method, *(["--train", train] if train else [])]
    code, printed, _ = rhm(*words)
    assert (code, printed.startswith("trained: ")) == (0, True)
    config = Run(tmp_path / name).config
    kind = train or config.adapter.method
    assert config.optimizer.learning_rate == SOURCE_FREE_RATES[kind]
    assert config.data.sources == ()
    before, after = load_model(trained).state_dict(), load_model(tmp_path / name).state_dict()
    head = [key for key in before if "segmentation_head" in key]
    assert all(torch.equal(before[key], after[key]) for key in head)
    assert not all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--unlabelled", "--method", "lora"], "without labels: choose entropy, mean-teacher"),
        (["--unlabelled", "--train", "full"], "threshold trains nothing"),
        (["--unlabelled", "--method", "adabn", "--train", "full"], "adabn trains nothing"),
        (["--unlabelled", "--method", "shot", "--train", "all"], "unknown --train 'all'"),
        (["--train", "full"], "--train applies to --unlabelled"),
        (["--method", "adabn"], "unknown method 'adabn': choose deep-lora"),
        (["--unlabelled", "--set", "target=3"], "target"),
        (["--unlabelled", "--method", "shot", "--domain", "nowhere"], "no domain 'nowhere'"),
        (
            ["--unlabelled", "--rank", "4", "--target", "all", "--learning-rate", "0.1"],
            "threshold trains nothing: leave out --steps, --learning-rate, --rank, --target, or "
            "choose --method entropy, mean-teacher, shot",
        ),
        (["--unlabelled", "--method", "adabn"], "adabn trains nothing: leave out --steps, or"),
        (
            ["--unlabelled", "--method", "entropy", "--rank", "2"],
            "batch-norm has no low-rank updates: leave out --rank, or choose --train deep-lora",
        ),
        (
            ["--method", "head", "--rank", "3", "--target", "attention"],
            "head has no low-rank updates: leave out --rank and --target, or choose --method "
            "deep-lora or lora",
        ),
        (["--method", "full", "--target", "bogus_*"], "full has no low-rank updates"),
        (["--chip", "8192"], "a multiple of 32 up to 4096"),
        (["--learning-rate", "0"], "learning_rate must be between 0 and 10"),
    ],
)
def test_what_has_no_effect_or_no_labels_is_one_line(
    rhm: Rhm, trained: Path, catalog_path: Path, tmp_path: Path, words: list[str], told: str
) -> None:
    code, printed, err = rhm("adapt", trained, catalog_path, *SMALL, *HERE, "-o", tmp_path, *words)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert told in err
    code, _, err = rhm("adapt", trained, catalog_path, "--unlabelled", "-o", tmp_path)
    assert (code, "name the --domain" in err) == (2, True)


@pytest.mark.parametrize("method", ["threshold", "adabn", "entropy", "shot"])
def test_chips_that_keep_their_colours_need_no_bank(
    rhm: Rhm, trained: Path, catalog_path: Path, bank_path: Path, tmp_path: Path, method: str
) -> None:
    words = [*SMALL, *HERE, "-o", tmp_path, "--unlabelled", "--method", method, "--bank", bank_path]
    code, printed, err = rhm("adapt", trained, catalog_path, *words)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert f"{method} sees chips in their own colours: leave out --bank" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("steps", "every"), [(300, 50), (60, 10), (307, 307), (13, 13), (8, 2)])
def test_validations_are_about_six(steps: int, every: int) -> None:
    assert _validate_every(steps) == every


def test_settings_that_were_not_made_follow_those_that_were(trained: Path) -> None:
    tree: dict[str, Any] = {
        "data": {"sources": ["las vegas"]},
        "adapter": {"method": "lora"},
        "trainer": {"steps": 9},
    }
    _complete(tree, trained)
    assert tree["name"] == "tiny-las_vegas-lora"
    assert tree["optimizer"] == {"learning_rate": LEARNING_RATES["lora"]}
    assert tree["trainer"]["validate_every"] == 3
    assert tree["model"] == {"threshold": load_model(trained).spec.threshold}
    many: dict[str, Any] = {**tree, "data": {"sources": [f"town number {n}" for n in range(50)]}}
    del many["name"]
    _complete(many, trained)
    assert many["name"] == "tiny-50-domains-lora"
    odd: dict[str, Any] = {**tree, "data": {"sources": 3}}
    del odd["name"]
    _complete(odd, trained)
    assert odd["name"] == "tiny-lora"
    broken = {**tree, "optimizer": 3}
    _complete(broken, trained)
    assert broken["optimizer"] == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--method", "dora"], "unknown method 'dora': choose deep-lora, lora"),
        (["--rank", "3"], "the rank of Deep LoRA must be even"),
        (["--target", "encodr"], "no layer of the network matches the target 'encodr'"),
        (["--target", "*conv_dw", "--rank", "64"], "rank 64 is above that of"),
        (["--set", "adapter.ranks=3"], "adapter.ranks: unknown key, did you mean 'rank'"),
        (["--set", "nothing"], "--set needs section.key=value"),
        (["--set", "adapter.base=null"], "adapter.base cannot be set"),
        (
            ["--set", "adapter.base=other"],
            "adapter.base cannot be set: it is the model of the command line",
        ),
        (["--set", "optimizer=3"], "optimizer"),
        (["--set", "data.sources=3"], "data.sources"),
        (["--set", "trainer.steps=x"], "trainer.steps"),
        (["--rank", "60000"], "rank 60000 is above that of every layer"),
        (["--target", "encoder", "--target", "typo*"], "the target 'typo*'"),
        (["--domain", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_adapted_is_one_line(
    rhm: Rhm, trained: Path, catalog_path: Path, runs: Path, words: list[str], told: str
) -> None:
    given = ["adapt", trained, catalog_path, *SMALL, *HERE, "-o", runs, "--name", "bad", *words]
    code, printed, err = rhm(*given)
    assert (code, printed) == (2, "")
    assert told in err
    assert err.count("\n") == 1
    assert not (runs / "bad" / "config.yaml").exists()


def test_a_foreign_adapter_is_one_line(
    rhm: Rhm, trained: Path, adapted: Path, world: Path, tmp_path: Path
) -> None:
    scene, out = world / "scenes" / "birch_satellite.tif", tmp_path / "out"
    for adapter, told in (
        (tmp_path / "nothing", "no adapter at"),
        (trained / "model.safetensors", "an adapter: it has no description of an adapter"),
    ):
        code, _, err = rhm("predict", trained, scene, "-o", out, "--adapter", adapter)
        assert (code, told in err, err.count("\n")) == (2, True, 1)
    words = ["merge", adapted, adapted / "adapter.safetensors", "-o", tmp_path / "x.safetensors"]
    code, _, err = rhm(*words)
    assert (code, "made for another base model" in err) == (2, True)
    assert not list(tmp_path.glob("x*"))


def test_a_bank_that_does_not_know_the_waves_of_chips_is_noted(
    rhm: Rhm,
    trained: Path,
    catalog_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fit(*_: object, **__: object) -> None:
        raise ConfigError("that was all")

    monkeypatch.setattr("rhm.training.fitting.fit", fit)
    image = np.arange(128 * 128 * 3, dtype=np.uint8).reshape(128, 128, 3)
    bank = HistogramBank.from_images([image], spectrum_px=128)
    (spectrum,) = bank.spectra
    assert spectrum is not None
    path = tmp_path / "target.bank"
    HistogramBank(bank.entries, spectra=[replace(spectrum, gsd_m=9.0)]).save(path)
    words = ["adapt", trained, catalog_path, *SMALL, *HERE[:-1], "--bank", path]
    told = "rhm: that was all\n"
    assert rhm(*words)[2] == told
    err = rhm(*words, "--set", "augment.colour=spectrum")[2]
    assert "1 of 1 spectra in the bank were measured at 9 m per pixel, and" in err
    assert err.endswith(told)
