"""Entropy of predictions; oracle: scipy's entropy of the two probabilities."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from rhm.training.unlabelled.entropy import entropy
from rhm.training.unlabelled.target_method import mean_where


def test_the_entropy_is_that_of_two_outcomes_in_bits() -> None:
    logits = torch.linspace(-9, 9, 61, dtype=torch.float64)
    p = logits.sigmoid().numpy()
    expected = scipy_entropy(np.stack([p, 1 - p]), base=2, axis=0)
    np.testing.assert_allclose(entropy(logits).numpy(), expected, atol=1e-12)
    assert entropy(torch.zeros(1)).item() == pytest.approx(1.0)


def test_certain_predictions_have_no_entropy_and_a_finite_gradient() -> None:
    logits = torch.tensor([-1e4, 1e4, -80.0, 80.0], requires_grad=True)
    value = entropy(logits)
    assert value.detach().abs().max() < 1e-6
    value.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_a_step_downhill_makes_predictions_more_certain() -> None:
    logits = torch.tensor([-2.0, -0.1, 0.3, 4.0], requires_grad=True)
    entropy(logits).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    # Away from p = 1/2, on both sides.
    assert torch.equal(logits.grad.sign(), -logits.detach().sign())


def test_only_counted_pixels_are_averaged() -> None:
    values = torch.tensor([1.0, 2.0, 60.0])
    assert mean_where(values, torch.tensor([True, True, False])).item() == 1.5
    assert mean_where(values, torch.zeros(3, dtype=torch.bool)).item() == 0.0
