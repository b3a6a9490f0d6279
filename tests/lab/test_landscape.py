"""Curvature against automatic and finite differences; saddles go down, minimisers do not."""

import itertools

import numpy as np
import pytest
import torch

from rhm.errors import ConfigError
from rhm.lab.landscape import (
    MODELS,
    beside,
    curvature,
    grouped,
    hessian_product,
    riemannian_hessian,
    rotations,
    run_sphere,
    saddle_points,
)
from rhm.lab.sphere import (
    SpherePoint,
    UnconstrainedFeatureModel,
    cross_entropy,
    descend,
    etf_distance,
    normalised,
    random_points,
    riemannian_gradient,
    tangent,
)

SMALL = UnconstrainedFeatureModel(4, 5, temperature=2.0, samples_per_class=2)
SADDLES = [
    (model, name)
    for model in (*MODELS, UnconstrainedFeatureModel(2, 2), UnconstrainedFeatureModel(6, 7, 3.0))
    for name in saddle_points(model)
]


def one_point(model: UnconstrainedFeatureModel, seed: int = 0) -> SpherePoint:
    classifiers, features = random_points(model, 1, rng=np.random.default_rng(seed))
    return SpherePoint(classifiers[0], features[0])


def directions(point: SpherePoint, count: int, seed: int = 1) -> SpherePoint:
    rng = np.random.default_rng(seed)
    classifiers, features = (
        tangent(rng.standard_normal((count, *block.shape)), block) for block in point
    )
    return SpherePoint(classifiers, features)


def loss_along(
    model: UnconstrainedFeatureModel, point: SpherePoint, direction: SpherePoint
) -> float:
    moved = SpherePoint(*(normalised(x + v) for x, v in zip(point, direction, strict=True)))
    return float(cross_entropy(model, moved)[0])


@pytest.mark.parametrize("seed", range(3))
def test_hessian_is_that_of_automatic_differentiation(seed: int) -> None:
    # Oracle: at 0, the Hessian of the loss of normalised x + v over tangent v is Riemannian.
    point = one_point(SMALL, seed)
    along = directions(point, 1, seed)
    at, target = [torch.from_numpy(x) for x in point], torch.from_numpy(SMALL.labels)

    def pulled_back(size: torch.Tensor) -> torch.Tensor:
        w, h = (
            torch.nn.functional.normalize(x + size * torch.from_numpy(v[0]), dim=-1)
            for x, v in zip(at, along, strict=True)
        )
        return torch.nn.functional.cross_entropy(SMALL.temperature * (h @ w.T), target)

    size = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(pulled_back(size), size, create_graph=True)
    (second,) = torch.autograd.grad(first, size)
    ours = riemannian_hessian(SMALL, point, along)
    assert ours[0] == pytest.approx(float(second), rel=1e-10)


def test_hessian_product_is_the_change_of_the_gradient() -> None:
    # Oracle: central differences of the gradient along a geodesic, brought back by projection.
    point, size = one_point(SMALL), 1e-5
    along = directions(point, 1)
    sides = [
        riemannian_gradient(
            SMALL,
            SpherePoint(*(normalised(x + s * v[0]) for x, v in zip(point, along, strict=True))),
        )
        for s in (size, -size)
    ]
    product = hessian_product(SMALL, point, along)
    for ahead, behind, at, ours in zip(*sides, point, product, strict=True):
        wanted = tangent((ahead - behind) / (2.0 * size), at)
        np.testing.assert_allclose(ours[0], wanted, atol=1e-9)


def test_spectrum_is_that_of_the_quadratic_form() -> None:
    point = one_point(SMALL)
    found = curvature(SMALL, point)
    classifiers, features = found.steepest
    assert len(found.eigenvalues) == (4 + 8) * (5 - 1)
    assert np.square(classifiers).sum() + np.square(features).sum() == pytest.approx(1.0)
    for block, at in zip(found.steepest, point, strict=True):
        np.testing.assert_allclose((block * at).sum(axis=-1), 0.0, atol=1e-14)
    assert riemannian_hessian(SMALL, point, found.steepest) == pytest.approx(found.smallest)
    # Rayleigh: along no direction does the form leave the range of the spectrum.
    some = directions(point, 200)
    squared = sum(np.square(block).sum(axis=(-1, -2)) for block in some)
    quotients = riemannian_hessian(SMALL, point, some) / squared
    assert found.smallest <= quotients.min()
    assert quotients.max() <= found.eigenvalues[-1]


