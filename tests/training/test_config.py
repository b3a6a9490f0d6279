"""Configurations: every mistake is named, with its path, in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rhm.augmentation.augment_config import AugmentConfig
from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.packed_histogram import PackedHistogram
from rhm.colour.spectra.spectrum import Spectrum
from rhm.errors import ConfigError
from rhm.training.config import parse_config, read_config

GOOD = {"name": "run", "data": {"catalog": "catalog.parquet"}}
TARGET = {"domains": ["town"], "method": "entropy", "source_free": True}
THRESHOLD = TARGET | {"method": "threshold"}
SOURCE_FREE: dict[str, object] = {"adapter": {"base": "m"}, "target": TARGET}


def test_yaml_round_trip_is_exact(tmp_path: Path) -> None:
    augment = {
        "colour": "rhm",
        "bank": "b.bank",
        "blend": [0.5, 1.0],
        "per_band": False,
        "statistics": "scene",
        "sampling": "distance",
        "gamma": [0.5, 2.0],
        "gain": [0.9, 1.1],
        "offset": [-0.1, 0.1],
        "targets": ["a", "b"],
    }
    config = parse_config(GOOD | {"augment": augment, "seed": 4})
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml())
    assert read_config(path) == config
    standard = parse_config(GOOD | {"model": {"standardize": "gray-world"}})
    path.write_text(standard.to_yaml())
    assert read_config(path) == standard != config


def test_overrides_are_read_as_yaml_and_the_last_wins(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("name: run\ndata: {catalog: c.parquet}\n")
    config = read_config(
        path,
        ["optimizer.learning_rate=3e-4", "data.sources=[a, b]", "seed=1", "seed=2"],
        name="other",
        augment__bank=None,
    )
    assert config.optimizer.learning_rate == pytest.approx(3e-4)
    assert config.data.sources == ("a", "b")
    assert (config.seed, config.name) == (2, "other")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dta": {}}, "dta: unknown key, did you mean 'data'?"),
        ({"model": {"encodr": "x"}}, "model.encodr: unknown key, did you mean 'encoder'?"),
        ({"model": {"encoder": "resnet_of_mine"}}, "timm knows no encoder 'resnet_of_mine'"),
        ({"model": {"architecture": "vnet"}}, "choose unet"),
        ({"loss": {"name": "l2"}}, "unknown loss 'l2': choose bce"),
        ({"loss": {"name": "focal", "boundary_weight": 1.0}}, "boundary_weight works only with"),
        ({"augment": {"colour": "rhm"}}, "colour rhm needs a bank"),
        ({"augment": {"colour": "sepia"}}, "augment: unknown colour 'sepia': choose none, rhm"),
        ({"augment": {"colour": "mean-std"}}, "colour mean-std needs a bank"),
        ({"augment": {"colour": "fda"}}, "needs images of the target: give augment.targets"),
        ({"augment": {"sampling": "best"}}, "choose uniform, domain, distance"),
        ({"augment": {"statistics": "world"}}, "choose chip, scene"),
        ({"augment": {"gamma": [0.5, 2]}}, "augment: colour none uses no gamma, gain or offset"),
        (
            {"augment": {"colour": "jitter", "gain": [2, 1]}},
            "gain must be a rising pair of numbers of at least 0, got [2.0, 1.0]",
        ),
        ({"augment": {"gama": [0.5, 2]}}, "augment.gama: unknown key, did you mean 'gamma'?"),
        ({"model": {"standardize": "sepia"}}, "choose none, equalize, gray-world"),
        (
            {"model": {"standardize": "equalize"}, "augment": {"colour": "gamma"}},
            "model.standardize undoes what augment.colour varies: choose one of the two",
        ),
        ({"trainer": {"steps": "many"}}, "trainer.steps: input should be a valid integer"),
        ({"trainer": {"steps": 10, "validate_every": 3}}, "multiple of validate_every"),
        ({"trainer": {"batch_size": 3, "devices": 2}}, "batch_size must be a multiple of"),
        ({"optimizer": {"schedule": "steps"}}, "unknown schedule: choose one-cycle"),
        ({"data": {"catalog": "c", "chip_px": 100}}, "chip_px must be a multiple of 32"),
        ({"data": {}}, "data.catalog: missing"),
        ({"data": {"catalog": "c", "chip_px": 10**7}}, "a multiple of 32 up to 4096, got 10000000"),
        ({"data": {"catalog": "c", "workers": 10**5}}, "workers must be between 0 and"),
        ({"trainer": {"batch_size": 10**8}}, "at least 1 and at most 65536, got 100000000"),
        ({"trainer": {"devices": 10**4, "batch_size": 10**4}}, "devices must be at least 1 and at"),
        ({"trainer": {"steps": 10**18, "validate_every": 10**18}}, "at most 1000000000, got 1000"),
        ({"adapter": {"base": "m", "gradient_batches": 10**6}}, "must be from 0 to 1000"),
        ({"loss": {"boundary_px": 10**6}}, "boundary_px from 1 to 64"),
        ({"name": "../elsewhere"}, "name: string should match"),
    ],
)
def test_a_mistake_is_named_with_its_path(change: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD | change)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"augment": {"mixstyle": 0.5, "mixstyle_stages": []}}, "mixstyle needs stages"),
        (
            {"augment": {"mixstyle": 0.5}, "trainer": {"batch_size": 4, "accumulate": 4}},
            "augment.mixstyle mixes chips, and the network sees one chip at once",
        ),
        (
            SOURCE_FREE | {"augment": {"colour": "gamma"}},
            "augment.colour gamma changes nothing with target.source_free and target.method ent",
        ),
        (
            SOURCE_FREE | {"augment": {"geometry": {"paste": 0.5}}},
            "augment.geometry.paste changes nothing with target.source_free",
        ),
        (
            SOURCE_FREE | {"target": THRESHOLD, "augment": {"mixstyle": 0.5}},
            "augment.mixstyle changes nothing with target.source_free and target.method threshold",
        ),
        (
            SOURCE_FREE | {"target": THRESHOLD, "augment": {"geometry": {"flips": None}}},
            "augment.geometry.flips changes nothing with target.source_free",
        ),
        (
            SOURCE_FREE | {"target": THRESHOLD, "augment": {"geometry": {"scale": [0.5, 2]}}},
            "augment.geometry.scale changes nothing with target.source_free",
        ),
    ],
)
def test_new_runs_have_no_augmentation_that_changes_nothing(
    change: dict[str, object], told: str
) -> None:
    config = parse_config(GOOD | change)  # as runs of earlier versions are read
    with pytest.raises(ConfigError) as caught:
        config.refuse_unused()
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"augment": {"mixstyle": 0.5}},
        {
            "augment": {"mixstyle": 0.5},
            "trainer": {"batch_size": 1},
            "target": {"domains": ["town"], "method": "entropy", "statistics": "shared"},
        },
        SOURCE_FREE | {"augment": {"mixstyle": 0.5, "geometry": {"scale": [0.5, 2]}}},
        SOURCE_FREE | {"target": TARGET | {"method": "mean-teacher"}, "augment": {"colour": "hsv"}},
        SOURCE_FREE | {"target": THRESHOLD},
    ],
)
def test_what_changes_something_is_let_through(change: dict[str, object]) -> None:
    parse_config(GOOD | change).refuse_unused()


@pytest.mark.parametrize("flag", [True, False])
def test_true_and_false_are_no_numbers(flag: bool) -> None:
    tree = GOOD | {
        "seed": flag,
        "trainer": {"steps": flag},
        "optimizer": {"learning_rate": flag},
        "data": {"catalog": "c", "gsd_m": flag, "balance_domains": flag},
        "augment": {"blend": [flag, 1.0], "per_band": flag, "geometry": {"flips": flag}},
        "sed": 1,
    }
    with pytest.raises(ConfigError) as caught:
        parse_config(tree)
    told = str(caught.value)
    for name in ("seed", "trainer.steps", "optimizer.learning_rate", "data.gsd_m", "augment.blend"):
        assert f"{name}: expected a number, not true or false" in told
    assert told.count("expected a number") == 5
    assert "sed: unknown key" in told


def test_numbers_after_a_zero_are_decimal_and_times_are_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("name: run\ndata: {catalog: c.parquet}\n")
    assert read_config(path, ["seed=010"]).seed == 10
    with pytest.raises(ConfigError, match=r"trainer\.steps: input should be a valid integer"):
        read_config(path, ["trainer.steps=1:30"])


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD | {"sed": 1, "loss": {"name": "l2"}, "trainer": {"steps": 0}})
    told = str(caught.value)
    assert "sed: unknown key" in told
    assert "unknown loss" in told
    assert "steps must be at least 1" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n- b\n", "is not a mapping"),
        ("name: [", "cannot be read as YAML"),
        ("name: !!python/object/apply:os.system ['true']\n", "cannot be read as YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        read_config(path)


def test_a_missing_file_and_a_set_without_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration at"):
        read_config(tmp_path / "none.yaml")
    path = tmp_path / "config.yaml"
    path.write_text("name: run\ndata: {catalog: c}\n")
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        read_config(path, ["seed"])
    with pytest.raises(ConfigError, match="is not a section"):
        read_config(path, ["name.first=1"])


@pytest.mark.parametrize(
    ("augment", "colour"),
    [({}, None), ({"bank": "a"}, "rhm"), ({"bank": "a", "colour": "mean-std"}, "mean-std")],
)
def test_a_bank_turns_matching_on_where_no_colour_is_chosen(
    tmp_path: Path, augment: dict[str, str], colour: str | None
) -> None:
    path = tmp_path / "run.yaml"
    tree = {"name": "a", "data": {"catalog": "c"}, "augment": augment}
    path.write_text(yaml.safe_dump(tree))
    config = read_config(path)
    assert config.augment.colour == (colour or "none")


def test_a_bank_turns_the_recipe_on(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    histograms, both = tmp_path / "histograms.bank", tmp_path / "both.bank"
    entry = PackedHistogram.of(Histogram.of(image))
    HistogramBank([entry]).save(histograms)
    HistogramBank([entry], spectra=[Spectrum.of_image(image)]).save(both)
    for bank, colour in ((histograms, "rhm"), (both, "spectrum")):
        augment = parsed(tmp_path, bank=str(bank))
        assert (augment.colour, augment.p, augment.sampling) == (colour, 1.0, "domain")
        assert augment.geometry["scale"] == (0.6, 1.6)
    # What is chosen is kept, and a colour turns the recipe off.
    assert parsed(tmp_path, bank=str(both), geometry={"scale": None}).geometry["scale"] is None
    assert parsed(tmp_path, bank=str(both), geometry={"paste": 0.5}).geometry["scale"] == (0.6, 1.6)
    assert parsed(tmp_path, bank=str(both), p=0.5).p == 0.5
    plain = parsed(tmp_path, bank=str(both), colour="rhm")
    assert (plain.colour, plain.geometry["scale"]) == ("rhm", None)
    sources = parsed(tmp_path, bank="sources")
    assert (sources.colour, sources.geometry["scale"]) == ("rhm", (0.6, 1.6))
    # Settings that only histogram matching reads choose it.
    for setting in ({"blend": [0.5, 1.0]}, {"per_band": False}, {"statistics": "scene"}):
        assert parsed(tmp_path, bank=str(both), **setting).colour == "rhm"
    # One image without a spectrum does not change what the others turn on.
    some = tmp_path / "some.bank"
    HistogramBank.load(both).merge(HistogramBank.load(histograms)).save(some)
    assert parsed(tmp_path, bank=str(some)).colour == "spectrum"
    assert parsed(tmp_path).names == ()


def parsed(folder: Path, **augment: Any) -> AugmentConfig:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({"name": "a", "data": {"catalog": "c"}, "augment": augment}))
    return read_config(path).augment


def test_a_bank_that_nothing_uses_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"name": "a", "data": {"catalog": "c"}}))
    with pytest.raises(ConfigError, match="colour none uses no bank: choose rhm or mean-std"):
        read_config(path, ["augment.bank=x", "augment.colour=none"])
