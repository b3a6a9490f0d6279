"""The steps of ``gpu.py`` on imagery."""

import itertools
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import torch
from gpu_steps import Rows, Setting, Step, training
from places import GSD_M, PLACES, find_sources
from rasterio.transform import from_origin

from rhm.data.catalog import Catalog
from rhm.inference import network_for, predict_raster
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model
from rhm.models.named_models import model_file
from rhm.models.spec import ModelSpec
from rhm.training.config import RunConfig, parse_config
from rhm.training.datamodule import ChipDataModule
from rhm.training.fitting import build_model, fit
from rhm.training.imagery import gather

SOURCE = "massachusetts"


def real_run(setting: Setting) -> Rows:
    """A training run by the product: its first step, its steps, validation and the end."""
    begun = time.perf_counter()
    config = configured(setting, "run", steps=setting.size(100, 2), workers=setting.size(8, 0))
    shutil.rmtree(config.folder, ignore_errors=True)
    run = fit(config)
    yield {"run": f"{config.trainer.steps} steps", "s": round(time.perf_counter() - begun, 1)}
    yield {"cost": (run.folder / "cost.json").read_text().replace("\n", " ")}


def repeated_run(setting: Setting) -> Rows:
    """Is the model of a repeated run the same file?"""
    models = []
    for name in ("once", "again"):
        config = configured(setting, name, steps=setting.size(40, 2), workers=0)
        shutil.rmtree(config.folder, ignore_errors=True)
        models.append(fit(config).model.read_bytes())
    yield {"same run twice": models[0] == models[1]}


def loader(setting: Setting) -> Rows:
    """Chips a second of the loader alone, by workers and size; and the share of a step waiting."""
    for chip_px, workers in itertools.product(
        (256, 512) if not setting.tiny else (96,), (1, 2, 4, 8, 14) if not setting.tiny else (0, 1)
    ):
        config = configured(setting, "loader", workers=workers, chip_px=chip_px, batch=32)
        material = gather(config)
        spec = build_model(config, material).spec
        batches = iter(ChipDataModule(config, material, spec).train_dataloader())
        next(batches)
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < setting.size(2, 1):
            count += len(next(batches)["image"])
        rate = count / (time.perf_counter() - begun)
        model = SegmentationModel(ModelSpec("unet", spec.encoder, 3)).to(setting.device)
        step, _ = training(setting, model, setting.size(32, 2), chip_px, fused=True)
        needed = 1000.0 * setting.size(32, 2) / setting.median_ms(step)
        yield {
            "chip": chip_px,
            "workers": workers,
            "chips a second": round(rate),
            "the device takes": round(needed),
        }
        del batches


def prediction(setting: Setting) -> Rows:
    """Megapixels a second, network alone and from file to footprints, by precision and batch."""
    scene, side = setting.work / "scene.tif", setting.size(8192, 512)
    write_scene(scene, side)
    for runtime, batch in itertools.product(
        ("torch", "torch-float16") if setting.device == "cuda" else ("torch",),
        (1, 8, 32) if not setting.tiny else (1,),
    ):
        model = network_for(starter(), device=setting.device, runtime=runtime)
        images = torch.rand(batch, 3, 512, 512)
        ms = setting.median_ms(lambda model=model, images=images: model(images).cpu())
        begun = time.perf_counter()
        predict_raster(
            model, scene, setting.work / "predicted", tile=512, batch_size=batch, overwrite=True
        )
        yield {
            "runtime": runtime,
            "batch": batch,
            "network, Mpx/s": round(batch * 512**2 / 1e3 / ms, 1),
            "file to footprints, Mpx/s": round(side**2 / 1e6 / (time.perf_counter() - begun), 1),
        }


def cells(setting: Setting) -> Rows:
    """Runs of the experiment on new cities, all sources side by side, as many as fit."""
    lanes = []
    program = str(Path(__file__).with_name("new_city.py"))
    threads = max(1, (os.cpu_count() or 4) // len(PLACES))
    sizes = ["--steps", "600", "--chip-px", "192", "--batch-size", "32"]
    sizes += ["--methods", "none", "rhm", "fda", "spectrum + scale"]
    if setting.tiny:
        sizes = ["--steps", "2", "--chip-px", "64", "--batch-size", "2"]
        sizes += ["--methods", "none", "--seeds", "0"]
    for source in PLACES if not setting.tiny else (SOURCE,):
        kept = str(setting.work / f"cells-{source}.jsonl")
        words = ["--work", str(setting.work / "cells" / source), "--kept", kept]
        words += ["--data", str(setting.data), "--sources", source, *sizes]
        lanes.append(
            subprocess.Popen(
                [sys.executable, program, *words],
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                stdout=subprocess.DEVNULL,
            )
        )
    while setting.left() > 10 and any(lane.poll() is None for lane in lanes):
        time.sleep(1)
    for lane in lanes:
        lane.terminate()
    for kept in sorted(setting.work.glob("cells-*.jsonl")):
        yield {"cells": kept.stem, "finished": len(kept.read_text().splitlines())}


def configured(
    setting: Setting,
    name: str,
    *,
    steps: int = 100,
    workers: int = 2,
    chip_px: int = 256,
    batch: int = 8,
) -> RunConfig:
    """Return the configuration of a run on one place."""
    catalog = setting.work / "catalog.parquet"
    if not catalog.is_file():
        found = find_sources(setting.data, set(PLACES[SOURCE]))
        Catalog.build(found).assign_splits({"test": 0.4, "val": 0.1}).save(catalog)
    gpu = setting.device == "cuda"
    return parse_config(
        {
            "name": name,
            "output": str(setting.work / "runs"),
            "data": {
                "catalog": str(catalog),
                "chip_px": 96 if setting.tiny else chip_px,
                "gsd_m": GSD_M,
                "workers": workers,
            },
            "augment": {"colour": "rhm", "bank": "sources"},
            "trainer": {
                "steps": steps,
                "validate_every": max(1, steps // 2),
                "batch_size": setting.size(batch, 2),
                "precision": "16-mixed" if gpu else "32-true",
                "accelerator": "gpu" if gpu else "cpu",
            },
        }
    )


def starter() -> SegmentationModel:
    """Return the model that comes with rhm, on no particular ground sampling distance."""
    model = load_model(model_file("starter"))
    model.spec = replace(model.spec, gsd_m=None)
    return model


def write_scene(path: Path, side: int) -> None:
    """Write a tiled scene of random blocks, which is quick to make and not trivial to predict."""
    if path.is_file():
        return
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (3, side // 16, side // 16)).astype(np.uint8)
    pixels = blocks.repeat(16, axis=1).repeat(16, axis=2)
    profile = {"driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint8"}
    where = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 0.5, 0.5)}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512}
    with rasterio.open(path, "w", **profile, **where, **tiles) as file:
        file.write(pixels)


IMAGERY_STEPS = {
    "run": Step(30, real_run),
    "repeated": Step(30, repeated_run),
    "loader": Step(45, loader),
    "prediction": Step(50, prediction),
    "cells": Step(60, cells),
}
