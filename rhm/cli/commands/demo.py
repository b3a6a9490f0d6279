"""``rhm demo``: the whole workflow, from imagery to report, in a few minutes."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhm.cli.options import Json
from rhm.cli.output import emit, progress, say, shows_progress
from rhm.cli.output_files import check_output, is_report, is_report_page
from rhm.errors import CatalogError, ConfigError, OutputError

if TYPE_CHECKING:
    from rhm.data.catalog import Catalog
    from rhm.evaluation.scores import Scores
    from rhm.training.config import RunConfig
    from rhm.training.run import Run

METHODS = ("none", "bank")

_INSTEAD = "choose another folder with --output"


@dataclass(frozen=True)
class Story:
    """The setting of the demonstration.

    Attributes:
        catalog: path of the catalog.
        source: the labelled domain.
        targets: the domains of which only the histograms are used.
        scenes: rasters to predict.
        gsd_m: metres per pixel to train and test at.
    """

    catalog: Path
    source: str
    targets: tuple[str, ...]
    scenes: tuple[Path, ...]
    gsd_m: float | None


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path(
        "demo"
    ),
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of real imagery, laid out as for `rhm data index folder`."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Domain to train on. Default: the one with the most images.")
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="Training steps of each model.")] = 200,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the towns, the split and the training.")
    ] = 0,
    json: Json = False,
) -> None:
    """Train in one place and predict in another, without and with a bank of the other.

    Uses two synthetic towns seen by two sensors or, with `--data`, real imagery.

    Example: `rhm demo -o demo`
    """
    from rhm.cli.commands.evaluate import score_lines, scored
    from rhm.data.catalog import Catalog
    from rhm.evaluation.evaluator import picks_of
    from rhm.evaluation.scores import Shift
    from rhm.inference.polygons import PolygonConfig
    from rhm.inference.scenes import predict_raster
    from rhm.models.model_file import load_model
    from rhm.records import plain
    from rhm.report import write_report

    if source is not None and data is None:
        raise typer.BadParameter("--source names a domain of your own imagery: add --data")
    bank = output / "target.bank"
    _check_results(output, bank)
    found = None if data is None else _indexed_folder(data, seed)
    story = _synthetic(output) if found is None else _real(output, found, source)
    first = _config(METHODS[0], story, bank, output, steps, seed)
    _check_run(first)
    _check_catalog(first, story.catalog, found)
    if found is None:
        found = _drawn(output, seed)
    found.save(story.catalog)
    catalog = Catalog.load(story.catalog)
    say(f"training on {story.source}, predicting {', '.join(story.targets)}")
    _write_bank(catalog, story, bank)
    work = {
        "split": "test",
        "domains": [story.source, *story.targets],
        "shifts": [Shift("monotone", seed)],
    }
    runs: list[Run] = []
    results: list[Scores] = []
    for method in METHODS:
        run = _train(_config(method, story, bank, output, steps, seed))
        runs.append(run)
        say(f"evaluating {run.folder.name}")
        picks = picks_of(results[0]) if results else None
        told: dict[str, Any] = {"catalog_path": str(story.catalog), "picks": picks}
        results.append(scored(run.folder, run.evaluation, catalog, work, **told))
    predictions = []
    model = load_model(runs[-1].model)
    polygons = PolygonConfig(model.spec.threshold, min_area_m2=10.0, simplify_m=0.5)
    for scene in story.scenes:
        say(f"predicting {scene.name}")
        predictions.append(
            predict_raster(model, scene, output / "predicted", dtype="uint8", polygons=polygons)
        )
    report = write_report([run.folder for run in runs], output / "report.html")
    lines = score_lines(results)
    for prediction in predictions:
        lines += [
            f"{prediction.count} buildings: {prediction.buildings}",
            f"probabilities: {prediction.probability}",
            f"mask: {prediction.mask}",
        ]
    lines += [f"models: {', '.join(str(run.model) for run in runs)}", f"report: {report}"]
    lines += ["", *_moral(story, results), *_next(story, report, output / "predicted")]
    values = {
        "runs": [plain(scores) for scores in results],
        "report": str(report),
        "scenes": [str(p.buildings) for p in predictions],
    }
    emit(values, lines, as_json=json)


def _moral(story: Story, results: "list[Scores]") -> list[str]:
    """Return what the demonstration has shown: the IoU at home and elsewhere, without and with."""
    lines = []
    for name in (story.source, *story.targets):
        values = [
            domain.pixel.iou.value
            for scores in results
            for domain in scores.domains
            if domain.name == name and domain.shift is None
        ]
        if len(values) == len(METHODS) and None not in values:
            without, banked = values
            where = "trained on" if name == story.source else "never labelled"
            lines.append(f"{name} ({where}): IoU {without:.2f}, with the bank {banked:.2f}")
    return lines


def _next(story: Story, report: Path, predicted: Path) -> list[str]:
    lines = [f"open {report} in a browser"]
    if story.scenes:
        words = [word for scene in story.scenes for word in ("--scene", str(scene))]
        lines.append(f"see the map: {shlex.join(['rhm', 'view', str(predicted), *words])}")
    return lines


def _check_results(output: Path, bank: Path) -> None:
    """Check that the results replace no file that rhm did not write.

    Raises:
        OutputError: there is one.
    """
    from rhm.colour.bank_file import is_archive

    page = output / "report.html"
    results = {page: is_report_page, page.with_suffix(".json"): is_report, bank: is_archive}
    for path, ours in results.items():
        check_output(path, (), ours=ours, instead=_INSTEAD)


def _check_run(config: "RunConfig") -> None:
    """Check that a run of an earlier demonstration, which is not repeated, had the same settings.

    Raises:
        OutputError: it had others, or the folder is not that of a run.
    """
    from rhm.training.run import Run

    try:
        if Run(config.folder).is_begun:
            Run.resume(config)
        else:
            Run.refuse_existing(config)
    except ConfigError as error:
        raise OutputError(
            f"{config.folder} is not a run with these settings ({config.trainer.steps} steps): "
            f"{_INSTEAD}"
        ) from error


def _check_catalog(first: "RunConfig", path: Path, found: "Catalog | None") -> None:
    """Check that the catalog of the demonstration replaces none of the user's, with its splits.

    Args:
        first: configuration of the first run.
        path: where the catalog will be.
        found: the catalog; None before its images are drawn.

    Raises:
        OutputError: it would.
    """
    from rhm.data.catalog import Catalog
    from rhm.training.run import Run

    def is_ours(path: Path) -> bool:
        if Run(first.folder).is_begun:
            return True
        try:
            known = Catalog.load(path)
        except CatalogError:
            return False
        if found is not None:
            return _rows(known) == _rows(found)
        world = (path.parent / "world").resolve()
        return all(tile.image.resolve().is_relative_to(world) for tile in known.tiles)

    check_output(path, (), ours=is_ours, instead=_INSTEAD)


def _rows(catalog: "Catalog") -> set[tuple[object, ...]]:
    """Return what a user may have chosen in a catalog."""
    return {
        (tile.image.resolve(), tile.label and tile.label.resolve(), tile.domain, tile.split)
        for tile in catalog.tiles
    }


def _synthetic(output: Path) -> Story:
    return Story(
        catalog=output / "catalog.parquet",
        source="alder_aerial",
        targets=("alder_satellite", "birch_aerial", "birch_satellite"),
        scenes=(output / "world" / "scenes" / "birch_satellite.tif",),
        gsd_m=None,
    )


def _drawn(output: Path, seed: int) -> "Catalog":
    """Draw the towns, and return their catalog."""
    from rhm.synthetic.world import write_sample_world

    say("drawing two towns seen by two sensors")
    write_sample_world(output / "world", seed=seed)
    return _indexed(output / "world", None, r"(\d+)$", seed)


def _real(output: Path, found: "Catalog", source: str | None) -> Story:
    """Return the story of real imagery.

    Raises:
        CatalogError: too little of it is labelled, or the source is not there.
    """
    catalog = found.select(labelled=True)
    if len(catalog.domains) < 2:
        only = f" ({catalog.domains[0]})" if catalog.domains else ""
        raise CatalogError(
            "the demonstration needs labelled images of at least two domains, and finds "
            f"{len(catalog.domains)}{only}: each domain is a folder with images/ beside masks/ or "
            "footprints/"
        )
    chosen = source or str(catalog.frame["domain"].value_counts().idxmax())
    of_source = catalog.select(domains=[chosen])
    if not len(of_source.select(split="train")):
        raise CatalogError(f"{chosen} has no labelled image in split 'train': choose a --source")
    targets = tuple(domain for domain in catalog.domains if domain != chosen)
    placed = [tile for tile in catalog.tiles if tile.domain != chosen and tile.crs]
    # The scene with the most buildings is the most informative one.
    placed.sort(key=lambda tile: tile.building_fraction or 0.0, reverse=True)
    return Story(
        catalog=output / "catalog.parquet",
        source=chosen,
        targets=targets,
        scenes=tuple(tile.image for tile in placed[:1]),
        gsd_m=of_source.tiles[0].gsd_m,
    )


def _indexed_folder(data: Path, seed: int) -> "Catalog":
    table = data / "manifest.csv"
    return _indexed(data, table if table.is_file() else None, None, seed)


def _indexed(folder: Path, table: Path | None, group_pattern: str | None, seed: int) -> "Catalog":
    from rhm.data.catalog import Catalog
    from rhm.data.layouts.folder import find_in_folder

    sources = find_in_folder(folder, table=table, group_pattern=group_pattern)
    with progress("indexing", len(sources)) as advance:
        catalog = Catalog.build(sources, on_progress=lambda: advance(1))
    return catalog.assign_splits({"val": 0.15, "test": 0.25}, seed=seed)


def _write_bank(catalog: "Catalog", story: Story, path: Path) -> None:
    from rhm.colour.spectra.spectrum import SIDE
    from rhm.data.radiometry import bank_of

    tiles = catalog.select(domains=story.targets).tiles
    bank = bank_of(tiles, spectrum_px=SIDE, gsd_m=story.gsd_m)
    bank.save(path)
    say(f"wrote {len(bank)} histograms and spectra of the targets to {path}")


def _config(
    method: str, story: Story, bank: Path, output: Path, steps: int, seed: int
) -> "RunConfig":
    from rhm.training.config import parse_config

    # Names of runs have no spaces; names of domains may.
    source = re.sub(r"[^\w.+-]+", "_", story.source).lstrip(".+-")
    return parse_config(
        {
            "name": f"{source}-{method}-{seed}",
            "output": str(output / "runs"),
            "seed": seed,
            "data": {
                "catalog": str(story.catalog),
                "sources": [story.source],
                "chip_px": 96,
                "gsd_m": story.gsd_m,
            },
            # A bank turns on the recipe for places without labels.
            "augment": {"bank": str(bank)} if method == "bank" else {},
            "trainer": {"steps": steps, "validate_every": steps},
        }
    )


def _train(config: "RunConfig") -> "Run":
    from rhm.evaluation.footprint_precision import calibrate_scores
    from rhm.training.fitting import fit_once
    from rhm.training.run import Run

    _check_run(config)
    done, steps = Run(config.folder).model.is_file(), config.trainer.steps
    say(f"{config.name} is already trained" if done else f"training {config.name}, {steps} steps")
    return fit_once(config, progress=shows_progress(quiet=False), calibrate=calibrate_scores)
