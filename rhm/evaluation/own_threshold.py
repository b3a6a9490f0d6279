"""The threshold that a model's own probabilities imply for the images of a domain."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rhm.data.catalog import Tile
from rhm.evaluation.scores import Shift
from rhm.evaluation.tile_scores import predict_maps
from rhm.inference.runtime.backends import DescribedNetwork
from rhm.inference.tiling.stream import Tiling
from rhm.models.expected_iou import ExpectedIoU


def own_threshold(
    model: DescribedNetwork,
    tiles: Sequence[Tile],
    folder: Path,
    *,
    shift: Shift | None,
    tiling: Tiling,
    on_progress: Callable[[], None] | None = None,
) -> tuple[float | None, list[Path]]:
    """Predict images, and find the threshold with the highest expected IoU over all of them.

    Labels are not read.

    Args:
        model: model in ``eval`` mode.
        tiles: images.
        folder: folder for the probabilities, which need not be predicted again.
        shift: shift of the images, or None.
        tiling: options of the tiles.
        on_progress: called after each image.

    Returns:
        The threshold, or None if the probabilities imply hardly a building, and the file with the
        maps (M, H, W) float32 of each image, for ``tile_scores.see``.

    Raises:
        RasterError: an image cannot be read.
        ModelFileError: an image does not have the bands that the model takes.
    """
    counted, paths = ExpectedIoU(model.spec.threshold), []
    for number, tile in enumerate(tiles):
        with tile.open(tile.scale_to(model.spec.gsd_m)) as raster:
            tile.check(raster)
            scaling = model.spec.scaling_of(raster)
            pixels, maps = predict_maps(
                model, raster, tile.name, scaling=scaling, shift=shift, tiling=tiling
            )
        counted.add(maps[0], pixels.valid)
        paths.append(folder / f"{number}.npy")
        np.save(paths[-1], maps)
        if on_progress is not None:
            on_progress()
    return counted.implied_threshold(), paths
