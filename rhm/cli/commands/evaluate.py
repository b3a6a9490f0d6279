"""``rhm evaluate``."""

from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhm.cli.flags import Chosen, choosing
from rhm.cli.options import (
    CatalogFile,
    Domains,
    Json,
    ShiftFamily,
    ShiftSeed,
    Views,
    check_shift_seed,
    required,
)
from rhm.cli.output import emit, progress, say, table
from rhm.files import check_folder_writable
from rhm.inference.runtime.runtimes import RuntimeConfig
from rhm.inference.settings.tile_config import Tiling
from rhm.models.named_models import model_file
from rhm.required_files import require_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rhm.data.catalog import Catalog
    from rhm.evaluation.scores import Scores
    from rhm.inference.runtime.quantization import Quantization
    from rhm.models.build import SegmentationModel


def _is_catalog(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _require_model_or_catalog(path: Path) -> None:
    if _is_catalog(path):
        require_catalog(path)
    else:
        model_file(path)


@choosing(RuntimeConfig)
def evaluate(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of runs, model files, or names from `rhm models`; and further catalogs.",
            callback=required(_require_model_or_catalog),
        ),
    ],
    catalog: CatalogFile,
    chosen: Chosen,
    domains: Domains = None,
    split: Annotated[str, typer.Option(help="Split to use: train, val, test or all.")] = "test",
    shift: ShiftFamily = None,
    shift_seed: ShiftSeed = None,
    views: Views = False,
    threshold: Annotated[
        str | None,
        typer.Option(
            help="Minimum probability of a building pixel: a number, or auto for the one that the "
            "probabilities in each domain imply. Default: the threshold of the model."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the scores of a single model, or for a folder NAME/evaluation of each "
            "of several. Default: `evaluation` in its run, or `runs/NAME/evaluation` for a model "
            "given by name.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace scores of the same domains by another split, threshold or views, or in "
            "the folder of --output of another model, and a scores.json that cannot be read.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Score models on labelled images, domain by domain.

    Several catalogs are scored one after the other. Models that are scored together show the same
    images in the report. With `--shift`, the domains that a model was trained on are also scored
    under random pixel-wise shifts. Scores are added to those of earlier evaluations of the same
    model; a domain that is scored again in the same way replaces its own.

    Example: `rhm evaluate runs/inria-none runs/inria-rhm catalog.parquet`
    """
    used = _threshold(threshold)
    from rhm.data.catalog import Catalog
    from rhm.evaluation.evaluator import picks_of
    from rhm.evaluation.scores import few_groups, not_implied, unknown_sizes
    from rhm.records import plain

    work = _work(split, domains, shift, shift_seed)
    catalogs = [*filter(_is_catalog, models), catalog]
    models = [path for path in models if not _is_catalog(path)]
    if not models:
        raise typer.BadParameter("name the models to score before the catalog")
    folders = _folders(models, output)
    place, tiling = chosen.make(RuntimeConfig), Tiling(views=views)
    results: list[Scores] = []
    plan = list(_asked(catalogs, [Catalog.load(path) for path in catalogs], work))
    _check_all(models, folders, plan, overwrite=overwrite)
    for file, listed, asked in plan:
        first: Scores | None = None
        for path, folder in zip(models, folders, strict=True):
            picks = picks_of(first) if first else None
            options: dict[str, Any] = {"place": place, "tiling": tiling, "overwrite": overwrite}
            options |= {"catalog_path": str(file), "picks": picks, "threshold": used}
            found = scored(path, folder, listed, asked, **options)
            first = first or found
            results.append(found)
    listed_domains = [domain for scores in results for domain in scores.domains]
    for sentence in (not_implied, few_groups, unknown_sizes):
        if told := sentence(listed_domains):
            say(told)
    emit({"runs": [plain(scores) for scores in results]}, score_lines(results), as_json=json)


def _folders(models: list[Path], output: Path | None) -> list[Path | None]:
    """Return the folder for the scores of each model; None for its own."""
    if output is None or len(models) == 1:
        return [output] * len(models)
    from rhm.models.named_models import home_of

    names = [home_of(path).resolve().name for path in models]
    if len(set(names)) < len(names):
        raise typer.BadParameter(
            "--output has a folder for each model by its name, and two have the same: score them "
            "one by one"
        )
    return [output / name / "evaluation" for name in names]


def _asked(
    files: list[Path], listed: "list[Catalog]", work: dict[str, Any]
) -> "Iterator[tuple[Path, Catalog, dict[str, Any]]]":
    """Yield each catalog with what is to be scored of it; those without a wanted domain are not.

    A domain that no catalog has is left in the work of the first, which refuses it.
    """
    wanted = work["domains"]
    if wanted is None or len(listed) == 1:
        yield from ((file, each, work) for file, each in zip(files, listed, strict=True))
        return
    nowhere = [name for name in wanted if not any(name in each.domains for each in listed)]
    for file, each in zip(files, listed, strict=True):
        here = [*nowhere, *(name for name in wanted if name in each.domains)]
        if here:
            yield file, each, work | {"domains": here}


def _work(
    split: str, domains: list[str] | None, shift: str | None, shift_seed: int | None
) -> dict[str, Any]:
    """Return which images are scored, and how they are shifted."""
    from rhm.colour.shifts import SHIFTS
    from rhm.data.catalog import SPLITS
    from rhm.evaluation.scores import Shift

    if split not in (*SPLITS, "all"):
        raise typer.BadParameter(f"unknown split '{split}': choose {', '.join(SPLITS)}, all")
    if shift is not None and shift not in SHIFTS:
        raise typer.BadParameter(f"unknown shift '{shift}': choose {', '.join(SHIFTS)}")
    check_shift_seed(shift, shift_seed)
    return {
        "split": None if split == "all" else split,
        "domains": domains,
        "shifts": [Shift(shift, shift_seed or 0)] if shift else [],
    }


def _threshold(text: str | None) -> float | str | None:
    """Return the threshold that was asked for; None for that of the model."""
    from rhm.errors import ConfigError
    from rhm.inference.settings.polygon_config import PolygonConfig, is_common, threshold_of

    if text is None:
        return None
    if is_common(text):
        raise typer.BadParameter(f"{text} is for predictions: auto applies to whole domains here")
    try:
        return PolygonConfig(threshold=threshold_of(text)).threshold
    except ConfigError:  # it would name choices that only predictions have
        raise typer.BadParameter(
            f"--threshold must be a number between 0 and 1, or auto, got '{text}'"
        ) from None


def _check_all(
    models: list[Path],
    folders: list[Path | None],
    asked: "list[tuple[Path, Catalog, dict[str, Any]]]",
    *,
    overwrite: bool,
) -> None:
    """Check everything that can be checked before the first image is scored, and say what is known.

    Raises:
        RhmError: a model cannot be scored on a catalog, or what is in its folder is not replaced.
    """
    from rhm.evaluation.image_choice import check_choice, told_once
    from rhm.evaluation.score_files import earlier_scores
    from rhm.models.named_models import home_of
    from rhm.models.spec import load_spec

    notes: list[tuple[str, list[str]]] = []
    for path, folder in zip(models, folders, strict=True):
        run, spec = home_of(path).resolve(), load_spec(path)
        place = folder or run / "evaluation"
        earlier_scores(place, overwrite=overwrite)
        check_folder_writable(place)
        of_run = (
            check_choice(listed, spec, **work, model=str(path), file=file)
            for file, listed, work in asked
        )
        notes.append((run.name, [*chain.from_iterable(of_run)]))
    for note in told_once(notes):
        say(note)


def scored(
    path: Path,
    output: Path | None,
    listed: "Catalog",
    work: dict[str, Any],
    *,
    place: RuntimeConfig = RuntimeConfig(),  # noqa: B008 - it is frozen
    tiling: Tiling = Tiling(),  # noqa: B008
    overwrite: bool = False,
    **told: Any,
) -> "Scores":
    """Score a model, by default with the fastest runtime for the number of pixels.

    Args:
        path: path of the model file, folder of the run, or name.
        output: folder for the scores; by default, ``evaluation`` in the model's home.
        listed: catalog of the images.
        work: keyword arguments of ``evaluate_model`` that select and shift the images.
        place: device and runtime.
        tiling: options of the tiles.
        overwrite: whether to replace earlier scores that these do not repeat.
        told: further keyword arguments of ``evaluate_model``.
    """
    from rhm.evaluation.evaluator import evaluate_model
    from rhm.evaluation.image_choice import amount_of_work, pixels_of_work, work_of
    from rhm.evaluation.score_files import earlier_scores, kept_domains, of_same_model
    from rhm.inference.runtime.selection import network_for
    from rhm.inference.suitability import dtype_notes
    from rhm.models.model_file import load_model
    from rhm.models.named_models import home_of

    model = load_model(path)
    run = home_of(path).resolve()
    folder = output or run / "evaluation"
    earlier = earlier_scores(folder, overwrite=overwrite)
    if earlier is not None and not overwrite:
        _check_earlier(earlier, folder, output, model, listed, work, tiling, told)
    tiles = listed.select(domains=work["domains"], labelled=True).tiles
    for dtype in dict.fromkeys(tile.dtype for tile in tiles):
        for note in dtype_notes(model.spec, dtype):
            say(f"{run.name}: {note}")
    planned = work_of(listed, model.spec, **work)
    pixels = pixels_of_work(planned, model.spec) * tiling.passes
    quantization = _quantization(path, model, listed, place)
    options = asdict(place) | {"quantization": quantization, "tell": say}
    network = network_for(model, pixels=pixels, **options)
    with progress(run.name, amount_of_work(planned)) as advance:
        latest = evaluate_model(
            network,
            listed,
            folder,
            name=run.name,
            tiling=tiling,
            overwrite=overwrite,
            on_progress=partial(advance, 1),
            **work,
            **told,
        )
    if earlier is not None and not of_same_model(earlier, latest):
        say(f"{folder}: the earlier scores were of another model or threshold, and are replaced")
    elif kept := kept_domains(earlier, latest):
        # Domains of one name in several catalogs are scored side by side.
        again = {domain.label for domain in latest.domains}
        names = dict.fromkeys(
            f"{each.label} ({Path(each.catalog).name})" if each.label in again else each.label
            for each in kept
        )
        say(f"{folder}: the earlier scores of {', '.join(names)} are kept besides")
    return latest


def _check_earlier(
    earlier: "Scores",
    folder: Path,
    output: Path | None,
    model: "SegmentationModel",
    listed: "Catalog",
    work: dict[str, Any],
    tiling: Tiling,
    told: dict[str, Any],
) -> None:
    """Refuse to replace scores that are not repeated.

    The scores in the home of a model that was trained again are replaced.
    """
    from rhm.errors import ConfigError
    from rhm.evaluation.image_choice import ALL, images_to_score
    from rhm.evaluation.score_files import check_replaced
    from rhm.inference.runtime.identity import identity_of

    if earlier.model.weights != identity_of(model):
        if output is not None:
            raise ConfigError(
                f"{folder} has scores of another model ({earlier.run}): choose another --output, "
                "or replace them with --overwrite"
            )
        return
    split = work["split"]
    chosen = images_to_score(listed, model.spec, split=split, domains=work["domains"])
    threshold = told.get("threshold")
    own = isinstance(threshold, str)
    check_replaced(
        earlier,
        folder,
        catalog=told.get("catalog_path", ""),
        splits={each.domain: each.split for each in chosen},
        asked=split or ALL,
        views=tiling.views,
        threshold=model.spec.threshold if threshold is None or own else threshold,
        own_threshold=own,
    )


def _quantization(
    path: Path, model: "SegmentationModel", listed: "Catalog", place: RuntimeConfig
) -> "Quantization | None":
    """Return the quantisation that is kept, or one by the labelled images of the catalog."""
    if place.precision == "float":
        return None
    from rhm.evaluation.labelled_samples import labelled_samples
    from rhm.inference.runtime.selection import int8_runtime
    from rhm.inference.tiling.calibration import quantization_for

    int8_runtime(place.device, place.runtime)  # refuses what cannot, before it is calibrated
    samples = partial(labelled_samples, model.spec, listed)
    return quantization_for(model, path, samples, runtime=place.runtime, tell=say)


def score_lines(results: "list[Scores]") -> list[str]:
    """Return the table of scores, with one row per run and domain."""
    columns = "run, domain, images, IoU, low, high, F1, object F1, boundary 1 m, 3 m, ECE, AP"
    header = [*columns.split(", "), "PoLiS m"]
    rows = [
        [
            scores.run,
            domain.label,
            domain.images,
            domain.pixel.iou.value,
            domain.pixel.iou.low,
            domain.pixel.iou.high,
            domain.pixel.f1.value,
            domain.object.f1.value,
            *(found.value for found in domain.boundary_iou.values()),
            domain.calibration.ece,
            domain.outline.ap if domain.outline else None,
            domain.outline.polis_m.value if domain.outline else None,
        ]
        for scores in results
        for domain in scores.domains
    ]
    domains = [(scores, domain) for scores in results for domain in scores.domains]
    if any(domain.threshold is not None for _, domain in domains):
        header.append("threshold")
        for row, (scores, domain) in zip(rows, domains, strict=True):
            row.append(scores.threshold_of(domain))
    return table(header, rows)
