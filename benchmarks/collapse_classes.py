"""Neural collapse with ten classes and with eight: normalised features against the usual ways.

    python benchmarks/collapse_classes.py --work /tmp/collapse-classes

Yaras et al. (NeurIPS 2022) compare features and classifier rows on spheres with those that decay in
the loss, and claim faster collapse and better accuracy. A ResNet-18 learns scikit-learn's digits
(ten classes), or patches of four places by place and by whether a building is in the middle (eight
classes; ``--data``, by default ``RHM_DATA`` or ``../shared/data``). The arms are the normalised
features at temperatures 1, 5 and 10, decay of features and rows in the loss (1e-4, the paper's
baseline), and weight decay of the whole network (what people use); each with momentum and with
AdamW, and with many and few samples of each class.

Finished runs are kept in the file ``--kept`` and not repeated; ``--table`` only prints the tables.
"""

import argparse
import itertools
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from collapse import cut
from kept import KeptResults
from machine import machine, mean_and_interval
from places import PLACES, find_sources
from torch import Tensor, nn
from torch.nn import functional

from rhm.analysis import ClassMoments, collapse
from rhm.analysis.collapse import nearest_mean_disagreement
from rhm.data.catalog import Catalog
from rhm.models.heads import CosineClassifier

TEMPERATURES = {f"normalised, tau {tau}": float(tau) for tau in (1, 5, 10)}
ARMS = (*TEMPERATURES, "feature decay", "weight decay")
FEATURE_DECAY, WEIGHT_DECAY = 1e-4, 5e-4
OPTIMISERS = ("momentum", "AdamW")
RATES = {"momentum": 0.05, "AdamW": 1e-3}
PER_CLASS = {"many": 100, "few": 10}
EPOCHS = {"many": 20, "few": 60}
BATCH = 50
PATCH_PX = 32
BASELINE = "feature decay"
REACHED = 0.05
"""NC1 at which an epoch counts as collapsed."""

Samples = tuple[Tensor, Tensor, Tensor, Tensor]
"""Training images and labels, test images and labels."""


