"""Collapse; oracle: the papers' own programs, and the definitions spelled out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhm.analysis import collapse
from rhm.analysis.collapse import Disagreement, nearest_mean_disagreement, simplex
from rhm.errors import AnalysisError, ConfigError
from tests.analysis.samples import Array, blobs, layers, moments_of


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


@given(st.integers(0, 1 << 20), st.integers(2, 5), st.integers(1, 8))
def test_metrics_are_their_definitions(seed: int, classes: int, features: int) -> None:
    rows, labels = blobs(classes, features, 6, seed=seed)
    means = np.stack([rows[labels == k].mean(0) for k in range(classes)])
    center = rows.mean(0)
    within = (rows - means[labels]).T @ (rows - means[labels]) / len(rows)
    between = (means - center).T @ (means - center) / classes
    weight = np.random.default_rng(seed).normal(size=(classes, features))
    moments = moments_of(rows, labels)
    found = collapse(moments, weight)
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


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("classes", [2, 3])
def test_nc1_does_not_ask_where_the_origin_is(offset: float, classes: int) -> None:
    rows, labels = blobs(classes, 6, 200, spread=0.1)
    expected = collapse(moments_of(rows, labels)).nc1
    assert collapse(moments_of(rows + offset, labels)).nc1 == pytest.approx(expected, rel=1e-5)


def test_a_collapsed_network_has_none_of_each() -> None:
    corners = np.linalg.svd(simplex(4))[0][:, :3]
    corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    labels = np.repeat(np.arange(4), 5)
    found = collapse(moments_of(corners[labels], labels), 2.5 * corners)
    assert found.nc1 == pytest.approx(0.0, abs=1e-12)
    for value in (found.nc2, found.nc3, found.nc3_centered):
        assert value == pytest.approx(0.0, abs=1e-6)


def test_a_single_logit_is_two_opposite_rows() -> None:
    rows, labels = blobs(2)
    weight = np.random.default_rng(0).normal(size=(1, 6))
    moments = moments_of(rows, labels)
    assert collapse(moments, weight) == collapse(moments, np.concatenate([-weight, weight]) / 2)
    assert collapse(moments, torch.from_numpy(weight)).nc2 == pytest.approx(0.0, abs=1e-12)


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


def test_without_covariance_there_is_no_nc1() -> None:
    rows, labels = blobs()
    traces = moments_of(rows, labels, covariance=False)
    assert collapse(traces).nc1 is None


def test_what_cannot_be_compared_is_said_in_one_line() -> None:
    rows, labels = blobs(2)
    with pytest.raises(AnalysisError, match="no samples of class 2, 3"):
        collapse(moments_of(rows, labels, 4))
    with pytest.raises(AnalysisError, match="at least two classes"):
        collapse(moments_of(rows, 0 * labels, 1))
    same = moments_of(np.ones((6, 3)), np.array([0, 1] * 3))
    with pytest.raises(AnalysisError, match="all class means are equal"):
        collapse(same)
    moments = moments_of(rows, labels)
    for shape in ((3, 6), (2, 5), (1, 5)):
        with pytest.raises(ValueError, match="expected a classifier"):
            collapse(moments, np.ones(shape))
    with pytest.raises(AnalysisError, match="zero on the class means"):
        collapse(moments, np.zeros((2, 6)))
    with pytest.raises(ValueError, match="expected logits"):
        nearest_mean_disagreement(moments, rows, lambda h: h)
    with pytest.raises(ConfigError, match="at least 2 classes"):
        simplex(1)
