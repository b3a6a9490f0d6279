"""Does collapse predict transfer, and do layers before the classifier keep features general?

    python benchmarks/projection.py --work /tmp/projection

Wang et al. (JMLR 26, 2025) say that features some layers before the end are less collapsed and
transfer better, so that a projection head helps. Patches of one place are classified as building or
background by a backbone with no to three projection layers before the classifier. Each layer is
then probed in three other places (``--data``, by default ``RHM_DATA`` or ``../shared/data``): by a
linear probe that is fitted there on other images, and by one that is fitted at home, to images that
the network was not trained on. The penalty of a probe is chosen by images that it is not fitted to.

Of one network, deeper layers are more compressed. So how compression goes with transfer is told
apart over the layers of a network and over networks, at the same layer.

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
SIDE_PX = 32
TRAIN, FIT, TEST = 2000, 600, 600
"""Patches to train on; patches of each place that probes are fitted to, and tested on."""
EPOCHS, BATCH, RATE = 12, 25, 5e-4
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Strengths of a probe's penalty."""
HELD = 3
"""Share of the images that choose the penalty: one in so many."""

Patches = tuple[Tensor, Tensor, Tensor]
"""Patches, labels, and the image that each is from."""


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
            Catalog.build(found).assign_splits({"val": 0.2, "test": 0.4}).save(path)
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
    print("\n".join(prediction_table(found)), end="\n\n")
    print("\n".join(pooled_table(found)))


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
    images, labels, _ = patches(catalog, HOME, ["train"], TRAIN, seed)
    model = Projected(layers)
    tuned = torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-2)
    # The order is the same for all networks of a seed, whatever they drew for their weights.
    orders = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        model.train()
        for batch in torch.randperm(len(images), generator=orders).split(BATCH):
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
    learned: list[Any] = []
    for place in (HOME, *(place for place in PLACES if place != HOME)):
        unseen = ["val"] if place == HOME else ["train", "val"]
        fitted, there, origins = patches(catalog, place, unseen, FIT, seed)
        tested, truth, _ = patches(catalog, place, ["test"], TEST, seed)
        found = features_of(model, fitted)
        probes = [best_probe(features, there, origins) for features in found]
        learned = learned or probes  # those of home come first
        parts = zip(rows, probes, learned, features_of(model, tested), strict=True)
        for row, own, from_home, features in parts:
            row["own"][place] = own.balanced_accuracy(features, truth)
            row["transferred"][place] = from_home.balanced_accuracy(features, truth)
    return rows


def patches(catalog: Catalog, place: str, splits: Sequence[str], count: int, seed: int) -> Patches:
    """Return patches of a place with their labels and images."""
    tiles = catalog.select(domains=PLACES[place], labelled=True).tiles
    chosen = [each for each in tiles if each.split in splits]
    return cut(chosen, count, seed=seed, side=SIDE_PX, place=tiles)


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


def best_probe(features: Tensor, labels: Tensor, origins: Tensor) -> Any:
    """Return a probe whose penalty was chosen by images that are held out, each in its turn."""
    right = dict.fromkeys(RIDGES, 0.0)
    for turn in range(HELD):
        held = origins % HELD == turn
        if len(labels[held].unique()) < 2 or len(labels[~held].unique()) < 2:
            continue
        seen = moments_of(features[~held], labels[~held])
        for ridge in RIDGES:
            probe = linear_probe(seen, ridge=ridge)
            right[ridge] += probe.balanced_accuracy(features[held], labels[held])
    return linear_probe(
        moments_of(features, labels), ridge=max(right, key=lambda each: right[each])
    )


