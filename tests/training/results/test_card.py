"""The card of a model: whatever names are, they end no table and no code."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rhm.models.build import SegmentationModel
from rhm.models.model_file import save_model
from rhm.models.spec import ModelSpec
from rhm.training.base_model import base_model, with_base
from rhm.training.config import RunConfig
from rhm.training.fitting import build_model
from rhm.training.imagery import gather
from rhm.training.results.card import model_card

Make = Callable[..., RunConfig]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model that was never trained."""
    path = tmp_path / "base.safetensors"
    save_model(SegmentationModel(ModelSpec("unet", "test_efficientnet", 3, gsd_m=0.4)), path)
    return path


def test_hostile_names_are_text(tiny: Make) -> None:
    config = tiny("named")
    material = gather(config)
    hostile = "a`|<script>alert(1)</script>\n# b"
    train, val = (
        [replace(tile, domain=hostile) for tile in part] for part in (material.train, material.val)
    )
    frame = material.catalog.frame.assign(domain=hostile)
    material = replace(material, train=train, val=val, catalog=type(material.catalog)(frame))
    spec = replace(build_model(config, material).spec, sources=(hostile,))
    card = model_card(spec, config, material, {"iou": 0.5})
    assert "<script>" not in card
    assert "\n# b" not in card
    assert "| `a???script?alert(1)?/script??# b` |" in card
    rows = [line for line in card.splitlines() if line.startswith("| `a")]
    assert [row.count("|") for row in rows] == [9]


def test_what_is_not_known_is_said(tiny: Make) -> None:
    config = tiny("unknown")
    config = config.model_copy(update={"model": replace(config.model, threshold=None)})
    material = gather(config)
    spec = replace(build_model(config, material).spec, gsd_m=None)
    card = model_card(spec, config, material, {})
    assert "and an unknown ground sampling distance" in card
    assert "There were no validation images." in card
    assert "no validation images to choose it on" in card
    assert "--resample" not in card


@pytest.mark.parametrize("method", ["threshold", "adabn"])
def test_what_was_not_trained_has_no_steps(tiny: Make, base: Path, method: str) -> None:
    target = {"domains": ["birch_satellite"], "method": method, "source_free": True}
    config = tiny("steps", adapter={"base": str(base)}, target=target, data={"sources": []})
    config = with_base(config).model_copy(update={"output": "my runs"})
    material = gather(config)
    card = model_card(base_model(config, material).spec, config, material, {})
    for word in ("| steps |", "| chips |", "| loss |", "| learning rate |", "adaptation method"):
        assert word not in card
    assert f"| method without labels | `{method}` |" in card
    assert "\n| `birch_satellite` |" in card  # in the table of imagery
    # The card travels with the model.
    assert "rhm predict MODEL SCENE.tif" in card
    assert "my runs" not in card


def test_the_licence_of_a_base_is_not_that_of_new_imagery(tiny: Make, base: Path) -> None:
    given = {"adapter": {"base": str(base), "method": "lora"}}
    silent, told = tiny(**given), tiny(**given, data={"licence": "ODbL-1.0"})
    material = gather(silent)
    spec = replace(base_model(silent, material).spec, licence="CC-BY-4.0")
    assert "labels of the base model: `CC-BY-4.0`" in model_card(spec, silent, material, {})
    assert "imagery and labels: `CC-BY-4.0`." in model_card(spec, told, material, {})
