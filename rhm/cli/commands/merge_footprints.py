"""``rhm merge-footprints``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rhm.cli.flags import Chosen, choosing
from rhm.cli.options import Json, Styles, required
from rhm.cli.output import counted, emit, progress, say
from rhm.mapping.merge_config import MergeConfig
from rhm.required_files import require_scenes

if TYPE_CHECKING:
    from rhm.mapping.merged_layer import MergedLayer
    from rhm.mapping.scene_layers import SceneLayer


@choosing(MergeConfig)
def merge_footprints(
    footprints: Annotated[
        list[str],
        typer.Argument(
            help="Folders that `rhm predict -o` wrote, patterns, or files of footprints.",
            callback=required(require_scenes),
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Layer to write: .gpkg, .fgb, .geojson or .parquet, or a folder of GeoParquet "
            "files by place.",
        ),
    ],
    chosen: Chosen,
    styles: Styles = False,
    json: Json = False,
) -> None:
    """Merge the footprints of many scenes into one layer, every building once.

    Buildings that the borders of scenes cut are joined. Of those that several scenes show, the one
    that is seen best is kept.

    Example: `rhm merge-footprints predicted -o town.gpkg`
    """
    from rhm.mapping.scene_layers import find_layers

    config = chosen.make(MergeConfig)
    layers = find_layers(footprints)
    merged = merge(layers, output, config, quiet=json)
    if styles:
        style_merged(merged)
    emit(asdict(merged), [merged_line(merged)], as_json=json)


def merge(
    layers: "list[SceneLayer]", output: Path, config: MergeConfig, *, quiet: bool
) -> "MergedLayer":
    """Merge layers while a bar shows the progress."""
    from rhm.mapping.merged_layer import merge_layers

    with progress(output.name, len(layers), unit="scenes", quiet=quiet) as advance:
        merged = merge_layers(layers, output, config, on_progress=advance)
    for note in merged.notes:
        say(note)
    return merged


def style_merged(merged: "MergedLayer") -> None:
    """Write a style for QGIS beside a merged layer, unless it is a folder."""
    from rhm.inference.layers.qgis_styles import footprint_style, write_style

    if not Path(merged.path).is_file():
        say("a folder of files gets no style: QGIS opens each of them by itself")
    elif write_style(Path(merged.path), footprint_style()) is None:
        say("the style that you have saved stays as it is")


def merged_line(merged: "MergedLayer") -> str:
    """Return what a merge gave, in one line."""
    return (
        f"{counted(merged.count, 'building')} in {merged.path} ({merged.joined} joined over the "
        f"edges of scenes, {merged.seen_again} seen again)"
    )
