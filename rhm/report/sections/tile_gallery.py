"""Gallery: the best, the median and the worst tile of each domain, as predicted by two methods."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rhm.report.diagnostics import Gallery, GalleryView, galleries
from rhm.report.numbers import number
from rhm.report.plots import outlines
from rhm.report.runs import read_image
from rhm.report.section import Comparison, Section


def section(comparison: Comparison) -> Section:
    """Return the tiles with their outlines; the numbers do not include the pictures.

    Raises:
        ConfigError: a picture is missing, is not a PNG, or has another size than the scores say.
    """
    rows = galleries(comparison.groups, comparison.rankings, comparison.targets)
    return Section(
        anchor="gallery",
        title="Gallery",
        heading="Gallery",
        fragment='{% include "sections/tile_gallery.html" %}',
        view={"galleries": _views(rows), "several_sources": comparison.several_sources},
        numbers={"gallery": _numbers(rows)},
        script='{% include "slider.js" %}',
        shown=bool(rows),
    )


def _numbers(rows: Sequence[Gallery]) -> list[dict[str, Any]]:
    return [
        {
            "sources": gallery.sources,
            "target": asdict(tile.target),
            "tile": tile.name,
            "method": view.method,
            "run": view.run.scores.run,
            "kind": view.example.kind,
            "picked": view.example.picked,
            "iou": view.example.iou,
        }
        for gallery in rows
        for tile in gallery.tiles
        for view in tile.views
    ]


def _views(rows: Sequence[Gallery]) -> list[dict[str, Any]]:
    """Return galleries by target; a picture that is shown twice is written once and referenced."""
    pictures: dict[str, str] = {}
    result = []
    for gallery in rows:
        blocks = [
            (target, [(tile, [_tile_view(view, pictures) for view in tile.views]) for tile in same])
            for target, same in groupby(gallery.tiles, key=lambda tile: tile.target)
        ]
        result.append({"sources": gallery.sources, "methods": gallery.methods, "blocks": blocks})
    return result


def _tile_view(view: GalleryView, pictures: dict[str, str]) -> dict[str, Any]:
    example = view.example
    data = read_image(view.run.folder, example)
    # The key includes the size, because `use` cannot change the size of an image.
    key = f"{example.width}x{example.height}:{data}"
    first = key not in pictures
    image_id = pictures.setdefault(key, f"tile-{len(pictures) + 1}")
    return {
        "view": view,
        "description": f"{example.name}: buildings on the ground and as {view.method} sees them, "
        f"IoU {number(example.iou)}",
        "width": example.width,
        "height": example.height,
        "first": first,
        "image_id": image_id,
        "data": data,
        "truth": outlines(example.truth, example),
        "prediction": outlines(example.prediction, example),
    }
