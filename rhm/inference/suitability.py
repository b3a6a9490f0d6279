"""Suitability of a model for a scene, estimated from samples before the whole is predicted."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.data.rasters.georeference import ONE, GridScale, is_square, pixels_on_ground, scale_between
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.raster_info import RasterInfo
from rhm.data.rasters.windows import Window
from rhm.inference.runtime.backends import DescribedNetwork
from rhm.inference.tiling.stream import (
    Grid,
    Tiling,
    network_input,
    predict_blocks,
    probabilities,
)
from rhm.models.expected_iou import ExpectedIoU, out_of_domain
from rhm.models.spec import ModelSpec

FAR = 0.1
"""Smallest mean distance of histograms, as a share of the range, that counts as unlike colours."""

BEYOND = 0.25
"""The same for models that record their expected IoU and expect no loss. The places on which the
expected IoU was validated are closer to each other."""

SAME_SIZE = 1.2
"""Largest ratio of ground sampling distances that count as the same."""

_MARKED_SHARE = 0.001
_FAR_OUT = 2.0

_WINDOW_PX = 256
_WINDOWS_ALONG = 5

_TILES_ALONG = 4  # most tiles along an axis; 16 tiles take a few seconds on a CPU

SAMPLED_PX = 2 * (_TILES_ALONG * Tiling().tile) ** 2
"""Largest number of pixels that are predicted, at both resolutions together."""


@dataclass(frozen=True)
class Suitability:
    """The expected accuracy of a model in a scene.

    Attributes:
        expected_iou: expected IoU on the samples as ``rhm predict`` predicts them, at the
            resolution of the model; None without expected buildings.
        expected_iou_not_resampled: expected IoU at the resolution of the scene; None if it is that
            of the model, or unknown.
        expected_iou_at_home: expected IoU on the validation chips of the model; None if the model
            does not record it.
        advice: recommendations, with commands.
    """

    expected_iou: float | None
    expected_iou_not_resampled: float | None
    expected_iou_at_home: float | None
    advice: tuple[str, ...]


def suitability(
    model: DescribedNetwork,
    path: str | os.PathLike[str],
    *,
    bands: Sequence[int] | None = None,
    black_is_nodata: bool = False,
    distance: Sequence[float] = (),
) -> Suitability:
    """Predict samples of a scene, and return how suitable the model is for it.

    Args:
        model: model in ``eval`` mode.
        path: path of the scene.
        bands: 1-based indices of the bands to read; by default, all except alpha.
        black_is_nodata: whether pixels that are zero in all bands are nodata.
        distance: distance between the histograms of the scene and of the nearest training domain,
            for each band. It is used if the model expects no loss, or does not record its
            expected IoU.

    Raises:
        RasterError: the scene cannot be read.
        ModelFileError: the scene does not have the bands that the model takes.
    """
    spec = model.spec

    def expected(scale: GridScale) -> ExpectedIoU:
        with Raster(path, bands=bands, black_is_nodata=black_is_nodata, scale=scale) as raster:
            return expectation(model, raster)

    with Raster(path, bands=bands) as raster:
        info = raster.info
    here, resampled = expected(ONE), None
    if difference(info, spec):
        wanted_m = spec.gsd_m or info.gsd_m
        resampled = expected(scale_between(info.gsd_m, wanted_m, info.pixel_aspect))
    return Suitability(
        (resampled or here).value,
        here.value if resampled else None,
        spec.expected_iou,
        (
            *imagery_notes(spec, info, bands_given=bands is not None),
            *_advice(spec, info, here, resampled, distance),
        ),
    )


def expectation(model: DescribedNetwork, raster: Raster) -> ExpectedIoU:
    """Return the expected IoU of a model on a raster, in the tiles that ``rhm predict`` uses.

    With other tiles, the model would see more or less around each pixel, and where a raster ends
    other reflections of it. A raster of few tiles is predicted completely, with the blending of
    ``rhm predict``. Of a larger one, tiles are predicted that are spread evenly over it.
    """
    spec = model.spec
    table = spec.table_of(raster)
    grid = Grid(raster.info.height, raster.info.width, Tiling())
    found = ExpectedIoU(spec.threshold)
    if max(len(grid.rows), len(grid.cols)) <= _TILES_ALONG:
        for block in predict_blocks(model, raster.read, grid, table):
            found.add(block.probability, block.valid)
        return found
    for row in _sampled(len(grid.rows)):
        for col in _sampled(len(grid.cols)):
            window = grid.window(row, col)
            pixels = raster.read(window)
            if not pixels.valid.any():
                continue
            image = network_input(pixels, table, grid.tiling.tile)
            (probability,) = probabilities(model, image[None])
            # Without what it shares with the next tiles, which are counted there.
            part = np.s_[: grid.row_ends[row] - window.row, : grid.col_ends[col] - window.col]
            found.add(probability[part], pixels.valid[part])
    return found


def _sampled(tiles: int) -> list[int]:
    """Return the numbers of the tiles along an axis that are predicted, without repetitions."""
    numbers = np.linspace(0, tiles - 1, min(tiles, _TILES_ALONG))
    return [round(number) for number in numbers.tolist()]


def difference(info: RasterInfo, spec: ModelSpec | None) -> str | None:
    """Return how the pixels of a scene differ from those that a model expects, or None.

    Args:
        info: properties of the scene.
        spec: description of the model; None for a network without one, which is only taken to
            expect square pixels.
    """
    if info.gsd_m is None:
        return None
    wanted_m = None if spec is None else spec.gsd_m
    expected = "square ones" if wanted_m is None else f"{wanted_m:.2g} m"
    if not is_square(info.pixel_aspect):
        size = pixels_on_ground(info.gsd_m, info.pixel_aspect)
        return f"the pixels of the scene {size}, and the model expects {expected}"
    if wanted_m is not None and not 1 / SAME_SIZE <= info.gsd_m / wanted_m <= SAME_SIZE:
        return f"the scene has {info.gsd_m:.2g} m per pixel, and the model expects {expected}"
    return None


def resolution_note(info: RasterInfo, spec: ModelSpec | None) -> str | None:
    """Return a sentence if a model and a scene cannot be compared in resolution, or None.

    If neither resolution is known, there is nothing to compare.

    Args:
        info: properties of the scene.
        spec: description of the model; None for a network without one.
    """
    if spec is None or (info.gsd_m is None) == (spec.gsd_m is None):
        return None
    if spec.gsd_m is not None:
        return (
            f"the model expects {spec.gsd_m:.2g} m per pixel, but the resolution of the scene is "
            "unknown"
        )
    # Without the resolution of the scene, which would make this another note for every scene.
    return (
        "the resolution that the model expects is unknown, so the scene is not brought to it: "
        "check that it has that of the training imagery, or train with data.gsd_m"
    )


def dtype_notes(spec: ModelSpec, dtype: str) -> list[str]:
    """Return what a model does not know of imagery of a dtype, in a sentence if there is any."""
    if spec.known_scaling(dtype) is None:
        return [
            f"the model stores no value range for {dtype} imagery; the range of this scene was "
            "measured instead"
        ]
    if spec.scalings and dtype not in spec.scalings:
        return [
            f"the model was trained on {', '.join(sorted(spec.scalings))} imagery, and this is "
            f"{dtype}: probably another sensor; check the result"
        ]
    return []


def imagery_notes(spec: ModelSpec, info: RasterInfo, *, bands_given: bool = False) -> list[str]:
    """Return what differs between the values of a scene and those that a model was trained on.

    Args:
        spec: description of the model.
        info: properties of the scene.
        bands_given: whether the user chose the bands.
    """
    notes = dtype_notes(spec, info.dtype)
    if not bands_given and info.bands != tuple(sorted(info.bands)):
        notes.append(
            "the file says which bands are red, green and blue: the bands are read in the order "
            f"{', '.join(map(str, info.bands))} (choose another one with --bands)"
        )
    return notes


def domain_note(home: float | None, here: ExpectedIoU) -> str | None:
    """Return a warning if the expected IoU is notably lower than on the validation chips."""
    if not out_of_domain(home, here.value):
        return None
    seldom = " (or the scene has hardly any buildings)" if here.building_share < 0.01 else ""
    return (
        f"out of domain: by its own probabilities, the model expects an IoU of {here.value:.2f} "
        f"here{seldom}, and {home:.2f} on its validation chips; check the result, and use "
        "`rhm data inspect --model` to find out what helps"
    )


def undeclared_nodata(raster: Raster) -> str | None:
    """Return a note if a raster seems to mark nodata by a value that it does not declare.

    Only floating-point rasters without any declared nodata are examined, on windows spread over the
    raster. A value is reported if at least one in a thousand pixels has it in all bands, and if it
    is farther from all other values than twice the range of these. It is reported and not applied,
    because only the user can know that it is not a measurement.

    Raises:
        RasterError: the raster cannot be read.
    """
    if raster.dtype.kind != "f" or raster.info.masked:
        return None
    pixels = np.concatenate([_valid_pixels(raster, window) for window in _windows(raster)])
    for extreme in (np.min, np.max):
        if not len(pixels):
            break
        value = extreme(pixels)
        marked = (pixels == value).all(axis=1)
        others = pixels[~(pixels == value).any(axis=1)].astype(np.float64)
        if not len(others) or marked.mean() < _MARKED_SHARE:
            continue
        low, high = others.min(), others.max()
        if max(low - value, value - high) > _FAR_OUT * (high - low):
            # All digits, because GDAL compares values exactly.
            return (
                f"{marked.mean():.1%} of the sampled pixels are {value:.17g} in all bands, far "
                "from all other values, but no nodata is declared, so they are imagery here: "
                f"declare it with gdal_edit.py -a_nodata {value:.17g}, and predict again"
            )
    return None


def _windows(raster: Raster) -> list[Window]:
    """Return windows that are spread over a raster, including its corners."""
    height, width = raster.info.height, raster.info.width
    return [
        Window(row, col, min(_WINDOW_PX, height), min(_WINDOW_PX, width))
        for row in sorted({*_spread(height), max(0, height - _WINDOW_PX)})
        for col in sorted({*_spread(width), max(0, width - _WINDOW_PX)})
    ]


def _valid_pixels(raster: Raster, window: Window) -> NDArray[Any]:
    values, valid = raster.read(window)
    return values[valid]


def _advice(
    spec: ModelSpec,
    info: RasterInfo,
    here: ExpectedIoU,
    resampled: ExpectedIoU | None,
    distance: Sequence[float],
) -> list[str]:
    advice = []
    best = here
    if resampled is not None:
        advice.append(f"{difference(info, spec)}: `rhm predict` resamples it")
        best = resampled
    advice += filter(None, [resolution_note(info, spec)])
    if out_of_domain(spec.expected_iou, best.value):
        seldom = " (or the scene has hardly any buildings)" if best.building_share < 0.01 else ""
        advice += [
            f"out of domain: expect a notable loss of IoU{seldom}",
            "without labels: adapt the model with `rhm adapt --unlabelled`, or build a bank of "
            "similar scenes with `rhm bank build` and train with `rhm train --bank`",
            "with a few labelled chips: adapt the model with `rhm adapt`",
        ]
    elif len(distance) and np.mean(distance) > (FAR if spec.expected_iou is None else BEYOND):
        advice.append(
            "the pixel values differ from those of the training imagery: build a bank of similar "
            "scenes with `rhm bank build` and train with `rhm train --bank`"
        )
    elif spec.expected_iou is not None and spec.method == "none":
        advice.append(
            "the model was trained without colour augmentation, and such models are overconfident "
            "everywhere: that it expects no loss means little"
        )
    return advice


def _spread(length: int) -> list[int]:
    """Return the first pixels of the windows along an axis."""
    count = min(_WINDOWS_ALONG, max(1, length // _WINDOW_PX))
    last = max(0, length - _WINDOW_PX)
    return [round(first) for first in np.linspace(0, last, count).tolist()]
