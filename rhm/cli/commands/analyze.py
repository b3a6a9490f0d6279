"""``rhm analyze``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhm.cli.options import LARGEST_SEED, CatalogFile, Device, Domains, Json, ModelPaths
from rhm.cli.output import emit, progress, say, table
from rhm.cli.output_files import check_output, is_analysis_page
from rhm.files import check_folder_writable
from rhm.inference.runtime.runtimes import RuntimeConfig

if TYPE_CHECKING:
    from rhm.evaluation.features.findings import Inspection


def analyze(
    models: ModelPaths,
    catalog: CatalogFile,
    domains: Domains = None,
    split: Annotated[str, typer.Option(help="Split to use: train, val, test or all.")] = "test",
    stages: Annotated[
        list[str] | None,
        typer.Option(
            "--stage",
            help="Layer such as `decoder.blocks.2` or `encoder[3]`. Can be repeated.",
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=2, help="Maximum number of images per domain.")] = 40,
    window: Annotated[
        int,
        typer.Option(min=64, help="Side of the window of each image, in pixels, a multiple of 32."),
    ] = 512,
    cells: Annotated[
        int, typer.Option(min=1, help="Maximum number of cells per class, stage and image.")
    ] = 200,
    purity: Annotated[
        float,
        typer.Option(min=0.51, max=1.0, help="Minimum share of a cell that its class covers."),
    ] = 0.9,
    ground: Annotated[
        int,
        typer.Option(
            min=1,
            max=32,
            help="Sample cells up to this size, in pixels, at the same locations: a power of two.",
        ),
    ] = 4,
    boundary: Annotated[
        float,
        typer.Option(
            min=0.0, max=64.0, help="Half width of the outline class, in pixels. 0: no such class."
        ),
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of windows and cells.")
    ] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the page.")] = Path(
        "features"
    ),
    device: Device = RuntimeConfig.device,
    json: Json = False,
) -> None:
    """Look inside models: how well their features separate the classes, stage by stage.

    Measures compression and discrimination, neural collapse, linear probes, and how far the class
    means of other domains lie from those of the training domain. Several models are compared side
    by side. Writes a page, and its numbers as JSON, CSV and Parquet.

    Example: `rhm analyze runs/inria-none runs/inria-rhm catalog.parquet -o features`
    """
    from rhm.data.catalog import SPLITS, Catalog
    from rhm.evaluation.features.adapter_changes import inspect_adaptation
    from rhm.evaluation.features.feature_moments import CellSampling
    from rhm.evaluation.features.inspection import images_to_inspect, inspect_model
    from rhm.evaluation.image_choice import check_choice, told_once
    from rhm.inference.runtime.backends import on_device
    from rhm.models.model_file import load_model
    from rhm.models.spec import load_spec
    from rhm.report.features.adaptation_plots import adaptation_sentence
    from rhm.report.features.analysis_page import (
        FILES,
        is_analysis,
        left_out,
        tap_sentence,
        write_analysis,
    )

    if split not in (*SPLITS, "all"):
        raise typer.BadParameter(f"unknown split '{split}': choose {', '.join(SPLITS)}, all")
    if not all(stages or ()):
        raise typer.BadParameter("--stage needs the name of a layer, such as decoder.blocks.2")
    if window % 32:
        raise typer.BadParameter(f"--window must be a multiple of 32, got {window}")
    if 32 % ground:
        raise typer.BadParameter(f"--ground must be 1, 2, 4, 8, 16 or 32, got {ground}")
    check_folder_writable(output)
    for file in FILES:
        ours = is_analysis_page if file.endswith(".html") else is_analysis
        check_output(output / file, (), needed=[catalog], ours=ours)
    sampling = CellSampling(
        images=images,
        window_px=window,
        cells=cells,
        purity=purity,
        ground_px=ground,
        boundary_px=boundary,
        seed=seed,
    ).of(map(load_spec, models))
    names = _names(models)
    listed = Catalog.load(catalog)
    asked: dict[str, Any] = {"split": None if split == "all" else split, "domains": domains}
    found, notes = [], []
    for path, name in zip(models, names, strict=True):
        spec = load_spec(path)
        found.append(images_to_inspect(listed, spec, **asked))
        notes.append((name, check_choice(listed, spec, **asked, model=name, file=catalog)))
    for note in told_once(notes):
        say(note)
    adaptations = [
        change
        for path, name in zip(models, names, strict=True)
        if (change := inspect_adaptation(_run_of(path), name)) is not None
    ]
    inspections = []
    for path, name, tiles in zip(models, names, found, strict=True):
        model = on_device(load_model(path), device)
        amount = sum(min(images, len(of_domain)) for of_domain in tiles.values())
        with progress(name, amount) as advance:
            inspections.append(
                inspect_model(
                    model,
                    tiles,
                    sampling,
                    name=name,
                    stages=stages or (),
                    on_image=partial(advance, 1),
                )
            )
    page, numbers, *tables = write_analysis(inspections, sampling, output, adaptations)
    lines = [f"left out: {line}" for line in left_out(inspections)]
    lines += [tap_sentence(inspection.best) for inspection in inspections if inspection.best]
    lines += [adaptation_sentence(adaptation) for adaptation in adaptations]
    values = {
        "page": str(page),
        "numbers": str(numbers),
        "tables": [str(path) for path in tables],
        "models": [inspection.to_dict() for inspection in inspections],
        "adaptations": [adaptation.to_dict() for adaptation in adaptations],
    }
    shown = [*_last_stages(inspections), *lines, f"page: {page}"]
    emit(values, shown, as_json=json)


def _run_of(model: Path) -> Path:
    """Return the folder of the run that a model belongs to, or the path of a file without a run."""
    return model.parent if model.name == "model.safetensors" else model


def _names(models: list[Path]) -> list[str]:
    """Return a name for each model: that of its run, or of its file if runs share a folder."""
    from rhm.models.named_models import home_of

    runs = [home_of(path).resolve().name for path in models]
    files = [path.resolve().name if path.is_dir() else path.stem for path in models]
    for names in (files, runs):
        if len(set(names)) == len(names) and "model" not in names:
            return names
    both = [f"{run}/{file}" for run, file in zip(runs, files, strict=True)]
    if len(set(both)) < len(both):
        raise typer.BadParameter(
            "models of the same name cannot be distinguished: rename one of them"
        )
    return both


def _last_stages(inspections: "list[Inspection]") -> list[str]:
    """Return the table of the last stage of each model."""
    rows: list[list[Any]] = []
    for inspection in inspections:
        for row in inspection.last_stage():
            values = (row.compression, row.discrimination, row.probe, row.transfer)
            moved = (*row.shift.values(), *row.advance.values())
            rows.append([inspection.model, row.domain, row.stage, *values, *moved])
    header = ["model", "domain", "stage", "C_l", "D_l", "own probe", "transferred"]
    classes = inspections[0].classes
    header += [f"{what} of {label}" for what in ("shift", "advance") for label in classes]
    return table(header, rows)
