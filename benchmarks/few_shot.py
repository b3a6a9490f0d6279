"""Adapt one model to a few chips of another place with every method; then print the results.

    python benchmarks/few_shot.py --work /tmp/few

The model is trained on Massachusetts with randomized histogram matching and adapted to Dubai, Las
Vegas (SpaceNet 2) and Banepa, with 4 chips, with 16 chips, and with all available chips. All
methods use the same steps, batches and chips. The learning rates are chosen on different places
(``--tune``: Austin and Chicago) with other seeds. ``ranks.py`` tests whether the rank matters.

Each finished run is kept as a line of the file ``--kept`` and is not repeated, so you can interrupt
the script and start it again. ``--table`` only prints the tables.
"""

import argparse
import itertools
import json
import math
import os
import shutil
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
from kept import KeptResults
from machine import machine, mean_and_spread, thinned
from rasterio.transform import from_origin

from rhm.data.catalog import Catalog, Tile
from rhm.data.layouts.registry import index_folder
from rhm.data.radiometry import bank_of
from rhm.data.rasters.windows import Window
from rhm.files import atomic_path, write_text
from rhm.inference.tiling.stream import Tiling
from rhm.lab.controlled_shifts import pixel_iou
from rhm.models.model_file import load_model
from rhm.models.spec import load_spec
from rhm.training.config import parse_config, read_config
from rhm.training.fitting import fit, fit_once


@dataclass(frozen=True)
class Place:
    """A place that a model is adapted to.

    Attributes:
        domains: domains of the imagery.
        gsd_m: metres per pixel that the model sees it at; None if the images do not specify it.
    """

    domains: tuple[str, ...]
    gsd_m: float | None


SOURCE = "massachusetts"
TARGETS = {
    "dubai": Place(("dubai",), None),
    "vegas": Place(("spacenet2_vegas",), 1.0),
    "banepa": Place(("oam_banepa",), 0.65),
}
TUNED_ON = "inria"
PLACES = {**TARGETS, TUNED_ON: Place(("inria_austin", "inria_chicago"), 0.8)}

METHODS = ("head", "full", "lora", "deep-lora")
RATES = {
    "head": (1e-3, 1e-2, 1e-1, 3e-1),
    "full": (1e-5, 1e-4, 1e-3, 3e-3),
    "lora": (1e-4, 1e-3, 1e-2, 3e-2),
    "deep-lora": (3e-3, 1e-2, 3e-2),
}
"""Learning rates to choose from."""

SHOTS = (4, 16, 64)
"""Numbers of chips; the last one is a maximum."""

RANK = 8
TUNING_SEEDS = (100, 101)
CHIP_PX = 96
LEAST_BUILT = 0.01
TEST_SHARE = 0.4
TEST_PIXELS = 3e6
TILING = Tiling(tile=576)


@dataclass(frozen=True)
class Run:
    """One adaptation.

    Attributes:
        place: name of the place.
        method: kind of update.
        rank: its rank.
        shots: number of chips.
        seed: seed of the chips and of the training.
        rate: learning rate.
        adapter: further settings of the section ``adapter``.
        eps: setting of AdamW.
    """

    place: str
    method: str
    rank: int
    shots: int
    seed: int
    rate: float
    adapter: Mapping[str, Any] = field(default_factory=dict)
    eps: float = 1e-8

    @property
    def name(self) -> str:
        """A name that contains all settings."""
        parts = (self.place, self.method, self.rank, self.shots, self.seed, f"{self.rate:g}")
        more = [f"{key}{value}" for key, value in self.adapter.items()]
        more += [f"eps{self.eps:g}"] if self.eps != Run.eps else []
        return ".".join(map(str, [*parts, *more]))


