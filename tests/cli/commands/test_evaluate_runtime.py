"""``rhm evaluate`` scores by the runtime that would predict, and records it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rhm.data.catalog import Catalog
from rhm.evaluation import evaluate_model
from rhm.evaluation.score_files import read_scores
from rhm.inference.runtime import selection
from rhm.inference.runtime.runtimes import RUNTIMES
from rhm.models.model_file import load_model
from rhm.records import plain, to_json
from tests.inference.networks import needs_onnx

Rhm = Callable[..., tuple[int, str, str]]
DOMAIN = "alder_aerial"


def scores(rhm: Rhm, trained: Path, catalog: Path, folder: Path, *words: object) -> dict[str, Any]:
    asked = ["evaluate", trained, catalog, "--domain", DOMAIN, "--device", "cpu", "-o", folder]
    code, printed, said = rhm(*asked, *words, "--json")
    assert code == 0, said
    (run,) = json.loads(printed)["runs"]
    assert run == json.loads(to_json(read_scores(folder), indent=1))
    found: dict[str, Any] = undated(run)
    return found


def undated(value: Any) -> Any:
    """Leave out when anything was evaluated."""
    if isinstance(value, dict):
        return {name: undated(each) for name, each in value.items() if name != "created"}
    return [undated(each) for each in value] if isinstance(value, list) else value


def test_torch_gives_the_scores_of_the_model_itself(
    rhm: Rhm, catalog_path: Path, trained: Path, tmp_path: Path
) -> None:
    """Oracle: the model as it is loaded, which no runtime was chosen for."""
    model, catalog = load_model(trained), Catalog.load(catalog_path)
    expected = evaluate_model(
        model,
        catalog,
        tmp_path / "plain",
        name=trained.name,
        catalog_path=str(catalog_path),
        domains=[DOMAIN],
    )
    assert expected.runtime == "torch"
    found = scores(rhm, trained, catalog_path, tmp_path / "torch", "--runtime", "torch")
    assert found == undated(json.loads(json.dumps(plain(expected))))


@needs_onnx
def test_auto_scores_much_by_what_would_predict_it(
    rhm: Rhm, catalog_path: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = scores(rhm, trained, catalog_path, tmp_path / "few")
    assert few["runtime"] == "torch"  # as `rhm predict` would do with so little
    monkeypatch.setitem(RUNTIMES, "onnx", replace(RUNTIMES["onnx"], worthwhile_px=1))
    monkeypatch.setattr(selection, "AUTO", ("onnx",))
    many = scores(rhm, trained, catalog_path, tmp_path / "many")
    assert many["runtime"] == "onnx"
    (domain,), (other,) = few["domains"], many["domains"]
    assert (domain["runtime"], other["runtime"]) == ("torch", "onnx")
    assert other["pixel"]["iou"]["value"] == pytest.approx(
        domain["pixel"]["iou"]["value"], abs=0.01
    )
    assert other["calibration"]["ece"] == pytest.approx(domain["calibration"]["ece"], abs=1e-4)


def test_an_unknown_runtime_is_one_line(rhm: Rhm, catalog_path: Path, trained: Path) -> None:
    code, printed, said = rhm("evaluate", trained, catalog_path, "--runtime", "abacus")
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert "unknown runtime 'abacus': choose auto, torch, onnx" in said
