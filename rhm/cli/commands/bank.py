"""``rhm bank``: histogram banks of unlabelled imagery."""

import sys
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhm.cli.flags import ChoosingCommand
from rhm.cli.options import (
    Bands,
    BlackIsNodata,
    Domains,
    Json,
    ShiftSeed,
    band_numbers,
    check_shift_seed,
    required,
)
from rhm.cli.output import counted, emit, progress, say, table
from rhm.required_files import require_bank, require_images
from rhm.system import MOST_WORKERS

if TYPE_CHECKING:
    import numpy as np

    from rhm.colour.histogram import Histogram
    from rhm.colour.histogram_bank import HistogramBank
    from rhm.data.catalog import Source

_COMPARED_DOMAINS = 12

_COARSEST_M = 1e5  # as coarse as a model can be

COLUMNS = 48
"""Width of a drawn histogram, in characters."""

_HEIGHTS = " ▁▂▃▄▅▆▇█"
_PLAIN_HEIGHTS = " .:-=+*%@"

# The axis leaves out this share of the pixels at either end.
_TAIL_SHARE = 0.001

app = typer.Typer(help="Histogram banks of unlabelled imagery.", no_args_is_help=True)


@app.command(cls=ChoosingCommand)
def build(
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Images, folders of images, or catalogs.", callback=required(require_images)
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Bank to write. An earlier bank is replaced.")
    ],
    domains: Domains = None,
    split: Annotated[str | None, typer.Option(help="Use only this split of the catalogs.")] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Domain of the images that are in no catalog. Default: as in catalogs of SpaceNet "
            "for its file names, or the name of the folder."
        ),
    ] = None,
    bands: Bands = None,
    black_is_nodata: BlackIsNodata = False,
    shift: Annotated[
        str | None,
        typer.Option(help="Apply a random pixel-wise shift: affine, gamma or monotone."),
    ] = None,
    shift_seed: ShiftSeed = None,
    add: Annotated[
        Path | None, typer.Option(help="Another bank to include in the new one.")
    ] = None,
    decimated: Annotated[
        bool,
        typer.Option(
            "--decimated",
            help="For huge files: count at most 4 million single pixels per image, read from "
            "overviews if there are any.",
        ),
    ] = False,
    spectrum: Annotated[
        bool | None,
        typer.Option(
            "--spectrum/--no-spectrum",
            help="Also keep the low-frequency amplitudes of each image, some 10 kB, which the "
            "augmentation spectrum uses, or with --no-spectrum not. Default: yes, except for "
            "shifted images.",
        ),
    ] = None,
    gsd: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=_COARSEST_M,
            help="Metres per pixel at which spectra are measured, if `rhm train` says that they "
            "lack many waves of its chips. Default: those of each image.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_WORKERS, help="Number of images read at once. Default: one per core."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Build a bank from the histograms of images. Labels are not used.

    Images of up to 16 million pixels are counted completely. Of a larger one, blocks of 1024 x 1024
    pixels are counted, evenly spread over the image, until about as many valid pixels are reached.

    Example: `rhm bank build /data/kampala/images -o kampala.bank`
    """
    from rhm.colour.bank_file import check_names, check_target
    from rhm.colour.histogram_bank import HistogramBank
    from rhm.colour.spectra.spectrum import SIDE
    from rhm.data.catalog import SPLITS
    from rhm.data.radiometry import bank_of

    if split not in (None, *SPLITS):
        raise typer.BadParameter(f"unknown split '{split}': choose {', '.join(SPLITS)}")
    check_shift_seed(shift, shift_seed)
    if spectrum is None:
        spectrum = shift is None
    if gsd is not None and not spectrum:
        raise typer.BadParameter("--gsd applies to spectra: histograms count stored values")
    check_names([name or ""])
    known = HistogramBank.load(add) if add else None
    sources = _sources(images, domains, split, name, black_is_nodata)
    # Counting may take hours.
    check_target(output)
    with progress("counting", len(sources)) as advance:
        bank = bank_of(
            sources,
            bands=band_numbers(bands),
            shift=shift,
            seed=shift_seed or 0,
            decimated=decimated,
            spectrum_px=SIDE if spectrum else None,
            gsd_m=gsd,
            add=known,
            workers=workers,
            on_progress=lambda: advance(1),
        )
    bank.save(output)
    empty = len(sources) - (len(bank) - len(known or ()))
    if empty:
        say(f"{counted(empty, 'image')} without a valid pixel left out")
    lost = [
        each for each in bank.spectra[len(known or ()) :] if each is not None and each.gsd_m is None
    ]
    if gsd is not None and lost:
        say(
            f"{len(lost)} of {counted(len(sources), 'image')} do not say their metres per pixel, "
            f"and their spectra are those of their own pixels, not of {gsd:.3g} m"
        )
    values = _summary(bank) | {"bank": str(output), "bytes": output.stat().st_size}
    emit(values, [f"{_counted(bank)} in {output}"], as_json=json)


@app.command()
def show(
    path: Annotated[
        Path, typer.Argument(metavar="BANK", help="Bank to show.", callback=required(require_bank))
    ],
    against: Annotated[
        Path | None, typer.Option(help="Another bank. Shows the distances to its domains instead.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the content of a bank, the histograms of its domains, and the distances between them.

    Distances are 1-Wasserstein distances between the values of each band. The distances within one
    bank are shown if it has at most twelve domains.

    Example: `rhm bank show kampala.bank`
    """
    from rhm.colour.histogram_bank import HistogramBank

    bank = HistogramBank.load(path)
    # Many domains have too many pairs to read, and measuring them takes too long.
    summary = _summary(bank)
    few = against is not None or len(summary["domains"]) <= _COMPARED_DOMAINS
    distances = _distances(bank, HistogramBank.load(against) if against else None) if few else []
    lines = [_counted(bank)]
    if not json:
        lines += _drawings(bank) + _distance_lines(distances, bank.bands)
    emit(summary | {"distances": distances}, lines, as_json=json)


