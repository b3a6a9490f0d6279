"""Pasted pixels; laws: whole buildings with their surroundings, at least one of each chip."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from rhm.data.labels import IGNORE
from rhm.training.unlabelled.pasting import chosen_pixels


def town(seed: int) -> torch.Tensor:
    """Chips with buildings that do not touch, and some unknown truth."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((6, 1, 60, 60), np.int64)
    for chip in mask[:, 0]:
        for row, col in rng.permuted(np.argwhere(np.ones((5, 5))), axis=0)[:9] * 12:
            chip[row + 2 : row + 8, col + 3 : col + 9] = 1
        chip[:, -1] = IGNORE
    return torch.from_numpy(mask)


def test_nothing_or_the_whole_class_is_pasted() -> None:
    mask = town(0)
    assert not chosen_pixels(mask, "none", 0).any()
    assert torch.equal(chosen_pixels(mask, "class", 0), mask == 1)


def test_some_whole_buildings_of_every_chip_are_pasted() -> None:
    mask = town(1)
    torch.manual_seed(5)
    pasted = chosen_pixels(mask, "instances", 0)
    torch.manual_seed(5)
    assert torch.equal(pasted, chosen_pixels(mask, "instances", 0))
    assert not torch.equal(pasted, chosen_pixels(mask, "instances", 0))
    shares = []
    for chip, chosen in zip(mask[:, 0].numpy() == 1, pasted[:, 0].numpy(), strict=True):
        numbers, count = ndimage.label(chip, np.ones((3, 3)))
        kept = np.unique(numbers[chosen])
        assert np.array_equal(np.isin(numbers, kept) & chip, chosen)
        shares.append(len(kept) / count)
    assert min(shares) > 0.0
    assert 0.2 < np.mean(shares) < 0.8


def test_the_margin_is_a_chessboard_distance() -> None:
    mask = town(2)
    expected = ndimage.binary_dilation(mask[:, 0].numpy() == 1, np.ones((1, 7, 7)))
    assert np.array_equal(chosen_pixels(mask, "class", 3)[:, 0].numpy(), expected)


def test_an_unknown_paste_is_refused() -> None:
    with pytest.raises(ValueError, match="choose none, instances, class"):
        chosen_pixels(town(3), "roofs", 0)
