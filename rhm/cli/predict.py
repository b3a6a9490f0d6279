"""``rhm predict``."""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from rhm.cli.options import Bands, BlackIsNodata, Json, Views, band_numbers
from rhm.cli.output import emit, progress, say


def predict(
    model: Annotated[Path, typer.Argument(help="Model file, or folder of a run.")],
    scenes: Annotated[list[str], typer.Argument(help="Scenes, or folders of scenes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")],
    adapter: Annotated[
        Path | None, typer.Option(help="Adapter of this model, as `rhm adapt` writes it.")
    ] = None,
    tile: Annotated[int, typer.Option(min=32, help="Side of a tile in pixels.")] = 512,
    overlap: Annotated[int, typer.Option(min=0, help="Overlap of tiles in pixels.")] = 64,
    batch_size: Annotated[int, typer.Option(min=1, help="Tiles at once.")] = 4,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="By default the model's.")
    ] = None,
    min_area_m2: Annotated[float, typer.Option(min=0, help="Drop smaller footprints.")] = 5.0,
    simplify_m: Annotated[float, typer.Option(min=0, help="Simplify outlines by this.")] = 0.5,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Drop less certain ones.")] = 0.0,
    footprints: Annotated[
        str, typer.Option("--format", help="gpkg, parquet, geojson or fgb.")
    ] = "gpkg",
    bands: Bands = None,
    black_is_nodata: BlackIsNodata = False,
    resample: Annotated[
        bool, typer.Option("--resample", help="Predict at the model's metres per pixel.")
    ] = False,
    views: Views = False,
    dtype: Annotated[
        str, typer.Option(help="Of the probability raster: uint8 or float32.")
    ] = "uint8",
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip scenes whose results are all there.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    runtime: Annotated[
        str,
        typer.Option(help="auto, torch or onnx (ONNX Runtime: faster on CPUs)."),
    ] = "auto",
    json: Json = False,
) -> None:
    """Predict scenes into probabilities, masks and footprints.

    Example: `rhm predict runs/inria-rhm scene.tif -o predicted --resample`
    """
    from rhm.data.raster import describe
    from rhm.inference.backends import network_for
    from rhm.inference.polygons import FORMATS
    from rhm.inference.scenes import PROBABILITY_DTYPES, PolygonConfig, predict_raster
    from rhm.models.file import load_model

    suffix = f".{footprints}"
    if suffix not in FORMATS:
        raise typer.BadParameter(
            f"unknown format '{footprints}': choose gpkg, parquet, geojson, fgb"
        )
    if dtype not in PROBABILITY_DTYPES:
        raise typer.BadParameter(f"dtype is uint8 or float32, not '{dtype}'")
    if overlap >= tile or tile % 32:
        raise typer.BadParameter("--tile is a multiple of 32 and larger than --overlap")
    files = _files(scenes)
    network = network_for(
        load_model(model, adapter=adapter),
        device=device,
        runtime=runtime,
        pixels=_pixels(files) * (8 if views else 1),
    )
    polygons = PolygonConfig(
        threshold=network.spec.threshold if threshold is None else threshold,
        min_area_m2=min_area_m2,
        simplify_m=simplify_m,
        min_score=min_score,
        suffix=suffix,
    )
    results = []
    for file in files:
        info = describe(file)
        with progress(Path(file).name, info.height * info.width, quiet=json) as advance:
            result = predict_raster(
                network,
                file,
                output,
                tile=tile,
                overlap=overlap,
                batch_size=batch_size,
                resume=resume,
                bands=band_numbers(bands),
                black_is_nodata=black_is_nodata,
                resample=resample,
                views=views,
                dtype=dtype,
                polygons=polygons,
                on_progress=advance,
            )
        for note in result.notes:
            say(f"{Path(file).name}: {note}")
        results.append({"scene": str(file), **asdict(result)})
    lines = [f"{each['count']} buildings in {each['buildings']}" for each in results]
    emit({"runtime": network.runtime, "scenes": results}, lines, as_json=json)


def _pixels(files: list[str]) -> int:
    """Return how many pixels there are to predict, of the scenes that can be read."""
    from rhm.data.raster import describe
    from rhm.errors import RasterError

    total = 0
    for file in files:
        with suppress(RasterError):  # said when it is that scene's turn
            info = describe(file)
            total += info.height * info.width
    return total


def _files(scenes: list[str]) -> list[str]:
    """Return the scenes named, each once; of folders, what is not a prediction itself.

    Raises:
        CatalogError: a file or folder does not exist.
        ConfigError: two scenes would write the same files.
    """
    from rhm.data.folder import images_in
    from rhm.errors import ConfigError

    seen: dict[str, str] = {}
    for scene in scenes:
        remote = "://" in scene or scene.startswith("/vsi")
        for file in [scene] if remote else map(str, images_in(scene)):
            stem = Path(file).stem
            if Path(scene).is_dir() and stem.endswith(("_probability", "_mask")):
                continue
            if seen.setdefault(stem, file) != file:
                raise ConfigError(
                    f"{seen[stem]} and {file} would write the same files: predict them into "
                    "different folders"
                )
    return list(seen.values())
