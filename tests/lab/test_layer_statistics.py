"""Statistics from layer to layer; oracle: features whose separation is known."""

import numpy as np
import pytest
import torch

from rhm.analysis import ClassMoments, separation
from rhm.errors import AnalysisError
from rhm.lab.layer_statistics import layer_statistics
from rhm.lab.linear_separation import (
    nearly_orthogonal_data,
)


def test_statistics_without_other_samples_have_no_probe() -> None:
    samples, labels = nearly_orthogonal_data(2, 5, 20)
    found = layer_statistics([samples, 2.0 * samples], labels)
    assert found.probe_accuracy is None
    assert found.compression[0] == pytest.approx(found.compression[1])
    with pytest.raises(AnalysisError):
        layer_statistics([samples], torch.tensor([0] * 5 + [2] * 5))


def shrinking(ratio: float, layers: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Features of two classes whose spread falls by ``ratio`` from layer to layer."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2).repeat_interleave(50)
    noise = torch.randn(100, 4, generator=generator, dtype=torch.float64)
    means = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]], dtype=torch.float64)
    for kind in range(2):
        noise[labels == kind] -= noise[labels == kind].mean(dim=0)
    return [means[labels] + 0.1 * ratio**layer * noise for layer in range(layers)], labels


def test_a_geometric_decay_is_a_line_of_its_slope() -> None:
    features, labels = shrinking(0.5, 6)
    found = layer_statistics(features, labels)
    assert list(found.layers) == list(range(6))
    assert found.compression_fit.slope == pytest.approx(2.0 * np.log(0.5))
    assert found.compression_fit.r_squared == pytest.approx(1.0)
    # The means stay where they are, at right angles.
    np.testing.assert_allclose(found.discrimination, 1.0)
    assert found.discrimination_fit.slope == pytest.approx(0.0, abs=1e-12)


def test_lines_begin_where_they_are_told_to() -> None:
    features, labels = shrinking(0.5, 5)
    whole = layer_statistics([10.0 * features[0], *features], labels, first_fitted=1)
    bent = layer_statistics([features[4], *features], labels, first_fitted=0)
    assert whole.compression_fit.slope == pytest.approx(2.0 * np.log(0.5))
    assert bent.compression_fit.r_squared < 0.9


def test_every_layer_is_that_of_the_statistics_of_one() -> None:
    features, labels = shrinking(0.7, 3)
    together = layer_statistics(features, labels, held_out=(features, labels))
    for number, layer in enumerate(features):
        moments = ClassMoments(2, 4)
        moments.update(layer, labels)
        alone = separation(moments)
        assert together.compression[number] == alone.compression
        assert together.stable_rank[number] == alone.stable_rank
        assert together.numerical_rank[number] == alone.numerical_rank
    assert together.probe_accuracy is not None
    np.testing.assert_array_equal(together.probe_accuracy, 1.0)
