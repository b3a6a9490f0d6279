"""Cells of a grid; oracle: cells counted by hand, and OpenCV's morphology."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhm.analysis.feature_grid import draw_cells, labels_on_grid, with_boundary


@given(
    st.integers(0, 1 << 20),
    st.sampled_from([(4, 4), (2, 8), (8, 8), (1, 1)]),
    st.sampled_from([0.6, 0.75, 1.0]),
)
def test_cells_have_the_class_that_covers_them(
    seed: int, size: tuple[int, int], purity: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 255], size=(2, 8, 8), p=[0.6, 0.3, 0.09, 0.01])
    labels[0, :4] = 1
    found = labels_on_grid(torch.from_numpy(labels), size, 3, purity=purity).numpy()
    rows, cols = 8 // size[0], 8 // size[1]
    for image in range(2):
        for row in range(size[0]):
            for col in range(size[1]):
                cell = labels[image, row * rows : (row + 1) * rows, col * cols : (col + 1) * cols]
                shares = [(cell == k).mean() for k in range(3)]
                clear = (cell != 255).all() and max(shares) >= purity
                assert found[image, row, col] == (int(np.argmax(shares)) if clear else 255)


def test_a_grid_that_is_not_coarser_is_refused() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    with pytest.raises(ValueError, match="is not coarser"):
        labels_on_grid(labels, (9, 8), 2)
    for purity in (0.5, 1.1):
        with pytest.raises(ValueError, match="purity"):
            labels_on_grid(labels, (4, 4), 2, purity=purity)


def test_cells_are_drawn_by_class_and_seed() -> None:
    labels = torch.full((2, 5, 6), 255)
    labels[:, :3] = 0
    labels[1, 4, 2:4] = 1
    rows, cols = torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")
    place = (
        torch.stack([rows, cols]).expand(2, 2, 5, 6) + 100 * torch.arange(2)[:, None, None, None]
    )
    drawn, classes = draw_cells(place, labels, per_class=7, rng=np.random.default_rng(3))
    assert classes.tolist() == [0] * 7 + [1] * 2
    assert drawn[-2:].tolist() == [[104, 102], [104, 103]]
    assert len({tuple(cell) for cell in drawn.tolist()}) == 9
    assert (drawn[:7, 0] % 100 < 3).all()
    again, _ = draw_cells(place, labels, per_class=7, rng=np.random.default_rng(3))
    assert torch.equal(drawn, again)
    other, _ = draw_cells(place, labels, per_class=7, rng=np.random.default_rng(4))
    assert not torch.equal(drawn, other)
    everything, _ = draw_cells(place, labels, per_class=99, rng=np.random.default_rng(3))
    assert len(everything) == 38
    nothing, none = draw_cells(place, labels * 0 + 255, per_class=9, rng=np.random.default_rng(0))
    assert (nothing.shape, none.shape) == ((0, 2), (0,))
    with pytest.raises(ValueError, match="not on the same grid"):
        draw_cells(place, labels[:, :4], per_class=1, rng=np.random.default_rng(0))


def test_outlines_become_a_class_of_their_own() -> None:
    mask = np.zeros((12, 14), np.uint8)
    mask[3:9, 3:9] = 1
    mask[:, 12:] = 255
    mask[3:9, 11] = 1
    found = with_boundary(mask, 1.0)
    plus = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    building = (mask == 1).astype(np.uint8)
    edge = cv2.dilate(building, plus) - cv2.erode(building, plus)
    background = (mask == 0).astype(np.uint8)
    inner = (building == 1) & (cv2.dilate(background, plus) == 1)
    assert (found[mask == 255] == 255).all()
    np.testing.assert_array_equal((found == 2) & (mask == 0), (edge == 1) & (mask == 0))
    np.testing.assert_array_equal((found == 2) & (mask == 1), inner)
    assert found[5, 5] == 1
    np.testing.assert_array_equal(with_boundary(np.ones((4, 4), np.uint8), 2.0), 1)
    wide = with_boundary(mask, 2.0)
    assert ((wide == 2) >= (found == 2)).all()
    assert (wide == 2).sum() > (found == 2).sum()