def _summary(bank: "HistogramBank") -> dict[str, Any]:
    spectra = sum(each is not None for each in bank.spectra)
    return bank.summary() | {"names": list(bank.names), "spectra": spectra}


def _counted(bank: "HistogramBank") -> str:
    spectra = sum(each is not None for each in bank.spectra)
    also = f", {spectra} {'spectrum' if spectra == 1 else 'spectra'}" if spectra else ""
    return f"{counted(len(bank), 'image')}, {counted(bank.bands, 'band')}{also}"


def _distances(bank: "HistogramBank", other: "HistogramBank | None") -> list[dict[str, Any]]:
    """Return the distances between domains of the same dtype, within the bank or to another."""
    from rhm.errors import BankError

    ours = bank.by_domain.items()
    pairs = combinations(ours, 2) if other is None else product(ours, other.by_domain.items())
    if other is not None and bank.bands != other.bands:
        raise BankError(
            f"a bank of {counted(bank.bands, 'band')} cannot be compared with one of "
            f"{other.bands}: choose banks with the same bands"
        )
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
            f"a bank of {', '.join(map(str, bank.dtypes))} imagery cannot be compared with one of "
            f"{', '.join(map(str, other.dtypes))}: choose banks of the same type"
        )
    return found


def _distance_lines(distances: list[dict[str, Any]], bands: int) -> list[str]:
    if not distances:
        return []
    header = ["distance from", "to", "dtype", *(f"band {band + 1}" for band in range(bands))]
    rows = [
        [_title(row["domain"]), _title(row["other"]), row["dtype"], *row["distance"]]
        for row in distances
    ]
    return ["", *table(header, rows)]


def _drawings(bank: "HistogramBank") -> list[str]:
    """Return the table of bands of each domain; domains of one dtype share an axis."""
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
        sizes = f"{counted(facts['images'], 'image')}, {counted(facts['pixels'], 'pixel')}"
        title = f"{_title(facts['domain'])}: {sizes}"
        lines += ["", f"{title} of {dtype}", *table(["band", *shares, axis], rows)]
    return lines


def _draw(
    histogram: "Histogram", low: "np.generic", high: "np.generic", full: int
) -> "np.ndarray[Any, np.dtype[np.intp]]":
    """Return the heights of ``COLUMNS`` columns from ``low`` to ``high``, (bands, COLUMNS).

    Every value is spread halfway to its neighbours, so that no column has more values than
    another. The highest column has height ``full``; every column with a pixel is at least 1.
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
    # Less than a billionth of the tallest column is a rounding error.
    return np.asarray(np.ceil(full * shares / tallest - 1e-9).astype(np.intp))


def _heights() -> str:
    """Return characters of increasing height that standard output can print."""
    try:
        _HEIGHTS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _PLAIN_HEIGHTS
    return _HEIGHTS


def _title(domain: str) -> str:
    from rhm.errors import printable

    # The names in a bank may come from anywhere.
    return printable(domain) or "no domain"


def _sources(
    paths: list[Path],
    domains: list[str] | None,
    split: str | None,
    name: str | None,
    black_is_nodata: bool,
) -> "list[Source]":
    from rhm.data.catalog import Catalog, Source
    from rhm.data.layouts.folder import images_in

    if name and all(path.suffix == ".parquet" for path in paths):
        raise typer.BadParameter("--name is for images, and catalogs name their domains themselves")
    sources: list[Source] = []
    for path in paths:
        if path.suffix == ".parquet":
            for tile in Catalog.load(path).select(domains=domains, split=split).tiles:
                sources.append(replace(tile, black_is_nodata=True) if black_is_nodata else tile)
        elif domains or split:
            raise typer.BadParameter(
                f"--domain and --split apply to catalogs, and {path} is not a catalog"
            )
        else:
            sources += [
                Source(
                    image,
                    None,
                    name or _domain(image),
                    image.stem,
                    black_is_nodata=black_is_nodata,
                )
                for image in images_in(path)
            ]
    return sources


def _domain(image: Path) -> str:
    """Return the domain of an image: by its official name, or its folder's, skipping ``images``."""
    from rhm.data.layouts.spacenet import domain_of

    folder = image.parent.resolve()
    named = folder.parent.name if folder.name == "images" else folder.name
    return domain_of(image) or named
