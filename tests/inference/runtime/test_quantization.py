"""Kept quantisations: beside the model or in the cache, for its weights only, and never trusted."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import rhm
from rhm.inference.runtime.quantization import (
    MOST_LOSS,
    Quantization,
    _files,
    keep_quantization,
    kept_quantization,
)
from rhm.models.model_file import save_model
from rhm.system import CACHE_VARIABLE
from tests.inference.networks import built

FOUND = Quantization(
    weights="0123456789abcdef0123",
    ranges={"images": (-1.0, 1.0), "logits": (-9.5, 8.25)},
    tiles=4,
    measure="expected",
    before=0.9,
    after=0.895,
    agreement=0.99,
)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "run" / "model.safetensors"
    path.parent.mkdir()
    save_model(built(), path)
    return path


def test_it_is_kept_beside_the_model_for_its_weights(model: Path) -> None:
    file = keep_quantization(model, FOUND)
    assert file == model.with_name("model.int8-0123456789abcdef.json")
    assert kept_quantization(model, FOUND.weights) == FOUND
    assert kept_quantization(model.parent, FOUND.weights) == FOUND
    assert kept_quantization(model, "0123456789abcdef9999") is None
    assert kept_quantization(model, "other") is None


def test_where_the_folder_is_read_only_it_is_kept_in_the_cache(model: Path) -> None:
    beside = model.with_name("model.int8-0123456789abcdef.json")
    beside.mkdir()  # root may write to any folder, but nobody to this path
    (beside / "file").touch()
    file = keep_quantization(model, FOUND)
    assert file is not None
    assert "cache" in file.parts
    assert kept_quantization(model, FOUND.weights) == FOUND


@pytest.mark.parametrize(
    "changes",
    [
        {"ranges": {"logits": [1]}},
        {"ranges": {"logits": ["a", 1.0]}},
        {"ranges": None},
        {"format": 2},
        {"after": 0.5},
        {"before": "0.9"},
    ],
)
def test_what_does_not_fit_is_as_if_it_were_not_there(model: Path, changes: dict[str, Any]) -> None:
    file = keep_quantization(model, FOUND)
    assert file is not None
    file.write_text(json.dumps(asdict(FOUND) | changes))
    assert kept_quantization(model, FOUND.weights) is None
    file.write_text("{")
    assert kept_quantization(model, FOUND.weights) is None


def test_the_key_changes_with_the_ranges_and_with_nothing_else() -> None:
    assert replace(FOUND, after=0.9, tiles=1).key == FOUND.key
    turned = dict(reversed(FOUND.ranges.items()))
    assert replace(FOUND, ranges=turned).key == FOUND.key
    assert replace(FOUND, ranges=FOUND.ranges | {"logits": (-9.5, 8.5)}).key != FOUND.key


def test_the_loss_is_told() -> None:
    assert FOUND.loss == pytest.approx(0.005)
    assert FOUND.loss < MOST_LOSS
    assert "expected IoU 0.9000 before and 0.8950 after" in FOUND.told()
    labelled = replace(FOUND, measure="validation")
    assert "IoU on labelled images 0.9000 before" in labelled.told()


def test_nothing_is_kept_in_the_installation() -> None:
    (only,) = _files("starter", "0" * 64)
    assert not only.is_relative_to(Path(rhm.__file__).parent)
