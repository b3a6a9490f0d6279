"""Train on one place and test on the others, with every augmentation; then print the results.

    python benchmarks/cross_domain.py --work /tmp/cross

The script repeats the two experiments of Yaras et al. (JSTARS 17, 2024) on real imagery
(``--data``, by default ``RHM_DATA`` or ``../shared/data``): (b) cross-domain, with each place as
source and the others as targets, without labels of the target; (a) controlled shifts, with the
models of the largest source under several families of random pixel-wise maps, each of which is
also an augmentation. The banks of (b) contain the histograms of the target's images, including
those that are tested; ``new_city.py`` keeps these apart. The bank of (a) contains shifted training
images.

Each finished run is kept as a line of the file ``--kept`` and is not repeated. You can interrupt
the script and start it again, and add seeds or augmentations later. ``--table`` only prints the
tables.
"""

import argparse
import itertools
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cross_domain_tables as tables
import numpy as np
import torch
from kept import KeptResults
from machine import machine, thinned
from places import GSD_M, PLACES, TEST_PIXELS, TEST_SHARE, TILING

from rhm.augmentation.colours import COLOUR, FROM_BANK
from rhm.colour.shifts import SHIFTS
from rhm.data.catalog import Catalog, Tile
from rhm.data.layouts.registry import index_folder
from rhm.data.radiometry import bank_of
from rhm.evaluation.scores import Shift
from rhm.lab.controlled_shifts import pixel_iou, pixels_by_probability, shifted_bank
from rhm.models.model_file import load_model
from rhm.training.config import parse_config
from rhm.training.fitting import fit

SHIFTED_SOURCE = "massachusetts"
SHIFT_SEED = 7

AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "rhm": {"augment": {"colour": "rhm", "p": 1.0, "sampling": "domain"}},
    "rhm (sources)": {"augment": {"colour": "rhm", "p": 1.0, "bank": "sources"}},
    "color-jitter": {"augment": {"colour": "color-jitter", "p": 1.0}},
    "hsv": {"augment": {"colour": "hsv", "p": 1.0}},
    "gamma": {"augment": {"colour": "gamma", "p": 1.0}},
    "mean-std": {"augment": {"colour": "mean-std", "p": 1.0, "sampling": "domain"}},
    "fda": {"augment": {"colour": "fda", "p": 1.0}},
    **{
        f"shift: {family}": {"augment": {"colour": "shift", "shifts": [family], "p": 1.0}}
        for family in SHIFTS
    },
    "shift: any": {"augment": {"colour": "shift", "p": 1.0}},
    "equalize": {"model": {"standardize": "equalize"}},
    "gray-world": {"model": {"standardize": "gray-world"}},
    # Variants of the method.
    "rhm p=0.5": {"augment": {"colour": "rhm", "p": 0.5, "sampling": "domain"}},
    "rhm uniform": {"augment": {"colour": "rhm", "p": 1.0}},
    "rhm distance": {"augment": {"colour": "rhm", "p": 1.0, "sampling": "distance"}},
    "rhm blend": {
        "augment": {"colour": "rhm", "p": 1.0, "sampling": "domain", "blend": [0.0, 1.0]}
    },
    "rhm scene": {
        "augment": {"colour": "rhm", "p": 1.0, "sampling": "domain", "statistics": "scene"}
    },
    "rhm one map": {
        "augment": {"colour": "rhm", "p": 1.0, "sampling": "domain", "per_band": False}
    },
    "rhm + jitter": {
        "augment": {
            "colour": "rhm",
            "p": 1.0,
            "sampling": "domain",
            "gamma": [0.67, 1.5],
            "gain": [0.8, 1.2],
            "offset": [-0.1, 0.1],
        }
    },
}
"""Sections of the configuration, by the name of the augmentation in the tables."""

KEYS = ("experiment", "source", "augmentation", "seed", "steps", "chip_px", "batch_size")
"""What tells results apart."""

KNOWN = (*(f"shift: {family}" for family in SHIFTS), "shift: any")
COMPARED = (
    *("none", "rhm", "rhm (sources)", "color-jitter", "hsv", "gamma", "mean-std", "fda"),
    *("equalize", "gray-world"),
)
VARIANTS = ("none", "rhm", *(name for name in AUGMENTATIONS if name not in (*COMPARED, *KNOWN)))
AUGMENTED = ("none", *KNOWN, "rhm", "mean-std", "color-jitter", "equalize", "gray-world")
"""The augmentations that experiment (a) compares."""


