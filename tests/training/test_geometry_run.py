"""A run with every geometric augmentation trains, resumes, and says what it did."""

from collections.abc import Callable
from typing import Any

from rhm.models.spec import load_spec
from rhm.training.config import RunConfig
from rhm.training.fitting import fit
from rhm.training.run import Run

GEOMETRY: dict[str, Any] = {"scale": [0.6, 1.6], "paste": 0.5}


def test_it_trains_and_names_its_geometry(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(
        "geometry",
        augment={"geometry": GEOMETRY, "colour": "gamma"},
        trainer={"steps": 2, "batch_size": 2},
    )
    run = fit(config)
    assert load_spec(str(run.model)).method == "gamma, scale, paste"
    card = (run.folder / "card.md").read_text(encoding="utf-8")
    assert "| geometric augmentation | `scale`, `paste` |" in card
    assert run.config.augment == config.augment
    # Finished: a resumed run finds its own configuration and has nothing left to do.
    assert fit(config, resume=True).folder == run.folder


def test_a_plain_run_is_named_as_ever(stored: Callable[..., Run]) -> None:
    run = stored()
    assert load_spec(str(run.model)).method == "none"
    assert "geometric augmentation" not in (run.folder / "card.md").read_text(encoding="utf-8")
