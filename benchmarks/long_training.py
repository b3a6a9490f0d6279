"""Deep LoRA where its paper claims an advantage: very few chips, and long training.

    python benchmarks/long_training.py --work /tmp/long --tune      # rates, on Austin and Chicago
    python benchmarks/long_training.py --work /tmp/long

A model of Massachusetts (that of ``few_shot.py``) is adapted to Las Vegas with one, two and four
chips that are seen in every step, without any augmentation, at a constant learning rate. The
encoder is frozen and its features are computed once; the decoder gets the updates. The head is
trained besides, at the same rate in all arms but full training. IoU on the chips and on other
images of the place is measured after 150, 500 and 1500 steps: overfitting is that the first rises
and the second falls.

The arms: full training of the decoder; LoRA as in PEFT and with the first factor from N(0, 1), as
the authors' own; three factors of full width, and of width 8; and the compression of wide ones,
with outer factors that are frozen, trained at a hundredth of the rate, or at the same rate, and
with two to four factors. The gradients of products of small factors are tiny, so AdamW's eps is
too: else it would decide how fast each arm begins. The rate of every arm is chosen for each number
of steps, by what it gains on other places with other seeds; where the lowest or the highest rate
that was tried is the best, the next one is tried, too.

Finished runs are kept in the file ``--kept`` and not repeated; ``--table`` only prints the tables.
The model of Massachusetts is not the same on every processor. Runs that began with different ones
are kept apart, and never paired.
"""

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import few_shot
import numpy as np
import torch
from few_shot import CHIP_PX, PLACES, TUNED_ON, TUNING_SEEDS
from kept import KeptResults
from learning_rates import best_rate, finished, rates_table, rates_to_try
from machine import machine, mean_and_interval, thinned
from three_factors import ThreeFactors
from torch import Tensor, nn

from rhm.adapters import DeepLoRA, LoRA, attach, parameter_groups
from rhm.adapters.attach import put_on, updates
from rhm.adapters.lowrank import LoRAUpdate
from rhm.adapters.spectra import UpdateSnapshot, angles_to_final, spectra, take_snapshot
from rhm.adapters.targets import layers_to_adapt, matrix_of
from rhm.data.catalog import Catalog, Tile
from rhm.data.chips import GridChips, Preparation
from rhm.data.labels import IGNORE
from rhm.inference.runtime.identity import identity_of
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model
from rhm.training.losses import LossConfig, loss_of

KEYS = ("place", "arm", "shots", "seed", "rate", "eps", "source")
PLACE = "vegas"
SHOTS = (1, 2, 4)
MEASURED = (150, 500, 1500)
EARLIER = (10, 30, 60)
"""Further steps at which the directions of the updates are compared with the last ones."""

FIRST_TRIED = (3e-4, 1e-3, 3e-3)
HEAD_RATE, EPS = 1e-3, 1e-15
TUNING_SHOTS = 2
TEST_CHIP_PX = 192
BATCH = 8

DEEP = {
    "deep, rank 8": DeepLoRA(8),
    "deep, rank 64": DeepLoRA(64),
    "deep, outer frozen": DeepLoRA(8, outer_lr_ratio=0.0),
    "deep, outer at the same rate": DeepLoRA(8, outer_lr_ratio=1.0),
    "deep, two factors": DeepLoRA(8, depth=2),
    "deep, four factors": DeepLoRA(8, depth=4),
}
LORA = {"lora, rank 8": LoRA(8), "lora, rank 64": LoRA(64), "lora, N(0, 1)": LoRA(8)}
FACTORS = {"three factors, wide": None, "three factors, rank 8": 8}
ARMS = ("full", *LORA, *FACTORS, *DEEP)
BASELINE = "lora, rank 8"
VARIANTS = ("lora, N(0, 1)", *FACTORS, *list(DEEP)[2:])
"""Arms that are tested with ``TUNING_SHOTS`` chips only."""


class Decoder(nn.Module):
    """All of a model behind its encoder, as a function of the encoder's features.

    Args:
        model: model whose modules are used.
    """

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.decoder = model.network.get_submodule("decoder")
        self.head = model.network.get_submodule("segmentation_head")

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.decoder(list(features)))
        return logits


class Seen:
    """Chips as features of a frozen encoder, in batches, with their masks."""

    def __init__(self, model: SegmentationModel, tiles: Sequence[Tile], size: int) -> None:
        gsd_m = model.spec.gsd_m
        chips = GridChips(tiles, size=size, preparation=Preparation(model.spec.input_table, gsd_m))
        self.batches: list[tuple[list[Tensor], Tensor]] = []
        for first in range(0, len(chips), BATCH):
            samples = [chips[i] for i in range(first, min(first + BATCH, len(chips)))]
            images = torch.stack([each["image"] for each in samples])
            with torch.no_grad():
                features = model.encoder(images.contiguous(memory_format=torch.channels_last))
            self.batches.append((features, torch.stack([each["mask"] for each in samples])))

    def iou(self, decoder: nn.Module, threshold: float) -> float:
        """Return the IoU of all chips together."""
        hits = union = 0
        with torch.no_grad():
            for features, masks in self.batches:
                called = decoder(features).sigmoid() >= threshold
                known, built = masks != IGNORE, masks == 1
                hits += int((called & built & known).sum())
                union += int(((called | built) & known).sum())
        return hits / max(union, 1)


