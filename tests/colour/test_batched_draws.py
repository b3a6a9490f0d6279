"""Targets and blends that batched matching draws: by weights, by type, by its generator."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rhm.colour.batched import BatchedHistogramMatching
from rhm.colour.histogram_bank import HistogramBank
from tests.colour.batches import (
    TENSORS,
    bank_of,
    batch_of,
    flat_bank,
    tensor_of,
)


def test_draws_are_independent_uniform_and_decided_by_their_generator() -> None:
    levels = (10, 60, 110, 160, 210)
    images = torch.randint(
        0, 250, (3000, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(9)
    )
    module = BatchedHistogramMatching(flat_bank(levels), p=0.3)

    def drawn_with(seed: int) -> Tensor:
        result: Tensor = module(images, generator=torch.Generator().manual_seed(seed))
        return result

    first = drawn_with(1)
    assert torch.equal(first, drawn_with(1))
    assert not torch.equal(first, drawn_with(2))
    changed = (first != images).flatten(1).any(dim=1)
    assert 0.27 < changed.float().mean() < 0.33
    shares = [(first[changed] == level).flatten(1).all(dim=1).float().mean() for level in levels]
    assert all(0.15 < share < 0.25 for share in shares)
    assert sum(shares) == pytest.approx(1.0)


def test_targets_are_drawn_by_the_banks_weights() -> None:
    even = flat_bank([10, 60, 110]).merge(flat_bank([500], np.uint16))
    bank = HistogramBank(even.entries, even.names, weights=np.array([3.0, 0.0, 1.0, 5.0]))
    images = torch.zeros((4000, 1, 1, 1), dtype=torch.uint8)
    matched = BatchedHistogramMatching(bank, p=1.0)(
        images, generator=torch.Generator().manual_seed(0)
    )
    values, counts = matched.unique(return_counts=True)
    assert values.tolist() == [10, 110]
    assert 0.72 < float(counts[0] / len(images)) < 0.78


def test_without_a_generator_torchs_seed_decides() -> None:
    images = tensor_of(batch_of(np.uint8), torch.uint8)
    module = BatchedHistogramMatching(bank_of(np.uint8), p=1.0)
    results = []
    for _ in range(2):
        torch.manual_seed(4)
        results.append(module(images))
    assert torch.equal(*results)


def test_drawn_blends_stay_within_their_range() -> None:
    images = torch.zeros((500, 1, 2, 2), dtype=torch.uint8)
    module = BatchedHistogramMatching(flat_bank([200]), p=0.5, blend=(0.2, 0.7))
    blended = module(images, generator=torch.Generator().manual_seed(0))
    blended = blended[blended > 0]
    assert 40 <= int(blended.min()) < 45
    assert 135 < int(blended.max()) <= 140
    untouched = BatchedHistogramMatching(flat_bank([200]), p=0.0)(images)
    assert torch.equal(untouched, images)


@pytest.mark.parametrize(("dtype", "kind"), TENSORS)
def test_a_mixed_bank_gives_each_type_its_own_targets(dtype: type, kind: torch.dtype) -> None:
    bank = flat_bank([10, 20]).merge(flat_bank([30, 40, 50], np.uint16)).merge(flat_bank([60]))
    own = {0: 10, 1: 20, 5: 60} if dtype is np.uint8 else {2: 30, 3: 40, 4: 50}
    images = torch.zeros((60, 1, 2, 2), dtype=kind)
    module = BatchedHistogramMatching(bank, p=1.0)
    assert set(module(images).flatten().tolist()) == set(own.values())
    named = module.match(images[: len(own)], torch.tensor(list(own)))
    assert named[:, 0, 0, 0].tolist() == list(own.values())
    other = next(iter(set(range(len(bank))) - set(own)))
    with pytest.raises(IndexError):
        module.match(images[:1], torch.tensor([other]))
