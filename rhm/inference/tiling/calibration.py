"""Calibration of a model for 8-bit integers, and the check of what they cost.

Half of the tiles show which values occur in the network. The other half is predicted with and
without quantisation, and shows what is lost: of the IoU if there are labels, or else of the
expected IoU (``rhm.models.expected_iou``) by the probabilities of the model before.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rhm.errors import ConfigError, ModelFileError
from rhm.inference.runtime.backends import float_graph
from rhm.inference.runtime.identity import identity_of
from rhm.inference.runtime.int8_graph import ranges_of
from rhm.inference.runtime.quantization import (
    MOST_LOSS,
    Quantization,
    keep_quantization,
    kept_quantization,
)
from rhm.inference.runtime.runtimes import RUNTIMES, RuntimeConfig
from rhm.inference.runtime.selection import network_for
from rhm.inference.runtime.tta import Network
from rhm.inference.tiling.stream import probabilities
from rhm.models.build import SegmentationModel

MOST_TILES = 32
"""Most tiles of 512 pixels that a calibration uses; they take a few seconds."""


_FEWEST_BUILDING_PX = 1000
"""Fewest pixels in either mask with which a loss of IoU can be told from chance."""


@dataclass(frozen=True)
class CalibrationTile:
    """A tile for calibration.

    Attributes:
        image: (1, bands, H, W) float32 input of the network.
        valid: (H, W) bool validity.
        truth: (H, W) bool mask of buildings; None without a label.
    """

    image: Tensor
    valid: NDArray[np.bool_]
    truth: NDArray[np.bool_] | None = None


def quantization_for(
    model: SegmentationModel,
    path: str | os.PathLike[str],
    samples: Callable[[], Iterable[CalibrationTile]],
    *,
    runtime: str = RuntimeConfig.runtime,
    tell: Callable[[str], None],
) -> Quantization:
    """Return the quantisation of a model: the one that is kept, or a new one, which is kept then.

    Args:
        model: model in ``eval`` mode.
        path: model file, folder of its run, or name.
        samples: function that returns tiles for a new calibration.
        runtime: runtime as in ``network_for``.
        tell: called with the loss by a new quantisation.

    Raises:
        ConfigError: the tiles show too few buildings for a check, or a package is not installed.
        ModelFileError: the model loses more than ``MOST_LOSS`` of IoU, or cannot be quantised.
    """
    RUNTIMES["onnx"].require()
    weights = identity_of(model)
    if weights is None:
        raise ModelFileError(f"{path} cannot be quantised: its weights cannot be identified")
    kept = kept_quantization(path, weights)
    if kept is not None:
        return kept
    found = calibrated(model, list(samples()), weights, runtime=runtime)
    if found.loss > MOST_LOSS:
        raise ModelFileError(
            f"{path}: {found.told()}, which is a loss of more than {MOST_LOSS}: use --precision "
            "float"
        )
    file = keep_quantization(path, found)
    tell(f"{found.told()} (calibrated on {found.tiles} tiles, kept in {file})")
    return found


def calibrated(
    model: SegmentationModel, samples: Sequence[CalibrationTile], weights: str, *, runtime: str
) -> Quantization:
    """Return a new quantisation of a model, whatever it loses.

    Args:
        model: model in ``eval`` mode.
        samples: tiles with or without labels.
        weights: hash of the weights.
        runtime: runtime as in ``network_for``.

    Raises:
        ConfigError: the tiles show too few buildings for a check.
        ModelFileError: the model cannot be quantised.
    """
    if not samples:
        raise ConfigError("int8 needs imagery to calibrate on, and no tile of it can be read")
    shown, checked = samples[::2], samples[1::2] or samples
    ranges = ranges_of(float_graph(model), (sample.image for sample in shown))
    labelled = all(sample.truth is not None for sample in checked)
    measure = "validation" if labelled else "expected"
    draft = Quantization(weights, ranges, len(shown), measure, 0.0, 0.0, 0.0)
    before = network_for(model, device="cpu", runtime=runtime)
    after = network_for(model, device="cpu", runtime=runtime, precision="int8", quantization=draft)
    counts = sum(
        (_counts(before, after, sample, model.spec.threshold) for sample in checked), np.zeros(6)
    )
    if counts[5] < _FEWEST_BUILDING_PX:
        raise ConfigError(
            "what int8 costs cannot be told where the model finds hardly any building: choose "
            "scenes with buildings, or use --precision float"
        )
    old, new, same = counts[0] / counts[1], counts[2] / counts[3], counts[4] / counts[5]
    return replace(draft, before=float(old), after=float(new), agreement=float(same))


def _counts(
    before: Network, after: Network, sample: CalibrationTile, threshold: float
) -> NDArray[np.float64]:
    """Return intersections and unions: of the truth with the first mask, with the second, of both.

    Without a label, the probabilities of the first network stand for the truth.
    """
    old, new = (probabilities(network, sample.image)[0] for network in (before, after))
    rows, cols = sample.valid.shape
    old, new = old[:rows, :cols][sample.valid], new[:rows, :cols][sample.valid]
    truth = old if sample.truth is None else sample.truth[sample.valid]
    masks = old >= threshold, new >= threshold
    found = [
        share for mask in masks for share in (truth[mask].sum(), mask.sum() + truth[~mask].sum())
    ]
    both = [(masks[0] & masks[1]).sum(), (masks[0] | masks[1]).sum()]
    return np.array([*found, *both], dtype=np.float64)
