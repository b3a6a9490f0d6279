"""``rhm predict``."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rhm.cli.commands.merge_footprints import merge as merge_all
from rhm.cli.commands.merge_footprints import style_merged
from rhm.cli.flags import Chosen, choosing
from rhm.cli.options import Json, ModelPath, Styles, required
from rhm.cli.output import progress, say
from rhm.cli.prediction_output import (
    report_results,
    say_notes,
    say_of_all,
    short_name,
    tell_estimates,
)
from rhm.files import check_folder_writable
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.runtime.runtimes import RuntimeConfig
from rhm.inference.settings.polygon_config import PolygonConfig
from rhm.inference.settings.worker_config import WorkerConfig
from rhm.mapping.merge_config import MergeConfig
from rhm.required_files import require_scenes

if TYPE_CHECKING:
    from rhm.data.vectors.area_of_interest import AreaOfInterest
    from rhm.inference.many_scenes import SceneResult
    from rhm.inference.runtime.backends import Backend
    from rhm.inference.scene_lists.scene_names import NamedScene
    from rhm.inference.tiling.strips import Workers
    from rhm.mapping.merged_layer import MergedLayer

_STYLES = 3  # of a scene: probabilities, mask, footprints
_GPU_BATCH = 8  # one tile does not occupy a GPU, but fits best into the caches of a CPU


@choosing(PredictionConfig, PolygonConfig, RuntimeConfig, WorkerConfig)
def predict(
    model: ModelPath,
    scenes: Annotated[
        list[str],
        typer.Argument(
            help="Scenes: files, patterns, folders, catalogs or STAC documents.",
            callback=required(require_scenes),
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    chosen: Chosen,
    adapter: Annotated[
        Path | None, typer.Option(help="Adapter of this model, written by `rhm adapt`.")
    ] = None,
    asset: Annotated[
        str | None, typer.Option(help="Asset of STAC items to predict. Default: the image.")
    ] = None,
    merge: Annotated[
        Path | None,
        typer.Option(
            help="Also merge the footprints of all scenes into this file, or into a folder of "
            "GeoParquet files by place; see `rhm merge-footprints`.",
        ),
    ] = None,
    styles: Styles = False,
    stac: Annotated[
        bool,
        typer.Option("--stac", help="Also write a STAC catalog of the results in their folder."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only estimate time, memory and disk space."),
    ] = False,
    json: Json = False,
) -> None:
    """Predict the buildings of scenes: probabilities, masks and footprints.

    Scenes are files or anything else that GDAL opens, patterns, folders, catalogs, or STAC items,
    collections and catalogs.

    Example: `rhm predict runs/inria-rhm scene.tif -o predicted`
    """
    from rhm.inference.inputs import find_named_scenes

    hands = _check(chosen)
    files = find_named_scenes(scenes, asset=asset)
    config = chosen.make(PredictionConfig)
    if not config.resume:  # finished results need no place
        check_folder_writable(output)
    pixels = _pixels(files, config.aoi)
    if stac:
        _check_catalog(files, output, chosen)
    if merge is not None:
        _check_merge(files, output, merge, chosen)
    begun = _begun_by(files, output, chosen)
    network = _network(
        model, adapter, chosen, pixels // hands.workers, begun, files, output, calibrate=not dry_run
    )
    config = _config(chosen, network)
    if dry_run:
        tell_estimates(network, files, output, config, as_json=json)
        return
    with (
        _workers(model, adapter, chosen, network) as workers,
        _bar(files, pixels, quiet=json) as advance,
    ):
        results = _predicted(network, files, output, config, workers, hands.workers, advance)
    warning = say_of_all(results, network.spec.expected_iou) if len(files) > 1 else None
    chose = config.polygons is not None and isinstance(config.polygons.threshold, str)
    merged = None
    # Whatever is missing at the end, what there is is written and told.
    with ExitStack() as told:
        told.callback(
            lambda: report_results(
                results, network.runtime, warning, merged, chose=chose, as_json=json
            )
        )
        if stac:
            told.callback(_write_catalog, results)
        if styles:
            told.callback(lambda: _write_styles(results, merged))
        if merge is not None:
            merged = _merged(results, merge, config, hands.workers, quiet=json)


def _write_styles(results: "list[SceneResult]", merged: "MergedLayer | None") -> None:
    kept = 0
    for result in results:
        if result.prediction is not None:
            kept += _STYLES - len(result.prediction.write_styles())
    if kept:
        say(f"{kept} styles that you have saved stay as they are")
    if merged is not None:
        style_merged(merged)


def _check_catalog(files: "list[NamedScene]", output: Path, chosen: Chosen) -> None:
    from rhm.inference.plan import Outputs
    from rhm.inference.result_catalog import check_catalog

    suffix = chosen.make(PredictionConfig).suffix
    check_catalog(output, (Outputs.of(scene, output, suffix).mask for scene in files))


def _check_merge(files: "list[NamedScene]", output: Path, merge: Path, chosen: Chosen) -> None:
    """Refuse a layer that cannot be written before anything is predicted."""
    from rhm.inference.plan import Outputs
    from rhm.mapping.layer_files import check_layer

    config = chosen.make(PredictionConfig)
    check_layer(
        merge,
        sources=[Outputs.of(scene, output, config.suffix).buildings for scene in files],
        scenes={scene.name for scene in files},
        overwrite=config.overwrite,
    )


def _write_catalog(results: "list[SceneResult]") -> None:
    from rhm.inference.result_catalog import EARLIEST, write_catalog

    done = [(result.scene, result.prediction) for result in results if result.prediction]
    if not done:
        return
    written = write_catalog(done)
    if written.undated:
        say(
            f"{written.undated} of {len(done)} scenes do not say when they were acquired: their "
            f"STAC items say after {EARLIEST.year}"
        )
    if written.unplaced:
        say(f"{written.unplaced} of {len(done)} scenes have no place on Earth for a STAC item")
    say(f"{written.items} scenes in {written.collection}")


def _check(chosen: Chosen) -> WorkerConfig:
    """Check all options before anything is loaded; return those of the worker processes."""
    config = chosen.make(PredictionConfig, polygons=chosen.make(PolygonConfig))
    if config.tile % 32:
        raise typer.BadParameter(f"--tile must be a multiple of 32, got {config.tile}")
    chosen.make(RuntimeConfig)
    return chosen.make(WorkerConfig)


def _begun_by(files: "list[NamedScene]", output: Path, chosen: Chosen) -> str | None:
    """Return the runtime of a prediction that is continued, if it can be used here.

    Unfinished predictions come first, because their strips would be lost.
    """
    from rhm.inference.plan import Outputs
    from rhm.inference.runtime.runtimes import runtime_of
    from rhm.inference.runtime.selection import is_usable
    from rhm.inference.tiling.journal import runtime_of_parts
    from rhm.inference.tiling.storage import RUNTIME, fingerprint_of

    config, place = chosen.make(PredictionConfig), chosen.make(RuntimeConfig)
    if not config.resume or place.runtime != "auto":
        return None
    results = [Outputs.of(scene, output, config.suffix) for scene in files]
    begun = (runtime_of_parts(each.unfinished) for each in results)
    ended = (fingerprint_of(each.probability, RUNTIME) for each in results)
    for recorded in chain(begun, ended):
        name, precision = runtime_of(recorded or "")
        if precision == place.precision and is_usable(name, place.device):
            return name
    return None


def _network(
    path: Path,
    adapter: Path | None,
    chosen: Chosen,
    pixels: int,
    begun: str | None,
    files: "list[NamedScene]",
    output: Path,
    *,
    calibrate: bool,
) -> "Backend":
    """Return the network, with the runtime of the prediction that is continued if there is one.

    Where int8 is not calibrated, and is not to be, the same runtime computes in floating point.
    """
    from rhm.inference.many_scenes import samples_of_scenes
    from rhm.inference.runtime.identity import identity_of
    from rhm.inference.runtime.quantization import kept_quantization
    from rhm.inference.runtime.selection import int8_runtime, network_for
    from rhm.inference.tiling.calibration import quantization_for
    from rhm.models.model_file import load_model

    place = chosen.make(RuntimeConfig)
    if place.precision != "float":
        int8_runtime(place.device, place.runtime)  # refuses what cannot, before it is calibrated
    model, config = load_model(path, adapter=adapter), chosen.make(PredictionConfig)
    if begun is not None:
        place = replace(place, runtime=begun)
    quantization = None
    if place.precision != "float" and calibrate:
        samples = partial(samples_of_scenes, model, files, output, config)
        quantization = quantization_for(model, path, samples, runtime=place.runtime, tell=say)
    elif place.precision != "float":
        quantization = kept_quantization(path, identity_of(model) or "")
        if quantization is None:
            say("int8 is calibrated by the first prediction: this is the cost in floating point")
            runtime = int8_runtime(place.device, place.runtime)
            place = replace(place, device="cpu", runtime=runtime, precision="float")
    options = asdict(place) | {"quantization": quantization, "tell": say}
    return network_for(model, pixels=pixels * config.passes, **options)


def _config(chosen: Chosen, network: "Backend") -> PredictionConfig:
    """Return the options of the prediction, with defaults that depend on the model and device."""
    on_gpu = next(network.parameters()).is_cuda
    return chosen.make(
        PredictionConfig,
        batch_size=_GPU_BATCH if on_gpu else 1,
        polygons=chosen.make(PolygonConfig, threshold=network.spec.threshold),
    )


@contextmanager
def _workers(
    model: Path, adapter: Path | None, chosen: Chosen, network: "Backend"
) -> "Iterator[Workers | None]":
    """Yield the workers that predict strips; None for this process."""
    hands = chosen.make(WorkerConfig)
    if hands.dask is None and hands.workers == 1:
        yield None
        return
    from rhm.inference.runtime.runtimes import runtime_of
    from rhm.inference.tiling.dask_cluster import DaskCluster
    from rhm.inference.tiling.workers import LocalProcesses, ModelSource

    device, (runtime, _) = chosen.make(RuntimeConfig).device, runtime_of(network.runtime)
    source = ModelSource.of(model, adapter, device, runtime, network.quantization)
    cluster: AbstractContextManager[Workers]
    if hands.dask is None:
        cluster = LocalProcesses(source, hands.workers)
    else:
        amounts = None if hands.resources is None else dict(hands.resources)
        cluster = DaskCluster(source, hands.dask, count=hands.workers, resources=amounts)
    with cluster as workers:
        yield workers


def _bar(
    files: "list[NamedScene]", pixels: int, *, quiet: bool
) -> AbstractContextManager[Callable[[float], None]]:
    title = f"{len(files)} scenes" if len(files) > 1 else short_name(files[0])
    return progress(title, pixels, unit="Mpx", per_unit=1e6, quiet=quiet)


def _predicted(
    network: "Backend",
    files: "list[NamedScene]",
    output: Path,
    config: PredictionConfig,
    workers: "Workers | None",
    count: int,
    advance: Callable[[int], None],
) -> "list[SceneResult]":
    from rhm.inference.many_scenes import predict_scenes

    return predict_scenes(
        network,
        files,
        output,
        config,
        workers=workers,
        side_by_side=1 if workers is None else count + 1,
        on_progress=advance,
        on_result=say_notes if len(files) == 1 else None,
    )


def _pixels(scenes: "list[NamedScene]", aoi: "AreaOfInterest | None") -> int:
    """Return the pixels of the scenes that can be opened; the others are reported later."""
    from rhm.data.rasters.raster import describe
    from rhm.inference.tiling.scene_area import scene_area

    total = 0
    for scene in scenes:
        with suppress(Exception):  # whatever it is, the prediction of this scene tells it
            info = describe(scene)
            if aoi is not None:
                info = scene_area(info, aoi).cut_info(info)
            total += info.height * info.width
    return total


def _merged(
    results: "list[SceneResult]",
    target: Path,
    config: PredictionConfig,
    readers: int,
    *,
    quiet: bool,
) -> "MergedLayer | None":
    """Merge the footprints of the scenes that were predicted; None if there are none."""
    from rhm.mapping.scene_layers import layers_of

    done = [result.prediction.buildings for result in results if result.prediction is not None]
    if not done:
        return None
    failed = [result for result in results if result.error is not None and not result.is_outside]
    if failed:
        say(f"{target.name} is without {len(failed)} scenes that failed")
    options = MergeConfig(readers=readers, resume=config.resume, overwrite=config.overwrite)
    return merge_all(layers_of(done), target, options, quiet=quiet)
