"""``rhm train``: what the command line says overrides the file."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.spectra.spectrum import Spectrum
from rhm.data.catalog import Catalog
from rhm.errors import ConfigError
from rhm.models.spec import load_spec
from rhm.training.config import read_config

Rhm = Callable[..., tuple[int, str, str]]


@pytest.fixture
def config(catalog_path: Path, tmp_path: Path) -> Path:
    """A configuration of two steps."""
    path = tmp_path / "config.yaml"
    path.write_text(
        f"name: plain\noutput: {tmp_path / 'elsewhere'}\n"
        f"data: {{catalog: {catalog_path}, sources: [alder_aerial], chip_px: 32, workers: 0}}\n"
        "model: {encoder: test_efficientnet, weights: none}\n"
        "trainer: {steps: 2, batch_size: 2, accelerator: cpu}\n"
    )
    return path


def test_options_override_the_file(rhm: Rhm, config: Path, bank_path: Path, tmp_path: Path) -> None:
    words = ["--name", "said", "--seed", 7, "-o", tmp_path / "runs", "--bank", bank_path]
    changed = ["--set", "trainer.steps=1", "--set", "optimizer.learning_rate=2e-4"]
    code, printed, err = rhm("train", config, *words, *changed, "--json")
    assert code == 0, err
    folder = tmp_path / "runs" / "said"
    model = folder / "model.safetensors"
    told = json.loads(printed)
    assert (told["run"], told["model"]) == (str(folder), str(model))
    assert told["threshold"] == load_spec(model).threshold
    stored = read_config(folder / "config.yaml")
    assert (stored.name, stored.seed, stored.trainer.steps) == ("said", 7, 1)
    assert stored.optimizer.learning_rate == 2e-4
    assert (load_spec(model).method, load_spec(model).seed) == ("rhm, scale", 7)
    assert not (tmp_path / "elsewhere").exists()


def test_common_settings_have_options_of_their_own(
    rhm: Rhm, config: Path, catalog_path: Path, tmp_path: Path
) -> None:
    config.write_text(config.read_text().replace(str(catalog_path), "nowhere.parquet"))
    words = ["--steps", 1, "--batch-size", 3, "--learning-rate", 3e-4, "--catalog", catalog_path]
    code, _, err = rhm("train", config, *words, "-o", tmp_path / "runs", "--quiet")
    assert code == 0, err
    stored = read_config(tmp_path / "runs" / "plain" / "config.yaml")
    assert (stored.trainer.steps, stored.trainer.batch_size) == (1, 3)
    assert (stored.optimizer.learning_rate, stored.data.catalog) == (3e-4, str(catalog_path))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--set", "trainer.stepz=1"], "trainer.stepz"),
        (["--set", "trainer"], "section.key=value"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    rhm: Rhm, config: Path, words: list[str], told: str
) -> None:
    code, printed, err = rhm("train", config, *words)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert told in err


def test_a_run_that_never_began_begins(rhm: Rhm, config: Path, tmp_path: Path) -> None:
    words = ["--steps", 1, "-o", tmp_path / "runs", "--resume"]
    code, _, err = rhm("train", config, *words)
    assert code == 0, err
    assert "there is no run at" in err
    code, _, err = rhm("train", config, *words)
    assert code == 0, err
    assert "there is no run at" not in err


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every run end where its training would begin."""

    def fit(*_: object, **__: object) -> None:
        raise ConfigError("that was all")

    monkeypatch.setattr("rhm.training.fitting.fit", fit)


@pytest.mark.usefixtures("untrained")
def test_a_model_that_will_not_know_its_resolution_is_noted(
    rhm: Rhm, config: Path, catalog_path: Path, tmp_path: Path
) -> None:
    unknown = tmp_path / "unknown.parquet"
    Catalog(Catalog.load(catalog_path).frame.assign(gsd_m=math.nan)).save(unknown)
    _, printed, err = rhm("train", config, "--catalog", unknown)
    note, last = err.splitlines()
    assert (printed, last) == ("", "rhm: that was all")
    assert note.startswith("no training image says its metres per pixel, so the model will take")
    assert note.endswith("set data.gsd_m to that of the images")
    told = "rhm: that was all\n"
    assert rhm("train", config, "--catalog", unknown, "--set", "data.gsd_m=1.0")[2] == told
    assert rhm("train", config, "--catalog", unknown, "--quiet")[2] == told
    assert rhm("train", config)[2] == told


@pytest.mark.usefixtures("untrained")
def test_domains_that_are_only_left_out_are_noted(rhm: Rhm, config: Path) -> None:
    domain = "--set", "target.domains=[birch_satellite]"
    note, _ = rhm("train", config, *domain, "--set", "data.sources=[]")[2].splitlines()
    assert note == (
        "nothing is learned from target.domains without target.method, and their labels are left "
        "out"
    )
    note, _ = rhm("train", config, *domain, "--set", "data.sources=[alder_aerial]")[2].splitlines()
    assert note == "nothing is learned from target.domains without target.method"
    learned = "--set", "target.method=entropy"
    assert "nothing is learned" not in rhm("train", config, *domain, *learned)[2]