def main() -> None:
    """Adapt and test the missing runs, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("RHM_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kept", type=Path, help="default: kept-long.jsonl in --work")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--tune", action="store_true", help="choose the learning rates")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    asked = parser.parse_args()
    kept = KeptResults(asked.kept or asked.work / "kept-long.jsonl", KEYS)
    if not asked.table:
        source = few_shot.prepare(asked.work, asked.data)
        adapt_to = partial(run_cell, asked.work, kept, source)
        if asked.tune:
            for arm in asked.arms:
                while missing := missing_rates(kept.rows, arm):
                    for seed, rate in itertools.product(TUNING_SEEDS, missing):
                        adapt_to(TUNED_ON, TUNING_SHOTS, arm, seed, rate)
        else:
            for seed, shots, arm in itertools.product(asked.seeds, SHOTS, asked.arms):
                if shots == TUNING_SHOTS or arm not in VARIANTS:
                    for rate in sorted({chosen(kept.rows, arm, step) for step in MEASURED}):
                        adapt_to(PLACE, shots, arm, seed, rate)
    found = kept.rows
    print(machine("torch", "segmentation-models-pytorch", "timm"))
    print("\n".join([*tuning_table(found), "", *table(found)]))


def run_cell(
    top: Path,
    kept: KeptResults,
    source: Path,
    place: str,
    shots: int,
    arm: str,
    seed: int,
    rate: float,
) -> None:
    """Adapt the decoder once, measure it on the way, and store the result."""
    model = load_model(source)
    key = (place, arm, shots, seed, rate, EPS, identity_of(model))
    values: dict[str, Any] = dict(zip(KEYS, key, strict=True))
    if kept.has(**values):
        return
    model.spec = replace(model.spec, gsd_m=PLACES[place].gsd_m or model.spec.gsd_m)
    torch.manual_seed(seed)
    file, _ = few_shot.drawn(top / "chips" / place, shots, seed)
    chips = Seen(model, Catalog.load(file).tiles, CHIP_PX)
    file.unlink()
    others = tested(top, model, place)
    begun, threshold = time.process_time(), model.spec.threshold
    decoder, loss = Decoder(model), loss_of(LossConfig(), model.spec.classes)
    before = [chips.iou(decoder, threshold), others.iou(decoder, threshold)]
    values |= {"before": before, "after": {}, "ranks": {}, "angles": {}}
    features, masks = chips.batches[0]
    adapt(decoder, arm, lambda network: loss(network(features), masks), seed)
    groups = parameter_groups(decoder, rate, weight_decay=0.0)
    head = set(map(id, decoder.head.parameters()))
    for group in groups:
        # Parameters of the decoder itself are trained besides the head in one arm only.
        if arm != "full" and any(id(each) in head for each in group["params"]):
            group["lr"] = HEAD_RATE
    optimizer = torch.optim.AdamW(groups, lr=rate, eps=EPS)
    snapshots: list[UpdateSnapshot] = []
    for step in range(1, max(MEASURED) + 1):
        optimizer.zero_grad()
        loss(decoder(features), masks).backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        if step in (*EARLIER, *MEASURED):
            snapshots.append(take_snapshot(decoder, step))
        if step in MEASURED:
            after = [chips.iou(decoder, threshold), others.iou(decoder, threshold)]
            values["after"][str(step)] = after
            ranks = [each.effective_rank for each in spectra(snapshots[-1])]
            values["ranks"][str(step)] = statistics.mean(ranks) if ranks else None
    for index, snapshot in enumerate(snapshots[:-1]):
        angles = angles_to_final(snapshots, snapshots[-1]).values()
        known = [each[index] for each in angles if each[index] is not None]
        values["angles"][str(snapshot.step)] = statistics.mean(known) if known else None
    values["seconds"] = round(time.process_time() - begun, 1)
    kept.add(values)
    shown = ", ".join(f"{step}: {a:.3f} {b:.3f}" for step, (a, b) in values["after"].items())
    name = " ".join(str(values[key]) for key in KEYS[:-1])
    print(f"{name}: {before[1]:.3f}, on the chips and elsewhere after {shown}", flush=True)


_TESTED: dict[str, Seen] = {}


def tested(top: Path, model: SegmentationModel, place: str) -> Seen:
    """Return the chips of other images of a place."""
    if place not in _TESTED:
        catalog = Catalog.load(top / "catalog.parquet")
        tiles = catalog.select(domains=PLACES[place].domains, split="test").tiles
        _TESTED[place] = Seen(model, thinned(tiles, few_shot.TEST_PIXELS), TEST_CHIP_PX)
    return _TESTED[place]


def adapt(decoder: nn.Module, arm: str, loss: Any, seed: int) -> None:
    """Attach the update of an arm to the decoder; the head is always trained in full."""
    decoder.eval()
    if arm == "full":
        attach(decoder, None, batch_norm="frozen", trained=("decoder*", "head*"))
        return
    if arm in FACTORS:
        torch.manual_seed(seed)
        layers = layers_to_adapt(decoder, DeepLoRA(8), "all", but=("head*",))
        found = {
            name: ThreeFactors(*matrix_of(layer.get_parameter("weight")).shape, FACTORS[arm])
            for name, layer in layers.items()
        }
        put_on(decoder, None, found, batch_norm="frozen", trained=("head*",))
        return
    adapter = (LORA | DEEP)[arm]
    attach(decoder, adapter, "all", loss, batch_norm="frozen", trained=("head*",), seed=seed)
    if arm.endswith("N(0, 1)"):
        for _, update in updates(decoder):
            if isinstance(update, LoRAUpdate):
                nn.init.normal_(update.a.data)


def tuned(found: Sequence[Mapping[str, Any]], arm: str, step: int) -> dict[float, Sequence[float]]:
    """Return the gains elsewhere on the places of choice by learning rate, if finished."""
    tried: dict[float, list[float]] = {}
    for each in found:
        if (each["place"], each["arm"], each["eps"]) == (TUNED_ON, arm, EPS):
            gain = each["after"][str(step)][1] - each["before"][1]
            tried.setdefault(each["rate"], []).append(gain)
    return finished(tried, len(TUNING_SEEDS))


def missing_rates(found: Sequence[Mapping[str, Any]], arm: str) -> list[float]:
    """Return the rates that are still to be tried for one of the numbers of steps."""
    missing = [
        rate
        for step in MEASURED
        for rate in rates_to_try(tuned(found, arm, step), FIRST_TRIED, len(TUNING_SEEDS))
    ]
    return sorted(set(missing))


def chosen(found: Sequence[Mapping[str, Any]], arm: str, step: int) -> float:
    """Return the rate that was best after some steps on the places of choice."""
    if not (tried := tuned(found, arm, step)):
        raise SystemExit(f"choose the rates of '{arm}' first: --tune")
    return best_rate(tried)


def tuning_table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the rates that were tried, as Markdown."""
    tried = {(arm, str(step)): tuned(found, arm, step) for arm in ARMS for step in MEASURED}
    complete = {names: scores for names, scores in tried.items() if scores}
    return rates_table(complete, "gain on Austin and Chicago", "steps")


