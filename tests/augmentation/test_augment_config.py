"""The section ``augment``: what it refuses, in one line, and what it is called in reports."""

from typing import Any

import pytest

from rhm.augmentation.augment_config import AugmentConfig
from rhm.augmentation.colours import COLOUR
from rhm.augmentation.geometry import GEOMETRY
from rhm.errors import ConfigError
from rhm.training.config import RunConfig, parse_config, read_config


def run(**augment: Any) -> RunConfig:
    tree = {"name": "x", "data": {"catalog": "c.parquet"}, "augment": augment}
    return parse_config(tree)


def test_flips_alone_are_the_default_and_stay_beside_others() -> None:
    assert AugmentConfig().geometry == {"scale": None, "paste": None, "flips": True}
    config = run(geometry={"scale": [0.6, 1.6]}).augment
    assert config.geometry == {"scale": (0.6, 1.6), "paste": None, "flips": True}


def test_a_configuration_is_read_back_as_it_was_written(tmp_path: Any) -> None:
    for geometry in ({}, {"flips": False}, {"scale": [0.5, 2], "paste": 0.3}):
        config = run(geometry=geometry)
        path = tmp_path / "config.yaml"
        path.write_text(config.to_yaml(), encoding="utf-8")
        assert read_config(path) == config
        # What a run compares when it is resumed.
        assert read_config(path).model_dump() == config.model_dump()


def test_a_setting_names_one_augmentation_and_leaves_the_others(tmp_path: Any) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("name: x\ndata: {catalog: c}\naugment: {geometry: {paste: 0.2}}\n")
    config = read_config(path, ["augment.geometry.scale=[0.8, 1.25]"])
    assert config.augment.geometry == {"scale": (0.8, 1.25), "paste": 0.2, "flips": True}


@pytest.mark.parametrize(
    ("augment", "names"),
    [
        ({}, ()),
        ({"colour": "gamma"}, ("gamma",)),
        ({"geometry": {"scale": [0.6, 1.6]}}, ("scale",)),
        (
            {"colour": "hsv", "geometry": {"flips": False, "paste": 0.1}},
            ("hsv", "paste", "no flips"),
        ),
    ],
    ids=str,
)
def test_reports_name_what_is_unusual(augment: dict[str, Any], names: tuple[str, ...]) -> None:
    assert AugmentConfig(**augment).names == names


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (
            {"geometry": {"shear": 3}},
            "augment: unknown geometry 'shear': choose scale, paste, flips",
        ),
        ({"geometry": {"scale": 2}}, "augment: geometry.scale must be a rising pair of factors"),
        ({"geometry": {"paste": 2}}, "augment: geometry.paste must be a probability"),
        ({"geometry": {"flips": "often"}}, "augment: geometry.flips must be true or false"),
        ({"geometry": 3}, "augment.geometry: "),
        ({"geometri": {}}, "augment.geometri: unknown key, did you mean 'geometry'?"),
        ({"colour": "sepia"}, f"augment: unknown colour 'sepia': choose {', '.join(COLOUR)}"),
    ],
    ids=str,
)
def test_a_mistake_is_told_in_one_line(augment: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run(**augment)
    assert str(caught.value).startswith(f"configuration: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"colour": "sepia"}, "unknown colour 'sepia': choose none, rhm, .*fda"),
        ({"statistics": "world"}, "unknown statistics 'world': choose chip, scene"),
        ({"sampling": "best"}, "unknown sampling 'best': choose uniform, domain, distance"),
        ({"colour": "rhm"}, "needs a bank"),
        ({"colour": "mean-std"}, "needs a bank"),
        ({"colour": "fda"}, "needs images of the target"),
        ({"colour": "jitter"}, "jitter needs a range"),
        ({"gamma": (0.5, 2.0)}, "none uses no gamma, gain or offset: choose jitter"),
        ({"colour": "gamma", "gamma": (0.9, 1.1)}, "gamma has a fixed range"),
        ({"p": 1.5}, "probability"),
        ({"p": float("nan")}, "probability"),
        ({"blend": (0.8, 0.2)}, "blend must be a rising pair"),
        ({"colour": "jitter", "gamma": (0.0, 1.0)}, "gamma must be a rising pair"),
        ({"colour": "jitter", "gain": (1.2, 0.8)}, "gain must be a rising pair"),
        ({"colour": "jitter", "gain": (-0.1, 0.8)}, "gain must be a rising pair"),
        ({"colour": "jitter", "offset": (0.0, float("nan"))}, "offset must be a rising pair"),
    ],
    ids=str,
)
def test_an_impossible_configuration_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**values)


def test_images_that_are_standardised_one_by_one_are_not_mixed() -> None:
    tree: dict[str, Any] = {
        "name": "x",
        "data": {"catalog": "c.parquet"},
        "model": {"standardize": "equalize"},
        "augment": {"geometry": {"scale": [0.6, 1.6]}},
    }
    assert parse_config(tree).augment.mixing == ()
    tree["augment"]["geometry"]["paste"] = 0.3
    with pytest.raises(ConfigError, match=r"augment\.geometry\.paste mixes images: choose one"):
        parse_config(tree)


@pytest.mark.parametrize("entry", [*COLOUR.values(), *GEOMETRY.values()], ids=lambda e: e.text)
def test_every_choice_says_in_a_line_what_it_does(entry: Any) -> None:
    assert 10 < len(entry.text) < 100
    assert "\n" not in entry.text
