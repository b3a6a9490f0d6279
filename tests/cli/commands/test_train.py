"""``rhm train``: what the command line says overrides the file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

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
