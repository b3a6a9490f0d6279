"""How often footprints are right: the calibration of their scores on labelled images."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from rhm.data.catalog import Tile
from rhm.data.labels import IGNORE
from rhm.evaluation.outlines.default_footprints import default_footprints
from rhm.evaluation.scores import ScoreBin, finite
from rhm.evaluation.tile_scores import TileScores, predict_maps, true_objects
from rhm.inference.runtime.backends import DescribedNetwork
from rhm.inference.tiling.stream import Tiling
from rhm.models.score_calibration import ScoreCalibration
from rhm.training.metrics import FloatArray, matched_predictions


@dataclass(frozen=True)
class ScoredFootprints:
    """The footprints of labelled images.

    Attributes:
        scores: (N,) mean probability of each footprint.
        correct: (N,) bool, whether it matches a true building at IoU 0.5.
    """

    scores: FloatArray
    correct: NDArray[np.bool_]

    @classmethod
    def joined(cls, parts: Sequence["ScoredFootprints"]) -> "ScoredFootprints":
        """Return the footprints of several images."""
        return cls(
            np.concatenate([np.empty(0), *(part.scores for part in parts)]),
            np.concatenate([np.empty(0, bool), *(part.correct for part in parts)]),
        )


def calibrate_scores(
    model: DescribedNetwork,
    tiles: Sequence[Tile],
    *,
    tiling: Tiling | None = None,
    on_progress: Callable[[], None] | None = None,
) -> ScoreCalibration | None:
    """Measure how often footprints of a model are right, by their mean probability.

    Images are predicted and traced with the default options of ``rhm predict``.

    Args:
        model: model in ``eval`` mode.
        tiles: labelled images that the model was not trained on.
        tiling: options of the tiles.
        on_progress: called after each image.

    Returns:
        The calibration, or None if the images show too few footprints.

    Raises:
        RasterError: an image or mask cannot be read.
        ModelFileError: an image does not have the bands that the model takes.
    """
    found = []
    for tile in tiles:
        found.append(scored_footprints(model, tile, tiling=tiling or Tiling()))
        if on_progress is not None:
            on_progress()
    together = ScoredFootprints.joined(found)
    return ScoreCalibration.of(together.scores, together.correct)


def scored_footprints(
    model: DescribedNetwork, tile: Tile, *, tiling: Tiling, threshold: float | None = None
) -> ScoredFootprints:
    """Return the footprints of a labelled image, traced as ``rhm predict`` does by default.

    Args:
        model: model in ``eval`` mode.
        tile: labelled image.
        tiling: options of the tiles.
        threshold: minimum probability of a building pixel; by default that of the model.

    Raises:
        RasterError: the image or its mask cannot be read.
        ModelFileError: the image does not have the bands that the model takes.
    """
    spec = model.spec
    scale, used = tile.scale_to(spec.gsd_m), spec.threshold if threshold is None else threshold
    with tile.open(scale) as raster, tile.open_label(raster) as label:
        scaling = spec.scaling_of(raster)
        pixels, maps = predict_maps(
            model, raster, tile.name, scaling=scaling, shift=None, tiling=tiling
        )
        truth = label.read()
        valid = pixels.valid & (truth != IGNORE)
        true = true_objects(label, truth, valid, raster)
    polygons, scores = default_footprints(
        maps, valid, threshold=used, gsd_m=tile.gsd_at(spec.gsd_m)
    )
    return ScoredFootprints(scores, matched_predictions(true, polygons, scores))


def footprint_scores(scored: Sequence[TileScores]) -> tuple[ScoreBin, ...]:
    """Return how often footprints are correct, by calibrated score; empty without calibration."""
    counted = [scores.promises for scores in scored if scores.promises is not None]
    if not counted:
        return ()
    bins = reduce(operator.add, counted)
    promised, _ = bins.reliability()
    edges = np.linspace(0.0, 1.0, len(bins.pixels) + 1)
    rows = zip(edges[:-1], edges[1:], bins.pixels, bins.buildings, promised, strict=True)
    return tuple(
        ScoreBin(float(low), float(high), int(number), int(right), finite(mean))
        for low, high, number, right, mean in rows
    )
