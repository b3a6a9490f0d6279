"""Do normalised features collapse faster than features under weight decay, and perform better?

    python benchmarks/collapse.py --work /tmp/collapse

This tests the practical claim of Yaras et al. (NeurIPS 2022) on real imagery (``--data``, by
default ``RHM_DATA`` or ``../shared/data``). Patches of one town are classified as building or
background by a backbone with a linear head and with a cosine head, and the same two heads are
compared in segmentation. The runs differ only in the head. Finished runs are stored in ``--work``
and not repeated; ``--table`` only prints the tables.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from machine import machine, mean_and_interval
from torch import Tensor, nn
from torch.nn import functional

from rhm.analysis import ClassMoments, collapse, separation
from rhm.colour.histogram import Histogram
from rhm.data.catalog import Catalog, Tile
from rhm.data.layouts.registry import index_folder
from rhm.data.radiometry import Scaling, histogram_of, measure_scalings
from rhm.data.rasters.windows import Window
from rhm.files import write_text
from rhm.lab.controlled_shifts import pixel_iou
from rhm.models.build import BUNDLED_ENCODER, SegmentationModel, load_encoder_weights
from rhm.models.model_file import load_model
from rhm.models.spec import ModelSpec
from rhm.training.config import parse_config
from rhm.training.fitting import fit_once

PLACE = "massachusetts"
HEADS = ("linear", "cosine")
TEMPERATURE = 10.0
WEIGHT_DECAY = 1e-2
PATCH_PX = 64
PATCHES = {"train": 1000, "test": 500}
EPOCHS, BATCH = 8, 25
STEPS, VALIDATE_EVERY = 300, 30


def main() -> None:
    """Train and measure what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("RHM_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="only print the tables")
    asked = parser.parse_args()
    if not asked.table:
        path = asked.work / "catalog.parquet"
        if not path.is_file():
            catalog = index_folder(asked.data, table=asked.data / "manifest.csv")
            shares = {"val": 0.15, "test": 0.25}
            catalog.select(domains=[PLACE]).assign_splits(shares).save(path)
        for seed in range(asked.seeds):
            for head in HEADS:
                for kind, run in (("patches", patches), ("segmentation", segmented)):
                    once(asked.work, kind, head, seed, partial(run, path, head, seed))
    print(machine("torch", "timm", "segmentation-models-pytorch"))
    for kind in ("patches", "segmentation"):
        for line in table(asked.work, kind):
            print(line)


def once(
    work: Path, kind: str, head: str, seed: int, run: Callable[[], list[dict[str, float]]]
) -> None:
    """Run and store the result, unless it is stored already."""
    path = work / "results" / f"{kind}.{head}.{seed}.json"
    if path.is_file():
        return
    begun = time.perf_counter()
    records = run()
    write_text(path, json.dumps(records, indent=1) + "\n")
    print(f"{kind} {head} {seed}: {records[-1]} ({time.perf_counter() - begun:.0f} s)", flush=True)


class Classifier(nn.Module):
    """A backbone, mean pooling, and a linear or cosine classifier of two classes."""

    def __init__(self, head: str) -> None:
        super().__init__()
        model = SegmentationModel(ModelSpec("unet", BUNDLED_ENCODER, 3))
        load_encoder_weights(model, "bundled")
        self.backbone = timm.create_model(BUNDLED_ENCODER, num_classes=0)
        state = model.encoder.get_submodule("model").state_dict()
        self.backbone.load_state_dict(state, strict=False)
        self.weight = nn.Parameter(torch.randn(2, self.backbone.num_features) / 40)
        self.bias = nn.Parameter(torch.zeros(2))
        self.cosine = head == "cosine"

    def features(self, images: Tensor) -> Tensor:
        """Return the features that are classified, (N, D)."""
        pooled: Tensor = self.backbone(images)
        return functional.normalize(pooled, dim=1) if self.cosine else pooled

    def classify(self, features: Tensor) -> Tensor:
        """Return logits (N, 2)."""
        if self.cosine:
            return TEMPERATURE * features @ functional.normalize(self.weight, dim=1).T
        return features @ self.weight.T + self.bias

    def rows(self) -> Tensor:
        """Return the rows of the classifier (2, D), on the sphere where their length is nothing."""
        weight = self.weight.detach()
        return functional.normalize(weight, dim=1) if self.cosine else weight


def patches(catalog: Path, head: str, seed: int) -> list[dict[str, float]]:
    """Train on patches and return one record per epoch."""
    torch.manual_seed(seed)
    listed = Catalog.load(catalog)
    images, labels, _ = cut(listed.select(split="train").tiles, PATCHES["train"], seed=seed)
    unseen, truth, _ = cut(listed.select(split="test").tiles, PATCHES["test"], seed=0)
    model = Classifier(head)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=WEIGHT_DECAY)
    records = []
    for epoch in range(EPOCHS):
        model.train()
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(100 + epoch))
        for batch in order.split(BATCH):
            logits = model.classify(model.features(images[batch]))
            optimizer.zero_grad()
            functional.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
        records.append({"epoch": epoch + 1} | measured(model.eval(), images, labels, unseen, truth))
    return records