def main() -> None:
    """Adapt and test the missing runs, then print the tables."""
    parser = options(__doc__)
    parser.add_argument("--places", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    asked = parser.parse_args()
    kept = kept_runs(asked, "kept")
    if not asked.table:
        source = prepare(asked.work, asked.data)
        for run in runs(kept.rows, asked.places, asked.seeds, tune=asked.tune):
            run_cell(asked.work, kept, source, run, asked.steps)
    found = [row for row in kept.rows if row["steps"] == asked.steps]
    print(machine("torch", "segmentation-models-pytorch", "timm"))
    for line in (*tuning_table(found), "", *method_table(found)):
        print(line)


def options(documentation: str) -> argparse.ArgumentParser:
    """Return the options that all benchmarks of adaptation to a few chips have."""
    parser = argparse.ArgumentParser(description=documentation.splitlines()[0])
    data = Path(os.environ.get("RHM_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kept", type=Path, help="default: a file in --work")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tune", action="store_true", help="choose the learning rates")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    return parser


def kept_runs(asked: argparse.Namespace, name: str) -> KeptResults:
    """Return the finished runs, in the file ``--kept`` or in one of this name in ``--work``."""
    return KeptResults(asked.kept or asked.work / f"{name}.jsonl", ("name", "steps"))


def runs(
    found: Sequence[dict[str, Any]], places: Sequence[str], seeds: int, *, tune: bool
) -> Iterator[Run]:
    """Yield the requested runs, seed by seed."""
    if tune:
        for seed, method in itertools.product(TUNING_SEEDS, METHODS):
            for rate in RATES[method]:
                yield Run(TUNED_ON, method, RANK, 16, seed, rate)
        return
    rates = chosen_rates(found)
    if set(rates) != set(METHODS):
        raise SystemExit("first run this script with --tune to choose the learning rates")
    for seed, place in itertools.product(range(seeds), places):
        for shots, method in itertools.product(SHOTS, METHODS):
            yield Run(place, method, RANK, shots, seed, rates[method])


def prepare(work: Path, data: Path) -> Path:
    """Train the base model and cut the chips; return the path of the model."""
    catalog_path = work / "catalog.parquet"
    if not catalog_path.is_file():
        catalog = index_folder(data, table=data / "manifest.csv")
        wanted = [SOURCE, *(d for place in PLACES.values() for d in place.domains)]
        catalog.select(domains=wanted).assign_splits({"test": TEST_SHARE}).save(catalog_path)
    catalog = Catalog.load(catalog_path)
    for name, place in PLACES.items():
        if not (work / "chips" / name / "catalog.parquet").is_file():
            cut(catalog, place, work / "chips" / name)
    bank = work / f"not-{SOURCE}.bank"
    if not bank.is_file():
        domains = [d for place in TARGETS.values() for d in place.domains]
        bank_of(catalog.select(domains=domains).tiles).save(bank)
    config = read_config(
        SOURCE,  # a configuration that comes with rhm
        name="source",
        output=str(work),
        data__catalog=str(catalog_path),
        augment__bank=str(bank),
        augment__colour="rhm",
    )
    return fit_once(config).model


def cut(catalog: Catalog, place: Place, folder: Path) -> None:
    """Cut the training images of a place into chips that show buildings, one file each."""
    # Images without georeferencing are cut into chips without it.
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    count = 0
    for tile in catalog.select(domains=place.domains, split="train", labelled=True).tiles:
        scale = tile.scale_to(place.gsd_m)
        with tile.open(scale) as raster, tile.open_label(raster) as label:
            height, width = raster.info.height, raster.info.width
            for row, col in itertools.product(_starts(height), _starts(width)):
                window = Window(row, col, min(CHIP_PX, height), min(CHIP_PX, width))
                pixels, _ = raster.read(window)
                mask = label.read(window)
                if (mask == 1).mean() < LEAST_BUILT:
                    continue
                domain, name = folder / folder.name, f"{count:04d}.tif"
                _write(domain / "images" / name, pixels.transpose(2, 0, 1), place.gsd_m)
                _write(domain / "masks" / name, 255 * (mask == 1)[None], place.gsd_m)
                count += 1
    chips = index_folder(folder)
    chips.frame["split"] = "train"
    chips.save(folder / "catalog.parquet")


def _starts(length: int) -> list[int]:
    """Return evenly spaced positions at which chips start, so that they cover a side."""
    count = max(1, math.ceil(length / CHIP_PX - 0.1))
    return [round(each) for each in np.linspace(0, max(length - CHIP_PX, 0), count)]


def _write(path: Path, planes: np.ndarray[Any, Any], gsd_m: float | None) -> None:
    count, height, width = planes.shape
    dtype = "uint8" if planes.dtype not in (np.uint8, np.uint16) else planes.dtype.name
    where: dict[str, Any] = {}
    if gsd_m is not None:
        where = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, gsd_m, gsd_m)}
    with atomic_path(path) as temporary:
        profile = {"count": count, "height": height, "width": width, "dtype": dtype, **where}
        with rasterio.open(temporary, "w", driver="GTiff", **profile) as file:
            file.write(planes.astype(dtype))


