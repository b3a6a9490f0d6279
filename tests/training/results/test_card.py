"""The card of a model: whatever names are, they end no table and no code."""

from collections.abc import Callable
from dataclasses import replace

from rhm.training.config import RunConfig
from rhm.training.fitting import build_model
from rhm.training.imagery import gather
from rhm.training.results.card import model_card

Make = Callable[..., RunConfig]


def test_hostile_names_are_text(tiny: Make) -> None:
    config = tiny("named")
    material = gather(config)
    hostile = "a`|<script>alert(1)</script>\n# b"
    train = [replace(tile, domain=hostile) for tile in material.train]
    frame = material.catalog.frame.assign(domain=hostile)
    material = replace(material, train=train, catalog=type(material.catalog)(frame))
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
