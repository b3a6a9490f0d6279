"""Styles for QGIS; oracle: the documents that QGIS 3.22 writes for the same renderers."""

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from rhm.errors import OutputError
from rhm.inference.layers.qgis_styles import (
    SCORES,
    footprint_style,
    mask_style,
    probability_style,
    write_style,
)


def root_of(style: str) -> Xml.Element:
    """Parse a style, which QGIS requires to begin with its document type."""
    first, _, rest = style.partition("\n")
    assert first == "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
    return Xml.fromstring(rest)  # noqa: S314 (written here)


def test_scores_from_0_to_1_have_one_colour_each() -> None:
    assert (SCORES[0][0], SCORES[-1][1]) == (0.0, 1.0)
    assert all(one[1] == other[0] for one, other in pairwise(SCORES))
    root = root_of(footprint_style())
    renderer = root.find("renderer-v2")
    assert renderer is not None
    assert (renderer.get("type"), renderer.get("attr")) == ("graduatedSymbol", "score")
    symbols = {each.get("name"): each for each in renderer.iter("symbol")}
    for each, (low, high, colour, label) in zip(renderer.iter("range"), SCORES, strict=True):
        assert (float(each.get("lower", "")), float(each.get("upper", ""))) == (low, high)
        assert each.get("label") == label
        props = {p.get("k"): p.get("v") for p in symbols[each.get("symbol")].iter("prop")}
        red, green, blue, _ = map(int, str(props["outline_color"]).split(","))
        assert f"#{red:02x}{green:02x}{blue:02x}" == colour
    aliases = {each.get("field"): each.get("name") for each in root.iter("alias")}
    assert aliases["area_m2"] == "area in square metres"


def test_a_mask_shows_buildings_only() -> None:
    entries = {e.get("value"): e.get("alpha") for e in root_of(mask_style()).iter("paletteEntry")}
    assert entries == {"0": "0", "1": "255"}


def test_probabilities_rise_from_transparent_to_certain() -> None:
    items = list(root_of(probability_style()).iter("item"))
    values = [float(each.get("value", "")) for each in items]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0.0, 1.0)
    assert (items[0].get("alpha"), items[-1].get("alpha")) == ("0", "255")


def test_it_lies_beside_the_layer(tmp_path: Path) -> None:
    assert write_style(tmp_path / "a.b.gpkg", mask_style()) == tmp_path / "a.b.qml"
    with pytest.raises(OutputError):
        write_style(tmp_path / "a.b.qml" / "x.tif", mask_style())


def test_a_style_of_the_user_stays(tmp_path: Path) -> None:
    layer = tmp_path / "x_mask.tif"
    written = write_style(layer, mask_style())
    assert written is not None
    assert write_style(layer, mask_style()) == written
    # QGIS drops comments when it saves.
    own = "\n".join(line for line in mask_style().splitlines() if "<!--" not in line)
    written.write_text(own)
    assert write_style(layer, mask_style()) is None
    assert written.read_text() == own