def layer_table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a row for each layer of each kind of network, as Markdown: means over seeds.

    Probes away are compared with those behind the last layer, and with those behind the backbone of
    the network without projection layers.
    """
    columns = "own probe away | over the last layer | over none | transferred away | over none"
    yield f"| projection layers | probed behind | seeds | training | C_l | D_l | home | {columns} |"
    yield "|---" * 12 + "|"
    complete = whole_seeds(found)
    for count in PROJECTIONS:
        runs = [networks[count] for networks in complete]
        for layer in range(count + 1) if runs else ():
            rows = [run[layer] for run in runs]
            own, moved = ([away(row, kind) for row in rows] for kind in ("own", "transferred"))
            last = [away(run[-1], "own") for run in runs]
            bare = {
                kind: [away(networks[0][0], kind) for networks in complete]
                for kind in ("own", "transferred")
            }
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
                mean_and_interval(np.subtract(own, bare["own"])) if count else "",
                f"{np.mean(moved):.3f}",
                mean_and_interval(np.subtract(moved, bare["transferred"])) if count else "",
            ]
            yield f"| {' | '.join(cells)} |"


def prediction_table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the rank correlation of C_l with probes elsewhere, as Markdown.

    A layer of a network is compared with its other layers, or with the same layer, counted from the
    input or from the classifier, of the networks with other numbers of layers, averaged over seeds.
    Networks of other seeds are not compared, since a seed also draws the patches of the probes.
    """
    yield "| compared | own probe away | transferred away |"
    yield "|---" * 3 + "|"
    compared = {
        "the layers of the network with three": lambda rows: rows[max(PROJECTIONS)],
        "the layers of the network with two": lambda rows: rows[2],
        "the backbones of the four networks": lambda rows: [each[0] for each in rows.values()],
        "the backbones of those with projection layers": lambda rows: [
            each[0] for count, each in rows.items() if count
        ],
        "the last layers of the four networks": lambda rows: [each[-1] for each in rows.values()],
    }
    complete = whole_seeds(found)
    groups = {name: [rows_of(rows) for rows in complete] for name, rows_of in compared.items()}
    for name, compared_rows in groups.items() if len(complete) > 1 else ():
        cells = (
            mean_and_interval([correlation(rows, kind) for rows in compared_rows])
            for kind in ("own", "transferred")
        )
        yield f"| {name} | {' | '.join(cells)} |"


def pooled_table(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what the networks with projection layers have in common, as Markdown."""
    yield "| mean of the networks with projection layers | own probe away | transferred away |"
    yield "|---" * 3 + "|"
    counts = [count for count in PROJECTIONS if count]
    compared = {
        "backbone over last layer": lambda rows, count: (rows[count][0], rows[count][-1]),
        "backbone over none": lambda rows, count: (rows[count][0], rows[0][0]),
        "last layer over none": lambda rows, count: (rows[count][-1], rows[0][0]),
    }
    complete = whole_seeds(found)
    for name, pair in compared.items() if complete else ():
        cells = []
        for kind in ("own", "transferred"):
            pairs = [[pair(rows, count) for count in counts] for rows in complete]
            gains = [[away(a, kind) - away(b, kind) for a, b in each] for each in pairs]
            cells.append(mean_and_interval(np.mean(gains, axis=1)))
        yield f"| {name} | {' | '.join(cells)} |"


def whole_seeds(found: Sequence[dict[str, Any]]) -> list[dict[int, Any]]:
    """Return the rows of the layers of each network by its projection layers, seed by seed.

    Seeds that lack a network are left out.
    """
    by_seed = (
        {each["layers"]: each["rows"] for each in found if each["seed"] == seed}
        for seed in sorted({each["seed"] for each in found})
    )
    return [rows for rows in by_seed if len(rows) == len(PROJECTIONS)]


def away(row: dict[str, Any], kind: str) -> float:
    """Return the mean accuracy of a kind of probe over the other places."""
    return float(np.mean([row[kind][place] for place in PLACES if place != HOME]))


def correlation(rows: Sequence[dict[str, Any]], kind: str) -> float:
    """Return the rank correlation of C_l with the mean accuracy of a probe elsewhere."""
    reached = [away(row, kind) for row in rows]
    return float(stats.spearmanr([row["compression"] for row in rows], reached).statistic)


if __name__ == "__main__":
    main()
