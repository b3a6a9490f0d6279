"""Networks with and without non-linear layers: the laws of arXiv 2311.02960."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhm.errors import ConfigError
from rhm.lab.hybrid_networks import clustered_classes, train_network


def test_linear_layers_on_top_separate_what_others_prepared() -> None:
    hybrid = train_network(nonlinear=3, steps=1200).statistics
    assert hybrid.first_fitted == 3
    assert hybrid.compression_fit.slope < -0.5
    assert hybrid.compression_fit.r_squared > 0.98
    assert hybrid.discrimination_fit.slope > 0.1
    assert hybrid.probe_accuracy is not None
    # The task takes several layers: no probe succeeds at the input, nor quite at the first.
    assert hybrid.probe_accuracy[0] < 0.4
    assert hybrid.probe_accuracy[1] < 0.93
    assert hybrid.probe_accuracy[3:].min() > 0.97


def test_a_perceptron_compresses_from_layer_to_layer() -> None:
    perceptron = train_network(nonlinear=7, steps=600)
    assert perceptron.statistics.first_fitted == 1
    assert (np.diff(perceptron.statistics.compression) < 0.0).all()
    assert perceptron.loss < 1e-2


def test_a_perceptron_separates_the_means_if_it_starts_small() -> None:
    small, usual = (train_network(nonlinear=7, gain=gain).statistics for gain in (0.7, 2.0**0.5))
    assert small.discrimination_fit.slope > 0.05
    assert small.discrimination_fit.r_squared > 0.8
    assert usual.discrimination_fit.slope < 0.5 * small.discrimination_fit.slope
    # The rank rises, and then falls.
    assert small.numerical_rank.argmax() in (1, 2, 3)
    assert small.numerical_rank[-1] < 0.85 * small.numerical_rank.max()


def test_training_is_its_seeds_and_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    losses = [train_network(steps=3, per_class=5, seed=seed).loss for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_the_loss_is_that_after_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    after = train_network(steps=1, per_class=5).loss
    monkeypatch.setattr("rhm.lab.hybrid_networks._LEARNING_RATE", 0.0)
    assert after < train_network(steps=1, per_class=5).loss


def test_the_classes_are_not_linear() -> None:
    samples, labels = clustered_classes(400)
    means = torch.stack([samples[labels == k].mean(dim=0) for k in range(4)])
    assert means.norm(dim=1).max() < 0.3 * samples.norm(dim=1).mean()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nonlinear": 8}, "nonlinear 8"),
        ({"steps": 0}, "steps 0"),
        ({"layers": 1, "nonlinear": 0}, "layers 1"),
        ({"per_class": 1}, "per_class 1"),
        ({"gain": 0.0}, "gain 0.0"),
    ],
)
def test_networks_that_cannot_be_trained_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        train_network(**settings)
    assert "\n" not in str(error.value)


# Clusters overlap a little, so the share of a few samples says nothing.
@given(st.integers(20, 50), st.integers(0, 99))
def test_every_class_has_as_many_samples_near_its_own_clusters(per_class: int, seed: int) -> None:
    samples, labels = clustered_classes(per_class, seed=seed)
    assert samples.shape == (4 * per_class, 10)
    assert labels.bincount().tolist() == [per_class] * 4
    # More samples of the same seed lie around the same centres.
    others, kinds = clustered_classes(400, seed=seed)
    nearest = torch.cdist(samples, others).argmin(dim=1)
    assert (kinds[nearest] == labels).float().mean() > 0.9