def test_trace_of_the_hessian_is_the_sum_over_any_basis() -> None:
    # Law: summed over all axes, projected, the form is the trace, whatever basis it was taken in.
    point = one_point(SMALL)
    count, width = 12, SMALL.num_features
    axes = np.eye(count * width).reshape(-1, count, width)
    every = SpherePoint(
        *(tangent(x, at) for x, at in zip((axes[:, :4], axes[:, 4:]), point, strict=True))
    )
    trace = riemannian_hessian(SMALL, point, every).sum()
    assert curvature(SMALL, point).eigenvalues.sum() == pytest.approx(trace)


def test_curvature_does_not_change_under_rotation() -> None:
    point = one_point(SMALL)
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((5, 5)))[0]
    turned = SpherePoint(*(block @ turn for block in point))
    np.testing.assert_allclose(
        curvature(SMALL, turned).eigenvalues, curvature(SMALL, point).eigenvalues, atol=1e-13
    )


@pytest.mark.parametrize(("model", "name"), SADDLES, ids=str)
def test_saddles_are_critical_and_strict(model: UnconstrainedFeatureModel, name: str) -> None:
    point = saddle_points(model)[name]
    for block in riemannian_gradient(model, point):
        assert np.abs(block).max() < 1e-14
    found = curvature(model, point)
    assert found.smallest < -1e-3
    down = SpherePoint(*(1e-2 * block for block in found.steepest))
    assert loss_along(model, point, down) < float(cross_entropy(model, point)[0])


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_minimisers_have_no_way_down_and_are_one_but_for_rotation(
    model: UnconstrainedFeatureModel,
) -> None:
    start = random_points(model, 2, rng=np.random.default_rng(0))
    ends = zip(*descend(model, start).end, strict=True)
    best = grouped(model, model.num_classes)
    assert etf_distance(best.classifiers) < 1e-14
    assert float(cross_entropy(model, best)[0]) == pytest.approx(model.optimum, rel=1e-13)
    for end in (best, *itertools.starmap(SpherePoint, ends)):
        found = curvature(model, end)
        assert found.smallest > -1e-8
        # As many flat directions as there are turns of a simplex, and not one more.
        assert np.abs(found.eigenvalues[: rotations(model)]).max() < 1e-8
        assert found.eigenvalues[rotations(model)] > 1e-3


@pytest.mark.parametrize("name", saddle_points(SMALL))
def test_descent_leaves_saddles(name: str) -> None:
    point = saddle_points(SMALL)[name]
    on_it = descend(SMALL, SpherePoint(*(block[None] for block in point)))
    assert on_it.iterations.tolist() == [0]
    start = beside(SMALL, point, 10, rng=np.random.default_rng(3))
    runs = descend(SMALL, start)
    assert np.abs(runs.loss[0] - on_it.loss[0]).max() < 0.02
    assert runs.converged.all()
    assert runs.etf_distance[-1].max() < 1e-3


def test_experiment_finds_what_the_paper_proves() -> None:
    chosen = (MODELS[0], MODELS[1])
    result = run_sphere(chosen, starts=20, seed=5)
    for row, model in zip(result.rows(), chosen, strict=True):
        assert row["classes"] == model.num_classes
        assert row["starts"] == row["converged"] == 20
        assert row["etf_distance"] < 1e-3
        assert row["escaped_etf_distance"] < 1e-3
        assert row["minimiser_eigenvalue"] > -1e-8
        assert row["minimiser_gap"] > 1e-3
        assert row["saddle_gradient"] < 1e-14
        assert row["saddle_eigenvalue"] < -1e-3
    assert run_sphere(chosen, starts=20, seed=5).rows() == result.rows()


def test_impossible_experiments_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 model"):
        run_sphere(())
    with pytest.raises(ConfigError, match="at least 1 start is needed, got 0"):
        run_sphere(starts=0)
    with pytest.raises(
        ConfigError, match="have 7020 dimensions: the Hessian can be decomposed up to 2000"
    ):
        run_sphere([UnconstrainedFeatureModel(30, 40)])
    for groups in (0, 5):
        with pytest.raises(ConfigError, match="groups must be from 1 to 4"):
            grouped(SMALL, groups)
