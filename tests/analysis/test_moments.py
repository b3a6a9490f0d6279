"""Laws of class moments; oracle: two passes over all features at once."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rhm.analysis import ClassMoments
from rhm.errors import AnalysisError


def data(
    samples: int, features: int = 7, classes: int = 3, *, seed: int = 0, offset: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features around a mean a class, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    means = rng.normal(size=(classes, features))
    return offset + means[labels] + rng.normal(size=(samples, features)), labels


def two_passes(
    features: NDArray[Any], labels: NDArray[Any], classes: int
) -> dict[str, NDArray[Any]]:
    """The definitions, one after another."""
    rows = features.astype(np.float64)
    means = np.stack(
        [
            rows[labels == k].mean(axis=0) if (labels == k).any() else 0 * rows[0]
            for k in range(classes)
        ]
    )
    deviations = rows - means[labels]
    squares = np.sum(deviations**2, axis=1)
    return {
        "counts": np.bincount(labels, minlength=classes),
        "means": means,
        "spreads": np.array([squares[labels == k].sum() for k in range(classes)]),
        "scatter": deviations.T @ deviations,
    }


def assert_same(moments: ClassMoments, expected: dict[str, Any], rtol: float = 1e-10) -> None:
    found = moments.state_dict()
    assert set(found) <= set(expected)
    for name, tensor in found.items():
        wanted = np.asarray(expected[name])
        close = rtol * max(float(np.abs(wanted).max()), 1e-300)
        np.testing.assert_allclose(tensor.cpu().numpy(), wanted, rtol=rtol, atol=close)


@given(
    st.integers(1, 60),
    st.lists(st.integers(0, 60), max_size=5),
    st.integers(0, 1 << 30),
    st.sampled_from([0.0, 1e3]),
)
def test_merged_in_any_order_equals_all_at_once(
    samples: int, cuts: list[int], seed: int, offset: float
) -> None:
    features, labels = data(samples, seed=seed, offset=offset)
    expected = two_passes(features, labels, 3)
    whole = ClassMoments(3, 7)
    whole.update(features, labels)
    assert_same(whole, expected)
    bounds = sorted({0, *(min(cut, samples) for cut in cuts), samples})
    parts = []
    for start, stop in itertools.pairwise(bounds):
        part = ClassMoments(3, 7)
        part.update(features[start:stop], labels[start:stop])
        parts.append(part)
    merged = ClassMoments(3, 7)
    for index in np.random.default_rng(seed).permutation(len(parts)):
        assert merged.merge(parts[index]) is merged
    assert_same(merged, expected)
    batched = ClassMoments(3, 7)
    for start, stop in itertools.pairwise(bounds):
        batched.update(features[start:stop], labels[start:stop])
    assert_same(batched, expected)


def test_features_far_from_zero_lose_nothing() -> None:
    features, labels = data(5000, features=300, offset=1e6, seed=1)
    moments = ClassMoments(3, 300)
    moments.update(features, labels)
    assert_same(moments, two_passes(features, labels, 3), rtol=1e-9)


@pytest.mark.parametrize("kind", ["float16", "float32", "bfloat16", "int32", "numpy float32"])
def test_any_type_of_features_is_summed_in_float64(kind: str) -> None:
    features, labels = data(400)
    features *= 5
    if kind.startswith("numpy"):
        given_features: Any = features.astype(np.float32)
        exact = given_features.astype(np.float64)
    else:
        given_features = torch.from_numpy(features).to(getattr(torch, kind))
        exact = given_features.double().numpy()
    moments = ClassMoments(3, 7)
    moments.update(given_features, torch.from_numpy(labels))
    assert_same(moments, two_passes(exact, labels, 3))


def test_features_that_are_given_stay_as_they_are() -> None:
    features, labels = data(50)
    tensor = torch.from_numpy(features.copy()).requires_grad_()
    moments = ClassMoments(3, 7)
    moments.update(tensor, labels)
    np.testing.assert_array_equal(tensor.detach().numpy(), features)
    assert not moments.means.requires_grad


def test_arrays_of_any_layout_are_taken() -> None:
    features, labels = data(60)
    expected = two_passes(features, labels, 3)
    frozen = features.copy()
    frozen.flags.writeable = False
    for rows in (features[::-1][::-1], features.astype(">f8"), np.asfortranarray(features), frozen):
        moments = ClassMoments(3, 7)
        moments.update(rows, labels.astype(">i8"))
        assert_same(moments, expected)


def test_without_covariance_the_rest_is_the_same() -> None:
    features, labels = data(200)
    traces = ClassMoments(3, 7, covariance=False)
    traces.update(features, labels)
    assert traces.scatter is None
    assert set(traces.state_dict()) == {"counts", "means", "spreads"}
    assert_same(traces, two_passes(features, labels, 3))
    with pytest.raises(ValueError, match="cannot be merged"):
        traces.merge(ClassMoments(3, 7))


def test_ignored_samples_do_not_count() -> None:
    features, labels = data(100)
    shown = labels.copy()
    shown[::3] = 255
    features[::3] = np.nan
    moments = ClassMoments(3, 7)
    moments.update(features, shown, ignore_index=255)
    kept = shown != 255
    assert_same(moments, two_passes(features[kept], labels[kept], 3))
    before = moments.state_dict()
    moments.update(features[::3], shown[::3], ignore_index=255)
    assert all(torch.equal(before[name], now) for name, now in moments.state_dict().items())


def test_the_state_makes_the_moments_again() -> None:
    features, labels = data(100)
    moments = ClassMoments(3, 7)
    moments.update(features, labels)
    again = ClassMoments.from_state_dict(moments.state_dict())
    assert_same(again, {k: v.numpy() for k, v in moments.state_dict().items()}, rtol=0.0)
    again.update(features, labels)
    assert moments.samples == 100
    assert again.samples == 200
    for state in (
        {},
        {"means": torch.zeros(3, 7)},
        moments.state_dict() | {"counts": torch.ones(2)},
    ):
        with pytest.raises(ValueError, match="not a state of class moments"):
            ClassMoments.from_state_dict(state)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_are_refused_and_leave_no_trace(bad: float) -> None:
    features, labels = data(100)
    moments = ClassMoments(3, 7)
    moments.update(features, labels)
    before = moments.state_dict()
    features[70, 3] = bad
    with pytest.raises(AnalysisError, match="not all finite numbers"):
        moments.update(features, labels)
    assert all(torch.equal(before[name], now) for name, now in moments.state_dict().items())


def test_what_does_not_fit_is_refused() -> None:
    moments = ClassMoments(2, 3)
    for features, labels in (
        (np.zeros((4, 2)), np.zeros(4, int)),
        (np.zeros(4), np.zeros(4, int)),
        (np.zeros((4, 3)), np.zeros(3, int)),
    ):
        with pytest.raises(ValueError, match=r"expected features \(N, 3\)"):
            moments.update(features, labels)
    for label in (-1, 2):
        with pytest.raises(ValueError, match="labels must be from 0 to 1"):
            moments.update(np.zeros((1, 3)), np.array([label]))
    with pytest.raises(ValueError, match="integer labels"):
        moments.update(np.zeros((1, 3)), np.zeros(1))
    with pytest.raises(ValueError, match="no moments of 0 classes"):
        ClassMoments(0, 3)
    moments.update(np.zeros((0, 3)), np.zeros(0, int))
    assert moments.samples == 0
    with pytest.raises(ValueError, match="2 classes x 3 features with covariance and of 2 classes"):
        moments.merge(ClassMoments(2, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_gives_the_same() -> None:
    features, labels = data(3000, features=64)
    moments = ClassMoments(3, 64, device="cuda")
    moments.update(torch.from_numpy(features).cuda(), torch.from_numpy(labels).cuda())
    moments.merge(ClassMoments(3, 64))
    assert moments.scatter is not None
    assert moments.scatter.is_cuda
    assert_same(moments, two_passes(features, labels, 3))
