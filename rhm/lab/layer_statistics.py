"""Compression and discrimination by layer of a network, and the lines that they follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rhm.analysis.depth_trends import Fit, fit_line
from rhm.analysis.moments import ClassMoments
from rhm.analysis.probes import linear_probe
from rhm.analysis.separation import separation


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """Statistics of the features of M layers, of which layer 0 is the input.

    Attributes:
        first_fitted: first layer that the lines are fitted to; they end at the last layer.
        compression: (M,) C_l.
        discrimination: (M,) D_l.
        stable_rank: (M,).
        numerical_rank: (M,) int64.
        probe_accuracy: (M,) balanced accuracy of a linear probe of each layer on held-out
            samples, or None if there are none.
    """

    first_fitted: int
    compression: NDArray[np.float64]
    discrimination: NDArray[np.float64]
    stable_rank: NDArray[np.float64]
    numerical_rank: NDArray[np.int64]
    probe_accuracy: NDArray[np.float64] | None

    @property
    def layers(self) -> NDArray[np.int64]:
        """Indices (M,) of the layers, from 0."""
        return np.arange(len(self.compression))

    @property
    def compression_fit(self) -> Fit:
        """The line fitted to ``log C_l`` over l; geometric decay gives a line."""
        fitted = slice(self.first_fitted, None)
        return fit_line(self.layers[fitted], np.log(self.compression[fitted]))

    @property
    def discrimination_fit(self) -> Fit:
        """The line fitted to D_l over l."""
        fitted = slice(self.first_fitted, None)
        return fit_line(self.layers[fitted], self.discrimination[fitted])


def layer_statistics(
    features: Sequence[Tensor],
    labels: Tensor,
    *,
    first_fitted: int = 1,
    held_out: tuple[Sequence[Tensor], Tensor] | None = None,
) -> LayerStatistics:
    """Return the statistics of each layer's features.

    Args:
        features: features (N, D_l) by layer, starting with the input.
        labels: (N,) int64 from 0; every class occurs.
        first_fitted: first layer that the lines are fitted to.
        held_out: features and labels of other samples, to test linear probes on.

    Raises:
        AnalysisError: a class has no samples, features are not finite, or class means are equal.
    """
    classes = int(labels.max()) + 1
    moments = [ClassMoments(classes, layer.shape[1]) for layer in features]
    for each, layer in zip(moments, features, strict=True):
        each.update(layer, labels)
    found = [separation(each) for each in moments]
    accuracy = None
    if held_out is not None:
        accuracy = np.array(
            [
                linear_probe(each).balanced_accuracy(layer, held_out[1])
                for each, layer in zip(moments, held_out[0], strict=True)
            ]
        )
    return LayerStatistics(
        first_fitted=first_fitted,
        compression=np.array([each.compression for each in found]),
        discrimination=np.array([each.discrimination for each in found]),
        stable_rank=np.array([each.stable_rank for each in found], dtype=np.float64),
        numerical_rank=np.array([each.numerical_rank for each in found], dtype=np.int64),
        probe_accuracy=accuracy,
    )
