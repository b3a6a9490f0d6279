"""Controlled shifts: what a known family of pixel-wise maps does to models, and what helps.

The first experiment of Yaras et al. (IEEE JSTARS 17, 2024): imagery of one place is shown under
random maps of known families to models that were trained there with several augmentations. The
bank of histogram matching holds the histograms, not the labels, of the shifted test images: the
method's setting, unlabelled imagery of the target, and not that of a shift never seen.
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
from rhm.colour.packing import PackedHistogram
from rhm.colour.shifts import SHIFTS
from rhm.data.catalog import Catalog, Tile
from rhm.data.labels import IGNORE, Label
from rhm.data.layouts.indexers import index_folder
from rhm.errors import CatalogError
from rhm.evaluation.tile_scores import Shift, predict_image
from rhm.inference.tiling.stream import Tiling
from rhm.models.build import SegmentationModel
from rhm.models.model_file import load_model
from rhm.synthetic.world import write_sample_world
from rhm.training.config import parse_config
from rhm.training.fitting import fit_once
from rhm.training.metrics import CalibrationBins, ConfusionCounts

AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "gamma": {"colour": "gamma", "p": 1.0},
    "color-jitter": {"colour": "color-jitter", "p": 1.0},
    "rhm": {"colour": "rhm", "p": 1.0},
}
"""What the sample experiment compares: the section ``augment`` by name."""

_BINS = 200

SAMPLE_DOMAIN = "alder_aerial"
"""The town and sensor of the sample experiment."""


@dataclass(frozen=True)
class ControlledShifts:
    """What came of the experiment.

    Attributes:
        iou: by augmentation, and by family (``none``: the images as they are), the pixel IoU.
        tile: the test image that a figure may show.
        seed: of the experiment, and of the shifts.
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
    """Return the pixel IoU over all images together, at the model's threshold.

    Args:
        model: in ``eval`` mode.
        tiles: labelled images.
        shift: under which they are seen, or None.
        tiling: tiles, overlap and batch.

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
    """Return the pixels of all images together in 200 bins: their scores at every threshold.

    Args:
        model: in ``eval`` mode.
        tiles: labelled images, one at least.
        tiling: tiles, overlap and batch.

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
    """Yield each labelled image's probabilities, truth, and where both are known, (H, W) each."""
    for tile in tiles:
        if tile.label is None:
            continue
        scale = tile.scale_to(model.spec.gsd_m)
        with tile.open(scale) as raster, Label(tile.label, raster, scale=scale) as label:
            scaling = model.spec.scaling_of(raster)
            pixels, probability = predict_image(
                model, raster, tile.name, scaling=scaling, shift=shift, tiling=tiling or Tiling()
            )
            truth = label.read()
        yield probability, truth == 1, pixels.valid & (truth != IGNORE)


def shifted_bank(tiles: Iterable[Tile], families: Sequence[str], seed: int) -> HistogramBank:
    """Return the histograms of images under a shift of each family: the controlled target.

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
            histogram = Shift(family, seed).apply(tile.name, pixels).histogram()
            if histogram.pixels:
                entries.append(PackedHistogram.of(histogram))
                names.append(f"{family}/{tile.name}")
    return HistogramBank(entries, names)


def sample_town(folder: Path, *, seed: int = 0) -> Path:
    """Draw a town of the sample world into ``folder``, and return the path of its catalog.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_sample_world(folder / "world", scene_size=64, seed=seed)
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
    seed: int = 0,
    on_step: Callable[[str], None] | None = None,
) -> ControlledShifts:
    """Train in one place with several augmentations, and test there under controlled shifts.

    The bank of histogram matching holds the test images under the shifts: unlabelled imagery of
    the target. Models stay in ``folder``; those that are there are not trained again.

    Args:
        catalog: path of the catalog.
        domain: the place; it is trained on its images of split ``train``.
        folder: of the bank and the runs.
        steps: of each run.
        chip_px: side of a training chip.
        seed: of training and shifts.
        on_step: called with a line on what begins.

    Raises:
        CatalogError: the catalog lacks images to train on or to test on.
        OutputError: the folder cannot be written.
        ConfigError: runs of these names with other settings are there already.
    """
    tested = Catalog.load(catalog).select(domains=[domain], split="test", labelled=True).tiles
    if not tested:
        raise CatalogError(f"{catalog} has no labelled image of {domain} in split 'test'")
    bank = folder / "shifted.bank"
    shifted_bank(tested, tuple(SHIFTS), seed).save(bank)
    shifts = {"none": None} | {family: Shift(family, seed) for family in SHIFTS}
    iou: dict[str, dict[str, float]] = {}
    for name, augment in AUGMENTATIONS.items():
        if on_step is not None:
            on_step(f"training with augmentation {name}, {steps} steps")
        config = parse_config(
            {
                "name": name,
                "output": str(folder / "runs"),
                "seed": seed,
                "data": {
                    "catalog": str(catalog),
                    "sources": [domain],
                    "chip_px": chip_px,
                    "workers": 1,
                },
                "augment": augment | ({"bank": str(bank)} if name == "rhm" else {}),
                "trainer": {"steps": steps, "validate_every": steps},
            }
        )
        model = load_model(fit_once(config).model)
        iou[name] = {family: pixel_iou(model, tested, shift) for family, shift in shifts.items()}
    return ControlledShifts(iou, tested[0], seed)
