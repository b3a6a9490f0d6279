"""``rhm data``: catalogs of imagery, and the properties of rasters."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhm.cli.index_command import with_command_on_demand, with_layouts
from rhm.cli.options import (
    LARGEST_SEED,
    Bands,
    BlackIsNodata,
    Json,
    NamedScenes,
    SceneAsset,
    band_numbers,
    required,
)
from rhm.cli.output import complain, counted, emit, progress, say, table
from rhm.cli.output_files import check_output
from rhm.files import check_writable
from rhm.models.named_models import model_file
from rhm.required_files import is_local, require_catalog, require_predictions, require_scenes
from rhm.system import MOST_WORKERS

if TYPE_CHECKING:
    from rhm.data.catalog import Catalog
    from rhm.inference.runtime.backends import DescribedNetwork


def _index() -> Any:
    from rhm.data.layouts.registry import LAYOUTS

    return with_layouts(index, LAYOUTS)


_CATALOG = (".parquet",)
_INDEX = ["rhm", "data", "index", "folder"]

app = typer.Typer(
    cls=with_command_on_demand("index", _index),
    help="Catalogs of imagery, and the properties of rasters.",
    no_args_is_help=True,
)


def index(
    layout: Annotated[str, typer.Argument(help="One of the layouts below.")],
    folder: Annotated[Path, typer.Argument(help="Folder of the imagery.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Catalog to write.")] = Path(
        "catalog.parquet"
    ),
    val: Annotated[float, typer.Option(help="Share of each domain for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of each domain for testing.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the split.")] = 0,
    black_is_nodata: BlackIsNodata = False,
    workers: Annotated[
        int, typer.Option(min=1, max=MOST_WORKERS, help="Number of files opened at once.")
    ] = 1,
    json: Json = False,
    **options: Any,
) -> None:
    """Find images and labels, check them, and write a catalog.

    Example: `rhm data index inria AerialImageDataset -o inria.parquet`
    """
    from rhm.data.catalog import Catalog, is_catalog
    from rhm.data.layouts.registry import LAYOUTS

    check_output(output, _CATALOG, ours=is_catalog)
    check_writable(output)
    notes: list[str] = []
    sources = LAYOUTS[layout].sources(
        folder, black_is_nodata=black_is_nodata, tell=notes.append, **options
    )
    with progress("indexing", len(sources)) as advance:
        catalog = Catalog.build(
            sources, workers=workers, notes=notes, on_progress=lambda: advance(1)
        )
    catalog = catalog.assign_splits({"val": val, "test": test}, seed=seed)
    _save(catalog, output, as_json=json)


def _save(catalog: "Catalog", output: Path, *, as_json: bool) -> None:
    """Write a catalog and print its overview."""
    catalog.save(output)
    rows = catalog.overview()
    values = {"catalog": str(output), "split_hash": catalog.split_hash(), "domains": rows}
    header = ["domain", "images", "labelled", "train", "val", "test", "gsd_m", "buildings"]
    lines = table(header, [[row[name] for name in header] for row in rows])
    for note in catalog.notes:
        say(note)
    for row in rows:
        if row["labelled"] and not row["buildings"]:
            say(f"{row['domain']}: the labels contain no buildings; check that they fit the images")
    emit(values, [*lines, f"{counted(len(catalog), 'image')} in {output}"], as_json=as_json)


@app.command()
def marked(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with the results of `rhm predict -o`, and marks of `rhm view`.",
            callback=required(require_predictions),
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the labels.")],
    scenes: NamedScenes = None,
    asset: SceneAsset = None,
    around_m: Annotated[
        float,
        typer.Option(min=0, help="Distance in metres from marks within which labels are known."),
    ] = 10.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace labels that exist.")
    ] = False,
    json: Json = False,
) -> None:
    """Make labels of footprints that were marked in `rhm view`, and a table of them.

    Example: `rhm data marked predicted -o labels`
    """
    from rhm.viewer.marked_labels import TABLE, write_marked_labels

    labels, notes = write_marked_labels(
        folder,
        output,
        scenes=scenes or (),
        asset=asset,
        around_m=around_m,
        overwrite=overwrite,
    )
    for note in notes:
        say(note)
    lines = [f"{each.label}: {each.keep} right, {each.wrong} wrong" for each in labels]
    listed = output / TABLE
    words = [*_INDEX, str(output), "--table", str(listed)]
    lines.append(f"index them with: {shlex.join(words)}")
    values = [{**asdict(each), "label": str(each.label)} for each in labels]
    emit({"table": str(listed), "labels": values}, lines, as_json=json)


@app.command()
def merge(
    catalogs: Annotated[
        list[Path], typer.Argument(help="Catalogs to join.", callback=required(require_catalog))
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Catalog to write.")],
    json: Json = False,
) -> None:
    """Join catalogs, such as that of the labelled and that of the unlabelled imagery.

    Splits stay as they are.

    Example: `rhm data merge inria.parquet kampala.parquet -o all.parquet`
    """
    from rhm.data.catalog import Catalog, is_catalog

    check_output(output, _CATALOG, needed=catalogs, ours=is_catalog)
    check_writable(output)
    _save(Catalog.join({str(path): Catalog.load(path) for path in catalogs}), output, as_json=json)


@app.command()
def inspect(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Rasters to inspect: files, patterns or folders.",
            callback=required(require_scenes),
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model whose training imagery the rasters are compared with.",
            callback=required(model_file),
        ),
    ] = None,
    bands: Bands = None,
    black_is_nodata: BlackIsNodata = False,
    json: Json = False,
) -> None:
    """Show the properties of rasters, and whether a model is suitable for them.

    With `--model`, samples of each raster are predicted. If the model expects a lower IoU than on
    its validation chips, the command warns about it and says what helps. Rasters that cannot be
    read do not keep the others from being shown.

    Example: `rhm data inspect scene.tif --model runs/inria-rhm`
    """
    from rhm.errors import RhmError, one_line

    files = [path for word in files for path in _rasters(word)]
    loaded = None
    if model is not None:
        from rhm.inference.runtime.selection import network_for
        from rhm.inference.suitability import SAMPLED_PX
        from rhm.models.model_file import load_model

        loaded = network_for(load_model(model), pixels=SAMPLED_PX * len(files), tell=say)
    chosen = band_numbers(bands)
    found, failed = [], dict[str, RhmError]()
    for path in files:
        try:
            found.append(_inspected(path, loaded, chosen, black_is_nodata=black_is_nodata))
        except RhmError as error:
            failed[path] = error
    if found:
        lines = [line for facts in found for line in [*_facts(facts), ""]]
        errors = [{"file": path, "error": str(error)} for path, error in failed.items()]
        emit({"rasters": found, "failed": errors}, lines[:-1], as_json=json)
    if failed:
        # A fault of the model is that of every raster.
        *others, last = {str(each): each for each in failed.values()}.values()
        for other in others:
            complain(f"rhm: {one_line(other)}")
        raise last


def _inspected(
    path: str,
    model: "DescribedNetwork | None",
    bands: Sequence[int] | None,
    *,
    black_is_nodata: bool,
) -> dict[str, Any]:
    """Return the properties of a raster and, with a model, how suitable it is."""
    from rhm.inference.raster_facts import inspect_raster

    spec = model.spec if model else None
    facts = inspect_raster(path, spec, bands=bands, black_is_nodata=black_is_nodata)
    if model is None or "distance" not in facts:
        return facts
    from rhm.inference.suitability import suitability

    suited = suitability(
        model,
        path,
        bands=bands,
        black_is_nodata=black_is_nodata,
        distance=facts["distance"],
    )
    return facts | asdict(suited)


def _rasters(word: str) -> list[str]:
    """Return the rasters that a word names: those of a folder or pattern, or itself."""
    if os.path.isdir(word):
        from rhm.data.layouts.folder import images_in

        return [str(path) for path in images_in(Path(word))]
    if has_magic(word) and is_local(word) and not os.path.exists(word):
        from rhm.errors import CatalogError

        found = sorted(path for path in glob(word, recursive=True) if os.path.isfile(path))
        if not found:
            raise CatalogError(f"no file matches {word}")
        return found
    return [word]


def _facts(values: dict[str, Any]) -> list[str]:
    width = max(len(name) for name in values)
    lines = []
    for name, value in values.items():
        # Advice consists of sentences, which need lines of their own.
        texts = value if name == "advice" and value else [_text(value)]
        lines += [f"{name.ljust(width)}  {text}" for text in texts]
    return lines


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    return str(value)
