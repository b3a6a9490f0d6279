"""A model in a city without labels: which methods close the gap, and what each costs.

    python benchmarks/new_city.py --work /tmp/new-city

Models are trained on one place with the labels of that place and the unlabelled training images of
the three others, and tested on test images that no training saw: twelve pairs of source and target.
Every method has the same chips, steps and batches; those with a second stream of chips see as many
unlabelled ones besides. Settings were chosen on three places that are neither source nor target
(``--choose``), and then kept. ``--seen`` lets banks and streams hold the tested images, too.
``--apart`` trains one model for each target with the imagery of this target alone, as users do who
need one city, instead of one model for all of them; at home, the first of these is tested.

Finished cells are kept in ``--work``, one JSON file each, and are not repeated: interrupt the
script whenever you like, and add seeds and methods later. ``--kept`` names a file that has what the
tables need of cells, so that an experiment can go on elsewhere; ``new_city.jsonl`` beside this
program has those that are finished so far. ``--table`` only prints the tables.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import new_city_tables as tables
import torch
from machine import machine, thinned
from new_city_methods import METHODS, Method, file_stem
from places import GSD_M, PLACES, TEST_PIXELS, TEST_SHARE, TILING, find_sources

from rhm.augmentation.colours import COLOUR
from rhm.colour.spectra.spectrum import SIDE
from rhm.data.catalog import Catalog, Tile
from rhm.data.labels import IGNORE
from rhm.data.radiometry import bank_of
from rhm.evaluation.tile_scores import predict_image
from rhm.files import write_text
from rhm.inference.tiling.stream import Tiling
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model
from rhm.training.config import parse_config
from rhm.training.fitting import fit
from rhm.training.metrics import CalibrationBins
from rhm.training.unlabelled.target_config import LEARNING_RATES

UNSCORED: dict[str, tuple[str, ...]] = {
    "kampala": ("oam_kampala",),
    "banepa": ("oam_banepa",),
    "rio": ("spacenet1_rio",),
}
"""Places on which settings are chosen."""

LEVELS = 200


@dataclass(frozen=True)
class Setting:
    """Sizes and imagery of the experiment.

    Attributes:
        work: folder of the catalog, banks, runs and results.
        steps: number of optimiser steps of each run.
        chip_px: side of a chip in pixels.
        batch_size: chips per step.
        seen: whether banks and streams hold the tested images, too.
        apart: whether each target has a model of its own.
        targets: the places of which unlabelled images are seen.
    """

    work: Path
    steps: int
    chip_px: int
    batch_size: int
    seen: bool
    apart: bool
    targets: dict[str, tuple[str, ...]]

    def parts(self, source: str, *, seeing: bool = True) -> list[tuple[str, ...]]:
        """Return the targets of a source, grouped by model.

        Args:
            source: place with labels.
            seeing: whether the model sees anything of its targets.
        """
        places = tuple(place for place in self.targets if place != source)
        return [(place,) for place in places] if self.apart and seeing else [places]

    def domains(self, places: Sequence[str]) -> list[str]:
        """Return the domains of targets."""
        return [domain for place in places for domain in self.targets[place]]


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
    parser.add_argument("--sources", nargs="+", default=list(PLACES), choices=list(PLACES))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seen", action="store_true", help="show the tested images, unlabelled")
    parser.add_argument("--apart", action="store_true", help="train one model for each target")
    parser.add_argument(
        "--choose",
        nargs="*",
        help="test on the unscored places instead, with settings such as target.weight=0.01",
    )
    parser.add_argument("--kept", type=Path, help="file of finished cells, which is added to")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    asked = parser.parse_args()
    sizes = f"{asked.steps}x{asked.batch_size}x{asked.chip_px}"
    sizes += "-seen" * asked.seen + "-apart" * asked.apart
    targets = PLACES if asked.choose is None else UNSCORED
    folder = asked.work / (sizes if asked.choose is None else f"{sizes}-choose")
    lengths = asked.steps, asked.chip_px, asked.batch_size
    setting = Setting(folder, *lengths, asked.seen, asked.apart, targets)
    kept = tables.KeptCells(asked.kept, folder.name)
    if not asked.table:
        catalog = prepare(setting, asked.data)
        for seed, name, source in itertools.product(asked.seeds, asked.methods, asked.sources):
            label = " ".join([name, *(asked.choose or ())])
            if not kept.has(source, label, seed):
                kept.add(run_cell(setting, catalog, source, name, seed, asked.choose or ()))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{machine('torch', 'segmentation-models-pytorch', 'timm')}, {device}\n")
    for path in sorted(setting.work.glob("results/*.json")):
        kept.add(json.loads(path.read_text()))
    cells = [cell for cell in kept.cells if cell["seed"] in asked.seeds]
    print("\n".join(tables.methods_table(cells, asked.sources, list(targets))))
    if asked.choose is None:
        print("\n".join(["", *tables.pairs_table(cells, list(PLACES))]))
        print("\n".join(["", *tables.closed_table(cells, list(PLACES))]))
        print("\n".join(["", *tables.averaged_table(cells, asked.sources, list(targets))]))
        print("\n".join(["", *tables.comparisons_table(cells, list(PLACES))]))


def prepare(setting: Setting, data: Path) -> Catalog:
    """Return the catalog of all places, split by group; also write what training may see of it."""
    path = setting.work / "catalog.parquet"
    if not path.is_file():
        wanted = {d for domains in (PLACES | UNSCORED).values() for d in domains}
        found = find_sources(data, wanted)
        Catalog.build(found).assign_splits({"test": TEST_SHARE}).save(path)
    catalog = Catalog.load(path)
    seen = setting.work / "seen.parquet"
    if not seen.is_file():
        kept = catalog if setting.seen else catalog.select(split="train")
        kept.save(seen)
    for source in PLACES:
        for places in setting.parts(source):
            bank = _bank(setting, places)
            if not bank.is_file():
                images = Catalog.load(seen).select(domains=setting.domains(places)).tiles
                bank_of(images, spectrum_px=SIDE).save(bank)
    return catalog


def run_cell(
    setting: Setting, catalog: Catalog, source: str, name: str, seed: int, chosen: Sequence[str]
) -> dict[str, Any]:
    """Train one model, test it everywhere, and store and return the counts."""
    label, words = " ".join([name, *chosen]), file_stem(source, name, seed, chosen)
    result = _result(setting, words)
    if result.is_file():
        found: dict[str, Any] = json.loads(result.read_text())
        return found
    places = {source: PLACES[source], **setting.targets}
    if METHODS[name].adapter:
        counts, seconds = adapted(setting, catalog, source, name, seed, chosen)
    else:
        counts, seconds, views = {}, 0.0, METHODS[name].views
        if views:
            seconds = run_cell(setting, catalog, source, METHODS[name].base, seed, ())["seconds"]
        trained = METHODS[name].base or name
        for targets in setting.parts(source, seeing=sees_targets(METHODS[trained])):
            if views:
                model = _loaded(_model_file(setting, _stem(source, targets, trained, seed)))
            else:
                model, took = train(setting, source, targets, name, seed, chosen)
                seconds += took
            # At home, the first of several models is tested.
            tested = targets if counts else (source, *targets)
            counts |= {place: counted(model, catalog, places[place], views) for place in tested}
    cell = {"source": source, "method": label, "seed": seed, "seconds": seconds, "counts": counts}
    write_text(result, json.dumps(cell) + "\n")
    shown = ", ".join(
        f"{place} {tables.pooled_iou(of_groups, 'own'):.3f}" for place, of_groups in counts.items()
    )
    print(f"{source} {label} seed {seed}: {shown} ({seconds:.0f} s)", flush=True)
    return cell


def _result(setting: Setting, words: str) -> Path:
    return setting.work / "results" / f"{words}.json"


def _model_file(setting: Setting, words: str) -> Path:
    return setting.work / "models" / f"{words}.safetensors"


def _stem(
    source: str, targets: Sequence[str], name: str, seed: int, chosen: Sequence[str] = ()
) -> str:
    """Return the name of a model's files, without their endings."""
    return file_stem(source, name, seed, chosen) + f"-{targets[0]}" * (len(targets) == 1)


