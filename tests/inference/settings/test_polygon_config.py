"""How probabilities become footprints: Python changes nothing unasked, maps get tidy outlines."""

from dataclasses import fields
from typing import Any

import pytest

from rhm.errors import ConfigError
from rhm.inference.settings.option import options_of
from rhm.inference.settings.polygon_config import PolygonConfig, share_of, threshold_of


def test_every_setting_is_an_option_that_has_a_least_value() -> None:
    """So that no negative length or area goes unnoticed."""
    known = options_of(PolygonConfig)
    assert list(known) == [each.name for each in fields(PolygonConfig)]
    assert all(each.least == 0 for each in known.values())


def test_python_leaves_outlines_as_they_were_traced() -> None:
    config = PolygonConfig()
    # Only models with classes for it separate buildings, and then they should.
    others = ("threshold", "separate")
    unasked = {name: getattr(config, name) for name in options_of(config) if name not in others}
    assert set(unasked.values()) == {0.0}


def test_the_command_line_makes_footprints_for_maps() -> None:
    defaults = {
        name: known.command_default(getattr(PolygonConfig, name))
        for name, known in options_of(PolygonConfig).items()
    }
    assert defaults == {
        # Open, so that the threshold that the model was calibrated to is taken.
        "threshold": None,
        "min_area_m2": 5.0,
        "simplify_m": 0.5,
        "min_score": 0.0,
        "regularize_m": 0.0,
        "split_m": 3.0,
        "separate": 0.3,
    }


@pytest.mark.parametrize("name", ["threshold", "min_score"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_probabilities_may_be_certain(name: str, value: float) -> None:
    assert getattr(PolygonConfig(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"threshold": 1.01}, "threshold must be between 0 and 1, got 1.01"),
        ({"min_score": -0.1}, "min_score must be between 0 and 1, got -0.1"),
        ({"min_area_m2": -1.0}, "min_area_m2 must be at least 0, got -1.0"),
        ({"simplify_m": float("inf")}, "simplify_m must be a finite number of at least 0, got inf"),
        (
            {"regularize_m": float("nan")},
            "regularize_m must be a finite number of at least 0, got nan",
        ),
        ({"split_m": -3.0}, "split_m must be at least 0, got -3.0"),
    ],
)
def test_what_is_no_length_or_probability_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PolygonConfig(**values)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("text", "share"), [("40%", 0.4), ("2.5 %", 0.025), ("99.9%", 0.999), ("0.4", None)]
)
def test_a_share_is_a_percentage(text: str, share: float | None) -> None:
    assert share_of(text) == (None if share is None else pytest.approx(share))
    assert threshold_of(text) == (text if share else 0.4)


@pytest.mark.parametrize("text", ["0%", "100%", "-3%", "%", "4%%", "1e1%", "nan%", "\u0664%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a share of building pixels such as 40%"):
        PolygonConfig(threshold=text)
