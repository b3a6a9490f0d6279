"""``rhm bank``: histogram banks of unlabelled imagery."""

import sys
from itertools import combinations, product
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
    import numpy as np

    from rhm.colour.histogram import Histogram
    from rhm.colour.histogram_bank import HistogramBank
    from rhm.data.catalog import Source

_COMPARED_DOMAINS = 12

COLUMNS = 48
"""Width of a drawn histogram, in characters."""

_HEIGHTS = " ▁▂▃▄▅▆▇█"
_PLAIN_HEIGHTS = " .:-=+*%@"

# The axis leaves out this share of the pixels at either end.
_TAIL_SHARE = 0.001

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
    decimated: Annotated[
        bool,
        typer.Option(
            "--decimated",
            help="Count at most 4 million pixels an image, through overviews: for huge files.",
        ),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Images read at once; by default one per core.")
    ] = None,
    json: Json = False,
) -> None:
    """Count the values of unlabelled images; labels are not looked at.

    Example: `rhm bank build /data/kampala/images -o kampala.bank`
    """
    from rhm.colour.histogram_bank import HistogramBank
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
            decimated=decimated,
            workers=workers,
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
    against: Annotated[
        Path | None, typer.Option(help="Another bank: distances to its domains instead.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what a bank holds, how its domains look, and how far they are from each other.

    Distances are 1-Wasserstein distances of each band's values; between the domains of one bank
    they are shown where these are at most twelve.

    Example: `rhm bank show kampala.bank`
    """
    from rhm.colour.histogram_bank import HistogramBank

    bank = HistogramBank.load(path)
    # Between many domains there are too many pairs to read, and to measure unasked.
    few = against is not None or len(bank.by_domain) <= _COMPARED_DOMAINS
    distances = _distances(bank, HistogramBank.load(against) if against else None) if few else []
    lines = [f"{len(bank)} images, {bank.bands} bands"]
    if not json:
        lines += _drawings(bank) + _distance_lines(distances, bank.bands)
    emit(_summary(bank) | {"distances": distances}, lines, as_json=json)


def _summary(bank: "HistogramBank") -> dict[str, Any]:
    return bank.summary() | {"names": list(bank.names)}


def _distances(bank: "HistogramBank", other: "HistogramBank | None") -> list[dict[str, Any]]:
    """Return the distances between domains of one type: within the bank, or to another's."""
    from rhm.errors import BankError

    ours = bank.by_domain.items()
    pairs = combinations(ours, 2) if other is None else product(ours, other.by_domain.items())
    if other is not None and bank.bands != other.bands:
        raise BankError(f"no distance from {bank.bands} bands to {other.bands}: choose the same")
    found = [
        {
            "domain": domain,
            "other": other_domain,
            "dtype": dtype.name,
            "distance": histogram.distance(other_histogram).tolist(),
        }
        for ((domain, dtype), histogram), ((other_domain, other_dtype), other_histogram) in pairs
        if dtype == other_dtype
    ]
    if other is not None and not found:
        raise BankError(
            f"no distance from {', '.join(map(str, bank.dtypes))} imagery to "
            f"{', '.join(map(str, other.dtypes))}"
        )
    return found


def _distance_lines(distances: list[dict[str, Any]], bands: int) -> list[str]:
    if not distances:
        return []
    header = ["distance from", "to", "dtype", *(f"band {band + 1}" for band in range(bands))]
    rows = [
        [_title(each["domain"]), _title(each["other"]), each["dtype"], *each["distance"]]
        for each in distances
    ]
    return ["", *table(header, rows)]


def _drawings(bank: "HistogramBank") -> list[str]:
    """Return each domain's table of bands; those of one type are drawn over one axis."""
    heights = _heights()
    summary = bank.summary()
    shares = [f"{share:.0%}" for share in summary["quantile_shares"]]
    lines = []
    for facts, ((_, dtype), histogram) in zip(
        summary["domains"], bank.by_domain.items(), strict=True
    ):
        ends = bank.pooled[dtype].quantile([_TAIL_SHARE, 1.0 - _TAIL_SHARE])
        low, high = ends[:, 0].min(), ends[:, 1].max()
        axis = f"{low!s:<{COLUMNS // 2}}{high!s:>{COLUMNS // 2}}"
        drawn = [
            "".join(heights[height] for height in band)
            for band in _draw(histogram, low, high, len(heights) - 1)
        ]
        rows = [
            [band, *quantiles, drawing]
            for band, (quantiles, drawing) in enumerate(
                zip(facts["quantiles"], drawn, strict=True), start=1
            )
        ]
        title = f"{_title(facts['domain'])}: {facts['images']} images, {facts['pixels']} pixels"
        lines += ["", f"{title} of {dtype}", *table(["band", *shares, axis], rows)]
    return lines


def _draw(
    histogram: "Histogram", low: "np.generic", high: "np.generic", full: int
) -> "np.ndarray[Any, np.dtype[np.intp]]":
    """Return the heights of ``COLUMNS`` columns from ``low`` to ``high``, (bands, COLUMNS).

    A value is spread over the gap halfway to its neighbours, so that no column has more values
    than another. The highest column is ``full``, and one that has any pixel is at least 1.
    """
    import numpy as np

    from rhm.colour.levels import to_levels, values_of

    values = values_of(histogram.dtype).astype(np.float64)
    edges = np.concatenate([values[:1], (values[:-1] + values[1:]) / 2, values[-1:]])
    lowest, highest = to_levels(np.array([low, high], dtype=histogram.dtype)).tolist()
    columns = np.linspace(edges[lowest], edges[highest + 1], COLUMNS + 1)
    inside = edges[histogram.first :][: histogram.counts.shape[1] + 1]
    reached = np.cumsum(np.pad(histogram.distribution(), ((0, 0), (1, 0))), axis=1)
    shares = np.diff([np.interp(columns, inside, band) for band in reached])
    tallest = np.maximum(shares.max(axis=1, keepdims=True), 1e-12)
    # Less than a billionth of the tallest column is what rounding left.
    return np.asarray(np.ceil(full * shares / tallest - 1e-9).astype(np.intp))


def _heights() -> str:
    """Return the characters of rising height that standard output can print."""
    try:
        _HEIGHTS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _PLAIN_HEIGHTS
    return _HEIGHTS


def _title(domain: str) -> str:
    from rhm.errors import printable

    # What a bank says of itself may come from anywhere.
    return printable(domain) or "no domain"


def _sources(
    paths: list[Path], domains: list[str] | None, split: str | None, black_is_nodata: bool
) -> "list[Source]":
    from rhm.data.catalog import Catalog, Source
    from rhm.data.layouts.folder import images_in

    sources: list[Source] = []
    for path in paths:
        if path.suffix == ".parquet":
            sources += Catalog.load(path).select(domains=domains, split=split).tiles
        elif domains or split:
            raise typer.BadParameter(
                f"--domain and --split choose from catalogs, and {path} is none"
            )
        else:
            sources += [
                Source(image, None, _domain(image), image.stem, black_is_nodata=black_is_nodata)
                for image in images_in(path)
            ]
    return sources


def _domain(image: Path) -> str:
    """Return the folder that holds the image, or that holds the ``images`` which hold it."""
    folder = image.parent.resolve()
    return folder.parent.name if folder.name == "images" else folder.name
