"""Deep CORAL; oracles: numpy's covariances, and the law that only equal ones have no loss."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rhm.data.labels import IGNORE
from rhm.training.unlabelled.coral import CorrelationAlignment, coral, covariance
from tests.training.unlabelled.batches import batch_of, small_model


def sample(rng: np.random.Generator, size: int, mixing: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(rng.normal(size=(size, len(mixing))) @ mixing)


def test_the_loss_is_the_formula_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = sample(rng, 70, rng.normal(size=(5, 5))), sample(rng, 40, np.eye(5))
    difference = np.cov(ours.numpy().T) - np.cov(theirs.numpy().T)
    expected = np.linalg.norm(difference, "fro") ** 2 / (4 * 5**2)
    assert coral(ours, theirs).item() == pytest.approx(expected, rel=1e-12)


def test_there_is_no_loss_exactly_where_the_covariances_are_equal() -> None:
    rng = np.random.default_rng(1)
    ours = sample(rng, 90, rng.normal(size=(4, 4)))
    # Another sample, moved, turned among its members and whitened to the same covariance.
    theirs = sample(rng, 60, rng.normal(size=(4, 4)))
    theirs = theirs - theirs.mean(dim=0)
    whitened = theirs @ torch.linalg.inv(torch.linalg.cholesky(covariance(theirs))).T
    alike = whitened @ torch.linalg.cholesky(covariance(ours)).T + 7.0
    assert coral(ours, alike).item() == pytest.approx(0.0, abs=1e-20)
    assert coral(ours, 1.1 * alike).item() > 1e-4


def test_a_single_feature_has_no_covariance() -> None:
    assert coral(torch.randn(9, 3), torch.randn(1, 3)).item() == 0.0


@pytest.mark.parametrize("statistics", ["own", "shared"])
def test_a_step_compares_the_cells_that_see_data_only(statistics: str) -> None:
    model = small_model()
    batch = batch_of(seed=3)
    batch["mask"][:, :, :, 32:] = IGNORE
    batch["target"]["valid"][:, :, 16:] = False
    decoded = []
    handle = model.network.get_submodule("decoder").register_forward_hook(
        lambda module, inputs, output: decoded.append(output.detach())
    )
    step = CorrelationAlignment(["decoder"], statistics).step(model, batch)
    handle.remove()
    assert len(decoded) == (1 if statistics == "shared" else 2)
    cells = torch.cat(decoded).movedim(1, 3)
    first, second = cells[:4], cells[4:]
    channels = first.shape[-1]
    ours = first[:, :, :32].reshape(-1, channels).numpy()
    theirs = second[:, :16].reshape(-1, channels).numpy()
    expected = np.square(np.cov(ours.T) - np.cov(theirs.T)).sum() / (4 * channels**2)
    assert step.loss.item() == pytest.approx(expected, rel=1e-3)
    assert step.logits is not None
    assert step.logits.shape == (4, 1, 64, 64)


def test_the_gradient_reaches_the_encoder() -> None:
    model = small_model()
    step = CorrelationAlignment(["encoder[3]", "decoder"]).step(model, batch_of(seed=4))
    torch.autograd.backward(step.loss)
    first = next(model.encoder.parameters())
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_mixed_precision_the_loss_is_that_of_single_precision(dtype: torch.dtype) -> None:
    """Of as many cells as a batch has: in half precision, their sum overflows."""
    generator = torch.Generator().manual_seed(2)
    ours, theirs = torch.randn(2, 100_000, 4, generator=generator)
    expected = coral(ours, 1.1 * theirs)
    with torch.autocast("cpu", dtype):
        assert torch.equal(coral(ours, 1.1 * theirs), expected)