def run_cell(top: Path, kept: KeptResults, source: Path, run: Run, steps: int) -> None:
    """Adapt the model once, test it, and keep the result."""
    if kept.has(name=run.name, steps=steps):
        return
    place = PLACES[run.place]
    tests = thinned(
        Catalog.load(top / "catalog.parquet").select(domains=place.domains, split="test").tiles,
        TEST_PIXELS,
    )
    before = unadapted(top, source, run.place, tests)
    if any(row["place"] == run.place and row["before"] != before for row in kept.rows):
        # Training is not the same on every processor, and runs that began elsewhere are no pair.
        raise SystemExit(
            f"{top} has another base model than the one of the runs that are kept: keep these in "
            "another file, or use the folder that has theirs"
        )
    begun = time.perf_counter()
    catalog, chips = drawn(top / "chips" / run.place, run.shots, run.seed)
    config = parse_config(
        {
            "name": run.name,
            "output": str(top / "runs" / str(os.getpid())),
            "seed": run.seed,
            "data": {
                "catalog": str(catalog),
                "chip_px": CHIP_PX,
                "gsd_m": place.gsd_m,
                "workers": 0,
            },
            "model": {"threshold": load_spec(source).threshold},
            "adapter": {
                "base": str(source),
                "method": run.method,
                "rank": run.rank,
                **run.adapter,
            },
            "trainer": {"steps": steps, "validate_every": steps, "batch_size": 8},
            "optimizer": {"learning_rate": run.rate, "eps": run.eps},
        }
    )
    shutil.rmtree(config.folder, ignore_errors=True)
    model = load_model(fit(config).model)
    seconds = time.perf_counter() - begun
    shutil.rmtree(config.folder)
    catalog.unlink()
    values = {"name": run.name, **vars(run), "chips": chips, "steps": steps, "before": before}
    values |= {"iou": pixel_iou(model, tests, tiling=TILING), "seconds": round(seconds, 1)}
    kept.add(values)
    print(f"{run.name}: {before:.3f} to {values['iou']:.3f} ({seconds:.0f} s)", flush=True)


def unadapted(top: Path, source: Path, name: str, tests: Sequence[Tile]) -> float:
    """Return the pixel IoU of the model before adaptation."""
    path = top / f"before-{name}.json"
    if not path.is_file():
        model = load_model(source)
        model.spec = replace(model.spec, gsd_m=PLACES[name].gsd_m or model.spec.gsd_m)
        write_text(path, json.dumps(pixel_iou(model, tests, tiling=TILING)) + "\n")
    return float(json.loads(path.read_text()))


def drawn(folder: Path, shots: int, seed: int) -> tuple[Path, int]:
    """Return a catalog of the first ``shots`` chips of a random order, and their number."""
    frame = geopandas.read_parquet(folder / "catalog.parquet")
    frame = frame.sample(frac=1.0, random_state=seed).head(shots)
    # Several processes draw the same chips for different methods.
    path = folder / f"few.{shots}.{seed}.{os.getpid()}.parquet"
    frame.to_parquet(path)
    return path, len(frame)


def chosen_rates(found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the learning rate of each method that was best on the tuning place."""
    means: dict[str, dict[float, float]] = {}
    for method, rate in {(e["method"], e["rate"]) for e in found if e["place"] == TUNED_ON}:
        means.setdefault(method, {})[rate] = statistics.mean(_tuned(found, method, rate))
    return {method: max(of, key=lambda rate: of[rate]) for method, of in means.items()}


def _tuned(found: Sequence[dict[str, Any]], method: str, rate: float) -> list[float]:
    key = (TUNED_ON, method, rate)
    return [e["iou"] for e in found if (e["place"], e["method"], e["rate"]) == key]


def tuning_table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the learning rates that were tried, as Markdown."""
    yield "| method | learning rates tried on Austin and Chicago: IoU | chosen |"
    yield "|---|---|---|"
    for method, chosen in sorted(chosen_rates(found).items()):
        rates = sorted({e["rate"] for e in found if e["method"] == method})
        tried = [
            f"{rate:g}: {mean_and_spread(values)}"
            for rate in rates
            if (values := _tuned(found, method, rate))
        ]
        yield f"| {method} | {', '.join(tried)} | {chosen:g} |"


def method_table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the comparison of methods as Markdown, a row per place and number of chips."""
    cells = {
        (e["place"], e["shots"], e["method"], e["seed"]): e
        for e in found
        if e["rank"] == RANK and e["place"] in TARGETS
    }
    methods = " | ".join(METHODS)
    yield f"| place | chips | seeds | before | {methods} | gain of deep-lora over lora |"
    yield "|---" * (len(METHODS) + 5) + "|"
    for place, shots in itertools.product(TARGETS, SHOTS):
        seeds = sorted({key[3] for key in cells if key[:2] == (place, shots)})
        seeds = [s for s in seeds if all((place, shots, m, s) in cells for m in METHODS)]
        if not seeds:
            continue
        iou = {m: [cells[place, shots, m, s]["iou"] for s in seeds] for m in METHODS}
        first = cells[place, shots, METHODS[0], seeds[0]]
        gains = [a - b for a, b in zip(iou["deep-lora"], iou["lora"], strict=True)]
        shown = " | ".join(mean_and_spread(iou[m]) for m in METHODS)
        yield (
            f"| {place} | {first['chips']} | {len(seeds)} | {first['before']:.3f} | {shown} | "
            f"{mean_and_spread(gains, sign='+')} |"
        )


if __name__ == "__main__":
    main()
