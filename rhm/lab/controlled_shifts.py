"""Controlled shifts: how known families of pixel-wise maps affect models, and what helps.

This is the first experiment of Yaras et al. (IEEE JSTARS 17, 2024). Models are trained on one place
and tested on its imagery under random maps of known families. Every family is also an augmentation,
with the same range: what can be had if the kind of shift is known. Histogram matching is not told
the kind. It has a bank of shifted images, as unlabelled imagery of the target; none of them is
tested on, and every image is shifted in its own way.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.packed_histogram import PackedHistogram
from rhm.colour.shifts import SHIFTS
from rhm.data.catalog import Catalog, Tile
from rhm.data.labels import IGNORE
from rhm.data.layouts.registry import index_folder
from rhm.errors import CatalogError
from rhm.evaluation.scores import Shift
from rhm.evaluation.tile_scores import predict_image, shifted
from rhm.inference.tiling.stream import Tiling
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model
from rhm.synthetic.world import write_sample_world
from rhm.training.config import parse_config
from rhm.training.fitting import fit_once
from rhm.training.metrics import CalibrationBins, ConfusionCounts

AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    **{family: {"colour": "shift", "shifts": [family], "p": 1.0} for family in SHIFTS},
    "any of them": {"colour": "shift", "p": 1.0},
    "rhm": {"colour": "rhm", "p": 1.0},
}
"""Augmentations of the experiment: sections ``augment``, by name."""

_BINS = 200

SAMPLE_DOMAIN = "alder_aerial"
"""Town and sensor of the sample experiment."""


@dataclass(frozen=True)
class ControlledShifts:
    """Result of the experiment.

    Attributes:
        iou: pixel IoU by augmentation and by family of shifts (``none``: unshifted images).
        tile: a test image to show in a figure.
        seed: seed of the experiment and of the shifts.
    """

    iou: Mapping[str, Mapping[str, float]]
    tile: Tile
    seed: int


def pixel_iou(
    model: SegmentationModel,
    tiles: Iterable[Tile],
    shift: Shift | None = None,
    *,
    tiling: Tiling | None = None,
) -> float:
    """Return the pixel IoU, pooled over all images, at the model's threshold.

    Args:
        model: a model in ``eval`` mode.
        tiles: labelled images.
        shift: shift to apply to the images, or None.
        tiling: tile size, overlap and batch size.

    Raises:
        RasterError: an image or mask cannot be read.
        ModelFileError: an image does not have the bands that the model takes.
    """
    total = ConfusionCounts()
    for probability, truth, valid in _predicted(model, tiles, shift, tiling):
        total += ConfusionCounts.of(truth, probability >= model.spec.threshold, valid)
    return total.iou


def pixels_by_probability(
    model: SegmentationModel, tiles: Iterable[Tile], *, tiling: Tiling | None = None
) -> CalibrationBins:
    """Return the pixels of all images in 200 bins of probability, for scores at any threshold.

    Args:
        model: a model in ``eval`` mode.
        tiles: at least one labelled image.
        tiling: tile size, overlap and batch size.

    Raises:
        RasterError: an image or mask cannot be read.
        ModelFileError: an image does not have the bands that the model takes.
    """
    counted = (
        CalibrationBins.of(probability, truth, valid, bins=_BINS)
        for probability, truth, valid in _predicted(model, tiles, None, tiling)
    )
    return reduce(operator.add, counted)


def _predicted(
    model: SegmentationModel, tiles: Iterable[Tile], shift: Shift | None, tiling: Tiling | None
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield the probabilities, truth and validity (H, W) of each labelled image."""
    for tile in tiles:
        if tile.label is None:
            continue
        scale = tile.scale_to(model.spec.gsd_m)
        with tile.open(scale) as raster, tile.open_label(raster) as label:
            scaling = model.spec.scaling_of(raster)
            pixels, probability = predict_image(
                model, raster, tile.name, scaling=scaling, shift=shift, tiling=tiling or Tiling()
            )
            truth = label.read()
        yield probability, truth == 1, pixels.valid & (truth != IGNORE)


def shifted_bank(tiles: Iterable[Tile], families: Sequence[str], seed: int) -> HistogramBank:
    """Return the bank of images under each family of shifts, as the controlled target.

    Raises:
        BankError: no image has valid pixels.
        RasterError: an image cannot be read.
    """
    entries: list[PackedHistogram] = []
    names: list[str] = []
    for tile in tiles:
        with tile.open() as raster:
            pixels = raster.read()
        for family in families:
            histogram = shifted(Shift(family, seed), tile.name, pixels).histogram()
            if histogram.pixels:
                entries.append(PackedHistogram.of(histogram))
                names.append(f"{family}/{tile.name}")
    return HistogramBank(entries, names)


def sample_town(folder: Path, *, seed: int = 0) -> Path:
    """Write a town of the sample world to ``folder`` and return the path of its catalog.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_sample_world(folder / "world", scene_size=64, domains=[SAMPLE_DOMAIN], seed=seed)
    catalog = index_folder(folder / "world" / SAMPLE_DOMAIN, group_pattern=r"(\d+)$")
    path = folder / "world" / "catalog.parquet"
    catalog.assign_splits({"test": 0.4}, seed=seed).save(path)
    return path


def run_controlled_shifts(
    catalog: Path,
    domain: str,
    folder: Path,
    *,
    steps: int = 120,
    chip_px: int = 96,
    model: Mapping[str, Any] | None = None,
    seed: int = 0,
    on_step: Callable[[str], None] | None = None,
) -> ControlledShifts:
    """Train on one place with every augmentation, and test there under every family of shifts.

    The bank for histogram matching contains the shifted images of the other splits, as unlabelled
    imagery of the target. Models are stored in ``folder``; existing ones are not trained again.

    Args:
        catalog: path of the catalog.
        domain: the place; models are trained on its images of split ``train``.
        folder: folder for the bank and the runs.
        steps: training steps of each run.
        chip_px: side of a training chip in pixels.
        model: section ``model`` of the configurations; by default the usual network.
        seed: seed of training and shifts.
        on_step: function that is called with a message when something starts.

    Raises:
        CatalogError: the catalog has no images for training or testing.
        OutputError: the folder cannot be written.
        ConfigError: runs of these names with other settings already exist.
    """
    place = Catalog.load(catalog).select(domains=[domain])
    tested = place.select(split="test", labelled=True).tiles
    others = place.select(split="train", labelled=True).tiles
    for split, tiles in (("test", tested), ("train", others)):
        if not tiles:
            raise CatalogError(f"{catalog} has no labelled image of {domain} in split '{split}'")
    bank = folder / "shifted.bank"
    shifted_bank(others, tuple(SHIFTS), seed).save(bank)
    shifts = {"none": None} | {family: Shift(family, seed) for family in SHIFTS}
    iou: dict[str, dict[str, float]] = {}
    for name, augment in AUGMENTATIONS.items():
        if on_step is not None:
            on_step(f"training with augmentation {name}, {steps} steps")
        config = parse_config(
            {
                "name": name.replace(" ", "-"),
                "output": str(folder / "runs"),
                "seed": seed,
                "data": {
                    "catalog": str(catalog),
                    "sources": [domain],
                    "chip_px": chip_px,
                    "workers": 1,
                },
                "model": dict(model or {}),
                "augment": augment | ({"bank": str(bank)} if name == "rhm" else {}),
                "trainer": {"steps": steps, "validate_every": steps},
            }
        )
        trained = load_model(fit_once(config).model)
        iou[name] = {family: pixel_iou(trained, tested, shift) for family, shift in shifts.items()}
    return ControlledShifts(iou, tested[0], seed)
