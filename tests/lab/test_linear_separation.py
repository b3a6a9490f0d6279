"""Progressive separation: the laws of arXiv 2311.02960 on trained networks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rhm.errors import ConfigError
from rhm.lab.linear_separation import (
    DeepLinearSeparation,
    nearly_orthogonal_data,
    run_linear_separation,
    separate,
)


def assert_separates(found: DeepLinearSeparation) -> None:
    compression = found.statistics.compression_fit
    discrimination = found.statistics.discrimination_fit
    assert found.loss < 1e-8
    assert compression.r_squared > 0.99
    assert compression.high < 0.0
    assert discrimination.r_squared > 0.9
    assert discrimination.low > 0.0


@pytest.mark.parametrize(
    ("init_scale", "output_scale", "step_size"),
    [(0.1, 100.0, 0.1), (0.2, 1.0, 1.0), (0.3, 1.0, 1.0), (0.5, 1.0, 1.0)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_compression_is_geometric_and_discrimination_linear(
    init_scale: float, output_scale: float, step_size: float, seed: int
) -> None:
    samples, labels = nearly_orthogonal_data(3, 10, 50, seed=seed)
    found = separate(
        samples,
        labels,
        init_scale=init_scale,
        output_scale=output_scale,
        step_size=step_size,
        seed=seed + 1,
    )
    assert_separates(found)
    assert len(found.statistics.layers) == 6


def test_more_classes_and_layers_separate_the_same_way() -> None:
    samples, labels = nearly_orthogonal_data(5, 10, 50)
    assert_separates(separate(samples, labels, depth=8, init_scale=0.5))


def test_the_assumptions_hold_the_better_the_smaller_the_start() -> None:
    samples, labels = nearly_orthogonal_data(3, 10, 50)
    small, large = (separate(samples, labels, init_scale=scale) for scale in (0.2, 0.5))
    assert small.minimum_norm_residual < 0.1
    assert small.minimum_norm_residual < large.minimum_norm_residual
    assert small.middle_spread.max() < 1e-3
    assert (small.imbalance[:-1] < large.imbalance[:-1]).all()
    # The last weight has three rows: what lies beyond them cannot be balanced.
    unbalanced = 0.2**2 * np.sqrt(50 - 3)
    assert small.imbalance[-1] == pytest.approx(unbalanced, rel=0.05)


def test_the_decay_is_that_of_the_theory() -> None:
    """Each layer shrinks what is not the class by eps, and keeps what is: slope 2 log(eps / s)."""
    samples, labels = nearly_orthogonal_data(3, 10, 50, noise=0.0)
    found = separate(samples, labels, init_scale=0.2)
    kept = np.sqrt(10.0) ** (1.0 / 6.0)
    expected = 2.0 * np.log(0.2 / kept)
    assert found.statistics.compression_fit.slope == pytest.approx(expected, rel=0.01)


@settings(max_examples=20)
@given(
    classes=st.integers(2, 4),
    per_class=st.integers(1, 5),
    noise=st.floats(0.0, 0.3),
    seed=st.integers(0, 99),
)
def test_the_data_are_nearly_orthogonal(
    classes: int, per_class: int, noise: float, seed: int
) -> None:
    samples, labels = nearly_orthogonal_data(classes, per_class, 40, noise=noise, seed=seed)
    assert labels.bincount().tolist() == [per_class] * classes
    away = samples @ samples.T - torch.eye(len(samples), dtype=torch.float64)
    assert away.abs().max() <= 5.0 * noise + 1e-12


def test_the_whole_experiment_has_every_network() -> None:
    found = run_linear_separation(
        num_classes=2, per_class=5, width=20, depth=4, network_steps=20, seeds=2
    )
    assert [[each.init_scale for each in networks] for networks in found.linear] == [
        [scale] * 2 for scale in (0.1, 0.2, 0.3, 0.5)
    ]
    for networks, nonlinear in ((found.hybrid, 3), (found.perceptron, 7)):
        assert [each.nonlinear for each in networks] == [nonlinear] * 2
        assert networks[0].loss != networks[1].loss
    assert len(found.shared) == 2


def test_classes_that_share_a_mean_have_further_to_go() -> None:
    alone, together = (
        separate(*nearly_orthogonal_data(3, 10, 50, shared=shared)) for shared in (0.0, 0.15)
    )
    assert_separates(together)
    starts = [each.statistics.discrimination[0] for each in (alone, together)]
    assert starts[0] > 0.93 > 0.85 > starts[1]
    slopes = [each.statistics.discrimination_fit.slope for each in (alone, together)]
    assert slopes[1] > 2.0 * slopes[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nearly_orthogonal_data(3, 10, 20), "no more samples than directions"),
        (lambda: nearly_orthogonal_data(1, 10, 20), "at least 2 classes"),
        (lambda: nearly_orthogonal_data(2, 5, 20, noise=-1.0), "noise -1.0"),
        (lambda: nearly_orthogonal_data(2, 5, 20, shared=float("nan")), "shared nan"),
        (lambda: nearly_orthogonal_data(2, 5, 10, shared=0.1), "more directions"),
        (lambda: run_linear_separation(seeds=0), "seeds 0"),
        (lambda: separate(*nearly_orthogonal_data(2, 5, 20), depth=2), "depth 2"),
        (lambda: separate(*nearly_orthogonal_data(2, 5, 20), step_size=0.0), "step_size 0.0"),
        (lambda: separate(*nearly_orthogonal_data(2, 5, 20), step_size=1e6), "diverged"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ConfigError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
