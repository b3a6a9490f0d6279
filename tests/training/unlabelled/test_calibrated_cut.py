"""The cut of pseudo-labels; oracle: the best threshold found by trying all of them."""

import numpy as np
import pytest
import torch

from rhm.data.labels import IGNORE
from rhm.models.expected_iou import ExpectedIoU
from rhm.training.unlabelled.calibrated_cut import CalibratedCut

VALID = torch.ones(2, 1, 40, 40, dtype=torch.bool)


def drawn(seed: int, a: float = 0.4, b: float = 1.2) -> torch.Tensor:
    """Probabilities that a byte can hold."""
    rng = np.random.default_rng(seed)
    levels = np.rint(rng.beta(a, b, (2, 1, 40, 40)) * 254)
    return torch.from_numpy((levels / 254).astype(np.float32))


def best_of_all(*maps: torch.Tensor) -> float:
    """The expected IoU of the best of all thresholds."""
    scores = []
    for level in range(255):
        seen = ExpectedIoU((level - 0.5) / 254)
        for each in maps:
            seen.add(each.numpy(), np.ones(each.shape, dtype=bool))
        scores.append(seen.value or 0.0)
    return max(scores)


@pytest.mark.parametrize("shape", [(0.4, 1.2), (0.1, 3.0), (2.0, 2.0)])
def test_the_cut_has_the_highest_expected_iou(shape: tuple[float, float]) -> None:
    probability = drawn(0, *shape)
    cut = CalibratedCut(0.0)
    labels = cut(probability, VALID)
    seen = ExpectedIoU(cut.threshold)
    seen.add(probability.numpy(), VALID.numpy())
    assert seen.value == pytest.approx(best_of_all(probability), rel=1e-9)
    assert seen.value is not None
    # With that, an extra pixel pays where its odds exceed the IoU: never above one half.
    assert cut.threshold == pytest.approx(seen.value / (1.0 + seen.value), abs=1 / 254)
    assert torch.equal(labels == 1, probability >= cut.threshold)
    assert not (labels == IGNORE).any()


def test_pixels_near_the_cut_and_without_data_get_no_label() -> None:
    probability, valid = drawn(1), VALID.clone()
    valid[:, :, :9] = False
    cut = CalibratedCut(0.5)
    labels = cut(probability, valid)
    t = cut.threshold
    assert torch.equal(labels == 1, valid & (probability >= (t + 1) / 2))
    assert torch.equal(labels == 0, valid & (probability < t / 2))
    assert (labels[valid] == IGNORE).any()


def test_earlier_batches_are_forgotten_by_a_tenth_at_a_time() -> None:
    maps = [drawn(seed) for seed in range(3)]
    cut = CalibratedCut(0.0)
    for each in maps:
        cut(each, VALID)
    counts = [torch.bincount((each * 254).round().long().ravel(), minlength=255) for each in maps]
    expected = torch.stack([0.9 ** (2 - age) * each for age, each in enumerate(counts)]).sum(dim=0)
    torch.testing.assert_close(cut.pixels, expected.double())


def test_what_was_counted_is_stored_with_the_state() -> None:
    cut, other = CalibratedCut(0.0), CalibratedCut(0.0)
    cut(drawn(2), VALID)
    other.load_state_dict(cut.state_dict())
    assert other.threshold == cut.threshold


def test_where_no_building_is_expected_the_cut_is_one_half() -> None:
    cut = CalibratedCut(0.0)
    labels = cut(torch.zeros(2, 1, 40, 40), VALID)
    assert cut.threshold == 0.5
    assert not labels.any()
