"""``rhm evaluate``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhm.cli.options import CatalogFile, Domains, Json, ShiftFamily, ShiftSeed, Views
from rhm.cli.output import emit, progress, table

if TYPE_CHECKING:
    from rhm.evaluation.scores import Scores


def evaluate(
    models: Annotated[list[Path], typer.Argument(help="Folders of runs, or model files.")],
    catalog: CatalogFile,
    domains: Domains = None,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    shift: ShiftFamily = None,
    shift_seed: ShiftSeed = 0,
    views: Views = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="By default `evaluation` in the run's folder."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: Json = False,
) -> None:
    """Score models on labelled images, domain by domain.

    Models that are scored together show the same images in the report. With `--shift`, the
    domains that a model was trained on are also scored under random pixel-wise shifts.

    Example: `rhm evaluate runs/inria-none runs/inria-rhm catalog.parquet`
    """
    from rhm.colour.shifts import SHIFTS
    from rhm.data.catalog import SPLITS, Catalog
    from rhm.evaluation.evaluator import amount_of_work, evaluate_model, picks_of
    from rhm.evaluation.scores import Shift
    from rhm.inference.runtime.backends import on_device
    from rhm.inference.tiling.stream import Tiling
    from rhm.models.model_file import load_model
    from rhm.records import plain

    if split not in (*SPLITS, "all"):
        raise typer.BadParameter(f"unknown split '{split}': choose {', '.join(SPLITS)}, all")
    if shift is not None and shift not in SHIFTS:
        raise typer.BadParameter(f"unknown shift '{shift}': choose {', '.join(SHIFTS)}")
    if output is not None and len(models) > 1:
        raise typer.BadParameter("--output goes with one model")
    listed = Catalog.load(catalog)
    chosen: dict[str, Any] = {
        "split": None if split == "all" else split,
        "domains": domains,
        "shifts": [Shift(shift, shift_seed)] if shift else [],
    }
    results: list[Scores] = []
    for path in models:
        model = on_device(load_model(path), device)
        run = path if path.is_dir() else path.parent
        with progress(run.name, amount_of_work(listed, model.spec, **chosen)) as advance:
            results.append(
                evaluate_model(
                    model,
                    listed,
                    output or run / "evaluation",
                    name=run.name,
                    catalog_path=str(catalog),
                    picks=picks_of(results[0]) if results else None,
                    tiling=Tiling(views=views),
                    on_progress=partial(advance, 1),
                    **chosen,
                )
            )
    emit({"runs": [plain(scores) for scores in results]}, score_lines(results), as_json=json)


def score_lines(results: "list[Scores]") -> list[str]:
    """Return the table of scores, a row per run and domain."""
    header = [
        "run",
        "domain",
        "images",
        "IoU",
        "low",
        "high",
        "F1",
        "object F1",
        "boundary 1 m",
        "3 m",
        "ECE",
    ]
    rows = [
        [
            scores.run,
            domain.name,
            domain.images,
            domain.pixel.iou.value,
            domain.pixel.iou.low,
            domain.pixel.iou.high,
            domain.pixel.f1.value,
            domain.object.f1.value,
            *(found.value for found in domain.boundary_iou.values()),
            domain.calibration.ece,
        ]
        for scores in results
        for domain in scores.domains
    ]
    return table(header, rows)
