"""Run folders on disk, as training and evaluation leave them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run folder; ``ious`` is by domain, domains among the sources being trained on."""

    def make(
        name: str,
        ious: dict[str, float | None],
        *,
        method: str = "none",
        seed: int = 0,
        sources: tuple[str, ...] = ("town",),
        shifts: tuple[str, ...] = (),
        folder: str = "",
        **changes: Any,
    ) -> Path:
        run = tmp_path / (folder or name)
        (run / "evaluation" / "examples").mkdir(parents=True)
        pixels = np.full((6, 8, 3), 90, np.uint8)
        cv2.imwrite(str(run / "evaluation" / "examples" / "a.png"), pixels)
        domains = [_domain(domain, iou, sources, shifts) for domain, iou in ious.items()]
        scores = _scores(name, method, seed, sources, domains) | changes
        (run / "evaluation" / "scores.json").write_text(json.dumps(scores))
        return run

    return make


def _scores(
    name: str, method: str, seed: int, sources: tuple[str, ...], domains: list[dict[str, Any]]
) -> dict[str, Any]:
    model = {
        "architecture": "unet",
        "encoder": "tf_efficientnet_lite0",
        "bands": 1,
        "gsd_m": 1.0,
        "sources": list(sources),
        "split_hash": "0123456789abcdef",
        "parameters": 5_590_000,
        "rhm_version": "0.1.0",
        "training_images": 40,
        "licence": "CC BY 4.0 <b>bold</b>",
        "histograms": {source: [level_histogram(60)] for source in sources},
    }
    return {
        "format": 2,
        "run": name,
        "method": method,
        "seed": seed,
        "split": "test",
        "catalog": "catalog.parquet",
        "created": "2026-11-23T10:00:00+00:00",
        "threshold": 0.5,
        "model": model,
        "domains": domains,
    }


def _domain(
    name: str, iou: float | None, sources: tuple[str, ...], shifts: tuple[str, ...]
) -> dict[str, Any]:
    shift = {"family": "gamma", "seed": 0} if name in shifts else None
    interval = {"value": iou, "low": 0.01, "high": 0.99}
    counts = {"true_positives": 1, "false_positives": 2, "false_negatives": 3}
    scores = dict.fromkeys(("f1", "precision", "recall"), interval)
    square = [[[1.0, 1.0], [5.0, 1.0], [5.0, 4.0], [1.0, 4.0]]]
    example = {
        "kind": "best",
        "name": f"{name}_0",
        "iou": iou,
        "image": "examples/a.png",
        "width": 8,
        "height": 6,
        "truth": [square],
        "prediction": [square],
    }
    return {
        "name": name,
        "role": "source" if name in sources and shift is None else "target",
        "shift": shift,
        "images": 9,
        "groups": 6,
        "gsd_m": 0.5,
        "pixel": scores | {"iou": interval},
        "object": scores | counts,
        "boundary_iou": {"1m": interval, "3m": interval},
        "calibration": {
            "ece": 0.1,
            "bins": [
                {"low": 0.0, "high": 0.5, "count": 30, "confidence": 0.2, "frequency": 0.1},
                {"low": 0.5, "high": 1.0, "count": 0, "confidence": None, "frequency": None},
            ],
            "levels": {"pixels": [60, 30, 8, 2], "buildings": [2, 6, 6, 2]},
        },
        "histogram": [level_histogram(100)],
        "distance": [40 / 255],
        "examples": [example],
    }


def level_histogram(level: int) -> list[float]:
    """All pixels at one level."""
    return [float(index == level) for index in range(256)]