def main() -> None:
    """Train and measure what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("RHM_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kept", type=Path, help="default: kept.jsonl in --work")
    parser.add_argument("--sets", nargs="+", default=["digits", "patches"])
    parser.add_argument("--amounts", nargs="+", default=list(PER_CLASS), choices=list(PER_CLASS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--optimisers", nargs="+", default=list(OPTIMISERS), choices=OPTIMISERS)
    parser.add_argument(
        "--factors", type=float, nargs="+", default=[1.0], help="multiples of the learning rates"
    )
    parser.add_argument("--table", action="store_true", help="only print the tables")
    asked = parser.parse_args()
    keys = ("set", "amount", "optimiser", "arm", "seed", "factor")
    kept = KeptResults(asked.kept or asked.work / "kept.jsonl", keys)
    if not asked.table:
        runs = (asked.seeds, asked.sets, asked.amounts, asked.optimisers, asked.arms, asked.factors)
        for seed, name, amount, optimiser, arm, factor in itertools.product(*runs):
            cell = dict(zip(keys, (name, amount, optimiser, arm, seed, factor), strict=True))
            if kept.has(**cell):
                continue
            samples = digits(amount, seed) if name == "digits" else patches(asked, amount, seed)
            begun = time.process_time()
            records = trained(samples, arm, optimiser, EPOCHS[amount], seed, factor)
            seconds = round(time.process_time() - begun, 1)
            kept.add({**cell, "seconds": seconds, "records": records})
            print(
                f"{' '.join(map(str, cell.values()))}: {records[-1]} ({seconds} CPU s)", flush=True
            )
    print(machine("torch", "timm", "scikit-learn"))
    for name, amount, factor in itertools.product(asked.sets, asked.amounts, asked.factors):
        of_rate = [row for row in kept.rows if row["factor"] == factor]
        print("\n".join(table(of_rate, name, amount, factor)))


def digits(amount: str, seed: int) -> Samples:
    """Return digits (N, 1, 8, 8); the test is all that are not trained on, at most 797."""
    # Only this function needs it, and it is no dependency of the product.
    from sklearn.datasets import load_digits

    drawn = load_digits()
    images = torch.from_numpy(drawn.images[:, None]).float() / 8.0 - 1.0
    labels = torch.from_numpy(drawn.target).long()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    test, rest = order[:797], order[797:]
    chosen = torch.cat([rest[labels[rest] == digit][: PER_CLASS[amount]] for digit in range(10)])
    return images[chosen], labels[chosen], images[test], labels[test]


def patches(asked: argparse.Namespace, amount: str, seed: int) -> Samples:
    """Return patches (N, 3, 32, 32) of four places, with a class for each place and content."""
    path = asked.work / "catalog.parquet"
    if not path.is_file():
        found = find_sources(asked.data, {d for domains in PLACES.values() for d in domains})
        Catalog.build(found).assign_splits({"test": 0.4}).save(path)
    listed = Catalog.load(path)
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {"train": [], "test": []}
    for number, domains in enumerate(PLACES.values()):
        for split, of_split in parts.items():
            tiles = listed.select(domains=domains, split=split).tiles
            count = 2 * (PER_CLASS[amount] if split == "train" else 50)
            place = listed.select(domains=domains).tiles
            images, built, _ = cut(tiles, count, seed=seed, side=PATCH_PX, place=place)
            of_split.append((images, 2 * number + built))
    train, test = (
        tuple(torch.cat(values) for values in zip(*parts[split], strict=True)) for split in parts
    )
    return train[0], train[1], test[0], test[1]


class Classifier(nn.Module):
    """A ResNet-18 from random weights, mean pooling, and one of the classifiers.

    Args:
        bands: number of bands; with one, images are so small that the stem keeps their size.
        classes: number of classes.
        arm: one of ``ARMS``.
    """

    def __init__(self, bands: int, classes: int, arm: str) -> None:
        super().__init__()
        self.backbone = timm.create_model("resnet18", in_chans=bands, num_classes=0)
        if bands == 1:
            self.backbone.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
            self.backbone.maxpool = nn.Identity()
        channels = self.backbone.num_features
        self.head: nn.Module
        if arm in TEMPERATURES:
            self.head = CosineClassifier(channels, classes, temperature=TEMPERATURES[arm])
        else:
            self.head = nn.Conv2d(channels, classes, 1)
        self.normalised = arm in TEMPERATURES

    def features(self, images: Tensor) -> Tensor:
        """Return the features that are classified, (N, D)."""
        pooled: Tensor = self.backbone(images)
        return functional.normalize(pooled, dim=1) if self.normalised else pooled

    def classify(self, features: Tensor) -> Tensor:
        """Return logits (N, K)."""
        logits: Tensor = self.head(features[..., None, None])
        return logits.flatten(1)

    def rows(self) -> Tensor:
        """Return the rows of the classifier (K, D), on the sphere where their length is nothing."""
        weight: Tensor = self.head.get_parameter("weight").detach().flatten(1)
        return functional.normalize(weight, dim=1) if self.normalised else weight


def trained(
    samples: Samples, arm: str, optimiser: str, epochs: int, seed: int, factor: float
) -> list[dict[str, float]]:
    """Train a network, and return one record for each of about ten epochs."""
    torch.manual_seed(seed)
    images, labels = samples[:2]
    model = Classifier(images.shape[1], int(labels.max()) + 1, arm)
    decay = WEIGHT_DECAY if arm == "weight decay" else 0.0
    rate = factor * RATES[optimiser]
    tuned: torch.optim.Optimizer
    if optimiser == "AdamW":
        # The decay is decoupled from the gradient: a step shrinks weights by rate x decay.
        tuned = torch.optim.AdamW(model.parameters(), rate, weight_decay=100.0 * decay)
    else:
        tuned = torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=decay)
    steps = epochs * math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(tuned, rate, total_steps=steps)
    records = []
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in torch.randperm(len(images)).split(BATCH):
            features = model.features(images[batch])
            loss = functional.cross_entropy(model.classify(features), labels[batch])
            if arm == "feature decay":
                size = features.square().sum(dim=1).mean() + model.head.weight.square().sum()
                loss = loss + FEATURE_DECAY / 2 * size
            tuned.zero_grad()
            loss.backward()
            tuned.step()
            schedule.step()
        if epoch % (epochs // 10) == 0:
            records.append({"epoch": epoch} | measured(model.eval(), *samples))
    return records


def measured(
    model: Classifier, images: Tensor, labels: Tensor, unseen: Tensor, truth: Tensor
) -> dict[str, float]:
    """Return the collapse on the training samples and the accuracy on both sets."""
    weight = model.rows()
    moments = ClassMoments(len(weight), weight.shape[1])
    with torch.inference_mode():
        features = torch.cat([model.features(part) for part in images.split(200)])
        moments.update(features, labels)
        told = model.classify(features)
        found = torch.cat([model.classify(model.features(part)) for part in unseen.split(200)])
    metrics = collapse(moments, weight)
    directions = ClassMoments(len(weight), weight.shape[1])
    directions.update(functional.normalize(features, dim=1), labels)
    disagreement = nearest_mean_disagreement(moments, features, model.classify)
    # Without a scatter of the class means nothing has collapsed as it should.
    geometry = {"nc1": metrics.nc1, "nc2": metrics.nc2, "nc3": metrics.nc3}
    # Of lengths, which the normalised features lack: else they might be all the difference.
    geometry["nc1_directions"] = collapse(directions).nc1
    values = {
        **{name: math.nan if value is None else value for name, value in geometry.items()},
        "nc4": disagreement.nc4,
        "train": float((told.argmax(1) == labels).float().mean()),
        "test": float((found.argmax(1) == truth).float().mean()),
    }
    return {name: round(value, 5) for name, value in values.items()}


def table(found: Sequence[dict[str, Any]], name: str, amount: str, factor: float) -> Iterator[str]:
    """Yield a row for each arm: means over seeds, and differences to the paper's baseline."""
    rates = "" if factor == 1.0 else f", learning rates times {factor:g}"
    yield f"\n{name}, {amount} samples of each class ({PER_CLASS[amount]}){rates}"
    yield (
        f"| optimiser | features | seeds | epochs to NC1 {REACHED} | NC1 | of directions, epochs | "
        f"NC1 | NC2 | NC3 | NC4 | training | test | over {BASELINE} |"
    )
    yield "|---" * 13 + "|"
    for optimiser, arm in itertools.product(OPTIMISERS, ARMS):
        runs = {
            of: {
                cell["seed"]: cell["records"]
                for cell in found
                if (cell["set"], cell["amount"], cell["optimiser"], cell["arm"])
                == (name, amount, optimiser, of)
            }
            for of in (arm, BASELINE)
        }
        if not runs[arm]:
            continue
        ends = {seed: records[-1] for seed, records in runs[arm].items()}
        cells = []
        for key in ("nc1", "nc1_directions", "nc2", "nc3", "nc4", "train", "test"):
            if key.startswith("nc1"):
                cells.append(epochs_to_collapse(list(runs[arm].values()), key))
            cells.append(f"{np.mean([end[key] for end in ends.values()]):.3f}")
        both = sorted(set(ends) & set(runs[BASELINE]))
        gains = [ends[seed]["test"] - runs[BASELINE][seed][-1]["test"] for seed in both]
        cells.append(mean_and_interval(gains) if gains and arm != BASELINE else "")
        yield f"| {optimiser} | {arm} | {len(ends)} | {' | '.join(cells)} |"


def epochs_to_collapse(runs: Sequence[Sequence[dict[str, float]]], key: str) -> str:
    """Return the mean of the first recorded epochs at which NC1 is small; of how many runs."""
    first = [
        next((record["epoch"] for record in run if record[key] < REACHED), None) for run in runs
    ]
    reached = [epoch for epoch in first if epoch is not None]
    if not reached:
        return "not reached"
    told = "" if len(reached) == len(runs) else f" ({len(reached)} of {len(runs)})"
    return f"{np.mean(reached):.0f}{told}"


if __name__ == "__main__":
    main()
