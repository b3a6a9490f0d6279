"""Compression and discrimination; oracle: the papers' own programs, and the definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhm.analysis import ClassMoments, collapse, separation
from rhm.analysis.collapse import simplex
from rhm.errors import AnalysisError
from tests.analysis.samples import Array, blobs, layers, moments_of


@pytest.mark.shared
def test_layers_discriminate_as_recorded(recorded: dict[str, Array]) -> None:
    for features, expected in zip(
        layers(recorded["X"], recorded["layers"])[1:], recorded["discrimination"], strict=True
    ):
        found = separation(moments_of(features, recorded["labels"])).discrimination
        assert found == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.shared
def test_layers_compress_as_recorded(recorded: dict[str, Array]) -> None:
    """The recording program writes each class's mean over its first sample, in place.

    So the recorded inputs hold the means there, from which the samples are had again; and what
    was recorded of the spread within classes counts those samples as if they lay on the mean.
    """
    labels, inputs = recorded["labels"], recorded["X"].astype(np.float64)
    firsts = np.array([np.flatnonzero(labels == k)[0] for k in range(6)])
    for k, first in enumerate(firsts):
        members = labels == k
        inputs[first] = members.sum() * inputs[first] - (inputs[members].sum(0) - inputs[first])
    for layer, features in enumerate(layers(inputs, recorded["layers"])):
        moments = moments_of(features, labels)
        assert moments.scatter is not None
        left_out = torch.from_numpy(features[firsts]) - moments.means
        moments.scatter -= left_out.T @ left_out
        moments.spreads -= (left_out**2).sum(dim=1)
        found = separation(moments)
        assert found.trace_within == pytest.approx(float(recorded["trace_within"][layer]), rel=1e-5)
        expected = float(recorded["trace_between"][layer])
        assert found.trace_between == pytest.approx(expected, rel=1e-5)
        assert found.compression == pytest.approx(float(recorded["compression"][layer]), rel=1e-5)
        assert collapse(moments).nc1 == pytest.approx(float(recorded["nc1_pinv"][layer]), rel=1e-5)


def test_a_rank_does_not_fall_because_more_is_looked_at() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(1000) % 2
    moments = moments_of(rng.normal(size=(1000, 4)) * [1, 1, 1, 0.01] + labels[:, None], labels)
    for _ in range(14):
        moments.merge(ClassMoments.from_state_dict(moments.state_dict()))
    assert moments.samples > 1e7
    assert separation(moments).numerical_rank == 4


def test_rounding_is_no_difference_between_classes() -> None:
    with pytest.raises(AnalysisError, match="all class means are equal"):
        separation(moments_of(np.full((7, 3), 0.1), np.array([0, 1, 0, 1, 0, 1, 1])))


def test_classes_of_one_weight_do_not_ask_for_their_sizes() -> None:
    rows, labels = blobs(3, per_class=20)
    again = np.concatenate([np.arange(len(rows)), np.flatnonzero(labels == 1)])
    plain, doubled = moments_of(rows, labels), moments_of(rows[again], labels[again])
    by_class = separation(plain, weighting="classes").compression
    assert separation(doubled, weighting="classes").compression == pytest.approx(by_class)
    assert separation(doubled).compression != pytest.approx(by_class, rel=1e-3)
    even = np.concatenate([np.flatnonzero(labels == k)[:20] for k in range(3)])
    balanced = moments_of(rows[even], labels[even])
    assert separation(balanced).compression == pytest.approx(
        separation(balanced, weighting="classes").compression
    )


@given(st.integers(0, 1 << 20), st.integers(2, 5), st.integers(1, 8))
def test_a_layers_numbers_are_their_definitions(seed: int, classes: int, features: int) -> None:
    rows, labels = blobs(classes, features, 6, seed=seed)
    means = np.stack([rows[labels == k].mean(0) for k in range(classes)])
    within = np.mean(np.sum((rows - means[labels]) ** 2, axis=1))
    between = np.mean(np.sum((means - rows.mean(0)) ** 2, axis=1))
    units = means / np.linalg.norm(means, axis=1, keepdims=True)
    found = separation(moments_of(rows, labels))
    assert found.trace_within == pytest.approx(within, rel=1e-9)
    assert found.trace_between == pytest.approx(between, rel=1e-9)
    assert found.compression == pytest.approx(within / between, rel=1e-9)
    np.testing.assert_allclose(found.cosines, units @ units.T, atol=1e-9)
    nearest = max(units[k] @ units[j] for k in range(classes) for j in range(k))
    assert found.discrimination == pytest.approx(1.0 - nearest, abs=1e-9)
    assert found.stable_rank == pytest.approx(
        np.linalg.norm(rows) ** 2 / np.linalg.norm(rows, 2) ** 2, rel=1e-9
    )
    assert found.numerical_rank == np.linalg.matrix_rank(rows.astype(np.float32))


def test_collapsed_features_are_compressed_to_nothing_and_discriminated_most() -> None:
    corners = np.linalg.svd(simplex(4))[0][:, :3]
    corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    labels = np.repeat(np.arange(4), 5)
    layer = separation(moments_of(corners[labels], labels))
    assert layer.compression == pytest.approx(0.0, abs=1e-12)
    assert layer.discrimination == pytest.approx(4 / 3)
    np.testing.assert_allclose(layer.cosines[~np.eye(4, dtype=bool)], -1 / 3)


def test_without_covariance_there_is_no_rank() -> None:
    rows, labels = blobs()
    found = separation(moments_of(rows, labels, covariance=False))
    assert (found.stable_rank, found.numerical_rank) == (None, None)
    assert found.compression == pytest.approx(separation(moments_of(rows, labels)).compression)


def test_features_that_cannot_be_separated_are_said_in_one_line() -> None:
    rows, labels = blobs(2)
    with pytest.raises(AnalysisError, match="no samples of class 2, 3"):
        separation(moments_of(rows, labels, 4))
    with pytest.raises(AnalysisError, match="all class means are equal"):
        separation(moments_of(np.ones((6, 3)), np.array([0, 1] * 3)))
    with pytest.raises(ValueError, match="choose samples, classes"):
        separation(moments_of(rows, labels), weighting="pixels")
