"""Does collapse predict transfer, and do layers before the classifier keep features general?

    python benchmarks/projection.py --work /tmp/projection

Wang et al. (JMLR 26, 2025) say that features some layers before the end are less collapsed and
transfer better, so that a projection head helps. Patches of one place are classified as building or
background by a backbone with no to three projection layers before the classifier. Each layer is
then probed in three other places (``--data``, by default ``RHM_DATA`` or ``../shared/data``): by a
linear probe that is fitted there on other images, and by one that is fitted at home.

Finished runs are kept in the file ``--kept`` and not repeated; ``--table`` only prints the tables.
"""

import argparse
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from collapse import Classifier, cut
from kept import KeptResults
from machine import machine, mean_and_interval
from places import PLACES, find_sources
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from rhm.analysis import ClassMoments, separation
from rhm.analysis.probes import linear_probe
from rhm.data.catalog import Catalog

HOME = "massachusetts"
PROJECTIONS = (0, 1, 2, 3)
TRAIN, FIT, TEST = 1000, 300, 300
"""Patches to train on; patches of each place that probes are fitted to, and tested on."""
EPOCHS, BATCH, RATE = 8, 25, 5e-4
RIDGES = (1e-2, 1e-1, 1.0)
"""Strengths of a probe's penalty, chosen by a third of the patches that it is fitted to."""

Patches = tuple[Tensor, Tensor]


def main() -> None:
    """Train and measure what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("RHM_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kept", type=Path, help="default: kept.jsonl in --work")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--table", action="store_true", help="only print the tables")
    asked = parser.parse_args()
    kept = KeptResults(asked.kept or asked.work / "kept.jsonl", ("layers", "seed"))
    if not asked.table:
        path = asked.work / "catalog.parquet"
        if not path.is_file():
            found = find_sources(asked.data, {d for domains in PLACES.values() for d in domains})
            Catalog.build(found).assign_splits({"test": 0.4}).save(path)
        for seed, count in itertools.product(asked.seeds, PROJECTIONS):
            if not kept.has(layers=count, seed=seed):
                begun = time.process_time()
                rows = run(Catalog.load(path), count, seed)
                kept.add({"layers": count, "seed": seed, "rows": rows})
                print(
                    f"{count} layers, seed {seed}: {time.process_time() - begun:.0f} CPU s",
                    flush=True,
                )
    print(machine("torch", "timm", "segmentation-models-pytorch"))
    found = [row for row in kept.rows if row["seed"] in asked.seeds]
    print("\n".join(layer_table(found)), end="\n\n")
    print("\n".join(prediction_table(found)))


class Projected(nn.Module):
    """The backbone of ``collapse.py``, projection layers of its width, and a linear classifier."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        bare = Classifier("linear")
        self.backbone = bare.backbone
        width = bare.weight.shape[1]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU())
            for _ in range(layers)
        )
        self.head = nn.Linear(width, 2)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the features of the backbone and of each projection layer, each (N, D)."""
        found: list[Tensor] = [self.backbone(images)]
        for layer in self.layers:
            found.append(layer(found[-1]))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 2)."""
        logits: Tensor = self.head(self.stages(images)[-1])
        return logits


def run(catalog: Catalog, layers: int, seed: int) -> list[dict[str, Any]]:
    """Train one network; return collapse and probes of each of its layers."""
    torch.manual_seed(seed)
    images, labels = patches(catalog, HOME, "train", TRAIN, seed)
    model = Projected(layers)
    tuned = torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-2)
    for _ in range(EPOCHS):
        model.train()
        for batch in torch.randperm(len(images)).split(BATCH):
            loss = functional.cross_entropy(model(images[batch]), labels[batch])
            tuned.zero_grad()
            loss.backward()
            tuned.step()
    model.eval()
    home = features_of(model, images)
    right = (model_logits(model, images).argmax(1) == labels).float().mean()
    collapsed = [separation(moments_of(part, labels)) for part in home]
    rows: list[dict[str, Any]] = [
        {
            "layer": number,
            "compression": each.compression,
            "discrimination": each.discrimination,
            "training": float(right),
            "own": {},
            "transferred": {},
        }
        for number, each in enumerate(collapsed)
    ]
    learned = [best_probe(part, labels) for part in home]
    for place in PLACES:
        fitted, there = patches(catalog, place, "train", FIT, seed)
        tested, truth = patches(catalog, place, "test", TEST, seed)
        parts = zip(features_of(model, fitted), features_of(model, tested), strict=True)
        for row, probe, (fit, test) in zip(rows, learned, parts, strict=True):
            row["own"][place] = best_probe(fit, there).balanced_accuracy(test, truth)
            row["transferred"][place] = probe.balanced_accuracy(test, truth)
    return rows