def table(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the IoU of every arm with paired 95 % intervals, as Markdown."""
    yield (
        f"| chips | steps | arm | rate | seeds | on the chips | elsewhere | over {BASELINE} | "
        "directions | angle to the last after 60 steps |"
    )
    yield "|---" * 10 + "|"
    for shots, step, arm in itertools.product(SHOTS, MEASURED, ARMS):
        all_ours, theirs = (by_start(found, shots, step, name) for name in (arm, BASELINE))
        # The means are over the same runs as the differences.
        ours = {start: each for start, each in all_ours.items() if start in theirs}
        if not ours:
            continue
        on, away = np.mean([each["after"][str(step)] for each in ours.values()], axis=0)
        gains = [
            each["after"][str(step)][1] - theirs[start]["after"][str(step)][1]
            for start, each in ours.items()
        ]
        gain = mean_and_interval(gains) if arm != BASELINE else ""
        ranks = [each["ranks"][str(step)] for each in ours.values()]
        rank = "" if None in ranks else f"{np.mean(ranks):.1f}"
        angles = [each["angles"].get("60") for each in ours.values()]
        known = [angle for angle in angles if angle is not None]
        angle = f"{np.mean(known):.0f}" if known else ""
        yield (
            f"| {shots} | {step} | {arm} | {chosen(found, arm, step):g} | {len(ours)} | {on:.3f} | "
            f"{away:.3f} | {gain} | {rank} | {angle} |"
        )


def by_start(
    found: Sequence[Mapping[str, Any]], shots: int, step: int, arm: str
) -> dict[tuple[int, str], Mapping[str, Any]]:
    """Return the runs of an arm on the scored place, at its rate for some steps, by their start.

    That is their seed, and the model that they began with.
    """
    if not tuned(found, arm, step):
        return {}
    key = (PLACE, shots, arm, chosen(found, arm, step))
    ours = [e for e in found if (e["place"], e["shots"], e["arm"], e["rate"]) == key]
    return {(e["seed"], e["source"]): e for e in ours}


if __name__ == "__main__":
    main()