def colours_of(method: Method) -> list[str]:
    """Return the names of the augmentations of colours of a method."""
    return re.split(r"[ +|]+", method.augment.get("colour", "none"))


def sees_targets(method: Method) -> bool:
    """Return whether a method uses imagery of the targets."""
    seen = (COLOUR[each].from_bank or COLOUR[each].from_targets for each in colours_of(method))
    return bool(method.target) or any(seen)


def _bank(setting: Setting, places: Sequence[str]) -> Path:
    return setting.work / f"{'+'.join(places)}.bank"


def train(
    setting: Setting,
    source: str,
    targets: Sequence[str],
    name: str,
    seed: int,
    chosen: Sequence[str],
) -> tuple[SegmentationModel, float]:
    """Train one model, keep its file, and return it with the processor time of the training."""
    words, method = _stem(source, targets, name, seed, chosen), METHODS[name]
    augment, colours = dict(method.augment), colours_of(method)
    seen: dict[str, Any] = {}
    if any(COLOUR[colour].from_bank for colour in colours):
        augment["bank"] = str(_bank(setting, targets))
    if any(COLOUR[colour].from_targets for colour in colours):
        augment["targets"] = setting.domains(targets)
        seen = {"split": _split(setting)}
    tree: dict[str, Any] = {
        **_sections(setting, words, seed, setting.steps * method.longer),
        "augment": augment,
        "model": method.model,
        "target": seen,
    }
    if method.average:
        tree["trainer"]["average"] = method.average
        tree["optimizer"] = {"schedule": "constant"}
    if method.target:
        tree["target"] = {
            "domains": setting.domains(targets),
            "split": _split(setting),
            **method.target,
        }
    tree["data"]["sources"] = list(PLACES[source])
    return _fitted(tree, chosen, _model_file(setting, words))