def patches(catalog: Catalog, place: str, split: str, count: int, seed: int) -> Patches:
    """Return patches of a place with their labels, in random order."""
    tiles = catalog.select(domains=PLACES[place], split=split, labelled=True).tiles
    images, labels = cut(tiles, count, seed=seed)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return images[order], labels[order]


def features_of(model: Projected, images: Tensor) -> list[Tensor]:
    """Return the features of all layers."""
    with torch.inference_mode():
        parts = [model.stages(part) for part in images.split(100)]
    return [torch.cat(layer).clone() for layer in zip(*parts, strict=True)]


def model_logits(model: Projected, images: Tensor) -> Tensor:
    """Return the logits of all images."""
    with torch.inference_mode():
        return torch.cat([model(part) for part in images.split(100)])


def moments_of(features: Tensor, labels: Tensor) -> ClassMoments:
    """Return the class moments of features."""
    moments = ClassMoments(2, features.shape[1])
    moments.update(features, labels)
    return moments


def best_probe(features: Tensor, labels: Tensor) -> Any:
    """Return a probe whose penalty was chosen by a third of the samples."""
    third = len(features) // 3
    held, seen = (features[:third], labels[:third]), moments_of(features[third:], labels[third:])
    ridge = max(RIDGES, key=lambda each: linear_probe(seen, ridge=each).balanced_accuracy(*held))
    return linear_probe(moments_of(features, labels), ridge=ridge)


def layer_table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a row for each layer of each kind of network, as Markdown: means over seeds."""
    others = [place for place in PLACES if place != HOME]
    columns = "own probe away | over the last layer | transferred away"
    yield f"| projection layers | probed behind | seeds | training | C_l | D_l | home | {columns} |"
    yield "|---" * 10 + "|"
    for count in PROJECTIONS:
        runs = [each["rows"] for each in found if each["layers"] == count]
        for layer in range(count + 1) if runs else ():
            rows = [run[layer] for run in runs]
            own = [np.mean([row["own"][place] for place in others]) for row in rows]
            last = [np.mean([run[-1]["own"][place] for place in others]) for run in runs]
            moved = [np.mean([row["transferred"][place] for place in others]) for row in rows]
            cells = [
                str(count),
                "the backbone" if layer == 0 else f"layer {layer}",
                str(len(rows)),
                *(
                    f"{np.mean([row[key] for row in rows]):.3f}"
                    for key in ("training", "compression", "discrimination")
                ),
                f"{np.mean([row['own'][HOME] for row in rows]):.3f}",
                f"{np.mean(own):.3f}",
                "" if layer == count else mean_and_interval(np.subtract(own, last)),
                f"{np.mean(moved):.3f}",
            ]
            yield f"| {' | '.join(cells)} |"


def prediction_table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the rank correlation of log C_l with probes, as Markdown, averaged over seeds."""
    others = [place for place in PLACES if place != HOME]
    yield "| of the layers of all networks of a seed | rank correlation with C_l |"
    yield "|---" * 2 + "|"
    for kind in ("own", "transferred"):
        by_seed = []
        for seed in sorted({each["seed"] for each in found}):
            rows = [row for each in found if each["seed"] == seed for row in each["rows"]]
            away = [np.mean([row[kind][place] for place in others]) for row in rows]
            compression = [row["compression"] for row in rows]
            if len(rows) > 2:
                by_seed.append(float(stats.spearmanr(compression, away).statistic))
        if by_seed:
            yield f"| {kind} probe away | {mean_and_interval(by_seed)} |"


if __name__ == "__main__":
    main()
