"""Complete configurations; law: each is read as the one that it completes, also with a bank."""

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from rhm.training.config import RunConfig, read_config
from rhm.training.configs.complete import complete_yaml, meanings
from rhm.training.configs.named_configs import named_configs

SECTIONS = {
    name: field.annotation
    for name, field in RunConfig.model_fields.items()
    if isinstance(field.annotation, type) and is_dataclass(field.annotation)
}

ODD = {
    "line breaks": {"data": {"licence": "of a\nand: [b], {c} # d"}},
    "names": {"data": {"sources": ["a, b", "null", "1e3", "\N{LATIN SMALL LETTER E WITH ACUTE}"]}},
    "small numbers": {"optimizer": {"eps": 1e-12}},
    "geometry": {"augment": {"geometry": {"flips": None}}},
    "one that chooses rhm": {"augment": {"blend": [0.5, 1.0], "p": 0.5}},
    "colour": {"augment": {"colour": "rhm", "bank": "sources"}},
    "no colour": {"augment": {"colour": "hsv"}},
}


def completed(text: str, folder: Path) -> Path:
    """Write a configuration, and the complete one of it."""
    (folder / "given.yaml").write_text(text)
    path = folder / "complete.yaml"
    path.write_text(complete_yaml(read_config(folder / "given.yaml"), text))
    return path


@pytest.mark.parametrize("name", named_configs())
def test_a_configuration_of_rhm_stays_the_same(name: str, bank_path: Path, tmp_path: Path) -> None:
    text = named_configs()[name].read_text()
    path = completed(text, tmp_path)
    assert read_config(path) == read_config(name)
    bank = str(bank_path)
    assert read_config(path, augment__bank=bank) == read_config(name, augment__bank=bank)
    assert path.read_text().startswith(text.partition("\n")[0])


@pytest.mark.parametrize("settings", ODD.values(), ids=ODD)
def test_odd_values_stay_the_same(
    settings: dict[str, dict[str, object]], bank_path: Path, tmp_path: Path
) -> None:
    data = {"catalog": "c.parquet"} | settings.get("data", {})
    text = yaml.safe_dump({"name": "odd", **settings, "data": data})
    path = completed(text, tmp_path)
    given = tmp_path / "given.yaml"
    assert read_config(path) == read_config(given)
    if settings.get("augment", {}).get("colour") != "hsv":  # which refuses a bank
        bank = str(bank_path)
        assert read_config(path, augment__bank=bank) == read_config(given, augment__bank=bank)


def test_every_setting_is_there_with_its_meaning(tmp_path: Path) -> None:
    lines = completed("name: a\ndata: {catalog: c.parquet}\n", tmp_path).read_text().splitlines()
    assert lines[:2] == ["# Name of the run and of its folder.", "name: a"]
    for section, kind in SECTIONS.items():
        start = lines.index(f"{section}:")
        assert lines[start - 1].startswith("# ")
        end = next((n for n in range(start, len(lines)) if not lines[n]), len(lines))
        for field in fields(kind):
            (place,) = (
                n
                for n in range(start, end)
                if lines[n].startswith((f"  {field.name}: ", f"  # {field.name}: "))
            )
            assert lines[place - 1].startswith("  # ")


@pytest.mark.parametrize("kind", [RunConfig, *SECTIONS.values()])
def test_every_setting_has_a_meaning_without_marks(kind: type) -> None:
    told = meanings(kind)
    names = list(RunConfig.model_fields) if kind is RunConfig else [f.name for f in fields(kind)]
    assert set(told) >= set(names)
    assert not [name for name in names if "`" in told[name] or not told[name].endswith(".")]


def test_registries_and_constants_are_spelt_out() -> None:
    assert meanings(SECTIONS["loss"])["name"].startswith("One of bce, bce-dice, ")
    assert meanings(SECTIONS["data"])["chip_px"].endswith("a multiple of 32 up to 4096.")
    assert meanings(SECTIONS["model"])["batch_norm"].startswith("train, or frozen")
