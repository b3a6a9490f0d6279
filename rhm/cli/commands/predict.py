"""``rhm predict``."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhm.cli.flags import Chosen, choosing
from rhm.cli.options import Json, ModelPath, required
from rhm.cli.output import complain, emit, progress, say
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.runtime.runtimes import RuntimeConfig
from rhm.inference.settings.polygon_config import PolygonConfig
from rhm.inference.settings.worker_config import WorkerConfig
from rhm.required_files import require_scenes

if TYPE_CHECKING:
    from rhm.inference.many_scenes import SceneResult
    from rhm.inference.runtime.backends import Backend
    from rhm.inference.scenes import Prediction
    from rhm.inference.tiling.strips import Workers

_GPU_BATCH = 8  # one tile does not occupy a GPU, but fits best into the caches of a CPU


@choosing(PredictionConfig, PolygonConfig, RuntimeConfig, WorkerConfig)
def predict(
    model: ModelPath,
    scenes: Annotated[
        list[str],
        typer.Argument(
            help="Scenes: files, patterns, folders, catalogs or STAC items.",
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
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only estimate time, memory and disk space."),
    ] = False,
    json: Json = False,
) -> None:
    """Predict the buildings of scenes: probabilities, masks and footprints.

    Scenes are files or anything else that GDAL opens, patterns, folders, catalogs, or STAC items.

    Example: `rhm predict runs/inria-rhm scene.tif -o predicted`
    """
    from rhm.inference.inputs import find_scenes

    hands = _check(chosen)
    files = find_scenes(scenes, asset=asset)
    pixels = _pixels(files)
    begun = _begun_by(files, output, chosen)
    network = _network(model, adapter, chosen, pixels // hands.workers, begun, files, output)
    config = _config(chosen, network)
    if dry_run:
        _tell_estimates(network, files, output, config, as_json=json)
        return
    with (
        _workers(model, adapter, chosen, network) as workers,
        _bar(files, pixels, quiet=json) as advance,
    ):
        results = _predicted(network, files, output, config, workers, hands.workers, advance)
    warning = _say_of_all(results, network.spec.expected_iou) if len(files) > 1 else None
    chose = config.polygons is not None and isinstance(config.polygons.threshold, str)
    _report(results, network.runtime, warning, chose=chose, as_json=json)


def _check(chosen: Chosen) -> WorkerConfig:
    """Check all options before anything is loaded; return those of the worker processes."""
    config = chosen.make(PredictionConfig, polygons=chosen.make(PolygonConfig))
    if config.tile % 32:
        raise typer.BadParameter(f"--tile must be a multiple of 32, got {config.tile}")
    chosen.make(RuntimeConfig)
    return chosen.make(WorkerConfig)


def _begun_by(files: list[str], output: Path, chosen: Chosen) -> str | None:
    """Return the runtime of an unfinished prediction that is continued, if it is installed."""
    from rhm.inference.plan import Outputs
    from rhm.inference.runtime.runtimes import RUNTIMES, runtime_of
    from rhm.inference.tiling.journal import runtime_of_parts

    config, place = chosen.make(PredictionConfig), chosen.make(RuntimeConfig)
    if not config.resume or place.runtime != "auto":
        return None
    for scene in files:
        begun = runtime_of_parts(Outputs.of(scene, output, config.suffix).unfinished)
        name, precision = runtime_of(begun or "")
        if name in RUNTIMES and RUNTIMES[name].installed and precision == place.precision:
            return name
    return None


def _network(
    path: Path,
    adapter: Path | None,
    chosen: Chosen,
    pixels: int,
    begun: str | None,
    files: list[str],
    output: Path,
) -> "Backend":
    """Return the network, with the runtime that began an unfinished prediction if there is one."""
    from rhm.inference.many_scenes import samples_of_scenes
    from rhm.inference.runtime.selection import network_for
    from rhm.inference.tiling.calibration import quantization_for
    from rhm.models.model_file import load_model

    model, config = load_model(path, adapter=adapter), chosen.make(PredictionConfig)
    place = chosen.make(RuntimeConfig)
    if begun is not None:
        place = replace(place, runtime=begun)
    quantization = None
    if place.precision != "float":
        samples = partial(samples_of_scenes, model, files, output, config)
        quantization = quantization_for(model, path, samples, runtime=place.runtime, tell=say)
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
    files: list[str], pixels: int, *, quiet: bool
) -> AbstractContextManager[Callable[[float], None]]:
    title = f"{len(files)} scenes" if len(files) > 1 else Path(files[0]).name
    return progress(title, pixels, unit="Mpx", per_unit=1e6, quiet=quiet)


def _predicted(
    network: "Backend",
    files: list[str],
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
        on_result=_say if len(files) == 1 else None,
    )


def _pixels(scenes: list[str]) -> int:
    """Return the pixels of the scenes that can be opened; the others are reported later."""
    from rhm.data.rasters.raster import describe

    total = 0
    for scene in scenes:
        with suppress(Exception):  # whatever it is, the prediction of this scene tells it
            info = describe(scene)
            total += info.height * info.width
    return total


def _say(result: "SceneResult") -> None:
    if result.prediction is not None:
        for note in filter(None, (*result.prediction.notes, result.prediction.warning)):
            say(f"{Path(result.scene).name}: {note}")


def _say_of_all(results: "list[SceneResult]", home: float | None) -> str | None:
    """Print every note once, with the number of its scenes; return the warning for all scenes.

    The expected IoU is estimated for all scenes together, because that of a single small scene
    means little.
    """
    from functools import reduce

    from rhm.inference.suitability import domain_note
    from rhm.models.expected_iou import ExpectedIoU

    scenes: dict[str, list[str]] = {}
    for result in results:
        for note in result.prediction.notes if result.prediction else ():
            scenes.setdefault(note, []).append(Path(result.scene).name)
    for note, names in scenes.items():
        who = names[0] if len(names) == 1 else f"{len(names)} of {len(results)} scenes"
        say(f"{who}: {note}")
    expectations = [
        result.prediction.expectation
        for result in results
        if result.prediction is not None and result.prediction.expectation is not None
    ]
    warning = domain_note(home, reduce(ExpectedIoU.merge, expectations)) if expectations else None
    if warning:
        say(f"all scenes together: {warning}")
    return warning


def _report(
    results: "list[SceneResult]",
    runtime: str,
    warning: str | None,
    *,
    chose: bool,
    as_json: bool,
) -> None:
    """Print the results of the scenes, and then raise an error if some of them failed.

    Args:
        results: results of all scenes.
        runtime: runtime that executed the model.
        warning: warning for all scenes together, if there is one.
        chose: whether thresholds were chosen by the probabilities, and are told.
        as_json: whether to print JSON.

    Raises:
        RhmError: scenes failed, all of them because of their input.
        Exception: the first defect that made a scene fail.
    """
    done = [result for result in results if result.prediction is not None]
    failed = [result for result in results if result.error is not None]
    values = [_values(result.scene, result.prediction) for result in done if result.prediction]
    lines = [f"{value['count']} buildings in {value['buildings']}" for value in values]
    if chose:
        lines = [
            f"{line} (threshold {value['threshold']:.3f})"
            for line, value in zip(lines, values, strict=True)
        ]
    if values:
        errors = [{"scene": result.scene, "error": result.failure} for result in failed]
        found = {"runtime": runtime, "scenes": values, "warning": warning, "failed": errors}
        emit(found, lines, as_json=as_json)
    if failed:
        _raise(failed, len(results))


def _raise(failed: "list[SceneResult]", count: int) -> None:
    """Print why scenes failed if there are several, and raise an error.

    Raises:
        RhmError: all of them failed because of their input.
        Exception: the first defect.
    """
    from rhm.errors import RhmError, printable

    errors = [result.error for result in failed if result.error is not None]
    if count > 1:
        for result in failed:
            complain(f"failed: {printable(result.failure)}")
    for error in errors:
        if not isinstance(error, RhmError):
            raise error
    raise errors[0] if count == 1 else type(errors[0])(f"{len(failed)} of {count} scenes failed")


def _values(scene: str, prediction: "Prediction") -> dict[str, Any]:
    """Return the JSON values of a prediction."""
    values = {"scene": scene, **asdict(prediction), "expected_iou": prediction.expected_iou}
    del values["expectation"]
    return values


def _tell_estimates(
    network: "Backend", scenes: list[str], output: Path, config: PredictionConfig, *, as_json: bool
) -> None:
    """Print the estimated cost of every scene, and then raise an error if some are refused.

    Raises:
        RhmError: scenes are refused, all of them because of their input.
        Exception: the first defect that made a scene fail.
    """
    from rhm.inference.many_scenes import SceneResult

    values, lines, failed = [], [], []
    for scene in scenes:
        try:
            value, told = _estimate(network, scene, output, config)
        except Exception as error:  # noqa: BLE001 (whatever it is, the others are estimated)
            failed.append(SceneResult(scene, None, error))
            continue
        values.append(value)
        lines += told
    if values:
        errors = [{"scene": result.scene, "error": result.failure} for result in failed]
        emit({"scenes": values, "failed": errors}, lines, as_json=as_json)
    if failed:
        _raise(failed, len(scenes))


def _estimate(
    network: "Backend", scene: str, output: Path, config: PredictionConfig
) -> tuple[dict[str, Any], list[str]]:
    """Return the estimated cost of a scene, as JSON values and as lines."""
    from rhm.inference.cost_estimate import estimate
    from rhm.inference.plan import plan_prediction
    from rhm.inference.scenes import is_finished

    plan = plan_prediction(network, scene, output, config)
    there = is_finished(plan)
    if not (config.resume and there):
        plan.outputs.check_free(plan.origin, overwrite=config.overwrite)
    cost = estimate(network, plan)
    memory = "unknown" if cost.memory_bytes is None else f"{cost.memory_bytes / 1e9:.1f} GB"
    size = f"{plan.scene.width} x {plan.scene.height}"
    line = (
        f"{scene}: {size} pixels, {len(plan.grid.strips)} strips, {cost.tiles} tiles of "
        f"{plan.grid.tiling.tile}: about {cost.seconds / 60:.1f} min, {memory} of memory, at "
        f"most {cost.disk_bytes / 1e9:.1f} GB of disk"
        + ("; the results already exist" if there else "")
    )
    values = {"scene": scene, "there": there, "notes": plan.notes, **asdict(cost)}
    return values, [line, *(f"  {note}" for note in plan.notes)]
