"""Styles with which QGIS shows results: a file of the same name with the suffix ``.qml``.

QGIS applies such a file whenever it opens the layer beside it. Styles inside a GeoPackage would be
a second layer for every other program.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

from rhm.errors import OutputError
from rhm.files import write_text

SUFFIX = ".qml"

# QGIS leaves comments out when it saves a style, so a file without this one is the user's.
_MARK = "<!-- written by rhm, replaced with the results -->"
_MARKED_BYTES = 1 << 10

SCORES = (
    (0.0, 0.5, "#d7191c", "score under 0.5"),
    (0.5, 0.7, "#fd8d3c", "0.5 to 0.7"),
    (0.7, 0.9, "#1dd3d8", "0.7 to 0.9"),
    (0.9, 1.0, "#0868ac", "0.9 and above"),
)
"""Classes of footprints by score: from, to, colour and label."""

ALIASES = {
    "score": "score",
    "area_m2": "area in square metres",
    "scene": "scene",
    "date": "date of the scene",
}
"""Readable names of the columns of footprints."""

_PROBABILITIES = (
    (0.0, "#0d0887", 0),
    (0.3, "#9c179e", 150),
    (0.6, "#ed7953", 220),
    (1.0, "#f0f921", 255),
)
_BUILDING = "#2c7bb6"
_FILL_ALPHA = 40
_LINE_MM = "0.6"


def write_style(layer: Path, style: str) -> Path | None:
    """Write a style beside a layer, unless the user has saved one there.

    Returns:
        The path of the style; None if that of the user stays.

    Raises:
        OutputError: the file cannot be written.
    """
    path = layer.with_suffix(SUFFIX)
    try:
        with path.open("rb") as file:
            if _MARK.encode() not in file.read(_MARKED_BYTES):
                return None
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror or error}") from error
    write_text(path, style)
    return path


def footprint_style() -> str:
    """Return the style of footprints: outlines coloured by score, and readable column names."""
    root = _root("Symbology|Fields")
    renderer = _child(root, "renderer-v2", type="graduatedSymbol", attr="score")
    renderer.set("graduatedMethod", "GraduatedColor")
    ranges, symbols = _child(renderer, "ranges"), _child(renderer, "symbols")
    for number, (low, high, colour, label) in enumerate(SCORES):
        bounds = {"lower": f"{low:.15f}", "upper": f"{high:.15f}", "label": label}
        _child(ranges, "range", symbol=str(number), render="true", **bounds)
        symbol = _child(symbols, "symbol", name=str(number), type="fill", alpha="1")
        layer = _child(symbol, "layer", {"class": "SimpleFill"}, enabled="1")
        for key, value in (
            ("color", _rgba(colour, _FILL_ALPHA)),
            ("style", "solid"),
            ("outline_color", _rgba(colour, 255)),
            ("outline_width", _LINE_MM),
            ("outline_width_unit", "MM"),
            ("outline_style", "solid"),
        ):
            _child(layer, "prop", k=key, v=value)
    aliases = _child(root, "aliases")
    for index, (column, name) in enumerate(ALIASES.items()):
        _child(aliases, "alias", field=column, name=name, index=str(index))
    return _text(root)


def mask_style() -> str:
    """Return the style of a mask: buildings in one colour, background and nodata transparent."""
    root, renderer = _raster_root("paletted")
    palette = _child(renderer, "colorPalette")
    _child(palette, "paletteEntry", value="0", color="#000000", alpha="0", label="background")
    _child(palette, "paletteEntry", value="1", color=_BUILDING, alpha="255", label="building")
    return _text(root)


def probability_style() -> str:
    """Return the style of probabilities: transparent at 0, and brighter the higher they are.

    Values are probabilities for all rasters, because QGIS applies the scale that they store.
    """
    root, renderer = _raster_root("singlebandpseudocolor")
    renderer.set("classificationMin", "0")
    renderer.set("classificationMax", "1")
    shader = _child(_child(renderer, "rastershader"), "colorrampshader")
    for key, value in (
        ("colorRampType", "INTERPOLATED"),
        ("classificationMode", "1"),
        ("minimumValue", "0"),
        ("maximumValue", "1"),
        ("clip", "0"),
    ):
        shader.set(key, value)
    for share, colour, alpha in _PROBABILITIES:
        value = f"{share:g}"
        _child(shader, "item", value=value, color=colour, alpha=str(alpha), label=value)
    return _text(root)


def _root(categories: str) -> Xml.Element:
    return Xml.Element("qgis", {"version": "3.22.0", "styleCategories": categories})


def _raster_root(kind: str) -> tuple[Xml.Element, Xml.Element]:
    """Return the root of the style of a raster, and its renderer of the first band."""
    root = _root("Symbology")
    options = {"type": kind, "band": "1", "opacity": "1", "alphaBand": "-1"}
    return root, _child(_child(root, "pipe"), "rasterrenderer", options)


def _child(
    parent: Xml.Element, tag: str, attributes: Mapping[str, str] | None = None, /, **more: str
) -> Xml.Element:
    return Xml.SubElement(parent, tag, {**(attributes or {}), **more})


def _rgba(colour: str, alpha: int) -> str:
    parts: Sequence[int] = bytes.fromhex(colour.removeprefix("#"))
    return ",".join(map(str, (*parts, alpha)))


def _text(root: Xml.Element) -> str:
    Xml.indent(root)
    body = Xml.tostring(root, encoding="unicode")
    return f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{_MARK}\n{body}\n"
