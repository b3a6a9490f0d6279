"""What the methods have in common: a pass for each kind of chips, means of counted pixels."""

import pytest
import torch
from torch import Tensor

from rhm.models.build import SegmentationModel
from rhm.training.unlabelled.batch_statistics import BatchNorm
from rhm.training.unlabelled.target_method import (
    OWN,
    RUNNING,
    SHARED,
    mean_where,
    run,
    run_apart,
    run_both,
)
from tests.training.unlabelled.batches import small_model


def statistics(model: SegmentationModel) -> list[Tensor]:
    """Copies of all that batch normalisation has learned."""
    layers = [each for each in model.modules() if isinstance(each, BatchNorm)]
    assert layers
    return [buffer.clone() for layer in layers for buffer in layer.buffers()]


def images(count: int, *, brighter: float = 0.0) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(count)) + brighter


@pytest.mark.parametrize("kind", [OWN, RUNNING])
def test_beside_unlabelled_chips_labelled_ones_pass_as_they_would_alone(kind: str) -> None:
    model, alone = small_model(), small_model()
    labelled, _ = run_both(model, images(2), images(3, brighter=1.0), kind)
    assert labelled is not None
    assert torch.equal(labelled, run(alone, images(2)))
    assert all(map(torch.equal, statistics(model), statistics(alone)))
    assert all(each.training for each in model.modules())


def test_their_own_statistics_are_those_of_a_batch() -> None:
    model, alone = small_model(), small_model()
    before = statistics(model)
    found = run_apart(model, images(3), OWN)
    torch.testing.assert_close(found, run(alone, images(3)))
    assert all(map(torch.equal, statistics(model), before))


def test_the_running_statistics_are_those_of_a_finished_model() -> None:
    model = small_model()
    run(model, images(4))
    found = run_apart(model, images(3, brighter=1.0), RUNNING)
    assert found.requires_grad
    torch.testing.assert_close(found, model.eval()(images(3, brighter=1.0)))


def test_frozen_layers_stay_frozen() -> None:
    model = small_model()
    frozen = [each for each in model.encoder.modules() if isinstance(each, BatchNorm)]
    for layer in frozen:
        layer.eval()
    for kind in (OWN, RUNNING):
        run_apart(model, images(2), kind)
        assert not any(layer.training for layer in frozen)
        assert all(layer.track_running_stats for layer in frozen)


def test_an_error_leaves_the_layers_in_training() -> None:
    model = small_model()
    with pytest.raises(RuntimeError):
        run_apart(model, torch.zeros(2, 5, 64, 64), RUNNING)
    assert all(each.training for each in model.modules())


def test_shared_statistics_are_those_of_one_batch() -> None:
    model, alone = small_model(), small_model()
    ours, theirs = run_both(model, images(2), images(3, brighter=1.0), SHARED)
    together = run(alone, torch.cat([images(2), images(3, brighter=1.0)]))
    assert ours is not None
    assert torch.equal(torch.cat([ours, theirs]), together)
    assert all(map(torch.equal, statistics(model), statistics(alone)))


@pytest.mark.parametrize("kind", [OWN, RUNNING, SHARED])
def test_without_labelled_chips_batch_normalisation_learns(kind: str) -> None:
    model, alone = small_model(), small_model()
    labelled, unlabelled = run_both(model, None, images(2), kind)
    assert labelled is None
    torch.testing.assert_close(unlabelled, run(alone, images(2)))
    assert all(map(torch.equal, statistics(model), statistics(alone)))


def test_a_mean_counts_what_it_is_told_to() -> None:
    values = torch.tensor([1.0, 2.0, 30.0])
    assert mean_where(values, torch.tensor([True, True, False])) == 1.5
    assert mean_where(values, torch.zeros(3, dtype=torch.bool)) == 0.0