def measured(
    model: Classifier, images: Tensor, labels: Tensor, unseen: Tensor, truth: Tensor
) -> dict[str, float]:
    """Return the collapse on the training patches and the accuracy on both sets."""
    moments, directions = (ClassMoments(2, model.weight.shape[1]) for _ in range(2))
    right = 0
    with torch.inference_mode():
        for start in range(0, len(images), 100):
            features = model.features(images[start : start + 100])
            moments.update(features, labels[start : start + 100])
            directions.update(functional.normalize(features, dim=1), labels[start : start + 100])
            right += int((model.classify(features).argmax(1) == labels[start : start + 100]).sum())
        found = torch.cat([model.classify(model.features(part)) for part in unseen.split(100)])
    metrics, layer = collapse(moments, model.rows()), separation(moments)
    return {
        "nc1": float(metrics.nc1 or 0.0),
        # Of lengths, which the cosine head ignores: else they might be all the difference.
        "nc1_directions": float(collapse(directions).nc1 or 0.0),
        "nc3": float(metrics.nc3 or 0.0),
        "self_duality": float(metrics.self_duality or 0.0),
        "compression": layer.compression,
        "train": right / len(images),
        "test": float((found.argmax(1) == truth).float().mean()),
    }


def cut(
    tiles: Sequence[Tile],
    count: int,
    *,
    seed: int,
    side: int = PATCH_PX,
    place: Sequence[Tile] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return patches (N, 3, side, side), labels (N,), half of them of each class, and images (N,).

    A building patch has at least half of its central square (a quarter of the side wide) built up;
    a background patch has nothing built up in the central square of half the side. Patches have
    the range from black to white of their sensor, from -1 to 1. It is measured over ``place``, all
    images of a place, or else over those that patches are cut from. The last result says which of
    these each is from.
    """
    rng = np.random.default_rng(seed)
    found: dict[int, list[Tensor]] = {0: [], 1: []}
    origins: dict[int, list[int]] = {0: [], 1: []}
    quarter, half = side * 3 // 8, side // 4
    half_range, tables = (0.5,) * 3, {}
    for dtype in {tile.dtype for tile in tiles}:
        of_dtype = (histogram_of_file(tile) for tile in place or tiles if tile.dtype == dtype)
        scaling = Scaling.of_bytes(3) if dtype == "uint8" else measure_scalings(of_dtype)[dtype]
        tables[dtype] = scaling.table(half_range, half_range)
    while min(map(len, found.values())) < count // 2:
        number = int(rng.integers(len(tiles)))
        tile = tiles[number]
        with tile.open(tile.scale_to(1.0)) as raster, tile.open_label(raster) as label:
            for _ in range(40):
                limits = (raster.info.height - side, raster.info.width - side)
                row, col = (int(rng.integers(limit + 1)) for limit in limits)
                window = Window(row, col, side, side)
                mask = label.read(window)
                pixels, valid = raster.read(window)
                middle = mask[quarter:-quarter, quarter:-quarter]
                kind = 1 if (middle == 1).mean() >= 0.5 else 0
                clear = kind or not (mask[half:-half, half:-half] != 0).any()
                if valid.all() and clear and len(found[kind]) < count // 2:
                    patch = torch.from_numpy(tables[tile.dtype].apply(pixels)).permute(2, 0, 1)
                    found[kind].append(patch)
                    origins[kind].append(number)
    labels = torch.arange(2).repeat_interleave(count // 2)
    return torch.stack(found[0] + found[1]), labels, torch.tensor(origins[0] + origins[1])


def histogram_of_file(tile: Tile) -> Histogram:
    """Return the histogram of an image."""
    with tile.open() as raster:
        return histogram_of(raster)


def segmented(catalog: Path, head: str, seed: int) -> list[dict[str, float]]:
    """Train a segmentation model and return one record per validation."""
    config = parse_config(
        {
            "name": f"{head}-{seed}",
            "output": str(catalog.parent / "runs"),
            "seed": seed,
            "data": {"catalog": str(catalog), "chip_px": 96, "gsd_m": 1.0, "workers": 0},
            "model": {"head": head} | ({"temperature": TEMPERATURE} if head == "cosine" else {}),
            "optimizer": {"weight_decay": WEIGHT_DECAY},
            "trainer": {"steps": STEPS, "validate_every": VALIDATE_EVERY},
            "analysis": {"every": 1, "chips": 64},
        }
    )
    run = fit_once(config)
    metrics = pd.read_csv(run.folder / "metrics.csv").dropna(subset=["nc1"])
    tested = Catalog.load(catalog).select(split="test").tiles[::3]
    test = pixel_iou(load_model(run.model), tested)
    return [
        {
            "epoch": index + 1,
            "nc1": float(row["nc1"]),
            "nc3": float(row["nc3"]),
            "self_duality": float(row["self_duality"]),
            "compression": float(row["compression/decoder"]),
            "train": float(row["val_iou"]),
            "test": test,
        }
        for index, (_, row) in enumerate(metrics.iterrows())
    ]


def table(work: Path, kind: str) -> Iterator[str]:
    """Yield a row per head and record: means and standard deviations over seeds."""
    names = {
        "nc1": "NC1",
        "nc1_directions": "NC1 of directions",
        "nc3": "NC3",
        "self_duality": "self-duality",
        "compression": "C_l",
        "train": "training" if kind == "patches" else "validation IoU",
        "test": "test" if kind == "patches" else "test IoU of the best",
    }
    if kind != "patches":
        del names["nc1_directions"]
    yield f"\n{kind}"
    yield f"| head | seeds | record | {' | '.join(names.values())} |"
    yield "|---" * (3 + len(names)) + "|"
    tested: dict[str, dict[str, float]] = {}
    for head in HEADS:
        files = sorted((work / "results").glob(f"{kind}.{head}.*.json"))
        runs = [json.loads(path.read_text()) for path in files]
        tested[head] = {path.stem: run[-1]["test"] for path, run in zip(files, runs, strict=True)}
        if not runs:
            continue
        for index in sorted({0, 1, 3, len(runs[0]) // 2, len(runs[0]) - 1}):
            rows = [run[index] for run in runs]
            cells = [_said([row[name] for row in rows]) for name in names]
            yield f"| {head} | {len(runs)} | {rows[0]['epoch']} | {' | '.join(cells)} |"
    gains = [
        score - tested["linear"][name.replace("cosine", "linear")]
        for name, score in tested["cosine"].items()
        if name.replace("cosine", "linear") in tested["linear"]
    ]
    if gains:
        yield f"{names['test']}, cosine over linear: {mean_and_interval(gains)}"


def _said(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
