"""``rhm compare``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rhm.cli.flags import Chosen, choosing
from rhm.cli.options import Json, required
from rhm.cli.output import emit, say
from rhm.mapping.compare_config import CompareConfig
from rhm.required_files import require_area, require_images


@choosing(CompareConfig)
def compare(
    new: Annotated[
        Path,
        typer.Argument(
            help="New buildings, such as from `rhm predict`.", callback=required(require_images)
        ),
    ],
    existing: Annotated[
        Path,
        typer.Argument(
            help="Existing map: GeoPackage, GeoParquet, GeoJSON or another vector file, also in "
            "Overture's schema or from OpenStreetMap.",
            callback=required(require_images),
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Layer to write, with the status of buildings.")
    ],
    chosen: Chosen,
    aoi: Annotated[
        str | None,
        typer.Option(
            help="Area in which both are compared: a vector file, or a box left,bottom,right,top "
            "in degrees. Default: the convex hull of the new buildings.",
            callback=required(require_area),
        ),
    ] = None,
    overture: Annotated[
        Path | None,
        typer.Option(
            help="Also write the buildings that are there now as GeoParquet in Overture's schema."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare new buildings with an existing map: matched, changed, new and gone.

    Example: `rhm compare town.gpkg osm.geojson -o changes.gpkg`
    """
    config = chosen.make(CompareConfig)
    from rhm.data.vectors.area_of_interest import read_area
    from rhm.mapping.map_changes import compare_maps

    area = None if aoi is None else read_area(aoi)
    changes = compare_maps(new, existing, output, config, area=area, overture=overture)
    for note in changes.notes:
        say(note)
    matched = f"{changes.matched} matched (mean IoU {changes.mean_iou:.3f})"
    lines = [
        f"{matched if changes.matched else 'none matched'}, {changes.changed} changed, "
        f"{changes.new} new, {changes.gone} gone: {changes.path}",
        changes.shift.told,
    ]
    emit(asdict(changes), lines, as_json=json)
