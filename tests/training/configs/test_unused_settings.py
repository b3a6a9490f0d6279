"""Settings that change nothing are told; those that change something are not."""

from typing import Any

import pytest

from rhm.errors import ConfigError
from rhm.training.config import parse_config, read_config
from rhm.training.configs.named_configs import named_configs
from rhm.training.configs.unused_settings import unused_settings

GOOD: dict[str, Any] = {"name": "x", "data": {"catalog": "c.parquet"}}
BANK = {"colour": "rhm", "bank": "b.bank"}
ALONE = {"base": "m.safetensors", "method": "head"}
TARGET = {"domains": ["town"], "method": "entropy"}


@pytest.mark.parametrize(
    ("unused", "used", "told"),
    [
        (
            {"augment": BANK | {"colour": "spectrum", "blend": [0.5, 1.0]}},
            {"augment": BANK | {"colour": "spectrum | rhm", "blend": [0.5, 1.0]}},
            "augment.blend needs augment.colour rhm",
        ),
        (
            {"augment": BANK | {"colour": "spectrum", "statistics": "scene"}},
            {"augment": BANK | {"colour": "mean-std", "statistics": "scene"}},
            "augment.statistics needs augment.colour rhm or mean-std",
        ),
        (
            {"augment": BANK | {"beta": [0.0, 0.05]}},
            {"augment": BANK | {"colour": "rhm + spectrum", "beta": [0.0, 0.05]}},
            "augment.beta needs augment.colour fda or spectrum",
        ),
        (
            {"augment": {"colour": "hsv", "shifts": ["gamma"]}},
            {"augment": {"colour": "shift", "shifts": ["gamma"]}},
            "augment.shifts needs augment.colour shift",
        ),
        (
            {"augment": BANK | {"targets": ["nowhere"]}},
            {"augment": {"colour": "fda", "targets": ["nowhere"]}},
            "augment.targets needs augment.colour fda",
        ),
        (
            {"loss": {"focal_gamma": 3.0}},
            {"loss": {"name": "focal-dice", "focal_gamma": 3.0}},
            "loss.focal_gamma needs a focal loss",
        ),
        (
            {"loss": {"tversky_alpha": 0.5}},
            {"loss": {"name": "tversky", "tversky_alpha": 0.5}},
            "loss.tversky_alpha needs loss.name tversky",
        ),
        (
            {"loss": {"boundary_px": 3}},
            {"loss": {"boundary_px": 3, "boundary_weight": 2.0}},
            "loss.boundary_px needs loss.boundary_weight",
        ),
        (
            {"data": GOOD["data"] | {"contact_px": 6}, "model": {"separation": "boundary"}},
            {"data": GOOD["data"] | {"contact_px": 6}, "model": {"separation": "contact"}},
            "data.contact_px needs model.separation contact",
        ),
        (
            {"adapter": ALONE | {"method": "lora", "depth": 2}},
            {"adapter": ALONE | {"method": "deep-lora", "depth": 2}},
            "adapter.depth needs adapter.method deep-lora",
        ),
        (
            {"target": TARGET | {"decay": 0.9}},
            {"target": TARGET | {"method": "mean-teacher", "decay": 0.9}},
            "target.decay needs target.method mean-teacher",
        ),
        (
            {"target": TARGET | {"method": "mean-teacher", "paste_margin_px": 2}},
            {
                "target": TARGET
                | {"method": "mean-teacher", "paste": "instances", "paste_margin_px": 2}
            },
            "target.paste_margin_px needs target.paste",
        ),
    ],
)
def test_a_setting_without_what_it_needs_is_told(
    unused: dict[str, Any], used: dict[str, Any], told: str
) -> None:
    config = parse_config(GOOD | unused)  # as runs of earlier versions are read
    assert list(unused_settings(config)) == [told]
    with pytest.raises(ConfigError, match="it changes nothing here, so leave it out"):
        config.refuse_unused()
    parse_config(GOOD | used).refuse_unused()


def test_a_run_to_compare_with_may_have_the_settings_of_the_others() -> None:
    augment = {"blend": [0.5, 1.0], "beta": [0.0, 0.05], "statistics": "scene", "p": 0.5}
    adapter = ALONE | {"rank": 4, "depth": 2, "targets": "encoder"}
    others = {"augment": augment, "adapter": adapter, "loss": {"separation_weight": 2.0}}
    others |= {"target": {"domains": ["town"], "decay": 0.9}}
    parse_config(GOOD | others).refuse_unused()


def test_what_comes_with_rhm_has_no_such_setting() -> None:
    for name in named_configs():
        read_config(name).refuse_unused()
