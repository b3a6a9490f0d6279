"""Is a model at home in a scene? Asked of samples, before all of it is predicted."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rhm.data.rasters.georeference import scale_between
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window
from rhm.inference.runtime.backends import DescribedNetwork
from rhm.inference.tiling.stream import network_input, probabilities
from rhm.models.expectation import ExpectedIoU, out_of_domain
from rhm.models.spec import ModelSpec

FAR = 0.1
"""Mean distance of histograms, as a share of the range, from which colours are called unlike."""

BEYOND = 0.25
"""The same, from which that is said even where the model expects no loss: no two places that the
expectation was tried on lay so far apart."""

SAME_SIZE = 1.2
"""Ratio of metres per pixel up to which two resolutions are called the same."""

_TILE = 256
_ALONG = 5  # tiles along an axis: 25 of a scene are a second or two on a CPU

SAMPLED_PX = 2 * (_ALONG * _TILE) ** 2
"""The most pixels of a scene that are predicted: as it is, and at the model's resolution."""


@dataclass(frozen=True)
class Suitability:
    """What a model expects of itself on a scene.

    Attributes:
        expected_iou: that its probabilities promise on the samples; None where they promise no
            building.
        expected_iou_resampled: that, seen at the model's own metres per pixel; None where the
            scene is at them, or does not say its own.
        expected_iou_at_home: on its validation chips; None where it does not know.
        advice: what to do about it, each with the command.
    """

    expected_iou: float | None
    expected_iou_resampled: float | None
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
    """Predict samples of a scene and say whether the model is at home there.

    Args:
        model: in ``eval`` mode.
        path: of the scene.
        bands: 1-based indices of the bands to use; all but alpha by default.
        black_is_nodata: whether pixels that are zero in all bands have no data.
        distance: of the scene's histogram to the nearest training domain's, by band; asked where
            the model expects no loss, or does not know what it expects at home.

    Raises:
        RasterError: the scene cannot be read.
        ModelFileError: it does not have the bands that the model takes.
    """
    spec = model.spec

    def expected(scale: float) -> ExpectedIoU:
        with Raster(path, bands=bands, black_is_nodata=black_is_nodata, scale=scale) as raster:
            return expectation(model, raster)

    with Raster(path) as raster:
        gsd_m = raster.info.gsd_m
    here, resampled = expected(1.0), None
    if other_size(gsd_m, spec):
        resampled = expected(scale_between(gsd_m, spec.gsd_m))
    return Suitability(
        here.value,
        resampled.value if resampled else None,
        spec.expected_iou,
        tuple(_advice(spec, gsd_m, here, resampled, distance)),
    )


def expectation(model: DescribedNetwork, raster: Raster) -> ExpectedIoU:
    """Return what a model expects of itself on tiles spread evenly over a raster."""
    spec = model.spec
    table = spec.table_of(raster)
    rows, cols = (_spread(length) for length in (raster.info.height, raster.info.width))
    found = ExpectedIoU(spec.threshold)
    for row in rows:
        for col in cols:
            height, width = raster.info.height - row, raster.info.width - col
            window = Window(row, col, min(_TILE, height), min(_TILE, width))
            pixels = raster.read(window)
            if not pixels.valid.any():
                continue
            (probability,) = probabilities(model, network_input(pixels, table, _TILE)[None])
            found.add(probability[: window.height, : window.width], pixels.valid)
    return found


def other_size(gsd_m: float | None, spec: ModelSpec) -> bool:
    """Return whether a scene's metres per pixel are known not to be the model's."""
    if gsd_m is None or spec.gsd_m is None:
        return False
    return not 1 / SAME_SIZE <= gsd_m / spec.gsd_m <= SAME_SIZE


def domain_note(home: float | None, here: ExpectedIoU) -> str | None:
    """Return the warning that a model expects less of itself on a scene than at home, if so."""
    if not out_of_domain(home, here.value):
        return None
    seldom = " (or there is hardly a building)" if here.building_share < 0.01 else ""
    return (
        f"out of domain: the model's own probabilities promise an IoU of {here.value:.2f} here"
        f"{seldom}, {home:.2f} on its validation chips; check the result, and see "
        "`rhm data inspect --model` for what helps"
    )


def _advice(
    spec: ModelSpec,
    gsd_m: float | None,
    here: ExpectedIoU,
    resampled: ExpectedIoU | None,
    distance: Sequence[float],
) -> list[str]:
    advice = []
    best = here
    if resampled is not None:
        advice.append(f"the model expects {spec.gsd_m:.2g} m per pixel: predict with --resample")
        best = resampled
    if out_of_domain(spec.expected_iou, best.value):
        seldom = " (or the scene has hardly a building)" if best.building_share < 0.01 else ""
        advice += [
            f"out of domain: expect a notable loss of IoU{seldom}",
            "without labels: build a bank of such scenes with `rhm bank build` and train with "
            "`rhm train --bank`",
            "with a few labelled chips: `rhm adapt`",
        ]
    elif len(distance) and np.mean(distance) > (FAR if spec.expected_iou is None else BEYOND):
        advice.append(
            "its values are unlike the training imagery: build a bank of such scenes with "
            "`rhm bank build` and train with --bank"
        )
    elif spec.expected_iou is not None and spec.method == "none":
        advice.append(
            "the model was trained without shifted colours, and such models are sure of "
            "themselves anywhere: that it expects no loss says little"
        )
    return advice


def _spread(length: int) -> list[int]:
    """Return where tiles begin along an axis."""
    count = min(_ALONG, max(1, length // _TILE))
    return [round(each) for each in np.linspace(0, max(0, length - _TILE), count).tolist()]
