"""``rhm bank``: histogram banks of unlabelled imagery."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhm.cli.options import (
    Bands,
    BlackIsNodata,
    Domains,
    Json,
    ShiftFamily,
    ShiftSeed,
    band_numbers,
)
from rhm.cli.output import emit, progress, table

if TYPE_CHECKING:
    from rhm.bank import HistogramBank
    from rhm.data.catalog import Source

app = typer.Typer(help="Histogram banks of unlabelled imagery.", no_args_is_help=True)


@app.command()
def build(
    images: Annotated[list[Path], typer.Argument(help="Images, folders of images, or catalogs.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bank.")],
    domains: Domains = None,
    split: Annotated[str | None, typer.Option(help="Only this split of the catalogs.")] = None,
    bands: Bands = None,
    black_is_nodata: BlackIsNodata = False,
    shift: ShiftFamily = None,
    shift_seed: ShiftSeed = 0,
    add: Annotated[
        Path | None, typer.Option(help="A bank whose images are to be in the new one too.")
    ] = None,
    json: Json = False,
) -> None:
    """Count the values of unlabelled images; labels are not looked at.

    Example: `rhm bank build /data/kampala/images -o kampala.bank`
    """
    from rhm.bank import HistogramBank
    from rhm.data.catalog import SPLITS
    from rhm.data.radiometry import bank_of

    if split not in (None, *SPLITS):
        raise typer.BadParameter(f"unknown split '{split}': choose {', '.join(SPLITS)}")
    known = HistogramBank.load(add) if add else None
    sources = _sources(images, domains, split, black_is_nodata)
    with progress("counting", len(sources)) as advance:
        bank = bank_of(
            sources,
            bands=band_numbers(bands),
            shift=shift,
            seed=shift_seed,
            on_progress=lambda: advance(1),
        )
    if known is not None:
        bank = known.merge(bank)
    bank.save(output)
    values = _summary(bank) | {"bank": str(output), "bytes": output.stat().st_size}
    emit(values, [f"{len(bank)} images, {bank.bands} bands in {output}"], as_json=json)


@app.command()
def show(
    path: Annotated[Path, typer.Argument(metavar="BANK", help="The bank.")],
    json: Json = False,
) -> None:
    """Show what a bank holds.

    Example: `rhm bank show kampala.bank`
    """
    from rhm.bank import HistogramBank

    bank = HistogramBank.load(path)
    values = _summary(bank)
    rows = [
        [kind["dtype"], band, *quantiles]
        for kind in values["pooled"]
        for band, quantiles in enumerate(kind["quantiles"], start=1)
    ]
    lines = [
        f"{len(bank)} images, {bank.bands} bands",
        *table(["dtype", "band", "2%", "25%", "50%", "75%", "98%"], rows),
    ]
    emit(values, lines, as_json=json)


def _summary(bank: "HistogramBank") -> dict[str, Any]:
    pooled = [
        {
            "dtype": dtype.name,
            "images": sum(h.dtype == dtype for h in bank.histograms),
            "pixels": histogram.pixels,
            "quantiles": histogram.quantile([0.02, 0.25, 0.5, 0.75, 0.98]).tolist(),
        }
        for dtype, histogram in bank.pooled.items()
    ]
    return {"images": len(bank), "bands": bank.bands, "pooled": pooled, "names": list(bank.names)}


def _sources(
    paths: list[Path], domains: list[str] | None, split: str | None, black_is_nodata: bool
) -> "list[Source]":
    from rhm.data.catalog import Catalog, Source
    from rhm.data.folder import images_in

    sources: list[Source] = []
    for path in paths:
        if path.suffix == ".parquet":
            sources += Catalog.load(path).select(domains=domains, split=split).tiles
        else:
            sources += [
                Source(image, None, image.parent.name, image.stem, black_is_nodata=black_is_nodata)
                for image in images_in(path)
            ]
    return sources