@dataclass(frozen=True)
class Setting:
    """Sizes of the experiment.

    Attributes:
        work: folder of the catalog, banks, runs and results.
        steps: number of optimiser steps of each run.
        chip_px: side of a chip in pixels.
        batch_size: chips per step.
    """

    work: Path
    steps: int
    chip_px: int
    batch_size: int

    @property
    def sizes(self) -> dict[str, Any]:
        """The sizes by name."""
        return {name: getattr(self, name) for name in ("steps", "chip_px", "batch_size")}


def main() -> None:
    """Train and test what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("RHM_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kept", type=Path, help="default: kept.jsonl in --work")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--chip-px", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sources", nargs="+", default=list(PLACES), choices=list(PLACES))
    parser.add_argument(
        "--augmentations", nargs="+", default=list(COMPARED), choices=list(AUGMENTATIONS)
    )
    parser.add_argument(
        "--controlled", action="store_true", help="run experiment (a) instead of (b)"
    )
    parser.add_argument(
        "--thresholds", action="store_true", help="test trained models at every threshold"
    )
    parser.add_argument("--table", action="store_true", help="only print the tables")
    asked = parser.parse_args()
    sizes = f"{asked.steps}x{asked.batch_size}x{asked.chip_px}"
    setting = Setting(asked.work / sizes, asked.steps, asked.chip_px, asked.batch_size)
    kept = KeptResults(asked.kept or asked.work / "kept.jsonl", KEYS)
    if not asked.table:
        catalog = prepare(setting, asked.data)
        sources = [SHIFTED_SOURCE] if asked.controlled else asked.sources
        chosen = AUGMENTED if asked.controlled else asked.augmentations
        cells = itertools.product(range(asked.seeds), chosen, sources)
        for seed, name, source in cells:
            if asked.thresholds:
                search_thresholds(setting, kept, catalog, source, name, seed)
            else:
                run_cell(setting, kept, catalog, source, name, seed, controlled=asked.controlled)
    found = [row for row in kept.rows if row.items() >= setting.sizes.items()]
    packages = ("torch", "segmentation-models-pytorch", "timm")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{machine(*packages)}, {device}")
    names = list(AUGMENTATIONS)
    for table in (
        tables.cross_domain_table(found, names),
        tables.pair_table(found, names),
        tables.variant_table(found, VARIANTS, SHIFTED_SOURCE),
        tables.threshold_table(found, names),
        tables.shift_table(found, names),
    ):
        print("\n".join(table), end="\n\n")


def prepare(setting: Setting, data: Path) -> Catalog:
    """Return the catalog of the four places, split by group; also build the banks."""
    path = setting.work / "catalog.parquet"
    if not path.is_file():
        catalog = index_folder(data, table=data / "manifest.csv")
        wanted = [domain for domains in PLACES.values() for domain in domains]
        catalog.select(domains=wanted).assign_splits({"test": TEST_SHARE}).save(path)
    catalog = Catalog.load(path)
    for source in PLACES:
        bank = setting.work / f"not-{source}.bank"
        if not bank.is_file():
            targets = [d for place, domains in PLACES.items() if place != source for d in domains]
            bank_of(catalog.select(domains=targets).tiles).save(bank)
    shifted = setting.work / "shifted-train.bank"
    if not shifted.is_file():
        tiles = catalog.select(domains=PLACES[SHIFTED_SOURCE], split="train").tiles
        shifted_bank(tiles, tuple(SHIFTS), SHIFT_SEED).save(shifted)
    return catalog


def run_cell(
    setting: Setting,
    kept: KeptResults,
    catalog: Catalog,
    source: str,
    name: str,
    seed: int,
    *,
    controlled: bool,
) -> None:
    """Train one model, test it everywhere, and keep the result."""
    kind = "controlled" if controlled else "cross"
    cell = {"experiment": kind, "source": source, "augmentation": name, "seed": seed}
    cell |= setting.sizes
    if kept.has(**cell):
        return
    model = _model_file(setting, source, name, seed, controlled=controlled)
    seconds = 0.0
    if not model.is_file():
        begun = time.perf_counter()
        train(setting, source, name, seed, model, controlled=controlled)
        seconds = time.perf_counter() - begun
    scores = dict(tested(model, catalog, source, controlled=controlled))
    iou = {target: round(score, 5) for target, score in scores.items()}
    kept.add({**cell, "seconds": round(seconds, 1), "iou": iou})
    shown = ", ".join(f"{target} {iou:.3f}" for target, iou in scores.items())
    print(f"{kind} {source} {name} seed {seed}: {shown} ({seconds:.0f} s)", flush=True)


def _model_file(
    setting: Setting, source: str, name: str, seed: int, *, controlled: bool = False
) -> Path:
    # A run that does not look at a target is the same in both experiments.
    looks = AUGMENTATIONS[name].get("augment", {}).get("colour") in FROM_BANK
    words = re.sub(r"[^\w.=-]+", "_", name)
    trained = f"{source}.{words}.{seed}{'.controlled' if controlled and looks else ''}"
    return setting.work / "models" / f"{trained}.safetensors"


def train(
    setting: Setting, source: str, name: str, seed: int, model: Path, *, controlled: bool
) -> None:
    """Train one model and keep only its file."""
    sections = {key: dict(values) for key, values in AUGMENTATIONS[name].items()}
    augment = sections.setdefault("augment", {})
    if augment.get("colour") in FROM_BANK:
        bank = "shifted-train" if controlled else f"not-{source}"
        augment.setdefault("bank", str(setting.work / f"{bank}.bank"))
    if COLOUR[augment.get("colour", "none")].from_targets:
        augment["targets"] = [d for p, domains in PLACES.items() if p != source for d in domains]
        # As the bank has them: the images that are tested.
        sections["target"] = {"split": "all"}
    scratch = setting.work / "runs"
    config = parse_config(
        {
            "name": model.stem.replace("=", ""),
            "output": str(scratch),
            "seed": seed,
            "data": {
                "catalog": str(setting.work / "catalog.parquet"),
                "sources": list(PLACES[source]),
                "chip_px": setting.chip_px,
                "gsd_m": GSD_M,
                "workers": 1,
            },
            "trainer": {
                "steps": setting.steps,
                "validate_every": setting.steps,
                "batch_size": setting.batch_size,
            },
            **sections,
        }
    )
    shutil.rmtree(config.folder, ignore_errors=True)
    run = fit(config)
    model.parent.mkdir(parents=True, exist_ok=True)
    os.replace(run.model, model)
    shutil.rmtree(config.folder)


def tested(
    path: Path, catalog: Catalog, source: str, *, controlled: bool
) -> Iterator[tuple[str, float]]:
    """Yield pixel IoU on each place's test images, or on the source's under each shift."""
    model = load_model(path)
    if torch.cuda.is_available():
        model = model.cuda()
    if not controlled:
        for place in PLACES:
            yield place, pixel_iou(model, test_tiles(catalog, place), tiling=TILING)
        return
    tiles = test_tiles(catalog, source)
    yield "as it is", pixel_iou(model, tiles, tiling=TILING)
    for family in SHIFTS:
        yield family, pixel_iou(model, tiles, Shift(family, SHIFT_SEED), tiling=TILING)


def search_thresholds(
    setting: Setting, kept: KeptResults, catalog: Catalog, source: str, name: str, seed: int
) -> None:
    """Find the best threshold of a model for each target, using its labels; keep both IoUs."""
    cell = {"experiment": "thresholds", "source": source, "augmentation": name, "seed": seed}
    cell |= setting.sizes
    model_file = _model_file(setting, source, name, seed)
    if kept.has(**cell) or not model_file.is_file():
        return
    model = load_model(model_file)
    scores = {}
    for place in PLACES:
        bins = pixels_by_probability(model, test_tiles(catalog, place), tiling=TILING)
        thresholds, iou = bins.threshold_scores()
        at_half = float(iou[thresholds == 0.5][0])
        scores[place] = {
            "iou": at_half,
            "best_iou": float(np.nanmax(iou)),
            "best_threshold": bins.best_threshold(),
            "predicted_share": float(bins.probability_sums.sum() / bins.pixels.sum()),
            "building_share": float(bins.buildings.sum() / bins.pixels.sum()),
        }
    kept.add({**cell, "scores": scores})
    print(f"thresholds {source} {name} seed {seed}", flush=True)


def test_tiles(catalog: Catalog, place: str) -> Sequence[Tile]:
    """Return the test images of a place, thinned if there are many."""
    return thinned(catalog.select(domains=PLACES[place], split="test").tiles, TEST_PIXELS)


if __name__ == "__main__":
    main()