def adapted(
    setting: Setting, catalog: Catalog, source: str, name: str, seed: int, chosen: Sequence[str]
) -> tuple[dict[str, Any], float]:
    """Adapt a finished model to each target alone, and return the counts and the processor time.

    At home, the model is used as it is.
    """
    method = METHODS[name]
    before = run_cell(setting, catalog, source, method.base, seed, ())
    stem = file_stem(source, method.base, seed)
    counts, total = {source: before["counts"][source]}, 0.0
    for place, domains in setting.targets.items():
        if place == source:
            continue
        words = f"{file_stem(source, name, seed, chosen)}-{place}"
        alone = setting.apart and sees_targets(METHODS[method.base])
        base = _model_file(setting, f"{stem}-{place}" if alone else stem)
        tree: dict[str, Any] = {
            **_sections(setting, words, seed, setting.steps),
            "augment": method.augment,
            "adapter": {"base": str(base), **method.adapter},
            "target": {"domains": list(domains), "split": _split(setting), **method.target},
            "optimizer": {"learning_rate": LEARNING_RATES[method.adapter["method"]]},
        }
        model, seconds = _fitted(tree, chosen, _model_file(setting, words))
        counts[place] = counted(model, catalog, domains)
        total += seconds
    return counts, round(total, 1)


def _sections(setting: Setting, words: str, seed: int, steps: int) -> dict[str, Any]:
    """Return what all configurations have in common."""
    return {
        "name": words.replace("=", "-"),
        "output": str(setting.work / "runs"),
        "seed": seed,
        "data": {
            "catalog": str(setting.work / "seen.parquet"),
            "chip_px": setting.chip_px,
            "gsd_m": GSD_M,
            "workers": 0,
        },
        "trainer": {
            "steps": steps,
            "validate_every": steps,
            "batch_size": setting.batch_size,
        },
    }


def _split(setting: Setting) -> str:
    return "all" if setting.seen else "train"


def _fitted(
    tree: dict[str, Any], chosen: Sequence[str], file: Path
) -> tuple[SegmentationModel, float]:
    """Train by a configuration, keep only the model, and return it with the processor time."""
    for each in chosen:
        section, _, assignment = each.partition(".")
        key, _, value = assignment.partition("=")
        tree[section][key] = json.loads(value)
    config = parse_config(tree)
    shutil.rmtree(config.folder, ignore_errors=True)
    begun = time.process_time()
    run = fit(config)
    seconds = time.process_time() - begun
    file.parent.mkdir(parents=True, exist_ok=True)
    os.replace(run.model, file)
    shutil.rmtree(config.folder)
    return _loaded(file), round(seconds, 1)


def _loaded(file: Path) -> SegmentationModel:
    model = load_model(file)
    return model.cuda() if torch.cuda.is_available() else model


def counted(
    model: SegmentationModel, catalog: Catalog, domains: Sequence[str], views: bool = False
) -> dict[str, list[list[float]]]:
    """Return pixels, probability sums and buildings by level, for each group of test images."""
    tiles = thinned(catalog.select(domains=domains, split="test").tiles, TEST_PIXELS)
    found: dict[str, list[CalibrationBins]] = {}
    for tile in tiles:
        found.setdefault(tile.group, []).append(_bins(model, tile, replace(TILING, views=views)))
    return {
        group: [[round(float(x), 3) for x in part] for part in _parts(reduce(_add, of_group))]
        for group, of_group in found.items()
    }


def _bins(model: SegmentationModel, tile: Tile, tiling: Tiling) -> CalibrationBins:
    scale = tile.scale_to(model.spec.gsd_m)
    with tile.open(scale) as raster, tile.open_label(raster) as label:
        pixels, probability = predict_image(
            model,
            raster,
            tile.name,
            scaling=model.spec.scaling_of(raster),
            shift=None,
            tiling=tiling,
        )
        truth = label.read()
    valid = pixels.valid & (truth != IGNORE)
    return CalibrationBins.of(probability, truth == 1, valid, bins=LEVELS)


def _add(one: CalibrationBins, other: CalibrationBins) -> CalibrationBins:
    return one + other


def _parts(bins: CalibrationBins) -> Iterator[Sequence[float]]:
    yield from (bins.pixels.tolist(), bins.probability_sums.tolist(), bins.buildings.tolist())


if __name__ == "__main__":
    main()
