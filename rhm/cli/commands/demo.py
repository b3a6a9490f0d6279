"""``rhm demo``: the whole workflow, from imagery to report, in a few minutes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhm.cli.options import Json
from rhm.cli.output import emit, progress, say, shows_progress

if TYPE_CHECKING:
    from rhm.data.catalog import Catalog
    from rhm.evaluation.scores import Scores
    from rhm.training.run import Run

METHODS = ("none", "bank")


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

    story = _synthetic(output, seed) if data is None else _real(output, data, source, seed)
    catalog = Catalog.load(story.catalog)
    say(f"training on {story.source}, predicting {', '.join(story.targets)}")
    bank = _bank(catalog, story, output / "target.bank")
    work = {
        "split": "test",
        "domains": [story.source, *story.targets],
        "shifts": [Shift("monotone", seed)],
    }
    runs: list[Run] = []
    results: list[Scores] = []
    for method in METHODS:
        run = _train(method, story, bank, output, steps=steps, seed=seed)
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
    scenes = " ".join(f"--scene {scene}" for scene in story.scenes)
    return [f"open {report} in a browser", f"see the map: rhm view {predicted} {scenes}"]


def _synthetic(output: Path, seed: int) -> Story:
    from rhm.synthetic.world import write_sample_world

    world = output / "world"
    say("drawing two towns seen by two sensors")
    write_sample_world(world, seed=seed)
    catalog = _index(world, output, None, r"(\d+)$", seed)
    return Story(
        catalog=catalog,
        source="alder_aerial",
        targets=("alder_satellite", "birch_aerial", "birch_satellite"),
        scenes=(world / "scenes" / "birch_satellite.tif",),
        gsd_m=None,
    )


def _real(output: Path, data: Path, source: str | None, seed: int) -> Story:
    from rhm.data.catalog import Catalog

    table = data / "manifest.csv"
    path = _index(data, output, table if table.is_file() else None, None, seed)
    catalog = Catalog.load(path).select(labelled=True)
    sizes = catalog.frame["domain"].value_counts()
    chosen = source or str(sizes.idxmax())
    tiles = catalog.select(domains=[chosen]).tiles
    targets = tuple(domain for domain in catalog.domains if domain != chosen)
    placed = [tile for tile in catalog.tiles if tile.domain != chosen and tile.crs]
    # The scene with the most buildings is the most informative one.
    placed.sort(key=lambda tile: tile.building_fraction or 0.0, reverse=True)
    return Story(
        catalog=path,
        source=chosen,
        targets=targets,
        scenes=tuple(tile.image for tile in placed[:1]),
        gsd_m=tiles[0].gsd_m,
    )


def _index(
    folder: Path, output: Path, table: Path | None, group_pattern: str | None, seed: int
) -> Path:
    from rhm.data.catalog import Catalog
    from rhm.data.layouts.folder import find_in_folder

    sources = find_in_folder(folder, table=table, group_pattern=group_pattern)
    with progress("indexing", len(sources)) as advance:
        catalog = Catalog.build(sources, on_progress=lambda: advance(1))
    path = output / "catalog.parquet"
    catalog.assign_splits({"val": 0.15, "test": 0.25}, seed=seed).save(path)
    return path


def _bank(catalog: "Catalog", story: Story, path: Path) -> Path:
    from rhm.colour.spectrum import SIDE
    from rhm.data.radiometry import bank_of

    tiles = catalog.select(domains=story.targets).tiles
    bank = bank_of(tiles, spectrum_px=SIDE, gsd_m=story.gsd_m)
    bank.save(path)
    say(f"wrote {len(bank)} histograms and spectra of the targets to {path}")
    return path


def _train(method: str, story: Story, bank: Path, output: Path, *, steps: int, seed: int) -> "Run":
    from rhm.evaluation.footprint_precision import calibrate_scores
    from rhm.training.config import parse_config
    from rhm.training.fitting import fit_once
    from rhm.training.run import Run

    config = parse_config(
        {
            "name": f"{story.source}-{method}-{seed}",
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
    done = Run(config.folder).model.is_file()
    say(f"{config.name} is already trained" if done else f"training {config.name}, {steps} steps")
    return fit_once(config, progress=shows_progress(quiet=False), calibrate=calibrate_scores)
