"""Descent on spheres: derivatives against automatic ones, laws of symmetry, the way to collapse."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rhm.analysis.simplex import simplex_etf
from rhm.errors import ConfigError
from rhm.lab.landscape import MODELS
from rhm.lab.sphere import (
    SpherePoint,
    UnconstrainedFeatureModel,
    UnconstrainedFeatures,
    cross_entropy,
    descend,
    etf_distance,
    random_points,
    riemannian_gradient,
    tangent,
)

SMALL = UnconstrainedFeatureModel(4, 6, temperature=2.5, samples_per_class=3)


@st.composite
def models(draw: st.DrawFn) -> UnconstrainedFeatureModel:
    classes = draw(st.integers(2, 6))
    width = draw(st.integers(max(2, classes - 1), 8))
    temperature = draw(st.floats(0.05, 40.0))
    return UnconstrainedFeatureModel(classes, width, temperature, draw(st.integers(1, 4)))


def points(model: UnconstrainedFeatureModel, count: int, seed: int = 0) -> SpherePoint:
    return random_points(model, count, rng=np.random.default_rng(seed))


def rotation(width: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))[0]


def torch_loss(model: UnconstrainedFeatureModel, w: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    logits = model.temperature * (h @ w.T)
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(model.labels))


@given(models(), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_loss_and_gradient_are_those_of_automatic_differentiation(
    model: UnconstrainedFeatureModel, seed: int
) -> None:
    point = points(model, 2, seed)
    loss, _ = cross_entropy(model, point)
    gradient = riemannian_gradient(model, point)
    for number in range(2):
        blocks = [torch.from_numpy(block[number]).requires_grad_() for block in point]
        expected = torch_loss(model, *blocks)
        expected.backward()  # type: ignore[no-untyped-call]
        assert loss[number] == pytest.approx(expected.item(), rel=1e-10, abs=1e-14)
        for ours, block in zip(gradient, blocks, strict=True):
            assert block.grad is not None
            wanted = tangent(block.grad.numpy(), block.detach().numpy())
            np.testing.assert_allclose(ours[number], wanted, rtol=1e-9, atol=1e-13)


def test_small_losses_keep_their_digits() -> None:
    # Analytic: where all classes are equally far, the loss is log(1 + (K - 1) exp(-margin)).
    model = UnconstrainedFeatureModel(2, 2, temperature=100.0)
    classifiers = np.array([[1.0, 0.0], [-1.0, 0.0]])
    loss, residual = cross_entropy(model, SpherePoint(classifiers, classifiers[model.labels]))
    assert loss == pytest.approx(math.exp(-200.0), rel=1e-12)
    assert residual[0] == pytest.approx([-math.exp(-200.0), math.exp(-200.0)], rel=1e-12)


def test_huge_temperatures_do_not_overflow() -> None:
    model = UnconstrainedFeatureModel(3, 4, temperature=1e6)
    loss, residual = cross_entropy(model, points(model, 5))
    assert np.isfinite(loss).all()
    assert np.isfinite(residual).all()


@given(st.integers(0, 99))
def test_gradient_is_tangent_and_turns_with_the_point(seed: int) -> None:
    point, turn = points(SMALL, 3, seed), rotation(SMALL.num_features, seed)
    gradient = riemannian_gradient(SMALL, point)
    for block, at in zip(gradient, point, strict=True):
        np.testing.assert_allclose((block * at).sum(axis=-1), 0.0, atol=1e-15)
    turned = SpherePoint(*(block @ turn for block in point))
    np.testing.assert_allclose(
        cross_entropy(SMALL, turned)[0], cross_entropy(SMALL, point)[0], rtol=1e-12
    )
    for ours, block in zip(riemannian_gradient(SMALL, turned), gradient, strict=True):
        np.testing.assert_allclose(ours, block @ turn, atol=1e-14)


def test_descent_turns_with_its_start() -> None:
    start, turn = points(SMALL, 2), rotation(SMALL.num_features)
    runs = descend(SMALL, start, steps=20)
    turned = descend(SMALL, SpherePoint(*(block @ turn for block in start)), steps=20)
    np.testing.assert_allclose(turned.loss, runs.loss, rtol=1e-9)
    np.testing.assert_allclose(turned.end.classifiers, runs.end.classifiers @ turn, atol=1e-9)


def test_starts_do_not_see_each_other() -> None:
    start = points(SMALL, 3)
    together = descend(SMALL, start, steps=30)
    for number in range(3):
        alone = descend(SMALL, SpherePoint(*(block[[number]] for block in start)), steps=30)
        np.testing.assert_allclose(alone.end.features[0], together.end.features[number], atol=1e-12)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_every_random_start_collapses_to_a_simplex_etf(model: UnconstrainedFeatureModel) -> None:
    runs = descend(model, points(model, 20), steps=4000)
    assert runs.converged.all()
    assert runs.etf_distance[-1].max() < 1e-3
    assert runs.collapse.max() < 1e-3
    assert runs.alignment.max() < 1e-3
    # The theorem's least loss, which no iterate may undercut.
    np.testing.assert_allclose(runs.loss[-1], model.optimum, rtol=1e-12)
    assert runs.loss.min() >= model.optimum * (1.0 - 1e-12)


@pytest.mark.parametrize("temperature", [0.3, 30.0, 100.0])
def test_any_temperature_converges(temperature: float) -> None:
    model = UnconstrainedFeatureModel(4, 8, temperature)
    runs = descend(model, points(model, 5), steps=4000)
    assert runs.converged.all()
    assert runs.etf_distance[-1].max() < 1e-3


@given(models(), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_loss_never_rises_and_vectors_stay_on_the_spheres(
    model: UnconstrainedFeatureModel, seed: int
) -> None:
    runs = descend(model, points(model, 3, seed), steps=60)
    assert (np.diff(runs.loss, axis=0) <= 1e-13 * (1.0 + model.temperature) * runs.loss[:-1]).all()
    for block in runs.end:
        np.testing.assert_allclose(np.linalg.norm(block, axis=-1), 1.0, rtol=1e-13)


def test_same_start_same_result_and_lengths_do_not_matter() -> None:
    start = points(SMALL, 2)
    runs = descend(SMALL, start, steps=15)
    again = descend(SMALL, SpherePoint(*(block.copy() for block in start)), steps=15)
    np.testing.assert_array_equal(runs.end.features, again.end.features)
    scaled = descend(
        SMALL, SpherePoint(start.classifiers * 1e-200, start.features * 1e200), steps=15
    )
    np.testing.assert_allclose(scaled.end.features, runs.end.features, atol=1e-10)


def test_a_start_stands_still_once_it_has_converged() -> None:
    runs = descend(SMALL, points(SMALL, 6), steps=4000)
    first = int(runs.iterations.argmin())
    last = runs.iterations[first]
    assert last < runs.iterations.max()
    assert np.ptp(runs.loss[last:, first]) == 0.0
    assert runs.gradient_norm[last, first] <= 1e-8 * runs.loss[last, first]
    assert runs.gradient_norm[last - 1, first] > 1e-8 * runs.loss[last - 1, first]


def test_too_few_steps_are_reported_as_such() -> None:
    runs = descend(SMALL, points(SMALL, 2), steps=3)
    assert not runs.converged.any()
    assert runs.iterations.tolist() == [3, 3]
    assert runs.loss.shape == runs.etf_distance.shape == runs.gradient_norm.shape == (4, 2)


def test_etf_distance_is_a_difference_of_cosines() -> None:
    half = math.sqrt(0.5)
    assert etf_distance(np.array([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(0.0)
    assert etf_distance(np.array([[1.0, 0.0], [-half, half]])) == pytest.approx(1.0 - half)
    assert etf_distance(np.array([[1.0, 0.0], [1.0, 0.0]])) == pytest.approx(2.0)


@given(st.integers(2, 30))
def test_a_simplex_is_equiangular_tight_and_centred(classes: int) -> None:
    gram = simplex_etf(classes)
    assert np.diag(gram) == pytest.approx(1.0)
    assert gram[~np.eye(classes, dtype=bool)] == pytest.approx(-1.0 / (classes - 1))
    assert gram.sum(axis=0) == pytest.approx(0.0, abs=1e-13)
    # A tight frame's Gram matrix is a multiple of a projection.
    np.testing.assert_allclose(gram @ gram, gram * classes / (classes - 1), atol=1e-12)


def test_collapse_and_alignment_measure_the_farthest_feature() -> None:
    model = UnconstrainedFeatureModel(2, 2, samples_per_class=2)
    classifiers = np.array([[[1.0, 0.0], [-1.0, 0.0]]])
    features = np.array([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [-1.0, 0.0]]])
    start, curve = SpherePoint(classifiers, features), np.zeros((1, 1))
    runs = UnconstrainedFeatures(
        model, start, start, curve, curve, curve, np.zeros(1, np.intp), np.ones(1, np.bool_)
    )
    assert runs.collapse == pytest.approx(math.sqrt(0.5))
    assert runs.alignment == pytest.approx(math.sqrt(2.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1, 4), "at least 2 classes, got 1"),
        ((10, 8), "choose at least 9"),
        ((2, 1), "choose at least 2"),
        ((3, 2, 0.0), "temperature must be a finite number greater than 0, got 0.0"),
        ((3, 2, math.nan), "temperature must be a finite number greater than 0, got nan"),
        ((3, 2, math.inf), "temperature must be a finite number greater than 0, got inf"),
        ((3, 2, 1.0, 0), "samples_per_class must be at least 1, got 0"),
    ],
)
def test_impossible_models_are_refused(values: tuple[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UnconstrainedFeatureModel(*values)


def test_impossible_descents_are_refused() -> None:
    start = points(SMALL, 2)
    with pytest.raises(ConfigError, match="at least 1 start is needed, got 0"):
        points(SMALL, 0)
    with pytest.raises(ConfigError, match="steps must be at least 1, got 0"):
        descend(SMALL, start, steps=0)
    with pytest.raises(ConfigError, match="tolerance must be greater than 0, got nan"):
        descend(SMALL, start, tolerance=math.nan)
    with pytest.raises(ConfigError, match="simplex needs at least 2 classes"):
        simplex_etf(1)


def test_starts_without_directions_are_refused() -> None:
    start = points(SMALL, 2)
    for bad in (math.nan, math.inf, 0.0):
        features = start.features.copy()
        features[1, 2] = bad
        with pytest.raises(ValueError, match="zero or not finite"):
            descend(SMALL, SpherePoint(start.classifiers, features))
    with pytest.raises(ValueError, match=r"starts must have shape \(S, 12, 6\), got \(1, 12, 6\)"):
        descend(SMALL, SpherePoint(start.classifiers, start.features[:1]))
    with pytest.raises(ValueError, match="starts must have shape"):
        descend(SMALL, SpherePoint(start.classifiers[0], start.features[0]))
