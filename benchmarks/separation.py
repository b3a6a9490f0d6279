"""Learned separation of buildings against the split at necks, with equal training.

A network without further classes, whose buildings are split at their necks, is compared with
networks that learn the classes boundary, or boundary and contact. All are trained on the same chips
of one place for the same number of steps, and tested on other ground of that place; what is scored
are the footprints that a prediction traces, by object F1 at IoU 0.5 and 0.7. Settings were chosen
on places that are not scored (``--choose``).

Finished cells are kept in ``--work``, one JSON file each, and are not repeated: interrupt the
script whenever you like, and add seeds later. ``--table`` only prints the tables.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine, thinned
from numpy.typing import NDArray

from rhm.data.catalog import Catalog, Tile
from rhm.data.labels import IGNORE
from rhm.data.layouts.folder import find_in_folder
from rhm.data.sources import Source
from rhm.evaluation.bootstrap import expanded_tail
from rhm.evaluation.tile_scores import MIN_OBJECT_PX, predict_maps, true_objects
from rhm.files import write_text
from rhm.inference.polygons import inside_of
from rhm.inference.tiling.stream import Tiling
from rhm.inference.tracing.components import trace
from rhm.inference.tracing.watershed import LearnedSeparation, Splitting, Watershed
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model
from rhm.synthetic.world import write_sample_world
from rhm.training.config import parse_config
from rhm.training.fitting import fit
from rhm.training.metrics import f1_score, object_scores

PLACES = ("massachusetts", "spacenet2_vegas", "oam_banepa", "birch_aerial")
"""Places that are scored; the last one is a town of the sample world."""

UNSCORED = ("oam_kampala", "inria_austin")
"""Places on which settings are chosen."""

FOOTPRINTS = {
    "spacenet2_vegas": "footprints/{}.geojson",
    "oam_banepa": "footprints/all.geojson",
    "oam_kampala": "all.geojson",
}
"""Footprints of places that have them, in the folder of the place; all others have plain masks."""

GSD_M = 0.5
TEST_SHARE = 0.4
TEST_PIXELS = 2.4e7
"""Pixels per place to test on, approximately, at the resolution of the files."""

IOUS = (0.5, 0.7)
SPLIT_M = 3.0
TILING = Tiling(tile=576)

SEPARATIONS = ("none", "boundary", "contact")
"""Networks that are compared, by the setting ``model.separation``."""

WAYS: dict[str, Splitting | None] = {
    "as traced": None,
    "split at necks": Watershed(SPLIT_M / GSD_M, 0.5),
    **{f"learned {drop}": LearnedSeparation(drop) for drop in (0.1, 0.2, 0.3, 0.5)},
}
"""How the same prediction is split; the last ones need a network that separates buildings."""

TODAY = ("none", "split at necks")
RESAMPLES = 10_000

Counts = list[list[int]]
"""True positives, false positives and false negatives at each of ``IOUS``."""


@dataclass(frozen=True)
class Setting:
    """Sizes and imagery of the experiment.

    Attributes:
        work: folder of the catalog, runs and results.
        steps: number of optimiser steps of each run.
        chip_px: side of a chip in pixels.
        batch_size: chips per step.
        places: places that are trained and tested on.
    """

    work: Path
    steps: int
    chip_px: int
    batch_size: int
    places: tuple[str, ...]


def main() -> None:
    """Train and test what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("RHM_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--chip-px", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--separations", nargs="+", default=list(SEPARATIONS))
    parser.add_argument("--places", nargs="+")
    parser.add_argument(
        "--choose",
        nargs="*",
        help="use the unscored places instead, with settings such as data.boundary_px=1",
    )
    parser.add_argument("--table", action="store_true", help="only print the tables")
    asked = parser.parse_args()
    sizes = f"{asked.steps}x{asked.batch_size}x{asked.chip_px}"
    folder = asked.work / (sizes if asked.choose is None else f"{sizes}-choose")
    places = tuple(asked.places or (PLACES if asked.choose is None else UNSCORED))
    setting = Setting(folder, asked.steps, asked.chip_px, asked.batch_size, places)
    if not asked.table:
        catalog = prepare(setting, asked.data)
        for seed, name, place in itertools.product(asked.seeds, asked.separations, places):
            run_cell(setting, catalog, place, name, seed, asked.choose or ())
    print(f"{machine('torch', 'segmentation-models-pytorch', 'timm')}\n")
    cells = [json.loads(path.read_text()) for path in sorted(setting.work.glob("results/*.json"))]
    print("\n".join(tables(cells)))


def prepare(setting: Setting, data: Path) -> Catalog:
    """Return the catalog of all places, split by group."""
    path = setting.work / "catalog.parquet"
    if not path.is_file():
        world = setting.work / "world"
        write_sample_world(world)
        found = [*find_in_folder(data, table=data / "manifest.csv"), *find_in_folder(world)]
        wanted = {*PLACES, *UNSCORED}
        sources = [with_footprints(each, data) for each in found if each.domain in wanted]
        Catalog.build(sources).assign_splits({"test": TEST_SHARE}).save(path)
    return Catalog.load(path)


def with_footprints(source: Source, data: Path) -> Source:
    """Return the image with the footprints of its place, if there are any, as its label."""
    name = FOOTPRINTS.get(source.domain)
    label = data / source.domain / name.format(source.name) if name else None
    return replace(source, label=label) if label is not None and label.is_file() else source


def run_cell(
    setting: Setting, catalog: Catalog, place: str, name: str, seed: int, chosen: Sequence[str]
) -> None:
    """Train one model, test it on other ground of its place, and store the counts."""
    label = " ".join([name, *chosen])
    words = re.sub(r"[^\w.=-]+", "_", f"{place}.{label}.{seed}")
    result = setting.work / "results" / f"{words}.json"
    if result.is_file():
        return
    begun = time.process_time()
    model = train(setting, place, name, seed, chosen, words)
    trained = time.process_time()
    counts = counted(model, catalog, place)
    cell = {
        "place": place,
        "network": label,
        "seed": seed,
        "seconds": round(trained - begun, 1),
        "test_seconds": round(time.process_time() - trained, 1),
        "counts": counts,
    }
    write_text(result, json.dumps(cell) + "\n")
    shown = ", ".join(f"{way} {f1(of):.3f}" for way, of in counts.items())
    print(f"{place} {label} seed {seed}: {shown} ({cell['seconds']:.0f} s)", flush=True)


def train(
    setting: Setting, place: str, name: str, seed: int, chosen: Sequence[str], words: str
) -> SegmentationModel:
    """Train one model, keep its file, and return it."""
    tree: dict[str, Any] = {
        "name": words.replace("=", "-"),
        "output": str(setting.work / "runs"),
        "seed": seed,
        "data": {
            "catalog": str(setting.work / "catalog.parquet"),
            "sources": [place],
            "chip_px": setting.chip_px,
            "gsd_m": GSD_M,
            "workers": 0,
        },
        "model": {"separation": name},
        "trainer": {
            "steps": setting.steps,
            "validate_every": setting.steps,
            "batch_size": setting.batch_size,
        },
    }
    for each in chosen:
        section, _, assignment = each.partition(".")
        key, _, value = assignment.partition("=")
        tree.setdefault(section, {})[key] = json.loads(value)
    config = parse_config(tree)
    shutil.rmtree(config.folder, ignore_errors=True)
    file = setting.work / "models" / f"{words}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    os.replace(fit(config).model, file)
    shutil.rmtree(config.folder)
    return load_model(file)


def counted(model: SegmentationModel, catalog: Catalog, place: str) -> dict[str, dict[str, Counts]]:
    """Return the counts of buildings by way of splitting and by group of test images."""
    found: dict[str, dict[str, Counts]] = {}
    with torch.inference_mode():
        for tile in thinned(catalog.select(domains=[place], split="test").tiles, TEST_PIXELS):
            for way, counts in counts_of(model, tile).items():
                groups = found.setdefault(way, {})
                before = groups.setdefault(tile.group, [[0, 0, 0] for _ in IOUS])
                groups[tile.group] = (np.array(before) + counts).tolist()
    return found


def counts_of(model: SegmentationModel, tile: Tile) -> dict[str, Counts]:
    """Return the counts of buildings of one image, by way of splitting."""
    scale = tile.scale_to(model.spec.gsd_m)
    with tile.open(scale) as raster, tile.open_label(raster) as label:
        scaling = model.spec.scaling_of(raster)
        pixels, maps = predict_maps(
            model, raster, tile.name, scaling=scaling, shift=None, tiling=TILING
        )
        truth = label.read()
        valid = pixels.valid & (truth != IGNORE)
        true = true_objects(label, truth, valid, raster)
    inside = inside_of(maps[0], maps[1:])
    found: dict[str, Counts] = {}
    for way, splitting in WAYS.items():
        if splitting is not None and splitting.learned and inside is None:
            continue
        outlines = trace(maps[0], valid, watershed=splitting, inside=inside)
        scores = [
            object_scores(true, outlines.polygons, iou, MIN_OBJECT_PX, outlines.scores)
            for iou in IOUS
        ]
        found[way] = [[int(number) for number in each.vector] for each in scores]
    return found


def f1(groups: Mapping[str, Counts], iou: int = 0) -> float:
    """Return the F1 of all groups together at one of ``IOUS``."""
    return float(f1_score(np.sum([counts[iou] for counts in groups.values()], axis=0, dtype=float)))


def tables(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of the tables, one for each place."""
    lines: list[str] = []
    for place in dict.fromkeys(cell["place"] for cell in cells):
        of_place = [cell for cell in cells if cell["place"] == place]
        found = {(cell["network"], cell["seed"]): cell["counts"] for cell in of_place}
        networks = dict.fromkeys(cell["network"] for cell in of_place)
        lines += ["", f"{place}", "", "| network | buildings are | seeds | F1 at 0.5 | gain |"]
        lines[-1] += " F1 at 0.7 | gain |"
        lines.append("|---" * 7 + "|")
        for network in networks:
            seeds = [seed for name, seed in found if name == network]
            for way in found[network, seeds[0]]:
                cells_of_way = [network, way, str(len(seeds))]
                for number in range(len(IOUS)):
                    scores = [f1(found[network, seed][way], number) for seed in seeds]
                    cells_of_way.append(f"{np.mean(scores):.3f}")
                    cells_of_way.append(gain(found, network, way, number))
                lines.append(f"| {' | '.join(cells_of_way)} |")
    return lines


def gain(found: Mapping[tuple[str, int], Any], network: str, way: str, iou: int) -> str:
    """Return the paired difference from today's split, with its 95 % interval over several seeds.

    Seeds and groups of images are drawn again, the same ones for both.
    """
    today, split = TODAY
    seeds = [seed for name, seed in found if name == network and (today, seed) in found]
    if not seeds or (network, way) == TODAY:
        return ""
    ours, theirs = (
        np.array(
            [
                [found[name, seed][by][group][iou] for group in sorted(found[name, seed][by])]
                for seed in seeds
            ],
            dtype=float,
        )
        for name, by in ((network, way), (today, split))
    )  # (seeds, groups, 3)
    difference = f"{mean_f1(ours) - mean_f1(theirs):+.3f}"
    if len(seeds) < 2:
        return difference
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(len(seeds), size=len(seeds))
        groups = rng.integers(ours.shape[1], size=ours.shape[1])
        drawn = [mean_f1(part[chosen][:, groups]) for part in (ours, theirs)]
        differences.append(drawn[0] - drawn[1])
    # Draws of groups without any building have no F1.
    tail = 100.0 * expanded_tail(len(seeds))
    low, high = np.nanpercentile(differences, [tail, 100.0 - tail])
    return f"{difference} [{low:+.3f}, {high:+.3f}]"


def mean_f1(counts: NDArray[np.float64]) -> float:
    """Return the F1 of all groups together, averaged over seeds: counts are (seeds, groups, 3)."""
    return float(np.mean(f1_score(counts.sum(axis=1))))


if __name__ == "__main__":
    main()
