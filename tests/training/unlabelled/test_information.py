"""Information maximisation; oracles: scipy's divergence, and the loss of SHOT for equal classes."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from rhm.data.chips import TargetSample
from rhm.training.unlabelled.entropy import entropy
from rhm.training.unlabelled.information import InformationMaximisation, divergence
from tests.training.unlabelled.batches import batch_of, small_model


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_the_divergence_is_that_of_two_outcomes_in_bits(share: float) -> None:
    for mean in (0.05, share, 0.9):
        expected = scipy_entropy([mean, 1 - mean], [share, 1 - share], base=2)
        found = divergence(torch.tensor(mean), torch.tensor(share)).item()
        assert found == pytest.approx(expected, abs=1e-5)
    assert divergence(torch.tensor(0.0), torch.tensor(share)).isfinite()


def test_for_equal_classes_it_is_the_loss_of_shot_up_to_a_constant() -> None:
    model, batch = small_model(), batch_of(1)
    method = InformationMaximisation(0.5)
    step = method.step(model, batch)
    logits = small_model()(batch["target"]["image"])
    p = logits.sigmoid().mean().item()
    diversity = scipy_entropy([p, 1 - p], base=2)
    expected = entropy(logits).mean().item() - diversity + 1.0
    assert step.loss.item() == pytest.approx(expected, rel=1e-4)
    assert step.logits is None


def test_the_share_is_measured_on_the_network_before_the_first_step() -> None:
    model = small_model()
    batches: list[TargetSample] = [TargetSample(target=batch_of(seed)["target"]) for seed in (1, 2)]
    batches[0]["target"]["valid"][:, :, :30] = False
    asked = []

    def first(count: int) -> list[TargetSample]:
        asked.append(count)
        return batches

    method = InformationMaximisation(None)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    method.prepare(model, first)
    probabilities = [
        small_model().eval()(batch["target"]["image"]).sigmoid()[batch["target"]["valid"]]
        for batch in batches
    ]
    assert float(method.share) == pytest.approx(
        float(torch.cat(probabilities).detach().mean()), rel=1e-4
    )
    assert asked == [8]
    assert model.training
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    given = InformationMaximisation(0.2)
    given.prepare(model, first)
    assert float(given.share) == pytest.approx(0.2)


def test_sure_predictions_with_the_expected_share_have_no_loss() -> None:
    share = torch.tensor(0.25)
    logits = torch.where(torch.arange(100) < 25, 60.0, -60.0)
    loss = entropy(logits).mean() + divergence(logits.sigmoid().mean(), share)
    assert loss.item() == pytest.approx(0.0, abs=1e-5)
    wrong = np.roll(np.arange(100) < 60, 3)
    other = torch.where(torch.from_numpy(wrong), 60.0, -60.0)
    assert (entropy(other).mean() + divergence(other.sigmoid().mean(), share)).item() > 0.1