@pytest.mark.usefixtures("untrained")
def test_a_bank_that_does_not_know_the_waves_of_chips_is_noted(
    rhm: Rhm, config: Path, tmp_path: Path
) -> None:
    """Law: by more than 1.5 times, at either end; where a resolution is unknown, no word."""
    image = np.random.default_rng(0).integers(0, 255, (128, 128, 3)).astype(np.uint8)
    (entry,) = HistogramBank.from_images([image]).entries
    found = Spectrum.of_image(image)
    assert found is not None
    # The shortest waves have 10.7 pixels in windows of 128 pixels, and 2.7 in those of 32.
    assert found.waves_px == (32 / 12, 128)

    def told(*spectra: Spectrum, words: tuple[str, ...] = ()) -> list[str]:
        path = tmp_path / "target.bank"
        HistogramBank([entry] * len(spectra), spectra=spectra).save(path)
        err = rhm("train", config, "--bank", path, "--set", "data.gsd_m=0.9", *words)[2]
        return err.splitlines()[:-1]

    def alone(*measured: float | None) -> list[Spectrum]:
        return [Spectrum(found.side, found.amplitudes, gsd_m) for gsd_m in measured]

    def all_windows(*measured: float | None) -> list[Spectrum]:
        return [replace(found, gsd_m=gsd_m) for gsd_m in measured]

    # Chips of 32 pixels of 0.9 m have waves of 9 to 28.8 m.
    coarse, narrow = told(*alone(0.14, 0.8, 0.1, None, 1.3))
    assert coarse == (
        "1 of 5 spectra in the bank were measured at 1.3 m per pixel, and the chips have 0.9 m, so "
        "many of their waves are unknown and stay as they are: build the bank with --gsd 0.9"
    )
    assert narrow == (
        "2 of 5 spectra in the bank know no waves longer than 13 to 18 m, and the chips are 29 m "
        "wide, so their longer waves stay as they are: build the bank again, with this version of "
        "rhm"
    )
    assert told(*alone(0.16, 1.2, None)) == []
    assert told(*all_windows(0.16, 5.0, None)) == []
    (note,) = told(*all_windows(5.2, 6.0))
    assert "2 of 2 spectra in the bank were measured at 5.2 to 6 m per pixel, and" in note
    # The image has no longer waves, or larger windows than the largest would have them.
    (note,) = told(*all_windows(0.14))
    assert note.endswith("stay as they are: larger images, such as mosaics, have them")
    largest = {**found.others, 16 * 128: np.ones((3, 5, 3), np.float32)}
    assert told(replace(found, gsd_m=0.01, others=largest)) == []
    bounded = replace(found, gsd_m=0.009, others=largest)
    (note,) = told(bounded)
    assert note.endswith("stay as they are: build the bank with --gsd 0.9")
    # Each cause has its own advice.
    notes = told(*alone(0.1), bounded, *all_windows(0.14, 0.1), *alone(0.12))
    assert [each.split()[0] for each in notes] == ["2", "1", "2"]
    (note,) = told(*alone(0.16), words=("--set", "data.chip_px=64"))
    assert "know no waves longer than 20 m, and the chips are 58 m wide" in note
    (note,) = told(*alone(1.0, 1.1), words=("--set", "data.chip_px=512"))
    assert "know no waves longer than 128 to 141 m, and the chips are 461 m wide" in note
    assert told(*alone(1.3), words=("--set", "augment.beta=[0, 0.05]")) == []
    assert told(*alone(0.1, 1.3), words=("--set", "augment.beta=[0, 0]")) == []
    assert told(*alone(0.1), words=("--set", "augment.colour=rhm")) == []


def test_a_bank_is_compared_with_the_images_where_no_resolution_is_set(
    rhm: Rhm, config: Path, catalog_path: Path, untrained: None, tmp_path: Path
) -> None:
    tiles = Catalog.load(catalog_path).select(domains=["alder_aerial"]).tiles
    own = tiles[0].gsd_m
    assert own is not None
    image = np.zeros((128, 128, 3), np.uint8)
    image[::2] = 9
    found = Spectrum.of_image(image)
    assert found is not None
    (entry,) = HistogramBank.from_images([image]).entries
    path = tmp_path / "target.bank"
    for factor, notes in ((1.0, 0), (6.0, 1)):
        spectrum = replace(found, gsd_m=factor * own)
        HistogramBank([entry], spectra=[spectrum]).save(path)
        err = rhm("train", config, "--bank", path)[2]
        assert err.count("--gsd") == notes
