"""Collapse and separation; oracle: the papers' own programs, and the definitions spelled out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rhm.analysis import ClassMoments, collapse, separation
from rhm.analysis.collapse import Disagreement, nearest_mean_disagreement, simplex
from rhm.errors import AnalysisError, ConfigError

Array = NDArray[Any]


def moments_of(
    features: Array, labels: Array, classes: int | None = None, **options: Any
) -> ClassMoments:
    moments = ClassMoments(classes or int(labels.max()) + 1, features.shape[1], **options)
    moments.update(features, labels)
    return moments


def blobs(
    classes: int = 4, features: int = 6, per_class: int = 30, *, seed: int = 0, spread: float = 1.0
) -> tuple[Array, Array]:
    """Samples around random class means, classes of different sizes."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class + np.arange(classes))
    means = 3.0 * rng.normal(size=(classes, features)) + 1.0
    return means[labels] + spread * rng.normal(size=(len(labels), features)), labels


@pytest.fixture(scope="module")
def recorded(shared_oracles: Path) -> dict[str, Array]:
    """What the papers' programs gave on a small network."""
    with np.load(shared_oracles / "collapse.npz") as file:
        return {name: file[name] for name in file.files}


def layers(inputs: Array, weights: Array) -> list[Array]:
    """The input and the features of each layer, float64."""
    features = [inputs.astype(np.float64)]
    for weight in weights.astype(np.float64):
        features.append(np.maximum(features[-1] @ weight.T, 0.0))
    return features


@pytest.mark.shared
def test_last_features_collapse_as_recorded(recorded: dict[str, Array]) -> None:
    features, labels = layers(recorded["X"], recorded["layers"])[-1], recorded["labels"]
    rng = np.random.default_rng(0)
    for cuts in ([], [40], sorted(rng.choice(96, 9, replace=False))):
        parts = np.split(rng.permutation(96), cuts)
        whole = moments_of(features[parts[0]], labels[parts[0]], 6)
        for part in parts[1:]:
            whole.merge(moments_of(features[part], labels[part], 6))
        found = collapse(whole, recorded["classifier"])
        for name in ("nc1", "nc2", "nc3"):
            assert getattr(found, name) == pytest.approx(float(recorded[name]), rel=1e-5)


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


@given(st.integers(0, 1 << 20), st.integers(2, 5), st.integers(1, 8))
def test_metrics_are_their_definitions(seed: int, classes: int, features: int) -> None:
    rows, labels = blobs(classes, features, 6, seed=seed)
    means = np.stack([rows[labels == k].mean(0) for k in range(classes)])
    center = rows.mean(0)
    within = (rows - means[labels]).T @ (rows - means[labels]) / len(rows)
    between = (means - center).T @ (means - center) / classes
    weight = np.random.default_rng(seed).normal(size=(classes, features))
    moments = moments_of(rows, labels)
    found, layer = collapse(moments, weight), separation(moments)
    expected = np.trace(within @ np.linalg.pinv(between, rcond=1e-12, hermitian=True)) / classes
    assert found.nc1 == pytest.approx(expected, rel=1e-6)
    for value, gram in (
        (found.nc2, weight @ weight.T),
        (found.nc3, weight @ means.T),
        (found.nc3_centered, weight @ (means - center).T),
    ):
        assert value == pytest.approx(
            np.linalg.norm(gram / np.linalg.norm(gram) - simplex(classes)), rel=1e-9
        )
    assert layer.compression == pytest.approx(np.trace(within) / np.trace(between), rel=1e-9)
    assert layer.stable_rank == pytest.approx(
        np.linalg.norm(rows) ** 2 / np.linalg.norm(rows, 2) ** 2, rel=1e-9
    )
    assert layer.numerical_rank == np.linalg.matrix_rank(rows.astype(np.float32))


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("classes", [2, 3])
def test_nc1_does_not_ask_where_the_origin_is(offset: float, classes: int) -> None:
    rows, labels = blobs(classes, 6, 200, spread=0.1)
    expected = collapse(moments_of(rows, labels)).nc1
    assert collapse(moments_of(rows + offset, labels)).nc1 == pytest.approx(expected, rel=1e-5)


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


