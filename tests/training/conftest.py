"""Configurations that train in a second, and what they trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rhm.training.config import RunConfig, parse_config
from rhm.training.fitting import fit
from rhm.training.run import Run
from tests.stored import key_of, made_once

Sections = dict[str, Any]


def tree_of(catalog: Path, output: Path, name: str, sections: Sections) -> Sections:
    """A configuration of four steps of a small network on small chips, with changes."""
    tree: Sections = {
        "name": name,
        "output": str(output),
        "data": {
            "catalog": str(catalog),
            "sources": ["alder_aerial"],
            "chip_px": 64,
            "workers": 0,
        },
        # timm's network for tests: an eighth of the parameters, a third of the time.
        "model": {"encoder": "test_efficientnet", "weights": "none"},
        "trainer": {
            "steps": 4,
            "validate_every": 2,
            "batch_size": 4,
            "accelerator": "cpu",
        },
    }
    for section, values in sections.items():
        tree[section] = tree.get(section, {}) | values if isinstance(values, dict) else values
    return tree


@pytest.fixture
def tiny(catalog_path: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    """Make a configuration of four steps on small chips; sections are given as keywords."""

    def make(name: str = "tiny", **sections: Any) -> RunConfig:
        return parse_config(tree_of(catalog_path, tmp_path / "runs", name, sections))

    return make


@pytest.fixture(scope="session")
def stored(catalog_path: Path, shared: Path) -> Callable[..., Run]:
    """Return the run of a configuration, trained once for all tests that read it."""

    def run(name: str = "stored", **sections: Any) -> Run:
        folder = shared / f"runs-{key_of({'name': name} | sections)}"
        config = parse_config(tree_of(catalog_path, folder, name, sections))
        made_once(folder, lambda: fit(config))
        return Run(config.folder)

    return run
