"""A configuration that trains in seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rhm.training.config import RunConfig, parse_config


@pytest.fixture
def tiny(catalog_path: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    """Make a configuration of four steps on small chips; sections are given as keywords."""

    def make(name: str = "tiny", **sections: Any) -> RunConfig:
        tree: dict[str, Any] = {
            "name": name,
            "output": str(tmp_path / "runs"),
            "data": {
                "catalog": str(catalog_path),
                "sources": ["alder_aerial"],
                "chip_px": 64,
                "workers": 0,
            },
            "trainer": {
                "steps": 4,
                "validate_every": 2,
                "batch_size": 4,
                "accelerator": "cpu",
            },
        }
        for section, values in sections.items():
            tree[section] = tree.get(section, {}) | values if isinstance(values, dict) else values
        return parse_config(tree)

    return make
