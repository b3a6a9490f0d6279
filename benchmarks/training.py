"""Where the time of training goes: the parts of a step, what the loader keeps up with, the start.

    OMP_NUM_THREADS=1 python benchmarks/training.py parts --work /tmp/training
    OMP_NUM_THREADS=1 python benchmarks/training.py loader --work /tmp/training
    OMP_NUM_THREADS=1 python benchmarks/training.py start --work /tmp/training

The imagery is a town of the sample world, with a bank of another one; the default network is
trained on eight chips of 256 x 256 pixels a step, with the default augmentation of a bank.

``parts`` times the parts of a step one after another, with the data loader in the same process, and
then a whole run of ``rhm.training.fit``: what a step takes there beyond the sum of its parts is
Lightning's and rhm's.

``loader`` puts a pause in place of the network, and measures which share of the time training would
wait for chips, by the pause and the number of worker processes.

``start`` measures the time from the command ``rhm train`` to the end of its first step.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from machine import machine

from rhm.data.catalog import Catalog
from rhm.data.layouts.folder import find_in_folder
from rhm.data.radiometry import bank_of
from rhm.models.build import SegmentationModel
from rhm.synthetic.world import write_sample_world
from rhm.training import fit
from rhm.training.config import RunConfig, parse_config
from rhm.training.datamodule import ChipDataModule
from rhm.training.fitting import build_model
from rhm.training.imagery import gather
from rhm.training.losses import loss_of
from rhm.training.module import parameter_groups

SOURCE, TARGET = "alder_aerial", "birch_aerial"
TILE_PX, TILES, BATCH, SIDE = 1024, 16, 8, 256
PAUSES_MS = (200.0, 50.0, 20.0, 10.0, 5.0)

# Prints the time and ends the process when the first step has ended.
FIRST_STEP = """
import os, sys, time
from rhm.training import module
def ended(self, outputs, batch, batch_index):
    print(f"first step {time.time()}", flush=True)
    os._exit(0)
module.SegmentationModule.on_train_batch_end = ended
from rhm.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("parts", "loader", "start"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=20, help="steps, batches or starts")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    prepare(asked.work)
    print(machine("torch", "lightning", "segmentation-models-pytorch", "timm"), "\n")
    if asked.what == "parts":
        table = parts(asked.work, asked.runs)
    elif asked.what == "loader":
        table = loader(asked.work, asked.runs, asked.workers)
    else:
        table = start(asked.work, asked.runs)
    for line in table:
        print(line, flush=True)


def prepare(work: Path) -> None:
    """Write the imagery, its catalog and the bank, unless they are there."""
    if (work / "bank.bank").is_file():
        return
    found = {}
    for domain in (SOURCE, TARGET):
        write_sample_world(
            work / "world", tile_size=TILE_PX, tiles_per_domain=TILES, domains=[domain]
        )
        found[domain] = find_in_folder(work / "world" / domain, domain=domain)
    catalog = Catalog.build(found[SOURCE]).assign_splits({"val": 0.2})
    catalog.save(work / "catalog.parquet")
    bank_of(found[TARGET], spectrum_px=256).save(work / "bank.bank")


def config_of(work: Path, name: str, steps: int, workers: int = 0) -> RunConfig:
    """Return the configuration of a run."""
    shutil.rmtree(work / "runs" / name, ignore_errors=True)
    tree: dict[str, Any] = {
        "name": name,
        "output": str(work / "runs"),
        "data": {
            "catalog": str(work / "catalog.parquet"),
            "chip_px": SIDE,
            "workers": workers,
        },
        "augment": {"bank": str(work / "bank.bank")},
        "trainer": {"steps": steps, "validate_every": steps, "batch_size": BATCH},
    }
    return parse_config(tree)


def chips_of(config: RunConfig) -> tuple[SegmentationModel, ChipDataModule]:
    """Return the network and the chips of a run."""
    material = gather(config)
    model = build_model(config, material)
    return model, ChipDataModule(config, material, model.spec)


