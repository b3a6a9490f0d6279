"""Dense features as samples: labels on the grid of a stage, and cells sampled from it."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

BUILDING = ("background", "building")
"""Names of the classes of a mask."""

BOUNDARY = ("background", "interior", "boundary")
"""Names of the classes in a mask returned by ``with_boundary``."""


def labels_on_grid(
    labels: Tensor,
    size: tuple[int, int],
    num_classes: int,
    *,
    purity: float = 1.0,
    ignore_index: int = 255,
) -> Tensor:
    """Resample labels to the grid of a stage, by area.

    A cell gets the class that covers at least ``purity`` of it. Cells of mixed classes, and cells
    with any ignored pixel, are ignored.

    Args:
        labels: (N, H, W) integers, classes from 0 to ``num_classes`` - 1 or ``ignore_index``.
        size: rows and columns of the grid, at most H and W.
        num_classes: number of classes K.
        purity: above 0.5 and at most 1.
        ignore_index: label of unlabelled pixels and of ignored cells.

    Returns:
        (N, rows, columns) int64.

    Raises:
        ValueError: the purity or the size is out of range.
    """
    if not 0.5 < purity <= 1.0:
        raise ValueError(f"purity must be above 0.5 and at most 1, got {purity}")
    height, width = labels.shape[-2:]
    if not (1 <= size[0] <= height and 1 <= size[1] <= width):
        raise ValueError(f"a grid of {size} is not coarser than labels of {(height, width)}")
    if size == (height, width):
        return labels.to(torch.int64)
    classes = torch.arange(num_classes, device=labels.device)[:, None, None]
    members = (labels[:, None] == classes).to(torch.float32)
    shares = functional.adaptive_avg_pool2d(members, size)
    unknown = (labels == ignore_index)[:, None].to(torch.float32)
    outside = functional.adaptive_max_pool2d(unknown, size)
    share, found = shares.max(dim=1)
    # The sum over 32 x 32 equal shares is 1 only approximately.
    counted = (share >= purity - 1e-6) & (outside[:, 0] == 0)
    return torch.where(counted, found, ignore_index)


def draw_cells(
    features: Tensor,
    labels: Tensor,
    *,
    per_class: int,
    rng: np.random.Generator,
    ignore_index: int = 255,
) -> tuple[Tensor, Tensor]:
    """Sample cells of dense features, up to ``per_class`` of each class.

    Args:
        features: (N, C, h, w).
        labels: (N, h, w), from ``labels_on_grid``.
        per_class: maximum number of cells per class, over the whole batch.
        rng: random generator.
        ignore_index: label of cells that are not sampled.

    Returns:
        features (n, C) and labels (n,).

    Raises:
        ValueError: features and labels are not on the same grid.
    """
    if features.ndim != 4 or (features.shape[0], *features.shape[2:]) != tuple(labels.shape):
        raise ValueError(
            f"features {tuple(features.shape)} and labels {tuple(labels.shape)} are not on the "
            "same grid"
        )
    flat = labels.reshape(-1).cpu().numpy()
    drawn: list[NDArray[np.int64]] = []
    for each in np.unique(flat[flat != ignore_index]):
        cells = np.flatnonzero(flat == each)
        if len(cells) > per_class:
            cells = np.sort(rng.choice(cells, per_class, replace=False))
        drawn.append(cells)
    chosen = torch.from_numpy(np.concatenate([np.empty(0, dtype=np.int64), *drawn]))
    chosen = chosen.to(features.device)
    area = labels.shape[1] * labels.shape[2]
    image, cell = chosen // area, chosen % area
    row, column = cell // labels.shape[2], cell % labels.shape[2]
    # Gather only the sampled cells: moving the channels last would copy every feature.
    return features[image, :, row, column], labels.reshape(-1)[chosen.to(labels.device)]


def with_boundary(
    mask: NDArray[np.uint8], width_px: float, *, ignore_index: int = 255
) -> NDArray[np.uint8]:
    """Return a mask in which the outlines of buildings are a third class.

    Args:
        mask: (H, W), 1 on buildings, 0 elsewhere, or ``ignore_index``.
        width_px: a pixel belongs to the outline if the centre of a pixel on the other side is at
            most this far from its own centre.
        ignore_index: label of unlabelled pixels; they do not create outlines.
    """
    inside, outside = _distance(mask == 1, mask == 0), _distance(mask == 0, mask == 1)
    outline = (mask != ignore_index) & (np.minimum(inside, outside) <= width_px)
    return np.where(outline, np.uint8(2), mask)


def _distance(of: NDArray[np.bool_], to: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance from pixels in ``of`` to the nearest one in ``to``, else infinity."""
    far = np.full(of.shape, np.inf, dtype=np.float32)
    if not to.any():
        return far
    away = (~to).view(np.uint8)
    return np.where(of, cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), far)