def test_a_collapsed_network_has_none_of_each() -> None:
    corners = np.linalg.svd(simplex(4))[0][:, :3]
    corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    labels = np.repeat(np.arange(4), 5)
    found = collapse(moments_of(corners[labels], labels), 2.5 * corners)
    assert found.nc1 == pytest.approx(0.0, abs=1e-12)
    for value in (found.nc2, found.nc3, found.nc3_centered):
        assert value == pytest.approx(0.0, abs=1e-6)
    layer = separation(moments_of(corners[labels], labels))
    assert layer.compression == pytest.approx(0.0, abs=1e-12)
    assert layer.discrimination == pytest.approx(4 / 3)
    np.testing.assert_allclose(layer.cosines[~np.eye(4, dtype=bool)], -1 / 3)


def test_a_single_logit_is_two_opposite_rows() -> None:
    rows, labels = blobs(2)
    weight = np.random.default_rng(0).normal(size=(1, 6))
    moments = moments_of(rows, labels)
    assert collapse(moments, weight) == collapse(moments, np.concatenate([-weight, weight]) / 2)
    assert collapse(moments, torch.from_numpy(weight)).nc2 == pytest.approx(0.0, abs=1e-12)


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


def test_nc4_counts_where_classifier_and_nearest_mean_part() -> None:
    rows, labels = blobs(3, spread=3.0)
    moments = moments_of(rows, labels)
    weight = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 6)))
    logits = rows @ weight.numpy().T
    means = moments.means.numpy()
    nearest = np.linalg.norm(rows[:, None] - means, axis=-1).argmin(axis=1)
    found = nearest_mean_disagreement(moments, rows, lambda h: h @ weight.T)
    assert found == Disagreement(len(rows), int((nearest != logits.argmax(axis=1)).sum()))
    assert 0.0 < found.nc4 < 1.0
    first, second = (
        nearest_mean_disagreement(moments, part, lambda h: h @ weight.T)
        for part in (rows[:40], rows[40:])
    )
    assert first + second == found
    # A classifier of the means themselves: |h - mu|^2 without the part that is all classes'.
    by_mean = nearest_mean_disagreement(
        moments, rows, lambda h: h @ moments.means.T - (moments.means**2).sum(1) / 2
    )
    assert by_mean.nc4 == 0.0
    assert np.isnan(Disagreement().nc4)


def test_nc4_of_a_single_logit() -> None:
    rows, labels = blobs(2)
    moments = moments_of(rows, labels)
    gap = moments.means[1] - moments.means[0]
    middle = moments.means.mean(dim=0)
    found = nearest_mean_disagreement(moments, rows, lambda h: ((h - middle) @ gap)[:, None])
    assert found.nc4 == 0.0
    opposite = nearest_mean_disagreement(moments, rows, lambda h: ((middle - h) @ gap)[:, None])
    assert opposite.nc4 == 1.0


def test_without_covariance_there_is_no_nc1_and_no_rank() -> None:
    rows, labels = blobs()
    traces = moments_of(rows, labels, covariance=False)
    assert collapse(traces).nc1 is None
    found, full = separation(traces), separation(moments_of(rows, labels))
    assert (found.stable_rank, found.numerical_rank) == (None, None)
    assert found.compression == pytest.approx(full.compression)


def test_what_cannot_be_compared_is_said_in_one_line() -> None:
    rows, labels = blobs(2)
    with pytest.raises(AnalysisError, match="no samples of class 2, 3"):
        separation(moments_of(rows, labels, 4))
    with pytest.raises(AnalysisError, match="at least two classes"):
        collapse(moments_of(rows, 0 * labels, 1))
    same = moments_of(np.ones((6, 3)), np.array([0, 1] * 3))
    for measure in (separation, collapse):
        with pytest.raises(AnalysisError, match="all class means are equal"):
            measure(same)
    moments = moments_of(rows, labels)
    for shape in ((3, 6), (2, 5), (1, 5)):
        with pytest.raises(ValueError, match="expected a classifier"):
            collapse(moments, np.ones(shape))
    with pytest.raises(AnalysisError, match="zero on the class means"):
        collapse(moments, np.zeros((2, 6)))
    with pytest.raises(ValueError, match="choose samples, classes"):
        separation(moments, weighting="pixels")
    with pytest.raises(ValueError, match="expected logits"):
        nearest_mean_disagreement(moments, rows, lambda h: h)
    with pytest.raises(ConfigError, match="at least 2 classes"):
        simplex(1)