def parts(work: Path, steps: int) -> Iterator[str]:
    """Yield what the parts of a step take, as Markdown."""
    config = config_of(work, "parts", steps + 3)
    model, chips = chips_of(config)
    loss = loss_of(config.loss, model.spec.classes)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.01), lr=1e-3)
    names = ("reading and augmenting chips", "forward and loss", "backward", "optimiser")
    times: dict[str, list[float]] = {name: [] for name in names}
    model.train()
    batches = iter(chips.train_dataloader())
    for _ in range(steps + 3):
        marks = [time.perf_counter()]
        batch = next(batches)
        marks.append(time.perf_counter())
        images = batch["image"].contiguous(memory_format=torch.channels_last)
        value = loss(model(images).float(), batch["mask"])
        marks.append(time.perf_counter())
        value.backward()
        marks.append(time.perf_counter())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        marks.append(time.perf_counter())
        for name, begun, ended in zip(names, marks, marks[1:], strict=False):
            times[name].append(1000.0 * (ended - begun))
    # The first steps allocate memory.
    found = {name: statistics.median(each[3:]) for name, each in times.items()}
    whole = step_of_a_run(work, steps)
    found["Lightning and the rest of rhm"] = whole - sum(found.values())
    yield "| part of a step | milliseconds | share of a step of a run |\n|---|---|---|"
    for name, each in found.items():
        yield f"| {name} | {each:.0f} | {each / whole:.1%} |"
    yield f"| a step of a run | {whole:.0f} | |"


def step_of_a_run(work: Path, steps: int) -> float:
    """Return the milliseconds of a step of whole runs: longer ones less shorter ones, per step."""
    seconds = []
    for length in (3, 3 + steps):
        config = config_of(work, f"whole-{length}", length)
        begun = time.perf_counter()
        fit(config)
        seconds.append(time.perf_counter() - begun)
    return 1000.0 * (seconds[1] - seconds[0]) / steps


def loader(work: Path, batches: int, workers: list[int]) -> Iterator[str]:
    """Yield which share of the time a network would wait for chips, as Markdown."""
    shown = " | ".join(f"{pause:g} ms" for pause in PAUSES_MS)
    yield f"| workers | chips per second | waiting beside a network of {shown} per batch |"
    yield "|---" * (len(PAUSES_MS) + 2) + "|"
    for count in workers:
        waits = []
        for pause in (0.0, *PAUSES_MS):
            _, chips = chips_of(config_of(work, "loader", batches + 5, count))
            waits.append(waited(chips, batches, pause / 1000.0))
        rate = BATCH / waits[0]
        shares = [
            wait / (wait + pause / 1000.0) for wait, pause in zip(waits[1:], PAUSES_MS, strict=True)
        ]
        cells = [str(count), f"{rate:.0f}", *(f"{share:.1%}" for share in shares)]
        yield f"| {' | '.join(cells)} |"


def waited(chips: ChipDataModule, batches: int, pause_s: float) -> float:
    """Return the mean seconds of waiting for a batch, after the first five."""
    waits = []
    source = iter(chips.train_dataloader())
    for _ in range(batches + 5):
        begun = time.perf_counter()
        next(source)
        waits.append(time.perf_counter() - begun)
        time.sleep(pause_s)
    return statistics.mean(waits[5:])


def start(work: Path, runs: int) -> Iterator[str]:
    """Yield the seconds from the command to the end of the first step."""
    path = work / "start.json"
    path.write_text(config_of(work, "start", 100, workers=2).model_dump_json())
    seconds = []
    environment = dict(os.environ)
    # Otherwise every process would compile all modules that it imports.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for run in range(runs + 1):
        shutil.rmtree(work / "runs" / "start", ignore_errors=True)
        begun = time.time()
        done = subprocess.run(
            [sys.executable, "-c", FIRST_STEP, "train", str(path)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        (ended,) = (line for line in done.stdout.splitlines() if line.startswith("first step"))
        if run:
            seconds.append(float(ended.split()[-1]) - begun)
    yield json.dumps(
        {"first step after, s": round(statistics.median(seconds), 1), "runs": len(seconds)}
    )


if __name__ == "__main__":
    main()
