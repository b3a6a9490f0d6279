"""``rhm predict``."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhm.cli.options import Bands, BlackIsNodata, Json, Views, band_numbers
from rhm.cli.output import emit, progress, say

if TYPE_CHECKING:
    from rhm.inference.batch import SceneResult
    from rhm.inference.plan import PredictionConfig
    from rhm.inference.runtime.backends import Backend
    from rhm.inference.scenes import Prediction
    from rhm.inference.tiling.strips import Workers


def predict(
    model: Annotated[Path, typer.Argument(help="Model file, or folder of a run.")],
    scenes: Annotated[list[str], typer.Argument(help="Scenes: files, folders, catalogs...")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")],
    adapter: Annotated[
        Path | None, typer.Option(help="Adapter of this model, as `rhm adapt` writes it.")
    ] = None,
    tile: Annotated[int, typer.Option(min=32, help="Side of a tile in pixels.")] = 512,
    overlap: Annotated[int, typer.Option(min=0, help="Overlap of tiles in pixels.")] = 64,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Tiles at once; by default 1 on a CPU, 8 on a GPU.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="By default the model's.")
    ] = None,
    min_area_m2: Annotated[float, typer.Option(min=0, help="Drop smaller footprints.")] = 5.0,
    simplify_m: Annotated[float, typer.Option(min=0, help="Simplify outlines by this.")] = 0.5,
    regularize_m: Annotated[
        float, typer.Option(min=0, help="Straighten outlines by this instead; try 2 or 3 pixels.")
    ] = 0.0,
    split_m: Annotated[
        float, typer.Option(min=0, help="Split buildings at necks narrower by this; 0: never.")
    ] = 3.0,
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
    compress: Annotated[str, typer.Option(help="Of the rasters: deflate or zstd.")] = "deflate",
    skip_errors: Annotated[
        bool, typer.Option("--skip-errors", help="Damaged blocks of a scene are nodata.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier run was cut short.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    runtime: Annotated[
        str, typer.Option(help="auto, torch or onnx (ONNX Runtime: faster on CPUs).")
    ] = "auto",
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that predict, on this machine.")
    ] = 1,
    dask: Annotated[
        str | None, typer.Option(help="Dask scheduler, as tcp://head:8786; or local.")
    ] = None,
    resources: Annotated[
        str | None, typer.Option(help="What each Dask job takes of a worker, as GPU=1.")
    ] = None,
    asset: Annotated[str | None, typer.Option(help="Of STAC items, which to predict.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and what it costs.")
    ] = False,
    json: Json = False,
) -> None:
    """Predict scenes into probabilities, masks and footprints.

    Scenes are files or anything else that GDAL opens, patterns, folders, catalogs, or STAC items.

    Example: `rhm predict runs/inria-rhm scene.tif -o predicted --resample`
    """
    from rhm.inference.batch import predict_scenes
    from rhm.inference.inputs import find_scenes
    from rhm.inference.plan import PredictionConfig
    from rhm.inference.polygons import PolygonConfig
    from rhm.inference.runtime.backends import network_for
    from rhm.inference.tiling.stream import Tiling
    from rhm.inference.vector_files import FORMATS
    from rhm.models.model_file import load_model

    if f".{footprints}" not in FORMATS:
        raise typer.BadParameter(
            f"unknown format '{footprints}': choose gpkg, parquet, geojson, fgb"
        )
    if overlap >= tile or tile % 32:
        raise typer.BadParameter("--tile is a multiple of 32 and larger than --overlap")
    files = find_scenes(scenes, asset=asset)
    pixels = _pixels(files)
    network = network_for(
        load_model(model, adapter=adapter),
        device=device,
        runtime=runtime,
        pixels=pixels * (8 if views else 1) // workers,
    )
    config = PredictionConfig(
        tiling=Tiling(tile, overlap, batch_size or _batch_size(network), views),
        bands=band_numbers(bands),
        black_is_nodata=black_is_nodata,
        resample=resample,
        skip_errors=skip_errors,
        dtype=dtype,
        compress=compress,
        polygons=PolygonConfig(
            threshold=network.spec.threshold if threshold is None else threshold,
            min_area_m2=min_area_m2,
            simplify_m=simplify_m,
            regularize_m=regularize_m,
            split_m=split_m,
            min_score=min_score,
        ),
        suffix=f".{footprints}",
    )
    if dry_run:
        emit(*_estimates(network, files, output, config), as_json=json)
        return
    with (
        _workers(model, adapter, device, network.runtime, workers, dask, resources) as hands,
        progress(
            f"{len(files)} scenes" if len(files) > 1 else Path(files[0]).name,
            pixels,
            unit="Mpx",
            per_unit=1e6,
            quiet=json,
        ) as advance,
    ):
        results = predict_scenes(
            network,
            files,
            output,
            config,
            resume=resume,
            workers=hands,
            side_by_side=1 if hands is None else workers + 1,
            on_progress=advance,
            on_result=_say if len(files) == 1 else None,
        )
    warning = None
    if len(files) > 1:
        warning = _say_of_all(results, network.spec.expected_iou)
    _report(results, network.runtime, warning, as_json=json)


def _batch_size(network: "Backend") -> int:
    # On a CPU one tile's features stay in its caches; a GPU wants more to do.
    return 8 if next(network.parameters()).is_cuda else 1


@contextmanager
def _workers(
    model: Path,
    adapter: Path | None,
    device: str,
    runtime: str,
    count: int,
    dask: str | None,
    resources: str | None,
) -> "Iterator[Workers | None]":
    """Yield who predicts strips; None for this process."""
    if dask is None and resources is not None:
        raise typer.BadParameter("--resources are of Dask jobs: give --dask too")
    if dask is None and count == 1:
        yield None
        return
    from rhm.inference.tiling.dask_cluster import DaskCluster
    from rhm.inference.tiling.workers import LocalProcesses, ModelSource

    source = ModelSource.of(model, adapter, device, runtime.partition("-")[0])
    if dask is None:
        with LocalProcesses(source, count) as processes:
            yield processes
    else:
        with DaskCluster(source, dask, count=count, resources=_amounts(resources)) as cluster:
            yield cluster


def _amounts(text: str | None) -> dict[str, float] | None:
    """Read ``GPU=1,MEMORY=4``.

    Raises:
        typer.BadParameter: the text is something else.
    """
    if text is None:
        return None
    try:
        pairs = (part.split("=") for part in text.split(","))
        amounts = {name.strip(): float(amount) for name, amount in pairs}
    except ValueError:
        amounts = {}
    if not amounts or not all(name and amount > 0 for name, amount in amounts.items()):
        raise typer.BadParameter(f"'{text}' is not a list of resources such as GPU=1")
    return amounts


def _pixels(scenes: list[str]) -> int:
    """Return the pixels of the scenes that can be opened; the others are reported later."""
    from rhm.data.rasters.raster import describe
    from rhm.errors import RasterError

    total = 0
    for scene in scenes:
        with suppress(RasterError):
            info = describe(scene)
            total += info.height * info.width
    return total


def _say(result: "SceneResult") -> None:
    if result.prediction is not None:
        for note in filter(None, (*result.prediction.notes, result.prediction.warning)):
            say(f"{Path(result.scene).name}: {note}")


def _say_of_all(results: "list[SceneResult]", home: float | None) -> str | None:
    """Say each note once, of how many scenes it is true; return the warning of all together.

    What a model expects of itself is of a place: that of one small scene says little.
    """
    from functools import reduce

    from rhm.inference.suitability import domain_note
    from rhm.models.expectation import ExpectedIoU

    scenes: dict[str, list[str]] = {}
    for each in results:
        for note in each.prediction.notes if each.prediction else ():
            scenes.setdefault(note, []).append(Path(each.scene).name)
    for note, names in scenes.items():
        who = names[0] if len(names) == 1 else f"{len(names)} of {len(results)} scenes"
        say(f"{who}: {note}")
    promised = [
        each.prediction.expectation
        for each in results
        if each.prediction is not None and each.prediction.expectation is not None
    ]
    warning = domain_note(home, reduce(ExpectedIoU.merge, promised)) if promised else None
    if warning:
        say(f"all scenes together: {warning}")
    return warning


def _report(
    results: "list[SceneResult]", runtime: str, warning: str | None, *, as_json: bool
) -> None:
    """Print what came of the scenes; what failed ends with an error, after the others.

    Raises:
        RhmError: a scene failed.
    """
    done = [each for each in results if each.prediction is not None]
    failed = [each for each in results if each.error is not None]
    values = [_values(each.scene, each.prediction) for each in done if each.prediction]
    lines = [f"{each['count']} buildings in {each['buildings']}" for each in values]
    if values:
        errors = [{"scene": each.scene, "error": str(each.error)} for each in failed]
        found = {"runtime": runtime, "scenes": values, "warning": warning, "failed": errors}
        emit(found, lines, as_json=as_json)
    if not failed or failed[0].error is None:
        return
    if len(results) > 1:
        from rhm.errors import printable

        for each in failed:
            say(f"failed: {printable(str(each.error))}")
        raise type(failed[0].error)(f"{len(failed)} of {len(results)} scenes failed")
    raise failed[0].error


def _values(scene: str, prediction: "Prediction") -> dict[str, Any]:
    """Return what is told of a prediction as JSON."""
    values = {"scene": scene, **asdict(prediction), "expected_iou": prediction.expected_iou}
    del values["expectation"]
    return values


def _estimates(
    network: "Backend", scenes: list[str], output: Path, config: "PredictionConfig"
) -> tuple[dict[str, Any], list[str]]:
    """Return what each scene would cost, as values and as lines."""
    from rhm.inference.estimate import estimate
    from rhm.inference.plan import plan_prediction
    from rhm.inference.scenes import is_finished

    values, lines = [], []
    for scene in scenes:
        plan = plan_prediction(network, scene, output, config)
        cost = estimate(network, plan)
        there = is_finished(plan)
        memory = "unknown" if cost.memory_bytes is None else f"{cost.memory_bytes / 1e9:.1f} GB"
        size = f"{plan.scene.width} x {plan.scene.height}"
        lines += [
            f"{scene}: {size} pixels, {len(plan.grid.strips)} strips, {cost.tiles} tiles of "
            f"{plan.grid.tiling.tile}: about {cost.seconds / 60:.1f} min, {memory} of memory, at "
            f"most {cost.disk_bytes / 1e9:.1f} GB of disk"
            + ("; its results are there already" if there else "")
        ]
        lines += [f"  {note}" for note in plan.notes]
        values.append({"scene": scene, "there": there, "notes": plan.notes, **asdict(cost)})
    return {"scenes": values}, lines
