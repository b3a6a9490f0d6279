"""What the methods have in common: one pass for both kinds of chips, means of counted pixels."""

import torch

from rhm.training.unlabelled.target_method import mean_where, run_both
from tests.training.unlabelled.batches import small_model


def test_both_kinds_of_chips_share_one_pass_and_its_statistics() -> None:
    model = small_model()
    labelled, unlabelled = torch.randn(2, 3, 64, 64), torch.randn(3, 3, 64, 64) + 1.0
    passes: list[int] = []
    model.register_forward_hook(lambda module, given, result: passes.append(len(given[0])))
    first, second = run_both(model, labelled, unlabelled)
    assert first is not None
    assert passes == [5]
    together = model(torch.cat([labelled, unlabelled]))
    torch.testing.assert_close(torch.cat([first, second]), together, rtol=1e-3, atol=1e-3)
    # In training, each kind alone would be normalised by its own statistics.
    alone = model(labelled)
    assert (first - alone).abs().max() > 0.01


def test_without_labelled_chips_there_are_no_labelled_logits() -> None:
    model, images = small_model().eval(), torch.randn(2, 3, 64, 64)
    labelled, unlabelled = run_both(model, None, images)
    assert labelled is None
    torch.testing.assert_close(unlabelled, model(images), rtol=1e-4, atol=1e-5)


def test_a_mean_counts_what_it_is_told_to() -> None:
    values = torch.tensor([1.0, 2.0, 30.0])
    assert mean_where(values, torch.tensor([True, True, False])) == 1.5
    assert mean_where(values, torch.zeros(3, dtype=torch.bool)) == 0.0
