"""Scores of a model in every domain of a catalog: how far to trust it where."""

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from rhm.data.catalog import Catalog, Tile
from rhm.errors import CatalogError
from rhm.evaluation.bootstrap import bootstrap_interval
from rhm.evaluation.examples import Example, choose_examples
from rhm.evaluation.tile_scores import (
    BOUNDARY_WIDTHS_M,
    Shift,
    TileScores,
    count,
    pooled_histogram,
    see,
)
from rhm.files import write_text
from rhm.inference.runtime.backends import Backend, DescribedNetwork
from rhm.inference.tiling.stream import Tiling
from rhm.models.spec import ModelSpec
from rhm.training import metrics

FORMAT = 2
"""Version of ``scores.json``."""

_RELIABILITY_BINS = 20

_PIXEL_SCORES = {
    "iou": metrics.jaccard_score,
    "f1": metrics.f1_score,
    "precision": metrics.precision_score,
    "recall": metrics.recall_score,
}
_OBJECT_SCORES = {name: _PIXEL_SCORES[name] for name in ("f1", "precision", "recall")}


def evaluate_model(
    model: DescribedNetwork,
    catalog: Catalog,
    folder: str | os.PathLike[str],
    *,
    name: str,
    catalog_path: str = "",
    split: str | None = "test",
    domains: Sequence[str] | None = None,
    shifts: Sequence[Shift] = (),
    tiling: Tiling | None = None,
    picks: Mapping[str, Mapping[str, str]] | None = None,
    seed: int = 0,
    on_progress: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Score a model on labelled images, domain by domain, and write ``scores.json``.

    Args:
        model: in ``eval`` mode.
        catalog: of labelled images.
        folder: receives ``scores.json`` and ``examples/``; an earlier evaluation there is
            replaced when this one is complete.
        name: of the run.
        catalog_path: where the catalog came from, for the record.
        split: images to score; None scores all. Domains that the model has not seen are scored
            on all their images when they have none in this split.
        domains: to score; all by default.
        shifts: under which the domains that the model was trained on are scored as well.
        tiling: how images are cut.
        picks: by domain, the image to show as best, median and worst, as ``picks_of`` returns
            them: models shown side by side want the same images. By default this model's own.
        seed: of the bootstrap.
        on_progress: called after each image.

    Returns:
        The contents of ``scores.json``.

    Raises:
        CatalogError: no labelled image is left to score.
        RasterError: an image or mask cannot be read.
        ModelFileError: an image does not have the bands that the model takes.
        OutputError: the folder cannot be written.
    """
    chosen = catalog.select(domains=domains, labelled=True)
    work = _work(chosen, model.spec, split, shifts)
    if not work:
        raise CatalogError(f"no labelled image in split '{split}' to evaluate on")
    tiling = tiling or Tiling()
    results: list[dict[str, Any]] = []
    shown: list[Example] = []
    for domain, tiles, shift in work:
        scored = []
        for tile in tiles:
            seen = see(model, tile, shift=shift, tiling=tiling)
            scored.append(count(seen, tile, model.spec.threshold))
            if on_progress is not None:
                on_progress()
        name_of_domain = _name(domain, shift)
        examples = choose_examples(
            model, scored, shift, tiling, picks=(picks or {}).get(name_of_domain)
        )
        shown += examples
        results.append(_domain(model.spec, name_of_domain, scored, shift, examples, seed))
    values = {
        "format": FORMAT,
        "run": name,
        "method": model.spec.method,
        "seed": model.spec.seed,
        "split": split or "all",
        "catalog": catalog_path,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "threshold": model.spec.threshold,
        "views": tiling.views,
        "runtime": model.runtime if isinstance(model, Backend) else "torch",
        "model": _model(model),
        "domains": results,
    }
    _write(Path(folder), values, shown)
    return values


def amount_of_work(
    catalog: Catalog,
    spec: ModelSpec,
    *,
    split: str | None,
    domains: Sequence[str] | None,
    shifts: Sequence[Shift],
) -> int:
    """Return how many images ``evaluate_model`` would score."""
    chosen = catalog.select(domains=domains, labelled=True)
    return sum(len(tiles) for _, tiles, _ in _work(chosen, spec, split, shifts))


def pixels_of_work(
    catalog: Catalog,
    spec: ModelSpec,
    *,
    split: str | None,
    domains: Sequence[str] | None,
    shifts: Sequence[Shift],
) -> int:
    """Return how many pixels ``evaluate_model`` would predict, as the model sees the images."""
    chosen = catalog.select(domains=domains, labelled=True)
    sizes = (
        tile.width * tile.height * tile.scale_to(spec.gsd_m) ** 2
        for _, tiles, _ in _work(chosen, spec, split, shifts)
        for tile in tiles
    )
    return round(sum(sizes))


def tiles_to_score(
    catalog: Catalog, spec: ModelSpec, split: str | None
) -> Iterator[tuple[str, list[Tile]]]:
    """Yield each domain with its images in a split; those that have none there are left out.

    A domain that the model has not seen yields all its images when it has none in the split.
    """
    for domain in catalog.domains:
        of_domain = catalog.select(domains=[domain])
        within = of_domain if split is None else of_domain.select(split=split)
        if not len(within) and domain not in spec.sources:
            within = of_domain
        if len(within):
            yield domain, within.tiles


def _work(
    catalog: Catalog, spec: ModelSpec, split: str | None, shifts: Sequence[Shift]
) -> list[tuple[str, list[Tile], Shift | None]]:
    work: list[tuple[str, list[Tile], Shift | None]] = []
    for domain, tiles in tiles_to_score(catalog, spec, split):
        work.append((domain, tiles, None))
        if domain in spec.sources:
            work += [(domain, tiles, shift) for shift in shifts]
    return work


def picks_of(values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return, by domain, the images that an evaluation shows as best, median and worst."""
    return {
        domain["name"]: {example["kind"]: example["name"] for example in domain["examples"]}
        for domain in values["domains"]
    }


def _name(domain: str, shift: Shift | None) -> str:
    return domain if shift is None else f"{domain} ({shift.family} shift)"


def _domain(
    spec: ModelSpec,
    name: str,
    scored: list[TileScores],
    shift: Shift | None,
    examples: list[Example],
    seed: int,
) -> dict[str, Any]:
    """Return what was found in one domain, as ``scores.json`` has it."""
    groups = [each.tile.group for each in scored]

    def interval(counts: list[Any], score: Callable[..., Any]) -> dict[str, float | None]:
        found = bootstrap_interval(counts, groups, score, seed=seed)
        return {name: _number(value) for name, value in asdict(found).items()}

    pixels = [each.pixels for each in scored]
    objects = [each.objects for each in scored]
    total = sum(objects[1:], start=objects[0])
    calibration = sum((each.calibration for each in scored[1:]), start=scored[0].calibration)
    histogram = pooled_histogram(scored).distribution()
    return {
        "name": name,
        "role": "source" if name in spec.sources else "target",
        "shift": None if shift is None else asdict(shift),
        "images": len(scored),
        "groups": len(set(groups)),
        "gsd_m": _median([each.tile.gsd_m for each in scored]),
        "pixel": {name: interval(pixels, score) for name, score in _PIXEL_SCORES.items()},
        "object": {
            **{name: interval(objects, score) for name, score in _OBJECT_SCORES.items()},
            "true_positives": total.true_positives,
            "false_positives": total.false_positives,
            "false_negatives": total.false_negatives,
        },
        "boundary_iou": {
            f"{width:g}m": interval(
                [each.boundaries[index] for each in scored], metrics.boundary_score
            )
            for index, width in enumerate(BOUNDARY_WIDTHS_M)
        },
        "calibration": _calibration(calibration),
        "histogram": histogram.round(6).tolist(),
        "distance": _distance(spec, histogram),
        "examples": [example.to_dict() for example in examples],
    }


def _calibration(levels: metrics.CalibrationBins) -> dict[str, Any]:
    bins = levels.merged(_RELIABILITY_BINS)
    confidence, frequency = bins.reliability()
    edges = np.linspace(0.0, 1.0, len(bins.pixels) + 1)
    return {
        "ece": _number(bins.expected_calibration_error),
        "bins": [
            {
                "low": float(low),
                "high": float(high),
                "count": int(pixels),
                "confidence": _number(mean),
                "frequency": _number(share),
            }
            for low, high, pixels, mean, share in zip(
                edges[:-1], edges[1:], bins.pixels, confidence, frequency, strict=True
            )
        ],
        "levels": {"pixels": levels.pixels.tolist(), "buildings": levels.buildings.tolist()},
    }


def _model(model: DescribedNetwork) -> dict[str, Any]:
    spec = model.spec
    return {
        "architecture": spec.architecture,
        "encoder": spec.encoder,
        "bands": spec.bands,
        "gsd_m": spec.gsd_m,
        "sources": list(spec.sources),
        "split_hash": spec.split_hash,
        "parameters": sum(each.numel() for each in model.parameters()),
        "rhm_version": spec.rhm_version,
        "training_images": spec.training_images,
        "licence": spec.licence,
        "histograms": dict(spec.source_histograms),
    }


def _distance(spec: ModelSpec, histogram: Any) -> list[float]:
    if not spec.source_histograms:
        return []
    return [float(each) for each in spec.source_distance(histogram)[1]]


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _number(value: float) -> float | None:
    """Return a JSON number; JSON has no nan."""
    return float(value) if math.isfinite(value) else None


def _write(folder: Path, values: dict[str, Any], examples: list[Example]) -> None:
    scores = folder / "scores.json"
    before = _pictures_named_in(scores)
    for example in examples:
        example.save(folder)
    write_text(scores, json.dumps(values, indent=1, allow_nan=False) + "\n")
    for stale in before - {example.image for example in examples}:
        (folder / stale).unlink(missing_ok=True)


def _pictures_named_in(scores: Path) -> set[str]:
    """Return the pictures of an earlier evaluation: only they may be removed."""
    try:
        values = json.loads(scores.read_text(encoding="utf-8"))
        named = [each["image"] for domain in values["domains"] for each in domain["examples"]]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in named if re.fullmatch(r"examples/[\w-]+\.png", str(name))}
